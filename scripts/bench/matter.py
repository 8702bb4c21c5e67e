"""Bench what materials cost: every pixel of a 256² frame shows a floor of one material, on one core.

    python scripts/bench/matter.py [--frames 8] [--repeats 5] [--size 256] [--json FILE]

Rows are processor milliseconds a frame, labels included, the least of the repeats, and what each material adds to
a plain one. A scene of plain materials never runs this code: it has a kernel of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from scenes_for_tests import Material, Shot, box, look_at, make_batch  # noqa: E402

from imgsynth.batch import LAYER_KINDS, PATTERN_KINDS, Layers, Patterns, SceneBatch  # noqa: E402
from imgsynth.render.raster import RasterRenderer  # noqa: E402


def pattern(kind: str) -> Patterns:
    """One pattern in cells of 10 cm, as scenes have it by default."""
    f32, one = np.float32, np.ones(1, np.float32)
    return Patterns(
        np.array([PATTERN_KINDS.index(kind)], np.int32), np.zeros(1, bool), (10 * np.eye(3, dtype=f32))[None],
        np.full((1, 3), 0.3, f32), np.ones((1, 3), f32), np.zeros((1, 3), f32), np.array([5], np.uint32),
        np.array([5], np.int32), 0.5 * one, 1.5 * one, 0.3 * one, 0.15 * one, 0.2 * one,
    )  # fmt: skip


def layer(kind: str) -> Layers:
    """One layer without a picture, as scenes have it by default."""
    f32, one = np.float32, np.ones(1, np.float32)
    return Layers(
        np.array([LAYER_KINDS.index(kind)], np.int32), np.zeros(1, bool), np.ones((1, 3), f32), np.ones((1, 3), f32),
        0.1 * one, one, one, 0 * one, 0.1 * one, 0.004 * one, 0.1 * one, 0.4 * one, np.array([5], np.uint32),
        np.full(1, -1, np.int32), np.zeros((1, 2, 3), f32),
    )  # fmt: skip


def floors(frames: int, size: int) -> SceneBatch:
    """Floors from 2 m above, lit by a sun without shadows: each pixel is 1 cm wide or so."""
    shots = [
        Shot([], look_at((k, 0.2, 2), (k, 0, 0)), sun_direction=(0.4, 0.3, 0.9), sun=(2.5, 2.4, 2.2),
             ambient=(0.3, 0.35, 0.4), ground=0)
        for k in range(frames)
    ]  # fmt: skip
    return make_batch(shots, [box()], (size, size), [Material((0.7, 0.7, 0.7), 0.0, 0.5)])


def kinds(batch: SceneBatch) -> dict[str, SceneBatch]:
    """The floors in every material, the plain one first."""
    plain = batch.materials
    zero = np.zeros(1, np.int32)
    out = {"plain": plain, "clearcoat": replace(plain, clearcoat=np.ones(1, np.float32))}
    for kind in PATTERN_KINDS:
        out[f"pattern: {kind}"] = replace(plain, pattern=zero, patterns=pattern(kind))
    for kind in LAYER_KINDS[:-1]:
        out[f"layer: {kind}"] = replace(plain, layer_range=np.array([[0, 1]], np.int32), layers=layer(kind))
    return {name: replace(batch, materials=materials) for name, materials in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    renderer = RasterRenderer()
    out: dict[str, float] = {}
    print(f"{args.size}×{args.size}, all of it one material, processor ms a frame")
    for name, batch in kinds(floors(args.frames, args.size)).items():
        renderer.render(batch)
        taken = []
        for _ in range(args.repeats):
            start = time.process_time()
            renderer.render(batch)
            taken.append(time.process_time() - start)
        out[name] = round(min(taken) / args.frames * 1e3, 2)
        print(f"  {name:24s}{out[name]:8.2f}{out[name] - out['plain']:+8.2f}")
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
