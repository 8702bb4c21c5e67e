"""Albumentations' transforms by name, on finished 8-bit pictures: those that leave labels where they are.

A transform draws its random numbers from a generator of its own, seeded by (seed, place in the list, frame
number): a frame is the same alone and in any batch. Its draws are no leaves of the scene.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import seeding
from imgsynth.batch import U8
from imgsynth.cameraspec import EffectSpec
from imgsynth.errors import ImgsynthError, SceneError
from imgsynth.yamlfile import nearest

_KIND = "it makes pictures of another kind than 8-bit ones"
_MORE = "it needs other pictures or fonts, which a scene cannot give it"
REFUSED = {
    "Normalize": _KIND,
    "ToFloat": _KIND,
    "FromFloat": _KIND,
    "ToRGB": _KIND,
    "FDA": _MORE,
    "HistogramMatching": _MORE,
    "PixelDistributionAdaptation": _MORE,
    "TextImage": _MORE,
}
"""Transforms of pixels that are refused all the same, and why."""


class Effects:
    """Transforms in the order given.

    Args:
        specs: names and options.

    Raises:
        ImgsynthError: albumentations is not installed.
        SceneError: a transform that there is not, that moves pixels, or that does not take its options.
    """

    def __init__(self, specs: Sequence[EffectSpec]):
        self.transforms = [_made(spec, f"sensor.effects[{k}]") for k, spec in enumerate(specs)]

    def apply(self, images: U8, seed: int, indices: NDArray[np.integer]) -> U8:
        """Images (n, H, W, channels) after all effects, of frames numbered `indices` (n,)."""
        if not self.transforms:
            return images
        names = [f"sensor.effects[{k}]" for k in range(len(self.transforms))]
        seeds = seeding.uniforms(seed, names, np.asarray(indices, np.int64), 1)[..., 0]
        out = images.copy()
        for i in range(len(images)):
            for k, transform in enumerate(self.transforms):
                transform.set_random_seed(int(seeds[i, k] * 2**32))
                out[i] = _applied(transform, out[i], names[k])
        return out


def _applied(transform: Any, image: U8, path: str) -> U8:
    name = type(transform).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = transform(image=image)["image"]
    except Exception as error:
        raise SceneError(f"{name} failed: {_line(error)}", path=path) from None
    if made.dtype != np.uint8 or made.reshape(-1).shape != image.reshape(-1).shape:
        raise SceneError(
            f"{name} made a picture {made.shape} of {made.dtype}, expected {image.shape} of uint8", path=path
        )
    return np.asarray(made).reshape(image.shape)


def _made(spec: EffectSpec, path: str) -> Any:
    library = _library()
    kinds = {n: c for n in dir(library) if isinstance(c := getattr(library, n), type)}
    allowed = [n for n, c in kinds.items() if issubclass(c, library.ImageOnlyTransform) and n not in REFUSED]
    allowed.remove("ImageOnlyTransform")
    kind = kinds.get(spec.name)
    if kind is None or not issubclass(kind, library.BasicTransform):
        raise SceneError(
            f"albumentations has no transform {spec.name}{nearest(spec.name, allowed)}", path=path
        )
    if spec.name in REFUSED:
        raise SceneError(f"{spec.name} cannot be used: {REFUSED[spec.name]}", path=path)
    if spec.name not in allowed:
        raise SceneError(
            f"{spec.name} may move pixels or take them away, and the labels would stay: turn, crop, zoom or "
            "bend by the camera instead (pose, roll_deg, framing, intrinsics, lens), which moves every label "
            "exactly",
            path=path,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return kind(p=spec.p, **spec.options)
    except Exception as error:
        raise SceneError(f"{spec.name} does not take its options: {_line(error)}", path=path) from None


def _line(error: Exception) -> str:
    return "; ".join(part.strip() for part in str(error).splitlines() if part.strip())[:300]


def _library() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network for its newest version
    try:
        import albumentations
    except ImportError as error:
        raise ImgsynthError("sensor.effects needs albumentations: pip install 'imgsynth[effects]'") from error
    return albumentations
