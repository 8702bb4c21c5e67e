"""An independent oracle for labels: a float64 ray caster in numpy that shares no code with the renderer.

One ray per image point, Möller–Trumbore (J. Graphics Tools 2(1), 1997) against all triangles of all instances, plus
the ground plane. Slow, simple, and made from the definitions in `imgsynth.batch` alone. Lenses are OpenCV's
own code, both ways; only how far a lens's field reaches is taken from `imgsynth.lens`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from imgsynth.batch import SceneBatch
from imgsynth.lens import reach

PAIRS = 1 << 19  # rays × triangles worked on at once
TIE = 1e-6  # relative depth from which one thing is before another; what lies on the ground is before it
EDGE = 1e-12  # barycentric slack: a ray through a shared edge hits one side at least


@dataclass(frozen=True)
class Grid:
    """Image points: all pairs of `x` and `y`, both rising, in pixels."""

    x: np.ndarray  # (w,)
    y: np.ndarray  # (h,)

    @staticmethod
    def centres(size: tuple[int, int], per_pixel: int = 1) -> Grid:
        """Pixel centres of an image (height, width), or the centres of `per_pixel`² cells of each pixel."""
        h, w = (side * per_pixel for side in size)
        return Grid((np.arange(w) + 0.5) / per_pixel, (np.arange(h) + 0.5) / per_pixel)

    def moved(self, dx: float, dy: float) -> Grid:
        """The same grid, elsewhere."""
        return Grid(self.x + dx, self.y + dy)

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w)."""
        return len(self.y), len(self.x)


@dataclass(frozen=True)
class Traced:
    """What the rays of one frame hit."""

    instance: np.ndarray  # (h, w) id, 0 = background or ground
    depth: np.ndarray  # (h, w) along camera z, inf where nothing is hit
    normal: np.ndarray  # (h, w, 3) interpolated, unit, towards the camera; camera frame
    face_normal: np.ndarray  # (h, w, 3) of the triangle's plane
    face: np.ndarray  # (h, w) running number of the triangle in the frame; -1 ground, -2 nothing
    material: np.ndarray  # (h, w) -1 where an object has none or nothing is hit
    uv: np.ndarray  # (h, w, 2) in repeats of the texture; v grows upwards
    distance: (
        np.ndarray
    )  # (R, h, w) depth of the frame's r-th instance, whatever is before it; inf where it is not hit

    @property
    def alone(self) -> np.ndarray:
        """(R, h, w) amodal masks."""
        return np.isfinite(self.distance)

    @property
    def clear(self) -> np.ndarray:
        """(h, w) no two instances share the nearest depth, to rounding."""
        if len(self.distance) < 2:
            return np.ones(self.instance.shape, bool)
        first, second = np.sort(self.distance, axis=0)[:2]
        return ~(second <= first * (1 + TIE)) | ~np.isfinite(first)


def camera_points(batch: SceneBatch, row: int) -> np.ndarray:
    """(v, 3) vertices of an instance in its camera's frame, metres."""
    table, pool = batch.instances, batch.meshes
    a, b = pool.vertex_start[table.mesh[row] :][:2]
    scaled = np.diag([*table.scale[row], 1.0])
    camera = np.linalg.inv(batch.cameras.world_from_camera[table.frame[row]])
    points = np.concatenate([pool.vertices[a:b].astype(np.float64), np.ones((b - a, 1))], 1)
    return (points @ (camera @ table.world_from_object[row] @ scaled).T)[:, :3]


def faces_of(batch: SceneBatch, row: int) -> np.ndarray:
    """(f, 3) vertex numbers of an instance's triangles."""
    a, b = batch.meshes.face_start[batch.instances.mesh[row] :][:2]
    return batch.meshes.faces[a:b]


