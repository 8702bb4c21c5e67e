"""Handwriting: a glyph as ribbons of ink in the plane z = 0, from a skeleton and what a hand does to it.

Every deviation of the hand comes in as a parameter, so a glyph is a pure function of its row. In this order:

1. A skeleton of the glyph is picked by `style` (in proportion to its weight) and its control points are moved
   by `wobble`; each stroke as a whole by `shift` (strokes that do not quite meet).
2. The pen's path is bent by `warp`, widened by `aspect`, slanted, rotated; its ends run on by `overshoot`.
3. Ink: along the path, quads between consecutive points and octagons at them, of half-width `width` / 2 times
   the pressure: thinner towards the ends of a stroke by `taper`, waxing and waning by `pressure`.
4. The ink's bounding box is centred and made `height` tall. With `box_aspect` it is also stretched to that width
   to height ratio, as size-normalizing scanners do; `straighten` then shears it until the leftmost ink near
   the top stands above the leftmost ink near the bottom (as NIST's form-based recognition system does,
   Garris et al., NISTIR 5469, 1994), about the middle of the box, which stays at the origin.

Triangles overlap where ink does: one instance all the same. Strokes a skeleton does not have are triangles of
no area, so that all glyphs share one topology: 382 triangles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes.glyphs import CONTROLS, POINTS, STROKES, Skeletons, skeletons
from imgsynth.shapes.params import columns, require, rows

SIDES = 8
WOBBLE = 32
WARPS = 8
MUCH = (
    412 / 1024,
    560 / 1024,
)  # of height²: above the first, ink is thinned by a step; above the second, by two
LITTLE = (256 / 1024, 108 / 1024)  # below the first, ink is thickened by a step; below the second, by two
EDGE = 0.08  # where `straighten` looks for the leftmost ink: this share of the height from the top and bottom


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

    Lengths other than `height` are shares of the glyph's height as its skeleton is drawn.

    Args:
        glyph: (m,) texts or whole numbers, "0" to "9".
        style: (m,) 0..1, picks one of the glyph's skeletons in proportion to their weights.
        height: (m,) metres from the lowest to the highest ink.
        width: (m,) of the pen.
        aspect: (m,) factor on the glyph's width.
        slant_deg: (m,) to the right, less than 80 either way.
        rotation_deg: (m,) counter-clockwise.
        wobble: (m, 32) displacements of the control points: x and y of the first, of the second, …, from the 17th on again.
        warp: (m, 8) smooth bends; see `_bend`.
        shift: (m, 8) displacement (x, y) of each stroke.
        overshoot: (m, 2) how far strokes run on, straight, before their start and beyond their end (below 0: cut short).
        taper: (m,) 0..1, how much thinner the ends of strokes are.
        pressure: (m, 2) swelling of the pen, share of its width: sine and cosine of the way gone (one turn a height).
        box_aspect: (m,) width to height the ink's box is stretched to, 0 = leave it as written.
        equalize: (m,) 0..1: thins glyphs with much ink and thickens those with little, in steps of this many 32nds of
            the height on each side.
        straighten: (m,) 0..1, share of the slant that is taken out after that.

    Returns:
        (m) meshes of 572 vertices and 382 triangles in z = 0, counter-clockwise seen from +z.

    Raises:
        SceneError: an unknown glyph, or a parameter out of its range.
    """
    catalogue = skeletons()
    scalars = columns(
        style=style, height=height, width=width, aspect=aspect, slant_deg=slant_deg, rotation_deg=rotation_deg,
        taper=taper, box_aspect=box_aspect, equalize=equalize, straighten=straighten, glyph=_glyph_numbers(glyph, catalogue),
    )  # fmt: skip
    pick, high, pen, wide, slant, turn, thin, box, equal, straight, number = scalars
    _check(pick, high, pen, wide, slant, thin, box, equal, straight)
    m = len(pick)
    vectors = {"wobble": (wobble, WOBBLE), "warp": (warp, WARPS), "shift": (shift, 2 * STROKES)}
    moved = {name: _vector(value, k, m, name) for name, (value, k) in vectors.items()}
    which = _pick(catalogue, number.astype(np.intp), pick)
    path = _path(catalogue, which, moved["wobble"], moved["shift"])
    path = _pose(_bend(path, moved["warp"]), wide, slant, turn)
    path = _run_on(path, catalogue, which, _vector(overshoot, 2, m, "overshoot"))
    half = _half_width(catalogue, which, pen, thin, _vector(pressure, 2, m, "pressure"))
    ink = _fit(*_ink(path, half, catalogue.ink[which]), high, box, equal)
    return _sheet(_straighten(ink, straight, high))


