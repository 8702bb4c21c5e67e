"""Make docs/gallery.png: the same frames by every renderer, each with its own labels drawn on.

    IMGSYNTH_BPY=… python scripts/gallery.py [-o docs/gallery.png] [--paths 64] [--size 192] [SCENE…]

A row a scene, the last one (`matter`) with patterns, layers and lacquer under a sky and its sun; columns are plain and labelled pictures by raster, Mitsuba and Cycles. Any difference that the
eye finds in masks is somebody's bug. A reference that is not installed is left white, and said.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from imgsynth import generate, scenefile  # noqa: E402
from imgsynth.errors import ImgsynthError  # noqa: E402
from imgsynth.render import RENDERERS  # noqa: E402
from imgsynth.report.sheet import draw_frame, grid, save_png  # noqa: E402
from imgsynth.scene import SceneSpec  # noqa: E402

FRAMES = {"dice": 5, "cards": 3, "jenga": 2, "traffic_signs": 4, "matter": 0}
BRICKS = {"kind": "brick", "a": "#b05030", "b": "#d0c8c0", "scale": 0.2}
MARBLE = {"kind": "marble", "a": "white", "b": "#204060", "scale": 0.08}
WOOD = {"kind": "wood", "a": "#d9a066", "b": "#6b3e1e", "scale": 0.03}
WEAR = {
    "wear": {"scratches": {"coverage": 0.2, "width": 0.003, "length": 0.05}},
    "grime": {"dirt": {"coverage": 0.4, "scale": 0.05}},
    "labels": {"stickers": {"coverage": 0.2, "scale": 0.1}},
}
MATTER: dict[str, Any] = {
    "name": "matter",
    "classes": ["ball", "box", "post"],
    "renderer": {"samples": 4},
    "camera": {"distance": 1.2, "elevation_deg": 35, "azimuth_deg": 30, "fov_deg": 45},
    "light": {
        "sun": {"azimuth_deg": 60, "elevation_deg": 40, "irradiance": 2, "radius_deg": 2},
        "sky": {"irradiance": 1.0, "turbidity": 3},
        "occlusion": 1,
    },
    "ground": {"material": {"color": "white", "roughness": 0.9, "pattern": BRICKS}},
    "objects": {
        "ball": {
            "class": "ball",
            "shape": {"sphere": {"radius": 0.15}},
            "place": {"position": [0.1, 0.1, 0.15]},
            "material": {"color": "white", "roughness": 0.4, "pattern": MARBLE, "clearcoat": 1},
        },
        "cube": {
            "class": "box",
            "shape": {"rounded_box": {"size": [0.25, 0.25, 0.25], "radius": 0.03}},
            "place": {"position": [-0.25, 0.0, 0.125]},
            "material": {"color": "#8090a0", "metallic": 0.9, "roughness": 0.3, "layers": WEAR},
        },
        "post": {
            "class": "post",
            "shape": {"cylinder": {"radius": 0.08, "height": 0.3}},
            "place": {"position": [0.05, -0.3, 0.15]},
            "material": {"color": "white", "roughness": 0.7, "pattern": WOOD},
        },
    },
}


def row(name: str, index: int, size: int, paths: int) -> list[np.ndarray]:
    """(size, size, 3) pictures of one frame by each renderer, plain and labelled."""
    side = size if name != "traffic_signs" else 64
    if name == "matter":
        renderer = {**MATTER["renderer"], "paths": paths}
        scene = scenefile.load(
            SceneSpec.model_validate({**MATTER, "image": {"size": [side, side]}, "renderer": renderer})
        )
    else:
        sets = [f"image.size=[{side},{side}]", f"renderer.paths={paths}"]
        scene = scenefile.load(ROOT / "scenes" / name, sets=sets)
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
