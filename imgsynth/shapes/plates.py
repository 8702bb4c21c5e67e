"""Flat things: quads, discs, and polygon plates with or without thickness (signs, cards, tiles)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes.lathe import circle
from imgsynth.shapes.params import at_least, columns, common_length, require


def _facing() -> dict[str, NDArray[np.float32]]:
    return {
        "front": np.array([0, 0, 1], np.float32),
        "back": np.array([0, 0, -1], np.float32),
        "up": np.array([0, 1, 0], np.float32),
    }


def _sheet(
    vertices: F64, uv: F64, faces: NDArray[np.int64], two_sided: bool, keypoints: dict[str, F64]
) -> Meshes:
    """A flat mesh in the plane z = 0 facing +z, from (m, v, 2); keypoints (m, 2)."""
    m, v, _ = vertices.shape
    flat = np.concatenate([vertices, np.zeros((m, v, 1))], -1).astype(np.float32)
    normals = np.broadcast_to(np.array([0, 0, 1], np.float32), flat.shape)
    slots = np.zeros(len(faces), np.int32)
    return Meshes(
        flat,
        normals,
        uv.astype(np.float32),
        faces.astype(np.int32),
        slots,
        two_sided=two_sided,
        directions=_facing(),
        keypoints={k: np.pad(v, ((0, 0), (0, 1))).astype(np.float32) for k, v in keypoints.items()},
    )


def quad(width: ArrayLike, height: ArrayLike, *, two_sided: bool = True) -> Meshes:
    """Rectangles in the xy-plane facing +z, `width` (m,) along x, `height` (m,) along y; uv 0..1, v up. 2
    triangles.
    """
    width, height = columns(width=width, height=height)
    require(width > 0, width, "width", "a length above 0")
    require(height > 0, height, "height", "a length above 0")
    unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = unit * np.stack([width, height], -1)[:, None]
    return _sheet(
        corners,
        unit + 0.5,
        np.array([[0, 1, 2], [0, 2, 3]]),
        two_sided,
        dict(zip(_QUAD_CORNERS, np.moveaxis(corners, 1, 0), strict=True)),
    )


_QUAD_CORNERS = ("bottom_left", "bottom_right", "top_right", "top_left")


def disc(radius: ArrayLike, *, segments: int = 64, two_sided: bool = True) -> Meshes:
    """Discs in the xy-plane facing +z; uv spans the bounding square. `segments` triangles.

    Vertices lie on the circle: the area is sin(2π/s)/(2π/s) of πr² (0.16 % short at 64).
    """
    (radius,) = columns(radius=radius)
    require(radius > 0, radius, "radius", "a length above 0")
    s = at_least(segments, 3)
    cos, sin = (np.append(x[:-1], 0.0) for x in circle(s))
    unit = np.stack([cos, sin], -1)
    i = np.arange(s)
    faces = np.stack([np.full(s, s), i, (i + 1) % s], -1)
    center = {"center": np.zeros((len(radius), 2))}
    return _sheet(unit * radius[:, None, None], unit / 2 + 0.5, faces, two_sided, center)


def plate(outline: ArrayLike, thickness: ArrayLike | None = None, *, two_sided: bool = True) -> Meshes:
    """Plates with the outline of a simple polygon, concave ones too: (p, 2) for all meshes or (m, p, 2),
    metres.

    With `thickness` (m,) a closed prism from its front at z = 0 down to -thickness (0 = two faces back
    to back), with slots "main" (front), "back" and "side"; without, a sheet in z = 0. The uv is xy over the
    bounding box, on the back mirrored so that it reads upright from behind, on the side the share of the way
    round and 0..1 from back to front. Outlines may run either way; they are turned counter-clockwise.
    Keypoints: the front's corners "corner_0" … in the order of the outline as given.

    Raises:
        SceneError: an outline that crosses itself, has no area or fewer than 3 points, or outlines of one
            batch so different that no single triangulation fits them all.
    """
    points = _outlines(outline)
    keypoints = _corners(outline, points)
    triangles = triangulate(points[0])
    _check_fits(points, triangles)
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    uv = (points - low) / (high - low)
    if thickness is None:
        return _sheet(points, uv, triangles, two_sided, keypoints)
    (thick,) = columns(thickness=thickness)
    require(thick >= 0, thick, "thickness", "a length of 0 or more")
    m = common_length({"outline": len(points), "thickness": len(thick)})
    points, uv = np.broadcast_to(points, (m, *points.shape[1:])), np.broadcast_to(uv, (m, *uv.shape[1:]))
    return _prism(points, uv, np.broadcast_to(thick, (m,)), triangles, keypoints)


def _corners(outline: ArrayLike, points: F64) -> dict[str, F64]:
    """(m, 2) of each corner, named by its place in the outline as given, which `points` may have turned."""
    given = np.asarray(outline, np.float64).reshape(-1, *points.shape[1:])
    order = range(points.shape[1])
    if not np.array_equal(given, points):
        order = order[::-1]
    return {f"corner_{k}": points[:, i] for k, i in enumerate(order)}


def _prism(
    points: F64, uv: F64, thick: F64, triangles: NDArray[np.int64], keypoints: dict[str, F64]
) -> Meshes:
    m, p, _ = points.shape
    depth = np.broadcast_to(-thick[:, None, None], (m, p, 1))
    front, back = np.concatenate([points, 0 * depth], -1), np.concatenate([points, depth], -1)
    following = np.roll(np.arange(p), -1)
    edge = points[:, following] - points
    length = np.linalg.norm(edge, axis=-1)
    outward = np.stack([edge[..., 1], -edge[..., 0], 0 * length], -1) / length[..., None]
    walk = np.concatenate([np.zeros((m, 1)), np.cumsum(length, 1)], 1)
    walk /= walk[:, -1:]
    # Each wall owns its 4 vertices: back, next back, next front, front.
    wall = np.stack([back, back[:, following], front[:, following], front], 2).reshape(m, 4 * p, 3)
    wall_u = np.stack([walk[:, :-1], walk[:, 1:], walk[:, 1:], walk[:, :-1]], 2).reshape(m, 4 * p)
    wall_uv = np.stack([wall_u, np.broadcast_to(np.tile([0.0, 0.0, 1.0, 1.0], p), wall_u.shape)], -1)
    wall_faces = (np.arange(p)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), front.shape)
    t = len(triangles)
    return Meshes(
        vertices=np.concatenate([front, back, wall], 1).astype(np.float32),
        normals=np.concatenate([up, -up, np.repeat(outward, 4, 1)], 1).astype(np.float32),
        uv=np.concatenate([uv, uv * [-1, 1] + [1, 0], wall_uv], 1).astype(np.float32),
        faces=np.concatenate([triangles, triangles[:, ::-1] + p, wall_faces + 2 * p]).astype(np.int32),
        slots=np.repeat(np.arange(3, dtype=np.int32), [t, t, 2 * p]),
        slot_names=("main", "back", "side"),
        directions=_facing(),
        keypoints={
            name: np.broadcast_to(np.pad(p, ((0, 0), (0, 1))), (m, 3)).astype(np.float32)
            for name, p in keypoints.items()
        },
    )


def _outlines(outline: ArrayLike) -> F64:
    points = np.asarray(outline, np.float64)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1] < 3 or points.shape[2] != 2 or not np.isfinite(points).all():
        raise SceneError(
            f"outline: expected 3 or more finite points (p, 2) or (m, p, 2), got shape {points.shape}"
        )
    repeated = (points == np.roll(points, -1, axis=1)).all(-1).any(1)
    area = signed_area(points)
    require(~repeated, area, "outline", "no point twice in a row; area")
    require(np.abs(area) > 1e-12 * np.ptp(points, axis=1).max(1) ** 2, area, "outline", "an area above 0")
    if len(set(np.sign(area))) > 1:
        raise SceneError("outline: expected all outlines of a batch to run the same way round")
    return points[:, ::-1] if area[0] < 0 else points


def signed_area(points: F64) -> F64:
    """Signed area (shoelace formula) of polygons (..., p, 2), positive where they run counter-clockwise."""
    following = np.roll(points, -1, axis=-2)
    cross = points[..., 0] * following[..., 1] - points[..., 1] * following[..., 0]
    return np.asarray(cross.sum(-1) / 2)


def _check_fits(points: F64, triangles: NDArray[np.int64]) -> None:
    """No triangle upside down and their areas summing to the outline's: then the triangulation covers it
    once.
    """
    area = signed_area(points[:, triangles])  # (m, t)
    whole = signed_area(points)
    fits = (area > -1e-12 * whole[:, None]).all(1) & np.isclose(area.sum(1), whole, rtol=1e-9, atol=0)
    require(fits, whole, "outline", "a simple polygon that the first outline's triangulation fits; area")


def triangulate(points: F64) -> NDArray[np.int64]:
    """Ear clipping of one counter-clockwise simple polygon (p, 2) into p - 2 triangles (p - 2, 3).

    Of the ears at hand the fattest goes first, so slivers stay few. O(p³), meant for outlines of tens of
    points.

    Raises:
        SceneError: the polygon crosses itself or repeats a point.
    """
    ring = list(range(len(points)))
    triangles: list[tuple[int, int, int]] = []
    while len(ring) > 3:
        before, here, after = (np.roll(ring, k) for k in (1, 0, -1))
        fatness = _fatness(points[before], points[here], points[after])
        for k in np.argsort(-fatness, kind="stable"):
            corner = (before[k], here[k], after[k])
            others = points[[i for i in ring if i not in corner]]
            if fatness[k] > 0 and not _inside(others, *points[list(corner)]).any():
                triangles.append(corner)
                del ring[k]
                break
        else:
            raise SceneError(
                f"outline: expected a simple polygon, but it crosses or touches itself near {points[ring[0]]}"
            )
    return np.array([*triangles, ring], np.int64)


def _cross(a: F64, b: F64) -> F64:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _fatness(a: F64, b: F64, c: F64) -> F64:
    """Twice the signed area over the squared longest side."""
    longest = np.maximum.reduce([((p - q) ** 2).sum(-1) for p, q in ((a, b), (b, c), (c, a))])
    return np.where(longest > 0, _cross(b - a, c - a) / np.maximum(longest, 1e-300), 0)


def _inside(points: F64, a: F64, b: F64, c: F64) -> NDArray[np.bool_]:
    """Which points lie in the counter-clockwise triangle abc or on its border."""
    sides = [_cross(q - p, points - p) >= 0 for p, q in ((a, b), (b, c), (c, a))]
    return np.logical_and.reduce(sides)


def round_corners(outline: ArrayLike, radius: float, *, segments: int = 6) -> F64:
    """An outline (p, 2) with each corner replaced by an arc of `radius` in `segments` steps: (p·(segments +
    1), 2).

    Raises:
        SceneError: a radius whose arcs would overlap on an edge.
    """
    points = _outlines(outline)[0]
    into, out = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    length = np.linalg.norm(out, axis=1)
    into, out = into / np.roll(length, 1)[:, None], out / length[:, None]
    turn = np.arctan2(_cross(into, out), (into * out).sum(1))
    setback = radius * np.abs(np.tan(turn / 2))
    room = np.min(length - setback - np.roll(setback, -1))
    if not (radius > 0 and room >= -1e-12):
        raise SceneError(f"radius: expected above 0 and arcs that fit the edges, got {radius:g}")
    sign = np.where(turn >= 0, 1.0, -1.0)
    normal = np.stack([-into[:, 1], into[:, 0]], 1) * sign[:, None]
    start = points - into * setback[:, None]
    angle = turn[:, None] * np.linspace(0, 1, at_least(segments, 1) + 1)
    swept = into[:, None] * np.sin(np.abs(angle))[..., None] - normal[:, None] * np.cos(angle)[..., None]
    return np.asarray((start + radius * normal)[:, None] + radius * swept).reshape(-1, 2)


def regular_outline(sides: int, radius: float = 0.5, *, phase_deg: float = 90.0) -> F64:
    """Corners (sides, 2) of a regular polygon of circumradius `radius`, the first at `phase_deg` from +x."""
    angle = np.radians(phase_deg) + 2 * np.pi * np.arange(at_least(sides, 3, "sides")) / sides
    return radius * np.stack([np.cos(angle), np.sin(angle)], -1)


def rectangle_outline(width: float, height: float) -> F64:
    """Corners (4, 2) of a centred rectangle, counter-clockwise."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([width, height]) / 2
