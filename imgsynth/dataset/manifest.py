"""What a dataset says about itself: `dataset.json`, and the names of everything beside it.

A dataset is a folder. Its `dataset.json` is written last, so a folder without one is unfinished. A frame's
files are named by the frame's index (at least six digits), never by its place in the set: frame 7 is
`images/000007.png` in every dataset that holds it.

The hashes form a chain: `dataset.json` holds the SHA-256 of the tables, of every part and (`sha256`) of its
own other entries, as JSON with sorted keys and no indent; `frames.parquet` holds that of every frame's
files. A part's hash is the SHA-256 of the lines ``<hex>  <path>\\n`` of its files, sorted by path (what
``sha256sum`` prints).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from imgsynth.errors import DataError
from imgsynth.scene import Output

MANIFEST = "dataset.json"
FRAMES, INSTANCES, COCO = "frames.parquet", "instances.parquet", "annotations.json"
PANOPTIC = "panoptic.json"
PARTS = "parts"
FORMAT, FORMAT_VERSION = "imgsynth-dataset", 1

# What a frame's files hold → (folder, ending). Image and mask are always there.
KINDS = {
    "image": ("images", ".png"),
    "mask": ("masks", ".png"),
    "depth": ("depth", ".npz"),
    "normal": ("normals", ".png"),
    "distance": ("distance", ".npz"),
    "albedo": ("albedo", ".png"),
    "nocs": ("nocs", ".png"),
    "flow_forward": ("flow_forward", ".npz"),
    "flow_backward": ("flow_backward", ".npz"),
    "panoptic": ("panoptic", ".png"),
    "semantic": ("semantic", ".png"),
}
MAX_INDEX = 2**36  # keeps COCO's annotation ids, index · 2^16 + instance id, exact in a double
MAX_ID = 2**16 - 1


M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class Part:
    """A contiguous range of frames that is rendered and committed as one."""

    number: int
    start: int  # frame index
    count: int


class Header(_Strict):
    """Everything that decides the bytes of a dataset, known before the first frame is drawn.

    `spec` is the scene as plain JSON values and `spec_digest` its SHA-256 as the scene defines it; `start`
    and `count` are frame indices; `size` is (height, width); class id c is `classes[c - 1]`; `samples`
    counts colour samples a pixel; `device` is the device type that draws; `licences` maps each asset to its
    licence; `generation` is 0 where no generated image is among the parents; `keypoints` names those of each
    class that has any; `labels` says of each label what it holds and what grounds it; `parents` are the
    models and data that generated images come from. Of all these only `part_size`, `labels` and `parents`
    leave the frames, tables and annotations as they are. Of a dataset that no scene made `spec` holds what
    did make it, under the generator's name.
    """

    name: str
    spec: dict[str, Any]
    spec_digest: str
    seed: int
    start: int = Field(ge=0, le=MAX_INDEX)
    count: int = Field(ge=1, le=MAX_INDEX)
    part_size: int = Field(ge=1)
    size: tuple[int, int] = Field(strict=False)
    channels: Literal[1, 3]
    classes: tuple[str, ...] = Field(strict=False)
    outputs: tuple[Output, ...] = Field(default=(), strict=False)
    sampler: str = "random"
    renderer: str = "raster"
    device: str = "cpu"
    samples: int = Field(default=1, ge=1)
    versions: dict[str, str] = {}
    licences: dict[str, str] = {}
    generation: int = Field(default=0, ge=0)
    keypoints: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] = {}
    labels: dict[str, dict[str, str]] = {}
    parents: tuple[dict[str, Any], ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _check(self) -> Header:
        if not all(1 <= side <= 16384 for side in self.size):
            raise ValueError(f"size: expected (height, width) of 1 to 16384 pixels, got {self.size}")
        for field in ("classes", "outputs"):
            names = getattr(self, field)
            if len(set(names)) != len(names):
                raise ValueError(f"{field}: a name stands twice in {names}")
        if unknown := [c for c in self.keypoints if c not in self.classes]:
            raise ValueError(f"keypoints: {unknown[0]!r} is not among the classes")
        return self

    @model_serializer(mode="wrap")
    def _without_newer(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that older datasets lack are left out where they say nothing: their hashes go on to hold."""
        data: dict[str, Any] = plain(self)
        return {k: v for k, v in data.items() if v or k not in ("keypoints", "labels", "parents")}

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str | Path = MANIFEST) -> Header:
        """Read back what `to_json` gave. Raises DataError, naming the field."""
        return _validate(cls, data, where)

    @property
    def indices(self) -> range:
        """The frame indices."""
        return range(self.start, self.start + self.count)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each frame has a file of, in the order of KINDS."""
        return tuple(k for k in KINDS if k in ("image", "mask", *self.outputs))

    @property
    def tables(self) -> tuple[str, ...]:
        """The files beside the manifest that hold something of all frames."""
        more = (PANOPTIC,) if "panoptic" in self.outputs else ()
        return (FRAMES, INSTANCES, COCO, *more)

    def parts(self) -> list[Part]:
        """All parts, in order."""
        starts = range(self.start, self.start + self.count, self.part_size)
        end = self.start + self.count
        return [Part(k, start, min(self.part_size, end - start)) for k, start in enumerate(starts)]


class PartHash(_Strict):
    """A committed part: its frames and the hash over its files."""

    start: int
    count: int
    sha256: str


class Manifest(_Strict):
    """`dataset.json`: the header, and the hashes that make it a commit."""

    format: Literal["imgsynth-dataset"]
    format_version: Literal[1]
    header: Header
    instances: int = Field(ge=0)  # rows of instances.parquet
    files: dict[str, str]  # table → SHA-256
    parts: tuple[PartHash, ...] = Field(strict=False)
    rules: dict[str, int] | None = None  # with rules: frames drawn again, all draws, frames that break them
    filters: dict[str, int] | None = None  # with filters: all draws, and those dropped for each reason
    sha256: str = ""  # as read from the file, to be compared with `digest`

    @classmethod
    def of(
        cls,
        header: Header,
        instances: int,
        files: dict[str, str],
        parts: list[PartHash],
        rules: dict[str, int] | None = None,
        filters: dict[str, int] | None = None,
    ) -> Manifest:
        """The manifest of a finished dataset."""
        return cls(
            format="imgsynth-dataset",
            format_version=1,
            header=header,
            instances=instances,
            files=files,
            parts=tuple(parts),
            rules=rules,
            filters=filters,
        )

    def digest(self) -> str:
        """SHA-256 of `dataset.json` without its own entry `sha256`."""
        return hashlib.sha256(dumps(self._flat()).encode()).hexdigest()

    def dumps(self) -> str:
        """The text of `dataset.json`: the header's fields beside the hashes, sorted by name."""
        return dumps({**self._flat(), "sha256": self.digest()}, indent=1) + "\n"

    def _flat(self) -> dict[str, Any]:
        silent = {name for name in ("rules", "filters") if getattr(self, name) is None}
        data = self.model_dump(mode="json", exclude={"sha256"} | silent)
        return {**data.pop("header"), **data}

    @classmethod
    def loads(cls, text: str | bytes, where: str | Path = MANIFEST) -> Manifest:
        """Read `dataset.json`. Raises DataError, naming the field that is wrong or of another version."""
        data = parse(text, where)
        if data.get("format") != FORMAT:
            raise DataError(f'{where}: expected "format": "{FORMAT}", got {data.get("format")!r}')
        if data.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"{where}: format version {data.get('format_version')!r}, "
                f"this imgsynth reads {FORMAT_VERSION}"
            )
        own = {k: data.pop(k) for k in list(data) if k in cls.model_fields and k != "header"}
        return _validate(cls, {**own, "header": Header.from_json(data, where)}, where)


