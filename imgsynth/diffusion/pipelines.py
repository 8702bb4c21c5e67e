"""Stable Diffusion 1.5 and XL of diffusers, with ControlNet or T2I-Adapter, by folder or hub id.

Weights are safetensors or they are not loaded, and no code comes with them. Every sample has a generator of
its own, from (seed, index), so it does not depend on its neighbours' noise; the network runs on batches of
one fixed size, the last filled up, so it does not depend on their number either. What is left is the order in
which a device sums: the same bytes are promised for the same machine, versions, threads and batch size.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from imgsynth import seeding
from imgsynth.batch import U8
from imgsynth.diffusion.checkpoints import component_folder, pipeline_folder, weights_digest
from imgsynth.errors import ImgsynthError, ModelError

Family = Literal["sd", "sdxl"]
Task = Literal["text", "image"]  # from noise, or from a picture
Listen = Callable[[Any, list[int]], AbstractContextManager[Any]]  # network, rows of a call → what is open

_FAMILIES: dict[str, Family] = {"StableDiffusion": "sd", "StableDiffusionXL": "sdxl"}
_CLASSES = {
    ("text", ""): "Pipeline",
    ("image", ""): "Img2ImgPipeline",
    ("text", "controlnet"): "ControlNetPipeline",
    ("image", "controlnet"): "ControlNetImg2ImgPipeline",
    ("text", "adapter"): "AdapterPipeline",
}


@dataclass(frozen=True)
class Drawing:
    """Settings of a pipeline's run.

    `strength` (image) is the share of the noise that is put on the picture, so how far it may move from it;
    `control` how strongly a ControlNet or adapter is heard. `batch` pictures a call.

    Raises:
        ImgsynthError: on construction, for a value out of range.
    """

    steps: int = 25
    guidance: float = 7.5
    strength: float = 0.4
    control: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "steps": (1, 1000),
            "guidance": (1, 100),
            "strength": (0.001, 1),
            "control": (0, 10),
            "batch": (1, 64),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ImgsynthError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")


@dataclass(frozen=True)
class TextPipeline:
    """A loaded pipeline, and what it was loaded from."""

    pipe: Any
    family: Family
    task: Task
    extra: Literal["", "controlnet", "adapter"]
    name: str
    sha256: str  # of all weight files, by their names

    @property
    def net(self) -> Any:
        """The denoising network."""
        return self.pipe.unet

    @property
    def tokenizers(self) -> list[Any]:
        """One (SD) or two (SDXL) tokenizers."""
        found = [getattr(self.pipe, name, None) for name in ("tokenizer", "tokenizer_2")]
        return [t for t in found if t is not None]

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of."""
        latent = int(self.pipe.vae_scale_factor) * 2 ** (len(self.net.config.block_out_channels) - 1)
        adapter = getattr(self.pipe, "adapter", None)
        return latent if adapter is None else int(np.lcm(latent, int(adapter.downscale_factor)))

    @property
    def side(self) -> int:
        """The side in pixels that the network was trained for."""
        return int(self.net.config.sample_size) * int(self.pipe.vae_scale_factor)

    @property
    def control_channels(self) -> int:
        """Of the conditioning picture: 3, or 1 where an adapter takes grey ones."""
        adapter = getattr(self.pipe, "adapter", None)
        return 3 if adapter is None else int(adapter.config.in_channels)

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str],
        *,
        seed: int,
        indices: Sequence[int],
        size: tuple[int, int],
        settings: Drawing | None = None,
        negative: str = "",
        images: U8 | None = None,
        controls: U8 | None = None,
        listen: Listen | None = None,
    ) -> U8:
        """Pictures (n, H, W, 3) uint8 of `size` (height, width), one a prompt.

        Args:
            prompts: (n,) texts.
            seed, indices: (n,) picture i draws its noise from (seed, indices[i]) alone.
            size: multiples of `multiple`.
            settings: of the run.
            negative: what the unguided half is given instead of nothing.
            images: (n, H, W, 3) to start from, where the task is "image".
            controls: (n, H, W, 3) for a ControlNet or adapter.
            listen: opened around each call of the pipeline, with its network and the rows of the call; one
                that is filled up repeats its last row.

        Raises:
            ImgsynthError: arrays or sizes that do not fit, or too few steps for the strength.
        """
        settings = settings or Drawing()
        asked = _Asked(prompts, seed, indices, size, negative, images, controls)
        self._check(asked, settings)
        out = np.empty((len(prompts), *size, 3), np.uint8)
        for first in range(0, len(prompts), settings.batch):
            last = min(first + settings.batch, len(prompts))
            rows = np.minimum(np.arange(first, first + settings.batch), last - 1).tolist()
            with _quiet(), listen(self.net, rows) if listen else nullcontext():
                drawn = np.asarray(self.pipe(**self._inputs(asked, settings, rows)).images)
            out[first:last] = np.clip(np.rint(drawn[: last - first] * 255), 0, 255).astype(np.uint8)
        return out

    def _check(self, asked: _Asked, settings: Drawing) -> None:
        n, size = len(asked.prompts), asked.size
        if len(asked.indices) != n:
            raise ImgsynthError(f"expected an index for each of {n} prompts, got {len(asked.indices)}")
        if any(side < 1 or side % self.multiple for side in size):
            raise ImgsynthError(
                f"{self.name}: height and width must be multiples of {self.multiple}, got {size}"
            )
        for what, given, needed in (
            ("images", asked.images, self.task == "image"),
            ("controls", asked.controls, self.extra != ""),
        ):
            if (given is not None) != needed:
                raise ImgsynthError(f"{self.name}: this pipeline takes {'' if needed else 'no '}{what}")
            if given is not None and (given.shape != (n, *size, 3) or given.dtype != np.uint8):
                raise ImgsynthError(
                    f"{what}: expected uint8 {(n, *size, 3)}, got {given.dtype} {given.shape}"
                )
        if self.task == "image" and int(settings.steps * settings.strength) < 1:
            raise ImgsynthError(
                f"strength {settings.strength} of {settings.steps} steps leaves none; take at least "
                f"{int(np.ceil(1 / settings.strength))} steps"
            )

    def _inputs(self, asked: _Asked, settings: Drawing, rows: list[int]) -> dict[str, Any]:
        """What the pipeline is called with for some rows."""
        inputs: dict[str, Any] = {
            "prompt": [asked.prompts[i] for i in rows],
            "negative_prompt": [asked.negative] * len(rows),
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "generator": [noise_of(asked.seed, int(asked.indices[i])) for i in rows],
            "output_type": "np",
        }
        if self.task == "text":
            inputs |= {"height": asked.size[0], "width": asked.size[1]}
        if asked.images is not None:
            inputs |= {"image": _pictures(asked.images[rows]), "strength": settings.strength}
        if asked.controls is not None:
            guides = _pictures(asked.controls[rows], grey=self.control_channels == 1)
            inputs["control_image" if self.task == "image" else "image"] = guides
            inputs[f"{self.extra}_conditioning_scale"] = settings.control
        return inputs


