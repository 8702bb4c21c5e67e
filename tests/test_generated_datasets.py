"""Generated images as datasets: verified, resumable, filtered by drawing again, with their lineage."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from closed_forms_diffusion import Mixture

from imgsynth import formats
from imgsynth.dataset import Dataset, sources
from imgsynth.dataset.annotated_sources import load_annotated
from imgsynth.dataset.verify import verify
from imgsynth.diffusion import write
from imgsynth.diffusion.joint import Cleanup, MaskCoding
from imgsynth.diffusion.mechanism import Condition, Joint, attended, inherited
from imgsynth.diffusion.sample import Sampling, sample
from imgsynth.diffusion.verdict import Verdict
from imgsynth.diffusion.write import Asked, Origin, generate
from imgsynth.errors import DataError, ImgsynthError, ModelError

MODEL = Mixture((-0.5, 0.5), (0.2, 0.2), size=(8, 8))
ORIGIN = Origin("mixture", "ab" * 32, "fp32", record={"data": "gaussians"})
QUICK = Sampling(steps=3, schedule="karras", low=0.02)


def made(tmp_path, n=20, name="set", model=MODEL, **more):
    return Dataset(generate(model, ORIGIN, n, tmp_path / name, settings=QUICK, **more))


def files(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def sound(dataset):
    report = verify(dataset.root)
    assert report.ok, report
    return dataset


class Bright:
    """Drops what is dark, for one of two reasons; and says how bright it was."""

    reasons = ("dim", "dark")
    remembers = False

    def __init__(self, dim=0.0, dark=-0.5):
        self.dim, self.dark, self.calls = dim, dark, 0

    def __call__(self, samples, beside=None):
        self.calls += 1
        mean = samples.images.mean(axis=(1, 2, 3)) / 127.5 - 1
        mean = mean - np.where(samples.labels == 0, -0.5, 0.5)
        reason = np.where(mean < self.dark, "dark", np.where(mean < self.dim, "dim", "")).astype(object)
        return Verdict(reason, {"brightness": mean}, confidence=np.full(len(mean), 0.75))

    def accept(self, images, labels):
        pass

    def describe(self):
        return {"dim": self.dim, "dark": self.dark}


class Novel:
    """Drops what is as bright as a frame before it, to a level of grey."""

    reasons = ("repeated",)
    remembers = True

    def __init__(self):
        self.seen = set()

    def level(self, images):
        return np.rint(images.mean(axis=(1, 2, 3)) * 4).astype(int).tolist()

    def __call__(self, samples, beside=None):
        seen, reason = self.seen | set(self.level(beside) if beside is not None else []), []
        for level in self.level(samples.images):
            reason.append("repeated" if level in seen else "")
            seen.add(level)
        return Verdict(np.array(reason, object))

    def accept(self, images, labels):
        self.seen |= set(self.level(images))

    def describe(self):
        return {}


def test_a_dataset_of_class_conditional_samples_is_an_ordinary_one(tmp_path):
    dataset = sound(made(tmp_path, 21, start=5))
    header = dataset.header
    assert list(header.indices) == list(range(5, 26)) and header.classes == ("low", "high")
    assert header.generation == 1 and header.renderer == "diffusion"
    assert header.parents == ({"kind": "model", "name": "mixture", "sha256": "ab" * 32, "data": "gaussians"},)
    assert header.spec["diffusion"]["sampling"]["solver"] == QUICK.solver
    assert dataset.labels().tolist() == [i % 2 for i in range(5, 26)]
    rows = dataset.instances
    assert set(rows.column("grounding").to_pylist()) == {"condition"}
    assert rows.column("confidence").null_count == 21  # nobody measured it
    assert rows.column("box_visible").to_pylist()[0] == [0, 0, 8, 8]
    wanted = sample(MODEL, dataset.labels(), seed=0, indices=np.arange(5, 26), settings=QUICK)
    np.testing.assert_array_equal(dataset.images(), wanted.images)
    assert dataset.frames.column("class").to_pylist()[:2] == ["high", "low"]


def test_it_can_be_learnt_from_exported_and_not_taken_for_boxes(tmp_path):
    dataset = made(tmp_path)
    data = sources.load(str(dataset.root))
    assert len(data) == 20 and data.classes == ("low", "high")
    formats.export(dataset, "imagefolder", tmp_path / "folder")
    assert len(list((tmp_path / "folder/low").iterdir())) == 10
    formats.export(dataset, "coco", tmp_path / "coco")
    with pytest.raises(DataError, match="whole images"):
        load_annotated(str(dataset.root))
    for fmt in ("kitti", "bop"):
        with pytest.raises(DataError, match="no camera"):
            formats.export(dataset, fmt, tmp_path / fmt)


def test_frames_depend_on_no_other_frame(tmp_path):
    keep = Bright()
    whole = made(tmp_path, 60, keep=keep)
    part = made(tmp_path, 13, "part", start=31, keep=keep)
    np.testing.assert_array_equal(part.images(), whole.images()[31:44])
    for column in ("sha256_image", "dropped_dim", "dropped_dark", "score_brightness"):
        assert part.frames.column(column).to_pylist() == whole.frames.column(column).to_pylist()[31:44]


def test_stopped_and_resumed_it_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_FRAMES_PER_PART", 32)
    keep = Bright()
    whole = made(tmp_path, 100, keep=keep)
    real = write.writer.write_part
    written = []

    def dying(root, header, part, batch):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(part.number)
        real(root, header, part, batch)

    monkeypatch.setattr(write.writer, "write_part", dying)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, 100, "cut", keep=keep)
    monkeypatch.setattr(write.writer, "write_part", real)
    with pytest.raises(ImgsynthError, match="--resume"):
        made(tmp_path, 100, "cut", keep=keep)
    with pytest.raises(ImgsynthError, match="cannot resume"):
        made(tmp_path, 100, "cut", keep=Bright(dim=0.1), resume=True)
    seen = []
    cut = made(tmp_path, 100, "cut", keep=keep, resume=True, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(64, 100), (96, 100), (100, 100)]
    assert files(cut.root) == files(whole.root)
    sound(cut)


def test_dropped_draws_are_drawn_again_and_counted(tmp_path):
    """By hand: each draw of each frame alone, until the filter keeps one."""
    keep = Bright(dim=0.001, dark=-0.003)
    dataset = sound(made(tmp_path, 24, keep=keep, seed=9))
    lost = {"dim": [], "dark": []}
    for index in range(24):
        told = []
        for attempt in range(64):
            label = np.array([index % 2])
            one = sample(
                MODEL, label, seed=9, indices=np.array([index]), attempts=np.array([attempt]), settings=QUICK
            )  # fmt: skip
            verdict = keep(one)
            if verdict.reason[0] == "":
                break
            told.append(verdict.reason[0])
        np.testing.assert_array_equal(dataset.image(index), one.images[0])
        assert dataset.frames.column("score_brightness")[index].as_py() == verdict.scores["brightness"][0]
        for reason, counts in lost.items():
            counts.append(told.count(reason))
    for reason, counts in lost.items():
        assert dataset.frames.column(f"dropped_{reason}").to_pylist() == counts and sum(counts) > 0
    drawn = 24 + sum(lost["dim"]) + sum(lost["dark"])
    assert dataset.manifest.filters == {"drawn": drawn, "dark": sum(lost["dark"]), "dim": sum(lost["dim"])}
    assert dataset.header.spec["diffusion"]["filters"] == {"dim": 0.001, "dark": -0.003}
    assert set(dataset.instances.column("confidence").to_pylist()) == {0.75}


def test_a_filter_may_remember_and_is_reminded_on_resuming(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_FRAMES_PER_PART", 32)
    wide = replace(MODEL, spreads=(0.9, 0.9), size=(6, 6))
    whole = sound(made(tmp_path, 70, model=wide, keep=Novel()))
    levels = Novel().level(whole.images())
    assert len(set(levels)) == 70 and whole.manifest.filters["repeated"] > 0
    root = tmp_path / "cut"
    real, written = write.writer.write_part, []

    def dying(*args):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(real(*args))

    monkeypatch.setattr(write.writer, "write_part", dying)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, 70, "cut", model=wide, keep=Novel())
    monkeypatch.setattr(write.writer, "write_part", real)
    made(tmp_path, 70, "cut", model=wide, keep=Novel(), resume=True)
    assert files(root) == files(whole.root)


def test_a_filter_that_drops_all_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"frame 0 \(low\): 64 draws in a row were dropped \(64 dark\)"):
        made(tmp_path, 4, keep=Bright(dim=9, dark=5))


def test_classes_can_be_chosen_and_counted(tmp_path):
    model = replace(MODEL, means=(-0.5, 0.0, 0.5), spreads=(0.1,) * 3, classes=("a", "b", "c"))
    chosen = made(tmp_path, 6, "chosen", model, asked=Asked((2, 0)))
    assert chosen.labels().tolist() == [2, 0, 2, 0, 2, 0] and chosen.classes == ("a", "b", "c")
    counted = made(tmp_path, 5, "counted", model, start=100, asked=Asked((1, 2), (4, 1)))
    assert counted.labels().tolist() == [1, 1, 1, 1, 2]


def test_a_judge_gives_conditions_their_confidence(tmp_path):
    judge = lambda images: np.tile([0.25, 0.9], (len(images), 1))  # noqa: E731
    dataset = sound(made(tmp_path, 4, mechanism=Condition(judge)))
    assert dataset.instances.column("confidence").to_pylist() == [0.25, 0.9, 0.25, 0.9]


class Drawing(Mixture):
    """Two grey squares and their bits: class 1 with id 1, class 2 with id 2."""

    def denoise(self, x, sigma, labels, layout=None):
        x = x * 0 - 1
        x[:, :, 1:4, 1:5] = x[:, :, 5:8, 3:7] = 0
        for plane, (first, second) in enumerate([(0.9, -0.7), (-0.8, 0.9), (1.0, -1.0), (-1.0, 1.0)], 1):
            x[:, plane, 1:4, 1:5], x[:, plane, 5:8, 3:7] = first, second
        return x


JOINED = Drawing(size=(10, 10), planes=5, classes=("die", "coin"), rest=(0.0, 0.3))


def test_joint_samples_have_masks_boxes_and_confidence(tmp_path):
    mechanism = Joint(MaskCoding(2, 2), Cleanup(), calibrate=lambda c: c**2, calibration={"kind": "square"})
    dataset = sound(made(tmp_path, 5, model=JOINED, mechanism=mechanism, asked=Asked((2,))))
    rows = dataset.instances_of(3).to_pylist()
    assert [r["class"] for r in rows] == ["die", "coin"] and {r["grounding"] for r in rows} == {
        "joint-sampled"
    }
    assert rows[0]["box_visible"] == [1, 1, 5, 4] and rows[1]["box_visible"] == [3, 5, 7, 8]
    assert rows[0]["confidence"] == pytest.approx((0.95 * 0.9) ** 2, rel=1e-5)
    assert (dataset.semantic_mask(0)[1:4, 1:5] == 1).all() and (dataset.semantic_mask(0)[5:8, 3:7] == 2).all()
    data = load_annotated(str(dataset.root), masks=True)
    assert len(data.owner) == 10 and data.mask(0).sum() == 12
    assert dataset.header.labels["mask"]["grounding"] == "joint-sampled"
    with pytest.raises(DataError, match="samples no mask"):
        made(tmp_path, 2, "no", mechanism=mechanism)


@pytest.mark.parametrize("what", ["generation", "parents", "filters", "confidence", "score", "image"])
def test_tampering_is_found(tmp_path, what):
    import pyarrow.parquet as pq

    root = made(tmp_path, 6, keep=Bright()).root
    manifest = json.loads((root / "dataset.json").read_text())
    if what in ("generation", "parents", "filters"):
        manifest[what] = {"generation": 0, "parents": [], "filters": {"drawn": 6}}[what]
        (root / "dataset.json").write_text(json.dumps(manifest))
    elif what == "image":
        shutil.copyfile(root / "images/000001.png", root / "images/000000.png")
    else:
        name, column = {"confidence": ("instances", "confidence"), "score": ("frames", "score_brightness")}[
            what
        ]
        table = pq.read_table(root / f"{name}.parquet")
        place = table.column_names.index(column)
        pq.write_table(
            table.set_column(place, table.field(place), [[1.0] * len(table)]), root / f"{name}.parquet"
        )
    assert not verify(root).ok


def test_confidence_may_be_unknown_only_where_labels_are_not_exact(tmp_path, monkeypatch):
    from imgsynth.dataset import tables

    dataset = made(tmp_path, 4)
    report = verify(dataset.root)
    assert report.ok
    monkeypatch.setattr("imgsynth.dataset.selfcheck.GROUNDING", "condition")
    assert any("confidence is not in 0..1" in p for p in verify(dataset.root).problems)
    assert tables.GROUNDING == "render-exact"


def test_manifests_without_news_are_as_they_were():
    from imgsynth.dataset.manifest import Header, Manifest

    header = Header(
        name="x",
        spec={},
        spec_digest="",
        seed=0,
        start=0,
        count=1,
        part_size=1,
        size=(2, 2),
        channels=1,
        classes=(),
    )
    assert not {"parents", "labels", "keypoints"} & set(header.to_json())
    text = Manifest.of(header, 0, {}, []).dumps()
    assert "filters" not in text and "parents" not in text and Manifest.loads(text).digest() in text


def test_attended_masks_meet_and_ignore():
    masks = np.zeros((1, 3, 4, 4), bool)
    masks[0, 0, :3], masks[0, 1, 2:], masks[0, 2] = True, True, True
    ignore = np.zeros((1, 4, 4), bool)
    ignore[0, :, 3] = True
    found = attended(
        masks, np.array([[True, True, False]]), np.array([5, 6, 7]), np.array([[0.6, 0.8, 0.99]]), ignore
    )
    assert found.class_id.tolist() == [5, 6, 0] and found.id.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(
        found.instance[0, :, 0], [1, 1, 2, 2]
    )  # the surer word has the row they share
    assert (found.instance[0, :, 3] == 3).all() and np.isnan(found.confidence[2])
    assert found.taken(np.array([0])).class_id.tolist() == [5, 6, 0]


def test_inherited_labels_are_the_renders_own():
    instance = np.array([[[0, 1], [2, 2]]], np.int32)
    rows = (np.array([0, 0], np.int32), np.array([1, 2], np.int32), np.array([4, 4], np.int32))
    found = inherited(instance, *rows, np.array([0.5, 2.0]), calibrate=lambda c: c * 0.8)
    assert found.grounding == "inherited" and found.confidence.tolist() == [0.4, 1.0]
    with pytest.raises(DataError, match="sorted"):
        inherited(instance, rows[0], rows[1][::-1], rows[2], np.ones(2))


def _draw_many(root, n, resume=False):
    generate(MODEL, ORIGIN, n, root, settings=Sampling(steps=2), keep=Bright(), resume=resume)


def _peak_mib(root, n):
    """Peak memory of a process that draws n frames."""
    import resource

    _draw_many(root, n)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
def test_ten_thousand_samples_in_bounded_memory_killed_and_resumed(tmp_path):
    """SIGKILL in the middle, then --resume: the same bytes as a run that was left alone."""
    n, context = 10_000, multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        some = pool.submit(_peak_mib, tmp_path / "some", 600).result()
    with ProcessPoolExecutor(1, context) as pool:
        many = pool.submit(_peak_mib, tmp_path / "whole", n).result()
    print(f"peak memory: {some:.0f} MiB for 600 frames, {many:.0f} MiB for {n}")
    assert many - some < 60  # rows of tables while they are merged; the images alone would not be more
    killed = context.Process(target=_draw_many, args=(tmp_path / "cut", n))
    killed.start()
    parts = tmp_path / "cut" / "parts"
    while killed.is_alive() and len(list(parts.glob("0*.json")) if parts.exists() else []) < 17:
        killed.join(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not (tmp_path / "cut" / "dataset.json").exists()
    _draw_many(tmp_path / "cut", n, resume=True)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    sound(Dataset(tmp_path / "cut"))
