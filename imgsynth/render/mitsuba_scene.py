"""A frame of a `SceneBatch` as Mitsuba objects: meshes in the camera's frame, materials, lights.

Everything is in OpenCV camera axes with the eye at the origin, and scaled by a power of two so that the
objects lie about ten units away: Mitsuba moves the start of a shadow ray by 1e-4 of (1 + distance).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, I32, RECTANGLE, SPOT, SceneBatch
from imgsynth.color import srgb_to_linear
from imgsynth.errors import ImgsynthError
from imgsynth.render.reference import bilinear

LEAST_ROUGHNESS = 0.045
DIELECTRIC = 0.04
DISTANCE = 10.0  # units from the eye to the objects
SINK = 4e-6  # share of that distance by which the ground lies lower: what lies on it is seen on it
RINGS = (3.0, 100.0, 1e4)  # half sides of the ground's squares, in distances from eye to objects
LOST = 0.042  # share of light that Schlick's mirror term takes from the matte one, averaged over directions


def engine() -> Any:
    """Mitsuba with its scalar RGB variant, one thread.

    Raises:
        ImgsynthError: it is not installed.
    """
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise ImgsynthError(f"--renderer mitsuba: pip install 'imgsynth[mitsuba]' ({error})") from None
    mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def mesh_object(mi: Any, name: str, part: Part, bsdf: Any = None, emitter: Any = None) -> Any:
    """A Mitsuba mesh of a part's triangles."""
    props = mi.Properties()
    if bsdf is not None:
        props["bsdf"] = bsdf
    if emitter is not None:
        props["emitter"] = emitter
    mesh = mi.Mesh(name, len(part.vertices), len(part.faces), has_vertex_normals=True,
                   has_vertex_texcoords=True, props=props)  # fmt: skip
    values = mi.traverse(mesh)
    values["vertex_positions"] = np.ascontiguousarray(part.vertices, np.float32).ravel()
    values["vertex_normals"] = np.ascontiguousarray(part.normals, np.float32).ravel()
    values["vertex_texcoords"] = np.ascontiguousarray(part.uv, np.float32).ravel()
    values["faces"] = np.ascontiguousarray(part.faces, np.uint32).ravel()
    values.update()
    return mesh


@dataclass(frozen=True)
class Part:
    """Triangles of one instance (or the ground, row -1) and one material, in scaled camera coordinates.

    `uv` is in repeats of the texture, v growing downwards, as textures are stored.
    """

    row: int
    material: int
    two_sided: bool
    vertices: F64
    normals: F64
    uv: F64
    faces: I32


