"""Handwriting: topology, geometry, independence of rows, and glyphs that can be told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgsynth.batch import Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes import glyphs, ink
from imgsynth.shapes.glyphs import POINTS, SKELETONS, skeletons
from imgsynth.shapes.strokes import strokes

DIGITS = "0123456789"


def hand(m: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Parameters of m random glyphs, all kinds of deviation at once."""
    r = np.random.default_rng(seed)
    return {
        "glyph": r.integers(0, 10, m),
        "style": r.random(m),
        "height": r.uniform(0.5, 2, m),
        "width": r.uniform(0.08, 0.25, m),
        "aspect": r.uniform(0.7, 1.4, m),
        "slant_deg": r.normal(10, 14, m),
        "rotation_deg": r.normal(0, 6, m),
        "wobble": r.normal(0, 0.02, (m, 32)),
        "warp": r.normal(0, 0.05, (m, 8)),
        "shift": r.normal(0, 0.03, (m, 8)),
        "overshoot": r.normal(0, 0.04, (m, 2)),
        "taper": r.uniform(0, 0.5, m),
        "pressure": r.normal(0, 0.1, (m, 2)),
    }


def scanner(m: int) -> dict[str, NDArray[Any]]:
    return {"box_aspect": np.full(m, 20 / 32), "equalize": np.ones(m), "straighten": np.ones(m)}


def middle_styles(digit: str) -> NDArray[np.float64]:
    """A `style` in the middle of the share of each skeleton of a digit."""
    weights = np.array([w for w, _ in SKELETONS[digit]])
    return (np.cumsum(weights) - weights / 2) / weights.sum()


def corners(meshes: Meshes) -> NDArray[np.float64]:
    """(m, f, 3, 2) corners of all triangles."""
    return meshes.vertices[:, meshes.faces, :2].astype(np.float64)


