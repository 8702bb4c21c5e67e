"""Parts and what they wear: a material's own textures, or a picture of its patterns and layers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from imgsynth import lens as models
from imgsynth.batch import F64, I64, SceneBatch
from imgsynth.render.atlas import Atlas, atlas, laid, patch_of
from imgsynth.render.finisher import Finisher, patterned
from imgsynth.render.parts import FrameParts, Part
from imgsynth.render.reference import bilinear
from imgsynth.render.skins import Skin, bumps, skin, texels

FINE = 2.0  # texels a pixel
STEEP, FLAT = 0.4, 0.1  # of what sides seen straight on get, the least: of an object, of the ground
UNSEEN = 0.12  # share of those texels that a triangle outside of the picture gets


@dataclass(frozen=True)
class Worn:
    """A part as light meets it, and what it is made of."""

    part: Part
    skin: Skin
    tailored: bool  # for this part alone


class Dresser:
    """Gives the parts of a batch's frames their skins."""

    def __init__(self, batch: SceneBatch):
        self.batch = batch
        self._skins: dict[int, Skin] = {}
        self._patterned = patterned(batch)
        self._finisher: Finisher | None = None

    @property
    def finisher(self) -> Finisher:
        """What evaluates patterns and layers."""
        self._finisher = self._finisher or Finisher(self.batch)
        return self._finisher

    def tailors(self, material: int) -> bool:
        """Whether a material has a pattern or layers."""
        return material >= 0 and bool(self._patterned[material])

    def dress(self, scene: FrameParts) -> list[Worn]:
        """All parts of a frame, dressed."""
        return [self._dressed(scene, part) for part in scene.parts]

    def _dressed(self, scene: FrameParts, part: Part) -> Worn:
        material = part.material
        if not self.tailors(material):
            if material not in self._skins:
                self._skins[material] = skin(self.batch, material)
            return Worn(part, self._skins[material], False)
        if part.row < 0:
            part = scene.tiled_ground()
        layout = atlas(part.vertices[part.faces], wanted(scene, part))
        return Worn(_unfolded(part, layout), self._baked(part, layout), True)

    def _baked(self, part: Part, layout: Atlas) -> Skin:
        """The skin of a part over an atlas of its triangles."""
        mat, material = self.batch.materials, part.material
        patch, triangle, offset, weights = patch_of(layout, part.points, part.texcoords, part.faces)
        made = self.finisher.at(material, patch)
        uv = (weights[..., None] * part.uv[part.faces[triangle]]).sum(1)
        opacity = normal = None
        if mat.texture[material] >= 0 and mat.alpha_cutoff[material] > 0:
            alpha = texels(self.batch, int(mat.texture[material]))[..., 3]
            opacity = laid(layout, offset, (bilinear(alpha, uv) >= mat.alpha_cutoff[material]).astype(float))
        if mat.normal_texture[material] >= 0:
            image = texels(self.batch, int(mat.normal_texture[material]))
            leaning = bumps(image, float(mat.normal_scale[material]))
            lean = np.stack([bilinear(leaning[..., c], uv) for c in range(3)], -1)
            normal = laid(layout, offset, _turned(part, layout, triangle, weights, lean))
        named = {f.name: laid(layout, offset, getattr(made, f.name)) for f in fields(made)}
        smear = float(mat.clearcoat_roughness[material])
        return Skin(**named, coat_roughness=smear, normal=normal, opacity=opacity)


