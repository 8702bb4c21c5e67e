# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018
"""Environment maps on the device: filtered once for each roughness, and looked up by direction.

The split sum of Karis (2013, "Real shading in Unreal Engine 4", pp. 3–8): the map averaged under the lobe
seen straight on, times the lobe's own reflectance by n·v and roughness. Averages are taken over all texels of
a smaller map within the lobe's reach, so nothing is sampled and nothing is noisy. The light that bounces more
than once inside the micro-surface is given back after Fdez-Agüera (2019, "A multiple-scattering microfacet
model for real-time image-based lighting"), so white stays white.
"""

from __future__ import annotations

import cv2
import numpy as np
import warp as wp

from imgsynth.render.arrays import OPTIONS
from imgsynth.render.finish import Matter
from imgsynth.render.polygon import PI, arc_cosine

wp.set_module_options(OPTIONS)

LEVELS = wp.constant(9)  # roughness 0, 1/8 … 1; level 9 is what a diffuse surface sees
HALF_PI = wp.constant(1.57079633)
SHADES = wp.constant(32)  # sides of the table of reflectances
FINE = ((0, 0), (256, 128), (128, 64), (64, 64), (64, 32), (32, 32), (32, 16), (32, 16), (32, 16), (64, 32))
COARSE = ((0, 0), (32, 32), (32, 32), (32, 16), (16, 16), (16, 16), (16, 8), (16, 8), (16, 8), (32, 16))
"""Rows of the source and of the result for each level: of maps of more than 64 rows, and of others."""


@wp.func
def angles(d: wp.vec3) -> wp.vec2:
    """Azimuth about z, -π … π, and angle from +z of a unit direction, without the C library."""
    r = wp.sqrt(d[0] * d[0] + d[1] * d[1])
    azimuth = float(0.0)
    if r > 0.0:
        if wp.abs(d[0]) > wp.abs(d[1]):
            azimuth = HALF_PI - arc_cosine(d[1] / r)
            if d[0] < 0.0:
                azimuth = wp.where(d[1] < 0.0, -PI, PI) - azimuth
        else:
            azimuth = arc_cosine(d[0] / r) * wp.where(d[1] < 0.0, -1.0, 1.0)
    polar = arc_cosine(d[2])
    if wp.abs(d[2]) > 0.7:
        polar = HALF_PI - arc_cosine(r)
        polar = wp.where(d[2] < 0.0, PI - polar, polar)
    return wp.vec2(azimuth, polar)


@wp.func
def texel(e: wp.array(dtype=wp.vec3), level: wp.vec3i, place: wp.vec2) -> wp.vec3:
    """Bilinear radiance of a level (start, height, width) at (azimuth, polar angle).

    Beyond the first and the last row lies the same row half a turn away: the map goes on over its poles.
    """
    height = level[1]
    width = level[2]
    x = (0.5 - place[0] * (0.5 / PI)) * float(width) - 0.5
    y = place[1] * (float(height) / PI) - 0.5
    ix = int(wp.floor(x))
    iy = wp.clamp(int(wp.floor(y)), -1, height - 1)
    fx = x - float(ix)
    fy = y - float(iy)
    xa = (ix + 2 * width) % width
    xb = (xa + 1) % width
    top = level[0] + wp.max(iy, 0) * width
    low = level[0] + wp.min(iy + 1, height - 1) * width
    over = wp.where(iy < 0, width / 2, 0)
    under = wp.where(iy == height - 1, width / 2, 0)
    a = e[top + (xa + over) % width] * (1.0 - fx) + e[top + (xb + over) % width] * fx
    b = e[low + (xa + under) % width] * (1.0 - fx) + e[low + (xb + under) % width] * fx
    return a * (1.0 - fy) + b * fy


