"""Skins as Mitsuba's scattering laws.

A surface is a sum of lobes: a rough conductor whose (η, k) follow Schlick's curve, the matte light below it,
and a clearcoat's conductor. The matte lobe loses what the gloss takes and gains what single-scattering facets
lose, so a white body in white light reflects all of it, rough metal too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from imgsynth.batch import F64
from imgsynth.render.skins import Skin, on_one_grid

LEAST_ROUGHNESS = 0.045
DIELECTRIC = 0.04
SMOOTH, ROUGH = 0.15, 0.55
"""Roughness up to which the matte lobe is dimmed by angle as below a smooth surface, and from which it is
Lambert's; mixed between."""
PASSED = 0.9084  # share of even light that enters a smooth surface of index 1.5
GIVEN = 0.007  # how far a rough surface's loss may be from the furnace's, to be nearer to glTF's direct light
LEAST_SHARE = 0.1  # of a lobe, in sampling
ANGLES = 128


def description(mi: Any, skin: Skin) -> dict[str, Any]:
    """The plugin tree of a skin."""
    if not (np.any(skin.albedo > 0) or np.any(skin.metallic < 1) or np.any(skin.coat > 0)):
        return {"type": "diffuse", "reflectance": {"type": "rgb", "value": [0.0, 0.0, 0.0]}}
    tree: dict[str, Any] = {"type": "twosided", "bsdf": _added(_lobes(mi, skin))}
    if skin.opacity is not None:
        tree = {"type": "mask", "opacity": image(mi, skin.opacity[..., None], "nearest"), "bsdf": tree}
    return tree


@dataclass(frozen=True)
class _Lobe:
    """A scattering law: its share of even light, for sampling, and its plugin, so many times as bright."""

    level: float
    scaled: Callable[[float], dict[str, Any]]


def _added(lobes: list[_Lobe]) -> dict[str, Any]:
    """The sum of lobes: `blendbsdf` takes shares of two, so each is divided by its share, which then only
    steers sampling.
    """
    level = np.array([lobe.level for lobe in lobes])
    share = np.maximum(level / max(level.sum(), 1e-9), LEAST_SHARE)
    share /= share.sum()
    tree = lobes[0].scaled(1 / share[0])
    for i in range(1, len(lobes)):
        tree = {"type": "blendbsdf", "weight": float(share[i] / share[: i + 1].sum()), "a": tree,
                "b": lobes[i].scaled(1 / share[i])}  # fmt: skip
    return tree


def _lobes(mi: Any, skin: Skin) -> list[_Lobe]:
    albedo, *numbers = on_one_grid(skin.albedo, skin.metallic, skin.roughness, skin.coat)
    metallic, rough, coat = (v[..., None] for v in numbers)
    film, film_rough = (np.full((1, 1, 1), v) for v in (DIELECTRIC, skin.coat_roughness))
    film_once = averages(film_rough, film)[0]
    f0 = DIELECTRIC * (1 - metallic) + albedo * metallic
    once, many = averages(rough, f0)
    smooth = np.clip((ROUGH - rough) / (ROUGH - SMOOTH), 0, 1)
    given = GIVEN * (1 - smooth)
    lost = np.clip(DIELECTRIC, once + many - given, once + many + given)
    passed = 1 - coat * film_once  # by the lacquer
    matte = albedo * (1 - metallic) * (1 - lost) * passed
    lambert, below = matte * (1 - smooth) + many * passed, matte * smooth / PASSED

    def bumpy(plugin: dict[str, Any]) -> dict[str, Any]:
        if skin.normal is None:
            return plugin
        return {"type": "normalmap", "normalmap": image(mi, skin.normal / 2 + 0.5), "bsdf": plugin}

    def plastic(times: float) -> dict[str, Any]:
        return {"type": "plastic", "diffuse_reflectance": image(mi, below * times), "int_ior": 1.5,
                "ext_ior": 1.0, "specular_reflectance": {"type": "rgb", "value": [0.0] * 3}}  # fmt: skip

    def lamberts(times: float) -> dict[str, Any]:
        return {"type": "diffuse", "reflectance": image(mi, lambert * times)}

    gloss, sheen = _conductor(mi, f0, rough, passed), _conductor(mi, film, film_rough, coat)
    out = [_Lobe(float((once * passed).mean()), lambda times: bumpy(gloss(times)))]
    if np.any(lambert > 1e-4):
        out.append(_Lobe(float(lambert.mean()), lambda times: bumpy(lamberts(times))))
    if np.any(below > 0):
        out.append(_Lobe(float(below.mean()), lambda times: bumpy(plastic(times))))
    if np.any(coat > 0):
        out.append(_Lobe(float((coat * film_once).mean()), sheen))
    return out


def _conductor(mi: Any, f0: F64, rough: F64, share: F64) -> Callable[[float], dict[str, Any]]:
    """A gloss of normal reflectance `f0`, `share` (h, w, 1) times as bright."""
    eta, k = conductor(f0)
    alpha = np.maximum(rough, LEAST_ROUGHNESS) ** 2
    width = float(alpha[0, 0, 0]) if alpha.size == 1 else image(mi, alpha)
    return lambda times: {
        "type": "roughconductor", "distribution": "ggx", "alpha": width, "eta": image(mi, eta),
        "k": image(mi, k), "specular_reflectance": image(mi, np.repeat(share * times, 3, 2)),
    }  # fmt: skip


