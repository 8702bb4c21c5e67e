"""What a sensor is set to, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, I32

TONES = ("srgb", "linear")
RESIZES = ("linear", "area")
_SHARED = ("tone", "invert", "channels", "native_resize")
_SIGNED = ("threshold_bias", "exposure_ev", "motion_deg", "binarize", "chromatic", "vignette_terms")
_VECTORS = {"white_balance": 3, "chromatic": 2, "vignette_terms": 3}  # the others are one number a frame
_NEUTRAL = {"white_balance": 1.0, "saturation": 1.0, "contrast": 1.0}


@dataclass(frozen=True)
class SensorSettings:
    """One value a frame for `n` frames, and what all frames share; `neutral(n)` changes nothing but sRGB
    encoding.

    Raises:
        ValueError: shapes that disagree, or a value out of its range.
    """

    sample_noise: (
        F32  # (n,) sd of the noise on samples, as a share of the frame's contrast (highest - lowest)
    )
    sample_blur_px: F32  # (n,) sd, in samples
    binarize: NDArray[np.bool_]  # (n,)
    threshold_bias: F32  # (n,) added to Otsu's threshold, as a share of the contrast; above 0 means more ink
    native_px: I32  # (n,) width of the camera's own picture; 0 = as the output
    veil: F32  # (n,) 0..1, share of the light that is spread evenly over the frame
    auto_exposure: F32  # (n,) 0..1: 1 brings the mean luminance to middle grey (0.18), 0 leaves it
    exposure_ev: F32  # (n,) stops
    white_balance: F32  # (n, 3) gains
    saturation: F32  # (n,) 1 = as it is, 0 = grey
    chromatic: F32  # (n, 2) how much larger the red and the blue picture are than the green, 0 = as large
    blur_px: F32  # (n,) sd, in pixels
    motion_px: F32  # (n,) length of the path, in pixels
    motion_deg: F32  # (n,) its direction, from +x towards +y
    vignetting: F32  # (n,) 0..1, share of the light that the corners lose, by the cos⁴ law
    vignette_terms: F32  # (n, 3) light times 1 + a ρ² + b ρ⁴ + c ρ⁶, ρ = 1 in the corners
    shot_noise: F32  # (n,) variance per unit of signal
    read_noise: F32  # (n,) sd, signal 1 = white
    mosaic: I32  # (n,) 0 = every pixel sees all colours; 1..4 = a Bayer filter that starts R G, G R, G B, B G
    contrast: F32  # (n,) exponent about middle grey: above 1 is harder
    black_level: F32  # (n,) light that the camera adds everywhere, signal 1 = white
    filmic: F32  # (n,) 0..1, share of a filmic tone curve: a toe and a shoulder instead of clipped white
    sharpen: F32  # (n,) strength of an unsharp mask of sd 1 pixel; 0 = none
    jpeg_quality: I32  # (n,) 1..100, 0 = no JPEG
    tone: str = "srgb"
    invert: bool = False
    channels: int = 3
    native_resize: str = "linear"

    def __post_init__(self) -> None:
        n = len(self.binarize)
        for name in self._arrays():
            value = getattr(self, name)
            shape = (n, _VECTORS[name]) if name in _VECTORS else (n,)
            if value.shape != shape:
                raise ValueError(f"expected sensor.{name} of shape {shape}, got {value.shape}")
            if name not in _SIGNED and np.any(value < 0):
                raise ValueError(f"expected sensor.{name} of at least 0, got {value.min()}")
        for name, most in (
            ("jpeg_quality", 100),
            ("veil", 1),
            ("auto_exposure", 1),
            ("mosaic", 4),
            ("filmic", 1),
            ("vignetting", 1),
        ):
            if np.any(getattr(self, name) > most):
                raise ValueError(f"expected sensor.{name} of at most {most}, got {getattr(self, name).max()}")
        if self.tone not in TONES or self.channels not in (1, 3) or self.native_resize not in RESIZES:
            raise ValueError(
                "expected tone srgb or linear, 1 or 3 channels and native_resize linear or area, got "
                f"{self.tone}, {self.channels} and {self.native_resize}"
            )

    @staticmethod
    def neutral(n: int, **changes: Any) -> SensorSettings:
        """Settings of `n` frames that change nothing but what `changes` gives (a scalar is for all)."""
        values: dict[str, Any] = {}
        kinds = {"binarize": np.bool_, "jpeg_quality": np.int32, "native_px": np.int32, "mosaic": np.int32}
        for name in SensorSettings._arrays():
            value: NDArray[Any] = np.asarray(changes.pop(name, _NEUTRAL.get(name, 0)))
            kind = kinds.get(name, np.float32)
            value = (np.rint(value) if name == "native_px" else value).astype(kind)
            values[name] = np.broadcast_to(value, (n, _VECTORS[name]) if name in _VECTORS else (n,))
        return SensorSettings(**values, **changes)

    def rows(self, rows: slice | NDArray[np.intp]) -> SensorSettings:
        """The settings of some of the frames."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self._arrays()})

    @staticmethod
    def _arrays() -> list[str]:
        return [f.name for f in fields(SensorSettings) if f.name not in _SHARED]