def areas(meshes: Meshes) -> NDArray[np.float64]:
    a, b, c = np.moveaxis(corners(meshes), 2, 0)
    return (
        (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    ) / 2


def bitmap(meshes: Meshes, samples: int = 32) -> NDArray[np.bool_]:
    """(m, samples, samples) of the unit square, row 0 at the top; a span for each triangle and row."""
    m = len(meshes)
    x, y = ((0.5 + s * corners(meshes)[..., i]) * samples - 0.5 for i, s in ((0, 1.0), (1, -1.0)))
    spans = np.zeros((m, samples, samples + 1), np.int64)
    for row in range(samples):
        low, high = np.full(x.shape[:2], np.inf), np.full(x.shape[:2], -np.inf)
        for i, j in ((0, 1), (1, 2), (2, 0)):
            crosses = (y[..., i] <= row) != (y[..., j] <= row)
            rise = np.where(crosses, y[..., j] - y[..., i], 1.0)
            at = x[..., i] + (x[..., j] - x[..., i]) * (row - y[..., i]) / rise
            low = np.where(crosses, np.minimum(low, at), low)
            high = np.where(crosses, np.maximum(high, at), high)
        mesh, face = np.nonzero(low <= high)
        first = np.clip(np.ceil(low[mesh, face]), 0, samples).astype(int)
        after = np.clip(np.floor(high[mesh, face]) + 1, first, samples).astype(int)
        np.add.at(spans[:, row], (mesh, first), 1)
        np.add.at(spans[:, row], (mesh, after), -1)
    return spans.cumsum(2)[..., :samples] > 0


def test_one_topology_whatever_the_glyphs_and_parameters() -> None:
    plain, wild = strokes(list(DIGITS)), strokes(**hand(40), **scanner(40))
    assert np.array_equal(plain.faces, wild.faces) and np.array_equal(plain.slots, wild.slots)
    assert (
        plain.vertices.shape == (10, 572, 3)
        and wild.vertices.shape == (40, 572, 3)
        and plain.faces.shape == (382, 3)
    )
    assert plain.faces.min() == 0 and plain.faces.max() == 571 and plain.two_sided
    assert plain.uv.min() == 0 and plain.uv.max() == 1


def test_triangles_are_finite_and_face_plus_z() -> None:
    meshes = strokes(**hand(300), **scanner(300))
    assert np.isfinite(meshes.vertices).all() and np.isfinite(meshes.uv).all()
    assert (meshes.vertices[..., 2] == 0).all() and (meshes.normals == [0, 0, 1]).all()
    turned = areas(meshes) / np.square(np.ptp(meshes.vertices[..., 1], axis=1))[:, None]
    assert turned.min() > -1e-6
    assert (turned > 1e-6).mean() > 0.9


def test_box_is_centred_and_as_tall_as_asked() -> None:
    given_hand = hand(200)
    box = strokes(**given_hand).vertices[..., :2].astype(np.float64)
    low, top = box.min(1), box.max(1)
    np.testing.assert_allclose((top - low)[:, 1], given_hand["height"], rtol=1e-6)
    np.testing.assert_allclose(low + top, 0, atol=1e-6)
    box = strokes(**given_hand, box_aspect=0.625).vertices[..., :2].astype(np.float64)
    np.testing.assert_allclose(np.ptp(box[..., 0], axis=1), 0.625 * given_hand["height"], rtol=1e-6)


def test_a_vertical_bar_has_the_breadth_of_the_pen() -> None:
    one = strokes("1", style=0.0, width=0.2)  # the plainest 1: one straight stroke
    assert np.ptp(one.vertices[0, :, 0]) == pytest.approx(
        0.2 / 1.2 * np.cos(np.pi / 8) ** -1 * np.cos(np.pi / 8), rel=0.02
    )


@pytest.mark.parametrize("digit", DIGITS)
def test_more_pen_more_ink(digit: str) -> None:
    widths = np.array([0.05, 0.1, 0.15, 0.2, 0.3])
    for style in middle_styles(digit):
        ink_area = bitmap(strokes([digit] * 5, style=np.full(5, style), width=widths), 97).sum((1, 2))
        assert (np.diff(ink_area) > 0).all()


def test_each_glyph_is_the_same_alone_in_any_batch_and_again() -> None:
    given_hand = hand(700) | scanner(700)
    together = strokes(**given_hand).vertices
    assert np.array_equal(together, strokes(**given_hand).vertices)
    for k in (0, 255, 256, 699):
        alone = strokes(**{name: value[k : k + 1] for name, value in given_hand.items()})
        assert np.array_equal(alone.vertices[0], together[k])
    back = strokes(**{name: value[::-1] for name, value in given_hand.items()}).vertices
    assert np.array_equal(back[::-1], together)


def test_where_the_pen_is_up_there_is_no_ink() -> None:
    catalogue = skeletons()
    assert catalogue.ink.all(1).any() and not catalogue.ink.all(1).all()  # glyphs of one stroke, and of more
    for digit in DIGITS:
        meshes = strokes([digit] * len(SKELETONS[digit]), style=middle_styles(digit))
        first = catalogue.first[DIGITS.index(digit)]
        quads = areas(meshes)[:, : 2 * (POINTS - 1)].reshape(len(meshes), -1, 2).sum(2)
        assert np.array_equal(quads > 1e-7, catalogue.ink[first : first + len(meshes)])


def test_skeletons_pass_through_their_corners_and_ends() -> None:
    catalogue = skeletons()
    np.testing.assert_allclose(
        catalogue.weights.sum(2), 1, atol=1e-12
    )  # moving all controls moves the path alike
    path = np.einsum("spc,sc->sp", catalogue.weights, catalogue.controls)
    assert np.allclose(path[:, 0], catalogue.controls[:, 0])
    assert np.allclose(catalogue.upto[catalogue.first[1:] - 1], 1)
    step = np.where(catalogue.ink, np.abs(np.diff(path)), np.nan)
    assert np.nanmax(step) < 0.16  # no chord so long that the curve shows its corners


def test_style_picks_skeletons_by_weight() -> None:
    m = 4000
    styles = (np.arange(m) + 0.5) / m
    shapes = strokes(["7"] * m, style=styles).vertices.reshape(m, -1)
    weights = np.array([w for w, _ in SKELETONS["7"]])
    changes = np.flatnonzero((shapes[1:] != shapes[:-1]).any(1)) + 1
    np.testing.assert_allclose(changes / m, np.cumsum(weights)[:-1] / weights.sum(), atol=1 / m)


def test_glyphs_and_styles_can_be_told_apart() -> None:
    text = [d for d in DIGITS for _ in SKELETONS[d]]
    style = np.concatenate([middle_styles(d) for d in DIGITS])
    pictures = bitmap(strokes(text, style=style), 24).reshape(len(text), -1)
    differing = (pictures[:, None] != pictures[None]).sum(2) + 1000 * np.eye(len(text), dtype=int)
    assert differing.min() >= 4  # no two skeletons draw the same picture

    def written(m: int, seed: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
        given_hand = hand(m, seed) | scanner(m) | {"height": np.ones(m)}
        blocks = bitmap(strokes(**given_hand)).reshape(m, 8, 4, 8, 4).sum((2, 4))
        return blocks.reshape(m, -1).astype(np.float64), given_hand["glyph"]

    x, y = written(400, 1)
    means = np.stack([x[y == d].mean(0) for d in range(10)])
    x, y = written(300, 2)
    nearest = np.square(x[:, None] - means).sum(2).argmin(1)
    assert (nearest == y).mean() > 0.7  # by class means alone; chance is 0.1


def test_straightening_takes_a_slant_out() -> None:
    slant = np.array([-30.0, -10.0, 0.0, 15.0, 35.0])
    plain: dict[str, Any] = {"glyph": ["0"] * 5, "slant_deg": slant, "box_aspect": 0.625, "width": 0.12}
    pictures = bitmap(strokes(**plain, straighten=1.0), 64)
    top, bottom = (np.argmax(pictures[:, row], axis=1) for row in (5, 58))
    assert np.abs(top - bottom).max() <= 1
    leaning = bitmap(strokes(**plain), 64)
    assert np.abs(leaning[4, 5].argmax() - leaning[4, 58].argmax()) > 5
    half = strokes(**plain, straighten=0.5).vertices
    both = np.mean([strokes(**plain, straighten=v).vertices for v in (0.0, 1.0)], axis=0)
    np.testing.assert_allclose(half, both, atol=1e-6)


def test_equalizing_thins_the_thick_and_thickens_the_thin() -> None:
    width = np.array([0.04, 0.3])
    plain: dict[str, Any] = {"glyph": ["0", "0"], "width": width, "box_aspect": 0.625}
    before, after = (bitmap(strokes(**plain, equalize=e), 64).sum((1, 2)) / 64**2 for e in (0.0, 1.0))
    assert before[0] < ink.LITTLE[0] and before[1] > ink.MUCH[0]
    assert after[0] > before[0] * 1.2 and after[1] < before[1] * 0.9
    just_right: dict[str, Any] = {"glyph": "0", "width": 0.14, "box_aspect": 0.625}
    assert np.array_equal(strokes(**just_right).vertices, strokes(**just_right, equalize=1.0).vertices)


def test_thickening_moves_a_straight_edge_by_one_step() -> None:
    bar: dict[str, Any] = {
        "glyph": "1",
        "style": 0.0,
        "width": 0.06,
    }  # ink 0.06 of height²: below both thresholds, two steps
    before, after = (strokes(**bar, equalize=e).vertices[0] for e in (0.0, 1.0))
    assert np.ptp(after[:, 0]) - np.ptp(before[:, 0]) == pytest.approx(4 / 32, rel=0.02)


def test_shift_moves_whole_strokes() -> None:
    shift = np.zeros((3, 8))
    shift[:, 2] = 0, 0.05, 0.1  # the second stroke, to the right
    meshes = strokes(["4"] * 3, middle_styles("4")[0], shift=shift)
    path = meshes.vertices[:, 4 * (POINTS - 1) :, 0].reshape(3, POINTS, -1).mean(2)
    stroke = skeletons().stroke[skeletons().first[4]]
    assert stroke.max() == 1
    apart = path[:, stroke == 1].mean(1) - path[:, stroke == 0].mean(1)
    tall = 0.98 + 0.1 * np.cos(np.pi / 8)  # of this 4 as its skeleton is drawn, ink included
    np.testing.assert_allclose(np.diff(apart), 0.05 / tall, rtol=0.01)


@settings(max_examples=25, deadline=None)
@given(
    digit=st.integers(0, 9), style=st.floats(0, 1), width=st.floats(0.01, 0.5), slant=st.floats(-60, 60),
    scale=st.floats(0, 0.2), seed=st.integers(0, 2**31), box=st.sampled_from([0.0, 0.3, 0.625, 1.0]),
)  # fmt: skip
def test_wild_hands_still_give_sound_meshes(
    digit: int, style: float, width: float, slant: float, scale: float, seed: int, box: float
) -> None:
    r = np.random.default_rng(seed)
    meshes = strokes(
        digit, style, 1.0, width, 1.0, slant, 5.0, r.normal(0, scale, (1, 32)), r.normal(0, scale, 8), scale,
        overshoot=scale, taper=1.0, pressure=0.5, box_aspect=box, equalize=1.0, straighten=1.0,
    )  # fmt: skip
    assert np.isfinite(meshes.vertices).all()
    assert areas(meshes).sum() > 0


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"glyph": "x"}, "glyph: expected one of 0, 1"),
        ({"glyph": 2.5}, "glyph"),
        ({"glyph": "1", "width": 0.0}, "width: expected a number above 0"),
        ({"glyph": "1", "style": 1.5}, "style: expected 0 to 1, got 1.5"),
        ({"glyph": "1", "slant_deg": 80}, "slant_deg"),
        ({"glyph": "1", "wobble": np.zeros(31)}, "wobble: expected 32 numbers"),
        ({"glyph": ["1", "2"], "warp": np.zeros((3, 8))}, "warp: expected parameters of one length"),
        ({"glyph": "1", "box_aspect": -1.0}, "box_aspect"),
        ({"glyph": "1", "straighten": np.nan}, "straighten: expected a finite number"),
    ],
)
def test_what_it_cannot_draw_it_says(bad: dict[str, Any], named: str) -> None:
    with pytest.raises(SceneError, match=named):
        strokes(**bad)


def test_a_skeleton_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 24 control points"):
        glyphs._compile(",".join(f"{i} {i}" for i in range(25)))


def test_numbers_and_texts_name_the_same_glyphs() -> None:
    assert np.array_equal(strokes(list(DIGITS)).vertices, strokes(np.arange(10)).vertices)
    assert np.array_equal(strokes(list(DIGITS)).vertices, strokes(np.arange(10.0)).vertices)
