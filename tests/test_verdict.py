"""Every rule of the verdict, in its order, and that it hangs on figures with intervals only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.errors import DataError
from imgsynth.evaluate.scaling import Advice
from imgsynth.evaluate.verdict import ACTIONS, verdict
from imgsynth.evaluate.worth import Effective


def figure(mean, low, high):
    return {"mean": mean, "ci95": [low, high]}


WIDE_GAP = figure(0.10, 0.06, 0.14)
NO_GAP = figure(-0.002, -0.01, 0.006)
BETTER, WORSE, NOTHING, UNSURE = (
    figure(0.02, 0.01, 0.03),
    figure(-0.02, -0.03, -0.01),
    figure(0.001, -0.004, 0.006),
    figure(0.01, -0.03, 0.05),
)


def advice(action):
    return Advice(action, 5000, 10, 0.2, 0.1, 0.1, [0.08, 0.12], 0.2, 40_000.0, [20_000.0, None]).to_json()


def effective(lo, n_real=100):
    return Effective(lo + 50.0, lo, lo + 90.0, "", n_real, "law", "").to_json()


@pytest.mark.parametrize(
    ("given", "action", "rule"),
    [
        ({"gap": NO_GAP, "gain": BETTER}, "use it", 1),
        ({"gap": WIDE_GAP, "gain": BETTER, "advice": advice("render more")}, "mix it", 2),
        ({"gap": WIDE_GAP, "effective": effective(20)}, "mix it", 2),
        ({"gap": WIDE_GAP, "gain": WORSE, "advice": advice("render more")}, "do not use it", 3),
        ({"gap": WIDE_GAP, "gain": NOTHING, "advice": advice("render more")}, "render more", 4),
        (
            {"gap": WIDE_GAP, "gain": NOTHING, "advice": advice("change the synthesis")},
            "change the synthesis",
            5,
        ),
        ({"gap": WIDE_GAP, "advice": advice("change the synthesis")}, "change the synthesis", 5),
        ({"gap": WIDE_GAP, "gain": NOTHING, "advice": advice("unknown")}, "do not use it", 6),
        ({"gap": WIDE_GAP, "gain": NOTHING}, "do not use it", 6),
        ({"gap": WIDE_GAP, "gain": UNSURE, "advice": advice("unknown")}, "undecided", 7),
        ({"gap": WIDE_GAP, "gain": NOTHING, "tolerance": 0.005}, "undecided", 7),
        ({"gap": WIDE_GAP, "effective": effective(20, n_real=0)}, "undecided", 7),
        ({"gap": WIDE_GAP, "effective": effective(-20)}, "undecided", 7),
        ({}, "undecided", 7),
    ],
)
def test_rules(given, action, rule):
    said = verdict(**given)
    assert (said.action, said.rule) == (action, rule)
    assert said.sentence.lower().startswith(action) and said.sentence.endswith(".")
    assert len(said.reasons) == len([k for k in given if k != "tolerance"])


def test_words_hold_the_figures():
    said = verdict(
        gap=WIDE_GAP, gain=BETTER, effective=effective(200), advice=advice("render more"), share=0.4
    )
    assert "40%" in said.sentence
    text = "\n".join(said.reasons)
    assert "+10.0 points (+6.0 to +14.0)" in text and "+2.0 points" in text
    assert "about 250 real images (200 to 290)" in text and "added to 100" in text
    more = verdict(gap=WIDE_GAP, gain=NOTHING, advice=advice("render more"))
    assert "40,000 images" in more.sentence
    assert more.to_json()["action"] == "render more"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_a_better_gain_never_makes_it_worse(first, second):
    """With gap and advice unknown the order is: do not use it, undecided, mix it."""
    rank = {"do not use it": 0, "undecided": 1, "mix it": 2}
    low, high = sorted([sorted(first), sorted(second)], key=lambda v: v[1])
    low, high = (
        [min(a, b) for a, b in zip(low, high, strict=True)],
        [max(a, b) for a, b in zip(low, high, strict=True)],
    )
    of = [verdict(gain=figure(v[1], v[0], v[2])) for v in (low, high)]
    assert rank[of[0].action] <= rank[of[1].action]
    assert all(v.action in ACTIONS for v in of)


@pytest.mark.parametrize("bad", [{"mean": 0.1}, {"mean": 0.5, "ci95": [0, 0.1]}, {"mean": 0, "ci95": None}])
def test_a_figure_without_its_interval_is_refused(bad):
    with pytest.raises(DataError, match="ci95"):
        verdict(gap=bad)
