"""Where detection and segmentation data comes from: DATA of the command line, read into `AnnotatedImages`.

DATA is one of

    PATH         a dataset of imgsynth (a folder with dataset.json): visible boxes and masks of labelled
    instances PATH.json    a COCO file, or a folder that holds one (`coco_file`)
    PATH         a YOLO or YOLO-seg set: a data.yaml or the folder it stands in, or a folder with images/ and
                 labels/ (`yolo_files`)
    PATH         a Pascal VOC set: a folder of XML files beside their images, or Annotations/ and JPEGImages/
                 (`voc_files`)

Any of them may end in `#train`, `#validation` or `#test`. Where the set has a split of its own (other images
for val than for train in data.yaml; ImageSets/Main with train and val), that is its part. Else it is the part
of the fixed split of `imgsynth.dataset.split` (70/15/15 %, seed 0), stratified by the rarest class of each
image, near-copies (as far as file names tell, `photos.groups_of`) never parted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgsynth.batch import U8
from imgsynth.dataset import codec, manifest
from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.coco_file import find_coco, read_coco
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.sources import fragment
from imgsynth.dataset.split import split
from imgsynth.dataset.voc_files import find_voc, read_voc, voc_list
from imgsynth.dataset.writer import unfinished
from imgsynth.dataset.yolo_files import SHEETS, find_yolo, open_yolo, own_split, read_yolo
from imgsynth.errors import DataError


def load_annotated(spec: str, *, masks: bool = False) -> AnnotatedImages:
    """Read DATA (see the module's text); `masks` reads masks too, and refuses a set that has none.

    Raises:
        DataError: anything missing, unknown, unreadable or out of range, saying what was expected and where.
    """
    source, part = fragment(spec)
    if source.startswith(("sklearn:", "torchvision:")) or source.lower().endswith(".npz"):
        raise DataError(f"{spec}: has a class an image and no boxes; --task classify reads it")
    path = Path(source).expanduser()
    data, parted = _read(path, part, masks)
    if part is None or parted:
        return data
    names = [str(n) for n in data.names]
    rows = split(data.main_class(), data.groups, names=names)[part]
    if len(rows) == 0:
        raise DataError(f"{spec}: no image falls into the part {part!r} of {len(data)}")
    return data.subset(rows, name=f"{data.name}#{part}")


def _read(path: Path, part: str | None, masks: bool) -> tuple[AnnotatedImages, bool]:
    """The set, and whether it is already the part that was asked for."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    whole = path.resolve()
    name = f"{whole.parent.name}/{whole.name}"
    if path.is_file():
        if path.suffix.lower() == ".json" and path.name != manifest.MANIFEST:
            return read_coco(path, name, masks=masks), False
        if path.suffix.lower() in (".yaml", ".yml"):
            return _yolo(path, name, part, masks)
        raise DataError(
            f"{path}: expected a COCO file (.json), a YOLO data.yaml or a folder, got a "
            f"{path.suffix or 'plain'} file"
        )
    if (path / manifest.MANIFEST).is_file() or unfinished(path):
        return _dataset(path, whole.name, masks), False
    named = [n for n in ("annotations.json", "_annotations.coco.json") if (path / n).is_file()]
    if named:
        return read_coco(path / named[0], name, masks=masks), False
    if (place := find_yolo(path)) is not None:
        return _yolo(place, name, part, masks)
    if find_voc(path) is not None:
        if masks:
            raise DataError(f"{path}: a VOC set has boxes but no masks; --task detect reads it")
        stems = None if part is None else voc_list(path, part)
        data = read_voc(path, name if stems is None else f"{name}#{part}", stems=stems)
        return data, stems is not None
    if (file := find_coco(path)) is not None:
        return read_coco(file, name, masks=masks), False
    raise DataError(_unknown(path))


def _unknown(path: Path) -> str:
    inner = [p.name for p in sorted(path.iterdir()) if p.is_dir()]
    known = [n for n in inner if find_coco(path / n) or find_yolo(path / n) or find_voc(path / n)]
    hint = f"; name one of its parts: {', '.join(str(path / n) for n in known[:4])}" if known else ""
    return (
        f"{path}: no boxes found: expected dataset.json (imgsynth), a COCO file, YOLO's {SHEETS[0]} or "
        f"images/ and labels/, or VOC's Annotations/*.xml{hint}"
    )


def _yolo(place: Path, name: str, part: str | None, masks: bool) -> tuple[AnnotatedImages, bool]:
    found = open_yolo(place)
    own = part is not None and own_split(found)
    data = read_yolo(found, f"{name}#{part}" if own else name, part=part if own else None, masks=masks)
    return data, own


@dataclass(frozen=True)
class FrameImages:
    """The images of a dataset of imgsynth, read when asked for."""

    paths: tuple[Path, ...]
    size: tuple[int, int]
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> U8:
        path = self.paths[i]
        try:
            return codec.decode_image(path.read_bytes(), self.size, self.channels, path)
        except OSError as e:
            raise DataError(f"{path}: cannot be read: {e.strerror}") from None


def _dataset(root: Path, name: str, masks: bool) -> AnnotatedImages:
    """A dataset that imgsynth wrote: its labelled instances with a visible pixel, all of its classes."""
    dataset = Dataset(root)
    if dataset.header.labels and "boxes" not in dataset.header.labels:
        raise DataError(f"{root}: its labels are of whole images, not of places; --task classify reads it")
    try:
        rows = dataset.instances.select(["frame", "class_id", "area_visible", "box_visible", "rle_visible"])
        rows = rows.filter((pc.field("class_id") > 0) & (pc.field("area_visible") > 0))
        frame, class_id = (rows.column(c).to_numpy().astype(np.int64) for c in ("frame", "class_id"))
        boxes = np.array(rows.column("box_visible").to_pylist(), np.float64).reshape(-1, 4)
        texts = np.array([str(t) for t in rows.column("rle_visible").to_pylist()], object) if masks else None
    except (KeyError, TypeError, ValueError, pa.ArrowException) as e:
        where = root / manifest.INSTANCES
        raise DataError(f"{where}: not the table that imgsynth writes: {str(e).splitlines()[0]}") from None
    if len(rows) == 0:
        raise DataError(f"{root}: {len(dataset)} images and not one labelled object that can be seen")
    paths = tuple(dataset.path("image", i) for i in range(len(dataset)))
    return AnnotatedImages(
        images=FrameImages(paths, dataset.size, dataset.header.channels),
        sizes=np.tile(np.array(dataset.size, np.int64), (len(dataset), 1)),
        owner=frame - dataset.header.start,
        boxes=boxes,
        labels=class_id - 1,
        masks=texts,
        ignored=np.zeros(len(rows), bool),
        classes=dataset.classes,
        groups=None,
        names=np.array([p.name for p in paths]),
        name=name,
    )
