"""Each format, read back by its own rules, says what the dataset says."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torchvision
import yaml
from drawn import CLASSES, draw, header
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO
from scipy import ndimage

from imgsynth.dataset import Dataset, commit, create, write_part
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.formats import EXPORTERS, export
from imgsynth.formats.yolo import polygon

PLAIN = ("disc", "square plate", "sign")


def build(root: Path, lone: bool, **changes) -> Dataset:
    head = header(outputs=(), **changes)
    for part in create(root, head):
        frames = range(part.start, part.start + part.count)
        write_part(root, head, part, draw(frames, head.size, head.channels, lone, head.classes))
    commit(root, head)
    return Dataset(root)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Dataset:
    return build(tmp_path_factory.mktemp("many") / "set", lone=False, start=3)


@pytest.fixture(scope="module")
def lone(tmp_path_factory) -> Dataset:
    root = tmp_path_factory.mktemp("lone") / "set"
    return build(root, lone=True, channels=1, size=(8, 8), start=20, count=30, classes=PLAIN)


def visible(dataset: Dataset, i: int) -> list[dict]:
    return [r for r in dataset.instances_of(i).to_pylist() if r["class_id"] and r["area_visible"]]


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# --- every format


@pytest.fixture(params=list(EXPORTERS))
def fmt(request) -> str:
    return request.param


@pytest.fixture
def source(request, fmt) -> Dataset:
    return request.getfixturevalue("lone" if fmt == "imagefolder" else "many")


def test_images_are_all_there_and_unchanged(fmt, source, tmp_path):
    export(source, fmt, tmp_path / "deep" / "out")
    found = files(tmp_path / "deep" / "out").items()
    written = {Path(n).name: d for n, d in found if n.endswith(".png") and "/mask" not in n}
    paths = [source.path("image", i) for i in range(len(source))]
    assert written == {p.name: p.read_bytes() for p in paths}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_the_same_bytes_each_time(fmt, source, tmp_path):
    export(source, fmt, tmp_path / "a")
    (tmp_path / "b").mkdir()
    export(source, fmt, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_target_that_is_not_empty_is_refused(fmt, source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    for target in (tmp_path / "out", tmp_path / "out" / "mine.txt"):
        with pytest.raises(ImgsynthError, match="new or empty folder"):
            export(source, fmt, target)
    assert files(tmp_path) == {"out/mine.txt": b"x"}


def test_nothing_half_written_stays(fmt, source, tmp_path, monkeypatch):
    calls = []

    def failing(source, target):
        calls.append(target)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", failing)
    with pytest.raises(ImgsynthError, match="the disk is full"):
        export(source, fmt, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_names_the_nearest(many, tmp_path):
    with pytest.raises(ImgsynthError, match=r"unknown format 'coc': did you mean coco\? Formats: coco, yolo"):
        export(many, "coc", tmp_path / "x")
    assert not (tmp_path / "x").exists()


# --- one by one


def test_coco(many, tmp_path):
    export(many, "coco", tmp_path / "x")
    data = torchvision.datasets.CocoDetection(tmp_path / "x", tmp_path / "x" / "annotations.json")
    assert len(data) == len(many)
    for i, (image, notes) in enumerate(data):
        np.testing.assert_array_equal(np.array(image), many.image(i))
        rows = visible(many, i)
        assert [n["instance_id"] for n in notes] == [r["id"] for r in rows]
        boxes = [[n["bbox"][0], n["bbox"][1], sum(n["bbox"][::2]), sum(n["bbox"][1::2])] for n in notes]
        assert boxes == [r["box_visible"] for r in rows]
    coco = COCO(str(tmp_path / "x" / "annotations.json"))
    for note in coco.dataset["annotations"]:
        mask = many.instance_mask(note["image_id"] - 3) == note["instance_id"]
        np.testing.assert_array_equal(coco.annToMask(note) == 1, mask)


def yolo_lines(root: Path, index: int) -> list[tuple[int, np.ndarray]]:
    text = (root / "labels" / f"{index:06d}.txt").read_text()
    lines = [line.split() for line in text.splitlines()]
    return [(int(line[0]), np.array(line[1:], float)) for line in lines]


def test_yolo_boxes(many, tmp_path):
    export(many, "yolo", tmp_path / "x")
    data = yaml.safe_load((tmp_path / "x" / "data.yaml").read_text())
    assert data == {"train": "images", "val": "images", "names": dict(enumerate(CLASSES))}
    for i in range(len(many)):
        lines, rows = yolo_lines(tmp_path / "x", i + 3), visible(many, i)
        assert [c for c, _ in lines] == [r["class_id"] - 1 for r in rows]
        for (_, (cx, cy, w, h)), row in zip(lines, rows, strict=True):
            box = [32 * (cx - w / 2), 24 * (cy - h / 2), 32 * (cx + w / 2), 24 * (cy + h / 2)]
            np.testing.assert_allclose(box, row["box_visible"], atol=1e-6)
    assert len(list((tmp_path / "x" / "labels").iterdir())) == len(many)


def test_yolo_polygons(many, tmp_path):
    export(many, "yolo-seg", tmp_path / "x")
    seen = 0
    for i in range(len(many)):
        for (c, flat), row in zip(yolo_lines(tmp_path / "x", i + 3), visible(many, i), strict=True):
            mask = many.instance_mask(i) == row["id"]
            path = flat.reshape(-1, 2) * (32, 24)
            assert c == row["class_id"] - 1
            np.testing.assert_allclose(np.r_[path.min(0), path.max(0)], row["box_visible"], atol=1e-6)
            np.testing.assert_array_equal(inside(path, mask.shape), filled(mask))
            seen += 1
    assert seen > 10


def inside(path: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre has a winding number other than 0 (an independent rule to fill a polygon by)."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    winding = np.zeros(size, int)
    for (ax, ay), (bx, by) in zip(path, np.roll(path, -1, axis=0), strict=True):
        if ay != by:
            crossing = ((ay <= y) != (by <= y)) & (ax + (y - ay) * (bx - ax) / (by - ay) > x)
            winding += crossing * (1 if by > ay else -1)
    return winding != 0


def filled(mask: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(mask)
    out = np.zeros_like(mask)
    for k in range(1, count + 1):
        piece = np.pad(pieces == k, 1)
        out |= ndimage.binary_fill_holes(piece, structure=np.ones((3, 3)))[1:-1, 1:-1]
    return out


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))).filter(lambda m: m.any()))
def test_a_polygon_is_the_outline_of_any_mask(mask):
    path = polygon(mask)
    np.testing.assert_array_equal(inside(path, mask.shape), filled(mask))
    assert (path == np.rint(path)).all()


def test_voc(many, tmp_path):
    export(many, "voc", tmp_path / "x")
    names = (tmp_path / "x/ImageSets/Main/trainval.txt").read_text().split()
    assert names == [f"{i:06d}" for i in range(3, 15)]
    flags = set()
    for i, name in enumerate(names):
        root = ElementTree.parse(tmp_path / "x" / "Annotations" / f"{name}.xml").getroot()
        image = cv2.imread(str(tmp_path / "x" / "JPEGImages" / root.findtext("filename")))
        size = [int(root.findtext(f"size/{k}")) for k in ("height", "width", "depth")]
        assert size == list(image.shape) == [24, 32, 3]
        for item, row in zip(root.iter("object"), visible(many, i), strict=True):
            assert item.findtext("name") == row["class"]
            ends = [int(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")]
            assert [ends[0] - 1, ends[1] - 1, *ends[2:]] == row["box_visible"]
            hidden, cut = row["visible_fraction"] < 0.95, row["truncated_fraction"] > 0.15
            assert (item.findtext("occluded"), item.findtext("truncated")) == (
                str(int(hidden)),
                str(int(cut)),
            )
            flags |= {(hidden, cut)}
    assert len(flags) == 4
    voc = tmp_path / "VOCdevkit"
    (voc).mkdir()
    (tmp_path / "x").rename(voc / "VOC2012")
    data = torchvision.datasets.VOCDetection(tmp_path, year="2012", image_set="trainval")
    assert len(data) == 12


def test_imagefolder(lone, tmp_path):
    export(lone, "imagefolder", tmp_path / "x")
    data = torchvision.datasets.ImageFolder(tmp_path / "x")
    assert sorted(data.classes) == sorted(PLAIN)
    by_frame = {int(Path(path).stem): data.classes[c] for path, c in data.samples}
    assert by_frame == {i + 20: PLAIN[c] for i, c in enumerate(lone.labels())}
    assert len(set(by_frame.values())) == 3


def test_imagefolder_refuses_several_objects(tmp_path):
    several = build(tmp_path / "set", lone=False, classes=PLAIN)
    with pytest.raises(DataError, match=r"frame \d+ shows \d labelled instances; imagefolder holds one"):
        export(several, "imagefolder", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["..", ".git", "a/b", "a\\b", "/etc", " a", "a\n", "C:"])
def test_imagefolder_refuses_names_that_leave_the_folder(tmp_path, name):
    odd = build(tmp_path / "set", lone=True, classes=("disc", "plate", name))
    with pytest.raises(DataError, match="cannot name a folder"):
        export(odd, "imagefolder", tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
