"""The pages of whole studies: every part there, well formed, asking nothing of the network; gates."""

from __future__ import annotations

import base64
import copy
import io
import re

import numpy as np
import pytest
import test_study_detect as shapes
from PIL import Image
from study_for_tests import CentroidLearner, blobs, run, save, write
from test_report import Page

from imgsynth.dataset.annotated import AnnotatedImages, Detections
from imgsynth.errors import DataError
from imgsynth.report.drawing import MISSED, RIGHT, WIDTH, WRONG, Mark, labelled, marked
from imgsynth.report.study import refuse_unfounded, render_report
from imgsynth.report.words import count, number, verdict
from imgsynth.study.pictures import _compare, _overlaps


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of classes with everything that a study may have: (results, page)."""
    folder = tmp_path_factory.mktemp("whole")
    for name, n, seed, shift in (
        ("train", 90, 1, 0.0),
        ("validation", 60, 2, 0.0),
        ("test", 240, 3, 0.0),
        ("near", 300, 4, 1.0),
        ("far", 120, 5, 4.0),
    ):
        save(blobs(n, seed, shift=shift), folder / f"{name}.npz")
    write(
        folder,
        synthetic={"near": {"data": "near.npz", "labels": "drawn by the tests"}, "far": {"data": "far.npz"}},
        arms=["real", "synthetic", "both", "finetune", "mix"],
        mix={"shares": {"near": 2, "far": 1}},
        both={"real_share": [0.3, 0.7]},
        nets=["a", "b", "c"],
        seeds=2,
        bootstrap=100,
        scaling={"sizes": [6, 18, 48, 200]},
        real_sizes=[9, 30, 60],
        surface={"sizes": [20, 60, 200]},
    )
    results = run(folder, learner={name: CentroidLearner(steps=k + 1) for k, name in enumerate("abc")})
    return results, (folder / "out/report.html").read_text()


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A study of masks: (results, page)."""
    folder = tmp_path_factory.mktemp("boxes")
    for name, n, seed, shift in (
        ("train", 12, 1, 0),
        ("validation", 4, 2, 0),
        ("test", 14, 3, 0),
        ("synthetic", 16, 4, 60),
    ):
        shapes.write_coco(folder / name, n, seed, shift, masks=True)
    shapes.write(folder, task="segment", arms=["real", "synthetic"], bootstrap=100)
    results = shapes.run(folder, learner=shapes.LevelLearner(masks=True))
    return results, (folder / "out/report.html").read_text()


@pytest.mark.parametrize("study", ["whole", "boxes"])
def test_pages_are_whole_and_ask_nothing_of_the_network(study, request):
    _, text = request.getfixturevalue(study)
    page = Page(text)
    assert not page.open
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            if name in ("src", "href", "srcset"):
                assert value.startswith("data:image/")
        if tag == "img":
            assert len(attributes["alt"]) > 10
            kind, _, data = attributes["src"].partition(";base64,")
            raw = base64.b64decode(data, validate=True)
            assert raw.startswith(b"<svg") if "svg" in kind else Image.open(io.BytesIO(raw)).size[0] > 0
    assert "https://" not in text and "http://" not in text
    assert "None" not in page.words and "nan" not in re.findall(r"[a-z]+", page.words)


def test_every_part_of_a_study_is_on_its_page(whole):
    results, text = whole
    page = Page(text)
    ids = {a.get("id") for t, a in page.elements if t == "section"}
    assert ids >= {"arms", "worth", "images", "scaling", "surface", "classes", "nets", "mistakes", "run"}
    assert results["verdict"]["sentence"] in page.words
    assert "drawn by the tests" in page.words and "the study does not say what they rest on" in page.words
    assert "chosen among 2 shares on the validation images" in page.words
    assert "finetune spends 50.0 % of them on synthetic images" in page.words
    assert "foretold as" in page.words and "Benjamini–Hochberg" in page.words
    assert "stand in the same order as trained on real images: synthetic" in page.words
    for arm in results["arms"]:
        assert f"{arm} − real" in page.words or arm == "real"


