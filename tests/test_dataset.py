"""Datasets on disk: bytes that depend on nothing but their frames, resuming, a full disk, reading back."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import CLASSES, batch_of, draw, header
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imgsynth.dataset import Dataset, Header, commit, create, rle, tables, write_part
from imgsynth.dataset.manifest import Manifest, part_hash
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.frame import AmodalMasks


def build(root: Path, head: Header | None = None) -> Dataset:
    head = head or header()
    for part in create(root, head):
        write_part(root, head, part, batch_of(head, part.start, part.count))
    commit(root, head)
    return Dataset(root)


def tree(root: Path) -> dict[str, str]:
    files = (p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return build(tmp_path_factory.mktemp("shared") / "set")


# --- bytes


@pytest.mark.parametrize("part_size", [1, 3, 4, 12, 100])
def test_bytes_do_not_depend_on_the_parts(dataset, tmp_path, part_size):
    other = tree(build(tmp_path / "x", header(part_size=part_size)).root)
    mine = tree(dataset.root)
    assert other.keys() == mine.keys()
    assert {k for k in mine if mine[k] != other[k]} == {"dataset.json"}
    a, b = (json.loads((r / "dataset.json").read_text()) for r in (dataset.root, tmp_path / "x"))
    assert {k for k in a if a[k] != b[k]} == {"part_size", "parts", "sha256"}


def test_row_groups_are_cut_at_fixed_rows_whatever_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FRAME_ROWS", 5)
    monkeypatch.setattr(tables, "INSTANCE_ROWS", 4)
    one, other = (build(tmp_path / str(p), header(count=13, part_size=p)) for p in (13, 3))
    frames = pq.ParquetFile(one.root / "frames.parquet").metadata
    assert [frames.row_group(k).num_rows for k in range(frames.num_row_groups)] == [5, 5, 3]
    for name in ("frames.parquet", "instances.parquet"):
        assert (one.root / name).read_bytes() == (other.root / name).read_bytes()
    assert len(other.instances) > 8


def test_bytes_do_not_depend_on_order_or_process(dataset, tmp_path):
    head, root = header(), tmp_path / "x"
    todo = create(root, head)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        jobs = [(root, head, p, batch_of(head, p.start, p.count)) for p in reversed(todo)]
        pool.starmap(write_part, jobs)
    commit(root, head)
    assert tree(root) == tree(dataset.root)


def test_a_frame_alone_has_the_same_files_rows_and_annotations(dataset, tmp_path):
    few = build(tmp_path / "x", header(start=5, count=3))
    whole = tree(dataset.root)
    names = {k: v for k, v in tree(few.root).items() if "/" in k}
    assert len(names) == 3 * 4
    assert all(whole[k] == v for k, v in names.items())
    assert few.frames.equals(dataset.frames.slice(5, 3))
    assert few.instances_of(1).equals(dataset.instances_of(6))
    mine, all_of = (json.loads((d.root / "annotations.json").read_text()) for d in (few, dataset))
    assert mine["annotations"] == [a for a in all_of["annotations"] if 5 <= a["image_id"] < 8]
    assert few[0].index == 5
    np.testing.assert_array_equal(few.image(0), dataset.image(5))


def test_a_leaf_that_only_some_parts_have_is_null_elsewhere(dataset, tmp_path):
    head, root = header(), tmp_path / "x"
    for part in create(root, head):
        batch = batch_of(head, part.start, part.count)
        if part.number == 0:
            batch = replace(batch, values={k: v for k, v in batch.values.items() if k != "light.color"})
        write_part(root, head, part, batch)
    commit(root, head)
    assert Dataset(root).frames.schema.equals(dataset.frames.schema)
    light = Dataset(root).frames.column("light.color")
    assert light.slice(0, 5).null_count == 5
    assert light.slice(5).equals(dataset.frames.column("light.color").slice(5))


# --- resuming and refusing


@pytest.mark.parametrize(
    "stop", ["between parts", "inside a part", "a torn record", "an empty image", "in commit"]
)
def test_resume_ends_in_the_same_bytes(dataset, tmp_path, monkeypatch, stop):
    head, root = header(), tmp_path / "x"
    todo = create(root, head)
    for part in todo[:2]:
        write_part(root, head, part, batch_of(head, part.start, part.count))
    left = [todo[2]]
    if stop == "inside a part":
        with monkeypatch.context() as m:
            m.setattr(tables, "write_fragment", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                write_part(root, head, todo[2], batch_of(head, 10, 2))
        assert (root / "images/000010.png").exists()
    elif stop == "a torn record":
        record = root / "parts" / "00001.json"
        record.write_bytes(record.read_bytes()[:100])
        left = todo[1:]
    elif stop == "an empty image":
        (root / "images/000000.png").write_bytes(b"")
        left = [todo[0], todo[2]]
    elif stop == "in commit":
        write_part(root, head, todo[2], batch_of(head, 10, 2))
        with monkeypatch.context() as m:
            m.setattr(Manifest, "of", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                commit(root, head)
        left = []
    with pytest.raises(DataError, match=r"unfinished dataset, \d of 3 parts done"):
        Dataset(root)
    with pytest.raises(ImgsynthError, match="--resume"):
        create(root, head)
    assert create(root, head, resume=True) == left
    for part in left:
        write_part(root, head, part, batch_of(head, part.start, part.count))
    commit(root, head)
    assert tree(root) == tree(dataset.root)
    assert create(root, head, resume=True) == []


def test_resume_with_another_header_says_what_differs(tmp_path):
    create(tmp_path / "x", header())
    for change, said in [
        ({"seed": 8}, "seed 7, now 8"),
        ({"spec": {"a": 2}, "spec_digest": "e" * 64}, "spec_digest"),
        ({"size": (32, 24)}, r"size \[24, 32\], now \[32, 24\]"),
        ({"versions": {"imgsynth": "9"}}, "versions"),
    ]:
        with pytest.raises(ImgsynthError, match=said):
            create(tmp_path / "x", header(**change), resume=True)


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    (tmp_path / "images").mkdir()
    for resume in (False, True):
        with pytest.raises(ImgsynthError, match=r"not empty.*thesis\.txt"):
            create(tmp_path, header(), resume)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "thesis.txt"]
    with pytest.raises(ImgsynthError, match="expected a folder"):
        create(tmp_path / "thesis.txt", header())
    mine = tmp_path / "images" / "holiday.png"
    mine.write_bytes(b"sea")
    (tmp_path / "thesis.txt").unlink()
    with pytest.raises(ImgsynthError, match="not empty"):
        create(tmp_path, header())
    assert mine.read_bytes() == b"sea"


def test_a_finished_dataset_is_not_written_over(dataset):
    before = tree(dataset.root)
    with pytest.raises(ImgsynthError, match="finished dataset"):
        create(dataset.root, header())
    with pytest.raises(ImgsynthError, match="seed 7, now 1"):
        create(dataset.root, header(seed=1), resume=True)
    assert create(dataset.root, header(), resume=True) == []
    assert tree(dataset.root) == before


def test_commit_needs_every_part(tmp_path):
    head = header()
    part = create(tmp_path / "x", head)[1]
    write_part(tmp_path / "x", head, part, batch_of(head, 5, 5))
    with pytest.raises(ImgsynthError, match="2 of 3 parts are missing, the first begins with frame 0"):
        commit(tmp_path / "x", head)
    assert not (tmp_path / "x" / "dataset.json").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    "name", ["images/000007.png", "00001.instances", "frames.parquet", "annotations.json"]
)
def test_a_full_disk_is_one_line_and_no_dataset(dataset, tmp_path, monkeypatch, name, code):
    head, root = header(), tmp_path / "x"

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, what):
            return getattr(self.file, what)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(code, os.strerror(code))

    def opened(path, mode="r", *args, **kw):
        file = open(path, mode, *args, **kw)  # noqa: SIM115 - the caller closes it
        return Full(file) if str(path).endswith(name) and "w" in mode else file

    def run():
        for part in create(root, head, resume=root.exists()):
            write_part(root, head, part, batch_of(head, part.start, part.count))
        commit(root, head)

    with monkeypatch.context() as m:
        for module in ("writer", "disk", "tables"):
            m.setattr(f"imgsynth.dataset.{module}.open", opened, raising=False)
        m.setattr(Path, "open", lambda p, *a, **k: opened(p, *a, **k))
        with pytest.raises(ImgsynthError, match=rf"{root}.*the disk is full") as caught:
            run()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="unfinished"):
        Dataset(root)
    run()
    assert tree(root) == tree(dataset.root)


def test_a_wrong_batch_is_refused(tmp_path):
    head = header()
    part = create(tmp_path / "x", head)[0]
    good = batch_of(head, 0, 5)
    box = good.instances.box_amodal.copy()
    box[0, 0] = np.nan
    stray = good.buffers.instance.copy()
    stray[0, 0, 0] = 77
    for batch, said in [
        (batch_of(head, 1, 5), "expected frames 0..4"),
        (draw(range(5), (24, 31)), "expected uint8 images"),
        (replace(good, classes=("a",)), "expected classes"),
        (replace(good, instances=replace(good.instances, box_amodal=box)), "box_amodal is not finite"),
        (replace(good, buffers=replace(good.buffers, instance=stray)), "instance 77 .* has no row"),
        (replace(good, values={"index": np.zeros(5)}), "may not be called 'index'"),
    ]:
        with pytest.raises(DataError, match=said):
            write_part(tmp_path / "x", head, part, batch)
    assert create(tmp_path / "x", head, resume=True)[0] == part


# --- the manifest


def test_manifest_round_trip_and_part_hash(dataset):
    text = (dataset.root / "dataset.json").read_text()
    told = Manifest.loads(text)
    assert told.dumps() == text
    assert told.header == header()
    assert Header.from_json(json.loads(json.dumps(header().to_json()))) == header()
    files = {k: v for k, v in tree(dataset.root).items() if "/" in k and int(k[-10:-4]) >= 10}
    assert len(files) == 8
    lines = "".join(f"{files[k]}  {k}\n" for k in sorted(files))
    assert told.parts[2].sha256 == hashlib.sha256(lines.encode()).hexdigest() == part_hash(files)
    assert not any(
        str(dataset.root) in p.read_text("latin-1") for p in dataset.root.rglob("*.*") if p.is_file()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "coco"}, 'expected "format": "imgsynth-dataset"'),
        ({"format_version": 2}, "format version 2"),
        ({"size": [24]}, "size"),
        ({"size": [24, 10**9]}, "size: expected"),
        ({"count": 0}, "count"),
        ({"colour": 1}, "colour"),
        ({"classes": ["a", "a"]}, "stands twice"),
        ({"outputs": ["depth", "heat"]}, "outputs"),
    ],
)
def test_a_wrong_manifest_is_refused_by_field(dataset, tmp_path, change, said):
    data = json.loads((dataset.root / "dataset.json").read_text()) | change
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=said):
        Dataset(tmp_path)


def test_what_is_no_dataset_is_said_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no such dataset folder"):
        Dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not an imgsynth dataset"):
        Dataset(tmp_path)
    for text in ("", "[1]", "{", "[" * 100_000):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(DataError, match=r"dataset\.json: "):
            Dataset(tmp_path)


# --- reading back


def test_round_trip(dataset):
    batch = batch_of(header())
    assert len(dataset) == len(list(dataset)) == 12
    np.testing.assert_array_equal(dataset.images(), batch.images)
    for i, sample in enumerate(dataset):
        assert sample.index == i
        np.testing.assert_array_equal(sample.image, batch.images[i])
        np.testing.assert_array_equal(sample.instance_mask, batch.buffers.instance[i])
        np.testing.assert_array_equal(dataset.semantic_mask(i), batch.semantic[i])
        np.testing.assert_array_equal(dataset.depth(i), batch.buffers.depth[i])
        normal = dataset.normal(i)
        np.testing.assert_allclose(normal, batch.buffers.normal[i], atol=2e-5)
        assert (normal[batch.buffers.instance[i] == 0] == 0).all()
        rows = np.flatnonzero(batch.instances.frame == i)
        amodal = [batch.buffers.amodal.mask(k, (24, 32)) for k in rows]
        np.testing.assert_array_equal(dataset.amodal_masks(i), np.reshape(amodal, (-1, 24, 32)))


def test_tables_hold_every_value(dataset):
    batch, frames = batch_of(header()), dataset.frames
    leaves = [f.name for f in frames.schema if tables.is_leaf(f)]
    assert leaves == [
        "camera.turn", "flip", "light.color", "objects.plate.count",
        "objects.plate[2].hue", "objects.plate[10].hue", "paper",
    ]  # fmt: skip
    for name in leaves:
        on = batch.active.get(name, np.ones(12, bool))
        for got, want, active in zip(frames.column(name).to_pylist(), batch.values[name], on, strict=True):
            assert got == (np.ravel(want).tolist() if np.ndim(want) else want) if active else got is None
    assert frames.schema.field("light.color").type == pa.list_(pa.float32(), 3)
    assert frames.schema.field("camera.turn").metadata[b"shape"] == b"3,3"
    poses = np.array(frames.column("world_from_camera").to_pylist()).reshape(-1, 4, 4)
    np.testing.assert_array_equal(poses, batch.cameras.world_from_camera)
    rows = dataset.instances
    for name in (
        "id",
        "class_id",
        "area_visible",
        "visible_fraction",
        "box_amodal",
        "camera_from_object",
        "path",
    ):
        want = getattr(batch.instances, name)
        np.testing.assert_array_equal(np.array(rows.column(name).to_pylist()).reshape(want.shape), want)
    assert set(rows.column("grounding").to_pylist()) == {"render-exact"}
    assert (rows.column("area_visible").to_numpy() == 0).any()
    assert (rows.column("class_id").to_numpy() == 0).any()


def test_labels_need_a_visible_instance(tmp_path):
    with pytest.raises(DataError, match=r"of 12 frames show no labelled instance, the first is frame \d"):
        build(tmp_path / "a").labels()
    head = header(count=9, start=40, channels=1, size=(8, 8), outputs=())
    for part in create(tmp_path / "b", head):
        write_part(
            tmp_path / "b", head, part, draw(range(part.start, part.start + part.count), (8, 8), 1, lone=True)
        )
    commit(tmp_path / "b", head)
    lone = Dataset(tmp_path / "b")
    assert lone.labels().tolist() == [int(c) - 1 for c in lone.instances.column("class_id").to_pylist()]
    assert lone.image(0).shape == (8, 8, 1)
    assert not (tmp_path / "b" / "depth").exists()
    with pytest.raises(DataError, match="has no depth files"):
        lone.depth(0)
    with pytest.raises(IndexError):
        lone.image(9)


@pytest.mark.parametrize("classes", [(2, 2, 2), (1, 2, 2)])
def test_labels_are_of_frames_with_one_class(classes, tmp_path):
    head = header(count=1, start=1, size=(8, 8), channels=1, outputs=())
    batch = draw([1], (8, 8), 1)
    ids = np.zeros((1, 8, 8), np.int32)
    ids[0, :2], ids[0, 2:5], ids[0, 5:] = 1, 2, 3
    rows = {
        name: np.resize(getattr(batch.instances, name), (3, *getattr(batch.instances, name).shape[1:]))
        for name in batch.instances.__dataclass_fields__
        if getattr(batch.instances, name) is not None
    }
    rows |= {"frame": np.zeros(3, np.int32), "id": np.arange(1, 4, dtype=np.int32)}
    rows |= {"class_id": np.array(classes, np.int32), "area_visible": np.array([16, 24, 24])}
    masks = AmodalMasks(np.zeros((3, 4), np.int32), np.zeros(4, np.int64), np.zeros(0, np.uint8))
    batch = replace(
        batch,
        instances=type(batch.instances)(**rows),
        buffers=replace(batch.buffers, instance=ids, amodal=masks),
    )
    write_part(tmp_path / "x", head, create(tmp_path / "x", head)[0], batch)
    commit(tmp_path / "x", head)
    if len(set(classes)) == 1:
        assert Dataset(tmp_path / "x").labels().tolist() == [1]
    else:
        with pytest.raises(DataError, match=r"1 of 1 frames show instances of several classes, .* frame 1"):
            Dataset(tmp_path / "x").labels()


@pytest.mark.parametrize("kind", ["image", "mask", "depth", "normal"])
def test_a_file_that_is_not_what_it_says_is_refused_before_it_is_decoded(dataset, tmp_path, kind):
    copy = Dataset(shutil.copytree(dataset.root, tmp_path / "x"))
    read = {"image": copy.image, "mask": copy.instance_mask, "depth": copy.depth, "normal": copy.normal}[kind]
    path = copy.path(kind, 3)
    good = path.read_bytes()
    huge = good[:16] + (10**6).to_bytes(4, "big") * 2 + good[24:]
    other = copy.path("normal" if kind == "image" else "image", 3).read_bytes()
    for data in (b"", good[:40], huge if kind != "depth" else good[:-30], other, b"PK\x03\x04" + bytes(100)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=path.name):
            read(3)
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        read(3)


# --- COCO


def test_coco_evaluates_to_one_against_itself(dataset, capsys):
    truth = COCO(str(dataset.root / "annotations.json"))
    found = [
        {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 1.0}
        for a in truth.dataset["annotations"]
    ]
    assert len(found) > 10
    for kind in ("bbox", "segm"):
        run = COCOeval(truth, truth.loadRes([dict(f) for f in found]), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
        assert run.stats[0] == 1.0
    assert [c["name"] for c in truth.loadCats(truth.getCatIds())] == list(CLASSES)


def test_coco_says_what_the_masks_show(dataset):
    truth = COCO(str(dataset.root / "annotations.json"))
    seen = set()
    for note in truth.dataset["annotations"]:
        mask = dataset.instance_mask(note["image_id"]) == note["instance_id"]
        np.testing.assert_array_equal(coco_mask.decode(note["segmentation"]) == 1, mask)
        assert note["bbox"] == coco_mask.toBbox(note["segmentation"]).tolist()
        ys, xs = np.nonzero(mask)
        assert note["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert note["area"] == mask.sum() > 0
        assert note["iscrowd"] == 0
        amodal = coco_mask.decode(note["amodal_segmentation"]) == 1
        assert (amodal | ~mask).all()
        assert note["visible_fraction"] == mask.sum() / amodal.sum()
        seen.add((note["image_id"], note["instance_id"]))
    rows = dataset.instances.to_pylist()
    assert seen == {(r["frame"], r["id"]) for r in rows if r["class_id"] and r["area_visible"]}
    assert len(seen) < len(rows)
    for image in truth.dataset["images"]:
        assert (dataset.root / image["file_name"]).is_file()
        assert (image["height"], image["width"]) == (24, 32)


# --- RLE


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.int32,
        st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
        elements=st.integers(0, 3),
    ),
    st.integers(1, 60),
)
def test_rle_of_instance_images_is_what_pycocotools_writes(image, chunk):
    n = len(image)
    frame, ids = np.repeat(np.arange(n), 3).astype(np.int32), np.tile(np.arange(1, 4), n).astype(np.int32)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(rle, "_CHUNK_PIXELS", chunk)
        texts = rle.encode_instances(image, frame, ids).tolist()
    for text, f, i in zip(texts, frame, ids, strict=True):
        mask = image[f] == i
        assert text == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        np.testing.assert_array_equal(rle.decode(text, mask.shape), mask)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 7), st.integers(1, 70), st.integers(1, 60))
def test_rle_of_windows_is_what_pycocotools_writes(data, height, width, chunk):
    windows, parts = [], []
    for _ in range(data.draw(st.integers(0, 4))):
        x0, x1 = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
        y0, y1 = data.draw(st.sampled_from([(0, height), (height // 2, height), (0, height // 2)]))
        windows.append((x0, y0, x1, y1))
        parts.append(data.draw(hnp.arrays(np.uint8, (y1 - y0) * (x1 - x0), elements=st.integers(0, 1))))
    start = np.cumsum([0, *map(len, parts)])
    masks = AmodalMasks(
        np.array(windows, np.int32).reshape(-1, 4), start, np.concatenate([np.zeros(0, np.uint8), *parts])
    )
    with pytest.MonkeyPatch.context() as m:
        m.setattr(rle, "_CHUNK_PIXELS", chunk)
        texts = rle.encode_amodal(masks, (height, width)).tolist()
    assert len(texts) == len(windows)
    for k, text in enumerate(texts):
        mask = masks.mask(k, (height, width))
        assert text == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        np.testing.assert_array_equal(rle.decode(text, (height, width)), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_decoding_any_text_gives_a_mask_or_an_error(text):
    try:
        mask = rle.decode(text, (5, 6))
    except DataError:
        return
    assert mask.shape == (5, 6)
    assert rle.decode_counts(text).sum() == 30


@pytest.mark.parametrize("text", ["", "oooooooooo", "0P", "o0", "e", "ooooooooooooo0", "N1O2", "é"])
def test_malformed_rle_is_refused(text):
    with pytest.raises(DataError):
        rle.decode(text, (5, 6))
