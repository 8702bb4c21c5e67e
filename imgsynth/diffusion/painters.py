"""What paints a picture over a render: a large pipeline, or a small model that follows its layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import cv2
import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset.labelled import recolor
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion import conditions
from imgsynth.diffusion.layout import kinds_of, layout_of
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.pipelines import Drawing, TextPipeline
from imgsynth.diffusion.sample import BATCH, Sampling, sample
from imgsynth.errors import DataError, ImgsynthError, ModelError


class Painter(Protocol):
    """Draws pictures of frames of a rendered dataset, each from (seed, frame index) and its maps alone."""

    @property
    def name(self) -> str:
        """For the record."""
        ...

    @property
    def sha256(self) -> str:
        """Of the weights."""
        ...

    @property
    def generation(self) -> int:
        """Of the data that the weights learned from: 0 = no generated image, as far as is known."""
        ...

    @property
    def group(self) -> int:
        """Frames that are drawn together."""
        ...

    def check(self, dataset: Dataset) -> None:
        """Refuse (ImgsynthError) a dataset that it cannot paint over."""
        ...

    def paint(self, dataset: Dataset, positions: Sequence[int], seed: int) -> U8:
        """Pictures (n, H, W, 3) of the frames at `positions`, of the dataset's size."""
        ...

    def recipe(self) -> dict[str, Any]:
        """All that decides the pictures, as plain JSON values."""
        ...


@dataclass(frozen=True)
class Painting:
    """What is asked of the pipeline for every frame.

    `prompt` may hold {classes}: the names of the frame's visible classes. `control` is the guide of a
    ControlNet or adapter (`imgsynth.diffusion.conditions`), `colours` those of the classes for "semantic".
    `side` is the shorter side at which the pipeline works (default: what it was trained for); pictures come
    back at the render's size, so labels are not resampled.

    Raises:
        ImgsynthError: on construction, for an unknown control.
    """

    prompt: str
    negative: str = ""
    control: str | None = None
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    side: int | None = None

    def __post_init__(self) -> None:
        if self.control is not None and self.control not in conditions.CONTROLS:
            raise ImgsynthError(f"--control: expected {', '.join(conditions.CONTROLS)}, got {self.control!r}")


def guide_pictures(dataset: Dataset, positions: Sequence[int], painting: Painting) -> U8:
    """The guides (n, H, W, 3) of frames at `positions`.

    Raises:
        DataError: the dataset lacks a map that the control is made from.
    """
    control, kinds = painting.control, dataset.header.kinds
    for need in conditions.NEEDS[control or "edges"]:
        if need not in kinds:
            raise DataError(
                f"{dataset.root}: has no {need}, which --control {control} is made from; "
                "add it to the scene's outputs"
            )

    def maps(read: Callable[[int], Any]) -> Any:
        return np.stack([read(p) for p in positions])

    if control == "depth":
        return conditions.depth_picture(maps(dataset.depth))
    if control == "normal":
        return conditions.normal_picture(maps(dataset.normal))
    if control == "canny":
        return conditions.canny_picture(maps(dataset.image))
    if control == "semantic":
        colours = conditions.class_colours(dataset.classes, painting.colours)
        return conditions.semantic_picture(maps(dataset.semantic_mask), colours)
    depth = maps(dataset.depth) if "depth" in kinds else None
    normal = maps(dataset.normal) if "normal" in kinds else None
    return conditions.edge_picture(maps(dataset.instance_mask), depth, normal)


def paint(
    pipeline: TextPipeline,
    dataset: Dataset,
    positions: Sequence[int],
    painting: Painting,
    *,
    seed: int,
    drawing: Drawing | None = None,
) -> U8:
    """Pictures (n, H, W, 3) painted over frames at `positions`, at the dataset's size."""
    size = _working_size(dataset.size, painting.side or pipeline.side, pipeline.multiple)
    start = np.stack([three(dataset.image(p)) for p in positions])
    controls = guide_pictures(dataset, positions, painting) if pipeline.extra else None
    # A guide of lines and flat colours keeps its values when it is enlarged; a render is smoothed.
    drawn = pipeline.draw(
        [_prompt(dataset, p, painting.prompt) for p in positions],
        seed=seed,
        indices=[dataset.header.start + p for p in positions],
        size=size,
        settings=drawing,
        negative=painting.negative,
        images=_scaled(start, size) if pipeline.task == "image" else None,
        controls=None
        if controls is None
        else _scaled(controls, size, nearest=painting.control == "semantic"),
    )
    return _scaled(drawn, dataset.size)


def _prompt(dataset: Dataset, position: int, prompt: str) -> str:
    if "{classes}" not in prompt:
        return prompt
    rows = dataset.instances_of(position)
    seen = rows.filter(np.asarray(rows.column("area_visible").to_numpy() > 0))
    names = dict.fromkeys(name for name in seen.column("class").to_pylist() if name is not None)
    return prompt.replace("{classes}", " and ".join(names))


