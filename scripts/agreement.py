"""Render random scenes with a reference renderer and the raster renderer; print how far the labels are apart.

    python scripts/agreement.py mitsuba|cycles [--frames 200] [--size 72 80] [--json FILE]

The scenes are those of the slow tests (tests/random_scenes.py); docs/renderers.md quotes the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from agreement import Agreement  # noqa: E402
from random_scenes import random_batch  # noqa: E402

from imgsynth.render import renderer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("renderer", choices=("mitsuba", "cycles"))
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(72, 80), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    ours, reference, found = renderer("raster"), renderer(args.renderer, paths=1, max_depth=2), Agreement()
    for first in range(0, args.frames, 20):
        batch = random_batch(min(20, args.frames - first), args.seed + first, tuple(args.size))
        table = batch.instances
        found.add(ours.render(batch), reference.render(batch), table.frame, table.id)
        text = json.dumps({"renderer": args.renderer, "size": list(args.size), **found.figures()}, indent=1)
        print(text, flush=True)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
