"""Detection and segmentation data from files of every accepted form, good and hostile."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import draw, header
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as cocomask
from scipy import ndimage

from imgsynth.dataset import Dataset, commit, create, rle, write_part
from imgsynth.dataset.annotated import concat_annotated
from imgsynth.dataset.annotated_sources import load_annotated
from imgsynth.dataset.leaks import shared_images
from imgsynth.dataset.photos import groups_of
from imgsynth.dataset.polygons import polygon_texts
from imgsynth.dataset.sources import load_for
from imgsynth.errors import DataError
from imgsynth.formats import export
from imgsynth.formats.yolo import polygon
from imgsynth.generate import render

SIZE = (24, 32)


def photo(path: Path, size=SIZE, seed=0, **how) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        how.pop("quality", None)
    Image.fromarray(pixels).save(path, **how)
    return pixels


# --- masks


def polygon_mask(polygons, size):
    (text,) = polygon_texts([polygons], size)
    return rle.decode(text, size) if text else np.zeros(size, bool)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_as_a_list_become_the_text_that_coco_writes(mask):
    text = cocomask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert rle.encode_counts(rle.decode_counts(text).tolist()) == text


corner = st.tuples(st.floats(-5, 15), st.floats(-5, 15))
polygons = st.lists(st.lists(corner, min_size=3, max_size=7), min_size=1, max_size=3)


@given(st.lists(polygons, min_size=1, max_size=3), st.tuples(st.integers(1, 10), st.integers(1, 10)))
def test_a_polygon_holds_the_pixels_whose_centres_it_winds_around(objects, size):
    objects = [[np.array(path) for path in one] for one in objects]
    texts = polygon_texts(objects, size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for one, text in zip(objects, texts, strict=True):
        wound, clear = np.zeros(size, bool), np.ones(size, bool)
        for path in one:
            # Independent of scan lines: the angles under which a centre sees the edges add up to 2π a turn.
            a = (path[:, 0] + 1j * path[:, 1]) - (x + 1j * y)[..., None]
            angle = np.angle(np.roll(a, -1, axis=2) * a.conj())
            clear &= (np.abs(a).min(axis=2) > 1e-3) & (np.abs(angle).max(axis=2) < np.pi - 1e-3)
            wound |= np.rint(angle.sum(axis=2) / (2 * np.pi)) != 0
        mask = rle.decode(text, size) if text else np.zeros(size, bool)
        assert np.array_equal(mask[clear], wound[clear])
        if text:
            whole = cocomask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
            assert text == whole


@given(hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))).filter(lambda m: m.any()))
def test_the_exported_outline_of_a_mask_gives_the_mask_without_its_holes(mask):
    assert np.array_equal(polygon_mask([polygon(mask)], mask.shape), without_holes(mask))


def without_holes(mask: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(mask)
    filled = [ndimage.binary_fill_holes(np.pad(pieces == k, 1), np.ones((3, 3))) for k in range(1, count + 1)]
    return np.any(filled, axis=0)[1:-1, 1:-1]


def test_polygons_of_one_object_are_united_and_a_hole_walked_backwards_stays_open():
    square = np.array([[1, 1], [9, 1], [9, 9], [1, 9]], float)
    hole = np.array([[3, 3], [3, 7], [7, 7], [7, 3]], float)
    assert polygon_mask([square, square + 4], (20, 20)).sum() == 64 + 64 - 16
    path = np.concatenate([square, square[:1], hole, hole[:1], square[:1]])
    assert polygon_mask([path], (20, 20)).sum() == 64 - 16
    assert polygon_texts([[square * 0.01], []], (20, 20)) == ["", ""] and polygon_texts([], (4, 4)) == []


def test_a_polygon_that_would_fill_memory_is_refused():
    zigzag = np.tile([[0.0, 0.0], [16000.0, 1.0]], (4000, 1))
    with pytest.raises(DataError, match="edges cross 128000000 columns"):
        polygon_texts([[zigzag]], (16000, 16000))


# --- COCO


def coco(root: Path, change=None, where="train.coco.json", images="train", **image) -> Path:
    """Two images, three objects, of which one a crowd; Roboflow's category 0."""
    for k in (1, 2):
        photo(root / images / f"{k}.png", seed=k)
    square = [4, 5, 10, 5, 10, 9, 4, 9]
    crowd = np.zeros(SIZE, np.uint8, order="F")
    crowd[0:6, 20:32] = 1
    counts = rle.decode_counts(cocomask.encode(crowd)["counts"].decode()).tolist()
    rest = {"height": SIZE[0], "width": SIZE[1], **image}
    data = {
        "categories": [
            {"id": 0, "name": "things", "supercategory": "none"},
            {"id": 7, "name": "cup", "supercategory": "things"},
            {"id": 3, "name": "plate", "supercategory": "things"},
            {"id": 9, "name": "spoon", "supercategory": "things"},
        ],
        "images": [
            {"id": 20, "file_name": "2.png", **rest},
            {"id": 10, "file_name": "1.png", **rest},
        ],
        "annotations": [
            {"id": 5, "image_id": 10, "category_id": 7, "bbox": [4, 5, 6, 4], "segmentation": [square]},
            {
                "id": 6,
                "image_id": 20,
                "category_id": 3,
                "bbox": [20, -1.5, 14, 7.5],
                "iscrowd": 1,
                "segmentation": {"size": list(SIZE), "counts": counts},
            },
            {"id": 7, "image_id": 20, "category_id": 7, "bbox": [1.25, 2, 3, 4], "iscrowd": 0},
        ],
    }
    if change:
        change(data)
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_coco_boxes_masks_crowds_and_classes(tmp_path):
    path = coco(tmp_path)
    data = load_annotated(str(path), masks=True)
    assert data.classes == ("plate", "cup", "spoon") and not data.unnamed
    assert data.names.tolist() == ["2.png", "1.png"] and data.sizes.tolist() == [list(SIZE)] * 2
    assert data.owner.tolist() == [0, 0, 1] and data.labels.tolist() == [0, 1, 1]
    assert data.boxes.tolist() == [[20, 0, 32, 6], [1.25, 2, 4.25, 6], [4, 5, 10, 9]]
    assert data.ignored.tolist() == [True, False, False]
    assert data.mask(0)[:6, 20:].all() and data.mask(0).sum() == 6 * 12
    assert data.mask(2)[5:9, 4:10].all() and data.mask(2).sum() == 24
    assert data.masks[1] == "" and data.notes == "1 of 3 objects have no mask: their boxes are filled"
    assert np.array_equal(data.image(1), np.asarray(Image.open(tmp_path / "train" / "1.png")))
    assert load_annotated(str(path)).masks is None
    copy = pickle.loads(pickle.dumps(data.images))
    assert np.array_equal(copy[0], data.image(0))


