"""Small meshes and batches built by hand, for tests of the renderer and the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from imgsynth.batch import (
    FLAT,
    Backgrounds,
    Cameras,
    Ground,
    InstanceTable,
    Lights,
    Materials,
    MeshPool,
    SceneBatch,
    TexturePool,
)


@dataclass
class Mesh:
    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    two_sided: bool = False
    slots: np.ndarray | None = None


def icosphere(level: int = 4) -> Mesh:
    """Unit sphere by subdividing an icosahedron, 20·4^level triangles."""
    g = (1 + 5**0.5) / 2
    v = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g)]
    v += [(0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    f = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2)]
    f += [(10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5)]
    f += [(2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    vertices, faces = np.array(v, float), np.array(f)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    for _ in range(level):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=2).reshape(-1, 2)
        unique, inverse = np.unique(edges, axis=0, return_inverse=True)
        middle = vertices[unique].sum(1)
        middle /= np.linalg.norm(middle, axis=1, keepdims=True)
        a, b, c = faces.T
        ab, bc, ca = (inverse.reshape(-1, 3) + len(vertices)).T
        faces = np.concatenate(
            [np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
        vertices = np.concatenate([vertices, middle])
    uv = np.stack([np.arctan2(vertices[:, 1], vertices[:, 0]) / (2 * np.pi), vertices[:, 2]], 1)
    return Mesh(vertices, vertices.copy(), uv, faces)


def box(x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Mesh:
    """Box of full sizes x, y, z about the origin, its corners split for flat normals."""
    vertices, normals, uv, faces = [], [], [], []
    for axis in range(3):
        for sign in (-1, 1):
            n = np.zeros(3)
            n[axis] = sign
            u = np.roll([1.0, 0.0, 0.0], (axis + 1) % 3)
            w = np.cross(n, u)
            start = 4 * (2 * axis + (sign > 0))
            for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                vertices.append((n + s * u + t * w) * np.array([x, y, z]) / 2)
                normals.append(n)
                uv.append(((s + 1) / 2, (t + 1) / 2))
            faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    return Mesh(np.array(vertices), np.array(normals), np.array(uv), np.array(faces))


def grid_quad(cells: int = 1, two_sided: bool = True, jitter: float = 0.0) -> Mesh:
    """Unit square in z = 0 about the origin, facing up, of cells² pairs of triangles; inner vertices may be
    jittered.
    """
    t = np.linspace(-0.5, 0.5, cells + 1)
    y, x = np.meshgrid(t, t, indexing="ij")
    vertices = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    if jitter:
        noise = np.random.default_rng(1).uniform(-jitter / cells, jitter / cells, (cells + 1, cells + 1, 2))
        noise[[0, -1]] = noise[:, [0, -1]] = 0
        vertices[:, :2] += noise.reshape(-1, 2)
    i = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).reshape(-1)
    a, b, c, d = i, i + 1, i + cells + 2, i + cells + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    normals = np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
    return Mesh(vertices, normals, vertices[:, :2] + 0.5, faces, two_sided)


def disc(segments: int = 256) -> Mesh:
    """Unit disc in z = 0, facing up, two-sided."""
    angle = 2 * np.pi * np.arange(segments) / segments
    rim = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    vertices = np.concatenate([[[0, 0, 0]], rim])
    i = np.arange(segments)
    faces = np.stack([0 * i, 1 + i, 1 + (i + 1) % segments], 1)
    normals = np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
    return Mesh(vertices, normals, vertices[:, :2] / 2 + 0.5, faces, True)


@dataclass
class Material:
    base_color: Sequence[float] = (0.8, 0.8, 0.8)
    metallic: float = 0.0
    roughness: float = 0.5
    emission: Sequence[float] = (0.0, 0.0, 0.0)
    texture: int = -1
    uv_scale: Sequence[float] = (1.0, 1.0)
    alpha_cutoff: float = 0.0
    normal_texture: int = -1
    normal_scale: float = 1.0
    surface_texture: int = -1
    emission_texture: int = -1
    clearcoat: float = 0.0
    clearcoat_roughness: float = 0.0
    pattern: int = -1


@dataclass
class Thing:
    """An instance: mesh and material by number, pose, scale."""

    mesh: int = 0
    pose: np.ndarray = field(default_factory=lambda: np.eye(4))
    scale: Sequence[float] = (1.0, 1.0, 1.0)
    material: int = 0
    class_id: int = 1


@dataclass
class Shot:
    """A frame."""

    things: list[Thing] = field(default_factory=list)
    camera: np.ndarray = field(default_factory=lambda: np.eye(4))
    k: np.ndarray | None = None
    near: float = 0.05
    sun_direction: Sequence[float] = (0.0, 0.0, 1.0)
    sun: Sequence[float] = (0.0, 0.0, 0.0)
    ambient: Sequence[float] = (0.0, 0.0, 0.0)
    shadows: bool = False
    ground: int = -1
    ground_height: float = 0.0
    background: int = FLAT
    color_a: Sequence[float] = (0.1, 0.2, 0.3)
    color_b: Sequence[float] = (0.6, 0.5, 0.4)
    noise_scale: float = 4.0
    noise_seed: int = 7
    photo: int = -1
    photo_window: Sequence[float] = (0.0, 0.0, 1.0, 1.0)


def pose(rotation: np.ndarray | None = None, translation: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    out = np.eye(4)
    if rotation is not None:
        out[:3, :3] = rotation
    out[:3, 3] = translation
    return out


def look_at(eye: Sequence[float], target: Sequence[float], up: Sequence[float] = (0, 0, 1)) -> np.ndarray:
    """world_from_camera of an OpenCV camera (x right, y down, z forward)."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    return pose(np.stack([x, np.cross(z, x), z], 1), eye)


