"""Parameter-to-error analysis: the planted leaf among twenty, no false alarms, rows that fit the dataset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import SCENE

from imgsynth import generate, scenefile
from imgsynth.dataset.annotated import Detections
from imgsynth.dataset.reader import Dataset
from imgsynth.errors import DataError, ModelError
from imgsynth.evaluate.errors import explain, share_interval, worst_region
from imgsynth.evaluate.mistakes import _hsv, frame_columns, mistakes
from imgsynth.scene import SceneSpec


def leaves(rng, n, count=19):
    columns = {f"leaf{i}": rng.uniform(size=n) for i in range(count)}
    return {**columns, "kind": rng.choice(["x", "y", "z"], n)}


def drawn(rng, p):
    return (rng.uniform(size=len(p)) < p).astype(float)


# ---- the tests of columns ----


def test_the_planted_leaf_among_twenty_comes_first():
    rng = np.random.default_rng(0)
    columns = leaves(rng, 1500)
    found = explain(columns, drawn(rng, 0.05 + 0.2 * columns["leaf7"]))
    assert found[0].name == "leaf7" and found[0].q < 0.001 and found[0].correlation > 0.1
    assert [f.name for f in found if f.q <= 0.05] == ["leaf7"]
    errors = [b.error for b in found[0].bins]
    assert errors[-1] > errors[0] + 0.1 and sum(b.n for b in found[0].bins) == 1500
    assert all(b.ci95[0] <= b.error <= b.ci95[1] for f in found for b in f.bins)


def test_mistakes_at_both_ends_and_in_one_category_are_seen_too():
    rng = np.random.default_rng(1)
    columns = leaves(rng, 2000)
    ends = np.abs(columns["leaf2"] - 0.5) > 0.4
    found = explain(columns, drawn(rng, 0.05 + 0.15 * ends + 0.12 * (columns["kind"] == "y")))
    assert {f.name for f in found if f.q <= 0.05} == {"leaf2", "kind"}
    by = {f.name: f for f in found}
    assert abs(by["leaf2"].correlation) < 0.06 and by["leaf2"].effect > 0.01
    assert by["kind"].correlation is None and max(by["kind"].bins, key=lambda b: b.error).label == "y"


def test_effect_is_the_share_of_variance_explained():
    rng = np.random.default_rng(2)
    kind = rng.choice(["x", "y"], 20_000)
    p = np.where(kind == "x", 0.2, 0.6)
    (found,) = explain({"kind": kind}, drawn(rng, p))
    assert found.effect == pytest.approx(0.04 / (0.4 * 0.6), abs=0.01)  # var of the means ÷ var of a mistake


def test_false_discoveries_are_controlled_under_the_null_and_beside_a_truth():
    any_found, right, false = 0, 0, []
    for k in range(25):
        rng = np.random.default_rng(100 + k)
        columns = leaves(rng, 400)
        columns["many"] = rng.choice(list("abcdefghijkl"), 400)  # few mistakes in each: by permutation
        any_found += any(f.q <= 0.1 for f in explain(columns, drawn(rng, np.full(400, 0.08))))
        sure = [f.name for f in explain(columns, drawn(rng, 0.05 + 0.4 * columns["leaf3"])) if f.q <= 0.1]
        false.append(len(set(sure) - {"leaf3"}) / max(len(sure), 1))
        right += "leaf3" in sure
    # In 250 families .084 and .083 (± .012) were seen at a rate of .1; here room for chance is left.
    assert any_found <= 7
    assert np.mean(false) <= 0.2
    assert right == 25


def test_shares_as_mistakes_and_values_that_are_missing():
    rng = np.random.default_rng(3)
    light = rng.uniform(size=600)
    share = np.clip(rng.binomial(8, 0.1 + 0.3 * light) / 8, 0, 1)
    sparse = np.where(rng.uniform(size=600) < 0.5, np.nan, rng.uniform(size=600))
    text = np.array([None, "u", "v"], object)[rng.integers(0, 3, 600)]
    found = {
        f.name: f
        for f in explain({"light": light, "sparse": sparse, "text": text, "still": light * 0}, share)
    }
    assert found["light"].q < 1e-6 and found["sparse"].q > 0.01
    assert found["sparse"].n == np.isfinite(sparse).sum() and found["text"].n == sum(
        v is not None for v in text
    )
    assert "still" not in found


def test_what_cannot_be_explained_is_said():
    with pytest.raises(DataError, match="no mistake in 5 rows"):
        explain({}, np.zeros(5))
    with pytest.raises(DataError, match="nothing but mistakes"):
        explain({}, np.ones(5))
    with pytest.raises(DataError, match="shares in"):
        explain({}, [0, 2])
    with pytest.raises(DataError, match="a: expected 3 values"):
        explain({"a": np.zeros(2)}, [0, 1, 0])


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_interval_of_yes_and_no(k, extra):
    n = k + extra
    y = np.r_[np.ones(k), np.zeros(extra)]
    p, z = k / n, 1.959964
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = share_interval(y)
    # n − 1 stands in the scatter, so n counts for n − 1 here: closed form to that order.
    assert low == pytest.approx(max(0, (middle - half) / (1 + z**2 / n)), abs=0.35 / n)
    assert high == pytest.approx(min(1, (middle + half) / (1 + z**2 / n)), abs=0.35 / n)
    assert 0 <= low <= p <= high <= 1


def test_worst_region_is_found_and_measured_on_other_rows():
    rng = np.random.default_rng(5)
    columns = leaves(rng, 3000, 8)
    bad = (columns["leaf1"] > 0.7) & (columns["kind"] == "z")
    region = worst_region(columns, drawn(rng, 0.05 + 0.5 * bad))
    said = " and ".join(region.where)
    assert "leaf1 >" in said and "kind is z" in said
    assert region.error == pytest.approx(0.55, abs=0.12) and region.elsewhere < 0.1
    assert region.ci95[0] < region.error < region.ci95[1] and 0.04 < region.share < 0.13
    assert worst_region(columns, drawn(rng, np.full(3000, 0.1))) is None


# ---- a model on a dataset ----


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames") / "set"
    generate.render(SceneSpec.model_validate(SCENE), 120, root, workers=1)
    return Dataset(root)


class DarkIsHard:
    """Right where the picture is bright."""

    classes = ("a", "b")

    def __init__(self, labels, classes=("a", "b")):
        self.labels, self.classes = labels, classes

    def predict(self, images):
        dark = images.mean(axis=(1, 2, 3)) < 190
        return np.eye(2)[np.where(dark, 1 - self.labels, self.labels)]


def test_a_classifiers_mistakes_lead_to_the_leaf(frames):
    (table,) = mistakes(DarkIsHard(frames.labels()), frames)
    assert table.of == "frames" and 0.2 < table.wrong.mean() < 0.8
    found = explain(table.columns, table.wrong)
    assert found[0].name == "light.ambient.radiance" and found[0].correlation < -0.6
    assert [f.name for f in found if f.q <= 0.05] == ["light.ambient.radiance"]
    assert "objects.thing[0].class" not in table.columns  # it is the class, which stands there once
    with pytest.raises(ModelError, match="knows no class 'b'"):
        mistakes(DarkIsHard(frames.labels(), ("a", "c")), frames)


PAIRS = {
    **SCENE,
    "name": "pairs",
    "image": {"size": [32, 32]},
    "camera": {"azimuth_deg": 0, "elevation_deg": 90, "distance": 3, "fov_deg": 45},
    "objects": {
        "thing": {
            "count": {"integer": [1, 3]},
            "class": {"choice": ["a", "b"]},
            "shape": {"box": {"size": [0.3, 0.3, 0.1]}},
            "scale": {"uniform": [0.5, 1.5]},
            "place": {"position": [{"uniform": [-0.9, 0.9]}, {"uniform": [-0.9, 0.9]}, 0]},
            "material": {"color": {"hsv": [{"uniform": [0, 300]}, {"uniform": [0.2, 0.8]}, 0.9]}},
        }
    },
}


class SmallIsMissed:
    """Finds the visible boxes of objects above a size, and some that are not there or too unsure to count."""

    task = "detect"
    classes = ("b", "a")

    def __init__(self, dataset, least):
        self.dataset, self.least = dataset, least

    def predict(self, images):
        assert len(images) == len(self.dataset) and images[0].shape == (32, 32, 3)
        rows = self.dataset.instances.to_pylist()
        big = [r for r in rows if r["area_visible"] >= self.least and r["class_id"]]
        unsure = [r for r in rows if 0 < r["area_visible"] < self.least]
        scores = np.r_[np.full(len(big), 0.9), np.full(len(unsure), 0.2)]
        both = big + unsure
        return Detections(
            images=len(self.dataset),
            owner=np.array([r["frame"] for r in both]),
            boxes=np.array([r["box_visible"] for r in both], float),
            labels=np.array([self.classes.index(r["class"]) for r in both]),
            scores=scores,
            masks=None,
            classes=self.classes,
        )


def test_a_detectors_misses_lead_to_the_slots_own_values(tmp_path):
    generate.render(SceneSpec.model_validate(PAIRS), 150, tmp_path / "set", workers=1)
    dataset = Dataset(tmp_path / "set")
    area = dataset.instances.column("area_visible").to_numpy()
    least = int(np.median(area[area > 0]))
    of_frames, of_objects = mistakes(SmallIsMissed(dataset, least), dataset)
    small = (area[area > 0] < least).astype(float)
    assert of_objects.of == "objects" and np.array_equal(of_objects.wrong, small)
    found = {f.name: f for f in explain(of_objects.columns, of_objects.wrong)}
    assert found["objects.thing.scale"].q < 1e-6 and found["objects.thing.scale"].correlation < -0.3
    assert found["objects.thing.material.color.hue_deg"].q > 0.01
    assert of_frames.of == "frames" and not any("thing.scale" in name for name in of_frames.columns)
    shares = np.bincount(dataset.instances.column("frame").to_numpy()[area > 0], small)
    assert of_frames.wrong.sum() == pytest.approx((shares / np.maximum(of_counts(dataset, area), 1)).sum())


def of_counts(dataset, area):
    return np.bincount(dataset.instances.column("frame").to_numpy()[area > 0])


def test_columns_hold_what_was_sampled(tmp_path):
    scene = scenefile.load(SceneSpec.model_validate(PAIRS))
    generate.render(scene, 12, tmp_path / "set", seed=4, workers=1)
    columns = frame_columns(Dataset(tmp_path / "set"))
    draws = scene.plan().sample(4, range(12))
    active = draws.active("thing")
    for slot in range(3):
        sampled = np.where(active[:, slot], draws["objects.thing.scale"][:, slot], np.nan)
        assert np.array_equal(columns[f"objects.thing[{slot}].scale"], sampled, equal_nan=True)
        hue = columns[f"objects.thing[{slot}].material.color.hue_deg"]
        assert np.nanmin(hue) >= 0 and np.nanmax(hue) <= 300.001
        assert f"objects.thing[{slot}].place.position[0]" in columns
    assert np.array_equal(columns["objects.thing.count"], draws["objects.thing.count"])


def test_hsv_of_named_colours():
    rgb = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.5, 0.5, 0.5], [0, 0, 0], [1, 0, 0.5]])
    want = [[0, 1, 1], [120, 1, 1], [240, 1, 1], [60, 1, 1], [0, 0, 0.5], [0, 0, 0], [330, 1, 1]]
    assert _hsv(rgb) == pytest.approx(np.array(want, float))