@pytest.mark.parametrize(
    ("where", "images"),
    [
        ("a.json", "."),
        ("a.json", "images"),
        ("annotations.json", "images"),
        ("_annotations.coco.json", "."),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_default.json", "images"),
        ("valid.coco.json", "valid"),
    ],
)
def test_coco_images_are_found_where_people_keep_them(where, images, tmp_path):
    path = coco(tmp_path, where=where, images=images)
    assert len(load_annotated(str(path))) == len(load_annotated(str(tmp_path))) == 2
    if images in ("valid", "val2017", "images/val2017"):  # the folder of images finds the file called like it
        assert len(load_annotated(str(tmp_path / images))) == 2


def test_coco_with_the_split_in_its_file_names(tmp_path):
    def deeper(data):
        for entry in data["images"]:
            entry["file_name"] = "train\\" + entry["file_name"]

    data = load_annotated(str(coco(tmp_path, deeper, where="all.json")))
    assert data.names.tolist() == ["train/2.png", "train/1.png"]


def edit(path, value):
    """Sets (or, for None, removes) an entry of the COCO file."""

    def change(data):
        *way, last = path
        for key in way:
            data = data[key]
        if value is None:
            del data[last]
        else:
            data[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("annotations", 0, "bbox"),
            [4, 5, 0, 4],
            r"annotation 5: an empty or inverted box, \(4, 5\) to \(4, 9\)",
        ),
        (("annotations", 0, "bbox"), [4, 5, 6, -4], "annotation 5: an empty or inverted box"),
        (("annotations", 0, "bbox"), [40, 5, 6, 4], "annotation 5: a box .* lies outside the image of 32×24"),
        (("annotations", 0, "bbox"), [4, 5, 6], "annotation 5: bbox: expected 4 finite numbers"),
        (("annotations", 0, "bbox"), [4, 5, 6, 1e300], "annotation 5: bbox: expected 4 finite numbers"),
        (("annotations", 0, "bbox"), [4, 5, 6, "4"], "annotation 5: bbox: expected 4 finite numbers"),
        (("annotations", 0, "bbox"), None, "annotation 5: bbox: expected 4 finite numbers"),
        (("annotations", 0, "image_id"), 99, "annotation 5: image_id 99 is no image"),
        (("annotations", 0, "image_id"), [1], r"annotation 5: expected an id .*, got \[1\]"),
        (("annotations", 0, "category_id"), 4, "annotation 5: category_id 4 is no category"),
        (("annotations", 0), "x", r"annotations\[0\]: expected an object, got str"),
        (
            ("annotations", 0, "segmentation"),
            [[1, 2, 3, 4]],
            "segmentation: expected polygons of at least three",
        ),
        (
            ("annotations", 0, "segmentation"),
            [[1, 2, 3, 4, 5, 1e99]],
            "segmentation: polygon: expected 6 finite",
        ),
        (("annotations", 0, "segmentation"), "x", "segmentation: expected polygons or run lengths, got str"),
        (
            ("annotations", 1, "segmentation", "counts"),
            [1, 2],
            "annotation 6: segmentation: runs fill 3 pixels",
        ),
        (("annotations", 1, "segmentation", "counts"), [-1, 769], "annotation 6: segmentation: RLE counts"),
        (("annotations", 1, "segmentation", "counts"), [0.5], "annotation 6: segmentation: RLE counts"),
        (("annotations", 1, "segmentation", "counts"), "zz", "annotation 6: segmentation: malformed RLE"),
        (("annotations", 1, "segmentation", "size"), [32, 24], "annotation 6: segmentation: for a frame"),
        (("annotations",), [], "2 images and not one object"),
        (("annotations",), None, "not a COCO file: expected an object with lists"),
        (("images",), [], "image_id 10 is no image"),
        (("images", 0, "id"), 10, r"images\[1\]: id 10 stands twice"),
        (("images", 0, "file_name"), "1.png", r"images\[1\]: file_name 1\.png stands twice"),
        (("images", 0, "file_name"), "gone.png", r"images\[0\]: no image file gone\.png; looked in"),
        (("images", 0, "file_name"), "../../etc/passwd", "within the data set, got '../../etc/passwd'"),
        (("images", 0, "file_name"), "/etc/passwd", "within the data set, got '/etc/passwd'"),
        (("images", 0, "file_name"), "C:\\a.png", "within the data set"),
        (("images", 0, "file_name"), 3, "within the data set, got 3"),
        (("images", 0, "width"), 33, r"images\[0\]: says 33×24 pixels, but .*2\.png has 32×24"),
        (("images", 0, "width"), "x", r"images\[0\]: height and width: expected whole numbers"),
        (("categories", 1, "id"), 3, r"categories\[2\]: id 3 stands twice"),
        (("categories", 1, "name"), "plate", "classes: every name once"),
        (("categories", 1, "name"), None, r"categories\[1\]: expected an object with id and name"),
    ],
)
def test_coco_faults_are_one_clear_line(path, value, message, tmp_path):
    file = coco(tmp_path, edit(path, value))
    with pytest.raises(DataError, match=message) as caught:
        load_annotated(str(file), masks=True)
    assert "\n" not in str(caught.value) and "train.coco.json" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[", "[1]", "{}", '{"images": NaN}', "[" * 100_000, '{"images": 1, "annotations": 2}', "\xff"],
)
def test_what_is_no_coco_file_is_said(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.json: not "):
        load_annotated(str(tmp_path / "a.json"))


def test_nan_in_a_box_is_no_json(tmp_path):
    with pytest.raises(DataError, match="not valid JSON: NaN is no number"):
        load_annotated(str(coco(tmp_path, edit(("annotations", 0, "bbox"), [float("nan"), 1, 2, 3]))))


def test_several_coco_files_are_not_guessed_between(tmp_path):
    coco(tmp_path, where="a.json", images=".")
    coco(tmp_path, where="b.json", images=".")
    with pytest.raises(DataError, match=r"several COCO files \(a\.json, b\.json\); name the one"):
        load_annotated(str(tmp_path))
    (tmp_path / "b.json").write_text('{"settings": 1}')
    assert len(load_annotated(str(tmp_path))) == 2


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_an_image_that_its_exif_turns_must_be_labelled_as_it_is_shown(ending, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    path = coco(tmp_path, edit(("images", 1, "file_name"), f"1.{ending}"))
    stored = photo(tmp_path / "train" / f"1.{ending}", exif=exif, quality=100)  # 32 wide, 24 high
    with pytest.raises(
        DataError, match=r"labels are for the image as stored, but the EXIF .* turns it to 24×32"
    ):
        load_annotated(str(path))
    data = json.loads(path.read_text())
    data["images"][1] |= {"height": 32, "width": 24}
    path.write_text(json.dumps(data))
    read = load_annotated(str(path))
    assert read.sizes.tolist() == [[24, 32], [32, 24]]
    alike = [np.corrcoef(read.image(1).ravel(), np.rot90(stored, k).ravel())[0, 1] for k in (-1, 1)]
    assert alike[0] > 0.5 and abs(alike[1]) < 0.2


def test_images_stay_on_disk_until_asked_for(tmp_path):
    path = coco(tmp_path)
    data = load_annotated(str(path))
    whole = (tmp_path / "train" / "2.png").read_bytes()
    (tmp_path / "train" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"2\.png: not a readable image"):
        data.image(0)
    photo(tmp_path / "train" / "2.png", size=(8, 8))
    with pytest.raises(DataError, match=r"2\.png: expected 32×24 pixels as its header said, got 8×8"):
        data.image(0)


# --- VOC


def voc_sheet(name="1.png", size=(32, 24), objects=(("cup", 5, 6, 10, 9, 0),), extra="", head="") -> str:
    items = "".join(
        f"<object><name>{c}</name><difficult>{d}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for c, x0, y0, x1, y1, d in objects
    )
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"{head}<annotation><filename>{name}</filename>{extra}{shape}{items}</annotation>"


def test_voc_counts_pixels_from_1_with_both_ends_inside(tmp_path):
    photo(tmp_path / "1.png")
    photo(tmp_path / "2.png")
    (tmp_path / "1.xml").write_text(voc_sheet(objects=[("cup", 5, 6, 10, 9, 0), ("cup", 1, 1, 32, 24, 1)]))
    (tmp_path / "2.xml").write_text(voc_sheet("2.png", None, [("ape", 3.5, 4, 7.5, 9, 0)]))
    data = load_annotated(str(tmp_path))
    assert data.classes == ("ape", "cup") and data.labels.tolist() == [1, 1, 0]
    assert data.boxes.tolist() == [[4, 5, 10, 9], [0, 0, 32, 24], [2.5, 3, 7.5, 9]]
    assert data.ignored.tolist() == [False, True, False]


def test_labelimg_writes_edges_under_vocs_names(tmp_path):
    photo(tmp_path / "1.png")
    mark = "<path>C:\\x\\1.png</path><source><database>Unknown</database></source>"
    objects = [("cup", 5, 6, 10, 9, 0), ("cup", 1, 1, 32, 24, 0)]
    (tmp_path / "1.xml").write_text(voc_sheet(objects=objects, extra=mark))
    assert load_annotated(str(tmp_path)).boxes.tolist() == [[5, 6, 10, 9], [0, 0, 32, 24]]


def test_a_corner_at_0_says_that_the_set_counts_from_0(tmp_path):
    photo(tmp_path / "1.png")
    (tmp_path / "1.xml").write_text(voc_sheet(objects=[("cup", 0, 6, 10, 9, 0), ("cup", 5, 6, 10, 9, 0)]))
    assert load_annotated(str(tmp_path)).boxes.tolist() == [[0, 6, 10, 9], [5, 6, 10, 9]]


def test_vocs_folders_and_its_own_split(tmp_path):
    for k in range(6):
        photo(tmp_path / "JPEGImages" / f"{k}.png", seed=k)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{k}.xml").write_text(voc_sheet(f"{k}.png"))
    assert len(load_annotated(str(tmp_path))) == 6
    assert sum(len(load_annotated(f"{tmp_path}#{p}")) for p in ("train", "validation", "test")) == 6
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n3 1\n5\n")
    (lists / "val.txt").write_text("1\n")
    assert load_annotated(f"{tmp_path}#train").names.tolist() == [f"JPEGImages/{k}.png" for k in (0, 3, 5)]
    assert load_annotated(f"{tmp_path}#validation").names.tolist() == ["JPEGImages/1.png"]
    with pytest.raises(DataError, match="has no part 'test'"):
        load_annotated(f"{tmp_path}#test")
    (lists / "val.txt").write_text("../../secret\n")
    with pytest.raises(DataError, match=r"within the data set, got '\.\./\.\./secret'"):
        load_annotated(f"{tmp_path}#validation")


def test_a_stale_file_name_is_replaced_by_the_sheets_own_and_never_followed(tmp_path):
    photo(tmp_path / "set" / "1.PNG")
    photo(tmp_path / "secret.png")
    for name in ("old.png", "../secret.png", str(tmp_path / "secret.png"), "C:\\x\\old.png", "1", ""):
        (tmp_path / "set" / "1.xml").write_text(voc_sheet(name))
        assert load_annotated(str(tmp_path / "set")).names.tolist() == ["1.PNG"]
    (tmp_path / "set" / "1.PNG").unlink()
    with pytest.raises(DataError, match=r"1\.xml: no image '1'; looked in"):
        load_annotated(str(tmp_path / "set"))


LAUGHS = '<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (voc_sheet(LAUGHS, head=LAUGHS), "not a readable VOC file: holds a DOCTYPE"),
        (voc_sheet(head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'), "holds a DOCTYPE"),
        ("<a>" * 9999 + "</a>" * 9999, "is nested too deeply"),
        ("<annotation>", "not a readable VOC file: no element found"),
        ('<?xml version="1.0" encoding="nothing"?><annotation/>', "not a readable VOC file"),
        ("<kml/>", "expected <annotation>, got <kml>"),
        (
            voc_sheet(objects=[("cup", 5, 6, 5, 9, 0)]).replace("5</xmax>", "4</xmax>"),
            r"object 1 \(cup\): an empty or",
        ),
        (voc_sheet(objects=[("cup", 40, 6, 50, 9, 0)]), r"object 1 \(cup\): a box .* lies outside"),
        (voc_sheet(objects=[("cup", "nan", 6, 50, 9, 0)]), r"object 1 \(cup\): a box .*: expected finite"),
        (voc_sheet(objects=[("cup", "x", 6, 50, 9, 0)]), r"object 1 \(cup\): bndbox: expected numbers"),
        (voc_sheet().replace("<ymax>9</ymax>", ""), r"object 1 \(cup\): bndbox: expected numbers"),
        (voc_sheet(objects=[("", 1, 6, 50, 9, 0)]), "object 1: has no name"),
        (voc_sheet(size=(24, 32)), r"1\.xml: says 24×32 pixels, but .*1\.png has 32×24"),
        (voc_sheet(size=("a", 32)), "size: expected whole numbers"),
        (voc_sheet(objects=[]), "1 images and not one object"),
    ],
)
def test_voc_faults_are_one_clear_line(sheet, message, tmp_path):
    photo(tmp_path / "1.png")
    (tmp_path / "1.xml").write_text(sheet)
    with pytest.raises(DataError, match=message) as caught:
        load_annotated(str(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / "1.xml").write_bytes(LAUGHS.encode("utf-16"))
    with pytest.raises(DataError, match="holds a DOCTYPE"):
        load_annotated(str(tmp_path))


# --- YOLO

BOX = "1 0.5 0.5 0.25 0.5\n"
POLYGON = "0 0.125 0.25 0.5 0.25 0.5 0.75 0.125 0.75\n"


def yolo(root: Path, lines=(POLYGON, BOX), names: str | None = "names: [cup, plate]", **folders) -> Path:
    inner = folders.get("images", "images")
    for k, text in enumerate(lines):
        photo(root / inner / f"{k}.png", seed=k)
        (root / inner.replace("images", "labels")).mkdir(parents=True, exist_ok=True)
        (root / inner.replace("images", "labels") / f"{k}.txt").write_text(text)
    if names is not None:
        (root / "data.yaml").write_text(f"train: {inner}\nval: {inner}\n{names}\n")
    return root


def test_yolo_boxes_and_polygons(tmp_path):
    yolo(tmp_path, (POLYGON, BOX + "\n" + POLYGON, ""))
    data = load_annotated(str(tmp_path), masks=True)
    assert data.classes == ("cup", "plate") and not data.unnamed and len(data) == 3
    assert data.owner.tolist() == [0, 1, 1] and data.labels.tolist() == [0, 1, 0]
    assert data.boxes.tolist() == [[4, 6, 16, 18], [12, 6, 20, 18], [4, 6, 16, 18]]
    assert data.mask(0)[6:18, 4:16].all() and data.mask(0).sum() == 144
    assert data.masks[1] == "" and "1 of 3 objects have no mask" in data.notes
    assert load_annotated(str(tmp_path / "data.yaml")).digest() == load_annotated(str(tmp_path)).digest()
    yolo(tmp_path / "boxes", (BOX,))
    with pytest.raises(DataError, match=r"has boxes but no masks .*; --task detect reads it"):
        load_annotated(str(tmp_path / "boxes"), masks=True)
    assert load_annotated(str(tmp_path / "boxes")).masks is None


def test_yolo_without_names_is_matched_by_position(tmp_path):
    data = load_annotated(str(yolo(tmp_path / "train", names=None)))
    assert data.classes == ("0", "1") and data.unnamed
    other = data.aligned(("cup", "plate", "spoon"))
    assert other.classes == ("cup", "plate", "spoon") and other.labels.tolist() == [0, 1]
    assert data.aligned(("1", "0")).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="2 classes without names, which do not fit cup"):
        data.aligned(("cup",))
    (tmp_path / "classes.txt").write_text("cup\nplate\n")
    named = load_annotated(str(tmp_path / "train"))
    assert named.classes == ("cup", "plate") and not named.unnamed
    for both in (concat_annotated(data, named), concat_annotated(named, data)):
        assert both.classes == ("cup", "plate") and not both.unnamed and both.counts().tolist() == [2, 2]
    with pytest.raises(DataError, match="class 'plate' is not among cup, spoon; the class names of"):
        named.aligned(("cup", "spoon"))
    with pytest.raises(DataError, match=r"class 'cup' is not among 0, 1; .*: name them in a data.yaml"):
        named.aligned(data.classes)


@pytest.mark.parametrize(
    "names", ["names: {1: plate, 0: cup}", "names:\n  - cup\n  - plate", "nc: 2\nnames: [cup, plate]"]
)
def test_yolo_names(names, tmp_path):
    yolo(tmp_path, names=names)
    assert load_annotated(str(tmp_path)).classes == ("cup", "plate")


def test_data_yaml_with_a_split_of_its_own(tmp_path):
    for part, seed in (("train", 0), ("valid", 10), ("test", 20)):
        for k in range(2):
            photo(tmp_path / part / "images" / f"{seed + k}.png", seed=seed + k)
            (tmp_path / part / "labels").mkdir(exist_ok=True)
            (tmp_path / part / "labels" / f"{seed + k}.txt").write_text(BOX)
    sheet = tmp_path / "data.yaml"
    sheet.write_text("train: ../train/images\nval: ../valid/images\nnames: [a, b]\n")  # as Roboflow writes it
    assert load_annotated(f"{tmp_path}#train").names.tolist() == ["train/images/0.png", "train/images/1.png"]
    data = load_annotated(f"{sheet}#validation")
    assert data.names.tolist() == ["valid/images/10.png", "valid/images/11.png"]
    assert data.name.endswith("data.yaml#validation") and len(load_annotated(str(sheet))) == 4
    with pytest.raises(DataError, match=r"its own split has no part 'test', only train, validation"):
        load_annotated(f"{sheet}#test")
    (tmp_path / "train.txt").write_text("./train/images/1.png\n")
    sheet.write_text(
        "path: /elsewhere\ntrain: train.txt\nval: valid/images\ntest: test/images\nnames: [a, b]\n"
    )
    assert load_annotated(f"{tmp_path}#train").names.tolist() == ["train/images/1.png"]
    assert load_annotated(f"{tmp_path}#test").names.tolist() == ["test/images/20.png", "test/images/21.png"]
    (tmp_path / "train.txt").write_text("../../secret.png\n")
    with pytest.raises(DataError, match=r"train\.txt:1: expected the name of a file within"):
        load_annotated(f"{tmp_path}#train")
    sheet.write_text("train: /etc\nval: valid/images\nnames: [a, b]\n")
    with pytest.raises(DataError, match="within the data set, got '/etc'"):
        load_annotated(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "expected a class and 4 numbers .*, got 4 words"),
        ("0 0.5 0.5 0.2 0.2 0.9", "expected a class and 4 numbers .*, got 6 words"),
        ("0 0.5 0.5 0.2 x", "expected numbers, got '0 0.5 0.5 0.2 x'"),
        ("0 0.5 0.5 0.2 nan", "expected fractions of the image"),
        ("0 16 12 8 8", "expected fractions of the image, 0 to 1, got 16 12 8 8"),
        ("2 0.5 0.5 0.2 0.2", "expected a class from 0 to 1, got 2"),
        ("-1 0.5 0.5 0.2 0.2", "expected a class from 0 to 1, got -1"),
        ("0.5 0.5 0.5 0.2 0.2", "expected a class from 0 to 1, got 0.5"),
        ("0 0.5 0.5 0 0.2", "an empty or inverted box"),
        ("0 0.5 0.5 -0.1 0.2", "an empty or inverted box"),
        ("0 1.4 0.5 0.2 0.2", "lies outside the image of 32×24"),
        ("0 0.5 0.5 0.5 0.6 0.5 0.9", "an empty or inverted box"),
    ],
)
def test_yolo_faults_name_file_and_line(line, message, tmp_path):
    yolo(tmp_path, (POLYGON, f"{BOX}{line}\n"))
    with pytest.raises(DataError, match=message) as caught:
        load_annotated(str(tmp_path))
    assert "labels/1.txt:2: " in str(caught.value) and "\n" not in str(caught.value)


def test_yolo_sets_that_are_not_whole(tmp_path):
    yolo(tmp_path)
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(DataError, match=r"labels/1\.txt: labels without an image \(1 such"):
        load_annotated(str(tmp_path))
    for text in (tmp_path / "labels").iterdir():
        text.unlink()
    with pytest.raises(DataError, match=r"none of its 1 images has a label file such as .*labels/0\.txt"):
        load_annotated(str(tmp_path))
    (tmp_path / "data.yaml").write_text("train: gone\nval: gone\nnames: [a]")
    with pytest.raises(DataError, match="names 'gone', but there is no"):
        load_annotated(str(tmp_path))
    for bad in ("[1, 2]", "train: images\nnames: {a: b}", "train: images\nnames: 3", "a: [", "train: [3]"):
        (tmp_path / "data.yaml").write_text(bad)
        with pytest.raises(DataError, match=r"data\.yaml"):
            load_annotated(str(tmp_path))


def test_yolo_folders_by_part_and_labels_beside_images(tmp_path):
    for part, seed in (("train", 0), ("val", 5)):
        (tmp_path / "labels" / part).mkdir(parents=True)
        for k in range(2):
            photo(tmp_path / "images" / part / f"{seed + k}.png", seed=seed + k)
            (tmp_path / "labels" / part / f"{seed + k}.txt").write_text(BOX)
    assert len(load_annotated(str(tmp_path))) == 4
    names = load_annotated(f"{tmp_path}#validation").names.tolist()
    assert names == ["images/val/5.png", "images/val/6.png"]
    flat = tmp_path / "images" / "elsewhere" / "flat"  # below a folder called images, and yet no part of it
    photo(flat / "1.png")
    (flat / "1.txt").write_text(POLYGON)
    (flat / "classes.txt").write_text("cup\n")
    data = load_annotated(str(flat))
    assert data.classes == ("cup",) and data.boxes.tolist() == [[4, 6, 16, 18]]


def test_slivers_smaller_than_a_pixel_are_ignored(tmp_path):
    yolo(tmp_path, (POLYGON + "0 0.5 0.5 0.5001 0.5 0.5 0.5001\n",))
    data = load_annotated(str(tmp_path), masks=True)
    assert data.ignored.tolist() == [False, True] and "1 objects smaller than a pixel" in data.notes


# --- files damaged at random: read or refused, never anything else


TOKENS = [
    b"null",
    b"-1",
    b"1e999",
    b"[]",
    b"{}",
    b'"',
    b"NaN",
    b"..",
    b"/",
    b"0",
    b"99999999999999999999",
    b"<a>",
]


def damaged(data: st.DataObject, text: bytes) -> bytes:
    out = bytearray(text)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(out) - 1))
        cut = data.draw(st.integers(0, 6))
        out[at : at + cut] = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(TOKENS)))
        out = out or bytearray(b" ")
    return bytes(out)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, tuple[Path, Path, bytes]]:
    """Sets of each format: what to read, the file to damage, its bytes."""
    root = tmp_path_factory.mktemp("sound")
    json_file = coco(root / "coco")
    sheet = yolo(root / "yolo", (POLYGON + BOX, BOX)) / "data.yaml"
    labels = yolo(root / "labels", (POLYGON + BOX, BOX)) / "labels" / "0.txt"
    photo(root / "voc" / "1.png")
    xml = root / "voc" / "1.xml"
    xml.write_text(voc_sheet())
    table = root / "signs" / "GT-final_test.csv"
    photo(table.parent / "0.png")
    photo(table.parent / "1.png")
    table.write_text("Filename;Width;Height;ClassId\n0.png;32;24;3\n1.png;32;24;4\n")
    places = {
        "coco": (json_file, json_file),
        "yaml": (sheet, sheet),
        "yolo": (labels.parents[1], labels),
        "voc": (xml.parent, xml),
        "table": (table, table),
    }
    return {k: (place, file, file.read_bytes()) for k, (place, file) in places.items()}


