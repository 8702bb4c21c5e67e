"""The arms of a study file: what a training sees, from which generators, in which shares.

An arm is `KIND` or `KIND:SOURCE`. KIND is one of

    real        the real training images
    synthetic   synthetic images alone
    both        real and synthetic images together (`both.real_share`: of each batch; else all equally often)
    finetune    first synthetic images, then real ones: `finetune.pretrain` is the share of the steps
    mix         short for synthetic:mix

and SOURCE the name of one of several generators, or `mix`: all of them by the shares of `mix`. Without SOURCE
an arm draws from all generators of `synthetic` together, every image equally often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from imgsynth.yamlfile import Spec, nearest, shown

KINDS = ("real", "synthetic", "both", "finetune")
ARMS = (*KINDS, "mix")
MIX = "mix"


class Synthetic(Spec):
    """Where synthetic images come from: a scene to render, a diffusion model to sample, or a set at hand."""

    scene: str | None = None
    model: str | None = None  # a folder of `imgsynth diffuse train`, or the name of one that ships
    count: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    set: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    sampler: Literal["random", "sobol"] = "random"
    data: str | None = None
    labels: str | None = Field(None, min_length=1, max_length=200)  # what grounds them, for the report

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("scene", "model", "data") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "expected either scene and count (to render), model and count (to sample), or data (a set "
                "that exists)"
            )
        if self.data is None and self.count is None:
            raise ValueError("count is missing: how many images to make")
        asked = self.model_fields_set & {"count", "seed", "set", "freeze", "sampler"}
        if self.data is not None and asked:
            raise ValueError(f"{sorted(asked)[0]} belongs to a scene; with data it has no meaning")
        if self.model is not None and (scenes := asked & {"set", "freeze", "sampler"}):
            raise ValueError(f"{sorted(scenes)[0]} belongs to a scene; with a model it has no meaning")
        return self


def _one_or_several(value: Any) -> str:
    """One source, or a mapping of names to sources: then every value is a mapping."""
    if isinstance(value, Mapping) and value:
        return "several" if all(isinstance(v, Mapping | Synthetic) for v in value.values()) else "one"
    return "one"


def good_names(sources: dict[str, Synthetic]) -> dict[str, Synthetic]:
    """Refuse names that an arm could not be told by."""
    for name in sources:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", name) or name in ARMS:
            raise ValueError(
                f"the name of a generator is up to 40 letters, digits, '_', '.' or '-', and none of "
                f"{', '.join(ARMS)}; got {name!r}"
            )
    return sources


Sources = Annotated[
    Annotated[Synthetic, Tag("one")]
    | Annotated[dict[str, Synthetic], AfterValidator(good_names), Tag("several")],
    Discriminator(_one_or_several),
]


@dataclass(frozen=True)
class Arm:
    """An arm taken apart: `kind` of `KINDS`, and a generator's name, `mix`, or None for all together."""

    name: str
    kind: str
    source: str | None

    @property
    def uses_real(self) -> bool:
        """Whether any training image is real."""
        return self.kind != "synthetic"

    @property
    def uses_synthetic(self) -> bool:
        """Whether any training image is synthetic."""
        return self.kind != "real"


def arm_of(name: str) -> Arm:
    """The parts of an arm's name, which `known_arm` has checked."""
    if name == MIX:
        return Arm(name, "synthetic", MIX)
    kind, _, source = name.partition(":")
    return Arm(name, kind, source or None)


def known_arm(value: Any) -> Any:
    """Refuse what is not `KIND` or `KIND:SOURCE`; whether SOURCE exists is `spec.StudySpec`'s to say."""
    kind, colon, source = str(value).partition(":")
    if not isinstance(value, str) or kind not in ARMS:
        raise ValueError(f"expected an arm, got {shown(value)}{nearest(kind, ARMS)}")
    if colon and (kind in ("real", MIX) or not source):
        raise ValueError(f"expected {kind} or KIND:GENERATOR, got {shown(value)}")
    return value


ArmName = Annotated[str, BeforeValidator(known_arm)]


Share = Annotated[float, Field(gt=0, lt=1)]


class Both(Spec):
    """How `both` mixes: every image equally often, or the real ones as a share of each batch.

    Of several shares, the one with the best score on the validation images is taken.
    """

    real_share: Share | tuple[Share, ...] | None = None

    def candidates(self) -> tuple[float | None, ...]:
        """The shares to choose from; one where there is no choice."""
        return self.real_share if isinstance(self.real_share, tuple) else (self.real_share,)

    @field_validator("real_share")
    @classmethod
    def _different(cls, shares: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        if isinstance(shares, tuple) and (len(shares) < 2 or len(set(shares)) != len(shares)):
            raise ValueError(
                f"expected a share, or several different ones to choose from, got {list(shares)}"
            )
        return shares


class Finetune(Spec):
    """How `finetune` shares its steps out, and what of the learner's settings the second phase changes."""

    pretrain: float = Field(0.5, gt=0, lt=1)
    learner: dict[str, Any] = Field(default_factory=dict)


class Mix(Spec):
    """The share of each generator in what `mix` draws; they are scaled to add up to 1."""

    shares: dict[str, Annotated[float, Field(gt=0, le=1e6)]]

    @field_validator("shares")
    @classmethod
    def _several(cls, shares: dict[str, float]) -> dict[str, float]:
        if len(shares) < 2:
            raise ValueError(f"expected the shares of at least 2 generators, got {len(shares)}")
        return shares