@dataclass
class FrameScene:
    """One frame's parts, and the Mitsuba objects made of them.

    Args:
        mi: Mitsuba.
        batch: the frames.
        frame: which of them.
        bsdfs: materials made so far, kept for the batch's other frames.
    """

    mi: Any
    batch: SceneBatch
    frame: int
    bsdfs: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """The frame's rows in the InstanceTable."""
        return np.flatnonzero(self.batch.instances.frame == self.frame)

    @cached_property
    def unit(self) -> float:
        """Units in a metre, a power of two."""
        distance = self._reach
        return float(2.0 ** np.round(np.log2(DISTANCE / distance)))

    @cached_property
    def _reach(self) -> float:
        """Metres from the eye to the objects, or else to the ground, or else 1."""
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        table = self.batch.instances
        if len(self.rows):
            near = float(self.batch.cameras.near[self.frame])
            away = np.linalg.norm(table.world_from_object[self.rows, :3, 3] - eye, axis=1)
            return max(float(np.median(away)), near)
        if self.batch.ground.present[self.frame]:
            return max(abs(float(eye[2]) - float(self.batch.ground.height[self.frame])), 1e-3)
        return 1.0

    @cached_property
    def camera_from_world(self) -> F64:
        """(4, 4), metres."""
        return np.linalg.inv(self.batch.cameras.world_from_camera[self.frame])

    @cached_property
    def parts(self) -> list[Part]:
        """All parts of the frame, the ground last."""
        found = [part for row in self.rows for part in self._instance(int(row))]
        if self.batch.ground.present[self.frame] and self.batch.ground.material[self.frame] >= 0:
            found.append(self._ground())
        return found

    def _instance(self, row: int) -> list[Part]:
        batch, pool = self.batch, self.batch.meshes
        table = batch.instances
        mesh = int(table.mesh[row])
        a, b = pool.vertex_start[mesh : mesh + 2]
        f, g = pool.face_start[mesh : mesh + 2]
        pose = self.camera_from_world @ table.world_from_object[row]
        scale = table.scale[row]
        if not np.all(scale):
            raise ImgsynthError(f"{table.path[row]}: scale: expected no zero, got {scale.tolist()}")
        vertices = ((pool.vertices[a:b] * scale) @ pose[:3, :3].T + pose[:3, 3]) * self.unit
        normals = (pool.normals[a:b] / scale) @ pose[:3, :3].T
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        faces = pool.faces[f:g]
        if np.prod(scale) < 0:
            faces = faces[:, ::-1]
        slots = pool.slots[f:g]
        out = []
        for slot in np.unique(slots):
            material = int(table.materials[row, slot])
            part = np.ascontiguousarray(faces[slots == slot])
            used, local = np.unique(part, return_inverse=True)
            uv = self._repeats(material, pool.uv[a:b][used])
            out.append(
                Part(row, material, bool(pool.two_sided[mesh]), vertices[used], normals[used], uv,
                     local.reshape(-1, 3).astype(np.int32))
            )  # fmt: skip
        return out

    def _repeats(self, material: int, uv: NDArray[np.floating]) -> F64:
        scale = self.batch.materials.uv_scale[material] if material >= 0 else np.ones(2)
        at = uv.astype(np.float64) * scale
        return np.stack([at[:, 0], 1.0 - at[:, 1]], 1)

    def _ground(self) -> Part:
        """Nested squares, small ones near the middle, so that single precision tells texels apart."""
        eye = self.batch.cameras.world_from_camera[self.frame][:3, 3]
        height = float(self.batch.ground.height[self.frame])
        places = self.batch.instances.world_from_object[self.rows, :2, 3]
        middle = np.round(places.mean(0) if len(places) else eye[:2])
        side = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
        reach = max(self._reach, abs(eye[2] - height))
        xy = np.concatenate([middle + r * reach * side for r in RINGS])
        faces = [(0, 1, 2), (0, 2, 3)]
        for ring in range(1, len(RINGS)):
            inner, outer = 4 * (ring - 1), 4 * ring
            for i in range(4):
                j = (i + 1) % 4
                faces += [(outer + i, outer + j, inner + j), (outer + i, inner + j, inner + i)]
        world = np.concatenate([xy, np.full((len(xy), 1), height)], 1)
        world[:, 2] -= np.copysign(SINK * self._reach, eye[2] - height)
        turn, shift = self.camera_from_world[:3, :3], self.camera_from_world[:3, 3]
        material = int(self.batch.ground.material[self.frame])
        return Part(
            -1, material, True, (world @ turn.T + shift) * self.unit, np.tile(turn[:, 2], (len(xy), 1)),
            self._repeats(material, xy), np.array(faces, np.int32),
        )  # fmt: skip

    @cached_property
    def bare(self) -> list[Any]:
        """A mesh for each part, without material: what label rays meet."""
        return [mesh_object(self.mi, f"part{i}", part) for i, part in enumerate(self.parts)]

    def geometry(self, row: int | None = None) -> Any:
        """A Mitsuba scene of the bare parts: of all, or of one instance alone."""
        chosen = {f"part{i}": m for i, m in enumerate(self.bare) if row is None or self.parts[i].row == row}
        return self.mi.load_dict({"type": "scene", **chosen}, optimize=False)

    def lit(self, environment: bool = True) -> Any:
        """The scene with materials and light; without `environment`, with what glows by itself only."""
        made = {}
        for i, part in enumerate(self.parts):
            made[f"part{i}"] = mesh_object(
                self.mi, f"part{i}", part, self.bsdf(part.material), self.glow(part.material)
            )
        lights = self.lights() if environment else {}
        return self.mi.load_dict({"type": "scene", **made, **lights}, optimize=False)

    def lights(self) -> dict[str, Any]:
        """Emitters of the frame."""
        lights, f = self.batch.lights, self.frame
        out: dict[str, Any] = {}
        if np.any(lights.sun_irradiance[f] > 0):
            sun = self.camera_from_world[:3, :3] @ lights.sun_direction[f].astype(np.float64)
            out["sun"] = {"type": "directional", "direction": (-sun).tolist(),
                          "irradiance": self._rgb(lights.sun_irradiance[f])}  # fmt: skip
        if np.any(lights.ambient[f] > 0):
            out["ambient"] = {"type": "constant", "radiance": self._rgb(lights.ambient[f])}
        return {**out, **self._lamps()}

    def _lamps(self) -> dict[str, Any]:
        """Lamps of the frame; those with an extent are shapes, which the camera does not see."""
        lamps = self.batch.lights.lamps
        out: dict[str, Any] = {}
        rows = np.flatnonzero(lamps.frame == self.frame) if lamps is not None else np.zeros(0, int)
        for n, i in enumerate(rows):
            assert lamps is not None
            turn, shift = self.camera_from_world[:3, :3], self.camera_from_world[:3, 3]
            at = (turn @ lamps.position[i] + shift) * self.unit
            along, across = turn @ lamps.direction[i], turn @ lamps.across[i]
            radiant, size = lamps.radiant[i].astype(np.float64), lamps.size[i] * self.unit
            pose = np.eye(4)
            pose[:3, 3] = at
            transform = self.mi.ScalarTransform4f
            if lamps.kind[i] == RECTANGLE:
                pose[:3, 0], pose[:3, 1] = across * size[0] / 2, np.cross(along, across) * size[1] / 2
                pose[:3, 2] = along
                lamp = {"type": "rectangle", "to_world": transform(pose), "bsdf": {"type": "null"},
                        "emitter": {"type": "area", "radiance": self._rgb(radiant)}}  # fmt: skip
            elif lamps.kind[i] == SPOT:
                pose[:3, 0], pose[:3, 1], pose[:3, 2] = across, np.cross(along, across), along
                beam, cutoff = np.degrees(lamps.cone[i].astype(np.float64)) / 2
                lamp = {"type": "spot", "to_world": transform(pose), "cutoff_angle": float(cutoff),
                        "beam_width": float(min(beam, cutoff * (1 - 1e-6))),
                        "intensity": self._rgb(radiant * self.unit**2)}  # fmt: skip
            elif size[0] > 0:
                lamp = {"type": "sphere", "center": at.tolist(), "radius": float(size[0]),
                        "bsdf": {"type": "null"}, "emitter": {"type": "area", "radiance": self._rgb(
                            radiant * self.unit**2 / (np.pi * size[0] ** 2))}}  # fmt: skip
            else:
                lamp = {"type": "point", "position": at.tolist(),
                        "intensity": self._rgb(radiant * self.unit**2)}  # fmt: skip
            out[f"lamp{n}"] = lamp
        return out

    @staticmethod
    def _rgb(value: NDArray[np.floating]) -> dict[str, Any]:
        return {"type": "rgb", "value": [float(v) for v in value]}

    def glow(self, material: int) -> Any:
        """The emitter of a part that shines, or None."""
        if material < 0 or not np.any(self.batch.materials.emission[material] > 0):
            return None
        emission = self.batch.materials.emission[material]
        return self.mi.load_dict({"type": "area", "radiance": self._rgb(emission)})

    def bsdf(self, material: int) -> Any:
        """The scattering law of a material, black for none."""
        if material not in self.bsdfs:
            self.bsdfs[material] = self.mi.load_dict(Matter(self.mi, self.batch, material).description())
        return self.bsdfs[material]


