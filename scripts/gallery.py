"""Make docs/gallery.png: the same frames by every renderer, each with its own labels drawn on.

    IMGSYNTH_BPY=… python scripts/gallery.py [-o docs/gallery.png] [--paths 64] [--size 192] [SCENE…]

A row a scene; columns are plain and labelled pictures by raster, Mitsuba and Cycles. Any difference that the
eye finds in masks is somebody's bug. A reference that is not installed is left white, and said.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from imgsynth import generate, scenefile  # noqa: E402
from imgsynth.errors import ImgsynthError  # noqa: E402
from imgsynth.render import RENDERERS  # noqa: E402
from imgsynth.report.sheet import draw_frame, grid, save_png  # noqa: E402

FRAMES = {"dice": 5, "cards": 3, "jenga": 2, "traffic_signs": 4}


def row(name: str, index: int, size: int, paths: int) -> list[np.ndarray]:
    """(size, size, 3) pictures of one frame by each renderer, plain and labelled."""
    side = size if name != "traffic_signs" else 64
    scene = scenefile.load(
        ROOT / "scenes" / name, sets=[f"image.size=[{side},{side}]", f"renderer.paths={paths}"]
    )
    out = []
    for renderer in RENDERERS:
        try:
            made = generate.frames(scene, 0, [index], renderer=renderer)
        except ImgsynthError as error:
            print(f"{name}: {error}", file=sys.stderr)
            out += [np.full((size, size, 3), 255, np.uint8)] * 2
            continue
        print(f"{name}: {renderer}", flush=True)
        pictures = (draw_frame(next(iter(made)), labels=labels) for labels in (False, True))
        out += [np.asarray(Image.fromarray(p).resize((size, size))) for p in pictures]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="*", default=list(FRAMES), metavar="SCENE")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "gallery.png")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--paths", type=int, default=64)
    args = parser.parse_args()
    cells = [cell for name in args.scenes for cell in row(name, FRAMES.get(name, 0), args.size, args.paths)]
    save_png(grid(cells, 2 * len(RENDERERS)), args.out)
    print(args.out)


if __name__ == "__main__":
    main()
