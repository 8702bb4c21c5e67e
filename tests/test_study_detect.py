"""A study of detection: pictures read when asked for, stand-in learners, boxes and masks, drawn mistakes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from imgsynth.dataset import rle
from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.errors import SceneError
from imgsynth.study import run_study
from imgsynth.study.detect import Detect

CLASSES = ("disc", "square")
SIDE = 48


def scene_of(rng, shift):
    """One picture with up to three bright objects, and their boxes and classes."""
    image = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    boxes, labels = [], []
    for corner in rng.permutation([(2, 2), (26, 2), (2, 26), (26, 26)])[: rng.integers(1, 4)]:
        x, y = corner + rng.integers(0, 4, 2)
        side, label = int(rng.integers(10, 16)), int(rng.integers(0, 2))
        level = (110 if label == 0 else 200) + shift + rng.normal(0, 18)
        image[y : y + side, x : x + side] = np.clip(level, 70, 255)
        boxes.append([x, y, x + side, y + side])
        labels.append(label)
    return image, boxes, labels


def write_coco(folder, n, seed, shift=0.0, masks=False):
    """A folder with a COCO file and its pictures."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(n):
        image, boxes, labels = scene_of(rng, shift)
        name = f"{folder.name}_{i:03d}.png"
        Image.fromarray(image).save(folder / "images" / name)
        images.append({"id": i + 1, "file_name": f"images/{name}", "width": SIDE, "height": SIDE})
        for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": label + 1,
                    "bbox": [int(x0), int(y0), int(x1 - x0), int(y1 - y0)],
                    "area": int((x1 - x0) * (y1 - y0)),
                    "iscrowd": 0,
                    **(
                        {"segmentation": [[int(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]]}
                        if masks
                        else {}
                    ),
                }
            )
    categories = [{"id": k + 1, "name": c} for k, c in enumerate(CLASSES)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(coco))


