"""A finished dataset, read lazily: nothing is decoded, and no table opened, before it is asked for.

Frames are addressed by position 0 .. len - 1; `header.start` + position is the frame's index, which names
its files and stands in the tables. Every file is checked for what it claims to be before it is decoded;
nothing is unpickled or run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imgsynth.batch import F32, I32, I64, U8
from imgsynth.dataset import codec, manifest, rle, writer
from imgsynth.dataset.manifest import Header, Manifest
from imgsynth.errors import DataError

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One frame of a dataset, by reference."""

    dataset: Dataset
    position: int

    @property
    def index(self) -> int:
        """Frame index."""
        return self.dataset.header.start + self.position

    @property
    def image(self) -> U8:
        """(H, W, C) uint8."""
        return self.dataset.image(self.position)

    @property
    def instance_mask(self) -> I32:
        """(H, W) instance ids, 0 = background."""
        return self.dataset.instance_mask(self.position)

    @property
    def instances(self) -> pa.Table:
        """The frame's rows of `instances.parquet`."""
        return self.dataset.instances_of(self.position)


class Dataset(Sequence[Sample]):
    """A dataset on disk.

    Args:
        root: its folder.

    Raises:
        DataError: there is no folder, it holds no finished dataset, or its manifest is damaged.
    """

    def __init__(self, root: Path | str):
        self.root = Path(root)
        self.manifest = _read_manifest(self.root)

    @property
    def header(self) -> Header:
        """What decides its bytes."""
        return self.manifest.header

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; class id c is `classes[c - 1]`."""
        return self.header.classes

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every frame."""
        return self.header.size

    def __len__(self) -> int:
        return self.header.count

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(self, i) for i in range(len(self)))

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        return Sample(self, self._position(i))

    def __repr__(self) -> str:
        return f"Dataset({str(self.root)!r}): {len(self)} frames of {self.size[1]}×{self.size[0]}"

    def path(self, kind: str, i: int) -> Path:
        """The file of a kind ('image', 'mask', 'depth', …: `manifest.KINDS`) of frame position i."""
        if kind not in self.header.kinds:
            raise DataError(f"{self.root}: has no {kind} files, only {', '.join(self.header.kinds)}")
        return self.root / manifest.frame_file(kind, self.header.start + self._position(i))

    def image(self, i: int) -> U8:
        """(H, W, 1) or (H, W, 3) uint8, as displayed."""
        path = self.path("image", i)
        return codec.decode_image(_read(path), self.size, self.header.channels, path)

    def images(self, positions: Sequence[int] | None = None) -> U8:
        """(n, H, W, C) uint8 of all frames, or of those at `positions`, in memory."""
        chosen = range(len(self)) if positions is None else positions
        out = np.empty((len(chosen), *self.size, self.header.channels), np.uint8)
        for k, i in enumerate(chosen):
            out[k] = self.image(i)
        return out

    def instance_mask(self, i: int) -> I32:
        """(H, W) instance ids, 0 = background."""
        path = self.path("mask", i)
        return codec.decode_mask(_read(path), self.size, path)

    def semantic_mask(self, i: int) -> I32:
        """(H, W) class ids, 0 = background or unlabelled."""
        rows = self.instances_of(i)
        class_of = np.zeros(manifest.MAX_ID + 1, np.int32)
        class_of[rows.column("id").to_numpy()] = rows.column("class_id").to_numpy()
        return class_of[self.instance_mask(i)]

    def depth(self, i: int) -> F32:
        """(H, W) metres along camera z, inf where nothing is hit."""
        path = self.path("depth", i)
        return codec.decode_depth(_read(path), self.size, path)

    def normal(self, i: int) -> F32:
        """(H, W, 3) unit normals in the camera's frame, 0 where nothing is hit."""
        path = self.path("normal", i)
        return codec.decode_normal(_read(path), self.size, path)

    def distance(self, i: int) -> F32:
        """(H, W) metres along the ray, inf where nothing is hit."""
        path = self.path("distance", i)
        return codec.decode_distance(_read(path), self.size, path)

    def albedo(self, i: int) -> F32:
        """(H, W, 3) linear base colour, 0..1; 0 where nothing is hit."""
        path = self.path("albedo", i)
        return codec.decode_shares(_read(path), self.size, path)

    def nocs(self, i: int) -> F32:
        """(H, W, 3) places in the objects' 3-D boxes, 0..1; 0 off objects."""
        path = self.path("nocs", i)
        return codec.decode_shares(_read(path), self.size, path)

    def flow(self, i: int, direction: Literal["forward", "backward"] = "forward") -> tuple[F32, Bools]:
        """Optical flow (H, W, 2) in pixels (x, y), NaN where it cannot be said, and occlusion (H, W)."""
        path = self.path(f"flow_{direction}", i)
        return codec.decode_flow(_read(path), self.size, path)

    def panoptic(self, i: int) -> I32:
        """(H, W) segment ids, as in `panoptic.json`; 0 = void."""
        path = self.path("panoptic", i)
        return codec.decode_segments(_read(path), self.size, path)

    @cached_property
    def frames(self) -> pa.Table:
        """`frames.parquet`: a row a frame, in order (its columns: imgsynth.dataset.tables)."""
        return _read_table(self.root / manifest.FRAMES, self.header.count)

    @cached_property
    def instances(self) -> pa.Table:
        """`instances.parquet`: a row an instance, by frame and id (its columns: imgsynth.dataset.tables)."""
        return _read_table(self.root / manifest.INSTANCES, self.manifest.instances)

    def instances_of(self, i: int) -> pa.Table:
        """The rows of `instances` of frame position i."""
        index = self.header.start + self._position(i)
        first, last = np.searchsorted(self._instance_frames, [index, index + 1])
        return self.instances.slice(first, last - first)

    def amodal_masks(self, i: int) -> np.ndarray:
        """(k, H, W) in-frame amodal masks of the k instances of frame position i, in the rows' order."""
        texts = self.instances_of(i).column("rle_amodal").to_pylist()
        masks = [rle.decode(text, self.size) for text in texts]
        return np.stack(masks) if masks else np.zeros((0, *self.size), bool)

    def labels(self) -> I64:
        """(n,) what each frame shows, for classification, as a position in `classes` (class id - 1).

        Raises:
            DataError: a frame shows no labelled instance, or instances of several classes.
        """
        frame, class_id, area = (
            self.instances.column(c).to_numpy() for c in ("frame", "class_id", "area_visible")
        )
        order = np.flatnonzero((class_id > 0) & (area > 0))
        found, first = np.unique(frame[order], return_index=True)
        bare = np.setdiff1d(np.arange(self.header.start, self.header.start + len(self)), found)
        if len(bare):
            raise DataError(
                f"{self.root}: {len(bare)} of {len(self)} frames show no labelled instance, the first is "
                f"frame {bare[0]}; classification needs one in each"
            )
        labels = class_id[order[first]].astype(np.int64) - 1
        mixed = np.unique(frame[order][class_id[order] - 1 != labels[np.searchsorted(found, frame[order])]])
        if len(mixed):
            raise DataError(
                f"{self.root}: {len(mixed)} of {len(self)} frames show instances of several classes, the "
                f"first is frame {mixed[0]}; classification needs one class a frame"
            )
        return labels

    @cached_property
    def _instance_frames(self) -> I64:
        return self.instances.column("frame").to_numpy()

    def _position(self, i: int) -> int:
        position = i + len(self) if i < 0 else i
        if not 0 <= position < len(self):
            raise IndexError(f"frame position {i} of {len(self)}")
        return position


def _read_manifest(root: Path) -> Manifest:
    path = root / manifest.MANIFEST
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder")
    if not path.is_file():
        begun = writer.unfinished(root)
        if begun:
            raise DataError(
                f"{root}: an unfinished dataset, {begun[0]} of {begun[1]} parts done; "
                "continue it with --resume"
            )
        raise DataError(f"{root}: not an imgsynth dataset: it has no {manifest.MANIFEST}")
    return Manifest.loads(_read(path), path)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        raise DataError(f"{path}: {os.strerror(e.errno) if e.errno else e}") from None


def _read_table(path: Path, rows: int) -> pa.Table:
    try:
        table = pq.read_table(path, memory_map=False, partitioning=None)
    except (OSError, pa.ArrowException) as e:
        raise DataError(f"{path}: cannot be read: {e}") from None
    if len(table) != rows:
        raise DataError(f"{path}: expected {rows} rows, got {len(table)}")
    return table