@wp.func
def glimpse(
    texels: wp.array(dtype=wp.vec3),
    levels: wp.array(dtype=wp.vec3i),
    environment: int,
    d: wp.vec3,
    rough: float,
) -> wp.vec3:
    """Radiance of an environment map about direction d (unit, the map's frame), averaged under a lobe."""
    first = environment * (LEVELS + 1)
    lod = wp.clamp(rough, 0.0, 1.0) * float(LEVELS - 1)
    k = wp.min(int(lod), LEVELS - 2)
    part = lod - float(k)
    place = angles(d)
    out = texel(texels, levels[first + k], place)
    if part > 0.0:
        out = out * (1.0 - part) + texel(texels, levels[first + k + 1], place) * part
    return out


@wp.func
def spread_light(
    texels: wp.array(dtype=wp.vec3), levels: wp.array(dtype=wp.vec3i), environment: int, d: wp.vec3
) -> wp.vec3:
    """Irradiance from an environment map on a surface of normal d, over π."""
    return texel(texels, levels[environment * (LEVELS + 1) + LEVELS], angles(d))


@wp.func
def reflectance(t: wp.array(dtype=wp.vec2), nv: float, rough: float) -> wp.vec2:
    """Scale and bias of f0 in a lobe's reflectance, by n·v and roughness."""
    x = wp.clamp(nv, 0.0, 1.0) * float(SHADES - 1)
    y = wp.clamp(rough, 0.0, 1.0) * float(SHADES - 1)
    ix = wp.min(int(x), SHADES - 2)
    iy = wp.min(int(y), SHADES - 2)
    fx = x - float(ix)
    fy = y - float(iy)
    a = t[iy * SHADES + ix] * (1.0 - fx) + t[iy * SHADES + ix + 1] * fx
    b = t[(iy + 1) * SHADES + ix] * (1.0 - fx) + t[(iy + 1) * SHADES + ix + 1] * fx
    return a * (1.0 - fy) + b * fy


@wp.func
def from_environment(m: Matter, shade: wp.vec2, gloss: wp.vec3, wide: wp.vec3) -> wp.vec3:
    """Light reflected from around: `gloss` is the radiance under the lobe, `wide` the irradiance over π."""
    one = wp.vec3(1.0, 1.0, 1.0)
    single = m.f0 * shade[0] + one * shade[1]
    lost = 1.0 - shade[0] - shade[1]
    mean = m.f0 + (one - m.f0) * (1.0 / 21.0)
    many = wp.cw_div(wp.cw_mul(single, mean), one - mean * lost) * lost
    below = wp.cw_mul(m.diffuse, one - single - many)
    return wp.cw_mul(single, gloss) + wp.cw_mul(many + below, wide)


@wp.kernel
def average(
    source: wp.array2d(dtype=wp.vec3),
    weights: wp.array(dtype=wp.float32),
    a2: wp.float32,
    reach: wp.float32,
    out: wp.array2d(dtype=wp.vec3),
):
    """Weighted mean of a map about each texel of `out`: under a lobe of α², within `reach` radians; of the
    cosine where α² is below 0.

    `weights` are the solid angles of a texel in each row of the source.
    """
    tid = wp.tid()
    rows = out.shape[0]
    columns = out.shape[1]
    height = source.shape[0]
    width = source.shape[1]
    i = tid / columns
    j = tid - i * columns
    polar = (float(i) + 0.5) * PI / float(rows)
    azimuth = (float(j) + 0.5) / float(columns) * float(width)  # in columns of the source
    c0 = wp.cos(polar)
    s0 = wp.sin(polar)
    total = wp.vec3(0.0, 0.0, 0.0)
    sum = float(0.0)
    first = wp.max(int(wp.floor((polar - reach) / PI * float(height))), 0)
    last = wp.min(int(wp.ceil((polar + reach) / PI * float(height))), height)
    for y in range(first, last):
        angle = (float(y) + 0.5) * PI / float(height)
        c = wp.cos(angle)
        s = wp.sin(angle)
        cut = (wp.cos(reach) - c * c0) / (s * s0)
        half = width
        if cut > -1.0:
            half = int(wp.ceil(arc_cosine(wp.min(cut, 1.0)) / (2.0 * PI) * float(width))) + 1
        left = int(wp.floor(azimuth)) - half
        count = wp.min(2 * half + 1, width)
        if count == width:
            left = 0
        for k in range(count):
            x = (left + k + 2 * width) % width
            turn = (float(x) + 0.5 - azimuth) * 2.0 * PI / float(width)
            dot = c * c0 + s * s0 * wp.cos(turn)
            if dot > 0.0:
                weight = dot * weights[y]
                if a2 >= 0.0:
                    spread = 0.5 * (1.0 + dot) * (a2 - 1.0) + 1.0
                    weight = weight / (spread * spread)
                total += source[y, x] * weight
                sum += weight
    out[i, j] = total / wp.max(sum, 1.0e-20)


