"""The whole story on one screen: sample, compose, render, annotate, expose; then to disk, by parts,
resumable.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth import scenefile
from imgsynth.annotate import annotate
from imgsynth.batch import I64, SceneBatch
from imgsynth.compose import compose
from imgsynth.dataset import writer
from imgsynth.dataset.labels import described
from imgsynth.dataset.manifest import MAX_INDEX, Header, Part
from imgsynth.errors import ImgsynthError, SceneError
from imgsynth.frame import Buffers, FrameBatch
from imgsynth.interrupts import held_back
from imgsynth.maps import distances, object_coordinates
from imgsynth.named_points import class_keypoints
from imgsynth.plan import Draws, Plan, Reader, Sampler
from imgsynth.render import Renderer
from imgsynth.render.shutter import ShutterRenderer
from imgsynth.rules import obeyed
from imgsynth.scene import SceneSpec
from imgsynth.sensor import Effects, SensorSettings, expose
from imgsynth.version import __version__

Progress = Callable[[int, int], None]  # frames done, frames in all

PIXELS_PER_PART = 1 << 22
MOST_FRAMES_PER_PART = 1024
SLOW_FRAMES_PER_PART = 4
MOST_PARTS = 1 << 20  # a part is a line of the manifest, and a few hundred bytes of memory while rendering


def frames(
    scene: scenefile.Scene | Plan,
    seed: int,
    indices: Sequence[int] | I64,
    *,
    sampler: Sampler = "random",
    device: str = "cpu",
    renderer: str = "raster",
) -> FrameBatch:
    """Finished, labelled frames in memory: frame i depends on (spec, seed, i, renderer), on nothing else."""
    plan = scene if isinstance(scene, Plan) else scene.plan()

    def draw(seed: int, indices: Sequence[int] | I64) -> FrameBatch:
        return _drawn(scene, plan, seed, indices, sampler, device, renderer)

    if plan.spec.rules is None:
        return draw(seed, indices)
    try:
        return obeyed(plan.spec.rules, draw, seed, np.asarray(indices, np.int64))
    except SceneError as error:
        raise (error if isinstance(scene, Plan) else scene.located(error)) from None


def _drawn(
    scene: scenefile.Scene | Plan,
    plan: Plan,
    seed: int,
    indices: Sequence[int] | I64,
    sampler: Sampler,
    device: str,
    renderer: str,
) -> FrameBatch:
    """The frames as first drawn, whatever the scene's rules."""
    spec = plan.spec
    draws, batch = _composed(scene, plan, seed, indices, sampler)
    camera = ShutterRenderer(
        _renderer(renderer, device, spec), spec.renderer.pictures, spec.renderer.readout_lines
    )
    buffers = camera.render(batch, spec.renderer.samples, spec.renderer.detail)
    _check_buffers(spec, buffers)
    instances, semantic = annotate(batch, buffers)
    images = expose(buffers.color, buffers.supersample, _sensor(plan, draws), seed, draws.indices)
    images = _effects(scene, plan).apply(images, seed, draws.indices)
    values, active = _columns(plan, draws)
    return FrameBatch(
        draws.indices,
        spec.image.size,
        spec.classes,
        images,
        buffers,
        semantic,
        batch.cameras,
        instances,
        values,
        active,
        report=batch.report,
        distance=distances(batch.cameras, buffers) if "distance" in spec.outputs else None,
        nocs=object_coordinates(batch, buffers, instances) if "nocs" in spec.outputs else None,
    )


_FROM_RENDERER = {"albedo", "flow_forward", "flow_backward"}  # outputs that only some renderers make


def _check_buffers(spec: SceneSpec, buffers: Buffers) -> None:
    for name in spec.outputs:
        if name in _FROM_RENDERER and getattr(buffers, name) is None:
            raise SceneError(f"this renderer gives no {name}", path="outputs")