@pytest.mark.parametrize("fmt", ["coco", "yaml", "yolo", "voc", "table"])
@given(data=st.data())
def test_damaged_files_are_read_or_refused_with_one_line(fmt, sound, data):
    place, file, text = sound[fmt]
    file.write_bytes(damaged(data, text))
    try:
        if fmt == "table":
            load_for("classify", str(place))
        else:
            read = load_annotated(str(place), masks=fmt == "coco")
            assert np.all(read.boxes >= 0) and np.all(read.boxes <= read.sizes[read.owner][:, [1, 0, 1, 0]])
    except DataError as e:
        assert "\n" not in str(e) and len(str(e)) < 1000
    finally:
        file.write_bytes(text)


# --- our own, and all of them

EXPORTS = ("coco", "yolo", "yolo-seg", "voc")


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ours") / "set"
    head = header(start=3)
    for part in create(root, head):
        frames = range(part.start, part.start + part.count)
        write_part(root, head, part, draw(frames, head.size, head.channels, False, head.classes))
    commit(root, head)
    return root


def test_a_dataset_of_imgsynth(ours):
    data, whole = load_annotated(str(ours), masks=True), Dataset(ours)
    assert data.classes == whole.classes and len(data) == len(whole) and data.groups is None
    seen = 0
    for i in range(len(whole)):
        ids, rows = whole.instance_mask(i), data.objects(i)
        wanted = [r for r in whole.instances_of(i).to_pylist() if r["class_id"] and r["area_visible"]]
        assert np.array_equal(data.image(i), whole.image(i))
        assert data.boxes[rows].tolist() == [r["box_visible"] for r in wanted]
        assert data.labels[rows].tolist() == [r["class_id"] - 1 for r in wanted]
        for j, row in zip(range(rows.start, rows.stop), wanted, strict=True):
            assert np.array_equal(data.mask(j), ids == row["id"])
            seen += 1
    assert seen == len(data.owner) > 20
    copy = pickle.loads(pickle.dumps(data.images))
    assert np.array_equal(copy[2], data.images[2])


