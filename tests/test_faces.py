"""Faces of the traffic signs: what the script draws is what is committed, with the right outlines and the right hands."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from imgsynth.batch import F64
from imgsynth.textures.svg import rasterize_svg

SCENE = Path(__file__).parents[1] / "scenes" / "traffic_signs"
NAMES = tuple(sorted(p.stem for p in (SCENE / "faces").glob("*.svg")))
TRIANGLES = (11, *range(18, 32))  # on their base; 13 stands on its tip
SIDE = 256


@lru_cache(maxsize=64)
def face(name: str) -> F64:
    """RGBA (256, 256, 4) in 0 … 1."""
    drawn: F64 = rasterize_svg(SCENE / "faces" / f"{name}.svg", (SIDE, SIDE)) / 255.0
    return drawn


def opaque_box(name: str) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is drawn, in pixels, right and bottom beyond the last."""
    rows, columns = np.nonzero(face(name)[..., 3] > 0.5)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """Mean x and y of a mask, from the middle of the sign."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean() + 0.5 - SIDE / 2), float(rows.mean() + 0.5 - SIDE / 2)


def white(name: str) -> np.ndarray:
    """Where the sign is white, its rim left out."""
    rgb, (y, x) = face(name)[..., :3], np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    return np.asarray((rgb.min(-1) > 0.7) & (np.hypot(x, y) < 118))


def black(name: str) -> np.ndarray:
    """Where the sign is black."""
    return np.asarray((face(name)[..., :3].max(-1) < 0.3) & (face(name)[..., 3] > 0.9))


def red(name: str) -> np.ndarray:
    """Where the sign is red, as far as 80 units from the middle."""
    rgb, (y, x) = face(name)[..., :3], np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    return np.asarray((rgb[..., 0] - rgb[..., 1] > 0.4) & (rgb[..., 1] < 0.3) & (np.hypot(x, y) < 80))


def test_the_script_draws_the_committed_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCENE / "make_faces.py"), str(tmp_path)], check=True, cwd=tmp_path)
    drawn = {p.name: p.read_bytes() for p in tmp_path.glob("*.svg")}
    assert drawn == {p.name: p.read_bytes() for p in (SCENE / "faces").iterdir()}
    assert {f"{k:05d}.svg" for k in range(43)} <= set(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_outlines_fill_the_square_and_nothing_is_drawn_outside(name: str) -> None:
    alpha, k = face(name)[..., 3], int(name[:5])
    left, top, right, bottom = opaque_box(name)
    assert (left, right) == (0, SIDE)
    if k in TRIANGLES or k == 13:
        assert (bottom - top) / (right - left) == pytest.approx(0.878, abs=0.01)
        assert top + bottom == pytest.approx(SIDE, abs=1)
    else:
        assert (top, bottom) == (0, SIDE)
    # A triangle of side s with corners rounded by r has √3/4 s² - (3 √3 - π) r².
    r = 11.5
    side = SIDE + 2 * (np.sqrt(3) - 1) * r
    triangle = (np.sqrt(3) / 4 * side**2 - (3 * np.sqrt(3) - np.pi) * r**2) / SIDE**2
    # Rounding by 8 takes the tips of a square back to the edge of the picture.
    diamond = ((2 * (SIDE / 2 + (np.sqrt(2) - 1) * 8)) ** 2 / 2 - (4 - np.pi) * 8**2) / SIDE**2
    area = {12: diamond, 13: triangle, 14: 2 * (np.sqrt(2) - 1)} | dict.fromkeys(TRIANGLES, triangle)
    assert alpha.mean() == pytest.approx(area.get(k, np.pi / 4), rel=0.01)
    assert alpha[[2, 2, -3, -3], [2, -3, 2, -3]].max() == 0 or k == 13
    assert "<text" not in (SCENE / "faces" / f"{name}.svg").read_text("utf-8")


def test_signs_of_the_left_and_the_right_are_mirror_images() -> None:
    for a, b in ((19, 20), (33, 34), (36, 37), (38, 39)):
        left, right = face(f"{a:05d}"), face(f"{b:05d}")
        assert np.abs(left - right[:, ::-1]).mean() < 1e-3 < 0.02 < np.abs(left - right).mean()


def test_arrows_point_where_they_should() -> None:
    # The open heads are the heaviest part: the middle of the white lies towards the tip.
    assert middle_of(white("00033"))[0] > 5 and middle_of(white("00034"))[0] < -5
    assert middle_of(white("00036"))[0] > 5 and middle_of(white("00037"))[0] < -5
    x, y = middle_of(white("00038"))
    assert x > 5 and y > 5
    x, y = middle_of(white("00039"))
    assert x < -5 and y > 5
    assert middle_of(white("00035"))[1] < -5
    # A bend comes from below on one side and ends above on the other.
    for name, side in (("00019", 1), ("00020", -1), ("00021", 1)):
        above, below = black(name), black(name)
        above[160:], below[:160] = False, False
        assert side * (middle_of(below)[0] - middle_of(above)[0]) > 8, name


def test_the_ring_of_arrows_turns_against_the_clock() -> None:
    ring = white("00040")
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    angle = np.degrees(np.arctan2(-y, x)) % 120  # against the clock
    # White off the middle of the ring is an arrow head; each starts with a tail and ends with its head.
    head = ring & (np.abs(np.hypot(x, y) - 78) > 12)
    tail = ring & ~head
    spread = np.exp(2j * np.pi * angle / 120)
    turn = np.angle(spread[head].mean() / spread[tail].mean())
    assert turn > 0.5


def test_overtaking_signs_have_the_red_vehicle_on_the_left() -> None:
    for name in ("00009", "00010"):
        assert middle_of(red(name))[0] < -15 < 15 < middle_of(black(name))[0]
    # The lorry is the larger one.
    assert red("00010").sum() > 1.3 * black("00010").sum()


def test_signs_that_end_something_are_struck_from_lower_left_to_upper_right() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    near = np.hypot(x, y) < 105
    for name in ("00006", "00032", "00041", "00042"):
        ink = face(name)[..., :3].max(-1) < 0.3
        rising, falling = near & (np.abs(x + y) < 20), near & (np.abs(x - y) < 20)
        assert ink[rising].mean() > 0.3 > ink[falling & ~rising].mean()


def test_no_two_classes_look_the_same_at_a_sixteenth() -> None:
    small = {}
    for name in NAMES:
        rgba = face(name)
        flat = rgba[..., :3] * rgba[..., 3:] + 0.45 * (1 - rgba[..., 3:])
        cells = flat.reshape(16, 16, 16, 16, 3).mean((1, 3)).ravel()
        small[name] = (cells - cells.mean()) / np.linalg.norm(cells - cells.mean())
    for i, a in enumerate(NAMES):
        for b in NAMES[i + 1 :]:
            if a[:5] != b[:5]:
                assert small[a] @ small[b] < 0.995, (a, b)
