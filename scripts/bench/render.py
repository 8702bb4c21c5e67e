"""Profile the renderer: ten objects, 26,208 triangles, shadows and all labels, on one core, stage by stage.

    python scripts/bench/render.py [--frames 32] [--repeats 5] [--sizes 256 512] [--samples 1] [--json FILE]

Every row is milliseconds a frame, the least of the repeats. The process binds itself to one core, and libraries
to one thread, before anything is measured. `rivals.py` draws the same scene with other engines beside ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from scenes_for_tests import (  # noqa: E402
    Material,
    Mesh,
    Shot,
    Thing,
    box,
    icosphere,
    look_at,
    make_batch,
    pose,
    random_rotations,
)

from imgsynth.annotate import annotate  # noqa: E402
from imgsynth.batch import SceneBatch  # noqa: E402
from imgsynth.render.raster import RasterRenderer  # noqa: E402

FIELD_OF_VIEW = 45.0
HUE = np.random.default_rng(3).uniform(0.1, 0.9, (11, 3))
"""Colours of the ten objects and the ground."""


def torus(around: int, across: int) -> Mesh:
    """Torus of radii 0.7 and 0.3, 2·around·across triangles."""
    u, v = np.meshgrid(
        np.arange(around) * 2 * np.pi / around, np.arange(across) * 2 * np.pi / across, indexing="ij"
    )
    n = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], -1)
    p = 0.7 * np.stack([np.cos(u), np.sin(u), 0 * u], -1) + 0.3 * n
    i, j = np.meshgrid(np.arange(around), np.arange(across), indexing="ij")
    a, b = i * across + j, (i + 1) % around * across + j
    c, d = (i + 1) % around * across + (j + 1) % across, i * across + (j + 1) % across
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    uv = np.stack([u, v], -1).reshape(-1, 2) / (2 * np.pi)
    return Mesh(p.reshape(-1, 3), n.reshape(-1, 3), uv, faces)


def scene(frames: int, size: int, seed: int = 0) -> tuple[list[Shot], list[Mesh]]:
    """Ten objects on the ground around the middle, seen from random places: spheres, tori and boxes, 27 k
    triangles.
    """
    rng = np.random.default_rng(seed)
    meshes = [icosphere(4), torus(60, 30), box()]  # 5,120 + 3,600 + 12 triangles
    kinds = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    shots = []
    for _ in range(frames):
        turns = random_rotations(rng, len(kinds))
        places = np.stack(
            [np.arange(10) % 4 * 0.7 - 1.0, np.arange(10) // 4 * 0.7 - 0.7, np.full(10, 0.35)], 1
        )
        places[:, :2] += rng.uniform(-0.15, 0.15, (10, 2))
        sizes = rng.uniform(0.22, 0.34, 10) * np.where(np.array(kinds) == 2, 1.6, 1.0)
        things = [
            Thing(kind, pose(turn, place), (s, s, s), j)
            for j, (kind, turn, place, s) in enumerate(zip(kinds, turns, places, sizes, strict=True))
        ]
        angle = rng.uniform(0, 2 * np.pi)
        eye = (3.6 * np.cos(angle), 3.6 * np.sin(angle), rng.uniform(1.8, 3.2))
        focal = size / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW) / 2)
        k = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
        shots.append(
            Shot(things, look_at(eye, (0, 0, 0.2)), k, sun_direction=(0.4, 0.3, 0.9), sun=(2.5, 2.4, 2.2),
                 ambient=(0.3, 0.35, 0.4), shadows=True, ground=10)
        )  # fmt: skip
    return shots, meshes


def batch_of(shots: list[Shot], meshes: list[Mesh], size: int) -> SceneBatch:
    """The batch, each object in a colour of its own."""
    materials = [Material(tuple(c), 0.0, 0.3 + 0.05 * i) for i, c in enumerate(HUE)]
    return make_batch(shots, meshes, (size, size), materials)


def measure(renderer: RasterRenderer, batch: SceneBatch, repeats: int, samples: int = 1) -> dict[str, Any]:
    """Least milliseconds a frame over `repeats` batches, in all and by stage."""
    renderer.render(batch, samples)
    total, stages = np.inf, {}
    for _ in range(repeats):
        start = time.perf_counter()
        buffers = renderer.render(batch, samples)
        middle = time.perf_counter()
        annotate(batch, buffers)
        end = time.perf_counter()
        total = min(total, (end - start) / len(batch) * 1e3)
        renderer.profile, renderer.stages = True, {}
        renderer.render(batch, samples)
        renderer.profile = False
        for name, seconds in [*renderer.stages.items(), ("annotate", end - middle)]:
            took = seconds / len(batch) * 1e3
            stages[name] = round(min(stages.get(name, np.inf), took), 3)
    return {"ms": round(total, 3), "stages": stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    renderer = RasterRenderer()
    out: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "frames": args.frames,
        "sizes": {},
    }
    for size in args.sizes:
        shots, meshes = scene(args.frames, size)
        triangles = sum(len(meshes[t.mesh].faces) for t in shots[0].things)
        row = {
            "triangles": triangles,
            **measure(renderer, batch_of(shots, meshes, size), args.repeats, args.samples),
        }
        print(f"\n{size}×{size}, 10 objects, {triangles:,} triangles, ms a frame on one core")
        print(f"  {'imgsynth: colour, shadows, ids, depth, normals, amodal masks':64s}{row['ms']:8.2f}")
        for stage, ms in row["stages"].items():
            print(f"    {stage:62s}{ms:8.2f}")
        out["sizes"][str(size)] = row
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