def _check(
    pick: F64, high: F64, pen: F64, wide: F64, slant: F64, thin: F64, box: F64, equal: F64, straight: F64
) -> None:
    for name, value in {"style": pick, "taper": thin, "equalize": equal, "straighten": straight}.items():
        require((value >= 0) & (value <= 1), value, name, "0 to 1")
    for name, value in {"height": high, "width": pen, "aspect": wide}.items():
        require(value > 0, value, name, "a number above 0")
    require(np.abs(slant) < 80, slant, "slant_deg", "-80 to 80")
    require(box >= 0, box, "box_aspect", "a ratio of 0 (as written) or more")


def _glyph_numbers(glyph: ArrayLike, catalogue: Skeletons) -> NDArray[np.intp]:
    """Position of each glyph in the catalogue."""
    text = np.atleast_1d(np.asarray(glyph))
    if text.dtype.kind == "f" and (text == np.floor(text)).all():
        text = text.astype(np.int64)
    text = text.astype(str)
    names = np.array(catalogue.names)
    at = np.clip(np.searchsorted(names, text), 0, len(names) - 1)
    if (bad := names[at] != text).any():
        expected = f"{names[0]} to {names[-1]}"
        raise SceneError(
            f"glyph: expected {expected}, got {text[bad][0]!r} (mesh {int(np.argmax(bad))} of {len(text)})"
        )
    return at


def _vector(value: ArrayLike, width: int, m: int, name: str) -> F64:
    """(m, width) of a parameter given so, for all meshes (width,), or as one number for all."""
    array = np.asarray(value, np.float64)
    return np.broadcast_to(rows(np.full(width, array) if array.ndim == 0 else array, width, name), (m, width))


def _pick(catalogue: Skeletons, number: NDArray[np.intp], style: F64) -> NDArray[np.intp]:
    """(m,) skeleton of each glyph."""
    before = np.arange(len(catalogue.upto)) < catalogue.first[number + 1][:, None] - 1
    passed = before & (np.arange(len(catalogue.upto)) >= catalogue.first[number][:, None])
    return catalogue.first[number] + (passed & (style[:, None] >= catalogue.upto)).sum(1)


def _path(catalogue: Skeletons, which: NDArray[np.intp], wobble: F64, shift: F64) -> F64:
    """(m, POINTS, 2) the pen's way."""
    slot = np.arange(CONTROLS)[:, None] * 2 % WOBBLE + np.arange(2)
    moved = catalogue.controls[which] + wobble[:, slot]
    stroke = 2 * catalogue.stroke[which]
    apart = np.stack([np.take_along_axis(shift, stroke + axis, 1) for axis in (0, 1)], -1)
    return catalogue.weights[which] @ moved + apart


def _bend(path: F64, warp: F64) -> F64:
    """Smooth displacement. With X = x / 0.3 and Y = y / 0.5, about -1 to 1 over the glyph:

    x gains w0·(1 - Y²) + w1·X·Y + w2·sin(πY) + w3·X²: bow, heavy head, S, uneven sides;
    y gains w4·(1 - Y²) + w5·X + w6·X² + w7·X·Y: the waist's height, rising lines, arch, fanning lines.
    """
    x, y = path[..., 0] / 0.3, path[..., 1] / 0.5
    w = warp[:, :, None]
    dx = w[:, 0] * (1 - y * y) + w[:, 1] * x * y + w[:, 2] * np.sin(np.pi * y) + w[:, 3] * x * x
    dy = w[:, 4] * (1 - y * y) + w[:, 5] * x + w[:, 6] * x * x + w[:, 7] * x * y
    return path + np.stack([dx, dy], -1)