def test_a_dataset_whose_table_is_another_is_one_clear_line(ours, tmp_path):
    shutil.copytree(ours, tmp_path / "set")
    table = pq.read_table(tmp_path / "set" / "instances.parquet")
    bare = table.drop_columns(["rle_visible"])
    odd = table.set_column(0, "frame", pa.array(["x"] * len(table)))
    far = table.set_column(0, "frame", pa.array(range(999, 999 + len(table)), pa.int64()))
    for other, message in (
        (bare, "not the table"),
        (odd, "not the table"),
        (far, "owner: expected ascending"),
    ):
        pq.write_table(other, tmp_path / "set" / "instances.parquet")
        with pytest.raises(DataError, match=message) as caught:
            load_annotated(str(tmp_path / "set"), masks=True)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fmt", EXPORTS)
def test_every_export_is_read_back(fmt, ours, tmp_path):
    export(Dataset(ours), fmt, tmp_path / "out")
    with_masks = fmt in ("coco", "yolo-seg")
    data = load_annotated(str(ours), masks=with_masks)
    back = load_annotated(str(tmp_path / "out"), masks=with_masks)
    shown = [c for k, c in enumerate(data.classes) if data.counts()[k]]
    assert back.classes == (tuple(sorted(shown)) if fmt == "voc" else data.classes)
    assert [Path(n).name for n in back.names] == data.names.tolist()
    back = back.aligned(data.classes)
    assert np.array_equal(back.owner, data.owner) and np.array_equal(back.labels, data.labels)
    np.testing.assert_allclose(back.boxes, data.boxes, rtol=0, atol=0 if fmt in ("coco", "voc") else 1e-6)
    assert not back.ignored.any() and back.image_digests() == data.image_digests()
    if fmt == "coco":
        assert back.masks.tolist() == data.masks.tolist()
    if fmt == "yolo-seg":
        for j in range(len(data.owner)):
            assert np.array_equal(back.mask(j), without_holes(data.mask(j)))  # a polygon has none


