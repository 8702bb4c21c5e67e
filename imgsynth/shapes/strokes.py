"""Handwriting: a glyph as ribbons of ink in the plane z = 0, from a skeleton and what a hand does to it.

Every deviation of the hand comes in as a parameter, so a glyph is a pure function of its row. In this order:

1. A skeleton of the glyph is picked by `style` (in proportion to its weight) and its control points are
   moved by `wobble`; each stroke as a whole by `shift` (strokes that do not quite meet).
2. The pen's path is bent by `warp`, widened by `aspect`, slanted, rotated; its ends run on by `overshoot`.
3. Ink: along the path, quads between consecutive points and octagons at them, of half-width `width` / 2 times
   the pressure: thinner towards the ends of a stroke by `taper`, waxing and waning by `pressure`.
4. The ink's box is centred and made `height` tall. What follows is the scanner's doing, and off by default:
   with `box_aspect` the box is stretched to that ratio of width to height; `equalize` thins glyphs with much
   ink and thickens those with little; `straighten` shears the glyph, about the middle of its box, until the
   leftmost ink near the top stands above the leftmost ink near the bottom. So does NIST's recognition system
   (Garris et al., "NIST form-based handprint recognition system", NISTIR 5469, 1994), which prepared the
   digits that scikit-learn ships: its settings are 20/32, 1 and 1.

Triangles overlap where ink does: one instance all the same. Where the pen is up they have no area, so that
all glyphs share one topology of 572 vertices and 382 triangles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F32, F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes.glyphs import CONTROLS, POINTS, STROKES, Skeletons, skeletons
from imgsynth.shapes.ink import C128, faces, fit, ribbon, straightened, unit
from imgsynth.shapes.params import columns, require, rows

WOBBLE = 32
WARPS = 8
FADE = 0.15  # overshoot moves the last of a stroke, fading over this share of the height
TAPER = 0.12  # e-folding length of the taper, share of the height
_CHUNK = 256  # glyphs worked on at a time: their arrays stay in the cache


def strokes(
    glyph: ArrayLike,
    style: ArrayLike = 0.5,
    height: ArrayLike = 1.0,
    width: ArrayLike = 0.1,
    aspect: ArrayLike = 1.0,
    slant_deg: ArrayLike = 0.0,
    rotation_deg: ArrayLike = 0.0,
    wobble: ArrayLike = 0.0,
    warp: ArrayLike = 0.0,
    shift: ArrayLike = 0.0,
    overshoot: ArrayLike = 0.0,
    taper: ArrayLike = 0.0,
    pressure: ArrayLike = 0.0,
    box_aspect: ArrayLike = 0.0,
    equalize: ArrayLike = 0.0,
    straighten: ArrayLike = 0.0,
) -> Meshes:
    """Handwritten glyphs in the plane z = 0, upright (+y up, +x right), seen from either side.

    Lengths other than `height` are shares of the glyph's height as its skeleton is drawn. A vector parameter
    may also be one number for all its components.

    Args:
        glyph: (m,) texts or whole numbers, "0" to "9".
        style: (m,) 0..1, picks one of the glyph's skeletons in proportion to their weights.
        height: (m,) metres from the lowest to the highest ink.
        width: (m,) of the pen.
        aspect: (m,) factor on the glyph's width.
        slant_deg: (m,) to the right, less than 80 either way.
        rotation_deg: (m,) counter-clockwise.
        wobble: (m, 32) displacements of the control points: x and y of the first, of the second, and so on,
            the 17th moving with the first again.
        warp: (m, 8) smooth bends; see `_bend`.
        shift: (m, 8) displacement (x, y) of each stroke.
        overshoot: (m, 2) how far strokes run on, straight, before their start and beyond their end (below 0:
            cut short).
        taper: (m,) 0..1, how much thinner the ends of strokes are.
        pressure: (m, 2) swelling of the pen, share of its width: sine and cosine of the way gone, one turn a
            height.
        box_aspect: (m,) ratio of width to height that the ink's box is stretched to, 0 = leave it as written.
        equalize: (m,) 0..1, how far the amount of ink is evened out; see `imgsynth.shapes.ink.fit`.
        straighten: (m,) 0..1, share of the remaining slant that is taken out.

    Returns:
        m meshes, counter-clockwise seen from +z, centred on the ink's box (as it is before `equalize` and
        `straighten`).

    Raises:
        SceneError: an unknown glyph, or a parameter out of its range.
    """
    catalogue = skeletons()
    given = {
        "glyph": _glyph_numbers(glyph, catalogue),
        "style": style,
        "height": height,
        "width": width,
        "aspect": aspect,
        "slant_deg": slant_deg,
        "rotation_deg": rotation_deg,
        "taper": taper,
        "box_aspect": box_aspect,
        "equalize": equalize,
        "straighten": straighten,
    }
    scalars = dict(zip(given, columns(**given), strict=True))
    _check(scalars)
    m = len(scalars["glyph"])
    vectors = {"wobble": wobble, "warp": warp, "shift": shift, "overshoot": overshoot, "pressure": pressure}
    values = scalars | {name: _vector(value, _WIDTHS[name], m, name) for name, value in vectors.items()}
    vertices = np.zeros((m, 12 * POINTS - 4, 3), np.float32)
    uv = np.zeros((m, 12 * POINTS - 4, 2), np.float32)
    for start in range(0, m, _CHUNK):
        part = slice(start, start + _CHUNK)
        ink = _write(catalogue, {name: value[part] for name, value in values.items()})
        for axis, along_axis in enumerate((ink.real, ink.imag)):
            vertices[part, :, axis] = along_axis
            uv[part, :, axis] = _box_share(along_axis)
    return _sheet(vertices, uv)


_WIDTHS = {"wobble": WOBBLE, "warp": WARPS, "shift": 2 * STROKES, "overshoot": 2, "pressure": 2}


def _write(catalogue: Skeletons, v: dict[str, F64]) -> C128:
    """(m, 12·POINTS - 4) corners of the ink of m glyphs."""
    which = _pick(catalogue, v["glyph"].astype(np.intp), v["style"])
    path = _path(catalogue, which, v["wobble"], v["shift"])
    path = _pose(_bend(path, v["warp"]), v["aspect"], v["slant_deg"], v["rotation_deg"])
    path = _run_on(path, catalogue, which, v["overshoot"])
    half = _half_width(catalogue, which, v["width"], v["taper"], v["pressure"])
    place, offset = ribbon(path, half, catalogue.ink[which])
    ink = fit(place, offset, v["height"], v["box_aspect"], v["equalize"])
    return straightened(ink, v["straighten"], v["height"])


def _check(v: dict[str, F64]) -> None:
    for name in ("style", "taper", "equalize", "straighten"):
        require((v[name] >= 0) & (v[name] <= 1), v[name], name, "0 to 1")
    for name in ("height", "width", "aspect"):
        require(v[name] > 0, v[name], name, "a number above 0")
    require(np.abs(v["slant_deg"]) < 80, v["slant_deg"], "slant_deg", "more than -80 and less than 80")
    require(v["box_aspect"] >= 0, v["box_aspect"], "box_aspect", "a ratio, or 0 (as written)")


def _glyph_numbers(glyph: ArrayLike, catalogue: Skeletons) -> NDArray[np.intp]:
    """Position of each glyph in the catalogue."""
    text = np.atleast_1d(np.asarray(glyph))
    if text.dtype.kind == "f" and (text == np.floor(text)).all():
        text = text.astype(np.int64)
    text = text.astype(str)
    names = np.array(catalogue.names)
    at = np.clip(np.searchsorted(names, text), 0, len(names) - 1)
    if (bad := names[at] != text).any():
        where = f"(mesh {int(np.argmax(bad))} of {len(text)})"
        raise SceneError(f"glyph: expected one of {', '.join(names)}, got {str(text[bad][0])!r} {where}")
    return at


def _vector(value: ArrayLike, width: int, m: int, name: str) -> F64:
    """(m, width) of a parameter given so, for all meshes (width,), or as one number for all."""
    array = np.asarray(value, np.float64)
    array = rows(np.full(width, array) if array.ndim == 0 else array, width, name)
    if len(array) not in (1, m):
        raise SceneError(f"{name}: expected parameters of one length, got {len(array)} for {m} meshes")
    return np.broadcast_to(array, (m, width))


def _pick(catalogue: Skeletons, number: NDArray[np.intp], style: F64) -> NDArray[np.intp]:
    """(m,) skeleton of each glyph: its first whose cumulative weight is above `style`, or its last."""
    every = np.arange(len(catalogue.upto))
    mine = (every >= catalogue.first[number][:, None]) & (every < catalogue.first[number + 1][:, None] - 1)
    return catalogue.first[number] + (mine & (style[:, None] >= catalogue.upto)).sum(1)


def _path(catalogue: Skeletons, which: NDArray[np.intp], wobble: F64, shift: F64) -> C128:
    """(m, POINTS) the pen's way.

    Summed control by control: a fixed order of additions, so that a glyph has the same bits in any batch.
    """
    moves = wobble[:, 0::2] + 1j * wobble[:, 1::2]
    weights = catalogue.weights
    path = np.take_along_axis(shift[:, 0::2] + 1j * shift[:, 1::2], catalogue.stroke[which], 1)
    for c in range(CONTROLS):
        control = catalogue.controls[which, c] + moves[:, c % (WOBBLE // 2)]
        path = path + weights[which, :, c] * control[:, None]
    return path


def _bend(path: C128, warp: F64) -> C128:
    """Smooth displacement. With X = x / 0.3 and Y = y / 0.5, about -1 to 1 over the glyph:

    x gains w0·(1 - Y²) + w1·X·Y + w2·sin(πY) + w3·X²: bow, heavy head, S, uneven sides;
    y gains w4·(1 - Y²) + w5·X + w6·X² + w7·X·Y: the waist's height, rising lines, arch, fanning lines.
    """
    x, y = path.real / 0.3, path.imag / 0.5
    w = [warp[:, k, None] for k in range(WARPS)]
    belly, square, both = 1 - y * y, x * x, x * y
    dx = w[0] * belly + w[1] * both + w[2] * np.sin(np.pi * y) + w[3] * square
    dy = w[4] * belly + w[5] * x + w[6] * square + w[7] * both
    return path + dx + 1j * dy


def _pose(path: C128, wide: F64, slant: F64, turn: F64) -> C128:
    """Widened, then slanted, then rotated about the middle of the skeleton."""
    x = path.real * wide[:, None] + path.imag * np.tan(np.radians(slant))[:, None]
    return (x + 1j * path.imag) * np.exp(1j * np.radians(turn))[:, None]


def _run_on(path: C128, catalogue: Skeletons, which: NDArray[np.intp], overshoot: F64) -> C128:
    """Strokes drawn out (or in) at their ends, along their direction there."""
    along, reach = catalogue.along[which], catalogue.reach[which]
    way = np.where(catalogue.ink[which], unit(np.diff(path)), 0)
    nothing = np.zeros_like(way[:, :1])
    leaving, arriving = np.concatenate([way, nothing], 1), np.concatenate([nothing, way], 1)
    start = overshoot[:, :1] * np.maximum(1 - along * reach / FADE, 0)
    end = overshoot[:, 1:] * np.maximum(1 - (1 - along) * reach / FADE, 0)
    return path - start * leaving + end * arriving


def _half_width(catalogue: Skeletons, which: NDArray[np.intp], pen: F64, thin: F64, pressure: F64) -> F64:
    """(m, POINTS) half the breadth of the ink."""
    along, reach = catalogue.along[which], catalogue.reach[which]
    to_end = np.minimum(along, 1 - along) * reach
    phase = 2 * np.pi * (along * reach + 0.37 * catalogue.stroke[which])  # each stroke begins elsewhere
    swell = 1 + pressure[:, :1] * np.sin(phase) + pressure[:, 1:] * np.cos(phase)
    return pen[:, None] / 2 * np.maximum(swell, 0.2) * (1 - thin[:, None] * np.exp(-to_end / TAPER))


def _box_share(value: F64) -> F64:
    """(m, v) where coordinates stand between the least and the greatest of each glyph, 0..1."""
    value = np.ascontiguousarray(value)
    low, top = value.min(1, keepdims=True), value.max(1, keepdims=True)
    return (value - low) / np.maximum(top - low, 1e-12)


def _sheet(vertices: F32, uv: F32) -> Meshes:
    normals = np.broadcast_to(np.array([0, 0, 1], np.float32), vertices.shape)
    triangles = faces(POINTS)
    named = {"front": (0, 0, 1), "back": (0, 0, -1), "up": (0, 1, 0)}
    directions = {name: np.array(d, np.float32) for name, d in named.items()}
    slots = np.zeros(len(triangles), np.int32)
    return Meshes(vertices, normals, uv, triangles, slots, two_sided=True, directions=directions)
