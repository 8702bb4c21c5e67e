import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsynth.color import (
    NAMES,
    hsv_to_rgb,
    is_hex,
    linear_to_srgb,
    luminance,
    parse_color,
    srgb_to_linear,
    to_hex,
)

unit = st.floats(0, 1)


def test_srgb_reference_points():
    """IEC 61966-2-1: the linear toe, the middle grey of 21.4 %, and the ends."""
    assert srgb_to_linear([0, 0.04045, 0.5, 1]) == pytest.approx([0, 0.0031308, 0.21404114, 1], rel=1e-5)
    assert linear_to_srgb([0, 0.0031308, 0.21404114, 1]) == pytest.approx([0, 0.04045, 0.5, 1], rel=1e-5)


@given(unit)
def test_srgb_round_trip(v):
    assert linear_to_srgb(srgb_to_linear(v)) == pytest.approx(v, abs=1e-6)


def test_srgb_is_monotonic_and_keeps_float32():
    levels = np.linspace(0, 1, 4097, dtype=np.float32)
    for function in (srgb_to_linear, linear_to_srgb):
        assert function(levels).dtype == np.float32
        assert (np.diff(function(levels)) > 0).all()
    assert srgb_to_linear(np.array([-0.1, 2.0])).tolist() == pytest.approx(
        [-0.1 / 12.92, (2.055 / 1.055) ** 2.4]
    )


@given(st.floats(-720, 720), unit, unit)
def test_hsv_agrees_with_colorsys(h, s, v):
    expected = colorsys.hsv_to_rgb(h / 360 % 1.0, s, v)
    assert hsv_to_rgb([h, s, v]).tolist() == pytest.approx(expected, abs=1e-9)


def test_hsv_is_vectorized():
    hsv = np.random.default_rng(0).random((4, 5, 3)) * [360, 1, 1]
    one = np.array([[hsv_to_rgb(hsv[i, j]) for j in range(5)] for i in range(4)])
    assert (hsv_to_rgb(hsv) == one).all()


def test_luminance():
    assert luminance([1.0, 1, 1]) == pytest.approx(1)
    assert luminance(np.eye(3)).tolist() == [0.2126, 0.7152, 0.0722]
    assert luminance(np.zeros((2, 3, 4, 3), np.float32)).shape == (2, 3, 4)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_hex_round_trip(levels):
    code = "#" + "".join(f"{n:02x}" for n in levels)
    assert is_hex(code) and to_hex(parse_color(code)) == code
    assert parse_color(code) == tuple(n / 255 for n in levels)
    assert parse_color(code.upper()) == parse_color(code)


def test_names_and_short_hex():
    assert parse_color("Red") == (1, 0, 0) == parse_color("#f00")
    assert parse_color("orange") == (1, 165 / 255, 0)
    assert all(is_hex(code) for code in NAMES.values())
    assert to_hex((0.5, 0, 0)) is None and to_hex((2.0, 0, 0)) is None


@pytest.mark.parametrize("bad", ["", "#12", "#12345", "#gggggg", "reddish", "#ffffff\n", "ff0000"])
def test_what_is_no_colour(bad):
    with pytest.raises(ValueError, match="colour"):
        parse_color(bad)