def test_parts_of_one_set_share_nothing_and_keep_groups_whole(tmp_path):
    def grow(data):
        kinds = data["images"][0]
        data["images"], data["annotations"] = [], []
        for k in range(60):
            name = f"shot{k // 3}_jpg.rf.{k:032x}.jpg"
            photo(tmp_path / "train" / name, (8, 8), seed=k)
            data["images"].append(kinds | {"id": k, "file_name": name, "height": 8, "width": 8})
            box = {"id": k, "image_id": k, "category_id": (3, 7, 9)[k // 3 % 3], "bbox": [1, 1, 4, 4]}
            data["annotations"].append(box)

    path = coco(tmp_path, grow)
    whole = load_annotated(str(path))
    assert len(set(whole.groups)) == 20
    parts = [load_annotated(f"{path}#{p}") for p in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 60 and all(len(p) >= 6 for p in parts)
    assert sum(len(set(p.groups)) for p in parts) == 20
    assert all(p.counts().min() > 0 for p in parts)  # stratified


def test_what_tells_that_images_share_a_source():
    assert groups_of(["a.jpg", "b.jpg", "IMG_1.jpg"]) is None
    made = groups_of(["x_jpg.rf.0a1.jpg", "y_jpg.rf.0a2.jpg", "x_jpg.rf.0a3.jpg", "z.jpg"])
    assert made.tolist() == ["x_jpg", "y_jpg", "x_jpg", "z"]
    assert groups_of(["t/00001_00000.ppm", "t/00001_00001.ppm"]).tolist() == ["t/00001"] * 2
    # 3 s apart one burst, also over the minute; 4 s apart not.
    times = ["111657", "111700", "111703", "111707", "235959"]
    names = [f"IMG_20230907_{t}_jpg.jpg" for t in times]
    first = "IMG_20230907_111657_jpg"
    wanted = [first] * 3 + ["IMG_20230907_111707_jpg", "IMG_20230907_235959_jpg"]
    assert groups_of(names).tolist() == wanted
    assert groups_of([n for n in names if "11165" in n or "2359" in n]) is None
    assert groups_of(["20230230_256199.jpg", "12345678_123456.jpg"]) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "no such file or folder"),
        ("a.npz", "a class an image and no boxes; --task classify reads it"),
        ("sklearn:digits", "--task classify reads it"),
        ("plain.txt", r"expected a COCO file \(\.json\), a YOLO data\.yaml or a folder, got a \.txt file"),
        ("empty", "no boxes found: expected dataset.json"),
        ("set", r"no boxes found: .*; name one of its parts: .*set/train"),
    ],
)
def test_what_is_no_detection_data_is_said(name, message, tmp_path):
    (tmp_path / "plain.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    yolo(tmp_path / "set" / "train", names=None)
    with pytest.raises(DataError, match=message):
        load_annotated(name if ":" in name else str(tmp_path / name))


def test_one_place_reads_data_for_a_task(tmp_path, ours):
    assert load_for("segment", str(ours)).masks is not None and load_for("detect", str(ours)).masks is None
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8), np.uint8), labels=[0, 1, 1])
    assert load_for("classify", str(tmp_path / "a.npz")).classes == ("0", "1")
    with pytest.raises(DataError, match="expected the task classify, detect, segment, got 'guess'"):
        load_for("guess", str(ours))
    voc = tmp_path / "voc"
    photo(voc / "1.png")
    (voc / "1.xml").write_text(voc_sheet())
    for place, said in (
        (coco(tmp_path / "coco").parent, "COCO"),
        (yolo(tmp_path / "yolo"), "YOLO"),
        (voc, "VOC"),
    ):
        with pytest.raises(
            DataError, match=f"looks like {said}: boxes.*not for --task classify; --task detect"
        ):
            load_for("classify", str(place))
    with pytest.raises(DataError, match="a VOC set has boxes but no masks; --task detect reads it"):
        load_for("segment", str(voc))


