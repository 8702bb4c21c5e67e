"""The gate proved on planted faults: copies, wrong labels and repeats among real images that stand for samples.

    python scripts/proof/gate.py DATA … [--parts copies,labels,duplicates] [--queries 500] [--json FILE]

DATA as everywhere: `torchvision:FashionMNIST:/usr/share/datasets/fashion-mnist`, a .npz, an image folder. Each
set is cut, whole tracks together, into training images (70 %), held-out ones (15 %) and fresh ones (15 %), which
are innocent: what the gate says of them is a false alarm. Printed:

    copies      recall of edited training images, for each kind of edit, and false alarms on fresh images
    labels      fresh images, a tenth of them with a wrong label: what is dropped, and ECE of the confidence
    duplicates  edited repeats among fresh images: how many are dropped, and how many fresh ones with them
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.sources import load
from imgsynth.dataset.split import split
from imgsynth.gate.agreement import Agreement
from imgsynth.gate.calibration import fit_trust, label_confidence, reliability, wilson
from imgsynth.gate.duplicates import Nearness
from imgsynth.gate.memory import Memory
from imgsynth.gate.signature import Look

KINDS = (
    "exact", "flip", "shift", "contrast", "noise4", "noise8", "jpeg80", "jpeg60", "flip+shift+noise4+jpeg80",
    "flip+shift+contrast+noise8+jpeg60",
)  # fmt: skip
PARTS = ("copies", "labels", "duplicates")


def edited(images: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Copies (n, H, W, C) as a generator or a pipeline makes them: a flip, a shift of up to 1/14 of the side
    (2 px of 28, 1 of 8), contrast × 0.6 to 0.9 with a lift, noise of 4 or 8 levels, JPEG of quality 80 or 60.
    """
    out = images
    h, w = out.shape[1:3]
    if "flip" in how:
        out = out[:, :, ::-1]
    if "shift" in how:
        m = max(1, round(min(h, w) / 14))
        steps = np.array([(y, x) for y in range(-m, m + 1) for x in range(-m, m + 1) if (y, x) != (0, 0)])
        chosen = steps[rng.integers(0, len(steps), len(out))]
        padded = np.pad(out, ((0, 0), (m, m), (m, m), (0, 0)), "edge")
        out = np.stack(
            [p[m + y : m + y + h, m + x : m + x + w] for p, (y, x) in zip(padded, chosen, strict=True)]
        )
    if "contrast" in how:
        scale, lift = rng.uniform(0.6, 0.9, len(out)), rng.uniform(0, 25, len(out))
        out = out * scale[:, None, None, None] + lift[:, None, None, None]
    if "noise" in how:
        out = out + rng.normal(0, 8 if "noise8" in how else 4, out.shape)
    out = np.clip(np.rint(out), 0, 255).astype(np.uint8)
    if "jpeg" in how:
        quality = [cv2.IMWRITE_JPEG_QUALITY, 60 if "jpeg60" in how else 80]
        packed = [cv2.imencode(".jpg", x, quality)[1] for x in out]
        out = np.stack([cv2.imdecode(p, cv2.IMREAD_UNCHANGED).reshape(out.shape[1:]) for p in packed])
    return out


def cut(data: LabelledImages) -> list[LabelledImages]:
    """Training, held-out and fresh images."""
    rows = split(data.labels, data.groups, {"train": 0.7, "held": 0.15, "fresh": 0.15})
    return [data.subset(rows[name], name=f"{data.name} ({name})") for name in rows]


def copies(parts: list[LabelledImages], queries: int) -> dict[str, Any]:
    """Recall of planted copies and false alarms of fresh images."""
    training, held, fresh = parts
    memory = Memory.fit(training, held)
    rng = np.random.default_rng(0)
    rows = rng.choice(len(training), min(queries, len(training)), replace=False)
    some = fresh.images[np.sort(rng.permutation(len(fresh))[: 4 * queries])]
    start = time.process_time()
    alarms = memory.audit(some).copy
    spent = time.process_time() - start
    found = {"false alarms": rate(alarms), "ms_an_image": 1000 * spent / len(some)}
    for how in KINDS:
        found[how] = rate(memory.audit(edited(training.images[rows], how, rng)).copy)
    return found