def _composed(
    scene: scenefile.Scene | Plan, plan: Plan, seed: int, indices: Sequence[int] | I64, sampler: Sampler
) -> tuple[Draws, SceneBatch]:
    """Values and arrays of the frames; what is wrong with them is said with the scene's file and line."""
    if isinstance(scene, Plan):
        draws = plan.sample(seed, indices, sampler)
        return draws, compose(plan, draws)
    try:
        draws = plan.sample(seed, indices, sampler)
        return draws, compose(plan, draws, folder=scene.folder)
    except SceneError as error:
        raise scene.located(error) from None


def _renderer(name: str, device: str, spec: SceneSpec) -> Renderer:
    light = (spec.renderer.paths, spec.renderer.max_depth)
    return _kept(name, device) if name == "raster" else _kept(name, device, *light)


@lru_cache(maxsize=2)
def _kept(name: str, device: str, *light: int) -> Renderer:
    """One renderer a process and device: it keeps its scratch memory between batches."""
    from imgsynth.render import renderer

    return renderer(name, device, *light)


def _sensor(plan: Plan, draws: Draws) -> SensorSettings:
    spec, read = plan.spec.sensor, Reader(draws, "sensor", np.arange(len(draws.indices)))
    leaves = {name: read(name) for name in type(spec).model_fields if f"sensor.{name}" in draws}
    shared = {
        "tone": spec.tone,
        "invert": spec.invert,
        "native_resize": spec.native_resize,
        "channels": plan.spec.image.channels,
    }
    return SensorSettings.neutral(len(draws.indices), **leaves, **shared)


def _effects(scene: scenefile.Scene | Plan, plan: Plan) -> Effects:
    try:
        return Effects(plan.spec.sensor.effects)
    except SceneError as error:
        raise (error if isinstance(scene, Plan) else scene.located(error)) from None


def _columns(plan: Plan, draws: Draws) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every varying leaf, one entry for each slot, and where that slot is in the frame."""
    values, active = {}, {}
    everywhere = np.ones(len(draws.indices), bool)
    for leaf in plan.varying:
        here = draws.active(leaf.group) if leaf.group else everywhere[:, None]
        table = draws[leaf.path] if leaf.group else draws[leaf.path][:, None]
        for slot, name in enumerate(leaf.names()):
            values[name], active[name] = table[:, slot], here[:, slot]
    return values, active


def part_size(spec: SceneSpec, renderer: str = "raster") -> int:
    """Frames rendered together: bounded by pixels, so that memory is, and by nothing that varies between
    machines. A reference renderer takes seconds a frame: few make a part, for all workers and for `resume`.
    """
    height, width = spec.image.size
    samples = height * width * (spec.renderer.samples + 1)
    most = MOST_FRAMES_PER_PART if renderer == "raster" else SLOW_FRAMES_PER_PART
    return max(1, min(most, PIXELS_PER_PART // samples))


def render(
    scene: str | Path | SceneSpec,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    start: int = 0,
    workers: int | None = None,
    sampler: Sampler = "random",
    device: str = "cpu",
    renderer: str = "raster",
    sets: Iterable[str] = (),
    freeze: Iterable[str] = (),
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Render frames start … start + n - 1 of a scene into a dataset folder.

    Files are the same bytes for any number of workers. An interrupted run leaves its finished parts; `resume`
    goes on from them.

    Raises:
        ImgsynthError: bad arguments, a scene that is wrong, a folder that is not free, a full disk.
    """
    if n < 1 or start < 0 or seed < 0:
        raise ImgsynthError(f"expected n ≥ 1, start ≥ 0 and seed ≥ 0, got n={n}, start={start}, seed={seed}")
    if seed >= 2**64:
        raise ImgsynthError(f"expected a seed of at most 64 bits, got {seed}")
    if start + n > MAX_INDEX:
        raise ImgsynthError(f"expected frames below {MAX_INDEX} (start + n), got start={start}, n={n}")
    loaded = scenefile.load(scene, sets=sets, freeze=freeze)
    most = MOST_PARTS * part_size(loaded.spec, renderer)
    if n > most:
        raise ImgsynthError(
            f"{n} frames are too many for one dataset of this scene (at most {most}); render slices of it"
        )
    _try_one(loaded, seed, start, sampler, device, renderer)
    header = _header(loaded, n, seed, start, sampler, device, renderer)
    root = Path(out)
    todo = writer.create(root, header, resume)
    done = n - sum(part.count for part in todo)
    if progress is not None:
        progress(done, n)
    count = min(workers or os.cpu_count() or 1, len(todo))
    for part in _rendered(loaded, header, root, todo, device, count):
        done += part.count
        if progress is not None:
            progress(done, n)
    writer.commit(root, header)
    return root


