"""Distributions as values: immutable, hashable, printable, each an inverse CDF, each with a YAML form.

``parse(node)`` reads the YAML form, ``d.to_yaml()`` writes it; ``d.ppf(u)`` maps uniforms (..., d.dims) to
samples (..., *d.event_shape). An `Expression` is computed from other leaves; what contains one lists their
``names`` and takes their values as ``d.ppf(u, env)``.

In a pydantic model a field says what it takes: ``radius: Annotated[Distribution, number(gt=0)] =
Constant(0.1)`` (see `imgsynth.distributions.fields`).
"""

from imgsynth.distributions.base import Distribution, DistributionError
from imgsynth.distributions.discrete import Bernoulli, Choice, Integer, Mixture
from imgsynth.distributions.expression import Expression, split_component
from imgsynth.distributions.fields import (
    Field,
    boolean,
    color,
    direction,
    integer,
    number,
    point,
    rotation,
    text,
    vector,
)
from imgsynth.distributions.parse import FORMS, parse
from imgsynth.distributions.pose import (
    AxisRotation,
    ConeRotation,
    EulerRotation,
    Hsv,
    Quaternion,
    Rgb,
    UniformRotation,
)
from imgsynth.distributions.scalar import Beta, Constant, LogUniform, Normal, Uniform
from imgsynth.distributions.spatial import Ball, Box, Cap, Direction, Disc, Vector

__all__ = [
    "FORMS",
    "AxisRotation",
    "Ball",
    "Bernoulli",
    "Beta",
    "Box",
    "Cap",
    "Choice",
    "ConeRotation",
    "Constant",
    "Direction",
    "Disc",
    "Distribution",
    "DistributionError",
    "EulerRotation",
    "Expression",
    "Field",
    "Hsv",
    "Integer",
    "LogUniform",
    "Mixture",
    "Normal",
    "Quaternion",
    "Rgb",
    "Uniform",
    "UniformRotation",
    "Vector",
    "boolean",
    "color",
    "direction",
    "integer",
    "number",
    "parse",
    "point",
    "rotation",
    "split_component",
    "text",
    "vector",
]
