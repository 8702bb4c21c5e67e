"""Whatever is changed in a dataset, `verify` finds it and says where."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import batch_of, header

from imgsynth.dataset import Dataset, codec, commit, create, write_part
from imgsynth.dataset.verify import verify
from imgsynth.errors import DataError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    root, head = tmp_path_factory.mktemp("shared") / "set", header()
    for part in create(root, head):
        write_part(root, head, part, batch_of(head, part.start, part.count))
    commit(root, head)
    return root


@pytest.fixture
def root(pristine, tmp_path) -> Path:
    return shutil.copytree(pristine, tmp_path / "set")


def seal(root: Path) -> None:
    """Make every hash right again, so that only the labels can tell."""
    told = json.loads((root / "dataset.json").read_text())

    def digest(name: str) -> str:
        return hashlib.sha256((root / name).read_bytes()).hexdigest()

    frames = pq.read_table(root / "frames.parquet")
    kinds = {"image": "images/{:06d}.png", "mask": "masks/{:06d}.png", "depth": "depth/{:06d}.npz"}
    kinds["normal"] = "normals/{:06d}.png"
    for kind, name in kinds.items():
        at = frames.schema.get_field_index(f"sha256_{kind}")
        hashes = [bytes.fromhex(digest(name.format(i))) for i in range(told["count"])]
        frames = frames.set_column(at, frames.schema.field(at), pa.array(hashes, pa.binary(32)))
    pq.write_table(frames, root / "frames.parquet")
    for part in told["parts"]:
        span = range(part["start"], part["start"] + part["count"])
        names = sorted(name.format(i) for name in kinds.values() for i in span)
        part["sha256"] = hashlib.sha256("".join(f"{digest(n)}  {n}\n" for n in names).encode()).hexdigest()
    told["files"] = {name: digest(name) for name in told["files"]}
    told.pop("sha256")
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    told["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (root / "dataset.json").write_text(json.dumps(told))


def change_rows(root: Path, column: str, change, row: int | None = None) -> int:
    """Change one cell of instances.parquet, by default of a half-hidden, labelled instance; gives its row."""
    table = pq.read_table(root / "instances.parquet")
    cells = table.to_pydict()
    if row is None:
        seen = zip(cells["class_id"], cells["visible_fraction"], strict=True)
        row = next(k for k, (c, v) in enumerate(seen) if c and 0 < v < 1)
    cells[column][row] = change(cells[column][row])
    pq.write_table(pa.table(cells, schema=table.schema), root / "instances.parquet")
    seal(root)
    return row


def change_notes(root: Path, change) -> None:
    data = json.loads((root / "annotations.json").read_text())
    change(data)
    (root / "annotations.json").write_text(json.dumps(data))
    seal(root)


def test_a_good_dataset_is_good(pristine):
    report = verify(pristine)
    assert report.ok, str(report)
    rows = Dataset(pristine).instances.to_pylist()
    notes = sum(r["class_id"] > 0 and r["area_visible"] > 0 for r in rows)
    assert report.checked == {"files": 51, "frames": 12, "instances": len(rows), "annotations": notes}
    assert str(report).startswith("ok: 51 files")


def test_resealing_alone_changes_nothing(root):
    seal(root)
    assert verify(root).ok


@pytest.mark.parametrize(
    "name",
    ["images/000003.png", "masks/000004.png", "depth/000011.npz", "normals/000000.png",
     "frames.parquet", "instances.parquet", "annotations.json"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["one bit", "cut", "missing", "empty"])
def test_a_damaged_file_is_named(root, name, how):
    path = root / name
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "one bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2 if how == "cut" else 0])
    report = verify(root)
    assert not report.ok
    assert any(name in problem for problem in report.problems), str(report)
    others = {f"{k:06d}" for k in range(12)} - {Path(name).stem}
    if "/" in name:
        assert not any(other in problem for other in others for problem in report.problems), str(report)


def test_a_changed_manifest_is_found(root):
    path = root / "dataset.json"
    told = json.loads(path.read_text())
    for change in (
        *({"seed": 8}, {"spec": {}}, {"spec_digest": "x"}, {"name": "x"}, {"licences": {}}, {"sha256": ""}),
        *(
            {"count": 11},
            {"start": 1},
            {"classes": ["disc", "plate", "x"]},
            {"size": [24, 31]},
            {"parts": []},
        ),
        *({"channels": 1}, {"outputs": ["depth"]}, {"instances": 3}, {"files": {}}, {"part_size": 6}),
    ):
        path.write_text(json.dumps(told | change))
        assert "dataset.json: was changed" in str(verify(root)), change
    for change in ({"format": "x"}, {"unknown": 1}, {"count": "x"}):
        path.write_text(json.dumps(told | change))
        assert "dataset.json: " in str(verify(root)), change


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"count": 11},
            {"start": 1},
            {"classes": ["disc", "plate", "x"]},
            {"size": [24, 31]},
            {"parts": []},
        ),
        *({"channels": 1}, {"outputs": ["depth"]}, {"instances": 3}, {"part_size": 6}, {"seed": 3}),
    ],
)
def test_a_manifest_that_does_not_fit_its_frames_is_found(root, change):
    """Under a seal that is right."""
    told = json.loads((root / "dataset.json").read_text()) | change
    told.pop("sha256")
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    told["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (root / "dataset.json").write_text(json.dumps(told))
    report = verify(root)
    assert not report.ok
    assert "was changed" not in str(report)


@pytest.mark.parametrize("name", ["images/000012.png", "notes.txt", "extra/deep/file", "parts/00000.json"])
def test_an_extra_file_is_named(root, name):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"x")
    report = verify(root)
    assert report.problems == [f"{name}: does not belong to the dataset"]


def test_a_link_is_not_a_file(root):
    path = root / "images/000003.png"
    path.rename(root.parent / "elsewhere.png")
    path.symlink_to(root.parent / "elsewhere.png")
    assert verify(root).problems == ["images/000003.png: a symbolic link, expected a file"]


def test_swapped_frames_are_found(root):
    a, b = root / "images/000003.png", root / "images/000004.png"
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)
    assert len(verify(root).problems) == 2


def test_what_is_unfinished_or_absent_is_refused(tmp_path):
    head = header()
    part = create(tmp_path / "x", head)[0]
    write_part(tmp_path / "x", head, part, batch_of(head, 0, 5))
    report = verify(tmp_path / "x")
    assert not report.ok
    assert "unfinished dataset, 1 of 3 parts done" in str(report)
    with pytest.raises(DataError, match="no such dataset folder"):
        verify(tmp_path / "nowhere")
    assert not verify(tmp_path).ok


# --- labels that lie, under hashes that are right


def test_a_changed_mask_is_found_through_its_labels(root):
    mask = Dataset(root).instance_mask(4)
    ident = int(mask.max())
    y, x = np.argwhere(mask == ident)[0]
    mask[y, x] = 0
    (root / "masks/000004.png").write_bytes(codec.encode_mask(mask.astype(np.uint16)))
    seal(root)
    report = verify(root)
    assert any("area_visible" in p for p in report.problems)
    assert all(p.startswith(f"frame 4, instance {ident}") for p in report.problems)
    mask[0, 0] = 999
    (root / "masks/000004.png").write_bytes(codec.encode_mask(mask.astype(np.uint16)))
    seal(root)
    assert "its mask shows instance 999, which has no row" in str(verify(root))


def test_a_mask_of_8_bits_or_another_size_is_found(root):
    for pixels in (np.zeros((24, 32), np.uint8), np.zeros((24, 31), np.uint16)):
        cv2.imwrite(str(root / "masks/000002.png"), pixels)
        seal(root)
        assert "masks/000002.png: expected a 32×24 16-bit grey PNG" in str(verify(root))


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("box_visible", lambda b: [b[0] + 1, *b[1:]], "box_visible is"),
        ("box_amodal", lambda b: [b[2] + 1, *b[1:]], "inside out"),
        ("box_amodal", lambda b: [float("nan"), *b[1:]], "inside out"),
        ("area_visible", lambda a: a + 1, "area_visible is"),
        ("area_amodal", lambda a: a + 1, "area_amodal is"),
        ("visible_fraction", lambda v: v + 0.01, "visible_fraction is not area_visible / area_amodal"),
        ("visible_fraction", lambda v: float("nan"), "visible_fraction is not in 0..1"),
        ("truncated_fraction", lambda v: -0.1, "truncated_fraction is not in 0..1"),
        ("confidence", lambda v: 1.5, "confidence is not in 0..1"),
        ("class_id", lambda c: 9, "class_id is of no class"),
        ("class", lambda c: "disk", "class is not the name of class_id"),
        ("rle_visible", lambda t: "PP`0", "RLE"),
        ("rle_visible", lambda t: "", "empty RLE"),
        ("rle_visible", lambda t: None, "instance"),
        ("rle_amodal", lambda t: "Ph0", "visible pixels are not in the amodal mask"),
        ("id", lambda i: 900, "not sorted by frame and id"),
        ("frame", lambda f: 90, "instances.parquet"),
    ],
)
def test_a_wrong_row_is_found(root, column, change, said):
    row = change_rows(root, column, change)
    report = verify(root)
    assert said in str(report), str(report)
    if column not in ("id", "frame"):
        cells = pq.read_table(root / "instances.parquet").slice(row, 1).to_pylist()[0]
        assert f"frame {cells['frame']}, instance {cells['id']} ({cells['path']})" in str(report)


def test_visible_rle_of_another_instance_is_found(root):
    text = pq.read_table(root / "instances.parquet").column("rle_visible")[0].as_py()
    change_rows(root, "rle_visible", lambda _: text)
    assert "rle_visible is not its mask" in str(verify(root))


def _set(key, value):
    return lambda data: data["annotations"][2].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("iscrowd", 1), "iscrowd is 1, expected 0"),
        (_set("bbox", [0, 0, 1, 1]), "bbox is [0, 0, 1, 1]"),
        (_set("area", 1.5), "area is 1.5"),
        (_set("category_id", 77), "category_id is 77"),
        (_set("image_id", 0), "image_id is 0"),
        (_set("segmentation", [[0, 0, 1, 0, 1, 1]]), "segmentation is"),
        (_set("amodal_bbox", None), "amodal_bbox is None"),
        (_set("visible_fraction", 2), "visible_fraction is 2"),
        (_set("id", 5), "annotation 5 is of no visible"),
        (lambda d: d["annotations"].pop(), "has no annotation"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "stands twice"),
        (lambda d: d["annotations"].append({"id": -1}), "annotation -1 is of no visible"),
        (lambda d: d["categories"].pop(), "categories are not the classes"),
        (lambda d: d["images"].reverse(), "images are not those"),
        (lambda d: d["images"][0].__setitem__("file_name", "../x.png"), "images are not those"),
        (lambda d: d.pop("images"), "annotations.json: not COCO"),
        (lambda d: d.__setitem__("annotations", 5), "annotations.json: not COCO"),
        (lambda d: d["annotations"].__setitem__(0, []), "annotations.json: not COCO"),
    ],
)
def test_a_wrong_annotation_is_found(root, change, said):
    change_notes(root, change)
    assert said in str(verify(root)), str(verify(root))


def test_many_problems_are_counted_and_the_first_twenty_told(root):
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    for path in (root / "depth").iterdir():
        path.unlink()
    report = verify(root)
    assert len(report.problems) == 20
    assert report.count == 12 * 3
    assert str(report).splitlines()[20] == "… and 16 more"
