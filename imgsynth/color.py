"""Colour: sRGB transfer function, HSV, luminance, names; vectorized over leading axes."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

# CSS Color Module Level 4, §6.1: the sixteen basic names and the ones that scenes ask for most.
NAMES: dict[str, str] = {
    "black": "#000000",
    "silver": "#c0c0c0",
    "gray": "#808080",
    "grey": "#808080",
    "white": "#ffffff",
    "maroon": "#800000",
    "red": "#ff0000",
    "purple": "#800080",
    "fuchsia": "#ff00ff",
    "magenta": "#ff00ff",
    "green": "#008000",
    "lime": "#00ff00",
    "olive": "#808000",
    "yellow": "#ffff00",
    "navy": "#000080",
    "blue": "#0000ff",
    "teal": "#008080",
    "aqua": "#00ffff",
    "cyan": "#00ffff",
    "orange": "#ffa500",
    "brown": "#a52a2a",
    "pink": "#ffc0cb",
    "gold": "#ffd700",
    "ivory": "#fffff0",
    "beige": "#f5f5dc",
    "tan": "#d2b48c",
    "crimson": "#dc143c",
    "indigo": "#4b0082",
    "violet": "#ee82ee",
    "turquoise": "#40e0d0",
}

_HEX = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})\Z")
_LUMINANCE = (0.2126, 0.7152, 0.0722)


def srgb_to_linear(values: ArrayLike) -> NDArray[np.floating]:
    """Linear light of sRGB-encoded values (IEC 61966-2-1); float32 stays so, else float64."""
    v = _floating(values)
    high = ((np.maximum(v, 0) + 0.055) / 1.055) ** 2.4
    return np.where(v <= 0.04045, v / 12.92, high).astype(v.dtype, copy=False)


def linear_to_srgb(values: ArrayLike) -> NDArray[np.floating]:
    """sRGB encoding of linear light (IEC 61966-2-1); float32 stays so, else float64."""
    v = _floating(values)
    high = 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055
    return np.where(v <= 0.0031308, v * 12.92, high).astype(v.dtype, copy=False)


def hsv_to_rgb(hsv: ArrayLike) -> NDArray[np.float64]:
    """RGB in 0..1 of (..., 3) hue in degrees (any turn), saturation and value in 0..1 (Smith 1978)."""
    h, s, v = np.moveaxis(np.asarray(hsv, np.float64), -1, 0)
    # Channel n falls from v by v·s along a trapezoid of the hue: n = 5, 3, 1 for red, green, blue.
    k = (np.array([5.0, 3.0, 1.0]) + h[..., None] / 60.0) % 6.0
    return v[..., None] * (1 - s[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def luminance(linear_rgb: ArrayLike) -> NDArray[np.floating]:
    """Relative luminance (ITU-R BT.709-6, item 3.2) of linear RGB (..., 3) → (...)."""
    rgb = _floating(linear_rgb)
    return rgb @ np.array(_LUMINANCE, rgb.dtype)


def is_hex(text: str) -> bool:
    """Whether `text` is #rgb or #rrggbb."""
    return _HEX.match(text) is not None


def parse_color(text: str) -> tuple[float, float, float]:
    """The sRGB triple in 0..1 of #rgb, #rrggbb or one of NAMES.

    Raises:
        ValueError: none of these.
    """
    code = NAMES.get(text.lower(), text)
    if not is_hex(code):
        raise ValueError(f"expected a colour like '#ff8000' or a name like 'red', got '{text}'")
    digits = code[1:] if len(code) == 7 else "".join(2 * c for c in code[1:])
    r, g, b = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return r, g, b


def to_hex(rgb: tuple[float, float, float]) -> str | None:
    """#rrggbb of an sRGB triple, None where it does not give the triple back exactly."""
    levels = [round(c * 255) for c in rgb]
    exact = all(0 <= n <= 255 and n / 255 == c for n, c in zip(levels, rgb, strict=True))
    return "#" + "".join(f"{n:02x}" for n in levels) if exact else None


def _floating(values: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(values)
    return array if array.dtype == np.float32 else array.astype(np.float64)