def labels(parts: list[LabelledImages], steps: int | None = None) -> dict[str, Any]:
    """What happens to right and wrong labels of fresh images, and whether confidences mean what they say."""
    training, _, fresh = parts
    judged = Agreement.fit(training, steps=steps)
    look = Look.fit(training.images)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(fresh))[:3000])
    images, truth, k = fresh.images[rows], fresh.labels[rows], len(fresh.classes)
    wrong = rng.random(len(rows)) < 0.1
    told = np.where(wrong, (truth + rng.integers(1, k, len(rows))) % k, truth)
    nearest = look.nearest(images, look.marks(training.images)).row[:, 0]
    p = judged.probabilities(images, judged.fold[nearest])
    confidence, kept = judged.judge(images, told, judged.fold[nearest])
    trust = fit_trust(p, told)
    groups = None if fresh.groups is None else fresh.groups[rows]
    ece = {
        "answers": reliability(p.max(axis=1), p.argmax(axis=1) == truth, groups).ece,
        "labels": reliability(confidence, ~wrong, groups).ece,
        "labels, trust fitted": reliability(label_confidence(p, told, trust), ~wrong, groups).ece,
    }
    return {
        "accuracy": float((p.argmax(axis=1) == truth).mean()),
        "right labels dropped": rate(~kept[~wrong]),
        "wrong labels dropped": rate(~kept[wrong]),
        "trust fitted (0.9 planted)": trust,
        **{f"ECE of {name}": value.to_json() for name, value in ece.items()},
    }


def duplicates(parts: list[LabelledImages], queries: int) -> dict[str, Any]:
    """Repeats planted among fresh images."""
    training, _, fresh = parts
    near = Nearness.fit(training, Look.fit(training.images))
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(fresh))[:3000])
    source = rng.integers(0, len(rows), queries)
    again = edited(fresh.images[rows][source], "flip+shift+noise4+jpeg80", rng)
    images = np.concatenate([fresh.images[rows], again])
    told = np.concatenate([fresh.labels[rows], fresh.labels[rows][source]])
    start = time.process_time()
    repeats = near.first_of_kind(images, told, np.ones(len(images), bool))[0] >= 0
    spent = time.process_time() - start
    return {
        "repeats dropped": rate(repeats[len(rows) :]),
        "fresh images dropped": rate(repeats[: len(rows)]),
        "images": len(images),
        "seconds": spent,
    }


def rate(hits: np.ndarray) -> dict[str, Any]:
    """Share of hits with its Wilson interval."""
    lo, hi = wilson(int(hits.sum()), len(hits))
    return {"mean": float(hits.mean()), "ci95": [float(lo), float(hi)], "n": len(hits)}


def shown(value: Any) -> str:
    """A figure with its interval."""
    if not isinstance(value, dict):
        return f"{value:.4g}"
    return "{:.4f} [{:.4f}, {:.4f}]".format(value["mean"], *value["ci95"])


def main(arguments: list[str] | None = None) -> int:
    """Run the parts on each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--queries", type=int, default=500, help="planted copies of each kind")
    parser.add_argument("--steps", type=int, help="of each judge's training (default: the learner's own)")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    for spec in told.data:
        parts = cut(load(spec))
        print(f"{spec}: {' + '.join(str(len(p)) for p in parts)} images", flush=True)
        jobs: dict[str, Callable[[], dict[str, Any]]] = {
            "copies": lambda p=parts: copies(p, told.queries),
            "labels": lambda p=parts: labels(p, told.steps),
            "duplicates": lambda p=parts: duplicates(p, told.queries),
        }
        for name in told.parts.split(","):
            found = results.setdefault(spec, {})[name] = jobs[name]()
            for key, value in found.items():
                print(f"  {name:<11}{key:<36}{shown(value)}", flush=True)
        if told.json:
            told.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
