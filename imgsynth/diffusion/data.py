"""What a diffusion model learns from: images with a class each, and where wanted mask bits or a layout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import I64, U8
from imgsynth.dataset.labelled import LabelledImages, check_memory
from imgsynth.errors import DataError

if TYPE_CHECKING:
    from imgsynth.dataset.reader import Dataset

JOINTS = ("semantic", "instance")
CHUNK = 256  # frames whose masks are read at once


@dataclass(frozen=True)
class DiffusionData:
    """`n` images of one size, their classes, and what is denoised or given with them.

    Raises:
        DataError: on construction, where the arrays do not fit each other.
    """

    images: U8  # (n, H, W, C), C = 1 or 3
    labels: I64  # (n,) index into classes; K = len(classes): of no class
    classes: tuple[str, ...]  # what a model is asked for; class id c of a mask is classes[c - 1]
    name: str
    bits: U8 | None = None  # (n, H, W, B) 0 or 1: the mask, in the coding of `joint.MaskCoding`
    layout: U8 | None = None  # (n, H, W, L) 0 … 255
    layout_names: tuple[str, ...] = ()  # what each plane of the layout holds
    generation: int = 0  # 0: no generated image among the parents
    parents: tuple[str, ...] = ()  # digests of the datasets that it was made of
    licences: Mapping[str, str] = field(default_factory=dict)  # asset → licence, of what the images show

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
            raise DataError(
                f"{self.name}: images: expected uint8 (n, height, width, 1 or 3), "
                f"got {images.dtype} {images.shape}"
            )
        if self.labels.shape != (len(images),) or not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(
                f"{self.name}: labels: expected {len(images)} whole numbers, "
                f"got {self.labels.dtype} {self.labels.shape}"
            )
        if self.labels.min() < 0 or self.labels.max() > len(self.classes):
            raise DataError(
                f"{self.name}: labels: expected 0 to {len(self.classes)}, got {self.labels.min()} to "
                f"{self.labels.max()}"
            )
        for what, planes in (("bits", self.bits), ("layout", self.layout)):
            if planes is not None and (planes.dtype != np.uint8 or planes.shape[:-1] != images.shape[:-1]):
                raise DataError(
                    f"{self.name}: {what}: expected uint8 {(*images.shape[:-1], 'planes')}, "
                    f"got {planes.dtype} {planes.shape}"
                )
        if self.bits is not None and self.bits.max(initial=0) > 1:
            raise DataError(f"{self.name}: bits: expected 0 or 1, got {self.bits.max()}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def mask_bits(self) -> int:
        """Planes of the mask's code; 0 where there is none."""
        return 0 if self.bits is None else int(self.bits.shape[3])

    @property
    def layout_channels(self) -> int:
        """Planes of the layout; 0 where there is none."""
        return 0 if self.layout is None else int(self.layout.shape[3])

    @staticmethod
    def of(data: LabelledImages, *, generation: int = 0) -> DiffusionData:
        """Images with a class each, from any DATA."""
        return DiffusionData(data.images, data.labels, data.classes, data.name, generation=generation)

    @staticmethod
    def read(spec: str, *, joint: str | None = None, layout: Sequence[str] | None = None) -> DiffusionData:
        """Read DATA (`dataset.sources`); with `joint` or `layout`, an imgsynth dataset with its masks.

        The generation counter of an imgsynth dataset is taken over; other data counts as real. `layout` are
        kinds of `layout.KINDS`.

        Raises:
            DataError: data that cannot be read, or has no masks, or lacks a map.
        """
        from imgsynth.dataset.sources import fragment, load

        folder = Path(fragment(spec)[0]).expanduser()
        if joint is not None or layout is not None:
            return _with_masks(folder, spec, joint, layout)
        more: dict[str, Any] = {}
        if (folder / "dataset.json").is_file():
            from imgsynth.dataset.reader import Dataset

            more = _lineage(Dataset(folder))
        data = load(spec)
        return DiffusionData(data.images, data.labels, data.classes, data.name, **more)

    def digest(self) -> str:
        """SHA-256 (hex) of all arrays and of the class names."""
        h = hashlib.sha256(repr((self.classes, self.layout_names)).encode())
        for part in (self.images, self.labels.astype("<i8"), self.bits, self.layout):
            if part is not None:
                h.update(repr((part.shape, str(part.dtype))).encode())
                h.update(np.ascontiguousarray(part).tobytes())
        return h.hexdigest()

    @property
    def classed(self) -> bool:
        """Whether any image has a class."""
        return bool((self.labels < len(self.classes)).any())

    def counts(self) -> I64:
        """Images of each class, (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes) + 1)[:-1].astype(np.int64)

    def balanced(self, strength: float) -> NDArray[np.float64] | None:
        """Relative chance (n,) of each image so that a class of m images is drawn as m^(1 - strength).

        0 leaves the data as it is (None); 1 draws all classes equally often. Images of no class count as a
        class of their own.
        """
        if strength == 0:
            return None
        held = np.bincount(self.labels, minlength=len(self.classes) + 1).astype(np.float64)
        return np.asarray(held[self.labels] ** -strength)


def _with_masks(folder: Path, spec: str, joint: str | None, layout: Sequence[str] | None) -> DiffusionData:
    """An imgsynth dataset with the bits of its masks, or its maps; of no class where frames show several."""
    from imgsynth.dataset.reader import Dataset
    from imgsynth.diffusion.layout import layout_of, plane_names

    if joint not in (*JOINTS, None):
        raise DataError(f"--joint: expected {' or '.join(JOINTS)}, got {joint!r}")
    if not (folder / "dataset.json").is_file():
        raise DataError(f"{spec}: masks and layouts are read from a dataset of imgsynth (dataset.json)")
    if str(folder) != str(Path(spec).expanduser()):
        raise DataError(f"{spec}: a part (#…) of a dataset with masks cannot be taken; render another seed")
    dataset = Dataset(folder)
    height, width = dataset.size
    check_memory(folder, (len(dataset), height, width, dataset.header.channels + 16))
    bits = None if joint is None else _bits(dataset, joint)
    planes = None if layout is None else layout_of(dataset, layout)
    names = () if layout is None else plane_names(layout, dataset.classes)
    return DiffusionData(
        dataset.images(), _single_classes(dataset), dataset.classes, folder.resolve().name, bits, planes,
        layout_names=names, **_lineage(dataset),
    )  # fmt: skip


def _lineage(dataset: Dataset) -> dict[str, Any]:
    """Where the images come from, as fields of `DiffusionData`."""
    header = dataset.header
    return {
        "generation": header.generation,
        "parents": (header.spec_digest,),
        "licences": dict(header.licences),
    }


def _single_classes(dataset: Dataset) -> I64:
    """The class of each frame where every frame shows one alone; else all are of no class."""
    try:
        return np.asarray(dataset.labels(), np.int64)
    except DataError:
        return np.full(len(dataset), len(dataset.classes), np.int64)


def _bits(dataset: Dataset, joint: str) -> U8:
    """The masks' code, (n, H, W, B) 0 or 1."""
    from imgsynth.diffusion.joint import MaskCoding

    semantic = np.stack([dataset.semantic_mask(i).astype(np.uint16) for i in range(len(dataset))])
    objects, instance = 0, np.zeros_like(semantic)
    if joint == "instance":
        for k in range(len(dataset)):
            ids = np.where(semantic[k] > 0, dataset.instance_mask(k), 0)
            instance[k] = ids  # at most 2^16 - 1 (manifest.MAX_ID)
            objects = max(objects, int(np.count_nonzero(np.unique(ids))))
    coding = MaskCoding(len(dataset.classes), objects)
    out = np.empty((len(dataset), *dataset.size, coding.bits), np.uint8)
    for start in range(0, len(dataset), CHUNK):
        at = slice(start, start + CHUNK)
        code = coding.encode(semantic[at].astype(np.int32), instance[at].astype(np.int32))
        out[at] = code.transpose(0, 2, 3, 1) > 0
    return out
