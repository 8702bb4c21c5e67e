"""Closed solids: boxes and rounded boxes here, and what a lathe makes (sphere, cylinder, cone, capsule)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from imgsynth.batch import F32, F64, I32, Meshes
from imgsynth.shapes.grid import grid_faces
from imgsynth.shapes.lathe import capsule, cone, cylinder, sphere
from imgsynth.shapes.params import at_least, columns, common_length, require, rows

__all__ = [
    "CORNERS",
    "SIDES",
    "box",
    "capsule",
    "cone",
    "corner_keypoints",
    "cylinder",
    "rounded_box",
    "side_directions",
    "sphere",
]

# A side's own axes (right, up, outward) as seen from outside, right × up = outward; textures stand upright
# on the walls.
SIDES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "right": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "left": ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    "back": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "front": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "top": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "bottom": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
}


def side_directions() -> dict[str, F32]:
    """Outward unit directions of a box's six sides by name."""
    return {name: np.array(axes[2], np.float32) for name, axes in SIDES.items()}


# A box's corners by the sides that meet there, as signs of (x, y, z): "left_front_bottom" and so on.
CORNERS: dict[str, tuple[int, int, int]] = {
    f"{'right' if x > 0 else 'left'}_{'back' if y > 0 else 'front'}_{'top' if z > 0 else 'bottom'}": (x, y, z)
    for z in (-1, 1)
    for y in (-1, 1)
    for x in (-1, 1)
}


def corner_keypoints(half: F64) -> dict[str, F32]:
    """The eight corners, (m, 3) each, of boxes of half sizes (m, 3)."""
    return {name: (half * np.array(sign)).astype(np.float32) for name, sign in CORNERS.items()}


def box(size: ArrayLike) -> Meshes:
    """Boxes of `size` (m, 3) metres with flat normals; each side has uv 0..1, upright. 12 triangles."""
    size = rows(size, 3, "size")
    require((size > 0).all(1), size, "size", "lengths above 0")
    axes = np.array(list(SIDES.values()), np.float64)  # (6, right|up|outward, 3)
    corner = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)
    unit = np.einsum("ck,skd->scd", corner, axes).reshape(24, 3)
    normals = np.repeat(axes[:, 2], 4, axis=0)
    uv = np.tile((corner[:, :2] + 1) / 2, (6, 1))
    faces = (np.arange(6)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])).reshape(12, 3)
    vertices = (unit * (size[:, None] / 2)).astype(np.float32)
    return Meshes(
        vertices=vertices,
        normals=np.broadcast_to(normals.astype(np.float32), vertices.shape),
        uv=uv.astype(np.float32),
        faces=faces.astype(np.int32),
        slots=np.zeros(12, np.int32),
        directions=side_directions(),
        keypoints=corner_keypoints(size / 2),
    )


def bevel_angles(segments: int) -> tuple[F64, F64]:
    """(sign, tangent) along one axis of a side: half of each bevel, as the side meets its neighbours at 45°.

    Tangents of equally spaced angles, so that a quarter cylinder has equal facets; exactly 1 at the seam.
    """
    half = at_least(segments, 2) // 2
    rise = np.tan(np.linspace(0, np.pi / 4, half + 1))
    rise[-1] = 1.0
    return np.repeat([-1.0, 1.0], half + 1), np.concatenate([-rise[::-1], rise])


def unit_normals(across: F64, up: F64) -> F64:
    """Normals (across, up, 1) / length over a grid, (k, l, 3).

    Squares are summed in order of size: neighbouring sides see the same vector with its axes permuted, and
    must get the same bits, else the seam cracks.
    """
    u, v = np.meshgrid(across, up)
    normal = np.stack([u, v, np.ones_like(u)], -1)
    squares = np.sort(normal**2, axis=-1)
    return normal / np.sqrt((squares[..., 0] + squares[..., 1]) + squares[..., 2])[..., None]


@lru_cache(maxsize=8)
def _rounded_template(segments: int) -> tuple[F64, F64, I32, F64]:
    """(sign (v, 3), normal (v, 3), faces, axes (6, 3, 3)) of a rounded box with v = 6·k² vertices."""
    sign, rise = bevel_angles(segments)
    k = len(sign)
    su, sv = np.meshgrid(sign, sign)
    local_sign = np.stack([su, sv, np.ones_like(su)], -1).reshape(-1, 3)
    local_normal = unit_normals(rise, rise).reshape(-1, 3)
    axes = np.array(list(SIDES.values()), np.float64)
    faces = (np.arange(6)[:, None, None] * k * k + grid_faces(k, k)).reshape(-1, 3).astype(np.int32)
    turned = [np.einsum("vk,skd->svd", x, axes).reshape(-1, 3) for x in (local_sign, local_normal)]
    return turned[0], turned[1], faces, axes


def rounded_box(size: ArrayLike, radius: ArrayLike, *, segments: int = 4) -> Meshes:
    """Boxes of `size` (m, 3) with edges of `radius` (m,) metres: flat sides, quarter cylinders, sphere
    octants; the corners among its keypoints lie amid those.

    `segments` (even) facets round an edge. The uv of each side is its projection along the side's axis,
    0..1 from edge to edge. `radius` from 0 (sharp; the bevel's triangles have no area) to half the shortest
    edge.
    """
    size = rows(size, 3, "size")
    (radius,) = columns(radius=radius)
    m = common_length({"size": len(size), "radius": len(radius)})
    size, radius = np.broadcast_to(size, (m, 3)), np.broadcast_to(radius, (m,))
    require((size > 0).all(1), size, "size", "lengths above 0")
    require((radius >= 0) & (radius <= size.min(1) / 2), radius, "radius", "0 to half the shortest edge")
    sign, normal, faces, axes = _rounded_template(segments)
    core = size / 2 - radius[:, None]
    vertices = sign * core[:, None] + normal * radius[:, None, None]
    v = len(sign) // 6
    span = np.abs(np.einsum("md,skd->msk", size, axes[:, :2]))  # (m, side, across|up)
    flat = np.einsum("msvd,skd->msvk", vertices.reshape(m, 6, v, 3), axes[:, :2])
    uv = flat / span[:, :, None] + 0.5
    out = vertices.astype(np.float32)
    return Meshes(
        vertices=out,
        normals=np.broadcast_to(normal.astype(np.float32), out.shape),
        uv=np.clip(uv, 0, 1).reshape(m, 6 * v, 2).astype(np.float32),
        faces=faces,
        slots=np.zeros(len(faces), np.int32),
        directions=side_directions(),
        keypoints=corner_keypoints(core + radius[:, None] / np.sqrt(3)),
    )
