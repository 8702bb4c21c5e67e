"""A scene with some of its laws narrowed or widened, and everything else as it was.

A leaf keeps its uniform numbers whatever its law, so frames of the two scenes with the same (seed, index)
share every draw but the changed ones: what differs between them is the change and nothing else. All ablations
and tuning of ranges rest on this.

`factor` 0 holds a leaf at its median (as ``--freeze`` does), 1 leaves it as written, and what lies between or
beyond scales its spread about the median:

    uniform, box, beta       both ends, each on its own
    log_uniform              both ends, in the logarithm
    normal                   mean, sd and the ends of its truncation
    integer                  both ends, in whole steps
    disc, ball, cap, cone    radius or angle (below 1 they shrink to their centre, not to the median)
    choice, bernoulli,       the weights: below 1 towards the median's, above 1 towards equal ones
    mixture                  (w^(1/factor)); values never change, the laws inside a mixture do
    vector, rgb, hsv, …      each component
    uniform rotation,        left as they are (0 still holds the rotation)
    expressions

Ends stop at what the leaf accepts (a roughness stays within [0, 1]); where only one end is stopped, the
median moves to the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel

from imgsynth.distributions import Distribution, Field, parse
from imgsynth.distributions.discrete import Bernoulli, Choice, Integer, Mixture, pick
from imgsynth.distributions.pose import AxisRotation, ConeRotation, EulerRotation, Hsv, Quaternion, Rgb
from imgsynth.distributions.scalar import Beta, Constant, LogUniform, Normal, Uniform
from imgsynth.distributions.spatial import Ball, Box, Cap, Disc, Vector
from imgsynth.errors import SceneError
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec
from imgsynth.yamlfile import nearest

_MARGIN = 1e-3  # of the way from an open bound to the median: as near to it as a law is widened


def widened(spec: SceneSpec, paths: Iterable[str], factor: float) -> SceneSpec:
    """The scene with the leaves at or below `paths` narrowed or widened about their medians.

    Leaves that decide the class are left alone (else labels would change, and with them the batches), and so
    are those that the scene freezes.

    Raises:
        SceneError: a path that names nothing that varies, or only what decides the class; a factor below 0.
    """
    if not (np.isfinite(factor) and factor >= 0):
        raise SceneError(f"expected a factor of at least 0, got {factor}")
    plan = Plan(spec)
    chosen = chosen_leaves(plan, paths)
    laws = {path: plan.leaves[path] for path in chosen}
    changed = {path: scaled(leaf.distribution, factor, leaf.field) for path, leaf in laws.items()}
    slots = dict(spec.slots)
    for (template, slot), law in plan.overrides.items():
        if template in laws:
            name = plan.leaves[template].names()[slot]
            slots[name] = scaled(law, factor, laws[template].field).to_yaml()
    out: SceneSpec = _with_laws(spec, "", changed)
    return out.model_copy(update={"slots": slots}) if slots != spec.slots else out


def chosen_leaves(plan: Plan, paths: Iterable[str]) -> list[str]:
    """The varying leaves at or below `paths` (all, where there are none) that do not decide the class.

    Raises:
        SceneError: a path that names none.
    """
    fixed, varying = class_leaves(plan), [leaf.path for leaf in plan.varying]
    out: dict[str, None] = {}
    for pattern in paths:
        below = [p for p in varying if p == pattern or p.startswith(pattern + ".")]
        free = [p for p in below if p not in fixed and not plan.leaves[p].distribution.names]
        if not free:
            if pattern in plan.leaves and not below:
                raise SceneError("this leaf does not vary in the scene", path=pattern)
            if not below:
                branches = {p.rsplit(".", k)[0] for p in varying for k in range(p.count(".") + 1)}
                raise SceneError(
                    f"names nothing that varies{nearest(pattern, sorted(branches))}", path=pattern
                )
            why = "decides the class" if set(below) & fixed else "is worked out from other leaves"
            raise SceneError(f"{below[0]} {why}, so its range cannot be changed on its own", path=pattern)
        out.update(dict.fromkeys(free))
    return list(out)


def class_leaves(plan: Plan) -> set[str]:
    """Paths of the leaves that an object's class is, or is worked out from."""
    found: set[str] = set()
    waiting = [f"objects.{name}.class" for name in plan.spec.objects]
    while waiting:
        path = waiting.pop()
        if path in found or path not in plan.leaves:
            continue
        found.add(path)
        leaf = plan.leaves[path]
        waiting += [plan._resolve(leaf, name).path for name in leaf.distribution.names]
    return found


