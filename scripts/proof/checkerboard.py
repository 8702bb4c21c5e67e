"""The camera proved on photographs: calibrate on a board, render the board so, and find its corners again.

    python scripts/proof/checkerboard.py ../shared/real/checkerboard [--frames 17] [-o SHEET.png] [--json FILE]

OpenCV finds the 9 × 6 corners of each photograph and estimates intrinsics, distortion and poses from them. A
scene then says these numbers as OpenCV does (`camera.intrinsics` with `pixel_centers: integer`, `camera.lens`,
`camera.pose.opencv`), the renderer draws the board, and OpenCV's `cornerSubPix` finds the corners in the
picture. Printed, in pixels: how far these are from OpenCV's own projection, and from the photographed corners,
beside the calibration's residual, which is how far OpenCV's projection is from them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgsynth import generate, scenefile

COLUMNS, LINES = 9, 6  # inner corners
TEXELS = 64  # a square
WINDOW, STOP = (5, 5), (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-5)
BOARD = np.array([[x, y, 0] for y in range(LINES) for x in range(COLUMNS)], np.float32)


@dataclass(frozen=True)
class Calibration:
    """What OpenCV makes of the photographs in which it finds the whole board."""

    files: list[Path]
    size: tuple[int, int]  # (height, width)
    corners: np.ndarray  # (n, 54, 2) photographed, the first pixel's centre at (0, 0)
    projected: np.ndarray  # (n, 54, 2) by the model
    k: np.ndarray
    distortion: np.ndarray
    rvec: np.ndarray  # (n, 3)
    tvec: np.ndarray  # (n, 3) in squares


def calibrate(folder: Path) -> Calibration:
    """Corners, intrinsics, distortion and poses of the photographs of one size in a folder."""
    files, corners, size = [], [], None
    for file in sorted(folder.glob("*.jpg"), key=lambda f: (len(f.name), f.name)):
        grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        size = size or grey.shape
        found, at = cv2.findChessboardCorners(grey, (COLUMNS, LINES)) if grey.shape == size else (False, None)
        if found:
            files.append(file)
            corners.append(cv2.cornerSubPix(grey, at, WINDOW, (-1, -1), STOP).reshape(-1, 2))
    if size is None or len(files) < 3:
        raise SystemExit(f"{folder}: expected photographs of a {COLUMNS}×{LINES} board, found {len(files)}")
    _, k, d, r, t = cv2.calibrateCamera(
        [BOARD] * len(files), [c[:, None].astype(np.float32) for c in corners], size[::-1], None, None
    )
    seen = [cv2.projectPoints(BOARD, a, b, k, d)[0].reshape(-1, 2) for a, b in zip(r, t, strict=True)]
    return Calibration(
        files, size, np.array(corners), np.array(seen), k, d.ravel(), np.array(r).reshape(-1, 3),
        np.array(t).reshape(-1, 3),
    )  # fmt: skip


def board_scene(folder: Path, found: Calibration, frame: int) -> dict[str, Any]:
    """The scene of one photograph: the board, a square a metre, its first inner corner at the origin."""
    squares = np.indices((LINES + 3, COLUMNS + 3)).sum(0) % 2 == 0
    squares[[0, -1]] = squares[:, [0, -1]] = True  # a white margin
    picture = np.kron(squares, np.ones((TEXELS, TEXELS))) * 235 + 10
    cv2.imwrite(str(folder / "board.png"), picture.astype(np.uint8))
    (fx, _, cx), (_, fy, cy), _ = found.k.tolist()
    terms = dict(zip(("k1", "k2", "p1", "p2", "k3"), found.distortion.tolist(), strict=True))
    return {
        "name": "board",
        "classes": ["board"],
        "image": {"size": list(found.size)},
        "renderer": {"samples": 16},
        "light": {"sun": None, "ambient": {"radiance": 1.0}},
        "background": {"flat": "#606060"},
        "camera": {
            "intrinsics": {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "pixel_centers": "integer"},
            "lens": {"brown_conrady": terms},
            "pose": {"opencv": {"rvec": found.rvec[frame].tolist(), "tvec": found.tvec[frame].tolist()}},
        },
        "objects": {
            "board": {
                "class": "board",
                "shape": {"quad": {"width": COLUMNS + 3, "height": LINES + 3}},
                "place": {"position": [(COLUMNS - 1) / 2, (LINES - 1) / 2, 0]},
                "material": {"texture": {"image": "board.png"}, "roughness": 1},
            }
        },
    }


def rendered(found: Calibration, frame: int) -> np.ndarray:
    """(H, W, 3) the board as in one photograph."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scene.yaml").write_text(json.dumps(board_scene(folder, found, frame)))
        return generate.frames(scenefile.load(folder / "scene.yaml"), 0, [0]).images[0]


def refound(image: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """(54, 2) corners in a rendered image, looked for from the pixels nearest to where they should be."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    start = np.ascontiguousarray(np.rint(projected), np.float32).reshape(-1, 1, 2)
    return cv2.cornerSubPix(grey, start, WINDOW, (-1, -1), STOP)[:, 0]


def measure(found: Calibration, frames: Sequence[int]) -> tuple[dict[str, float], list[np.ndarray]]:
    """Distances in pixels over all corners of some photographs, and the pictures rendered."""
    pictures = [rendered(found, i) for i in frames]
    ours = np.array([refound(p, found.projected[i]) for p, i in zip(pictures, frames, strict=True)])
    projected, photographed = found.projected[list(frames)], found.corners[list(frames)]

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a - b, axis=-1)

    off, near, residual = apart(ours, projected), apart(ours, photographed), apart(projected, photographed)
    shift = (ours - projected).mean(axis=(0, 1))
    return {
        "photographs": len(frames),
        "corners": int(off.size),
        "rendered_to_projection_median": float(np.median(off)),
        "rendered_to_projection_95": float(np.quantile(off, 0.95)),
        "mean_shift_x": float(shift[0]),
        "mean_shift_y": float(shift[1]),
        "rendered_to_photographed_rms": float(np.sqrt(np.mean(near**2))),
        "calibration_residual_rms": float(np.sqrt(np.mean(residual**2))),
    }, pictures


def sheet(found: Calibration, frames: Sequence[int], pictures: list[np.ndarray]) -> np.ndarray:
    """Photographs on the left, ours on the right, a line each, BGR."""
    lines = []
    for i, picture in list(zip(frames, pictures, strict=True))[:4]:
        pair = [cv2.imread(str(found.files[i])), np.ascontiguousarray(picture[..., ::-1])]
        for image in pair:
            for x, y in found.corners[i]:
                cv2.circle(image, (round(float(x)), round(float(y))), 5, (0, 0, 255), 1)
        lines.append(np.hstack([cv2.resize(p, None, fx=0.5, fy=0.5) for p in pair]))
    return np.vstack(lines)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=100, help="at most so many photographs")
    parser.add_argument("-o", "--out", type=Path, help="a PNG of photographs and pictures side by side")
    parser.add_argument("--json", type=Path, help="where to write the figures too")
    options = parser.parse_args()
    found = calibrate(options.folder)
    frames = range(min(options.frames, len(found.files)))
    figures, pictures = measure(found, frames)
    text = json.dumps(figures, indent=1)
    if options.out:
        cv2.imwrite(str(options.out), sheet(found, frames, pictures))
    if options.json:
        options.json.write_text(text)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
