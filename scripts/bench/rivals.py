"""Race the renderer against what else its users could pick: the same scene, in turns, in one run.

    python scripts/bench/rivals.py [--frames 8] [--repeats 5] [--sizes 256 512] [--json FILE]

The scene is that of `render.py`: ten objects, 26,208 triangles. On one core: ours with all labels, at one and at
four colour samples a pixel; PyBullet's TinyRenderer (colour, depth, ids), without and with shadows; Newton's
SensorTiledCamera (colour with shadows, depth, normals, ids). On all cores: ours, a process a core; Cycles at 16
samples a pixel (colour, depth, normals, ids), direct light only as ours is, and with four bounces. Every rival
draws the same meshes from the same cameras, and its ids are held against ours. Rows are milliseconds a frame, the
least of the repeats, in which all take turns: of processor time on one core, by the wall clock on all of them.
Setting a rival's scene up is not counted.

What is not installed is left out:
    PyBullet  pip install pybullet
    Newton    python3.11 -m venv newtonenv && newtonenv/bin/pip install newton==1.8.0
              export IMGSYNTH_NEWTON=$PWD/newtonenv/bin/python
    Cycles    python3.11 -m venv bpyenv && bpyenv/bin/pip install bpy==5.0.1 'numpy<2'
              export IMGSYNTH_BPY=$PWD/bpyenv/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else [0]
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import render as bench  # noqa: E402  (it binds this process to one core)
from scenes_for_tests import Mesh, Shot  # noqa: E402

from imgsynth.annotate import annotate  # noqa: E402
from imgsynth.batch import SceneBatch  # noqa: E402
from imgsynth.errors import ImgsynthError  # noqa: E402
from imgsynth.render.cycles import CyclesRenderer, python  # noqa: E402
from imgsynth.render.raster import RasterRenderer  # noqa: E402
from imgsynth.sensor.optics import resolve  # noqa: E402

Ids = np.ndarray[Any, np.dtype[np.int64]]
OURS = "imgsynth"
CROWD = f"imgsynth, {len(CORES)} cores"


class Missing(Exception):
    """A rival that is not here; its text says how to install it."""


class Entrant(Protocol):
    """Who takes part in a race."""

    def lap(self) -> float:
        """Draw all frames once: milliseconds a frame."""

    def ids(self) -> Ids | None:
        """(n, h, w) instance ids of the first frames, None where they are ours."""

    def close(self) -> None:
        """Leave."""


class Ours:
    """Our renderer in this process; colour of several samples is averaged to pixels, as the sensor does."""

    def __init__(self, batch: SceneBatch, samples: int):
        self.batch, self.samples, self.renderer = batch, samples, RasterRenderer()
        self.lap()

    def lap(self) -> float:
        start = time.process_time()
        buffers = self.renderer.render(self.batch, self.samples)
        if self.samples > 1:
            resolve(buffers.color, buffers.supersample)
        annotate(self.batch, buffers)
        return (time.process_time() - start) / len(self.batch) * 1e3

    def ids(self) -> Ids | None:
        return None

    def close(self) -> None: ...


class TinyRenderer:
    """PyBullet's software renderer. Raises Missing."""

    def __init__(self, shots: list[Shot], meshes: list[Mesh], size: int, shadow: bool):
        try:
            import pybullet
        except ImportError:
            raise Missing("PyBullet is not installed: pip install pybullet") from None
        self.p, self.shots, self.meshes, self.size, self.shadow = pybullet, shots, meshes, size, shadow
        self.seen: list[Any] = []

    def lap(self) -> float:
        self.seen = []
        return sum(map(self._frame, self.shots)) / len(self.shots)

    def _frame(self, shot: Shot) -> float:
        """Milliseconds of one frame; making its scene is not counted."""
        p = self.p
        client = p.connect(p.DIRECT)
        ground = Mesh(
            np.array([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0.0]]), np.tile([0, 0, 1.0], (4, 1)),
            np.zeros((4, 2)), np.array([[0, 1, 2], [0, 2, 3]]),
        )  # fmt: skip
        for mesh, scale, place, color in [
            *((self.meshes[t.mesh], t.scale, t.pose, bench.HUE[t.material]) for t in shot.things),
            (ground, (1, 1, 1), np.eye(4), bench.HUE[10]),
        ]:
            shape = p.createVisualShape(
                p.GEOM_MESH, vertices=(mesh.vertices * scale).tolist(), normals=mesh.normals.tolist(),
                uvs=mesh.uv.tolist(), indices=mesh.faces.reshape(-1).tolist(), rgbaColor=[*color, 1],
            )  # fmt: skip
            p.createMultiBody(0, baseVisualShapeIndex=shape, basePosition=place[:3, 3].tolist(),
                              baseOrientation=quaternion(place[:3, :3]))  # fmt: skip
        eye, forward = shot.camera[:3, 3], shot.camera[:3, 2]
        view = p.computeViewMatrix(eye.tolist(), (eye + forward).tolist(), [0, 0, 1])
        lens = p.computeProjectionMatrixFOV(bench.FIELD_OF_VIEW, 1.0, 0.05, 30.0)
        start = time.process_time()
        image = p.getCameraImage(self.size, self.size, view, lens, lightDirection=list(shot.sun_direction),
                                 shadow=int(self.shadow), renderer=p.ER_TINY_RENDERER)  # fmt: skip
        took = (time.process_time() - start) * 1e3
        self.seen.append(image[4])
        p.disconnect(client)
        return took

    def ids(self) -> Ids | None:
        body = np.stack([np.asarray(s).reshape(self.size, self.size) for s in self.seen]).astype(np.int64)
        return np.where((body >= 0) & (body < 10), body + 1, 0)

    def close(self) -> None: ...