def branches(plan: Plan) -> list[str]:
    """The top branches that vary, and can: ``light``, ``sensor``, ``objects.die.material`` …"""
    fixed, out = class_leaves(plan), dict[str, None]()
    for leaf in plan.varying:
        if leaf.path not in fixed and not leaf.distribution.names:
            parts = leaf.path.split(".")
            out[".".join(parts[: 3 if parts[0] == "objects" else 1])] = None
    return list(out)


def as_sets(before: SceneSpec, after: SceneSpec) -> list[str]:
    """``PATH=VALUE`` lines (for ``--set``) that make `before` sample as `after` does."""
    old, new = Plan(before), Plan(after)
    lines = [
        f"{path}={_yaml(leaf.distribution.to_yaml())}"
        for path, leaf in new.leaves.items()
        if path in old.leaves and old.leaves[path].distribution != leaf.distribution
    ]
    return lines + [f"{k}={_yaml(v)}" for k, v in after.slots.items() if before.slots.get(k) != v]


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def _with_laws(node: Any, path: str, laws: Mapping[str, Distribution]) -> Any:
    """The same tree with other laws at some of its paths."""
    if isinstance(node, Distribution):
        return laws.get(path, node)
    if isinstance(node, Mapping):
        return {k: _with_laws(v, f"{path}.{k}" if path else k, laws) for k, v in node.items()}
    if not isinstance(node, BaseModel):
        return node
    changes = {}
    for name, info in type(node).model_fields.items():
        value = getattr(node, name)
        below = f"{path}.{info.alias or name}" if path else (info.alias or name)
        if any(p == below or p.startswith(below + ".") for p in laws):
            changes[name] = _with_laws(value, below, laws)
    return node.model_copy(update=changes) if changes else node


# ---- laws ----


def scaled(law: Distribution, factor: float, field: Field | None = None) -> Distribution:
    """A law with its spread about the median times `factor`, within what the field accepts.

    It takes as many uniform numbers as before, except at 0, where it is its median.
    """
    if factor == 1 or law.dims == 0 or law.names:
        return law
    if factor == 0:
        return _held(law)
    return _scaled(law, factor, _bounds(law, field))


def _bounds(law: Distribution, field: Field | None) -> tuple[float, float]:
    """What a field accepts of a law's numbers; a little inside of an open bound."""
    if field is None:
        return -np.inf, np.inf
    middle = np.asarray(law.median(), float) if law.kind in ("number", "vector") else np.zeros(1)
    low = field.ge if field.gt is None else field.gt + _MARGIN * (float(middle.min()) - field.gt)
    high = field.le if field.lt is None else field.lt - _MARGIN * (field.lt - float(middle.max()))
    return -np.inf if low is None else low, np.inf if high is None else high


def tunable(plan: Plan) -> list[str]:
    """Leaves of one number whose range can be moved: what `moved` takes, and what is no seed or class."""
    fixed = class_leaves(plan)
    return [
        leaf.path
        for leaf in plan.varying
        if isinstance(leaf.distribution, Uniform | LogUniform | Normal | Integer | Beta)
        and leaf.path not in fixed
        and not leaf.path.endswith(".seed")
    ]


def moved(spec: SceneSpec, moves: Mapping[str, tuple[float, float]]) -> SceneSpec:
    """The scene with ranges moved: path → (shift in half-widths of the range as written, factor of its
    width).

    The half-width of a normal is its sd, that of a log_uniform is in the logarithm.

    Raises:
        SceneError: a path whose range cannot be moved.
    """
    plan = Plan(spec)
    valid, laws = tunable(plan), {}
    for path, (shift, factor) in moves.items():
        if path not in valid:
            raise SceneError(f"is no range of numbers that can be tuned{nearest(path, valid)}", path=path)
        leaf = plan.leaves[path]
        law = scaled(leaf.distribution, factor, leaf.field)
        laws[path] = _shifted(leaf.distribution, law, shift, _bounds(leaf.distribution, leaf.field))
    out: SceneSpec = _with_laws(spec, "", laws)
    return out


def _shifted(written: Any, law: Any, shift: float, bounds: tuple[float, float]) -> Distribution:
    if shift == 0:
        return law
    if isinstance(law, LogUniform):
        by = (written.high / written.low) ** (shift / 2)
        ends = [_plain(min(max(v * by, bounds[0]), bounds[1])) for v in (law.low, law.high)]
        return LogUniform(*ends)
    half = written.sd if isinstance(written, Normal) else (written.high - written.low) / 2
    low, high = (_plain(min(max(v + shift * half, bounds[0]), bounds[1])) for v in (law.low, law.high))
    if isinstance(law, Normal):
        center = _plain(law.center + shift * half)
        return law if low >= high else Normal(center, law.sd, low, high)
    if isinstance(law, Integer):
        return Integer(round(low), round(high))
    return replace(law, low=low, high=high)