def _working_size(size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """Multiples of `multiple`, in nearly the render's proportions, the shorter about `side`."""
    scale = side / min(size)
    height, width = (max(multiple, round(s * scale / multiple) * multiple) for s in size)
    return height, width


def three(image: U8) -> U8:
    """An image (H, W, 1 or 3) with three channels, by view."""
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _scaled(images: U8, size: tuple[int, int], nearest: bool = False) -> U8:
    if images.shape[1:3] == size:
        return images
    shrinks = size[0] <= images.shape[1] and size[1] <= images.shape[2]
    how = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    out = [cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=how) for image in images]
    return np.stack(out).astype(np.uint8)


@dataclass(frozen=True)
class PipelinePainter:
    """A large pipeline, at a strength, with or without a guide."""

    pipeline: TextPipeline
    painting: Painting
    drawing: Drawing
    generation: int = 0
    group: int = 16

    @property
    def name(self) -> str:
        """The checkpoint's."""
        return self.pipeline.name

    @property
    def sha256(self) -> str:
        """Of the checkpoint's weights."""
        return self.pipeline.sha256

    def check(self, dataset: Dataset) -> None:
        """A guide needs a network that hears it, and its maps; an image needs to be there to start from."""
        if (self.pipeline.extra != "") != (self.painting.control is not None):
            raise ImgsynthError("a guide (--control) needs a ControlNet or an adapter, and they need a guide")
        guide_pictures(dataset, [0], self.painting)

    def paint(self, dataset: Dataset, positions: Sequence[int], seed: int) -> U8:
        """As `paint`."""
        return paint(self.pipeline, dataset, positions, self.painting, seed=seed, drawing=self.drawing)

    def recipe(self) -> dict[str, Any]:
        """Weights, scheduler, prompt, guide and strength."""
        pipeline, painting = self.pipeline, self.painting
        return {
            "pipeline": pipeline.sha256,
            "task": pipeline.task,
            "guide": pipeline.extra,
            "scheduler": type(pipeline.pipe.scheduler).__name__,
            "precision": str(pipeline.net.dtype).removeprefix("torch."),
            "painting": {**asdict(painting), "colours": {k: list(v) for k, v in painting.colours.items()}},
            "drawing": asdict(self.drawing),
        }


@dataclass(frozen=True)
class LayoutPainter:
    """A small model that was trained with a layout (`diffuse train --layout`).

    At `strength` 1 it draws from noise, by the layout alone; below, from the render under noise of flow
    matching's time t = strength, σ = t / (1 − t), so less of the render is drawn anew.

    Raises:
        ModelError: on construction, a model without a layout, a strength outside (0, 1].
    """

    model: Diffuser
    name: str
    settings: Sampling
    strength: float = 1.0
    device: str = "cpu"
    group: int = BATCH

    def __post_init__(self) -> None:
        if not self.model.config.layout_channels:
            raise ModelError(f"{self.name}: follows no layout; train it with `diffuse train --layout …`")
        if not 0 < self.strength <= 1:
            raise ModelError(f"--strength: expected more than 0 and at most 1, got {self.strength:g}")

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return self.model.hash()

    @property
    def generation(self) -> int:
        """Of its training data."""
        return int(self.model.record.get("generation", 0))

    @property
    def planes(self) -> tuple[str, ...]:
        """What each plane of its layout holds."""
        return tuple(self.model.record.get("data", {}).get("layout", ()))

    def check(self, dataset: Dataset) -> None:
        """The dataset has the model's size, classes and maps."""
        if dataset.size != self.model.size:
            (h, w), (mh, mw) = dataset.size, self.model.size
            raise DataError(f"{dataset.root}: frames of {h}×{w} pixels, the model draws {mh}×{mw}")
        if dataset.classes != self.model.classes:
            raise DataError(
                f"{dataset.root}: classes {', '.join(dataset.classes)}; the model's are "
                f"{', '.join(self.model.classes)}"
            )
        layout_of(dataset, kinds_of(self.planes, dataset.classes), [0])

    def paint(self, dataset: Dataset, positions: Sequence[int], seed: int) -> U8:
        """Pictures of the frames' layouts."""
        planes = layout_of(dataset, kinds_of(self.planes, dataset.classes), positions)
        settings, source = self.settings, None
        if self.strength < 1:
            high = min(self.strength / (1 - self.strength), settings.high)
            if high <= settings.low:
                raise ModelError(f"--strength {self.strength:g}: leaves the render as it is")
            settings = replace(settings, high=high)
            source = recolor(dataset.images(positions), self.model.channels)
        drawn = sample(
            self.model,
            np.full(len(positions), self.model.null, np.int64),
            seed=seed,
            indices=dataset.header.start + np.asarray(positions, np.int64),
            settings=settings,
            layout=(planes.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32),
            source=source,
            device=self.device,
        )
        return recolor(drawn.images, 3)

    def recipe(self) -> dict[str, Any]:
        """Weights, sampler, strength and the layout's planes."""
        return {
            "model": self.sha256,
            "precision": self.model.precision,
            "batch": BATCH,
            "sampling": self.settings.to_json(),
            "strength": self.strength,
            "layout": list(self.planes),
        }
