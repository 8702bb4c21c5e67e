"""Blender's Cycles as a renderer, in a process and an environment of its own.

bpy needs NumPy 1 and one exact Python, so nothing of it is imported here: a job goes out as a file of arrays,
the passes come back as another. IMGSYNTH_BPY names the Python that has bpy.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, F64, SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.frame import Buffers
from imgsynth.render.around import around, finer, map_from_camera
from imgsynth.render.dress import Dresser, Worn
from imgsynth.render.parts import FrameParts
from imgsynth.render.reference import (
    Cells,
    Mask,
    backdrops,
    frame_seed,
    refuse_outputs,
    refuse_unknown,
    silhouettes,
)

VARIABLE = "IMGSYNTH_BPY"
LEAST_ROWS = 256  # of a map: Cycles mixes its first and last row where they meet the poles
DRIVER = Path(__file__).with_name("cycles_driver.py")
DRAWN = {
    "": {"indices", "size", "classes", "cameras", "lights", "ground", "backgrounds", "materials", "textures",
         "meshes", "instances", "outputs", "report"},
    "cameras": {"k", "world_from_camera", "near"},
    "lights": {"sun_direction", "sun_irradiance", "sun_radius", "ambient", "shadows", "lamps", "samples",
               "seed", "occlusion", "environments"},
    "materials": {"base_color", "metallic", "roughness", "emission", "texture", "uv_scale", "alpha_cutoff",
                  "normal_texture", "normal_scale", "surface_texture", "emission_texture", "clearcoat",
                  "clearcoat_roughness", "pattern", "patterns", "layer_range", "layers"},
}  # fmt: skip


def python() -> Path:
    """The Python that has bpy.

    Raises:
        ImgsynthError: IMGSYNTH_BPY is not set or names no file.
    """
    named = os.environ.get(VARIABLE, "")
    if not named or not Path(named).is_file():
        raise ImgsynthError(
            f"--renderer cycles: {VARIABLE} must name a Python that has bpy, got {named or 'nothing'!r}; "
            "make one with: python3.11 -m venv bpyenv && bpyenv/bin/pip install bpy==5.0.1 'numpy<2', then "
            f"export {VARIABLE}=$PWD/bpyenv/bin/python"
        )
    return Path(named)


def _blender(command: Path, *arguments: str) -> str:
    """What Blender's Python prints. Raises ImgsynthError, with its last line, where it fails."""
    done = subprocess.run([str(command), "-I", *arguments], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ImgsynthError(f"--renderer cycles: {command} failed: {''.join(last)}")
    return done.stdout


def bpy_version() -> str:
    """Version of the bpy that will draw. Raises ImgsynthError where there is none."""
    return _blender(python(), "-c", "import bpy; print(bpy.app.version_string)").split()[-1]


@dataclass
class _Job:
    """Arrays and their description, as the driver reads them."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    frames: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)


class CyclesRenderer:
    """Renders batches with Cycles, one process a batch.

    Args:
        paths: light paths a pixel; rounded up to a multiple of the colour samples asked for.
        max_depth: most segments of a path: 2 is direct light, 3 one bounce, …
        threads: of Cycles.

    Raises:
        ImgsynthError: there is no bpy, or an argument is out of range.
    """

    def __init__(self, paths: int = 64, max_depth: int = 6, threads: int = 1):
        if paths < 1 or max_depth < 1:
            raise ImgsynthError(f"expected paths ≥ 1 and max_depth ≥ 1, got {paths} and {max_depth}")
        self.python = python()
        self.paths, self.max_depth, self.threads = paths, max_depth, threads

    def accepts(self, batch: SceneBatch) -> None:
        """Refuse what cannot be drawn. Raises ImgsynthError."""
        refuse_unknown(batch, "cycles", DRAWN)
        refuse_outputs(batch, "cycles", frozenset(("albedo",)))
        if np.any(batch.cameras.k[:, 0, 1]):
            raise ImgsynthError("--renderer cycles draws no skewed pixels; --renderer raster does")

    def render(self, batch: SceneBatch, samples: int = 1, detail: int = 1) -> Buffers:
        """Draw all frames; see `Renderer.render`. `detail` is met anyway: each sample is lit by itself.

        Raises:
            ImgsynthError: the batch uses what this renderer does not draw, or Blender failed.
        """
        k = math.isqrt(max(samples, 0))
        if k * k != samples or not 1 <= k <= 8:
            raise ImgsynthError(f"samples: expected a perfect square from 1 to 64, got {samples}")
        self.accepts(batch)
        job = self._job(batch, k)
        found = self._run(batch, job, k)
        n, (h, w) = len(batch), batch.size
        color = backdrops(batch, samples)
        depth = np.full((n, h, w), np.inf, np.float32)
        normal, instance = np.zeros((n, h, w, 3), np.float32), np.zeros((n, h, w), np.int32)
        for f, frame in enumerate(job.frames):
            if not frame["parts"]:
                continue
            seen: F32 = found[f"{f}.color"]
            color[f] = seen[..., :3] + (1.0 - seen[..., 3:]) * color[f]
            hit = found[f"{f}.alpha"] > 0.5
            depth[f][hit] = found[f"{f}.depth"][hit] / frame["unit"]
            normal[f][hit] = _facing(found[f"{f}.normal"], np.array(frame["inverse_k"]))[hit]
            instance[f][hit] = np.rint(found[f"{f}.id"][hit]).astype(np.int32)
        albedo = None
        if "albedo" in batch.outputs:
            albedo = np.zeros((n, h, w, 3), np.float32)
            for f in range(n):
                if f"{f}.albedo" in found:
                    albedo[f] = found[f"{f}.albedo"] * (found[f"{f}.alpha"] > 0.5)[..., None]
        answers = iter(found[f"silhouette.{i}"].astype(bool) for i in range(len(job.requests)))
        shapes = silhouettes(batch, lambda row, cells: next(answers))
        return Buffers(color, k, depth, normal, instance, shapes.masks, shapes.total, shapes.boxes, albedo)

    def _job(self, batch: SceneBatch, k: int) -> _Job:
        job, dresser = _Job(), Dresser(batch)
        for f in range(len(batch)):
            job.frames.append(_frame(job, FrameParts(batch, f), dresser))

        def ask(row: int, cells: Cells) -> Mask:
            job.requests.append({"frame": int(batch.instances.frame[row]), "row": row, **vars(cells)})
            return np.zeros((cells.height, cells.width), bool)

        silhouettes(batch, ask)
        return job

    def write_job(self, batch: SceneBatch, k: int, path: Path) -> None:
        """Write what the driver is to draw, k × k colour samples a pixel, to an .npz file."""
        self._write(batch, self._job(batch, k), k, path)

    def _write(self, batch: SceneBatch, job: _Job, k: int, path: Path) -> None:
        text = {
            "frames": job.frames, "silhouettes": job.requests, "size": batch.size, "k": k,
            "samples": max(1, -(-self.paths // (k * k))), "max_depth": self.max_depth,
            "threads": self.threads, "albedo": "albedo" in batch.outputs,
        }  # fmt: skip
        np.savez(path, json=np.frombuffer(json.dumps(text).encode(), np.uint8), **job.arrays)  # type: ignore[arg-type]

    def _run(self, batch: SceneBatch, job: _Job, k: int) -> dict[str, NDArray[Any]]:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "job.npz", Path(folder) / "result.npz"
            self._write(batch, job, k, source)
            _blender(self.python, str(DRIVER), str(source), str(target))
            if not target.is_file():
                raise ImgsynthError(f"--renderer cycles: {self.python} wrote no result")
            with np.load(target, allow_pickle=False) as result:
                return dict(result)


def _frame(job: _Job, scene: FrameParts, dresser: Dresser) -> dict[str, Any]:
    """One frame's description; its arrays go into the job."""
    batch, f = scene.batch, scene.frame
    camera, size = batch.cameras, batch.size
    parts: list[dict[str, Any]] = []
    materials: dict[str, dict[str, Any]] = {}
    for i, worn in enumerate(dresser.dress(scene)):
        part, key = worn.part, f"{f}.{i}"
        for name in ("vertices", "normals", "uv", "faces"):
            job.arrays[f"{key}.{name}"] = getattr(part, name)
        skin = f"skin{key}" if worn.tailored else f"skin{part.material}"
        name = f"{skin}{'' if part.two_sided else '.closed'}"
        materials[name] = materials.get(name) or _material(job, skin, worn)
        identity = int(batch.instances.id[part.row]) if part.row >= 0 else 0
        parts.append({"key": key, "row": part.row, "id": identity, "material": name,
                      "two_sided": part.two_sided})  # fmt: skip
    k = camera.k[f]
    return {
        "parts": parts, "materials": materials, "unit": scene.unit, **_lights(job, scene),
        "near": float(camera.near[f]) * scene.unit, "seed": frame_seed(batch, f),
        "inverse_k": np.linalg.inv(k).tolist(),
        "lens": [float(v) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2], size[1], size[0])],
    }  # fmt: skip


