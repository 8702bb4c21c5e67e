"""What a scene file says of what is seen where nothing is hit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from imgsynth.distributions import Distribution, number
from imgsynth.leaves import PICK, SEED, Color, Fraction, NonNegative, Positive, Seed, leaf
from imgsynth.yamlfile import Spec


class GradientSpec(Spec):
    """Two colours, top to bottom."""

    top: Color
    bottom: Color


class ScreenNoiseSpec(Spec):
    """Smooth noise between two colours, `scale` cells across the image."""

    a: Color
    b: Color
    scale: Positive = leaf(8.0)
    seed: Seed = leaf(SEED)


class PhotosSpec(Spec):
    """A random crop of a random photograph from a folder (relative to the scene file)."""

    folder: str
    pick: Fraction = leaf({"uniform": [0, 1]})
    crop: Annotated[Distribution, number(gt=0, le=1)] = leaf({"uniform": [0.5, 1.0]})
    x: Fraction = leaf({"uniform": [0, 1]})
    y: Fraction = leaf({"uniform": [0, 1]})
    brightness: NonNegative = leaf(1.0)


class BackgroundSpec(Spec):
    """What is seen where nothing is hit; where several kinds are given, a frame picks one by `weights`."""

    flat: Color | None = None
    gradient: GradientSpec | None = None
    noise: ScreenNoiseSpec | None = None
    photos: PhotosSpec | None = None
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    pick: Fraction = leaf(0.5)

    @model_validator(mode="before")
    @classmethod
    def _picks(cls, data: Any) -> Any:
        kinds = [
            k
            for k in ("flat", "gradient", "noise", "photos")
            if isinstance(data, dict) and data.get(k) is not None
        ]
        return {"pick": PICK, **data} if len(kinds) > 1 else data

    @property
    def kinds(self) -> dict[str, float]:
        """The kinds given and their normalized weights, in a fixed order."""
        given = {
            k: self.weights.get(k, 1.0)
            for k in ("flat", "gradient", "noise", "photos")
            if getattr(self, k) is not None
        }
        total = sum(given.values())
        return {k: w / total for k, w in given.items()}

    @model_validator(mode="after")
    def _weighted(self) -> BackgroundSpec:
        given = [k for k in ("flat", "gradient", "noise", "photos") if getattr(self, k) is not None]
        if not given:
            raise ValueError("expected at least one of flat, gradient, noise, photos")
        if unknown := [k for k in self.weights if k not in given]:
            raise ValueError(
                f"weights names {unknown[0]!r}, which is not among the given kinds ({', '.join(given)})"
            )
        if sum(self.weights.get(k, 1.0) for k in given) <= 0:
            raise ValueError("weights sum to zero")
        return self
