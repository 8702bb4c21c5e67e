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
from imgsynth.render.parts import FrameParts, Part
from imgsynth.render.reference import (
    Cells,
    Mask,
    backdrops,
    frame_seed,
    refuse_outputs,
    refuse_unknown,
    silhouettes,
)
from imgsynth.render.skins import skin

VARIABLE = "IMGSYNTH_BPY"
DRIVER = Path(__file__).with_name("cycles_driver.py")
DRAWN = {
    "": {"indices", "size", "classes", "cameras", "lights", "ground", "backgrounds", "materials", "textures",
         "meshes", "instances", "outputs", "report"},
    "cameras": {"k", "world_from_camera", "near"},
    "lights": {"sun_direction", "sun_irradiance", "ambient", "shadows", "samples", "seed", "occlusion"},
    "materials": {"base_color", "metallic", "roughness", "emission", "texture", "uv_scale", "alpha_cutoff",
                  "normal_scale", "clearcoat_roughness"},
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
        refuse_outputs(batch, "cycles", frozenset())
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
        answers = iter(found[f"silhouette.{i}"].astype(bool) for i in range(len(job.requests)))
        shapes = silhouettes(batch, lambda row, cells: next(answers))
        return Buffers(color, k, depth, normal, instance, shapes.masks, shapes.total, shapes.boxes)

    def _job(self, batch: SceneBatch, k: int) -> _Job:
        job = _Job()
        for f in range(len(batch)):
            scene = FrameParts(batch, f)
            job.frames.append(_frame(job, scene, f))

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
            "threads": self.threads,
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


def _frame(job: _Job, scene: FrameParts, f: int) -> dict[str, Any]:
    """One frame's description; its arrays go into the job."""
    batch = scene.batch
    camera, lights, size = batch.cameras, batch.lights, batch.size
    parts: list[dict[str, Any]] = []
    materials: dict[str, dict[str, Any]] = {}
    for i, part in enumerate(scene.parts):
        key = f"{f}.{i}"
        for name in ("vertices", "normals", "uv", "faces"):
            job.arrays[f"{key}.{name}"] = getattr(part, name)
        name = f"{part.material}{'' if part.two_sided else '.closed'}"
        materials[name] = materials.get(name) or _material(job, batch, part)
        identity = int(batch.instances.id[part.row]) if part.row >= 0 else 0
        parts.append({"key": key, "row": part.row, "id": identity, "material": name,
                      "two_sided": part.two_sided})  # fmt: skip
    k = camera.k[f]
    turn = scene.camera_from_world[:3, :3]
    return {
        "parts": parts, "materials": materials, "ambient": lights.ambient[f].tolist(), "unit": scene.unit,
        "sun": lights.sun_irradiance[f].tolist(), "sun_direction": (turn @ lights.sun_direction[f]).tolist(),
        "near": float(camera.near[f]) * scene.unit, "seed": frame_seed(batch, f),
        "inverse_k": np.linalg.inv(k).tolist(),
        "lens": [float(v) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2], size[1], size[0])],
    }  # fmt: skip


def _material(job: _Job, batch: SceneBatch, part: Part) -> dict[str, Any]:
    """A material's numbers; its images go into the job."""
    if part.material < 0:
        return {"albedo": [0.0] * 3, "metallic": 0.0, "roughness": 1.0, "emission": [0.0] * 3, "opacity": "",
                "two_sided": part.two_sided}  # fmt: skip
    mat, made = batch.materials, skin(batch, part.material)
    albedo = made.albedo
    out: dict[str, Any] = {
        "albedo": albedo[0, 0].tolist(), "metallic": float(mat.metallic[part.material]), "opacity": "",
        "roughness": float(mat.roughness[part.material]), "emission": mat.emission[part.material].tolist(),
        "two_sided": part.two_sided,
    }  # fmt: skip
    if mat.texture[part.material] >= 0:
        out["albedo"] = f"albedo{part.material}"
        job.arrays[out["albedo"]] = albedo.astype(np.float32)
        if made.opacity is not None:
            out["opacity"] = f"opacity{part.material}"
            job.arrays[out["opacity"]] = np.repeat(made.opacity[..., None], 3, 2).astype(np.float32)
    return out


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