def solid_angles(height, width):
    """(height,) solid angle of a texel in each row of an equirectangular map."""
    edges = np.cos(np.pi * np.arange(height + 1) / height)
    return 2 * np.pi / width * (edges[:-1] - edges[1:])


def shrunk(image, rows):
    """A map of at most `rows` rows, each texel the mean, by solid angle, of what it covers."""
    if image.shape[0] <= rows:
        return image
    weight = solid_angles(*image.shape[:2])[:, None].astype(np.float32)
    weighted = np.concatenate(
        [image * weight[..., None], np.broadcast_to(weight[..., None], (*image.shape[:2], 1))], 2
    )
    small = cv2.resize(
        np.ascontiguousarray(weighted, np.float32), (2 * rows, rows), interpolation=cv2.INTER_AREA
    )
    return np.ascontiguousarray(small[..., :3] / small[..., 3:])


def filtered_levels(memory, image):
    """The levels of one map, (h, w, 3) float32 each: roughness 0, 1/8 … 1, then what diffuse surfaces see."""
    plan = FINE if image.shape[0] > 64 else COARSE
    out = [np.ascontiguousarray(image, np.float32)]
    for k, (source_rows, rows) in enumerate(plan[1:], 1):
        source = shrunk(image, source_rows)
        height, width = source.shape[:2]
        rows = min(rows, height)
        made = memory.empty((rows, 2 * rows), wp.vec3)
        alpha = (k / (LEVELS - 1)) ** 2
        # The lobe's tail falls to a thousandth where tan θ of the half vector is 5.5 α.
        reach = np.pi if k == LEVELS else min(2 * np.arctan(5.5 * alpha), np.pi)
        weights = memory.up(solid_angles(height, width).astype(np.float32), wp.float32)
        inputs = [memory.up(source, wp.vec3), weights, -1.0 if k == LEVELS else alpha**2, float(reach), made]
        wp.launch(average, dim=2 * rows * rows, inputs=inputs, device=memory.device)
        out.append(memory.down(made).copy())
    return out


def reflectances(samples=64):
    """(SHADES², 2) float32: scale and bias of f0 by roughness (rows) and n·v, by importance sampling of the
    lobe on a grid, with the height-correlated masking that lamps have (Karis 2013, p. 7).
    """
    side = int(SHADES)
    nv = np.maximum(np.linspace(0, 1, side), 1e-3)[None, :, None]
    a = np.maximum(np.linspace(0, 1, side), 0.02)[:, None, None] ** 2
    t = (np.arange(samples) + 0.5) / samples
    u, phi = (g.reshape(1, 1, -1) for g in np.meshgrid(t, 2 * np.pi * t, indexing="ij"))
    cos = np.sqrt((1 - u) / (1 + (a * a - 1) * u))
    sin = np.sqrt(np.maximum(1 - cos * cos, 0))
    vh = np.sqrt(1 - nv * nv) * sin * np.cos(phi) + nv * cos
    nl = 2 * vh * cos - nv
    smith = nl * np.sqrt(nv * nv * (1 - a * a) + a * a) + nv * np.sqrt(nl * nl * (1 - a * a) + a * a)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where((nl > 0) & (vh > 0), 2 * nl * vh / (smith * cos), 0.0)
    fresnel = (1 - np.clip(vh, 0, 1)) ** 5
    out = np.stack([(weight * (1 - fresnel)).mean(2), (weight * fresnel).mean(2)], -1)
    return out.reshape(-1, 2).astype(np.float32)
