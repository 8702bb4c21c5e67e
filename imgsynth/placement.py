"""Where objects stand and how they are turned: poses for all rows of a group at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth.batch import F64, Meshes

TRIES = 32
_CHUNK = 1 << 22  # transformed coordinates held at a time


def turn_z(angle_deg: F64) -> F64:
    """(m, 3, 3) rotations about +z, counter-clockwise seen from above."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    out = np.zeros((*np.shape(angle_deg), 3, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 1, 0], out[..., 1, 1], out[..., 2, 2] = c, -s, s, c, 1.0
    return out


def orientation(rotation: F64 | None, up: F64 | None, yaw_deg: F64) -> F64:
    """(m, 3, 3): first `up` (m, 3) to +z, then the quaternion `rotation` (m, 4), then `yaw_deg` (m,) about
    +z.
    """
    out = turn_z(yaw_deg)
    if rotation is not None:
        out = out @ geometry.quat_to_matrix(rotation)
    if up is not None:
        out = out @ geometry.quat_to_matrix(geometry.quat_between(up, [0.0, 0.0, 1.0]))
    return out


class Extents(NamedTuple):
    """How far turned and scaled shapes reach about their origins: each (m,), metres."""

    low: F64  # lowest and highest z
    high: F64
    radius: F64  # on the ground plan
    ball: F64  # in space


def extents(meshes: Meshes, mesh: NDArray[np.intp], turn: F64, scale: F64) -> Extents:
    """How far every row reaches: meshes[mesh[r]] scaled by `scale[r]`, turned by `turn[r]`."""
    m, v = len(mesh), meshes.vertices.shape[1]
    low, high, radius, ball = np.empty((4, m))
    step = max(1, _CHUNK // (3 * v))
    for a in range(0, m, step):
        part = slice(a, a + step)
        points = np.einsum(
            "mvc,mrc->mvr",
            meshes.vertices[mesh[part]],
            (turn[part] * scale[part, None, None]).astype(np.float32),
        )
        low[part], high[part] = points[..., 2].min(1), points[..., 2].max(1)
        plan = np.hypot(points[..., 0], points[..., 1])
        radius[part], ball[part] = plan.max(1), np.hypot(plan, points[..., 2]).max(1)
    return Extents(low, high, radius, ball)


@dataclass
class Floor:
    """The places taken so far in each of n frames, by objects that keep apart.

    Objects on the floor keep apart on its plan, by circles. What is placed in space (`flat` false) keeps
    apart from everything by balls.
    """

    n: int
    center: list[F64] = field(default_factory=list)  # each (n, 3)
    radius: list[F64] = field(default_factory=list)  # each (n,); -inf = nobody
    ball: list[F64] = field(default_factory=list)  # likewise
    flat: list[bool] = field(default_factory=list)

    def settle(
        self,
        position: F64,
        radius: F64,
        ball: F64,
        gap: F64,
        active: NDArray[np.bool_],
        redraw: Callable[[int, int, NDArray[np.intp]], F64 | None],
        *,
        flat: bool = True,
    ) -> NDArray[np.bool_]:
        """Place a group's slots in turn, changing `position` (n, slots, 3); which of `active` found room.

        `radius` and `ball` (n, slots) are the objects' reach on the plan and in space. `redraw(slot, attempt,
        frames)` gives new positions (len(frames), 3), or None where the position is not random.
        """
        settled = active.copy()
        for slot in range(position.shape[1]):
            todo = np.flatnonzero(active[:, slot])
            for attempt in range(TRIES):
                reach = (radius[todo, slot] + gap[todo, slot], ball[todo, slot] + gap[todo, slot])
                todo = todo[self._blocked(position[todo, slot], *reach, todo, flat)]
                if len(todo) == 0:
                    break
                fresh = redraw(slot, attempt, todo) if attempt < TRIES - 1 else None
                if fresh is None:
                    settled[todo, slot] = False
                    break
                position[todo, slot] = fresh
            self.center.append(position[:, slot].copy())
            self.radius.append(np.where(settled[:, slot], radius[:, slot], -np.inf))
            self.ball.append(np.where(settled[:, slot], ball[:, slot], -np.inf))
            self.flat.append(flat)
        return settled

    def _blocked(
        self, place: F64, reach: F64, ball: F64, frames: NDArray[np.intp], flat: bool
    ) -> NDArray[np.bool_]:
        out = np.zeros(len(frames), bool)
        for on_plan in (True, False):
            among = [k for k, other in enumerate(self.flat) if (flat and other) == on_plan]
            if not among:
                continue
            axes = 2 if on_plan else 3
            center = np.stack([self.center[k][frames, :axes] for k in among], 1)
            taken = np.stack([(self.radius if on_plan else self.ball)[k][frames] for k in among], 1)
            distance = np.linalg.norm(center - place[:, None, :axes], axis=-1)
            out |= (distance < taken + (reach if on_plan else ball)[:, None]).any(1)
        return out
