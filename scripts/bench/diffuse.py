"""Race our sampler against diffusers' own loops, on the same model, batch, thread and precision, in one run.

    python scripts/bench/diffuse.py MODEL --real DATA [-n 1000] [--repeats 3] [--json FILE]

MODEL is a model folder or a shipped name, DATA real images that nothing is tested on. Rivals: `DDIMScheduler` with
50 steps (the network's estimate of x₀ handed to it as such) and the model folder opened as a diffusers pipeline
with its own scheduler and 50 steps. Time is processor time, the least of the repeats, which draw from other
noise. Quality, the mean of the repeats with its standard error, is the Fréchet distance to the real images, on a classifier's features and on principal components
of pixels; beside it stands that of another half of the real images, which no sampler can be expected to beat.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from imgsynth.dataset import sources  # noqa: E402
from imgsynth.dataset.labelled import LabelledImages  # noqa: E402
from imgsynth.diffusion.model import Diffuser  # noqa: E402
from imgsynth.diffusion.sample import BATCH, Sampling, sample  # noqa: E402
from imgsynth.diffusion.sampled import on_device  # noqa: E402
from imgsynth.diffusion.shipped import model_folder  # noqa: E402

Images = np.ndarray  # (n, H, W, C) uint8
RIVAL_STEPS = 50


def ours(model: Diffuser, labels: np.ndarray, settings: Sampling, seed: int) -> Images:
    return sample(model, labels, seed=seed, indices=np.arange(len(labels)), settings=settings).images


def ddim(model: Diffuser, labels: np.ndarray, seed: int, steps: int = RIVAL_STEPS) -> Images:
    """diffusers' DDIM loop: x = √ᾱ (x₀ + σε), σ = √(1 - ᾱ) / √ᾱ, so the network's estimate is its "sample"."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    out = []
    for first in range(0, len(labels), BATCH):
        y = torch.from_numpy(labels[first : first + BATCH])
        generator = torch.Generator().manual_seed(1_000_003 * seed + first)
        x = torch.randn((len(y), model.planes, *model.size), generator=generator)
        for t in scheduler.timesteps:
            kept = scheduler.alphas_cumprod[t]
            sigma = ((1 - kept) / kept).sqrt().float()
            found = model.denoise(x / kept.sqrt().float(), sigma.expand(len(x)), y)
            x = scheduler.step(found, t, x).prev_sample
        out.append(x)
    return _pixels(torch.cat(out)[:, : model.channels])


def pipeline(folder: Path, labels: np.ndarray, precision: str, seed: int, steps: int = RIVAL_STEPS) -> Images:
    """The model folder as diffusers opens it, with its own scheduler."""
    from imgsynth.diffusion.pipeline import DiffuserPipeline

    pipe = DiffuserPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    out = []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for first in range(0, len(labels), BATCH):
            part = labels[first : first + BATCH].tolist()
            generator = torch.Generator().manual_seed(1_000_003 * seed + first)
            made = pipe(part, num_inference_steps=steps, generator=generator, output_type="np")
            out.append(np.rint(made.images * 255).astype(np.uint8))
    return np.concatenate(out)


def _pixels(x: torch.Tensor) -> Images:
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def repeated(draw: Callable[[int], Images], repeats: int) -> tuple[float, list[Images]]:
    """Seconds of processor time, the least of so many repeats, and what each drew."""
    best, images = float("inf"), []
    for seed in range(repeats):
        start = time.process_time()
        images.append(draw(seed))
        best = min(best, time.process_time() - start)
    return best, images


class Features:
    """What images are compared by: the last features of a classifier of real ones, and principal components."""

    def __init__(self, real: LabelledImages, steps: int):
        from imgsynth.learn.classify import ClassifierConfig
        from imgsynth.learn.trainer import train_classifier

        self.net = train_classifier(real, ClassifierConfig(steps=steps, threads=1), seed=0)
        flat = real.images.reshape(len(real), -1) / 255.0
        self.mean = flat.mean(axis=0)
        self.axes = np.linalg.svd(flat - self.mean, full_matrices=False)[2][: min(32, flat.shape[1])]

    def pca(self, images: Images) -> np.ndarray:
        return (images.reshape(len(images), -1) / 255.0 - self.mean) @ self.axes.T

    def classifier(self, images: Images) -> np.ndarray:
        return np.asarray(self.net.logits(images), np.float64)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of two normal laws fitted to features (Dowson and Landau 1982)."""
    root = np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real.clip(0)
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(gap @ gap + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * np.sqrt(root).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--real", required=True)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="*", default=[], help="our steps, beside the default")
    parser.add_argument("--feature-steps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = model_folder(args.model)
    model = on_device(Diffuser.load(folder), "cpu")
    real = sources.load(args.real).aligned(model.classes).fitted(model.size, model.channels)
    half = np.random.default_rng(0).permutation(len(real))
    features = Features(real, args.feature_steps)
    target, other = real.subset(np.sort(half[::2])), real.subset(np.sort(half[1::2]))
    labels = np.resize(np.arange(len(model.classes)), args.n)
    draws: dict[str, Callable[[int], Images]] = {
        "imgsynth (default)": lambda s: ours(model, labels, Sampling(), s),
        **{
            f"imgsynth, {k} steps": lambda s, k=k: ours(model, labels, Sampling(steps=k), s)
            for k in args.steps
        },
        f"diffusers DDIM-{RIVAL_STEPS}": lambda s: ddim(model, labels, s),
        f"diffusers pipeline, {RIVAL_STEPS}": lambda s: pipeline(folder, labels, model.precision, s),
    }
    with torch.inference_mode():
        ours(model, labels[:BATCH], Sampling(steps=2), 0)  # compilers and caches warm up
        rows: dict[str, dict[str, Any]] = {}
        for name, draw in draws.items():
            seconds, images = repeated(draw, args.repeats)
            rows[name] = _row(args.n / seconds, images, features, target.images)
    rows["real images, the other half"] = _row(None, [other.images], features, target.images)
    print(f"{model.size[0]}×{model.size[1]}, {model.precision}, batch {BATCH}, one thread, {args.n} images")
    base = rows[f"diffusers DDIM-{RIVAL_STEPS}"]["images_a_second"]
    for name, row in rows.items():
        rate = row["images_a_second"]
        speed = "" if rate is None else f"{rate:8.1f} images/s  {rate / base:5.2f}×"
        print(
            f"{name:30} {speed:28} FD classifier {row['fd_classifier']:7.4f} ± {row['fd_classifier_se']:.4f}  "
            f"pixels {row['fd_pixels']:7.4f} ± {row['fd_pixels_se']:.4f}"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


def _row(rate: float | None, sets: list[Images], features: Features, real: Images) -> dict[str, Any]:
    row: dict[str, Any] = {"images_a_second": rate}
    for name, of in (("fd_classifier", features.classifier), ("fd_pixels", features.pca)):
        values = [frechet(of(images), of(real)) for images in sets]
        row[name] = float(np.mean(values))
        row[f"{name}_se"] = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    return row


if __name__ == "__main__":
    main()
