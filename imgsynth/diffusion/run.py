"""What `imgsynth diffuse train` does: read DATA, choose a network, train, save, resumably."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.diffusion.data import JOINTS, DiffusionData
from imgsynth.diffusion.layout import chosen as chosen_kinds
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.settings import BIT_SCALE, PRESETS, DiffusionTraining, suited
from imgsynth.diffusion.shipped import model_folder
from imgsynth.diffusion.store import compacted, save
from imgsynth.errors import ImgsynthError
from imgsynth.gate.guard import REAL_FLOOR, check_mix, sources_of
from imgsynth.learn.settings import check_names

CHECKPOINT = "checkpoint.safetensors"


def train_from(
    spec: str,
    *,
    out: Path,
    settings: Mapping[str, Any],
    preset: str = "small",
    objective: str = "flow",
    joint: str | None = None,
    layout: str | None = None,
    bit_scale: float | None = None,
    balance: float = 0.0,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    start: str | None = None,
    compact: bool = False,
    real_floor: float = REAL_FLOOR,
    progress: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Train on DATA, save the model to `out`, and say what was done.

    Args:
        spec: DATA; with `joint` or `layout`, a dataset of imgsynth with its masks.
        out: folder for the model; while it trains, for the checkpoint.
        settings: of `DiffusionTraining`.
        preset: the network (`settings.PRESETS`).
        objective: what it predicts, flow or v.
        joint: None, "semantic" or "instance": the mask that is denoised with the image.
        layout: kinds of maps that the model follows, such as "semantic,edges" (`layout.KINDS`).
        bit_scale: size of a mask bit beside pixels in [-1, 1], with `joint`; None: `BIT_SCALE`, or that of
            `start`.
        balance: how evenly classes are drawn, 0 (as they come) to 1 (equally often).
        seed: of the weights and all draws.
        resume: go on from the checkpoint in `out`.
        device: cpu, or cuda.
        start: a model folder or shipped model to go on from; its network is kept, whatever the preset.
        compact: save weights in 16 bits, and no earlier self: a quarter of the size.
        real_floor: least share of images that are no model's samples (`gate.guard`).
        progress: as in `train.train`.

    Raises:
        ImgsynthError: wrong settings or data, a folder that is not free.
    """
    chosen = DiffusionTraining.of(settings)  # a wrong setting is said before anything is read
    check_names("preset", [preset], list(PRESETS))
    if joint not in (None, *JOINTS):
        raise ImgsynthError(f"--joint: expected {' or '.join(JOINTS)}, got {joint!r}")
    if not 0 <= balance <= 1:
        raise ImgsynthError(f"--balance: expected a number from 0 to 1, got {balance:g}")
    if joint is not None and layout is not None:
        raise ImgsynthError("--joint and --layout: a mask is either sampled or given; choose one of them")
    kinds = None if layout is None else chosen_kinds(layout)
    scale = _bit_scale(joint, bit_scale)
    if objective != "flow" and chosen.level_mean:
        raise ImgsynthError("--level-mean: is of the objective flow; leave it out")
    _free(out, resume)
    data = DiffusionData.read(spec, joint=joint, layout=kinds)
    mix = check_mix(sources_of(spec, len(data)), floor=real_floor, what="diffuse train")
    data = replace(data, generation=mix.generation)
    more: dict[str, Any] = {
        "objective": objective, "mask_bits": data.mask_bits, "layout_channels": data.layout_channels,
        "bit_scale": scale,
    }  # fmt: skip
    if objective == "v":
        more["sigma_data"] = round(_spread(data, scale), 4)
    config = suited(data.size, int(data.images.shape[3]), data.classes, preset, **more)
    before = None
    if start is not None:
        before = Diffuser.load(model_folder(start))
        shape = {name: getattr(before.config, name) for name in ("widths", "blocks", "attention", "patch")}
        same = {name: getattr(before.config, name) for name in ("dropout", "sigma_data")}
        config = replace(config, **shape, **same)
        if bit_scale is None:
            config = replace(config, bit_scale=before.config.bit_scale)
    _place(device)
    from imgsynth.diffusion.train import train

    out.mkdir(parents=True, exist_ok=True)
    model = train(
        data, config, chosen, seed=seed, weights=data.balanced(balance), progress=progress,
        checkpoint=out / CHECKPOINT, device=device if device == "cpu" else None, start=before,
    )  # fmt: skip
    if compact:
        model = compacted(model)
    save(model, out, half=compact)
    (out / CHECKPOINT).unlink(missing_ok=True)
    parameters = sum(p.numel() for p in model.net.parameters())
    return {
        "classes": list(model.classes), "size": list(model.size), "mask_bits": config.mask_bits,
        "parameters": parameters, "weights": model.hash(), **model.record, "mix": mix.to_json(),
    }  # fmt: skip


def _free(out: Path, resume: bool) -> None:
    """`out` may be written to: it is new or empty, or holds the checkpoint of a training to go on with."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not resume or not out.is_dir():
        raise ImgsynthError(
            f"{out}: is not empty; choose another folder, or --resume to go on with the same training"
        )
    if not (out / CHECKPOINT).is_file():
        raise ImgsynthError(
            f"{out}: has no {CHECKPOINT} to go on from: the training is finished or never came to its first "
            "checkpoint; empty the folder to train anew"
        )


def _bit_scale(joint: str | None, asked: float | None) -> float:
    """Size of a mask bit: as asked, else the default where masks are sampled."""
    if joint is None:
        if asked is not None:
            raise ImgsynthError("--bit-scale: say --joint, too; without it no mask is sampled")
        return 1.0
    return BIT_SCALE if asked is None else asked


def _spread(data: DiffusionData, bit_scale: float) -> float:
    """Standard deviation of what is denoised, in [-1, 1]; what an image without contrast lacks is made up."""
    variance = float(np.var(data.images, dtype=np.float64)) / 127.5**2
    planes = data.images.shape[3]
    if data.bits is not None:
        theirs = 4 * bit_scale**2 * float(np.var(data.bits, dtype=np.float64))
        variance = variance * planes + theirs * data.mask_bits
        variance /= planes + data.mask_bits
    return max(variance**0.5, 0.05)


def _place(device: str) -> None:
    """Refuse a device that is not there."""
    import torch

    if device not in ("cpu", "cuda"):
        raise ImgsynthError(f"--device: expected cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ImgsynthError("--device cuda: torch finds no GPU here; use --device cpu")