def _try_one(
    loaded: scenefile.Scene, seed: int, index: int, sampler: Sampler, device: str, renderer: str
) -> None:
    """Compose one frame, so that a bad value, a missing asset, device or engine is said before any file is
    made; draw it where an output depends on the renderer.
    """
    if _FROM_RENDERER & set(loaded.spec.outputs):
        frames(loaded, seed, [index], sampler=sampler, device=device, renderer=renderer)
        return
    plan = loaded.plan()
    _, batch = _composed(loaded, plan, seed, [index], sampler)
    _effects(loaded, plan)
    if renderer != "raster" or device != "cpu":
        draws = _renderer(renderer, device, loaded.spec)
        if hasattr(draws, "accepts"):
            draws.accepts(replace(batch, exposure=None))


def _versions(spec: SceneSpec, renderer: str) -> dict[str, str]:
    """Of everything that a file's bytes depend on."""
    names = {"numpy": "numpy", "opencv": "opencv-python-headless", "pyarrow": "pyarrow", "warp": "warp-lang"}
    if spec.sensor.effects:
        names["albumentations"] = "albumentations"
    if any(group.place.drop is not None for group in spec.objects.values()):
        names["mujoco"] = "mujoco"
    if renderer == "mitsuba":
        names["mitsuba"] = "mitsuba"
    found = {"imgsynth": __version__, **{n: metadata.version(package) for n, package in names.items()}}
    if renderer == "cycles":
        from imgsynth.render.cycles import bpy_version

        found["bpy"] = bpy_version()
    return found


def _header(
    loaded: scenefile.Scene, n: int, seed: int, start: int, sampler: str, device: str, renderer: str
) -> Header:
    spec = loaded.spec
    return Header(
        name=spec.name, spec=spec.canonical(), spec_digest=spec.digest(), seed=seed, start=start, count=n,
        part_size=part_size(spec, renderer), size=spec.image.size, channels=spec.image.channels,
        classes=spec.classes,
        outputs=spec.outputs, sampler=sampler, renderer=renderer, samples=spec.renderer.samples,
        device=device.partition(":")[0], versions=_versions(spec, renderer), licences=spec.licences,
        keypoints=class_keypoints(loaded.plan(), loaded.folder), labels=described(spec),
    )  # fmt: skip


def _rendered(
    loaded: scenefile.Scene, header: Header, root: Path, todo: list[Part], device: str, workers: int
) -> Iterator[Part]:
    """Render parts, in this process or in spawned ones, yielding each when it is on disk."""
    if workers <= 1:
        for part in todo:
            _render_part(loaded, header, root, part, device)
            yield part
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    waiting: dict[Future[None], Part] = {}
    queue = iter(todo)
    try:
        while True:
            with held_back():
                while len(waiting) < 2 * workers and (ready := next(queue, None)) is not None:
                    waiting[pool.submit(_render_part, loaded, header, root, ready, device)] = ready
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                future.result()
                yield waiting.pop(future)
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _render_part(loaded: scenefile.Scene, header: Header, root: Path, part: Part, device: str) -> None:
    indices = range(part.start, part.start + part.count)
    sampler: Sampler = "sobol" if header.sampler == "sobol" else "random"
    writer.write_part(
        root,
        header,
        part,
        frames(loaded, header.seed, indices, sampler=sampler, device=device, renderer=header.renderer),
    )
