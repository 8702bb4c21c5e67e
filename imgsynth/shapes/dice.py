"""Dice: rounded cubes whose pips are real circles of geometry, recessed or painted, with a material of
their own.

Each of the six faces is a patch reaching halfway round its edges. A patch is built once in its own frame
(face towards +z) and carried to its place by a signed permutation of the axes, which moves bits but never
rounds, so neighbouring patches meet without cracks whichever way they are turned.

Conventions. Lengths inside a die are fractions of its edge. In the object's frame the one faces +z, the two
+x, and opposite faces sum to seven; the three faces +y on right-handed dice (1, 2, 3 counter-clockwise
round their common corner, usual in the West), -y on left-handed ones (usual in China and Japan).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F32, F64, I32, Meshes
from imgsynth.shapes.grid import grid_faces
from imgsynth.shapes.params import at_least, columns, require
from imgsynth.shapes.solids import bevel_angles, unit_normals

FACES = ("one", "two", "three", "four", "five", "six")

# Cells of the 3 × 3 grid that carry a pip, as (column, row) from the lower left, in each face's own frame.
_CORNERS = ((0, 0), (0, 2), (2, 0), (2, 2))
LAYOUT: dict[str, tuple[tuple[int, int], ...]] = {
    "one": ((1, 1),),
    "two": ((0, 0), (2, 2)),
    "three": ((0, 0), (1, 1), (2, 2)),
    "four": _CORNERS,
    "five": (*_CORNERS, (1, 1)),
    "six": (*_CORNERS, (0, 1), (2, 1)),
}
# Own axes (right, up, outward) of each face of a right-handed die.
_PLACES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "one": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "two": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "three": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "four": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "five": ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    "six": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
}
_CHUNK = 32  # dice built at once: the working set stays in the L2 cache
_QUARTER_TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # rows: new right, up, outward


def dice(
    size: ArrayLike = 0.016,
    *,
    corner_radius: ArrayLike = 0.12,
    pip_radius: ArrayLike = 0.095,
    pip_depth: ArrayLike = 0.03,
    pip_spread: ArrayLike = 0.25,
    one_scale: ArrayLike = 1.0,
    right_handed: ArrayLike = True,
    turn_two: ArrayLike = False,
    turn_three: ArrayLike = False,
    turn_six: ArrayLike = False,
    segments: int = 24,
    bevel: int = 6,
    rings: int = 2,
) -> Meshes:
    """Six-sided dice of edge `size` (m,) metres; every array parameter is (m,) or a scalar. About 3,000
    triangles.

    Args:
        size: edge length, metres; ordinary dice measure 12 to 19 mm.
        corner_radius: rounding of edges and corners: 0.03 (casino) to 0.2 (tumbled).
        pip_radius: 0.08 to 0.12 on ordinary dice.
        pip_depth: depth of the spherical dimple, 0 (painted) to `pip_radius` (half a ball).
        pip_spread: distance of the outer pips from the middle lines, 0.2 to 0.27 on ordinary dice.
        one_scale: the single pip's radius in pip radii (about 2 on many Japanese dice). Its slot is "one".
        right_handed: (m,) booleans; where False, left-handed.
        turn_two: the two's diagonal runs the other way; likewise `turn_three`; `turn_six`: its rows run the
            other way. segments: facets round a pip, a multiple of 4. bevel: facets round an edge, even.

    Returns:
        Slots "main", "pips" and "one"; `directions` "one" … "six" as (m, 3), `keypoints` of the same names
        amid the faces' flat parts. The uv of each face is its projection, 0..1.

    Raises:
        SceneError: a value out of its range, or pips that do not fit the flat part of a face (see `fits`).
    """
    size, r, p, depth, spread, scale, hand, *turns = columns(
        size=size,
        corner_radius=corner_radius,
        pip_radius=pip_radius,
        pip_depth=pip_depth,
        pip_spread=pip_spread,
        one_scale=one_scale,
        right_handed=np.asarray(right_handed, np.float64),
        turn_two=np.asarray(turn_two, np.float64),
        turn_three=np.asarray(turn_three, np.float64),
        turn_six=np.asarray(turn_six, np.float64),
    )
    require(size > 0, size, "size", "a length above 0")
    require((r > 0) & (r < 0.5), r, "corner_radius", "above 0 and below 0.5 (of the edge)")
    require((depth >= 0) & (depth <= p), depth, "pip_depth", "0 to pip_radius")
    measures = np.stack([r, p, spread, scale], 1)
    require(
        fits(r, p, spread, scale),
        measures,
        "corner_radius, pip_radius, pip_spread, one_scale",
        "pips that do not touch each other or the rounded edge "
        "(pip_spread + pip_radius < 0.5 - corner_radius; 2 · pip_radius < pip_spread)",
    )
    template = _template(at_least(segments, 8) // 4 * 4, bevel, at_least(rings, 1, "rings"))
    places = _places(hand, turns)
    vertices, normals, uv = template.build(places, size, r, p, depth, spread, scale)
    return Meshes(
        vertices=vertices,
        normals=normals,
        uv=uv,
        faces=template.faces,
        slots=template.slots,
        slot_names=("main", "pips", "one"),
        directions={name: places[:, f, 2].astype(np.float32) for f, name in enumerate(FACES)},
        keypoints={
            name: (places[:, f, 2] * size[:, None] / 2).astype(np.float32) for f, name in enumerate(FACES)
        },
    )


def fits(
    corner_radius: ArrayLike, pip_radius: ArrayLike, pip_spread: ArrayLike, one_scale: ArrayLike = 1.0
) -> NDArray[np.bool_]:
    """Whether pips fit the flat part of a face without touching. Monotone: the largest radii and either end
    of the spread decide for a whole range of values.
    """
    r, p, spread, scale = columns(
        corner_radius=corner_radius, pip_radius=pip_radius, pip_spread=pip_spread, one_scale=one_scale
    )
    flat = 0.5 - r
    apart = (p > 0) & (spread + p < flat) & (2 * p < spread)
    return np.asarray(apart & (scale > 0) & (p * scale < 0.98 * _widest_one(flat, spread)))


def _widest_one(flat: F64, spread: F64) -> F64:
    """How far the middle cell's corners may move out before a neighbouring cell folds over."""
    return (flat + spread / 2) / 2


