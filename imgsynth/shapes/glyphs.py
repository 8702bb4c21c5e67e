"""Skeletons of the ten digits as people write them, compiled to linear maps from controls to pen points.

A skeleton is a text: strokes parted by ``/``, control points by ``,``, each "x y" in percent of the glyph's
height (y up). A smooth curve (uniform Catmull-Rom) passes through them; ``*`` makes a corner. A curve through
control points is linear in them, so a skeleton compiles to a matrix of P × C weights, and thousands of glyphs
with moved control points cost one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64

POINTS = 48  # pen points of a glyph, over all its strokes
CONTROLS = 24  # most control points of a glyph, over all its strokes
STROKES = 4  # most strokes of a glyph

# digit → (weight, skeleton) …
SKELETONS: dict[str, tuple[tuple[float, str], ...]] = {
    "0": (
        (3.0, "40 97,22 99,6 80,0 48,8 14,30 0,52 16,60 50,52 84,34 99,20 96"),
        (1.0, "30 100,12 84,6 48,12 12,26 0,40 14,45 50,40 86,28 100"),
        (1.0, "18 94,2 66,2 30,20 2,46 4,62 34,60 70,42 98,22 97"),
        (1.0, "52 96,28 98,6 74,2 34,22 2,46 10,56 48,46 84,24 100,10 92"),
        (0.7, "50 82,34 100,10 84,0 46,12 8,34 0,54 20,60 56,50 88,36 92,26 80"),
    ),
    "1": (
        (2.0, "30 100,30 50,30 0"),
        (2.0, "4 74,20 86,34 100*,34 50,34 0"),
        (1.2, "0 52,20 76,36 100*,36 50,34 0"),
        (1.6, "6 76,22 88,34 100*,34 50,34 0*/4 1,34 0,64 1"),
        (0.8, "30 100,30 50,30 2/4 1,30 0,58 1"),
        (0.7, "8 80,20 84,30 100*,32 50,30 0/2 3,20 0,60 2"),
        (0.6, "26 100,30 70,30 30,36 0"),
        (0.6, "26 100,28 50,30 3*/8 0,36 3,72 0"),
        (0.6, "4 80,24 100*,26 50,28 4*,58 0"),
        (0.6, "0 34,16 64,34 100*,36 50,38 0"),
    ),
    "2": (
        (2.0, "4 76,14 95,34 100,52 86,50 64,30 32,2 0*,30 2,62 0"),
        (1.5, "4 80,18 98,40 98,52 80,44 52,22 20,8 2,2 12,14 18,36 6,64 2"),
        (1.2, "2 72,12 94,34 100,50 82,42 54,22 26,0 2*,22 6,44 0,64 8"),
        (0.8, "6 96,30 100,50 90,48 66,26 30,4 2*,34 2,60 4"),
        (0.8, "10 66,4 84,20 100,44 96,52 74,36 40,10 6,0 6,8 16,30 8,50 0,66 10"),
        (0.5, "2 94,28 98,52 96*,30 50,2 2*,32 0,60 2"),
        (0.9, "4 78,20 97,44 93,46 64,26 24,8 2,0 16,16 26,34 12,50 2,74 6"),
    ),
    "3": (
        (2.0, "4 84,18 99,40 98,52 80,42 60,20 52*,44 48,58 28,46 6,22 0,0 14"),
        (1.4, "4 98,30 99,54 98*,38 76,24 58*,46 52,58 30,46 6,20 0,0 10"),
        (1.0, "6 90,28 100,48 86,44 64,26 54,20 50,32 52,54 42,58 20,36 0,10 2,0 10"),
        (1.0, "2 92,24 100,46 90,40 66,20 54*,40 50,52 32,40 10,14 0,0 6"),
        (0.8, "8 80,22 98,46 96,54 78,40 58,26 54,30 48,44 50,60 34,50 8,22 0,2 8"),
    ),
    "4": (
        (1.6, "30 98,16 70,2 42*,34 42,66 44/46 70,44 36,42 0"),
        (1.4, "12 98,6 76,4 54,20 46,44 50,64 56/58 96,48 50,42 0"),
        (1.4, "50 0,50 50,50 100*,24 66,0 34*,34 34,70 36"),
        (1.0, "26 100,14 74,6 50,22 44,52 48,72 52/60 84,50 44,40 0"),
        (1.0, "44 96,20 72,2 48,10 40,36 42,62 48/54 90,48 48,42 0"),
        (0.7, "46 70,50 100*,26 72,4 46,14 40,60 46/52 98,48 50,46 0"),
    ),
    "5": (
        (1.6, "60 99,36 98,14 97*,10 78,8 56*,28 62,50 54,58 32,48 8,24 0,0 10"),
        (1.4, "14 96,10 76,8 56*,28 62,50 54,58 32,46 8,22 0,0 8/14 97,36 97,62 100"),
        (0.9, "56 98,34 98,20 92,8 64,18 56,40 58,56 40,50 12,28 0,4 6"),
        (0.9, "54 96,30 100,14 94*,12 60*,34 60,50 46,50 20,32 2,2 2"),
        (0.5, "56 98,16 96*,8 58*,34 64,58 46,56 14,30 0,6 10,10 26"),
        (0.7, "12 92,6 58*,26 66,52 60,60 36,50 8,20 0,2 16/8 92,34 94,64 98"),
    ),
    "6": (
        (1.6, "44 100,22 82,6 52,2 24,16 2,40 2,54 20,44 40,24 42,6 28"),
        (1.2, "30 100,14 70,4 36,8 10,26 0,48 8,54 28,38 42,16 34,6 20"),
        (1.0, "54 94,30 96,10 66,2 30,18 2,44 4,56 28,44 50,20 48,4 30"),
        (0.8, "20 100,10 66,4 30,14 4,34 0,48 14,44 32,26 36,10 22"),
        (0.7, "40 98,18 70,4 34,12 6,36 0,54 18,44 36,26 32,18 16,24 6"),
    ),
    "7": (
        (1.2, "2 96,30 98,60 98*,42 60,26 28,16 0"),
        (2.0, "2 94,30 97,58 98*,42 62,28 30,18 0/8 50,34 50,62 52"),
        (1.2, "0 80,4 96*,30 94,60 100*,44 60,30 28,24 0/12 46,36 48,62 52"),
        (0.8, "2 84,10 98,32 92,58 98*,42 60,30 30,26 0"),
        (0.7, "4 94,34 98,56 90,54 72,36 40,22 0/10 48,56 52"),
        (0.6, "0 96,26 98,52 98,50 80,40 50,38 0/16 46,62 50"),
    ),
    "8": (
        (1.8, "50 86,32 100,10 88,14 66,38 48,52 24,38 2,14 4,4 22,18 46,42 64,50 84,38 98"),
        (1.0, "28 100,8 86,12 64,28 54,46 66,48 88,30 100/28 54,4 36,6 10,28 0,52 12,52 36,28 54"),
        (0.9, "56 96,36 100,12 90,12 70,36 52,52 28,42 4,16 0,2 18,16 44,38 62,56 84,58 96"),
        (0.8, "26 54,8 70,12 92,32 100,48 86,40 62,16 42,4 20,18 0,42 4,52 24,42 46,26 54"),
        (0.5, "52 92,28 100,10 84,30 56,40 30,30 4,16 2,14 18,30 46,56 82"),
        (0.6, "44 94,20 98,10 80,26 60,42 36,36 6,16 2,8 20,22 46,40 70,46 92"),
    ),
    "9": (
        (1.4, "50 84,32 100,8 88,4 66,22 54,44 64,52 86*,50 50,46 0"),
        (1.2, "48 92,24 100,4 80,10 58,34 56,50 78,54 88,54 52,42 10,22 0,0 8"),
        (1.0, "46 88,28 100,10 90,10 70,28 62,46 74,50 90,52 52,44 12,24 0,0 6,0 16"),
        (1.0, "52 96,26 98,6 80,10 60,32 58,50 80,50 94*,44 50,34 0"),
        (0.9, "48 82,34 98,14 94,8 76,22 64,42 70,52 90,56 50,50 14,32 0,8 0"),
        (0.7, "50 90,30 100,10 86,8 62,28 52,50 64,54 44,46 12,20 0,0 10"),
        (0.7, "50 86,30 100,6 88,8 68,32 60,54 86*,42 42,24 0"),
        (0.6, "54 96,22 99,8 84,22 72,48 80,55 94,56 50,44 14,22 0,0 8"),
        (0.7, "44 100,14 92,4 70,24 56,48 72,54 98*,52 50,44 12,22 0,0 8"),
        (0.7, "52 90,30 100,14 88,22 72,44 72,56 84,58 50,46 12,22 0,0 10"),
    ),
}


@dataclass(frozen=True)
class Skeletons:
    """All skeletons of all glyphs, padded to one size; s = number of skeletons."""

    names: tuple[str, ...]  # glyphs, sorted
    first: NDArray[np.intp]  # (g + 1,) glyph i owns skeletons first[i] .. first[i + 1]
    upto: F64  # (s,) cumulative weight within the glyph, the last being 1
    controls: NDArray[
        np.complex128
    ]  # (s, CONTROLS) x + iy in units of the glyph's height, centred on the skeleton's box
    weights: F64  # (s, POINTS, CONTROLS) pen points = weights @ controls
    stroke: NDArray[np.intp]  # (s, POINTS) which stroke a pen point belongs to
    ink: NDArray[np.bool_]  # (s, POINTS - 1) whether the pen is down between a point and the next
    along: F64  # (s, POINTS) 0 at the start of a stroke, 1 at its end
    reach: F64  # (s, POINTS) length of the stroke in units of the glyph's height


@cache
def skeletons() -> Skeletons:
    """The compiled catalogue (made once, from constants only)."""
    names = tuple(sorted(SKELETONS))
    counts = [len(SKELETONS[name]) for name in names]
    share = [
        np.cumsum([w for w, _ in SKELETONS[name]]) / sum(w for w, _ in SKELETONS[name]) for name in names
    ]
    parts = [_compile(text) for name in names for _, text in SKELETONS[name]]
    stacked = [np.stack(column) for column in zip(*parts, strict=True)]
    return Skeletons(names, np.concatenate([[0], np.cumsum(counts)]), np.concatenate(share), *stacked)


Part = tuple[NDArray[np.complex128], F64, NDArray[np.intp], NDArray[np.bool_], F64, F64]


def _compile(text: str) -> Part:
    strokes = [_read(stroke) for stroke in text.split("/")]
    controls = np.concatenate([points for points, _ in strokes])
    if len(controls) > CONTROLS or len(strokes) > STROKES:
        raise ValueError(f"skeleton {text!r}: more than {CONTROLS} control points or {STROKES} strokes")
    curves = [_curve(len(points), corner) for points, corner in strokes]
    lengths = np.array([_lengths(w @ p)[-1] for w, (p, _) in zip(curves, strokes, strict=True)])
    share = _apportion(lengths)
    weights = np.zeros((POINTS, CONTROLS))
    stroke = np.repeat(np.arange(len(strokes)), share)
    along, row, column = np.zeros(POINTS), 0, 0
    for dense, (points, _), n in zip(curves, strokes, share, strict=True):
        weights[row : row + n, column : column + len(points)] = _resample(dense, points, n)
        along[row : row + n] = np.linspace(0, 1, n)
        row, column = row + n, column + len(points)
    padded = np.zeros(CONTROLS, np.complex128)
    padded[: len(controls)] = (controls - (controls.min(0) + controls.max(0)) / 2) @ [1, 1j]
    return padded, weights, stroke, np.diff(stroke) == 0, along, lengths[stroke]


def _read(stroke: str) -> tuple[F64, NDArray[np.bool_]]:
    """Control points (c, 2) of a stroke, and which of them are corners."""
    words = [point.strip() for point in stroke.split(",")]
    corner = np.array([word.endswith("*") for word in words])
    return np.array([[float(v) for v in word.rstrip("*").split()] for word in words]) / 100, corner


def _curve(count: int, corner: NDArray[np.bool_], steps: int = 24) -> F64:
    """Weights (n, count) of a dense polyline on the curve; corners end one smooth piece and begin the next.

    Catmull and Rom, "A class of local interpolating splines", 1974: tangents are half the chord of the
    neighbours, at the ends of a piece those of the parabola through its last three points.
    """
    ends = [0, *np.flatnonzero(corner[1:-1]) + 1, count - 1]
    eye = np.eye(count)
    rows = []
    for a, b in pairwise(ends):
        p = eye[a : b + 1]
        inner = (p[2:] - p[:-2]) / 2
        first = p[1] - p[0] if len(p) == 2 else 2 * (p[1] - p[0]) - inner[0]
        last = p[-1] - p[-2] if len(p) == 2 else 2 * (p[-1] - p[-2]) - inner[-1]
        tangent = np.concatenate([first[None], inner, last[None]])
        t = (np.arange(steps) / steps)[:, None]
        hermite = ((1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2, t * t * (3 - 2 * t), t * t * (t - 1))
        for i in range(len(p) - 1):
            rows.append(
                sum(h * v for h, v in zip(hermite, (p[i], tangent[i], p[i + 1], tangent[i + 1]), strict=True))
            )
    return np.concatenate([*rows, eye[-1:]])


def _lengths(points: F64) -> F64:
    """Arc length up to each point of a polyline."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def _apportion(lengths: F64) -> NDArray[np.intp]:
    """How many of the POINTS each stroke gets: 4 each, the rest by length (largest remainder)."""
    exact = (POINTS - 4 * len(lengths)) * lengths / lengths.sum()
    share = np.floor(exact).astype(np.intp)
    rest = POINTS - 4 * len(lengths) - share.sum()
    share[np.argsort(share - exact, kind="stable")[:rest]] += 1
    return share + 4


def _resample(dense: F64, points: F64, n: int) -> F64:
    """Weights (n, c) of n points equally spaced along the arc of a dense curve."""
    s = _lengths(dense @ points)
    at = np.linspace(0, s[-1], n)
    i = np.clip(np.searchsorted(s, at, side="right") - 1, 0, len(s) - 2)
    f = ((at - s[i]) / np.maximum(s[i + 1] - s[i], 1e-12))[:, None]
    return dense[i] * (1 - f) + dense[i + 1] * f