@dataclass(frozen=True)
class Matter:
    """A metallic-roughness material (glTF 2.0, appendix B) in Mitsuba's terms.

    A matte and a mirror-like lobe added up: `blendbsdf` takes shares of two, so each is divided by its share,
    which then only steers sampling. The mirror-like one is a rough conductor whose (η, k) follow Schlick's
    curve; what it takes from the matte one is an average, as Mitsuba has no such coupling.
    """

    mi: Any
    batch: SceneBatch
    material: int

    def description(self) -> dict[str, Any]:
        """The plugin tree."""
        if self.material < 0:
            return {"type": "diffuse", "reflectance": {"type": "rgb", "value": [0.0, 0.0, 0.0]}}
        mat = self.batch.materials
        metallic = float(mat.metallic[self.material])
        albedo = self.albedo()
        f0 = DIELECTRIC * (1 - metallic) + albedo * metallic
        matte = albedo * ((1 - metallic) * (1 - LOST))
        share = float(np.clip(f0.mean() / max(f0.mean() + matte.mean(), 1e-9), 0.15, 0.85))
        eta, k = conductor(f0)
        alpha = max(float(mat.roughness[self.material]), LEAST_ROUGHNESS) ** 2
        mirror = {
            "type": "roughconductor", "distribution": "ggx", "alpha": alpha, "eta": self._image(eta),
            "k": self._image(k),
            "specular_reflectance": self._image(np.full((1, 1, 3), 1 / (1.0 if metallic == 1 else share))),
        }  # fmt: skip
        tree: dict[str, Any] = mirror
        if metallic < 1:
            diffuse = {"type": "diffuse", "reflectance": self._image(matte / (1 - share))}
            tree = {"type": "blendbsdf", "weight": share, "a": diffuse, "b": mirror}
        tree = {"type": "twosided", "bsdf": tree}
        if mat.texture[self.material] >= 0 and mat.alpha_cutoff[self.material] > 0:
            there = self._image(self.opacity()[..., None], "nearest")
            tree = {"type": "mask", "opacity": there, "bsdf": tree}
        return tree

    def texels(self) -> F32:
        """(h, w, 4) the material's texture, encoded colour and alpha in 0..1."""
        pool = self.batch.textures
        level = int(pool.first_level[self.batch.materials.texture[self.material]])
        h, w = (int(v) for v in pool.level_size[level])
        start = int(pool.level_start[level])
        return pool.texels[start : start + h * w].reshape(h, w, 4).astype(np.float32) / np.float32(255)

    def albedo(self) -> F64:
        """(h, w, 3) base colour, 1 × 1 without a texture."""
        base = self.batch.materials.base_color[self.material].astype(np.float64)
        if self.batch.materials.texture[self.material] < 0:
            return base.reshape(1, 1, 3)
        return srgb_to_linear(self.texels()[..., :3]) * base

    def opacity(self) -> F64:
        """(h, w) 1 where bilinear alpha reaches the cut-off, on a grid fine enough to draw its curve."""
        alpha = self.texels()[..., 3]
        h, w = alpha.shape
        fine = max(1, min(8, 2048 // max(h, w)))
        v, u = np.meshgrid((np.arange(h * fine) + 0.5) / (h * fine), (np.arange(w * fine) + 0.5) / (w * fine),
                           indexing="ij")  # fmt: skip
        there = bilinear(alpha, np.stack([u, v], -1)) >= self.batch.materials.alpha_cutoff[self.material]
        return there.astype(np.float64)

    def _image(self, values: F64, filter_type: str = "bilinear") -> dict[str, Any]:
        data = self.mi.TensorXf(np.ascontiguousarray(values, np.float32))
        return {"type": "bitmap", "data": data, "raw": True, "filter_type": filter_type}


EDGE_TINT = ((0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.0, 0.27, 0.74, 0.92, 0.99, 1.0))


def conductor(f0: F64) -> tuple[F64, F64]:
    """(η, k) of conductors with normal reflectance `f0` whose Fresnel curve is Schlick's to 0.01.

    Such conductors form a family with one free number, Gulbrandsen's edge tint (JCGT 3(4), 2014, eq. 5 and
    10); EDGE_TINT holds what comes nearest to Schlick's curve at 0° to 85°, by f0.
    """
    f0 = np.clip(f0, 1e-4, 0.995)
    tint = np.interp(f0, *EDGE_TINT)
    root = np.sqrt(f0)
    eta = tint * (1 - f0) / (1 + f0) + (1 - tint) * (1 + root) / (1 - root)
    k = np.sqrt(np.maximum((f0 * (eta + 1) ** 2 - (eta - 1) ** 2) / (1 - f0), 0.0))
    return eta, k