def trace(
    batch: SceneBatch, frame: int, grid: Grid, rows: np.ndarray | None = None, exhaustive: bool = False
) -> Traced:
    """Cast a ray through every point of `grid` in the camera of batch position `frame`.

    Against instances `rows` (all of the frame's by default). `exhaustive` tests every ray against every triangle
    instead of those near its image.
    """
    k, near = batch.cameras.k[frame], batch.cameras.near[frame]
    h, w = grid.shape
    x, y = (c.ravel() for c in np.meshgrid(grid.x, grid.y))
    rays = np.linalg.solve(k, np.stack([x, y, np.ones_like(x)])).T
    rays /= rays[:, 2:]  # so that a hit's parameter is its depth
    if bent(batch, frame):
        rays[:, :2] = straightened(batch, frame, np.stack([x, y], 1))

    depth, face, ids, normal, plane, material, uv = _ground(batch, frame, rays, near)
    rows = np.flatnonzero(batch.instances.frame == frame) if rows is None else rows
    distance = np.full((len(rows), h * w), np.inf)
    depth *= 1 + TIE
    first = 0
    for r, row in enumerate(rows):
        points, faces = camera_points(batch, row), faces_of(batch, row)
        for ray, triangle in _pairs(batch, frame, points[faces], grid, exhaustive):
            t, b, c, hit = _hits(batch, row, points[faces[triangle]], rays[ray], near)
            hit[hit] = _opaque(batch, *_textured(batch, row, triangle[hit], b[hit], c[hit]))
            ray, triangle, t, b, c = ray[hit], triangle[hit], t[hit], b[hit], c[hit]
            order = np.lexsort((triangle, t, ray))
            order = order[np.unique(ray[order], return_index=True)[1]]  # the nearest of each ray
            distance[r, ray[order]] = np.minimum(distance[r, ray[order]], t[order])
            order = order[t[order] < depth[ray[order]]]
            ray, triangle, t, b, c = ray[order], triangle[order], t[order], b[order], c[order]
            depth[ray], face[ray], ids[ray] = t, first + triangle, batch.instances.id[row]
            plane[ray], normal[ray] = _normals(batch, row, points, triangle, b, c, rays[ray])
            material[ray], uv[ray] = _textured(batch, row, triangle, b, c)
        first += len(faces)
    depth[face == -1] /= 1 + TIE
    shape = (h, w)
    return Traced(
        ids.reshape(shape), depth.reshape(shape), normal.reshape(h, w, 3), plane.reshape(h, w, 3),
        face.reshape(shape), material.reshape(shape), uv.reshape(h, w, 2), distance.reshape(-1, h, w),
    )  # fmt: skip


def bent(batch: SceneBatch, frame: int) -> bool:
    """Whether a frame's lens bends its picture."""
    return batch.cameras.lens is not None and bool(batch.cameras.lens.kind[frame])


def straightened(batch: SceneBatch, frame: int, pixels: np.ndarray) -> np.ndarray:
    """(p, 2) normalized straight points of pixels (p, 2) through a frame's lens; NaN outside of its field."""
    kind, c, k = (
        batch.cameras.lens.kind[frame],
        batch.cameras.lens.coefficients[frame],
        batch.cameras.k[frame],
    )
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-15)
    if kind == 1:
        out = cv2.undistortPoints(pixels[:, None], k, c, criteria=until)[:, 0]
    else:
        out = cv2.fisheye.undistortPoints(pixels[:, None], k, c[:4], criteria=until)[:, 0]
    out = np.where(np.linalg.norm(out, axis=1)[:, None] <= reach(int(kind), c) * (1 + 1e-9), out, np.nan)
    back = pictured(batch, frame, np.concatenate([out, np.ones((len(out), 1))], 1))
    return np.where(np.linalg.norm(back - pixels, axis=1)[:, None] < 1e-6, out, np.nan)


def pictured(batch: SceneBatch, frame: int, points: np.ndarray) -> np.ndarray:
    """(p, 2) pixels of camera-frame points (p, 3), which lie before the camera; NaN outside of the field."""
    k = batch.cameras.k[frame]
    flat = points[:, :2] / points[:, 2:]
    if not bent(batch, frame) or not len(points):
        image = points @ k.T
        return image[:, :2] / image[:, 2:]
    kind, c = batch.cameras.lens.kind[frame], batch.cameras.lens.coefficients[frame]
    if kind == 1:
        there = np.concatenate([flat, np.ones((len(flat), 1))], 1)
        image = cv2.projectPoints(there, np.zeros(3), np.zeros(3), k, c)[0][:, 0]
    else:
        image = cv2.fisheye.distortPoints(flat[:, None], k, c[:4])[:, 0]
    return np.where(np.linalg.norm(flat, axis=1)[:, None] <= reach(int(kind), c) * (1 + 1e-9), image, np.nan)


