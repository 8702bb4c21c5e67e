"""A clear sky as an environment map: Preetham, Shirley and Smits (1999), "A practical analytic model for
daylight".
"""

from __future__ import annotations

import numpy as np

from imgsynth.batch import F32, F64
from imgsynth.color import luminance

ROWS = 32
"""Rows of a sky's map, 5.6° each: the model is smooth but at its horizon, between two rows."""
# Appendix A.2: the five coefficients of Perez's formula for Y, x and y, as (slope, constant) in turbidity.
_PEREZ = np.array(
    [
        [[0.1787, -1.4630], [-0.3554, 0.4275], [-0.0227, 5.3251], [0.1206, -2.5771], [-0.0670, 0.3703]],
        [[-0.0193, -0.2592], [-0.0665, 0.0008], [-0.0004, 0.2125], [-0.0641, -0.8989], [-0.0033, 0.0452]],
        [[-0.0167, -0.2608], [-0.0950, 0.0092], [-0.0079, 0.2102], [-0.0441, -1.6537], [-0.0109, 0.0529]],
    ]
)
# The zenith's x and y: (T², T, 1) · matrix · (θ³, θ², θ, 1).
_ZENITH = np.array(
    [
        [[0.00166, -0.00375, 0.00209, 0.0], [-0.02903, 0.06377, -0.03202, 0.00394],
         [0.11693, -0.21196, 0.06052, 0.25886]],
        [[0.00275, -0.00610, 0.00317, 0.0], [-0.04214, 0.08970, -0.04153, 0.00516],
         [0.15346, -0.26756, 0.06670, 0.26688]],
    ]
)  # fmt: skip
# IEC 61966-2-1: linear sRGB of XYZ (D65).
_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
_LOWEST = np.radians(2.0)  # the model is of day: a lower sun is taken to stand here


def directions(rows: int) -> F64:
    """(rows, 2·rows, 3) directions of an equirectangular map's texels: the middle is +x, azimuth
    grows to the left, the top row is the zenith.
    """
    polar = (np.arange(rows) + 0.5) * np.pi / rows
    azimuth = (0.5 - (np.arange(2 * rows) + 0.5) / (2 * rows)) * 2 * np.pi
    sin, cos = np.sin(polar)[:, None], np.cos(polar)[:, None]
    return np.stack(
        [sin * np.cos(azimuth), sin * np.sin(azimuth), np.broadcast_to(cos, (rows, 2 * rows))], -1
    )


def sky(sun: F64, turbidity: float, irradiance: float, ground: F64, sunlight: F64) -> F32:
    """One sky, (ROWS, 2·ROWS, 3) linear radiance; the sun itself is left out.

    Args:
        sun: (3,) unit, towards the sun.
        turbidity: 2 (clear) to 10 (haze).
        irradiance: luminance of the light that the sky gives level ground.
        ground: (3,) albedo of what is below the horizon; it is lit by sky and sun.
        sunlight: (3,) irradiance of the sun on a surface facing it.
    """
    d = directions(ROWS)
    height = np.maximum(np.arcsin(np.clip(sun[2], -1, 1)), _LOWEST)
    flat = sun[:2] / max(float(np.hypot(*sun[:2])), 1e-9)
    at = np.array([*(flat * np.cos(height)), np.sin(height)])
    upper = d[: ROWS // 2]
    yxy = _chromatic(upper[..., 2], np.clip(upper @ at, -1, 1), np.pi / 2 - height, turbidity)
    xyz = (
        np.stack([yxy[1] / yxy[2], np.ones_like(yxy[0]), (1 - yxy[1] - yxy[2]) / yxy[2]], -1)
        * yxy[0][..., None]
    )
    rgb = np.maximum(xyz @ _RGB.T, 0)
    edges = np.cos(np.pi * np.arange(ROWS // 2 + 1) / ROWS)
    weight = (edges[:-1] ** 2 - edges[1:] ** 2) / 2 * np.pi / ROWS  # cosine times solid angle of a texel
    level = np.einsum("hwc,h->c", rgb, weight)
    scale = irradiance / max(float(luminance(level)), 1e-9)
    below = ground * (level * scale + sunlight * max(sun[2], 0.0)) / np.pi
    return np.concatenate([rgb * scale, np.broadcast_to(below, rgb.shape)]).astype(np.float32)


def _chromatic(cos_zenith: F64, cos_sun: F64, zenith: float, turbidity: float) -> list[F64]:
    """Y (kcd/m²), x and y of sky directions, by eqs. 3 and 4 and appendix A.2."""
    chi = (4 / 9 - turbidity / 120) * (np.pi - 2 * zenith)
    bright = (4.0453 * turbidity - 4.9710) * np.tan(chi) - 0.2155 * turbidity + 2.4192
    powers = np.array([turbidity**2, turbidity, 1.0])
    x, y = (powers @ m @ np.array([zenith**3, zenith**2, zenith, 1.0]) for m in _ZENITH)
    cos_zenith = np.maximum(cos_zenith, 1e-3)
    out = []
    for value, rows in zip((max(bright, 1e-3), x, y), _PEREZ, strict=True):
        coefficients = rows @ [turbidity, 1.0]
        here = _perez(coefficients, cos_zenith, cos_sun)
        out.append(value * here / _perez(coefficients, np.ones(1), np.cos(np.array([zenith]))))
    return out


def _perez(c: F64, cos_zenith: F64, cos_sun: F64) -> F64:
    """Perez, Seals and Michalsky (1993): (1 + A e^{B/cos θ})(1 + C e^{D γ} + E cos² γ)."""
    gamma = np.arccos(np.clip(cos_sun, -1, 1))
    return np.asarray(
        (1 + c[0] * np.exp(c[1] / cos_zenith)) * (1 + c[2] * np.exp(c[3] * gamma) + c[4] * cos_sun**2)
    )