class Child:
    """A rival in a process, and an environment, of its own. Raises Missing where it will not start."""

    def __init__(self, command: list[str], cores: list[int]):
        self.folder = tempfile.TemporaryDirectory()
        bind = getattr(os, "sched_setaffinity", lambda process, cores: None)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=lambda: bind(0, cores),
        )  # fmt: skip
        while (line := self.hear()) != "ready":
            if not line:
                raise Missing(f"{' '.join(command[:2])} did not start")

    def tell(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """The next line that it says; empty where it has ended."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        return line.strip() or (" " if line else "")

    def lap(self) -> float:
        self.tell("draw")
        return float(self.hear())

    def ids(self) -> Ids | None:
        path = Path(self.folder.name) / "ids.npz"
        self.tell(f"ids {path}")
        self.hear()
        with np.load(path, allow_pickle=False) as seen:
            found: Ids = seen["ids"]
        return found if found.ndim == 3 else found[None]

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def newton(shots: list[Shot], meshes: list[Mesh], size: int, path: Path) -> Child:
    """Newton's SensorTiledCamera on the CPU, which is one thread. Raises Missing."""
    command = os.environ.get("IMGSYNTH_NEWTON", "")
    if not Path(command).is_file():
        raise Missing(
            "Newton is not installed: python3.11 -m venv newtonenv && newtonenv/bin/pip install newton==1.8.0, "
            "then export IMGSYNTH_NEWTON=$PWD/newtonenv/bin/python"
        )
    job: dict[str, Any] = {
        "size": size, "fov": bench.FIELD_OF_VIEW, "sun": np.array(shots[0].sun_direction), "hue": bench.HUE,
        "meshes": len(meshes), "kinds": np.array([t.mesh for t in shots[0].things]),
        "poses": np.array([[t.pose for t in s.things] for s in shots]),
        "scales": np.array([[t.scale for t in s.things] for s in shots]),
        "cameras": np.array([s.camera for s in shots]),
    }  # fmt: skip
    for k, mesh in enumerate(meshes):
        job |= {f"vertices{k}": mesh.vertices, f"normals{k}": mesh.normals, f"faces{k}": mesh.faces}
    np.savez(path, **job)
    return Child([command, str(HERE / "newton_child.py"), str(path)], CORES[-1:])


def blender() -> Path:
    """The Python that has bpy. Raises Missing."""
    try:
        return python()
    except ImgsynthError as error:
        raise Missing(str(error).replace("--renderer cycles", "Cycles is not installed")) from None


def cycles(batch: SceneBatch, path: Path, depth: int) -> Child:
    """Cycles at 16 samples a pixel on all cores; `depth` as CyclesRenderer's. Raises Missing."""
    CyclesRenderer(16, depth, len(CORES)).write_job(batch, 1, path)
    return Child([str(blender()), str(HERE / "cycles_child.py"), str(path)], CORES)


class Crowd:
    """Our renderer in a process a core, each with a batch of its own."""

    def __init__(self, size: int, frames: int):
        command = [sys.executable, str(Path(__file__).resolve()), "--child", str(size), str(frames)]
        self.children = [Child(command, [core]) for core in CORES]
        self.frames = frames * len(self.children)

    def lap(self) -> float:
        start = time.perf_counter()
        for child in self.children:
            child.tell("draw")
        for child in self.children:
            child.hear()
        return (time.perf_counter() - start) / self.frames * 1e3

    def ids(self) -> Ids | None:
        return None

    def close(self) -> None:
        for child in self.children:
            child.close()


def serve(size: int, frames: int) -> None:
    """What a process of `Crowd` does."""
    ours = Ours(bench.batch_of(*bench.scene(frames, size), size), 1)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(ours.lap(), flush=True)


def race(size: int, frames: int, repeats: int) -> dict[str, dict[str, float]]:
    """Least milliseconds a frame of each entrant, and the share of pixels whose id is as ours."""
    shots, meshes = bench.scene(frames, size)
    batch = bench.batch_of(shots, meshes, size)
    true = RasterRenderer().render(batch).instance
    few = bench.batch_of(shots[:1], meshes, size)
    out: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        one: dict[str, Callable[[], Entrant]] = {
            OURS: lambda: Ours(batch, 1),
            "imgsynth, 4 colour samples a pixel": lambda: Ours(batch, 4),
            "PyBullet TinyRenderer, no shadows": lambda: TinyRenderer(shots, meshes, size, False),
            "PyBullet TinyRenderer": lambda: TinyRenderer(shots, meshes, size, True),
            "Newton SensorTiledCamera": lambda: newton(shots, meshes, size, job),
        }
        every: dict[str, Callable[[], Entrant]] = {
            CROWD: lambda: Crowd(size, frames),
            f"Cycles, 16 samples, direct light, {len(CORES)} cores": lambda: cycles(few, job, 2),
            f"Cycles, 16 samples, 4 bounces, {len(CORES)} cores": lambda: cycles(few, job, 6),
        }
        out = run(one, true, repeats)
        try:
            blender()
        except Missing as why:
            print(f"  left out: all cores: {why}", file=sys.stderr)
        else:
            out |= run(every, true, repeats)
    return out


def run(heat: dict[str, Callable[[], Entrant]], true: Any, repeats: int) -> dict[str, dict[str, float]]:
    """Let all entrants draw in turns."""
    entrants: dict[str, Entrant] = {}
    rows: dict[str, dict[str, float]] = {}
    try:
        for name, start in heat.items():
            try:
                entrants[name] = start()
            except Missing as why:
                print(f"  left out: {name}: {why}", file=sys.stderr)
        for _ in range(repeats):
            for name, entrant in entrants.items():
                took = entrant.lap()
                rows.setdefault(name, {"ms": took})
                rows[name]["ms"] = min(rows[name]["ms"], took)
        for name, entrant in entrants.items():
            seen = entrant.ids()
            if seen is not None:
                rows[name]["same_ids"] = float((seen == true[: len(seen)]).mean())
    finally:
        for entrant in entrants.values():
            entrant.close()
    return rows


def quaternion(m: np.ndarray) -> list[float]:
    """xyzw of a rotation matrix."""
    w, v = np.linalg.eigh(
        np.array([
            [m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
        ])
    )  # fmt: skip
    return [float(x) for x in v[:, np.argmax(w)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    out: dict[str, Any] = {}
    for size in args.sizes:
        print(f"\n{size}×{size}, ms a frame, with labels", flush=True)
        rows = out[str(size)] = race(size, args.frames, args.repeats)
        for name, row in rows.items():
            base = rows[CROWD if name.endswith("cores") else OURS]["ms"]
            ids = f"   ids as ours on {100 * row['same_ids']:.2f} % of pixels" if "same_ids" in row else ""
            print(f"  {name:52s}{row['ms']:9.2f}{row['ms'] / base:8.2f} ×{ids}")
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
