"""Labelled frames a second with all files written: `imgsynth render` as a user runs it, on all cores, in a fresh process.

    python scripts/bench/files.py [--scene digits] [-n 10000] [--repeats 3] [--workers W] [--json]

The time is that of the whole command: start, imports, rendering, PNGs, tables, annotations, manifest. Kernels are
compiled before (the first use on a machine costs some seconds once). `raw` writes as many files of the same sizes and
nothing else, which is what the disk alone takes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def render(scene: str, n: int, out: Path, workers: int) -> float:
    words = [
        sys.executable,
        "-m",
        "imgsynth.cli",
        "render",
        scene,
        "-n",
        str(n),
        "-o",
        str(out),
        "--workers",
        str(workers),
    ]
    start = time.perf_counter()
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def raw_files(like: Path, out: Path) -> float:
    sizes = [(p.name, p.stat().st_size) for folder in ("images", "masks") for p in (like / folder).iterdir()]
    out.mkdir()
    start = time.perf_counter()
    for k, (name, size) in enumerate(sizes):
        (out / f"{k % 2}-{name}").write_bytes(bytes(size))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", default="digits")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        render(asked.scene, 2, Path(folder) / "warm", 1)  # compile
        # A new folder each time: deleting 20,000 files slows the next thousands that a disk makes.
        outs = [Path(folder) / f"set{k}" for k in range(asked.repeats)]
        seconds = [render(asked.scene, asked.n, out, asked.workers) for out in outs]
        raw = raw_files(outs[0], Path(folder) / "raw")
    result = {
        "scene": asked.scene, "frames": asked.n, "workers": asked.workers, "seconds": seconds,
        "frames_per_second": asked.n / statistics.median(seconds), "raw_files_seconds": raw,
    }  # fmt: skip
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{asked.scene}: {asked.n} labelled frames on {asked.workers} workers, files included")
        print(
            f"  median {statistics.median(seconds):.1f} s of {', '.join(f'{s:.1f}' for s in seconds)}: {result['frames_per_second']:.0f} frames/s"
        )
        print(f"  the same files written raw: {raw:.1f} s")


if __name__ == "__main__":
    main()
