"""Bench what a lamp's shadows cost, by maps and by rays: ten objects of 25,660 triangles on a floor, one core.

    python scripts/bench/lamps.py [--frames 8] [--repeats 4] [--size 256] [--json FILE]

Rows are processor milliseconds a frame, labels included, the least of the repeats; the sun's shadow map beside
them. The mean radiance under maps is given over that under rays.
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
from scenes_for_tests import Material, Shot, Thing, box, icosphere, look_at, make_batch, pose  # noqa: E402

from imgsynth.batch import POINT, SPOT, Lamps, SceneBatch  # noqa: E402
from imgsynth.geometry import quat_to_matrix  # noqa: E402
from imgsynth.render.raster import RasterRenderer  # noqa: E402


def scenes(frames: int, size: int) -> SceneBatch:
    """Five balls of 5,120 triangles and five boxes, anyhow over a floor; black behind."""
    rng = np.random.default_rng(3)
    shots = []
    for _ in range(frames):
        turn = rng.normal(size=(10, 4))
        turn = quat_to_matrix(turn / np.linalg.norm(turn, axis=1, keepdims=True))
        place = np.concatenate([rng.uniform(-1, 1, (10, 2)), rng.uniform(0.3, 0.6, (10, 1))], 1)
        things = [Thing(k % 2, pose(turn[k], place[k]), (rng.uniform(0.1, 0.35),) * 3) for k in range(10)]
        eye = (*rng.uniform(-2.5, 2.5, 2), rng.uniform(1, 3))
        k = np.array([[1.1 * size, 0, size / 2], [0, 1.1 * size, size / 2], [0, 0, 1.0]])
        shots.append(Shot(things, look_at(eye, (0, 0, 0.2)), k, ground=0, color_a=(0, 0, 0)))
    return make_batch(shots, [icosphere(4), box()], (size, size), [Material((0.8, 0.7, 0.6), 0.0, 0.8)])


def lamps(frames: int, kind: int, low: tuple, high: tuple, maps: bool, shadows: bool = True) -> Lamps:
    """One lamp a frame, anywhere in a box, that shines towards the floor's middle."""
    rng, n = np.random.default_rng(5), frames
    at = rng.uniform(low, high, (n, 3))
    direction = -at / np.linalg.norm(at, axis=1, keepdims=True)
    f32 = np.float32
    return Lamps(
        np.arange(n, dtype=np.int32), np.full(n, kind, np.int32), at, direction,
        np.tile([1.0, 0.0, 0.0], (n, 1)), np.zeros((n, 2), f32), np.tile(np.array([0.6, 0.9], f32), (n, 1)),
        np.full((n, 3), 9, f32), np.full(n, shadows), np.full(n, maps),
    )  # fmt: skip


LAMPS = {
    "spot": (SPOT, (-1, -1, 1.5), (1, 1, 3)),
    "point above": (POINT, (-1, -1, 1.5), (1, 1, 3)),
    "point in the midst": (POINT, (-0.5, -0.5, 0.2), (0.5, 0.5, 0.6)),
}


def measured(renderer: RasterRenderer, batch: SceneBatch, repeats: int) -> tuple[float, float]:
    """Least processor milliseconds a frame, and the mean radiance."""
    best = np.inf
    mean = float(renderer.render(batch).color.mean())
    for _ in range(repeats):
        start = time.process_time()
        renderer.render(batch)
        best = min(best, time.process_time() - start)
    return 1e3 * best / len(batch), mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    renderer, batch, n = RasterRenderer(), scenes(args.frames, args.size), args.frames
    out = {}
    sun = replace(batch.lights, shadows=np.ones(n, bool), sun_irradiance=np.ones((n, 3), np.float32))
    for word, lights in (("sun, map", sun), ("sun, no shadows", replace(sun, shadows=np.zeros(n, bool)))):
        out[word] = measured(renderer, replace(batch, lights=lights), args.repeats)[0]
        print(f"{word:32} {out[word]:6.1f}")
    for word, where in LAMPS.items():
        means = {}
        for how, given in (
            ("rays", (False,)), ("map", (True,)), ("no shadows", (False, False)),
        ):  # fmt: skip
            lights = replace(batch.lights, lamps=lamps(n, *where, *given), seed=np.zeros(n, np.uint32))
            row = f"{word}, {how}"
            out[row], means[how] = measured(renderer, replace(batch, lights=lights), args.repeats)
            print(f"{row:32} {out[row]:6.1f}")
        out[f"{word}, mean radiance"] = means["map"] / means["rays"]
        print(f"{'':32} mean radiance, map over rays: {means['map'] / means['rays']:.4f}")
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
