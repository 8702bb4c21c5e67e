"""Pascal VOC: an XML file an image, as VOC's own tools, labelImg, CVAT and this package write them.

VOC counts pixels from 1 and both corners are inside: a box over the whole of a 4×3 image is (1, 1) to (4, 3),
read as the half-open (0, 0, 4, 3). labelImg writes something else under the same names: the box's edges,
rounded, with 0 raised to 1. Its files are told by their `path` entry and its database "Unknown" and read as
edges, and so is a set where a corner is 0, which VOC's counting does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.dataset.folders import SUFFIXES
from imgsynth.dataset.photos import Box, Found, Photo, assemble, checked_box, inside, sized
from imgsynth.errors import DataError

MAX_BYTES = 8 << 20  # of one XML file
MAX_DEPTH = 50
FOLDERS = {"Annotations": "JPEGImages", "annotations": "images"}
LISTS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}


def find_voc(folder: Path) -> Path | None:
    """The folder of the XML files: Annotations/ or the folder itself; None where there are none."""
    for home in (*(folder / name for name in FOLDERS), folder):
        if home.is_dir() and next(home.glob("*.xml"), None) is not None:
            return home
    return None


def voc_list(folder: Path, part: str) -> list[str] | None:
    """The stems that ImageSets/Main lists for a part (train, validation, test); None where the set has no
    split of its own, that is, no lists for both train and val.

    Raises:
        DataError: it has one, without this part.
    """
    lists = folder / "ImageSets" / "Main"
    held = {
        p: next((f for n in names if (f := lists / f"{n}.txt").is_file()), None) for p, names in LISTS.items()
    }
    if held["train"] is None or held["validation"] is None:
        return None
    file = held[part]
    if file is None:
        raise DataError(f"{folder}: its own split, {lists}, has no part {part!r}")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{file}: cannot be read: {e}") from None
    return [line.split()[0] for line in lines if line.strip()]


def read_voc(folder: Path, name: str, *, stems: list[str] | None = None) -> AnnotatedImages:
    """The set in a folder (`stems`: only those files of it). Classes in the order of their names; `difficult`
    means `ignored`.

    Images lie beside the XML files, in JPEGImages/ or in images/, under the name that the file says or, where
    that is gone, under the XML file's own. No path from inside a file is followed.

    Raises:
        DataError: naming the file and the object.
    """
    home = find_voc(folder)
    if home is None:
        raise DataError(f"{folder}: no VOC annotations (*.xml)")
    files = (
        sorted(home.glob("*.xml"))
        if stems is None
        else [home / f"{inside(s, str(folder))}.xml" for s in stems]
    )
    sheets = [_read(file) for file in files]
    classes = sorted({o.name for sheet in sheets for o in sheet.objects})
    position = {c: k for k, c in enumerate(classes)}
    edges = any(min(o.corners[:2]) == 0 for sheet in sheets for o in sheet.objects)
    photos = []
    for sheet in sheets:
        path = _image(sheet, folder, home)
        size = sized(path, sheet.size, str(sheet.file))
        photo = Photo(path, path.relative_to(folder).as_posix(), size)
        for k, one in enumerate(sheet.objects):
            where = f"{sheet.file}: object {k + 1} ({one.name})"
            box = checked_box(_box(one.corners, edges or sheet.edges), size, where)
            photo.objects.append(Found(position[one.name], box, ignored=one.difficult))
        photos.append(photo)
    return assemble(photos, classes, name, folder, masks=False)


@dataclass(frozen=True)
class _Object:
    name: str
    corners: Box  # as they stand
    difficult: bool


@dataclass(frozen=True)
class _Sheet:
    file: Path
    image: str
    size: tuple[int, int] | None
    edges: bool  # corners are edges from 0, as labelImg has them
    objects: list[_Object]


def _box(corners: Box, edges: bool) -> Box:
    x0, y0, x1, y1 = corners
    if not edges:
        return (x0 - 1, y0 - 1, x1, y1)
    # labelImg raises 0 to 1: a 1 is most likely the image's edge.
    return (0.0 if x0 == 1 else x0, 0.0 if y0 == 1 else y0, x1, y1)


def _image(sheet: _Sheet, folder: Path, home: Path) -> Path:
    """The image of an XML file, found by the name it says or by its own."""
    places = [home, folder / "JPEGImages", folder / "images", folder]
    names = [PurePosixPath(sheet.image.replace("\\", "/")).name] if sheet.image else []
    if names and names[0] in ("..", "."):
        raise DataError(f"{sheet.file}: filename: expected the name of an image, got {sheet.image!r}")
    stem = sheet.file.stem
    if names and not PurePosixPath(names[0]).suffix:
        stem, names = names[0], []
    names += [f"{stem}{ending}" for suffix in sorted(SUFFIXES) for ending in (suffix, suffix.upper())]
    for name in names:
        for place in places:
            if "\0" not in name and (place / name).is_file():
                return place / name
    looked = ", ".join(str(p) for p in dict.fromkeys(places) if p.is_dir())
    raise DataError(f"{sheet.file}: no image {sheet.image or stem!r}; looked in {looked}")


class _Builder(ElementTree.TreeBuilder):
    """Refuses what can blow up or reach outside (document types, so entities), and bottomless nesting."""

    depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("holds a DOCTYPE, which is not read (entities could reach outside the file)")

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)


def _read(file: Path) -> _Sheet:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MiB")
        root = ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_Builder()))
    except OSError as e:
        raise DataError(f"{file}: cannot be read: {e.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as e:
        raise DataError(f"{file}: not a readable VOC file: {e}") from None
    if root.tag != "annotation":
        raise DataError(f"{file}: not a VOC file: expected <annotation>, got <{root.tag}>")
    labelimg = root.find("path") is not None and (root.findtext("source/database") or "").strip() == "Unknown"
    image = (root.findtext("filename") or "").strip()
    return _Sheet(file, image, _size(root, file), labelimg, list(_objects(root, file)))


def _size(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    texts = [(root.findtext(f"size/{k}") or "0").strip() for k in ("height", "width")]
    try:
        height, width = (int(float(t)) for t in texts)
    except (ValueError, OverflowError):
        raise DataError(f"{file}: size: expected whole numbers of pixels, got {texts}") from None
    return (height, width) if height and width else None  # some tools write 0 0


def _objects(root: ElementTree.Element, file: Path) -> Iterator[_Object]:
    for k, item in enumerate(root.iterfind("object"), start=1):
        where = f"{file}: object {k}"
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{where}: has no name")
        texts = [item.findtext(f"bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = (float(t) for t in texts if t is not None)
        except ValueError:
            raise DataError(
                f"{where} ({name}): bndbox: expected numbers xmin, ymin, xmax, ymax, got {texts}"
            ) from None
        difficult = (item.findtext("difficult") or "0").strip()
        yield _Object(name, (x0, y0, x1, y1), difficult in ("1", "true", "True"))