@dataclass(frozen=True)
class _Asked:
    """What `TextPipeline.draw` is asked for."""

    prompts: Sequence[str]
    seed: int
    indices: Sequence[int]
    size: tuple[int, int]
    negative: str
    images: U8 | None
    controls: U8 | None


def noise_of(seed: int, index: int) -> torch.Generator:
    """The generator of sample `index`; of the CPU whatever the device, so that all devices draw alike."""
    return torch.Generator("cpu").manual_seed(seeding.derive(seed, f"pipeline.noise[{index}]"))


def load_pipeline(
    source: str,
    *,
    task: Task = "text",
    controlnet: str | None = None,
    adapter: str | None = None,
    device: str = "cpu",
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto",
) -> TextPipeline:
    """Load a text-to-image pipeline.

    Args:
        source: a folder that `save_pretrained` wrote, or a hub id (`org/name`, `org/name@revision`).
        task: "text" draws from noise, "image" from a picture.
        controlnet, adapter: folder or hub id of one of them, of the same family.
        device: as torch names it.
        precision: auto is fp16 on a GPU and fp32 elsewhere.

    The safety checker is left out: it blackens pictures whose labels would then be wrong.

    Raises:
        ModelError: no such folder, weights that are not safetensors, a pipeline of another family, parts that
            do not fit, or transformers is not installed.
    """
    _needs_transformers()
    import diffusers

    if controlnet and adapter:
        raise ModelError("expected a ControlNet or a T2I-Adapter, got both")
    extra: Literal["", "controlnet", "adapter"] = "controlnet" if controlnet else "adapter" if adapter else ""
    if (task, extra) not in _CLASSES:
        raise ModelError(
            "a T2I-Adapter guides pictures from noise only; to start from a picture take a ControlNet"
        )
    folder, family = pipeline_folder(source, _FAMILIES)
    prefix = next(name for name, f in _FAMILIES.items() if f == family)
    dtype = _dtype(precision, device)
    more: dict[str, Any] = (
        {} if family == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    )
    parts = [folder]
    if extra:
        parts.append(component_folder(controlnet or adapter or ""))
        kind = diffusers.ControlNetModel if controlnet else diffusers.T2IAdapter
        more[extra] = _opened(kind, parts[1], dtype)
    pipe = _opened(getattr(diffusers, prefix + _CLASSES[task, extra]), folder, dtype, **more)
    if family == "sdxl":
        pipe.watermark = None  # it would write into the pixels
    try:
        pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {device!r}: {_line(error)}") from None
    pipe.set_progress_bar_config(disable=True)
    digest = hashlib.sha256("".join(weights_digest(part) for part in parts).encode()).hexdigest()
    return TextPipeline(pipe, family, task, extra, source, digest)


def _opened(kind: Any, folder: Any, dtype: torch.dtype, **more: Any) -> Any:
    try:
        with _quiet():
            return kind.from_pretrained(
                str(folder), torch_dtype=dtype, use_safetensors=True, local_files_only=True, **more
            )
    except Exception as error:  # whatever a folder that another program wrote may hold
        raise ModelError(f"{folder}: cannot be opened as {kind.__name__}: {_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, neither library draws bars of its own, nor says that an argument will have another name."""
    from diffusers.utils import logging as ours
    from transformers.utils import logging as theirs

    switches = [(ours, ours.is_progress_bar_enabled()), (theirs, theirs.is_progress_bar_enabled())]
    try:
        for log, _ in switches:
            log.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for log, shown in switches:
            if shown:
                log.enable_progress_bar()


def _dtype(precision: str, device: str) -> torch.dtype:
    known = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision == "auto":
        return known["fp16" if device.startswith("cuda") else "fp32"]
    if precision not in known:
        raise ModelError(f"precision: expected auto, {', '.join(known)}, got {precision!r}")
    return known[precision]


def _pictures(images: U8, grey: bool = False) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(image).convert("L") if grey else Image.fromarray(image) for image in images]


def _needs_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise ModelError(
            "text-to-image pipelines need transformers: pip install 'imgsynth[text2image]'"
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