def _material(job: _Job, name: str, worn: Worn) -> dict[str, Any]:
    """A skin's numbers; its pictures go into the job, by name."""
    skin = worn.skin
    pictures = {
        "albedo": skin.albedo, "metallic": skin.metallic, "roughness": skin.roughness, "coat": skin.coat,
        "emission": skin.emission, "normal": None if skin.normal is None else skin.normal / 2 + 0.5,
        "opacity": skin.opacity,
    }  # fmt: skip
    out: dict[str, Any] = {"two_sided": worn.part.two_sided, "coat_roughness": skin.coat_roughness}
    for kind, picture in pictures.items():
        if picture is None:
            out[kind] = ""
        elif picture.shape[:2] == (1, 1) and kind not in ("normal", "opacity"):
            out[kind] = picture[0, 0].tolist()
        else:
            out[kind] = f"{name}.{kind}"
            flat = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
            job.arrays[out[kind]] = flat.astype(np.float32)
    return out


def _lights(job: _Job, scene: FrameParts) -> dict[str, Any]:
    """The light of a frame, in scaled camera coordinates; its map goes into the job."""
    batch, f = scene.batch, scene.frame
    lights, turn = batch.lights, scene.camera_from_world[:3, :3]
    image = around(batch, f)
    world: dict[str, Any] = {"ambient": image[0, 0].tolist(), "map": ""}
    if len(image) > 1:
        world = {"ambient": [0.0] * 3, "map": f"{f}.map", "map_turn": map_from_camera(batch, f).tolist()}
        job.arrays[world["map"]] = finer(image, LEAST_ROWS)
    lamps, out = lights.lamps, []
    for i in np.flatnonzero(lamps.frame == f) if lamps is not None else ():
        assert lamps is not None
        place = (turn @ lamps.position[i] + scene.camera_from_world[:3, 3]) * scene.unit
        along, across = turn @ lamps.direction[i], turn @ lamps.across[i]
        out.append({
            "kind": int(lamps.kind[i]), "place": place.tolist(), "along": along.tolist(),
            "across": across.tolist(), "size": (lamps.size[i] * scene.unit).tolist(),
            "cone": lamps.cone[i].tolist(), "radiant": lamps.radiant[i].tolist(),
        })  # fmt: skip
    radius = 0.0 if lights.sun_radius is None else float(lights.sun_radius[f])
    return {
        **world, "sun": lights.sun_irradiance[f].tolist(), "sun_radius": radius,
        "sun_direction": (turn @ lights.sun_direction[f]).tolist(), "lamps": out,
    }  # fmt: skip


def _facing(normal: F32, inverse_k: F64) -> F64:
    """(h, w, 3) unit normals turned just so far that none points away from the camera."""
    h, w, _ = normal.shape
    points = np.concatenate([Cells.of_image((h, w)).points(), np.ones((h, w, 1))], -1)
    view = -points @ inverse_k.T
    view /= np.linalg.norm(view, axis=-1, keepdims=True)
    n = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-30)
    n = n - np.minimum(np.einsum("hwc,hwc->hw", n, view), 0.0)[..., None] * view
    out: F64 = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-30)
    return out
