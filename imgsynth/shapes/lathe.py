"""Solids of revolution about the z axis: sphere, cylinder, cone, capsule."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64, I32, Meshes
from imgsynth.shapes.grid import grid_faces
from imgsynth.shapes.params import at_least, columns, require

_UP = {"top": np.array([0, 0, 1], np.float32), "bottom": np.array([0, 0, -1], np.float32)}


def circle(segments: int) -> tuple[F64, F64]:
    """Cosine and sine of `segments` + 1 equal angles, the last bit-identical to the first so that seams
    close.
    """
    angle = 2 * np.pi * (np.arange(segments + 1) % segments) / segments
    return np.cos(angle), np.sin(angle)


class _Builder:
    """Collects pieces that share one turning count into one mesh."""

    def __init__(self, m: int, segments: int):
        self.m, self.segments = m, segments
        self.cos, self.sin = circle(segments)
        self.parts: list[tuple[F64, ...]] = []
        self.faces: list[NDArray[np.int64]] = []
        self.slots: list[I32] = []
        self.count = 0

    def band(self, radius: F64, z: F64, out: F64, up: F64, v: F64, poles: tuple[bool, bool]) -> None:
        """Sweep a profile going upwards on the outside: radius, z, normal (out, up), texture v, each (m, k).

        `poles` says whether the first and the last point lie on the axis: their triangles have no area and
        are left out, and their texture u sits amid the column.
        """
        k, s = radius.shape[1], self.segments
        ones = np.ones(s + 1)
        vertex = [radius[..., None] * self.cos, radius[..., None] * self.sin, z[..., None] * ones]
        normal = [out[..., None] * self.cos, out[..., None] * self.sin, up[..., None] * ones]
        u = np.tile(np.arange(s + 1) / s, (k, 1))
        for row, pole in ((0, poles[0]), (-1, poles[1])):
            if pole:
                u[row] = np.minimum(u[row] + 0.5 / s, 1)
        uv = np.stack(np.broadcast_arrays(u, v[..., None]), -1)
        faces = grid_faces(k, s + 1).reshape(k - 1, s, 2, 3)
        keep = np.ones((k - 1, s, 2), bool)
        keep[0, :, 0] &= not poles[0]
        keep[-1, :, 1] &= not poles[1]
        if poles[1]:  # the apex over column j is vertex j, whose u lies amid column j
            i = np.arange(s)
            faces[-1, :, 0, 2] = (k - 1) * (s + 1) + i
        self._add(np.stack(vertex, -1), np.stack(normal, -1), uv, faces[keep], 0)

    def cap(self, radius: F64, z: F64, up: int, slot: int) -> None:
        """A flat disc (m,) at height z (m,) facing up (1) or down (-1), seen upright from outside; uv spans
        its square.
        """
        s = self.segments
        c, d = np.append(self.cos[:-1], 0.0), np.append(self.sin[:-1], 0.0)
        vertex = [radius[:, None] * c, radius[:, None] * d, np.repeat(z[:, None], s + 1, 1)]
        normal = np.broadcast_to(np.array([0.0, 0.0, up]), (self.m, s + 1, 3))
        uv = np.broadcast_to(np.stack([c, up * d], -1) / 2 + 0.5, (self.m, s + 1, 2))
        i = np.arange(s)
        ring = np.stack([np.full(s, s), i, (i + 1) % s], -1)[:, ::up]
        self._add(np.stack(vertex, -1), normal, uv, ring, slot)

    def _add(self, vertex: F64, normal: F64, uv: F64, faces: NDArray[np.int64], slot: int) -> None:
        v = int(np.prod(vertex.shape[1:-1]))
        self.parts.append(tuple(x.reshape(self.m, v, x.shape[-1]) for x in (vertex, normal, uv)))
        self.faces.append(faces + self.count)
        self.slots.append(np.full(len(faces), slot, np.int32))
        self.count += v

    def meshes(self, slot_names: tuple[str, ...] = ("main",)) -> Meshes:
        """All pieces as one, without the vertices at the poles that no triangle uses."""
        used, index = np.unique(np.concatenate(self.faces), return_inverse=True)
        joined = (np.concatenate(p, 1)[:, used].astype(np.float32) for p in zip(*self.parts, strict=True))
        vertices, normals, uv = joined
        faces = index.reshape(-1, 3).astype(np.int32)
        ends = {"top": vertices[..., 2].max(1), "bottom": vertices[..., 2].min(1)}
        return Meshes(
            vertices,
            normals,
            uv,
            faces,
            np.concatenate(self.slots),
            slot_names,
            directions=dict(_UP),
            keypoints={name: np.pad(z[:, None], ((0, 0), (2, 0))) for name, z in ends.items()},
        )


def _arc(start_deg: float, stop_deg: float, steps: int) -> tuple[F64, F64]:
    """Cosine and sine of latitudes, exact at the poles and at the equator."""
    latitude = np.radians(np.linspace(start_deg, stop_deg, steps + 1))
    cos, sin = np.cos(latitude), np.sin(latitude)
    cos[np.abs(cos) < 1e-12] = 0
    sin[np.abs(sin) < 1e-12] = 0
    return cos, sin


def sphere(radius: ArrayLike, *, segments: int = 32) -> Meshes:
    """Spheres of `radius` (m,): `segments` meridians, half as many parallels, equirectangular uv (960
    triangles at 32).

    Vertices lie on the sphere: with 32 segments volume is 1.6 % short and the outline up to 0.5 % of the
    radius inside.
    """
    (radius,) = columns(radius=radius)
    require(radius > 0, radius, "radius", "a length above 0")
    cos, sin = _arc(-90, 90, at_least(segments, 4) // 2)
    turned = _Builder(len(radius), segments)
    out, up = (np.broadcast_to(x, (len(radius), len(x))) for x in (cos, sin))
    v = np.broadcast_to(np.linspace(0, 1, len(cos)), out.shape)
    turned.band(radius[:, None] * out, radius[:, None] * up, out, up, v, (True, True))
    return turned.meshes()


def cylinder(radius: ArrayLike, height: ArrayLike, *, segments: int = 48) -> Meshes:
    """Upright cylinders: smooth side ("main"), flat caps (slots "top" and "bottom"). 4 · segments
    triangles.
    """
    radius, height = columns(radius=radius, height=height)
    require(radius > 0, radius, "radius", "a length above 0")
    require(height > 0, height, "height", "a length above 0")
    turned = _Builder(len(radius), at_least(segments, 3))
    two = np.ones((len(radius), 2))
    ends = np.stack([-height / 2, height / 2], 1)
    turned.band(radius[:, None] * two, ends, two, 0 * two, two * [0, 1], (False, False))
    turned.cap(radius, height / 2, 1, 1)
    turned.cap(radius, -height / 2, -1, 2)
    return turned.meshes(("main", "top", "bottom"))


def cone(radius: ArrayLike, height: ArrayLike, top_radius: ArrayLike = 0.0, *, segments: int = 48) -> Meshes:
    """Upright cones, or frusta where `top_radius` (m,) is above 0; smooth side, flat caps (slots "top",
    "bottom").

    Centred at half height. A top radius of 0 leaves the upper cap without area.
    """
    radius, height, top = columns(radius=radius, height=height, top_radius=top_radius)
    require(radius > 0, radius, "radius", "a length above 0")
    require(height > 0, height, "height", "a length above 0")
    require(top >= 0, top, "top_radius", "a length of 0 or more")
    turned = _Builder(len(radius), at_least(segments, 3))
    slant = np.hypot(height, radius - top)
    out, up = (np.repeat((x / slant)[:, None], 2, 1) for x in (height, radius - top))
    v = np.ones((len(radius), 2)) * [0, 1]
    turned.band(
        np.stack([radius, top], 1), np.stack([-height / 2, height / 2], 1), out, up, v, (False, False)
    )
    turned.cap(top, height / 2, 1, 1)
    turned.cap(radius, -height / 2, -1, 2)
    return turned.meshes(("main", "top", "bottom"))


def capsule(radius: ArrayLike, height: ArrayLike, *, segments: int = 32) -> Meshes:
    """Upright capsules: a cylinder of `height` (m,) between two hemispheres of `radius` (m,); smooth
    throughout.
    """
    radius, height = columns(radius=radius, height=height)
    require(radius > 0, radius, "radius", "a length above 0")
    require(height >= 0, height, "height", "a length of 0 or more")
    quarter = at_least(segments, 4) // 4
    below, above = _arc(-90, 0, quarter), _arc(0, 90, quarter)
    cos, sin = (np.concatenate([b, a])[None] for b, a in zip(below, above, strict=True))
    shift = np.repeat([-0.5, 0.5], quarter + 1) * height[:, None]
    z = radius[:, None] * sin + shift
    v = (z - z[:, :1]) / (height + 2 * radius)[:, None]
    turned = _Builder(len(radius), segments)
    out, up = (np.broadcast_to(x, z.shape) for x in (cos, sin))
    turned.band(radius[:, None] * out, z, out, up, v, (True, True))
    return turned.meshes()
