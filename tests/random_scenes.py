"""Random scenes for renderers to agree on: solids of many kinds in random poses on and above a floor."""

from __future__ import annotations

from functools import cache

import numpy as np
from scenes_for_tests import (
    Material,
    Mesh,
    Shot,
    Thing,
    box,
    disc,
    grid_quad,
    icosphere,
    intrinsics,
    look_at,
    make_batch,
    pose,
    random_rotations,
)

from imgsynth import scenefile
from imgsynth.batch import SceneBatch
from imgsynth.compose import compose
from imgsynth.scene import SceneSpec


def torus(around: int = 40, across: int = 20) -> Mesh:
    """Torus of radii 0.7 and 0.3."""
    u, v = np.meshgrid(
        np.arange(around) * 2 * np.pi / around, np.arange(across) * 2 * np.pi / across, indexing="ij"
    )
    n = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], -1)
    p = 0.7 * np.stack([np.cos(u), np.sin(u), 0 * u], -1) + 0.3 * n
    i, j = np.meshgrid(np.arange(around), np.arange(across), indexing="ij")
    a, b = i * across + j, (i + 1) % around * across + j
    c, d = (i + 1) % around * across + (j + 1) % across, i * across + (j + 1) % across
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return Mesh(p.reshape(-1, 3), n.reshape(-1, 3), np.stack([u, v], -1).reshape(-1, 2), faces)


@cache
def solids() -> tuple[Mesh, ...]:
    """Spheres fine and coarse, boxes, a torus, sheets, and the package's own shapes: rounded box, cylinder, die."""
    spec = SceneSpec.model_validate({
        "name": "solids",
        "objects": {
            "rounded": {"shape": {"rounded_box": {"size": [1.2, 1.0, 0.7], "radius": 0.2}}},
            "cylinder": {"shape": {"cylinder": {"radius": 0.5, "height": 1.2}}},
            "die": {"shape": {"dice": {"size": 1.2}}},
        },
    })  # fmt: skip
    plan = scenefile.load(spec).plan()
    batch = compose(plan, plan.sample(0, [0]))
    pool = batch.meshes
    own = []
    for m in range(len(pool.two_sided)):
        a, b = pool.vertex_start[m : m + 2]
        f, g = pool.face_start[m : m + 2]
        own.append(
            Mesh(
                pool.vertices[a:b], pool.normals[a:b], pool.uv[a:b], pool.faces[f:g], bool(pool.two_sided[m])
            )
        )
    sheet = grid_quad(3, True)
    return (icosphere(4), icosphere(1), box(), box(1.4, 0.5, 0.9), torus(), sheet, disc(48), *own)


def leafy(size: int = 32) -> np.ndarray:
    """A texture with a hole in the shape of a disc and a stripe of another colour."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    out = np.full((size, size, 4), 255, np.uint8)
    out[..., 3] = np.where(np.hypot(x, y) < 0.22, 0, 255)
    out[size // 2 :, :, :3] = (200, 120, 40)
    return out


def random_batch(count: int, seed: int, size: tuple[int, int] = (64, 64), matte: bool = False) -> SceneBatch:
    """`count` frames: one to nine things, most on or above a floor, some before the near plane or off the edge.

    Focal lengths, principal points and rolls vary; a fifth have no floor, a tenth pixels that are not square.
    """
    rng = np.random.default_rng(seed)
    meshes = list(solids())
    hue = rng.uniform(0.1, 0.9, (12, 3))
    materials = [
        Material(tuple(c), 0.0 if matte or i % 3 else float(i % 2), 1.0 if matte else 0.2 + 0.07 * i, texture=0 if i == 7 else -1,
                 alpha_cutoff=0.5 if i == 7 else 0.0, uv_scale=(2.0, 3.0) if i == 7 else (1.0, 1.0))
        for i, c in enumerate(hue)
    ]  # fmt: skip
    shots = []
    for _ in range(count):
        n = int(rng.integers(1, 10))
        turns = random_rotations(rng, n)
        things = []
        for turn in turns:
            kind = int(rng.integers(len(meshes)))
            scale = rng.uniform(0.15, 0.45)
            place = (*rng.uniform(-1.2, 1.2, 2), rng.uniform(0.0, 0.9))
            stretch = rng.uniform(0.6, 1.4, 3) if rng.random() < 0.4 else np.ones(3)
            material = (
                7
                if meshes[kind].two_sided and rng.random() < 0.5
                else int(rng.choice([0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]))
            )
            things.append(Thing(kind, pose(turn, place), tuple(scale * stretch), material))
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 5.0)
        eye = (distance * np.cos(angle), distance * np.sin(angle), rng.uniform(0.6, 3.5))
        focal = size[1] * rng.uniform(0.8, 2.2)
        k = intrinsics(focal, size, (size[1] * rng.uniform(0.35, 0.65), size[0] * rng.uniform(0.35, 0.65)))
        if rng.random() < 0.1:
            k[1, 1] *= rng.uniform(0.8, 1.25)
        camera = look_at(eye, (*rng.uniform(-0.4, 0.4, 2), 0.3))
        roll = rng.normal(0, 0.3)
        c, s = np.cos(roll), np.sin(roll)
        camera[:3, :3] = camera[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        up = rng.uniform(0.25, 1.0)
        around = rng.uniform(0, 2 * np.pi)
        sun = (np.cos(around) * np.sqrt(1 - up * up), np.sin(around) * np.sqrt(1 - up * up), up)
        shots.append(
            Shot(things, camera, k, near=0.05, sun_direction=sun, sun=tuple(rng.uniform(0.5, 3.0, 3)),
                 ambient=tuple(rng.uniform(0.1, 0.6, 3)), shadows=True, ground=-1 if rng.random() < 0.2 else 11)
        )  # fmt: skip
    return make_batch(shots, meshes, size, materials, [leafy()])
