"""What a scene file says of the sensor: from radiance to the file's bytes."""

from __future__ import annotations

from typing import Annotated, Literal

from imgsynth.cameraspec import EffectSpec
from imgsynth.distributions import Distribution, integer, number, vector
from imgsynth.leaves import Flag, Fraction, NonNegative, Number, Positive, leaf
from imgsynth.yamlfile import Spec


class SensorSpec(Spec):
    """From radiance to the file's bytes; see `imgsynth.sensor` for the order and the laws of each step.

    With `native_px` the camera's own picture is that wide, and lengths in pixels count its pixels, until
    `native_resize` brings it to the image's size (`linear` as OpenCV does, without averaging, or `area`).
    """

    sample_blur_px: NonNegative = leaf(0.0)
    sample_noise: NonNegative = leaf(0.0)
    binarize: Flag = leaf(False)
    threshold_bias: Number = leaf(0.0)
    native_px: Annotated[Distribution, number(ge=0, le=8192)] = leaf(0)
    veil: Fraction = leaf(0.0)
    auto_exposure: Fraction = leaf(0.0)
    exposure_ev: Number = leaf(0.0)
    white_balance: Annotated[Distribution, vector(3, gt=0)] = leaf([1.0, 1.0, 1.0])
    saturation: NonNegative = leaf(1.0)
    chromatic: Annotated[Distribution, vector(2, gt=-0.2, lt=0.2)] = leaf([0.0, 0.0])
    blur_px: NonNegative = leaf(0.0)
    motion_px: NonNegative = leaf(0.0)
    motion_deg: Number = leaf(0.0)
    vignetting: Annotated[Distribution, number(ge=0, lt=1)] = leaf(0.0)
    vignette_terms: Annotated[Distribution, vector(3)] = leaf([0.0, 0.0, 0.0])
    shot_noise: NonNegative = leaf(0.0)
    read_noise: NonNegative = leaf(0.0)
    mosaic: Annotated[Distribution, integer(ge=0, le=4)] = leaf(0)
    contrast: Positive = leaf(1.0)
    black_level: Fraction = leaf(0.0)
    filmic: Fraction = leaf(0.0)
    sharpen: NonNegative = leaf(0.0)
    jpeg_quality: Annotated[Distribution, integer(ge=0, le=100)] = leaf(0)
    tone: Literal["srgb", "linear"] = "srgb"
    invert: bool = False
    native_resize: Literal["linear", "area"] = "linear"
    effects: tuple[EffectSpec, ...] = ()