def _pose(path: F64, wide: F64, slant: F64, turn: F64) -> F64:
    """Widened, then slanted, then rotated about the middle of the skeleton."""
    x = path[..., 0] * wide[:, None] + path[..., 1] * np.tan(np.radians(slant))[:, None]
    c, s = np.cos(np.radians(turn))[:, None], np.sin(np.radians(turn))[:, None]
    return np.stack([c * x - s * path[..., 1], s * x + c * path[..., 1]], -1)


def _run_on(path: F64, catalogue: Skeletons, which: NDArray[np.intp], overshoot: F64) -> F64:
    """Strokes drawn out (or in) at their ends; the displacement fades over the last 0.15 heights."""
    along, reach, ink = catalogue.along[which], catalogue.reach[which], catalogue.ink[which]
    step = np.diff(path, axis=1)
    step = np.where(
        ink[..., None], step / np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-9), 0.0
    )
    nothing = np.zeros_like(step[:, :1])
    leaving, arriving = np.concatenate([step, nothing], 1), np.concatenate([nothing, step], 1)
    fade = 0.15
    start = overshoot[:, :1] * np.maximum(1 - along * reach / fade, 0)
    end = overshoot[:, 1:] * np.maximum(1 - (1 - along) * reach / fade, 0)
    return path - start[..., None] * leaving + end[..., None] * arriving


def _half_width(catalogue: Skeletons, which: NDArray[np.intp], pen: F64, thin: F64, pressure: F64) -> F64:
    """(m, POINTS) half the breadth of the ink."""
    along, reach = catalogue.along[which], catalogue.reach[which]
    to_end = np.minimum(along, 1 - along) * reach
    phase = 2 * np.pi * (along * reach + 0.37 * catalogue.stroke[which])
    swell = 1 + pressure[:, :1] * np.sin(phase) + pressure[:, 1:] * np.cos(phase)
    return pen[:, None] / 2 * np.maximum(swell, 0.2) * (1 - thin[:, None] * np.exp(-to_end / 0.12))