def test_boxes_and_masks_are_drawn(boxes):
    _, text = boxes
    page = Page(text)
    pictures = [a for t, a in page.elements if t == "img" and a["src"].startswith("data:image/jpeg")]
    assert len(pictures) >= 6 + 6
    assert "Green: found." in page.words and "missed" in page.words
    assert "mask AP50" in page.words


def test_reports_that_claim_more_than_they_know_are_refused(whole):
    results = whole[0]
    for spoil, message in (
        (lambda r: r["what"]["images"].pop("real test"), "no real test set"),
        (lambda r: r["arms"]["both"]["accuracy"].update(ci95=None), "the arm both has no interval"),
        (
            lambda r: r["what"]["grounding"].pop("synthetic near"),
            "grounds the labels of the synthetic near images",
        ),
        (lambda r: r["what"].pop("grounding"), "grounds the labels"),
    ):
        bad = copy.deepcopy(results)
        spoil(bad)
        with pytest.raises(DataError, match=message):
            refuse_unfounded(bad)
        with pytest.raises(DataError, match=message):
            render_report(bad)


def test_words_of_worth_and_of_what_was_not_learned(whole):
    results = copy.deepcopy(whole[0])
    entry = results["worth"]["synthetic"]
    entry["effective"]["words"] = "about 100 real images (80 to 130)"
    entry["effective"]["censored"], entry["exchange"]["value"] = "", 4.2
    assert any(
        s
        == "Alone, 420 synthetic images are worth about 100 real images (80 to 130): 4.2 of them stand for one "
        "real image."
        for s in verdict(results)
    )
    results["verdict"] = {"sentence": "Undecided: nothing was learned.", "rule": 0, "mixed": None}
    assert len(verdict(results)) == 2
    assert [number(v) for v in (None, 4.25, 1234)] == ["–", "4.2", "1,200"]
    assert [count(v) for v in (None, -0.4, 1234.4)] == ["∞", "0", "1,234"]


def pictured():
    image = np.full((60, 120, 3), 90, np.uint8)

    class Images(list):
        pass

    return AnnotatedImages(
        images=Images([image]),
        sizes=np.array([[60, 120]]),
        owner=np.array([0, 0, 0]),
        boxes=np.array([[4.0, 4, 24, 24], [40, 10, 60, 30], [80, 30, 110, 55]]),
        labels=np.array([0, 1, 0]),
        masks=None,
        ignored=np.array([False, False, True]),
        classes=("disc", "square"),
        groups=None,
        names=np.array(["a"]),
        name="pictured",
    )


def test_marks_stand_where_the_boxes_are():
    out = marked(np.zeros((60, 120, 3), np.uint8), [Mark([30, 15, 90, 45], "", RIGHT)])
    assert out.shape == (WIDTH // 2, WIDTH, 3)
    ys, xs = np.nonzero((out == RIGHT).all(axis=2))
    scale = WIDTH / 120
    assert (xs.min(), xs.max()) == (30 * scale, 90 * scale - 1)
    assert (ys.min(), ys.max()) == (15 * scale, 45 * scale - 1)
    drawn = labelled(pictured(), 0)
    assert (drawn != 90).any() and drawn[-20:, -60:].std() == 0  # what is ignored is not drawn


def test_what_was_found_missed_and_wrong():
    test = pictured()
    found = Detections(
        images=1,
        owner=np.array([0, 0, 0, 0, 0]),
        boxes=np.array(
            [[5.0, 5, 25, 25], [41, 10, 60, 30], [82, 31, 110, 55], [5, 4, 24, 23], [0, 40, 9, 50]]
        ),
        labels=np.array([0, 0, 0, 0, 1]),
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.1]),
        masks=None,
        classes=("disc", "square"),
    )
    kept, right, missed = _compare(test, found, 0)
    # The first is right; the second is of another class; the third lies on what is ignored; the fourth finds
    # again what was found; the last is not confident.
    assert kept.tolist() == [0, 1, 3] and right.tolist() == [True, False, False] and missed == [1]
    assert _overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]]))[0, 0] == pytest.approx(1 / 3)
    assert len({RIGHT, WRONG, MISSED}) == 3