def image(mi: Any, values: F64, filter_type: str = "bilinear") -> dict[str, Any]:
    """A texture of numbers as they are."""
    data = mi.TensorXf(np.ascontiguousarray(values, np.float32))
    return {"type": "bitmap", "data": data, "raw": True, "filter_type": filter_type}


@cache
def _lobes_seen(samples: int = 32) -> tuple[F64, F64]:
    """What a Trowbridge–Reitz gloss with Mitsuba's masking reflects of even light, by angle to its facets.

    (33, ANGLES) by roughness from 0 to 1: the share, averaged over directions of view by the cosine, that
    facets reflect at each of (ANGLES,) cosines. Half vectors are spread by the distribution itself.
    """
    t = (np.arange(samples) + 0.5) / samples
    nv, u, turn = np.meshgrid(np.sqrt(t), t, np.pi * t, indexing="ij")
    out = np.zeros((33, ANGLES))
    for i, rough in enumerate(np.linspace(0, 1, 33)):
        a2 = max(rough, LEAST_ROUGHNESS) ** 4
        nh = np.sqrt((1 - u) / (1 + (a2 - 1) * u))
        vh = np.sqrt((1 - nv * nv) * (1 - nh * nh)) * np.cos(turn) + nv * nh
        nl = 2 * vh * nh - nv
        seen = (nl > 0) & (vh > 0)
        masked = _unmasked(nv, a2) * _unmasked(np.maximum(nl, 1e-6), a2)
        weight = np.where(seen, masked * vh / (nv * nh), 0.0) / seen.size
        where = np.minimum((np.clip(vh, 0, 1) * ANGLES).astype(int), ANGLES - 1)
        out[i] = np.bincount(where.reshape(-1), weight.reshape(-1), ANGLES)
    return out, (np.arange(ANGLES) + 0.5) / ANGLES


def _unmasked(cos: F64, a2: float) -> F64:
    """Smith's share of facets that are seen from a direction."""
    out: F64 = 2 * cos / (cos + np.sqrt(cos * cos + a2 * (1 - cos * cos)))
    return out


@cache
def _reflected() -> tuple[F64, F64, F64]:
    """What a gloss of normal reflectance 0 to 1 (65,) and of roughness 0 to 1 (33,) reflects of even light.

    At once (65, 33), at once were nothing lost in its facets (33,), and the mean of Fresnel's curve (65,).
    """
    lobe, cosine = _lobes_seen()
    curve = fresnel(np.linspace(0, 1, 65)[:, None], cosine[None])
    return curve @ lobe.T, lobe.sum(1), curve @ (2 * cosine / ANGLES)


def averages(rough: F64, f0: F64) -> tuple[F64, F64]:
    """Shares of even light that a gloss reflects at once, and after more bounces between its facets.

    The latter after Fdez-Agüera (JCGT 8(1), 2019, eq. 10), with averages over all directions.
    """
    table, whole, means = _reflected()
    rough, f0 = np.broadcast_arrays(np.clip(rough, 0, 1), np.clip(f0, 0, 1))
    x, y = f0 * (len(means) - 1), rough * (len(whole) - 1)
    i, j = np.minimum(x.astype(int), len(means) - 2), np.minimum(y.astype(int), len(whole) - 2)
    fx, fy = x - i, y - j
    once = (1 - fx) * ((1 - fy) * table[i, j] + fy * table[i, j + 1])
    once = once + fx * ((1 - fy) * table[i + 1, j] + fy * table[i + 1, j + 1])
    mean, lost = (1 - fx) * means[i] + fx * means[i + 1], 1 - (1 - fy) * whole[j] - fy * whole[j + 1]
    return once, once * mean / (1 - mean * lost) * lost


def fresnel(f0: F64, cosine: F64) -> F64:
    """Reflectance of those conductors for unpolarized light by the cosine of its angle to the normal."""
    eta, k = conductor(f0)
    s2 = 1 - cosine * cosine
    both = np.sqrt((eta**2 - k**2 - s2) ** 2 + 4 * eta**2 * k**2)
    a = np.sqrt(np.maximum(0.5 * (both + eta**2 - k**2 - s2), 0))
    upright = (both + cosine**2 - 2 * a * cosine) / (both + cosine**2 + 2 * a * cosine)
    flat = both * cosine**2 + s2 * s2
    lying = upright * (flat - 2 * a * cosine * s2) / (flat + 2 * a * cosine * s2)
    out: F64 = 0.5 * (upright + lying)
    return out


EDGE_TINT = ((0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.0, 0.27, 0.74, 0.92, 0.99, 1.0))


def conductor(f0: F64) -> tuple[F64, F64]:
    """(η, k) of conductors with normal reflectance `f0` whose Fresnel curve is Schlick's to 0.01.

    Such conductors form a family with one free number, Gulbrandsen's edge tint (JCGT 3(4), 2014, eq. 5 and
    10); EDGE_TINT holds what comes nearest to Schlick's curve at 0° to 85°, by f0.
    """
    f0 = np.clip(f0, 1e-4, 0.999)
    tint = np.interp(f0, *EDGE_TINT)
    root = np.sqrt(f0)
    eta = tint * (1 - f0) / (1 + f0) + (1 - tint) * (1 + root) / (1 - root)
    k = np.sqrt(np.maximum((f0 * (eta + 1) ** 2 - (eta - 1) ** 2) / (1 - f0), 0.0))
    return eta, k