def random_rotations(rng: np.random.Generator, n: int) -> np.ndarray:
    q = rng.normal(size=(n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def intrinsics(focal: float, size: tuple[int, int], center: tuple[float, float] | None = None) -> np.ndarray:
    cx, cy = center or (size[1] / 2, size[0] / 2)
    return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])


def texture_pool(images: Sequence[np.ndarray]) -> TexturePool:
    """Pool of RGBA images with 2×2 box mips in linear light."""
    if not images:
        return TexturePool.empty()
    texels, first, start, size = [], [0], [], []
    offset = 0
    for image in images:
        level = image.astype(np.float64) / 255
        level[..., :3] = np.where(
            level[..., :3] <= 0.04045, level[..., :3] / 12.92, ((level[..., :3] + 0.055) / 1.055) ** 2.4
        )
        while True:
            out = level.copy()
            rgb = out[..., :3]
            out[..., :3] = np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)
            texels.append(np.round(out * 255).astype(np.uint8).reshape(-1, 4))
            start.append(offset)
            size.append(level.shape[:2])
            offset += len(texels[-1])
            if max(level.shape[:2]) == 1:
                break
            h, w = (max(side // 2, 1) for side in level.shape[:2])
            y, x = (
                np.minimum(np.arange(2 * n), side - 1)
                for n, side in zip((h, w), level.shape[:2], strict=True)
            )
            level = level[y][:, x].reshape(h, 2, w, 2, 4).mean((1, 3))
        first.append(len(start))
    return TexturePool(
        np.concatenate(texels), np.array(first, np.int32), np.array(start, np.int64), np.array(size, np.int32)
    )


def make_batch(
    shots: Sequence[Shot],
    meshes: Sequence[Mesh],
    size: tuple[int, int] = (64, 64),
    materials: Sequence[Material] = (Material(),),
    textures: Sequence[np.ndarray] | TexturePool = (),
) -> SceneBatch:
    f32 = np.float32
    n = len(shots)
    pool = MeshPool(
        vertices=np.concatenate([m.vertices for m in meshes]).astype(f32),
        normals=np.concatenate([m.normals for m in meshes]).astype(f32),
        uv=np.concatenate([m.uv for m in meshes]).astype(f32),
        faces=np.concatenate([m.faces for m in meshes]).astype(np.int32),
        slots=np.concatenate([np.zeros(len(m.faces)) if m.slots is None else m.slots for m in meshes]).astype(
            np.int32
        ),
        vertex_start=np.cumsum([0] + [len(m.vertices) for m in meshes]).astype(np.int64),
        face_start=np.cumsum([0] + [len(m.faces) for m in meshes]).astype(np.int64),
        two_sided=np.array([m.two_sided for m in meshes]),
    )
    things = [(i, j + 1, t) for i, s in enumerate(shots) for j, t in enumerate(s.things)]
    count = len(things)
    slots = int(pool.slots.max()) + 1
    path = np.empty(count, object)
    path[:] = [f"objects.thing[{j - 1}]" for _, j, _ in things]
    group = np.empty(count, object)
    group[:] = "thing"
    table = InstanceTable(
        frame=np.array([i for i, _, _ in things], np.int32),
        id=np.array([j for _, j, _ in things], np.int32),
        class_id=np.array([t.class_id for *_, t in things], np.int32),
        mesh=np.array([t.mesh for *_, t in things], np.int32),
        materials=np.array([[t.material + s for s in range(slots)] for *_, t in things], np.int32).reshape(
            count, slots
        ),
        world_from_object=np.array([t.pose for *_, t in things], np.float64).reshape(count, 4, 4),
        scale=np.array([t.scale for *_, t in things], np.float64).reshape(count, 3),
        path=path,
        group=group,
    )
    return SceneBatch(
        indices=np.arange(n),
        size=size,
        classes=("thing", "other"),
        cameras=Cameras(
            np.array([intrinsics(size[1], size) if s.k is None else s.k for s in shots], np.float64),
            np.array([s.camera for s in shots], np.float64),
            np.array([s.near for s in shots], np.float64),
        ),
        lights=Lights(
            np.array([np.asarray(s.sun_direction) / np.linalg.norm(s.sun_direction) for s in shots], f32),
            np.array([s.sun for s in shots], f32),
            np.array([s.ambient for s in shots], f32),
            np.array([s.shadows for s in shots]),
        ),
        ground=Ground(
            np.array([s.ground >= 0 for s in shots]),
            np.array([s.ground_height for s in shots], f32),
            np.array([s.ground for s in shots], np.int32),
        ),
        backgrounds=Backgrounds(
            np.array([s.background for s in shots], np.int32),
            np.array([s.color_a for s in shots], f32),
            np.array([s.color_b for s in shots], f32),
            np.array([s.noise_scale for s in shots], f32),
            np.array([s.noise_seed for s in shots], np.uint32),
            np.array([s.photo for s in shots], np.int32),
            np.array([s.photo_window for s in shots], f32),
        ),
        materials=Materials(
            np.array([m.base_color for m in materials], f32),
            np.array([m.metallic for m in materials], f32),
            np.array([m.roughness for m in materials], f32),
            np.array([m.emission for m in materials], f32),
            np.array([m.texture for m in materials], np.int32),
            np.array([m.uv_scale for m in materials], f32),
            np.array([m.alpha_cutoff for m in materials], f32),
            np.array([m.normal_texture for m in materials], np.int32),
            np.array([m.normal_scale for m in materials], f32),
            np.array([m.surface_texture for m in materials], np.int32),
            np.array([m.emission_texture for m in materials], np.int32),
            np.array([m.clearcoat for m in materials], f32),
            np.array([m.clearcoat_roughness for m in materials], f32),
            np.array([m.pattern for m in materials], np.int32),
        ),
        textures=textures if isinstance(textures, TexturePool) else texture_pool(textures),
        meshes=pool,
        instances=table,
    )
