"""Where the shadow maps of point-like lamps look, and what casts shadows in each: host side, in numpy.

A lamp whose casters (those that its cone reaches) lie within a cone of `WIDEST` about some axis has one map,
fitted to them as the sun's is. Another has a cube of six; faces without casters take no texels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64, RECTANGLE, SPOT, Lamps
from imgsynth.geometry import normalize
from imgsynth.render.projection import spans
from imgsynth.render.setup import Arrays, Run, Tables
from imgsynth.render.shadowmap import TILE

WIDEST = np.radians(55.0)
"""Half angle from the axis to the outermost caster of a single map: a cube's corners lie at 54.7°."""
NEAREST = 1e-4
"""Nearest depth that casts shadows, of the distance to the farthest caster."""
BORDER = 2
"""Texels around a face of a cube, so that a filter finds what lies past its edges."""

# Forward axes of a cube's faces, and what is right there; down is forward × right.
FORWARD = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)
RIGHT = np.array([[0, 1, 0], [0, -1, 0], [-1, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0]], np.float64)


@dataclass(frozen=True)
class LampMaps:
    """The maps of a run's lamps (m) and their casters: Q maps, P pairs of a map and an instance."""

    first: I64  # (m + 1,) each lamp's maps; none where rays or nothing cast its shadows
    frame: I64  # (Q,) in the run
    turn: F64  # (Q, 3, 3) rows right, down, forward in the world
    eye: F64  # (Q, 3) the lamp
    near: F64  # (Q,)
    bound: F64  # (Q,) half the extent at depth 1 that is looked at, at most
    cube: NDArray[np.bool_]  # (Q,)
    map: I64  # (P,)
    row: I64  # (P,) in the run

    @property
    def used(self) -> NDArray[np.bool_]:
        """(Q,) whether anything casts a shadow there."""
        return np.bincount(self.map, minlength=len(self.turn)) > 0


def by_map(lamps: Lamps) -> NDArray[np.bool_]:
    """(m,) which lamps cast shadows by maps."""
    given = np.zeros(len(lamps), bool) if lamps.mapped is None else lamps.mapped
    return given & lamps.shadows & (lamps.kind != RECTANGLE)


def mapped(run: Run) -> NDArray[np.bool_]:
    """(m,) which of a run's lamps do."""
    lamps = run.batch.lights.lamps
    return np.zeros(0, bool) if lamps is None else by_map(lamps)[slice(*_part(run))]


def _part(run: Run) -> tuple[int, int]:
    lamps = run.batch.lights.lamps
    assert lamps is not None
    first, last = np.searchsorted(lamps.frame, [run.lo, run.hi])
    return int(first), int(last)


def aim(run: Run, rows: Tables, spheres: F64) -> LampMaps:
    """Choose the maps of a run's lamps; `spheres` (M, 4) bound the meshes."""
    lamps, chosen = run.batch.lights.lamps, np.flatnonzero(mapped(run))
    assert lamps is not None
    here = _part(run)[0] + chosen
    frame = lamps.frame[here] - run.lo
    lamp, local = spans(np.diff(rows.first_row)[frame])
    row = rows.first_row[frame][lamp] + local
    center, radius = _balls(run, spheres)
    to = center[row] - lamps.position[here][lamp]
    far = np.linalg.norm(to, axis=1)
    toward = to / np.maximum(far, 1e-12)[:, None]
    half = np.where(far > radius[row], np.arcsin(np.minimum(radius[row] / np.maximum(far, 1e-12), 1)), np.pi)
    axis, cone = lamps.direction[here], lamps.cone[here][:, 1].astype(np.float64) / 2
    spot = lamps.kind[here] == SPOT
    cone = np.where(spot, cone, np.pi)
    reached = _angle(toward, axis[lamp]) - half <= cone[lamp]
    lamp, row = lamp[reached], row[reached]
    toward, half, far = toward[reached], half[reached], far[reached]
    width = np.zeros(len(here))
    middle = np.zeros((len(here), 3))
    np.add.at(middle, lamp, toward)
    middle = np.where(np.any(middle != 0, axis=1)[:, None], normalize(middle), axis)
    np.maximum.at(width, lamp, _angle(toward, middle[lamp]) + half)
    by_cone = cone <= width
    middle, width = np.where(by_cone[:, None], axis, middle), np.minimum(width, cone)
    depth = np.zeros(len(here))
    np.maximum.at(depth, lamp, far + radius[row])
    return _with_cubes(
        len(mapped(run)), chosen, frame.astype(np.int64), middle, width, NEAREST * depth,
        lamps.position[here], lamp, row, center, radius,
    )  # fmt: skip


