"""Bench small labelled frames: a textured plate at 48², sampled, composed, rendered, annotated and exposed.

    python scripts/bench/small.py [--frames 1024] [--repeats 3] [--workers 2] [--linear]

Prints milliseconds of processor time a frame for each stage on one core, and frames a second of as many
processes. `--linear` also draws 20,000 frames and prints how time and memory grow. Needs no other engine.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imgsynth import generate, scenefile  # noqa: E402
from imgsynth.annotate import annotate  # noqa: E402
from imgsynth.compose import compose  # noqa: E402
from imgsynth.sensor import expose  # noqa: E402

FACES = ROOT / "scenes" / "traffic_signs" / "faces"
SCENE: dict[str, Any] = {
    "name": "plates",
    "classes": ["plate"],
    "image": {"size": [48, 48]},
    "renderer": {"samples": 1},
    "camera": {"fov_deg": 40, "distance": {"uniform": [1.2, 1.8]}, "azimuth_deg": {"uniform": [-130, -50]},
               "elevation_deg": {"uniform": [60, 90]}},
    "background": {"noise": {"a": {"hsv": [{"uniform": [0, 360]}, 0.4, 0.6]}, "b": "#404850"}},
    "objects": {
        "plate": {"class": "plate", "shape": {"quad": {"width": 0.6, "height": 0.6}},
                  "place": {"rotation": {"euler_deg": [{"uniform": [-20, 20]}, {"uniform": [-20, 20]}, {"uniform": [0, 360]}]}},
                  "material": {"roughness": {"uniform": [0.2, 0.9]}, "texture": {"folder": str(FACES)}}},
    },
    "sensor": {"exposure_ev": {"uniform": [-0.5, 0.5]}, "read_noise": 0.01},
}  # fmt: skip


def scene() -> scenefile.Scene:
    """The plate, with every face of the signs' scene."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scene.yaml"
        import yaml

        file.write_text(yaml.safe_dump(SCENE))
        return scenefile.load(file)


def stages(frames: int, repeats: int) -> dict[str, float]:
    """Least milliseconds of processor time a frame, by stage."""
    loaded = scene()
    plan = loaded.plan()
    best: dict[str, float] = {}
    renderer = generate._renderer("raster", "cpu", plan.spec)

    def timed(name: str, work: Any, *given: Any) -> Any:
        start = time.process_time()
        out = work(*given)
        took = (time.process_time() - start) / frames * 1e3
        best[name] = min(best.get(name, took), took)
        return out

    for repeat in range(repeats + 1):
        if repeat == 1:
            best.clear()  # the first meets cold caches
        indices = range(repeat * frames, (repeat + 1) * frames)
        draws = timed("sample", plan.sample, 1, indices)
        batch = timed("compose", partial(compose, folder=loaded.folder), plan, draws)
        buffers = timed("render", renderer.render, batch, 1)
        timed("annotate", annotate, batch, buffers)
        timed("expose", expose, buffers.color, 1, generate._sensor(plan, draws), 1, draws.indices)
    return best


@cache
def _loaded() -> Any:
    return scene().plan()


def draw(first: int, count: int) -> float:
    """Draw frames and forget them; resident megabytes at most so far."""
    generate.frames(_loaded(), 1, range(first, first + count))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def side_by_side(workers: int, frames: int) -> float:
    """Frames a second of as many processes."""
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(draw, [0] * workers, [frames] * workers))
        start = time.perf_counter()
        jobs = 2 * workers
        list(pool.map(draw, [i * frames for i in range(jobs)], [frames] * jobs))
        return jobs * frames / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--linear", action="store_true", help="20,000 frames, time and memory by thousands")
    args = parser.parse_args()
    rows = stages(args.frames, args.repeats)
    for name, ms in rows.items():
        print(f"{name:10s}{ms:8.3f} ms of processor time a frame")
    total = sum(rows.values())
    print(f"{'all':10s}{total:8.3f}: {1e3 / total:,.0f} frames a second and core, {2e3 / total:,.0f} on two")
    if args.workers:
        rate = side_by_side(args.workers, args.frames)
        print(f"{args.workers} processes: {rate:,.0f} frames a second by the wall clock")
    if args.linear:
        for thousand in range(20):
            start = time.process_time()
            peak = draw(thousand * 1000, 1000)
            print(
                f"{thousand + 1:3d},000 frames: {time.process_time() - start:6.2f} s, {peak:7.1f} MB at most"
            )


if __name__ == "__main__":
    main()