def _ground(batch: SceneBatch, frame: int, rays: np.ndarray, near: float) -> tuple[np.ndarray, ...]:
    """Depth, face, id, normals, material and uv of a world with the ground only."""
    n = len(rays)
    pose = batch.cameras.world_from_camera[frame]
    depth, face, normal = np.full(n, np.inf), np.full(n, -2), np.zeros((n, 3))
    if batch.ground.present[frame]:
        with np.errstate(divide="ignore"):
            t = (float(batch.ground.height[frame]) - pose[2, 3]) / (rays @ pose[2, :3])
        hit = (t >= near) & np.isfinite(t)
        depth[hit], face[hit] = t[hit], -1
        normal[hit] = pose[2, :3] * -np.sign(rays[hit] @ pose[2, :3])[:, None]
    material = np.where(face == -1, batch.ground.material[frame], -1)
    uv = np.zeros((n, 2))
    place = pose[:3, 3] + (rays[face == -1] * depth[face == -1, None]) @ pose[:3, :3].T
    uv[face == -1] = place[:, :2] * batch.materials.uv_scale[batch.ground.material[frame]]
    return depth, face, np.zeros(n, int), normal, normal.copy(), material, uv


def _pairs(
    batch: SceneBatch, frame: int, corners: np.ndarray, grid: Grid, exhaustive: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rays and triangles that may meet, in chunks: rays within the bounds of the triangle's image, or all where it has none."""
    h, w = grid.shape
    near, z = batch.cameras.near[frame], corners[..., 2]
    lo, hi = np.zeros((2, len(corners), 2), int)
    hi[:] = w, h
    if not exhaustive:
        bounded = z.min(1) > near / 2
        image = pictured(batch, frame, corners[bounded].reshape(-1, 3)).reshape(-1, 3, 2)
        slack = 1e-6
        if bent(batch, frame):  # small triangles stay near their corners; the others are looked at everywhere
            extent = np.ptp(image, axis=1).max(1)
            keep = extent < 0.08 * min(batch.size)  # False where a corner lies in no field
            bounded, image = np.flatnonzero(bounded)[keep], image[keep]
            slack = 2.0
        for axis, line in enumerate((grid.x, grid.y)):
            lo[bounded, axis] = np.searchsorted(line, image[..., axis].min(1) - slack)
            hi[bounded, axis] = np.searchsorted(line, image[..., axis].max(1) + slack)
        hi[z.max(1) < near] = 0
    span = np.maximum(hi - lo, 0)
    count = span.prod(1)
    kept = np.flatnonzero(count)
    ends = np.cumsum(count[kept])
    start = 0
    while start < len(kept):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS, side="right")))
        part = kept[start:stop]
        triangle = np.repeat(part, count[part])
        inside = np.arange(len(triangle)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        row, column = np.divmod(inside, span[triangle, 0])
        yield (lo[triangle, 1] + row) * w + lo[triangle, 0] + column, triangle
        start = stop


def _hits(
    batch: SceneBatch, row: int, corners: np.ndarray, rays: np.ndarray, near: float
) -> tuple[np.ndarray, ...]:
    """Möller–Trumbore, pair by pair: depth, weights of the second and third corner, whether it counts as a hit."""
    a = corners[:, 0]
    ab, ac = corners[:, 1] - a, corners[:, 2] - a
    p = np.cross(rays, ac)
    det = np.einsum("ij,ij->i", ab, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        b = np.einsum("ij,ij->i", -a, p) / det
        q = np.cross(-a, ab)
        c = np.einsum("ij,ij->i", rays, q) / det
        t = np.einsum("ij,ij->i", ac, q) / det
        hit = (det != 0) & (b >= -EDGE) & (c >= -EDGE) & (b + c <= 1 + EDGE) & (t >= near)
    if not batch.meshes.two_sided[batch.instances.mesh[row]]:
        # Counter-clockwise corners face the ray where the determinant is positive; a mirrored object turns clockwise.
        hit &= det * np.prod(np.sign(batch.instances.scale[row])) > 0
    return t, b, c, hit


def _textured(
    batch: SceneBatch, row: int, triangle: np.ndarray, b: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Materials of points on triangles, and where in their textures the points lie."""
    pool, mesh = batch.meshes, batch.instances.mesh[row]
    material = batch.instances.materials[row][pool.slots[pool.face_start[mesh] + triangle]]
    corners = pool.uv[pool.vertex_start[mesh] + faces_of(batch, row)[triangle]].astype(np.float64)
    uv = np.einsum("ic,icd->id", np.stack([1 - b - c, b, c], 1), corners)
    return material, uv * batch.materials.uv_scale[material]


def _opaque(batch: SceneBatch, material: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Whether the texture's alpha leaves the points there."""
    texture, cutoff = batch.materials.texture[material], batch.materials.alpha_cutoff[material]
    cut = (material >= 0) & (texture >= 0) & (cutoff > 0)
    there = np.ones(len(material), bool)
    for which in np.unique(texture[cut]):
        here = np.flatnonzero(cut & (texture == which))
        there[here] = texel(batch, int(which), uv[here])[:, 3] >= cutoff[here]
    return there


def texel(batch: SceneBatch, texture: int, uv: np.ndarray) -> np.ndarray:
    """(p, 4) linear colour and alpha of a texture's image, bilinear between its texel centres, repeated; v = 1 at the top."""
    pool = batch.textures
    level = pool.first_level[texture]
    h, w = pool.level_size[level]
    image = pool.texels[pool.level_start[level] :][: h * w].reshape(h, w, 4) / 255.0
    rgb = image[..., :3]
    image[..., :3] = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y = uv[:, 0] * w - 0.5, (1 - uv[:, 1]) * h - 0.5
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - i)[:, None], (y - j)[:, None]
    top = image[j % h, i % w] * (1 - fx) + image[j % h, (i + 1) % w] * fx
    low = image[(j + 1) % h, i % w] * (1 - fx) + image[(j + 1) % h, (i + 1) % w] * fx
    return top * (1 - fy) + low * fy


def _normals(
    batch: SceneBatch,
    row: int,
    points: np.ndarray,
    triangle: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    rays: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Plane normals and interpolated normals, unit, in the camera's frame, on the side that the ray comes from."""
    table, pool, faces = batch.instances, batch.meshes, faces_of(batch, row)
    corner = points[faces[triangle]]
    plane = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    plane = plane * np.prod(np.sign(table.scale[row])) / np.linalg.norm(plane, axis=1, keepdims=True)
    toward = np.einsum("ij,ij->i", plane, rays)
    side = np.where(toward > 0, -1.0, 1.0)[:, None]
    turn = np.linalg.inv(batch.cameras.world_from_camera[table.frame[row]])[:3, :3]
    turn = turn @ table.world_from_object[row, :3, :3] @ np.diag(1 / table.scale[row])
    own = pool.normals[pool.vertex_start[table.mesh[row]] + faces[triangle]].astype(np.float64)
    smooth = np.einsum("ic,icd->id", np.stack([1 - b - c, b, c], 1), own) @ turn.T
    smooth = side * smooth / np.linalg.norm(smooth, axis=1, keepdims=True)
    # At a rim an interpolated normal may point away: it is turned just until it does not.
    view = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    away = np.maximum(np.einsum("ij,ij->i", smooth, view), 0)[:, None]
    smooth = smooth - away * view
    return side * plane, smooth / np.linalg.norm(smooth, axis=1, keepdims=True)


def silhouette_box(batch: SceneBatch, row: int) -> np.ndarray | None:
    """xyxy bounds of an instance's image: its triangles cut at the near plane by walking their edges; None if all is behind."""
    frame = batch.instances.frame[row]
    near = batch.cameras.near[frame]
    points, faces = camera_points(batch, row), faces_of(batch, row)
    if bent(batch, frame):
        return _bent_box(batch, frame, points[faces])
    seen = [points[np.unique(faces)]]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        a, b = points[faces[:, i]], points[faces[:, j]]
        through = (a[:, 2] - near) * (b[:, 2] - near) < 0
        a, b = a[through], b[through]
        seen.append(a + (b - a) * ((near - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None])
    kept = np.concatenate([seen[0][seen[0][:, 2] >= near], *seen[1:]])
    if not len(kept):
        return None
    image = pictured(batch, frame, kept)
    return np.concatenate([image.min(0), image.max(0)])


def _bent_box(batch: SceneBatch, frame: int, corners: np.ndarray) -> np.ndarray | None:
    """By brute force: many points of each triangle's edges and inside, those that are seen."""
    near = batch.cameras.near[frame]
    cut = (corners[..., 2].min(1) < near) & (corners[..., 2].max(1) >= near)
    points = []
    for some, steps in ((corners[cut], 300), (corners[~cut], 200 if len(corners) < 100 else 12)):
        t = np.linspace(0, 1, steps)
        b, c = (v[np.add.outer(t, t) <= 1 + 1e-9] for v in np.meshgrid(t, t, indexing="ij"))
        points.append(np.tensordot(np.stack([1 - b - c, b, c], 1), some, ([1], [1])).reshape(-1, 3))
    inside = np.concatenate(points)
    inside = inside[inside[:, 2] >= batch.cameras.near[frame]]
    image = pictured(batch, frame, inside) if len(inside) else np.zeros((0, 2))
    image = image[np.isfinite(image).all(1)]
    return np.concatenate([image.min(0), image.max(0)]) if len(image) else None