def _with_cubes(
    count: int, chosen: I64, frame: I64, axis: F64, width: F64, near: F64, eye: F64, lamp: I64, row: I64,
    center: F64, radius: F64,
) -> LampMaps:  # fmt: skip
    """The maps of the chosen lamps, from where each looks and how wide."""
    cube = width > WIDEST
    maps = np.where(cube, 6, 1)
    owner, face = spans(maps)
    level = np.where(np.abs(axis[:, 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    right = normalize(np.cross(level, axis))
    single = np.stack([right, np.cross(axis, right), axis], axis=1)
    faces = np.stack([RIGHT, np.cross(FORWARD, RIGHT), FORWARD], axis=1)
    turn = np.where(cube[owner][:, None, None], faces[face], single[owner])
    bound = np.where(cube, 1.0, np.tan(np.minimum(width, WIDEST)))[owner]
    before = np.cumsum(maps) - maps
    pair, local = spans(maps[lamp])
    which, row = before[lamp][pair] + local, row[pair]
    at = np.einsum("nij,nj->ni", turn[which], center[row] - eye[owner][which])
    side = 1.1 * bound[which]  # and some, for the border
    slant = radius[row] * np.hypot(1.0, side)
    seen = np.all(np.abs(at[:, :2]) - side[:, None] * at[:, 2:] <= slant[:, None], axis=1)
    seen &= at[:, 2] > -radius[row]
    each = np.zeros(count, np.int64)
    each[chosen] = maps
    first = np.append(0, np.cumsum(each))
    return LampMaps(
        first, frame[owner], turn, eye[owner], near[owner], bound, cube[owner], which[seen], row[seen]
    )


def _angle(a: F64, b: F64) -> F64:
    """Angles between unit vectors (n, 3)."""
    return np.asarray(np.arccos(np.clip((a * b).sum(1), -1.0, 1.0)), np.float64)


def _balls(run: Run, spheres: F64) -> tuple[F64, F64]:
    """Centres (R, 3) in the world and radii (R,) of balls about a run's instances."""
    table, rows = run.batch.instances, run.rows
    pose, scale, sphere = table.world_from_object[rows], table.scale[rows], spheres[table.mesh[rows]]
    center = np.einsum("nij,nj->ni", pose[:, :3, :3], sphere[:, :3] * scale) + pose[:, :3, 3]
    return center, sphere[:, 3] * np.abs(scale).max(axis=1) * (1 + 1e-5)


def caster_fields(run: Run, rows: Tables, maps: LampMaps, fields: Arrays) -> Arrays:
    """Fields of `arrays.Row` for the pairs: an instance as its lamp's map sees it.

    Args:
        run: the frames.
        rows: their tables.
        maps: of their lamps.
        fields: of the run's own rows.
    """
    table = run.batch.instances
    pose, scale = table.world_from_object[run.rows][maps.row], table.scale[run.rows][maps.row]
    turn = maps.turn[maps.map]
    vertices = rows.vertices[maps.row]
    same = ("first_vertex", "first_face", "two_sided", "cutout", "flip")
    return {
        **{name: fields[name][maps.row] for name in same},
        "first_out": np.cumsum(vertices) - vertices,
        "near": maps.near[maps.map],
        "linear": turn @ (pose[:, :3, :3] * scale[:, None, :]),
        "offset": np.einsum("nij,nj->ni", turn, pose[:, :3, 3] - maps.eye[maps.map]),
    }


def fitted(
    maps: LampMaps, box: F64, cut: NDArray[np.bool_], size: int, first: int
) -> tuple[F64, NDArray[np.int64], NDArray[np.int32]]:
    """Affine maps (Q, 4) from x/z and y/z to texels, fitted to the casters, the maps' offsets (Q,) and texels
    a side (Q,). The faces of cubes come last and are half as fine: each sees a right angle.

    Args:
        maps: the maps.
        box: (P, 4) bounds of the pairs' x/z and y/z.
        cut: (P,) whether a pair reaches before the near plane, so that its bounds do not hold it.
        size: texels along each side of a map of its own.
        first: texels before those of the first map.
    """
    low, high = np.full((len(maps.turn), 2), np.inf), np.full((len(maps.turn), 2), -np.inf)
    box = np.where(cut[:, None], [-np.inf, -np.inf, np.inf, np.inf], box)
    np.minimum.at(low, maps.map, box[:, :2])
    np.maximum.at(high, maps.map, box[:, 2:])
    sides = np.where(maps.cube, cube_size(size), size)[:, None]
    bound = maps.bound[:, None] * (1 + 2 * (BORDER + 1) / sides)
    low, high = np.maximum(low, -bound), np.minimum(high, bound)
    used = maps.used & np.all(low <= high, axis=1)
    low, high = np.where(used[:, None], low, -1.0), np.where(used[:, None], high, 1.0)
    # Half a texel's margin all around, so that the outermost casters still cover texel centres.
    extent = np.maximum(high - low, 1e-9)
    a = (sides - 1.0) / np.maximum(extent, 1e-3 * extent.max(axis=1, keepdims=True))
    b = 0.5 * sides - a * 0.5 * (low + high)
    cube = maps.cube[:, None]
    a, b = np.where(cube, sides / 2 - BORDER, a), np.where(cube, sides / 2, b)
    texels = np.where(used, sides[:, 0] ** 2, 0)
    order = np.argsort(maps.cube, kind="stable")
    base = np.empty(len(used), np.int64)
    base[order] = first + np.cumsum(texels[order]) - texels[order]
    base[~used] = -1
    return np.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1]], axis=1), base, sides[:, 0].astype(np.int32)


def cube_size(size: int) -> int:
    """Texels a side of a cube's faces: half of a map's, in whole tiles."""
    tile = int(TILE)
    return -(-size // (2 * tile)) * tile