def frame_file(kind: str, index: int) -> str:
    """Path of a frame's file inside the dataset, with forward slashes."""
    folder, ending = KINDS[kind]
    return f"{folder}/{index:06d}{ending}"


def part_hash(hashes: Mapping[str, str]) -> str:
    """The hash of a part from the SHA-256 of its files (path → hex)."""
    return hashlib.sha256("".join(f"{hashes[p]}  {p}\n" for p in sorted(hashes)).encode()).hexdigest()


def dumps(data: Any, indent: int | None = None) -> str:
    """JSON with sorted keys. Raises DataError where a value has no JSON form (NaN, infinity, an object)."""
    try:
        return json.dumps(data, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise DataError(f"not a JSON value in the dataset's header: {e}") from None


def parse(text: str | bytes, where: str | Path) -> dict[str, Any]:
    """A JSON object. Raises DataError with the place of the mistake."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{where}: not valid JSON: {e}") from None
    if not isinstance(data, dict):
        raise DataError(f"{where}: expected a JSON object, got a {type(data).__name__}")
    return data


def _validate(model: type[M], data: Mapping[str, Any], where: str | Path) -> M:
    try:
        return model.model_validate(dict(data))
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(p) for p in first["loc"]) or "header"
        raise DataError(f"{where}: {field}: {first['msg']}") from None