def _places(hand: F64, turns: list[F64]) -> F64:
    """(m, 6, right|up|outward, 3): where each face sits and how it is turned, as signed permutations."""
    places = np.tile(np.array([_PLACES[name] for name in FACES], np.float64), (len(hand), 1, 1, 1))
    left = hand < 0.5
    places[left] = places[left][:, [0, 1, 3, 2, 4, 5]]
    for face, turned in zip((1, 2, 5), turns, strict=True):
        chosen = turned > 0.5
        places[chosen, face] = _QUARTER_TURN @ places[chosen, face]
    return places


def _carry(local: F32, places: F64, out: F32) -> None:
    """Write (m, v, 3) in a face's own frame into `out` in the object's.

    A product with a signed permutation: of each sum's three terms two are zero, so nothing rounds.
    """
    np.matmul(local, places.astype(np.float32), out=out)


class _Pip(NamedTuple):
    """One pip's cell corners (as grid nodes, counter-clockwise from the upper right) and where its vertices
    start.
    """

    face: int
    cell: tuple[int, int]
    corners: tuple[int, int, int, int]
    start: int  # first vertex: rim of the flat part; then the bowl from its rim inwards; then its bottom


class _Template:
    """All that does not depend on parameters: topology, bevel angles, dimple rings."""

    def __init__(self, segments: int, bevel: int, rings: int):
        self.segments, self.rings = segments, rings
        sign, rise = bevel_angles(bevel)
        self.half = len(sign) // 2
        self.rise = np.insert(rise, self.half, [0.0, 0.0])
        self.pips = [self._pips(face, self._nodes**2) for face in range(6)]
        counts = [self._nodes**2 + len(pips) * self._pip_size for pips in self.pips]
        self.start = np.concatenate([[0], np.cumsum(counts)])
        faces, slots = zip(*(self._topology(face) for face in range(6)), strict=True)
        self.faces: I32 = np.concatenate([f + s for f, s in zip(faces, self.start[:-1], strict=True)]).astype(
            np.int32
        )
        self.slots: I32 = np.concatenate(slots).astype(np.int32)
        angle = 2 * np.pi * np.arange(segments) / segments
        self.cos, self.sin = np.cos(angle), np.sin(angle)

    @property
    def _nodes(self) -> int:
        return len(self.rise)

    @property
    def _pip_size(self) -> int:
        return (1 + self.rings) * self.segments + 1

    def _pips(self, face: int, start: int) -> list[_Pip]:
        k, first = self._nodes, self.half - 1  # node `first` is the flat part's lower left corner
        found = []
        for n, (i, j) in enumerate(LAYOUT[FACES[face]]):
            low = (first + j) * k + first + i
            corners = (low + k + 1, low + k, low, low + 1)
            found.append(_Pip(face, (i, j), corners, start + n * self._pip_size))
        return found

    def _topology(self, face: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        k = self._nodes
        cells = grid_faces(k, k).reshape(k - 1, k - 1, 2, 3)
        plain = np.ones((k - 1, k - 1), bool)
        for pip in self.pips[face]:
            plain[self.half - 1 + pip.cell[1], self.half - 1 + pip.cell[0]] = False
        collars = [cells[plain].reshape(-1, 3), *(self._collar(pip) for pip in self.pips[face])]
        bowls = [self._bowl(pip.start + self.segments) for pip in self.pips[face]]
        body, inside = np.concatenate(collars), np.concatenate(bowls)
        slot = 2 if FACES[face] == "one" else 1
        slots = np.repeat(np.array([0, slot]), [len(body), len(inside)])
        return np.concatenate([body, inside]), slots

    def _collar(self, pip: _Pip) -> NDArray[np.int64]:
        """Triangles between the cell's square and the rim: a fan for each corner, one triangle for each
        side.
        """
        s, quarter = self.segments, self.segments // 4
        i = np.arange(s)
        corner = np.array(pip.corners)[i // quarter]
        fans = np.stack([corner, pip.start + (i + 1) % s, pip.start + i], -1)
        q = np.arange(4)
        sides = np.stack([np.array(pip.corners), pip.start + q * quarter, np.roll(pip.corners, 1)], -1)
        return np.concatenate([fans, sides])

    def _bowl(self, start: int) -> NDArray[np.int64]:
        s = self.segments
        i = np.arange(s)
        j = (i + 1) % s
        found = []
        for ring in range(self.rings - 1):
            out, into = start + ring * s, start + (ring + 1) * s
            found += [np.stack([out + i, out + j, into + j], -1), np.stack([out + i, into + j, into + i], -1)]
        last = start + (self.rings - 1) * s
        found.append(np.stack([last + i, last + j, np.full(s, start + self.rings * s)], -1))
        return np.concatenate(found)

    def build(
        self, places: F64, size: F64, r: F64, p: F64, depth: F64, spread: F64, scale: F64
    ) -> tuple[F32, F32, F32]:
        """Vertices (metres), normals and uv of all six faces in the object's frame, each (m, v, ·)
        float32.
        """
        m, v = len(size), int(self.start[-1])
        vertices, normals = np.empty((m, v, 3), np.float32), np.empty((m, v, 3), np.float32)
        uv = np.empty((m, v, 2), np.float32)
        for start in range(0, m, _CHUNK):
            of = slice(start, start + _CHUNK)
            grid, grid_normal = self._grid(r[of], spread[of])
            bowl = self._dimple(p[of], depth[of])
            large = self._dimple(p[of] * scale[of], depth[of] * scale[of])
            for face in range(6):
                span = slice(int(self.start[face]), int(self.start[face + 1]))
                plain = self._widened(grid, p[of] * scale[of], r[of], spread[of]) if face == 0 else grid
                points, towards = large if face == 0 else bowl
                local, slopes = self._face(face, plain, grid_normal, points, towards, spread[of])
                np.clip(local[..., :2] + np.float32(0.5), 0, 1, out=uv[of, span])
                local *= size[of, None, None].astype(np.float32)
                _carry(local, places[of, face], vertices[of, span])
                _carry(slopes, places[of, face], normals[of, span])
        return vertices, normals, uv

    def _face(
        self, face: int, grid: F64, grid_normal: F64, points: F64, towards: F64, spread: F64
    ) -> tuple[F32, F32]:
        """One face of edge 1 in its own frame: grid, then its pips. Vertices and normals (m, v, 3)."""
        m, plain, each = len(grid), grid.shape[1], self._pip_size
        pips = self.pips[face]
        local = np.empty((m, plain + len(pips) * each, 3), np.float32)
        slopes = np.empty_like(local)
        local[:, :plain], slopes[:, :plain] = grid, grid_normal
        local[:, plain:, 2] = np.tile(points[..., 2] + 0.5, (1, len(pips)))
        slopes[:, plain:] = np.tile(towards, (1, len(pips), 1))
        for n, pip in enumerate(pips):
            here = slice(plain + n * each, plain + (n + 1) * each)
            for axis in (0, 1):
                local[:, here, axis] = points[..., axis] + (pip.cell[axis] - 1) * spread[:, None]
        return local, slopes

    def _grid(self, r: F64, spread: F64) -> tuple[F64, F64]:
        """Bevel and 3 × 3 cells of a face of edge 1: vertices (m, k², 3), normals (k², 3)."""
        k, h = self._nodes, self.half
        flat = 0.5 - r
        core = np.empty((len(r), k))
        core[:, :h], core[:, h + 2 :] = -flat[:, None], flat[:, None]
        core[:, h], core[:, h + 1] = -spread / 2, spread / 2
        normal = unit_normals(self.rise, self.rise)
        x = core[:, None, :] + r[:, None, None] * normal[..., 0]
        y = core[:, :, None] + r[:, None, None] * normal[..., 1]
        z = flat[:, None, None] + r[:, None, None] * normal[..., 2]
        return np.stack([x, y, z], -1).reshape(len(r), k * k, 3), normal.reshape(k * k, 3)

    def _widened(self, grid: F64, radius: F64, r: F64, spread: F64) -> F64:
        """The grid with the middle cell's corners moved out where the single pip needs the room."""
        half = np.maximum(spread / 2, (radius + _widest_one(0.5 - r, spread)) / 2)
        moved = grid.copy()
        for node, (u, v) in zip(self.pips[0][0].corners, ((1, 1), (-1, 1), (-1, -1), (1, -1)), strict=True):
            moved[:, node, 0], moved[:, node, 1] = u * half, v * half
        return moved

    def _dimple(self, p: F64, depth: F64) -> tuple[F64, F64]:
        """Rim twice (flat, then as part of the bowl), rings inwards, bottom: points and normals (m, size,
        3), rim at z = 0.

        The bowl is a cap of a sphere of curvature κ = 2d / (p² + d²); heights in a form that is exact for κ
        → 0. Rings are equally spaced in angle seen from the sphere's centre, so that a half ball is as
        round as a shallow dimple.
        """
        curvature = 2 * depth / (p**2 + depth**2)
        widest = np.arcsin(np.minimum(curvature * p, 1))
        share = np.concatenate([[1.0], 1 - np.arange(self.rings + 1) / self.rings])
        flat = curvature < 1e-6
        angle = widest[:, None] * share
        rho = np.where(
            flat[:, None], p[:, None] * share, np.sin(angle) / np.where(flat, 1, curvature)[:, None]
        )
        slope = curvature[:, None] * rho
        sag = rho * slope / (1 + np.sqrt(np.maximum(1 - slope**2, 0)))
        z = np.where(share == 1, 0, sag - depth[:, None])
        up = np.sqrt(np.maximum(1 - slope**2, 0))
        slope[:, 0], up[:, 0] = 0, 1  # the rim of the flat part
        ring = np.stack(
            [rho[..., None] * self.cos, rho[..., None] * self.sin, np.repeat(z[..., None], self.segments, 2)],
            -1,
        )
        towards = np.stack(
            [
                -slope[..., None] * self.cos,
                -slope[..., None] * self.sin,
                np.repeat(up[..., None], self.segments, 2),
            ],
            -1,
        )
        keep = self._pip_size  # the innermost ring has shrunk to the bottom: one vertex of it will do
        flat_shape = (len(p), ring.shape[1] * self.segments, 3)
        return ring.reshape(flat_shape)[:, :keep], towards.reshape(flat_shape)[:, :keep]


@lru_cache(maxsize=8)
def _template(segments: int, bevel: int, rings: int) -> _Template:
    return _Template(segments, bevel, rings)