def run_lengths(mask):
    """COCO's text of a mask: column by column, starting with background."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int)])))
    return rle.encode_counts(np.diff(np.concatenate([[0], edges, [flat.size]])))


class Levels:
    """A model that is nothing but the brightness of each class."""

    def __init__(self, levels, masks):
        self.levels, self.masks = levels, masks

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "levels.npz", levels=self.levels, masks=self.masks)


@dataclass(frozen=True)
class LevelLearner:
    """Finds bright squares by connected pixels, tells them apart by the class brightness it saw."""

    masks: bool = False
    steps: int = 12
    threads: int = 1
    few: int = 12  # images looked at

    def describe(self):
        return {"kind": "levels", "steps": self.steps, "masks": self.masks, "few": self.few}

    def phase(self, steps, changes):
        return replace(self, steps=steps, **changes)

    def train(self, data: AnnotatedImages, seed, weights, progress, checkpoint, start):
        rng = np.random.default_rng(seed)
        p = None if weights is None else weights / weights.sum()
        seen = {0: [], 1: []}
        for i in rng.choice(len(data), min(self.few, len(data)), p=p):
            image = data.image(int(i))
            for j in range(data.objects(int(i)).start, data.objects(int(i)).stop):
                x0, y0, x1, y1 = data.boxes[j].astype(int)
                seen[int(data.labels[j])].append(image[y0:y1, x0:x1].mean())
        levels = np.array([np.mean(v) if v else 150.0 for v in seen.values()])
        if start is not None:
            levels = (levels * 3 + self.load(start).levels) / 4
        progress(self.steps, self.steps, 0.0)
        return Levels(levels, self.masks)

    def load(self, path: Path):
        with np.load(path / "levels.npz") as held:
            return Levels(held["levels"], bool(held["masks"]))

    def predict(self, model, images):
        from scipy import ndimage

        owner, boxes, labels, scores, masks = [], [], [], [], []
        for i in range(len(images)):
            parts, _ = ndimage.label(images[i][..., 0] > 65)
            for k, (ys, xs) in enumerate(ndimage.find_objects(parts)):
                if (ys.stop - ys.start) < 6:
                    continue
                level = images[i][ys, xs].mean()
                away = np.abs(model.levels - level)
                owner.append(i)
                boxes.append([xs.start, ys.start, xs.stop, ys.stop])
                labels.append(int(away.argmin()))
                scores.append(float(1 / (1 + np.exp((away.min() - away.max()) / 20))))
                masks.append(run_lengths(parts == k + 1))
        texts = np.empty(len(masks), object)
        texts[:] = masks
        return Detections(
            images=len(images),
            owner=np.array(owner, np.int64),
            boxes=np.array(boxes, float).reshape(-1, 4),
            labels=np.array(labels, np.int64),
            scores=np.array(scores),
            masks=texts if model.masks else None,
            classes=CLASSES,
        )


@pytest.fixture
def folder(tmp_path):
    for name, n, seed, shift in (
        ("train", 24, 1, 0),
        ("validation", 8, 2, 0),
        ("test", 30, 3, 0),
        ("synthetic", 40, 4, 25),
    ):
        write_coco(tmp_path / name, n, seed, shift, masks=True)
    return tmp_path


def write(folder, **changes):
    study = {
        "name": "shapes",
        "task": "detect",
        "synthetic": {"data": "synthetic"},
        "real": {part: part for part in ("train", "validation", "test")},
        "seeds": 2,
        "bootstrap": 200,
        **changes,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def run(folder, out="out", learner=None, **options):
    options.setdefault("workers", 1)
    return run_study(
        folder / "study.yaml", folder / out, learner=learner or LevelLearner(), quiet=True, **options
    )


def test_a_study_of_boxes_has_the_contract_of_one_of_classes(folder):
    write(folder, arms=["real", "synthetic", "both", "finetune"], real_sizes=[4, 8, 16])
    results = run(folder)
    assert results["headline"] == "AP50"
    for arm in results["arms"].values():
        low, high = arm["AP50"]["ci95"]
        assert 0 <= low <= arm["AP50"]["mean"] <= high <= 1 and arm["AP50"]["n"] == 30
        assert arm["AP"]["mean"] <= arm["AP50"]["mean"] + 1e-9
        assert arm["worst_class"]["mean"] == pytest.approx(min(c["AP50"] for c in arm["per_class"]), abs=0.2)
        assert [c["class"] for c in arm["per_class"]] == list(CLASSES)
    assert results["arms"]["real"]["AP50"]["mean"] > 0.5
    # The synthetic objects are brighter: planted, and seen in the gap.
    assert results["paired"]["synthetic_minus_real"]["mean"] < -0.05
    assert results["transfer"]["synthetic"]["gap"]["mean"] > 0.05
    assert results["worth"]["synthetic"]["n_real"] == 0
    assert {row["class"] for row in results["class_delta"]["synthetic"]} == set(CLASSES)
    assert results["arms"]["finetune"]["images"] == {"real": 24, "synthetic": 40}
    assert results["verdict"]["action"]
    page = (folder / "out/report.html").read_text()
    assert "AP50" in page


def test_masks_are_scored_and_kept(folder):
    write(folder, task="segment", arms=["real", "synthetic"])
    results = run(folder, learner=LevelLearner(masks=True))
    assert results["headline"] == "mask_AP50"
    assert results["arms"]["real"]["mask_AP50"]["mean"] > 0.5
    assert results["arms"]["real"]["mIoU"]["mean"] > 0.3


def test_predictions_survive_being_packed():
    rng = np.random.default_rng(0)
    texts = np.array(["ab", "", "cde"], object)
    found = Detections(
        4, np.array([0, 2, 2]), rng.random((3, 4)), np.array([1, 0, 1]), rng.random(3), texts, CLASSES
    )
    task = Detect(masks=True)
    again = task.unpack(task.pack(found))
    for name in ("owner", "boxes", "labels", "scores", "masks"):
        assert np.array_equal(getattr(again, name), getattr(found, name)), name
    assert again.classes == CLASSES and again.images == 4
    assert all(a.dtype.kind != "O" for a in task.pack(found).values())


def test_figures_do_not_depend_on_workers_and_resume(folder):
    write(folder, arms=["real", "synthetic", "finetune"])
    run(folder, "one", workers=1)
    for name in list((folder / "one/cells").glob("*.json"))[::2]:
        name.unlink()
    (folder / "one/results.json").rename(folder / "first.json")
    run(folder, "one", workers=2)
    assert (folder / "one/results.json").read_bytes() == (folder / "first.json").read_bytes()


def test_a_photograph_in_train_and_test_is_refused_by_content(folder):
    import shutil

    shutil.copy(folder / "test/images/test_003.png", folder / "train/images/train_005.png")
    write(folder)
    with pytest.raises(SceneError, match=r"study\.yaml:\d+: real\.test: leak: 1 of 24 images of train"):
        run(folder)


def test_boxes_alone_do_not_make_a_study_of_masks(folder):
    write_coco(folder / "train", 24, 1)
    write(folder, task="segment")
    with pytest.raises(SceneError, match=r"study\.yaml:\d+: real\.train: .*mask"):
        run(folder)