def _ink(path: F64, half: F64, down: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Corners of the quads, then of the octagons: their places on the path and their offsets from it.

    Both (m, 4·(POINTS - 1) + SIDES·POINTS, 2).
    """
    m = len(path)
    step = np.diff(path, axis=1)
    side = step / np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-12)
    side = np.stack([-side[..., 1], side[..., 0]], -1) * down[..., None]  # to the left of the way
    a, b = path[:, :-1], np.where(down[..., None], path[:, 1:], path[:, :-1])
    ra, rb = side * half[:, :-1, None], side * half[:, 1:, None]
    angle = 2 * np.pi * (np.arange(SIDES) + 0.5) / SIDES
    around = half[:, :, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    places = [np.stack([a, b, b, a], 2).reshape(m, -1, 2), np.repeat(path, SIDES, axis=1)]
    offsets = [np.stack([-ra, -rb, rb, ra], 2).reshape(m, -1, 2), around.reshape(m, -1, 2)]
    return np.concatenate(places, 1), np.concatenate(offsets, 1)


def _faces() -> NDArray[np.int32]:
    quads = np.arange(POINTS - 1)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])
    i = np.arange(1, SIDES - 1)
    fan = np.stack([np.zeros_like(i), i, i + 1], -1)
    octagons = 4 * (POINTS - 1) + np.arange(POINTS)[:, None, None] * SIDES + fan
    return np.concatenate([quads.reshape(-1, 3), octagons.reshape(-1, 3)]).astype(np.int32)


def _fit(place: F64, offset: F64, high: F64, box: F64, equal: F64) -> F64:
    """Centred, `high` tall, and `box` × `high` wide where that is not 0; then thinned or thickened."""
    low, top = (place + offset).min(1), (place + offset).max(1)
    gain = high / (top[:, 1] - low[:, 1])
    wide = np.where(box > 0, box * high / (top[:, 0] - low[:, 0]), gain)
    scale = np.stack([wide, gain], -1)[:, None]
    place, offset = (place - (low + top)[:, None] / 2) * scale, offset * scale
    return place + (_equalize(place, offset, scale, high, equal) if equal.any() else offset)


def _equalize(place: F64, offset: F64, scale: F64, high: F64, equal: F64) -> F64:
    """Offsets whose ink is thinner all round where there is much of it, thicker where there is little."""
    cut = 4 * (POINTS - 1)
    quad = offset[:, :cut].reshape(len(offset), -1, 4, 2)
    way = np.diff(place[:, :cut].reshape(len(offset), -1, 4, 2)[:, :, :2], axis=2)
    length = np.linalg.norm(way, axis=-1)
    depth = np.abs(way[..., 0] * quad[..., 1] - way[..., 1] * quad[..., 0]) / np.maximum(length, 1e-12)
    area = (length[..., 0] * (depth[..., 0] + depth[..., 1])).sum(1) / high**2
    steps = np.select([area > MUCH[1], area > MUCH[0], area < LITTLE[1], area < LITTLE[0]], [-2, -1, 2, 1], 0)
    grow = steps * equal * high / 32
    floor = 0.1  # of its breadth is what ink keeps at least
    factor = np.maximum(1 + grow[:, None, None] / np.maximum(depth, 1e-9), floor)
    disc = offset[:, cut:]
    normal = disc / scale**2
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    reach = np.maximum((normal * disc).sum(-1, keepdims=True), 1e-9)
    moved = np.where(
        reach + grow[:, None, None] < floor * reach, floor * disc, disc + normal * grow[:, None, None]
    )
    return np.concatenate([(quad * factor[..., None]).reshape(len(offset), -1, 2), moved], 1)


def _straighten(ink: F64, share: F64, high: F64) -> F64:
    """Sheared about y = 0 by `share` of what puts the leftmost ink near the bottom under that near the top."""
    if not share.any():
        return ink
    level = (0.5 - EDGE) * high
    lean = (_leftmost(ink, level) - _leftmost(ink, -level)) / (2 * level)
    return np.stack([ink[..., 0] - (share * lean)[:, None] * ink[..., 1], ink[..., 1]], -1)


def _leftmost(ink: F64, level: F64) -> F64:
    """(m,) least x at which the outline of a quad or octagon crosses y = `level`."""
    cut = 4 * (POINTS - 1)
    least = np.full(len(ink), np.inf)
    for part, sides in ((ink[:, :cut], 4), (ink[:, cut:], SIDES)):
        shape = part.reshape(len(ink), -1, sides, 2)
        a, b = shape, np.roll(shape, -1, axis=2)
        y = level[:, None, None]
        crosses = (a[..., 1] <= y) != (b[..., 1] <= y)
        rise = np.where(crosses, b[..., 1] - a[..., 1], 1.0)
        x = a[..., 0] + (b[..., 0] - a[..., 0]) * (y - a[..., 1]) / rise
        least = np.minimum(least, np.where(crosses, x, np.inf).min((1, 2)))
    return np.where(np.isfinite(least), least, 0.0)


def _sheet(ink: F64) -> Meshes:
    vertices = np.concatenate([ink, np.zeros((*ink.shape[:2], 1))], -1).astype(np.float32)
    normals = np.broadcast_to(np.array([0, 0, 1], np.float32), vertices.shape)
    low, top = ink.min(1, keepdims=True), ink.max(1, keepdims=True)
    uv = ((ink - low) / np.maximum(top - low, 1e-12)).astype(np.float32)
    faces = _faces()
    directions = {"front": (0.0, 0.0, 1.0), "back": (0.0, 0.0, -1.0), "up": (0.0, 1.0, 0.0)}
    return Meshes(
        vertices, normals, uv, faces, np.zeros(len(faces), np.int32), two_sided=True, directions=directions
    )
