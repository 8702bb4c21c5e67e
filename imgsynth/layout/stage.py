"""What placing works on: the groups of a scene, shaped and turned, and what stands already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, Cameras, Meshes
from imgsynth.placement import Extents, Floor
from imgsynth.plan import Draws, Plan, Reader
from imgsynth.scene import ObjectSpec
from imgsynth.shapes.build import Built

Rows = NDArray[np.intp]


@dataclass
class Group:
    """The objects of one group: m rows, the active (frame, slot) pairs in that order.

    `pose` has the rotation from the start and the translation once the group is placed; `keep` tells which
    found a place, `on` which row of the group that it is attached to each stands on.
    """

    name: str
    spec: ObjectSpec
    frame: Rows
    slot: Rows
    built: tuple[Built, ...]
    scale: F64  # (m,)
    pose: F64  # (m, 4, 4)
    extents: Extents
    keep: NDArray[np.bool_]
    on: Rows | None = None

    @property
    def path(self) -> str:
        """Where it stands in the scene file."""
        return f"objects.{self.name}"

    def mesh(self, row: int) -> tuple[F64, NDArray[np.int32]]:
        """The scaled vertices (v, 3) in the object's frame, and the faces, that a row shows."""
        built = next(b for b in self.built if row in b.rows)
        vertices = built.meshes.vertices[built.mesh[np.flatnonzero(built.rows == row)[0]]]
        return vertices.astype(np.float64) * self.scale[row], built.meshes.faces

    def pieces(self, rows: Rows | None = None) -> Iterator[tuple[Rows, Meshes, Rows]]:
        """For some of the group's rows, or all: meshes of one topology after the other, the places among the
        rows (k,) that show one of them, and which (k,).
        """
        piece, mesh = np.zeros((2, len(self.frame)), np.intp)
        for k, built in enumerate(self.built):
            piece[built.rows], mesh[built.rows] = k, built.mesh
        rows = np.arange(len(self.frame)) if rows is None else rows
        for k, built in enumerate(self.built):
            where = np.flatnonzero(piece[rows] == k)
            if len(where):
                yield where, built.meshes, mesh[rows[where]]


@dataclass
class Stage:
    """All groups of a batch of frames, those placed so far, and the cameras once they are known."""

    plan: Plan
    draws: Draws
    groups: dict[str, Group]
    floor: Floor
    cameras: Cameras | None = None
    placed: set[str] = field(default_factory=set)
    report: dict[str, NDArray[np.int32]] = field(default_factory=dict)  # what to say of each frame, (n,)

    def __len__(self) -> int:
        return len(self.draws.indices)

    def read(self, group: Group, branch: str) -> Reader:
        """The values below a branch of the group's entry, one a row."""
        return Reader(self.draws, f"{group.path}.{branch}", group.frame, group.slot)

    def shared(self, group: Group, branch: str) -> Reader:
        """The values below a branch that has one a frame."""
        return Reader(self.draws, f"{group.path}.{branch}", np.arange(len(self)))

    def table(self, group: Group, path: str) -> NDArray[np.float64]:
        """(n, slots, …) the values of a leaf in every slot."""
        return self.draws[f"{group.path}.{path}"].astype(np.float64)

    def ground(self, frame: Rows) -> F64:
        """(m,) height of the ground, as it is drawn: it is kept in single precision."""
        if self.plan.spec.ground is None:
            return np.zeros(len(frame))
        return self.draws["ground.height"][frame].astype(np.float32).astype(np.float64)

    def partner(self, group: Group, target: str, pick: F64 | None) -> Rows:
        """(m,) for each row a row of the target's that is in the same frame, -1 where there is none.

        The k-th slot gets the k-th object there is, round and round; or the one that `pick` (m,) in 0..1
        picks.
        """
        other = self.groups[target]
        rows = np.flatnonzero(other.keep)  # by frame, then slot
        count = np.bincount(other.frame[rows], minlength=len(self))
        first = np.cumsum(count) - count
        here = count[group.frame]
        most = np.maximum(here, 1)
        turn = group.slot % most if pick is None else np.minimum((pick * here).astype(np.intp), most - 1)
        out = np.full(len(group.frame), -1, np.intp)
        some = here > 0
        out[some] = rows[first[group.frame[some]] + turn[some]]
        return out

    def middle(self, target: str) -> tuple[F64, NDArray[np.bool_]]:
        """(n, 3) the mean of the origins of a group's objects in each frame, and where there are any."""
        other = self.groups[target]
        count = np.bincount(other.frame[other.keep], minlength=len(self))
        total = np.zeros((len(self), 3))
        np.add.at(total, other.frame[other.keep], other.pose[other.keep, :3, 3])
        return total / np.maximum(count, 1)[:, None], count > 0