# --- a rendered set, through every format and back


@pytest.fixture(scope="module")
def dice(tmp_path_factory) -> Path:
    sets = ["image.size=[72,96]", "renderer.samples=1"]
    return render("dice", 5, tmp_path_factory.mktemp("dice") / "set", seed=3, workers=1, sets=sets)


@pytest.mark.parametrize("fmt", EXPORTS)
def test_rendered_dice_come_back_from_every_format(fmt, dice, tmp_path):
    export(Dataset(dice), fmt, tmp_path / "out")
    with_masks = fmt in ("coco", "yolo-seg")
    truth = load_annotated(str(dice), masks=True)
    back = load_annotated(str(tmp_path / "out"), masks=with_masks).aligned(truth.classes)
    assert len(truth.owner) >= 10 and len(np.unique(truth.labels)) >= 3
    assert np.array_equal(back.owner, truth.owner) and np.array_equal(back.labels, truth.labels)
    assert np.abs(back.boxes - truth.boxes).max() <= (1e-6 if fmt.startswith("yolo") else 0)
    assert shared_images(truth, back) == [(i, i) for i in range(5)]
    for j in range(len(truth.owner)):
        ys, xs = np.nonzero(truth.mask(j))
        assert truth.boxes[j].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        if with_masks:
            assert np.array_equal(
                back.mask(j), truth.mask(j) if fmt == "coco" else without_holes(truth.mask(j))
            )
