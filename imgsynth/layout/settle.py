"""Rigid bodies let fall until they lie still: the one place that imports MuJoCo (extra `physics`).

Lengths are scaled by the bodies' size and time by its root, so that a die and a crate fall alike and contacts
are as stiff for the one as for the other. One thread, no randomness: the same bodies come to rest the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import geometry
from imgsynth.batch import F64
from imgsynth.errors import ImgsynthError

GRAVITY = 9.81
STEP = 0.008  # scaled seconds: what falls from ten times its size moves a tenth of its size in one
CALM = 0.01  # scaled speed below which a body lies still
_AT_ONCE = 20  # steps between looks
_LOOKS = 4  # calm looks in a row that make a rest
_THIN = 2e-3  # flatter than this share of its reach, a body is given that thickness
MAX_HULL = 4096


@dataclass(frozen=True)
class Body:
    """A thing that falls: what spans its convex hull in its own frame, and where it starts."""

    points: F64  # (v, 3) metres, scaled
    pose: F64  # (4, 4)
    density: float
    friction: float
    ball: float = 0.0  # its radius, where it is a ball


@dataclass(frozen=True)
class Room:
    """What bodies fall on: the ground's height (None: no ground), walls (x0, y0, x1, y1), and convex pieces
    (v, 3) in the world's frame.
    """

    ground: float | None
    walls: tuple[float, float, float, float] | None
    pieces: tuple[F64, ...] = ()


def settle(bodies: list[Body], room: Room, time_s: float) -> tuple[F64, NDArray[np.bool_], NDArray[np.bool_]]:
    """Poses (k, 4, 4) of bodies after the fall, which of them still move when the time is over, and which
    fell off all there is to fall on.

    Raises:
        ImgsynthError: MuJoCo is not installed.
    """
    mujoco = _mujoco()
    unit = float(np.median([_reach(body) for body in bodies]))
    model = _model(mujoco, bodies, room, unit)
    data = mujoco.MjData(model)
    low = [room.ground] if room.ground is not None else []
    bottom = min([*low, *(float(piece[:, 2].min()) for piece in room.pieces)])
    calm, still = 0, np.zeros(len(bodies), bool)
    while data.time < time_s / np.sqrt(unit) and calm < _LOOKS:
        mujoco.mj_step(model, data, nstep=_AT_ONCE)
        speed = np.abs(data.qvel.reshape(-1, 6)).max(1)
        still = speed < CALM
        gone = data.qpos.reshape(-1, 7)[:, 2] * unit < bottom
        calm = calm + 1 if (still | gone).all() or not np.isfinite(speed).all() else 0
    place = data.qpos.reshape(-1, 7)
    poses = geometry.compose(np.nan_to_num(place[:, 3:], nan=0.5), np.nan_to_num(place[:, :3]) * unit)
    lost = ~np.isfinite(place).all(1) | (poses[:, 2, 3] < bottom)
    return poses, ~still & ~lost, lost


def pieces(vertices: F64, faces: NDArray[np.integer]) -> list[F64]:
    """The connected pieces of a mesh, each the points (v, 3) of one; what meets at a point is connected."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    point, position = np.unique(vertices, axis=0, return_inverse=True)
    corner = position.reshape(-1)[faces]
    edge = np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]]])
    links = coo_array((np.ones(len(edge), np.int8), (edge[:, 0], edge[:, 1])), shape=(len(point),) * 2)
    label = connected_components(links, directed=False)[1]
    used = np.unique(corner)
    return [point[used[label[used] == k]] for k in np.unique(label[used])]


def hull(points: F64) -> F64:
    """The vertices of a convex hull; flat points are given a little thickness first."""
    from scipy.spatial import ConvexHull

    middle = points - points.mean(0)
    reach = _THIN * np.sqrt((middle**2).sum(1).max())
    for axis in np.linalg.eigh(middle.T @ middle)[1].T:
        if np.ptp(middle @ axis) < reach:
            points = np.concatenate([points + reach / 2 * axis, points - reach / 2 * axis])
    corners = points[ConvexHull(points).vertices]
    return corners if len(corners) <= MAX_HULL else corners[:: -(-len(corners) // MAX_HULL)]


def _mujoco() -> Any:
    try:
        import mujoco  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImgsynthError(
            "place.drop needs MuJoCo, which is not installed: pip install 'imgsynth[physics]'"
        ) from None
    mujoco.set_mju_user_warning(lambda text: None)  # else it writes a log file where it stands
    return mujoco


def _reach(body: Body) -> float:
    return body.ball or float(np.linalg.norm(body.points, axis=1).max())


def _model(mujoco: Any, bodies: list[Body], room: Room, unit: float) -> Any:
    spec = mujoco.MjSpec()
    spec.compiler.usethread = False
    spec.option.timestep = STEP
    spec.option.gravity = [0.0, 0.0, -GRAVITY]
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.disableflags = int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)

    def geom(owner: Any, kind: str, friction: float, **more: Any) -> None:
        made = owner.add_geom()
        made.type = getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")
        made.friction = [friction, 0.02, 0.003]
        made.solref = [2 * STEP, 1.0]
        for name, value in more.items():
            setattr(made, name, value)

    def convex(name: str, points: F64) -> str:
        mesh = spec.add_mesh()
        mesh.name = name
        mesh.uservert = (hull(points) / unit).ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        return name

    world = spec.worldbody
    for pos, quat in _planes(room):
        geom(world, "PLANE", 0.0, size=[0, 0, 1], pos=np.array(pos) / unit, quat=quat)
    for k, points in enumerate(room.pieces):
        geom(world, "MESH", 0.0, meshname=convex(f"piece{k}", points))
    for k, body in enumerate(bodies):
        own = world.add_body()
        own.pos = body.pose[:3, 3] / unit
        own.quat = geometry.matrix_to_quat(body.pose[:3, :3])
        own.add_freejoint()
        density = body.density / 1000.0
        if body.ball:
            geom(own, "SPHERE", body.friction, size=[body.ball / unit, 0, 0], density=density, condim=6)
        else:
            more = {"density": density, "condim": 4}
            geom(own, "MESH", body.friction, meshname=convex(f"body{k}", body.points), **more)
    return spec.compile()


def _planes(room: Room) -> list[tuple[list[float], list[float]]]:
    """Position and turn of the ground and of four walls that face inwards."""
    half = float(np.sqrt(0.5))
    out = [] if room.ground is None else [([0.0, 0.0, room.ground], [1.0, 0.0, 0.0, 0.0])]
    if room.walls is not None:
        x0, y0, x1, y1 = room.walls
        out += [
            ([x0, 0.0, 0.0], [half, 0.0, half, 0.0]),  # +z to +x
            ([x1, 0.0, 0.0], [half, 0.0, -half, 0.0]),
            ([0.0, y0, 0.0], [half, -half, 0.0, 0.0]),
            ([0.0, y1, 0.0], [half, half, 0.0, 0.0]),
        ]
    return out
