"""The report: one page that asks nothing of the network and says what the numbers say."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.report import Mistake, Pictures, write_report
from imgsynth.report.figures import strip
from imgsynth.report.study import confused_pairs, interval, number, percent, points, render_report, verdict

SETS = ("synthetic", "real train", "real validation", "real test")
FACTORS = (("error", 1.0), ("low", 0.9), ("high", 1.1))
CLASSES = ["0", "1", "<b>two</b>"]


def score(mean, low, high, seeds=3):
    return {"mean": mean, "ci95": [low, high], "seeds": seeds, "n": 830, "per_seed": [mean] * seeds}


def arm(mean):
    entry = {
        name: score(mean, mean - 0.011, mean + 0.009)
        for name in ("accuracy", "balanced_accuracy", "worst_class", "ece")
    }
    entry["per_class"] = [
        {"class": c, "n": 100, "accuracy": mean, "ci95": [mean - 0.05, mean + 0.04]} for c in CLASSES[:2]
    ] + [{"class": CLASSES[2], "n": 0, "accuracy": None, "ci95": None}]
    entry["confusion"] = [[90, 10, 0], [3, 97, 0], [0, 0, 0]]
    return entry


@pytest.fixture
def results():
    n = np.geomspace(50, 50_000, 31)
    law = 3.1 * n**-0.62 + 0.041
    return {
        "arms": {"real": arm(0.9653), "synthetic": arm(0.9512), "both": arm(0.9777)},
        "paired": {
            "both_minus_real": {"mean": 0.0124, "ci95": [0.0041, 0.0203]},
            "synthetic_minus_real": {"mean": -0.0141, "ci95": [-0.0233, -0.0052]},
            "both_minus_synthetic": {"mean": 0.0265, "ci95": [0.02, 0.033]},
            "synthetic_over_real": {"mean": 0.9854, "ci95": [0.976, 0.994]},
        },
        "scaling": {
            "arm": "synthetic",
            "sizes": [50, 160, 500, 1600, 5000],
            "error": [0.312, 0.174, 0.107, 0.0731, 0.0566],
            "ci95": [[0.25, 0.36], [0.15, 0.2], [0.09, 0.12], [0.06, 0.08], [0.05, 0.06]],
            "errors_per_seed": [[0.3, 0.32], [0.17, 0.18], [0.1, 0.11], [0.073, 0.074], [0.056, 0.057]],
            "fit": {
                "alpha": 0.62, "C": 0.041, "D": 3.1, "identified": True, "reason": "α is determined",
                "ci95": {"alpha": [0.51, 0.74], "C": [0.033, 0.048], "D": [2.2, 4.4]},
                "residual_sd": 0.004, "noise": "proportional", "fixed_D": False,
            },
            "band": {name: (factor * law).tolist() for name, factor in FACTORS} | {"n": n.tolist()},
            "advice": {
                "action": "change the synthesis", "n": 5000, "factor": 10,
                "error_now": 0.0566, "error_then": 0.0448,
                "gain": 0.0118, "gain_ci95": [0.008, 0.015], "floor": 0.72,
            },
        },
        "what": {
            "study": {"name": "digits <script>", "description": "", "seeds": 3, "scaling": None},
            "study_digest": "ab" * 32,
            "classes": CLASSES,
            "image_size": [8, 8],
            "channels": 1,
            "images": {"synthetic": 5000, "real train": 829, "real validation": 138, "real test": 830},
            "sources": dict.fromkeys(SETS, "somewhere"),
            "digests": dict.fromkeys(SETS, "cd" * 32),
            "grounding": dict.fromkeys(SETS, "as they are"),
            "test_groups": 6,
            "learner": {"steps": 600, "net": "compact"},
            "steps": 600,
            "seeds": [0, 1, 2],
            "trainings": 21,
            "test_looks": 1,
            "versions": {"imgsynth": "0.1.0", "torch": "2.9"},
            "notes": ["somewhere: 16×16 grey brought to 8×8 grey"],
            "commands": ["imgsynth study digits.yaml -o digits"],
        },
    }  # fmt: skip


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    data = LabelledImages(images, np.arange(40) % 2, tuple(CLASSES), None, "x")
    return Pictures(data, data, [Mistake(images[0], "0", "<b>two</b>", 2, 3)])


class Page(HTMLParser):
    """What a browser would see: text, elements, and everything that could make a request."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.open, self.inside = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        (self.inside if self.open and self.open[-1] in ("script", "style") else self.text).append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def test_page_is_well_formed_and_asks_nothing_of_the_network(results, pictures):
    text = render_report(results, pictures)
    page = Page(text)
    assert not page.open
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "audio", "video")
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert value.startswith("data:image/"), f"{tag} {name}={value[:60]}"
    style = "".join(page.inside)
    assert "url(" not in style and "@import" not in style
    assert "https://" not in text and "http://" not in text
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_embedded_pictures_decode_and_have_alternative_text(results, pictures):
    page = Page(render_report(results, pictures))
    images = [a for t, a in page.elements if t == "img"]
    assert len(images) == 3 + 2 * 2 + 1  # figures, strips of the two classes with images, one mistake
    for attributes in images:
        assert len(attributes["alt"]) > 10
        kind, _, data = attributes["src"].partition(";base64,")
        raw = base64.b64decode(data, validate=True)
        if kind == "data:image/png":
            assert Image.open(io.BytesIO(raw)).size[1] == 8
        else:
            svg = raw.decode()
            assert svg.startswith("<svg") and "<metadata>" not in svg and "<script" not in svg
            assert not re.search(r'href="(?!#)', svg)