def wanted(scene: FrameParts, part: Part) -> F64:
    """(t, 3) texels wanted along the side opposite to each corner, FINE for each pixel it is seen over."""
    camera = scene.batch.cameras
    k, near = camera.k[scene.frame], float(camera.near[scene.frame]) * scene.unit
    corners = part.vertices[part.faces]
    z = np.maximum(corners[..., 2], near)
    at = corners[..., :2] / z[..., None] @ k[:2, :2].T + k[:2, 2]
    ends = [((i + 1) % 3, (i + 2) % 3) for i in range(3)]
    shown = np.stack([np.linalg.norm(at[:, a] - at[:, b], axis=1) for a, b in ends], 1)
    length = np.stack([np.linalg.norm(corners[:, a] - corners[:, b], axis=1) for a, b in ends], 1)
    away = np.maximum(np.linalg.norm(corners, axis=-1).min(1), near)
    straight = length * (max(k[0, 0], k[1, 1]) / away)[:, None]
    behind = np.any(corners[..., 2] <= near, axis=1)
    # A triangle all of whose corners lie beyond one side of the picture's pyramid is not in it.
    rays = _rim(scene)
    inward = np.concatenate([np.cross(np.roll(rays, 1, axis=0), rays), [(0.0, 0.0, 1.0)]])
    outside = np.any(np.all(corners @ inward.T < 0, axis=1), axis=1)
    least = (FLAT if part.row < 0 else STEEP) * straight
    shown = np.where(behind[:, None], straight, np.maximum(shown, least))
    out: F64 = FINE * np.where(outside[:, None], UNSEEN * straight, shown)
    return out


def _rim(scene: FrameParts) -> F64:
    """(4, 3) rays, upper left and on clockwise, of a pyramid that holds all that the picture sees."""
    cameras, (height, width) = scene.batch.cameras, scene.batch.size
    k, lens = cameras.k[scene.frame], cameras.lens
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    if lens is None or lens.kind[scene.frame] == models.PINHOLE:
        return np.concatenate([models.normalized(k, corners), np.ones((4, 1))], 1)
    kind, coefficients = int(lens.kind[scene.frame]), lens.coefficients[scene.frame]
    grid = np.stack(np.meshgrid(np.linspace(0, width, 33), np.linspace(0, height, 33)), -1)
    reach = models.reach(kind, coefficients)
    straight = models.straighten(kind, coefficients, models.normalized(k, grid), reach).reshape(-1, 2)
    x0, y0 = np.nan_to_num(straight, nan=-reach).min(0)
    x1, y1 = np.nan_to_num(straight, nan=reach).max(0)
    return np.array([(x0, y0, 1), (x1, y0, 1), (x1, y1, 1), (x0, y1, 1)])


def _unfolded(part: Part, layout: Atlas) -> Part:
    """The part with corners of their own for each triangle, laid on an atlas."""
    corners = part.faces.reshape(-1)
    return replace(
        part, vertices=part.vertices[corners], normals=part.normals[corners], uv=layout.uv().reshape(-1, 2),
        faces=np.arange(len(corners), dtype=np.int32).reshape(-1, 3), points=part.points[corners],
        texcoords=part.texcoords[corners], mirrored=False,
    )  # fmt: skip


def _turned(part: Part, layout: Atlas, triangle: I64, weights: F64, lean: F64) -> F64:
    """Normals (n, 3) that lean by the mesh's texture coordinates, as they lean by the atlas's."""
    faces = part.faces
    n = _unit((weights[..., None] * part.normals[faces[triangle]]).sum(1))
    along, up = (g[triangle] for g in _directions(part))
    t = _unit(along - n * (n * along).sum(1, keepdims=True))
    b = np.cross(n, t)
    b *= np.where((b * up).sum(1, keepdims=True) < 0, -1.0, 1.0)
    world = _unit(t * lean[:, :1] + b * lean[:, 1:2] + n * lean[:, 2:])
    rows = np.arange(len(faces))
    start, end = (part.vertices[faces[rows, (layout.corner + i) % 3]] for i in (0, 2))
    right = (end - start)[triangle]
    s = _unit(right - n * (n * right).sum(1, keepdims=True))
    own = np.stack([s, np.cross(n, s), n], 1)
    return np.einsum("nij,nj->ni", own, world)


def _directions(part: Part) -> tuple[F64, F64]:
    """(t, 3) where u grows and v does not, and the other way round, on each triangle."""
    a, b, c = (part.vertices[part.faces[:, i]] for i in range(3))
    p, q, r = (part.texcoords[part.faces[:, i]] for i in range(3))
    (du, dv), (eu, ev) = (q - p).T, (r - p).T
    turn = np.sign(du * ev - dv * eu)[:, None]
    along = turn * (ev[:, None] * (b - a) - dv[:, None] * (c - a))
    up = turn * (du[:, None] * (c - a) - eu[:, None] * (b - a))
    return along, up


def _unit(v: F64) -> F64:
    out: F64 = v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-30)
    return out