def _held(law: Distribution) -> Distribution:
    """Always the law's median."""
    median = law.median()
    if law.kind == "color":
        return Rgb(tuple(Constant(float(np.clip(v, 0, 1))) for v in median))  # type: ignore[arg-type]
    if law.kind == "rotation":
        return Quaternion(tuple(median.tolist()))
    return parse(median.tolist() if isinstance(median, np.ndarray) else median, law.kind)


def _scaled(law: Distribution, f: float, bounds: tuple[float, float]) -> Distribution:
    match law:
        case Uniform() | Beta() | LogUniform() | Normal() | Integer():
            return _number(law, f, bounds)
        case Choice():
            return Choice(law.values, _weights(law.weights, f))
        case Bernoulli():
            return Bernoulli(_weights((1 - law.p, law.p), f)[1])
        case Mixture():
            parts = tuple(c if c.dims == 0 else _scaled(c, f, bounds) for c in law.components)
            return Mixture(parts, _weights(law.weights, f))
        case Vector():
            return Vector(_each(law.components, f, [bounds] * len(law.components)))
        case Rgb() | Hsv():
            unit, hue = (0.0, 1.0), (-np.inf, np.inf)
            limits = [unit if isinstance(law, Rgb) else hue, unit, unit]
            return replace(law, components=_each(law.components, f, limits))
        case EulerRotation():
            return replace(law, components=_each(law.components, f, [(-np.inf, np.inf)] * 3))
        case AxisRotation():
            return replace(law, angle_deg=_each((law.angle_deg,), f, [(-np.inf, np.inf)])[0])
        case ConeRotation():
            return replace(law, angle_deg=min(180.0, _plain(law.angle_deg * f)))
        case Cap():
            return _cap(law, f)
        case Box():
            ends = [_ends(a, (a + b) / 2, b, f, bounds) for a, b in zip(law.low, law.high, strict=True)]
            return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
        case Disc() | Ball():
            return replace(law, radius=_plain(law.radius * f))
    return law


def _each(parts: Iterable[Distribution], f: float, bounds: Iterable[tuple[float, float]]) -> tuple[Any, ...]:
    return tuple(
        c if c.dims == 0 or c.names else _scaled(c, f, b) for c, b in zip(parts, bounds, strict=True)
    )


def _number(law: Any, f: float, bounds: tuple[float, float]) -> Distribution:
    median = float(law.median())
    if isinstance(law, Integer):
        down = round(f * (median - law.low))
        up = min(max(round(f * (law.high - median)), down - 1), down)  # so that the median stays
        low, high = max(median - down, bounds[0]), min(median + up, bounds[1])
        return Integer(int(min(low, median)), int(max(high, median)))
    if isinstance(law, LogUniform):
        a, b = (float(v) for v in np.log([law.low, law.high]))
        low, high = (_plain(float(np.exp(v))) for v in _ends(a, (a + b) / 2, b, f))
        return LogUniform(max(low, bounds[0]), min(high, bounds[1]))
    low, high = _ends(law.low, median, law.high, f, bounds)
    if isinstance(law, Normal):
        if low >= high or law.sd * f < 1e-300:  # narrower than numbers can tell
            return Uniform(median, median)
        return Normal(_plain(median + f * (law.center - median)), _plain(law.sd * f), low, high)
    return replace(law, low=low, high=high)


def _ends(
    low: float, middle: float, high: float, f: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Both ends at `f` times their distance from the middle, within bounds; infinite ones stay so."""
    a, b = (_plain(float(middle + f * (end - middle))) for end in (low, high))
    return max(a, min(bounds[0], low)), min(b, max(bounds[1], high))


def _plain(value: float) -> float:
    """12 digits of a number: .6 rather than .6000000000000001."""
    return float(f"{value:.12g}")


def _weights(weights: tuple[float, ...], f: float) -> tuple[float, ...]:
    """Below 1: so much of the weights, the rest on the median's; above 1: flatter. None of 0 gains any."""
    w = np.array(weights, float)
    if f > 1:
        w = np.where(w > 0, w ** (1 / f), 0.0)
        return tuple((w / w.sum()).tolist())
    held = np.zeros(len(w))
    held[int(pick(np.array(0.5), weights))] = 1 - f
    return tuple((f * w + held).tolist())


def _cap(law: Cap, f: float) -> Cap:
    if law.inner_deg == 0:
        return replace(law, outer_deg=min(180.0, _plain(law.outer_deg * f)))
    low, high = _ends(law.inner_deg, (law.inner_deg + law.outer_deg) / 2, law.outer_deg, f, (0.0, 180.0))
    return replace(law, inner_deg=low, outer_deg=high)