def test_every_number_of_the_contract_is_there(results, pictures):
    page = Page(render_report(results, pictures))
    for scores in results["arms"].values():
        for value in (scores["accuracy"]["mean"], scores["worst_class"]["mean"]):
            assert percent(value) in page.words
        assert interval(scores["accuracy"]["ci95"]) in page.words
    for error in results["scaling"]["error"]:
        assert percent(error) in page.words
    for wanted in ("0.62", "[0.51, 0.74]", "4.1 %", "[3.3, 4.8 %]", "3.1", "[2.2, 4.4]"):
        assert wanted in page.words
    for wanted in (
        "+1.2",
        "[+0.4, +2.0]",
        "−1.4",
        "830",
        "5,000 synthetic",
        "829 real",
        "600 optimiser steps",
    ):
        assert wanted in page.words
    for wanted in ("imgsynth study digits.yaml -o digits", "cd" * 32, "ab" * 32, "torch 2.9", "16×16 grey"):
        assert wanted in page.words
    data = next(part for part in page.inside if part.lstrip().startswith("{"))
    assert json.loads(data) == results


def test_names_from_files_stay_text(results, pictures):
    page = Page(render_report(results, pictures))
    assert ("b", {}) not in page.elements
    assert [a for t, a in page.elements if t == "script"] == [{"type": "application/json", "id": "results"}]
    assert "digits <script>" in page.words and "0 → <b>two</b>" in page.words


def test_same_results_same_bytes(results, pictures):
    assert render_report(results, pictures) == render_report(copy.deepcopy(results), pictures)


def test_page_without_pictures_scaling_or_some_arms(results, tmp_path):
    del results["scaling"]
    for gone in ("both", "real"):
        del results["arms"][gone]
        results["paired"] = {}
    write_report(results, None, tmp_path / "deep" / "report.html")
    page = Page((tmp_path / "deep" / "report.html").read_text(encoding="utf-8"))
    assert not page.open and "95.1 %" in page.words and "side by side" not in page.words
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["report.html"]


# ---- what it says ----


def test_verdict_says_what_synthetic_reaches_and_adds(results):
    first, second, third = verdict(results)
    assert first == (
        "Trained on synthetic images alone, the classifier gets 95.1 % of 830 real test images right: "
        "98.5 % of the 96.5 % that training on 829 real images reaches."
    )
    assert second == "Adding the synthetic to the real images gains +1.2 points [+0.4, +2.0]."
    assert third.startswith("Change the synthesis rather than render more") and "4.1 % [3.3, 4.8 %]" in third


@pytest.mark.parametrize(
    ("ends", "words"),
    [([0.001, 0.02], "gains"), ([-0.02, -0.001], "costs accuracy"), ([-0.001, 0.02], "cannot tell")],
)
def test_a_gain_is_claimed_only_where_the_interval_excludes_none(results, ends, words):
    results["paired"]["both_minus_real"]["ci95"] = ends
    assert words in verdict(results)[1]


def test_advice_follows_the_fit(results):
    results["scaling"]["advice"]["action"] = "render more"
    said = verdict(results)[2]
    assert said.startswith("Render more") and "from 5.7 % to 4.5 %" in said
    results["scaling"]["arm"] = "real"
    assert verdict(results)[2].startswith("Gather more")
    results["scaling"]["advice"]["action"] = "unknown"
    results["scaling"]["fit"].update(identified=False, reason="3 sizes are too few")
    assert "not identified, since 3 sizes are too few" in verdict(results)[2]
    assert "α is not identified" in Page(render_report(results)).words


def test_repeated_looks_and_few_groups_are_said(results):
    words = Page(render_report(results)).words
    assert "6 groups" in words and "rough" in words and "other stud" not in words
    results["what"]["test_looks"] = 4
    assert "3 other studies had been scored on them" in Page(render_report(results)).words


def test_confused_pairs_are_ranked_and_shared_by_class(results):
    pairs = confused_pairs(results, "synthetic")
    assert [(p["true"], p["predicted"], p["count"]) for p in pairs] == [("0", "1", 10), ("1", "0", 3)]
    assert pairs[0]["share"] == pytest.approx(0.1)


def test_numbers_as_text():
    assert percent(0.95123) == "95.1 %" and points(-0.0141) == "−1.4" and points(0.0141) == "+1.4"
    assert [number(v) for v in (0.4, 0.0304, 25.6, 12345)] == ["0.40", "0.030", "26", "12,000"]
    assert interval([0.1, 0.25]) == "[10.0, 25.0 %]" and interval([-0.1, 0.2], points) == "[−10.0, +20.0]"


def test_many_large_classes_make_a_bounded_page(results):
    names = tuple(f"class number {k} with a long name" for k in range(60))
    images = np.random.default_rng(0).integers(0, 255, (120, 128, 96, 3)).astype(np.uint8)
    data = LabelledImages(images, np.arange(120) % 60, names, None, "x")
    results["what"]["classes"] = list(names)
    for a in results["arms"].values():
        a["per_class"] = [{"class": c, "n": 2, "accuracy": 0.5, "ci95": [0.4, 0.6]} for c in names]
        a["confusion"] = np.ones((60, 60), int).tolist()
    text = render_report(results, Pictures(data, data, []))
    page = Page(text)
    assert "44 more classes are not shown" in page.words
    assert len(text) < 4_000_000
    assert sum(a.get("class") == "class" for _, a in page.elements) == 16


def test_strip_places_images_side_by_side():
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 1), np.uint8)
    raw = base64.b64decode(strip(images, 4).partition(",")[2])
    got = np.asarray(Image.open(io.BytesIO(raw)))
    assert got.shape == (4, 4 * 6 - 1)
    assert np.all(got[:, 12:17] == 2) and np.all(got[:, 18:] == 255) and np.all(got[:, 5] == 255)
