"""Label rays: what a frame's parts show at given image points, by Mitsuba's own ray intersection.

First hits come from an `aov` integrator over a film whose one sample sits in the middle of each cell; the few
that do not count (a texture's hole, the inside of a closed mesh) are followed further, ray by ray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.render.finisher import Patch
from imgsynth.render.mitsuba_scene import FrameScene
from imgsynth.render.mitsuba_sensor import sensor
from imgsynth.render.parts import Part
from imgsynth.render.reference import Cells, Mask, bilinear
from imgsynth.render.skins import skin, texels

AOVS = "p:position,n:sh_normal,g:geo_normal,uv:uv,s:shape_index"
BEYOND = 1e-5  # share of its depth by which a followed ray starts behind the last hit
MOST_LAYERS = 64
NUDGE = np.array([3.1e-6, 1.7e-6, 0.0])  # of a ray's direction: far less than a pixel


@dataclass
class Hits:
    """What cells see, (h, w, …): part (-1 nothing), position and normals in scaled camera coordinates, uv."""

    part: NDArray[np.int64]
    position: F64
    normal: F64
    geometric: F64
    uv: F64


def trace(scene: FrameScene, cells: Cells, row: int | None = None) -> Hits:
    """First hits that count, of all parts or of one instance's alone."""
    mi, batch, f = scene.mi, scene.batch, scene.frame
    geometry = scene.geometry(row)
    part_of = np.array([-1] + [int(shape.id()[4:]) for shape in geometry.shapes()])
    near = float(batch.cameras.near[f]) * scene.unit
    film = sensor(mi, batch.cameras, f, cells, near)
    image = np.array(mi.render(geometry, integrator=mi.load_dict({"type": "aov", "aovs": AOVS}), sensor=film,
                               spp=1, seed=0), np.float64)  # fmt: skip
    hits = Hits(
        part_of[np.rint(image[..., 11]).astype(int)], image[..., :3], image[..., 3:6], image[..., 6:9],
        image[..., 9:11],
    )  # fmt: skip
    wrong = ~_counts(scene, hits)
    if wrong.any():
        # A ray through the very edge of two triangles may slip between them: look again beside it.
        beside = hits.position / np.maximum(hits.position[..., 2:], near) + NUDGE
        _look_on(mi, geometry, part_of, hits, wrong, lambda at: (beside[at] * near, beside[at]))
        wrong &= ~_counts(scene, hits)
    for _ in range(MOST_LAYERS):
        if not wrong.any():
            break
        _look_on(mi, geometry, part_of, hits, wrong, lambda at: (hits.position[at] * (1 + BEYOND),) * 2)
        wrong = ~_counts(scene, hits)
    return hits


def _look_on(
    mi: Any,
    geometry: Any,
    part_of: NDArray[np.int64],
    hits: Hits,
    where: Mask,
    ray_of: Callable[[tuple[int, int]], tuple[F64, F64]],
) -> None:
    """Replace hits by what rays (start, direction of any length) meet instead."""
    for i, j in np.argwhere(where):
        at = (int(i), int(j))
        start, direction = ray_of(at)
        direction = direction / np.linalg.norm(direction)
        si = geometry.ray_intersect(mi.Ray3f(start.tolist(), direction.tolist()))
        if not si.is_valid():
            hits.part[at] = -1
            continue
        hits.part[at] = int(si.shape.id()[4:])
        hits.position[at] = [si.p.x, si.p.y, si.p.z]
        hits.normal[at] = [si.sh_frame.n.x, si.sh_frame.n.y, si.sh_frame.n.z]
        hits.geometric[at] = [si.n.x, si.n.y, si.n.z]
        hits.uv[at] = [si.uv.x, si.uv.y]


def _counts(scene: FrameScene, hits: Hits) -> Mask:
    """Whether hits are seen: not from inside a closed mesh, not in a texture's hole. Nothing counts too."""
    two_sided = np.array([*(part.two_sided for part in scene.parts), True])[hits.part]
    out: Mask = two_sided | (np.einsum("hwc,hwc->hw", hits.geometric, hits.position) <= 0)
    mat = scene.batch.materials
    for index in np.unique(hits.part[out & (hits.part >= 0)]):
        material = scene.parts[index].material
        if material >= 0 and mat.texture[material] >= 0 and mat.alpha_cutoff[material] > 0:
            alpha = texels(scene.batch, int(mat.texture[material]))[..., 3]
            here = out & (hits.part == index)
            out[here] = bilinear(alpha, hits.uv[here]) >= mat.alpha_cutoff[material]
    return out


def facing(scene: FrameScene, hits: Hits) -> F64:
    """(h, w, 3) unit normals on the side that the camera sees, turned just so far that none points away."""
    two_sided = np.array([*(part.two_sided for part in scene.parts), True])[hits.part]
    n, view = hits.normal.copy(), -hits.position
    view /= np.maximum(np.linalg.norm(view, axis=-1, keepdims=True), 1e-30)
    behind = two_sided & (np.einsum("hwc,hwc->hw", hits.geometric, view) < 0)
    n[behind] *= -1
    n /= np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-30)
    n -= np.minimum(np.einsum("hwc,hwc->hw", n, view), 0.0)[..., None] * view
    n /= np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-30)
    n[hits.part < 0] = 0.0
    return n


def base_color(scene: FrameScene, hits: Hits) -> F64:
    """(h, w, 3) linear base colour, the texture's at the very point; 0 where nothing is hit."""
    out = np.zeros(hits.position.shape)
    for index in np.unique(hits.part[hits.part >= 0]):
        part, here = scene.parts[index], hits.part == index
        if scene.dresser.tailors(part.material):
            out[here] = scene.dresser.finisher.at(part.material, _patch(scene, part, hits, here)).albedo
        elif part.material >= 0:
            image = skin(scene.batch, part.material).albedo
            out[here] = np.stack([bilinear(image[..., c], hits.uv[here]) for c in range(3)], -1)
    return out


def _patch(scene: FrameScene, part: Part, hits: Hits, here: Mask) -> Patch:
    """Hits on a part in its object's frame; footprints are a pixel's in space, a point's on textures."""
    batch, p = scene.batch, hits.position[here] / scene.unit
    if part.row >= 0:
        pose = scene.camera_from_world @ batch.instances.world_from_object[part.row]
    else:
        pose = scene.camera_from_world
    ray, steps = p / p[:, 2:], np.linalg.inv(batch.cameras.k[scene.frame])[:, :2].T
    g = hits.geometric[here]
    slope = np.einsum("nc,nc->n", ray, g)
    slope = np.where(np.abs(slope) < 1e-9, 1e-9, slope)
    dx, dy = (p[:, 2:] * (e - ray * (g @ e / slope)[:, None]) @ pose[:3, :3] for e in steps)
    repeat = batch.materials.uv_scale[part.material]
    uv = np.stack([hits.uv[here][:, 0], 1 - hits.uv[here][:, 1]], 1) / repeat
    return Patch((p - pose[:3, 3]) @ pose[:3, :3], dx, dy, g @ pose[:3, :3], uv, 0 * uv, 0 * uv)
