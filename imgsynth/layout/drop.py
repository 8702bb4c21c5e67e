"""Dropped objects of all frames: where they start, what they fall on, and how they lie in the end."""

from __future__ import annotations

import numpy as np

from imgsynth import geometry
from imgsynth.batch import F64
from imgsynth.errors import SceneError
from imgsynth.layout.settle import Body, Room, pieces, settle
from imgsynth.layout.stage import Group, Stage


def drop(stage: Stage, names: list[str]) -> None:
    """Let the placed objects of the named groups fall together, frame by frame.

    What falls off all there is to fall on is left out; `stage.report` counts that, and what still moves when
    the time is over.

    Raises:
        SceneError: nothing to fall on.
        ImgsynthError: MuJoCo is not installed.
    """
    specs = [stage.groups[k].spec.place.drop for k in names]
    onto = [name for spec in specs if spec is not None for name in spec.onto]
    if stage.plan.spec.ground is None and not onto:
        raise SceneError(
            "there is nothing to fall on: give the scene a ground, or name groups in onto",
            path=f"objects.{names[0]}.place.drop",
        )
    moving, fallen = np.zeros((2, len(stage)), np.int32)
    for frame in range(len(stage)):
        groups = [stage.groups[k] for k in names]
        rows = [(group, int(row)) for group in groups for row in np.flatnonzero(group.frame == frame)]
        if not rows:
            continue
        room = _room(stage, frame, list(dict.fromkeys(onto)))
        bodies = [_body(stage, group, row) for group, row in rows]
        poses, move, lost = settle(_lifted(bodies, room), room, float(stage.draws["physics.time_s"][frame]))
        for (group, row), pose, gone in zip(rows, poses, lost, strict=True):
            group.pose[row], group.keep[row] = pose, not gone
        moving[frame], fallen[frame] = move.sum(), lost.sum()
    stage.report |= {"fell_away": fallen, "still_moving": moving}


def _body(stage: Stage, group: Group, row: int) -> Body:
    vertices, faces = group.mesh(row)
    points = vertices[np.unique(faces)]
    ball = float(np.linalg.norm(points, axis=1).max()) if group.spec.shape.kind == "sphere" else 0.0
    path, here = f"{group.path}.place.drop", (group.frame[row], group.slot[row])
    density, friction = (float(stage.draws[f"{path}.{name}"][here]) for name in ("density", "friction"))
    return Body(points, group.pose[row].copy(), density, friction, ball)


def _room(stage: Stage, frame: int, onto: list[str]) -> Room:
    ground = float(stage.ground(np.array([frame]))[0]) if stage.plan.spec.ground is not None else None
    walls: tuple[float, float, float, float] | None = None
    if stage.plan.spec.physics.walls is not None:
        size, center = (stage.draws[f"physics.{name}"][frame].astype(float) for name in ("walls", "center"))
        x, y = (center + [[-0.5], [0.5]] * size).T.tolist()
        walls = (x[0], y[0], x[1], y[1])
    hulls: list[F64] = []
    for name in onto:
        group = stage.groups[name]
        for row in np.flatnonzero((group.frame == frame) & group.keep):
            hulls += [geometry.transform(group.pose[row], part) for part in pieces(*group.mesh(int(row)))]
    return Room(ground, walls, tuple(hulls))


def _clear(x: float, y: float, z: float, r: float, balls: list[tuple[F64, float]]) -> float:
    """The lowest height from z upwards at which a ball of radius r touches none of the others."""
    spans = []
    for center, other in balls:
        across = np.hypot(x - center[0], y - center[1])
        if across < r + other:
            half = float(np.sqrt((r + other) ** 2 - across**2))
            spans.append((float(center[2]) - half, float(center[2]) + half))
    for low, high in sorted(spans):
        z = high if low < z < high or z == low else z
    return z


def _lifted(bodies: list[Body], room: Room) -> list[Body]:
    """The bodies as they start: inside the walls, each raised until the ball round it touches neither the
    ground, nor a piece, nor the ball round a body before it.
    """
    out: list[Body] = []
    reach = [float(np.linalg.norm(body.points, axis=1).max()) * 1.001 for body in bodies]
    for body, r in zip(bodies, reach, strict=True):
        pose = body.pose.copy()
        x, y, z = pose[:3, 3]
        if room.walls is not None:
            x, y = (
                min(max(v, low + r), high - r) if high - low > 2 * r else (low + high) / 2
                for v, low, high in ((x, room.walls[0], room.walls[2]), (y, room.walls[1], room.walls[3]))
            )
        if room.ground is not None:
            z = max(z, room.ground + r)
        for piece in room.pieces:
            low, high = piece.min(0), piece.max(0)
            if low[0] - r < x < high[0] + r and low[1] - r < y < high[1] + r:
                z = max(z, high[2] + r)
        z = _clear(x, y, z, r, [(other.pose[:3, 3], s) for other, s in zip(out, reach, strict=False)])
        pose[:3, 3] = x, y, z
        out.append(Body(body.points, pose, body.density, body.friction, body.ball))
    return out
