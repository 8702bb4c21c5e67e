"""From a scene spec to numbers: the leaves of the tree, and their values for any (seed, frame index).

A frame is a pure function of a point in the unit cube. Every leaf is named by its path; a repeated group's
(objects', lamps') leaves carry their slot (``objects.die[3].material.roughness``), so raising a count, or
adding a leaf, changes no other draw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from imgsynth import seeding
from imgsynth.batch import I64
from imgsynth.distributions import Distribution, Field, parse, split_component
from imgsynth.errors import SceneError
from imgsynth.leaves import Shared
from imgsynth.scene import SceneSpec
from imgsynth.sobol import sobol_uniforms
from imgsynth.yamlfile import nearest

Array = NDArray[Any]
Sampler = Literal["random", "sobol"]
_SLOT = re.compile(r"^(?P<root>objects\.\w+|light\.lamps\.\w+)\[(?P<slot>\d+)\]\.(?P<rest>.+)$")


@dataclass(frozen=True)
class Leaf:
    """One leaf of the tree. `path` has no slot number; a leaf of a group stands for `slots` leaves."""

    path: str
    distribution: Distribution
    group: str | None = None
    slots: int = 1
    field: Field | None = None  # what the leaf accepts: expressions can be held to it only when sampled

    def names(self) -> list[str]:
        """The concrete paths, as hashed and as written to frames.parquet."""
        if self.group is None:
            return [self.path]
        head = _root(self.group)
        tail = self.path.removeprefix(head + ".")
        return [f"{head}[{slot}].{tail}" for slot in range(self.slots)]


class _Reference(NamedTuple):
    path: str
    slot: int | None = None
    component: int | None = None


@dataclass(frozen=True)
class Draws:
    """The values of all leaves for n frames: frame leaves (n, *event), group leaves (n, slots, *event)."""

    seed: int
    indices: I64
    values: Mapping[str, Array]
    counts: Mapping[str, NDArray[np.int64]]  # group → (n,)
    slots: Mapping[str, int]  # group → the most objects it can have

    def active(self, group: str) -> NDArray[np.bool_]:
        """(n, slots): which slots of a group are in the frame."""
        return np.arange(self.slots[group])[None, :] < self.counts[group][:, None]

    def __contains__(self, path: str) -> bool:
        return path in self.values

    def __getitem__(self, path: str) -> Array:
        return self.values[path]


@dataclass(frozen=True)
class Reader:
    """The values below one path, for chosen rows: (frame,) rows of frame leaves, (frame, slot) rows of a
    group's.
    """

    draws: Draws
    prefix: str
    frame: NDArray[np.intp]
    slot: NDArray[np.intp] | None = None

    def __call__(self, path: str) -> NDArray[Any]:
        """(m, ...) the values of a leaf below."""
        values = self.draws[f"{self.prefix}.{path}"]
        return values[self.frame] if self.slot is None else values[self.frame, self.slot]

    def at(self, path: str) -> Reader:
        """The reader of a branch."""
        return replace(self, prefix=f"{self.prefix}.{path}")


class Plan:
    """A compiled scene: its leaves in evaluation order.

    Raises:
        SceneError: an expression that names nothing, a cycle of expressions, a freeze or override of no leaf.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        groups: dict[str, Any] = {
            **spec.objects,
            **{f"light.lamps.{name}": lamp for name, lamp in spec.light.lamps.items()},
        }
        self.slots = {name: _most(f"{_root(name)}.count", item.count) for name, item in groups.items()}
        leaves = {leaf.path: leaf for leaf in self._walk(spec, "", None)}
        self.leaves: dict[str, Leaf] = {p: self._frozen(leaf) for p, leaf in leaves.items()}
        for pattern in spec.freeze:
            if not any(_under(p, pattern) for p in leaves):
                raise SceneError(f"names no leaf to freeze{nearest(pattern, leaves)}", path=pattern)
        self.overrides = self._overrides(spec.slots)
        self._order = self._evaluation_order()

    def _walk(self, node: Any, path: str, group: str | None, field: Field | None = None) -> Iterator[Leaf]:
        if isinstance(node, Distribution):
            if group is not None and path == f"{_root(group)}.count":
                group = None
            yield Leaf(path, node, group, self.slots[group] if group else 1, field)
        elif isinstance(node, BaseModel):
            group = None if isinstance(node, Shared) else group
            for name, info in type(node).model_fields.items():
                if not (path == "" and name in ("slots", "freeze")):
                    accepts = _field_in(info.annotation, info.metadata)
                    yield from self._walk(
                        getattr(node, name), _join(path, info.alias or name), group, accepts
                    )
        elif isinstance(node, Mapping):
            for name, item in node.items():
                owner = {"objects": name, "light.lamps": f"{path}.{name}"}.get(path, group)
                yield from self._walk(item, _join(path, name), owner, field)

    def _frozen(self, leaf: Leaf) -> Leaf:
        dist = leaf.distribution
        if dist.dims == 0 or dist.names or not any(_under(leaf.path, p) for p in self.spec.freeze):
            return leaf
        median = dist.median()
        return replace(
            leaf, distribution=parse(median.tolist() if isinstance(median, np.ndarray) else median, dist.kind)
        )

    def _overrides(self, slots: Mapping[str, Any]) -> dict[tuple[str, int], Distribution]:
        out = {}
        for path, node in slots.items():
            match = _SLOT.match(path)
            template = f"{match['root']}.{match['rest']}" if match else path
            if not match or template not in self.leaves or self.leaves[template].group is None:
                names = [leaf.names()[0] for leaf in self.leaves.values() if leaf.group]
                raise SceneError(f"names no leaf of a repeated group{nearest(path, names)}", path=path)
            leaf, slot = self.leaves[template], int(match["slot"])
            if slot >= leaf.slots:
                group = match["root"].rpartition(".")[2]
                raise SceneError(f"slot {slot} does not exist: {group} has at most {leaf.slots}", path=path)
            try:
                value = parse(node, leaf.distribution.kind)
            except ValueError as error:
                raise SceneError(str(error), path=path) from None
            if value.event_shape != leaf.distribution.event_shape or value.names:
                raise SceneError(f"expected a value like {leaf.distribution!r}, got {value!r}", path=path)
            out[template, slot] = value
        return out

    def _evaluation_order(self) -> list[str]:
        """Plain leaves first, then expressions so that each stands after all that it names."""
        order = [p for p, leaf in self.leaves.items() if not leaf.distribution.names]
        state: dict[str, int] = dict.fromkeys(order, 2)

        def visit(path: str, trail: tuple[str, ...]) -> None:
            if state.get(path) == 2:
                return
            if path in trail:
                cycle = " → ".join((*trail[trail.index(path) :], path))
                raise SceneError(f"expressions go round in a circle: {cycle}", path=path)
            leaf = self.leaves[path]
            for name in leaf.distribution.names:
                visit(self._resolve(leaf, name).path, (*trail, path))
            state[path] = 2
            order.append(path)

        for path in self.leaves:
            visit(path, ())
        return order

    def _resolve(self, leaf: Leaf, name: str) -> _Reference:
        """What `name` means inside `leaf`'s expression: a leaf, one slot's, or one component
        (``camera.target[2]``) of it.
        """
        if found := self._find(leaf, name):
            return found
        if (part := split_component(name)) and (found := self._find(leaf, part[0])):
            return found._replace(component=part[1])
        inside = [
            p.removeprefix(f"{_root(leaf.group)}.")
            for p in self.leaves
            if leaf.group and p.startswith(f"{_root(leaf.group)}.")
        ]
        raise SceneError(
            f"expression names {name!r}, which is no leaf{nearest(name, [*inside, *self.leaves])}",
            path=leaf.path,
        )

    def _find(self, leaf: Leaf, name: str) -> _Reference | None:
        """Innermost scope first, then from the root, then variables."""
        if match := _SLOT.match(name):
            target = f"{match['root']}.{match['rest']}"
            if target in self.leaves and int(match["slot"]) < self.leaves[target].slots:
                return _Reference(target, int(match["slot"]))
        scope = leaf.path
        while "." in scope:
            scope = scope.rpartition(".")[0]
            if scope in ("objects", "light.lamps"):
                break
            target = f"{scope}.{name}"
            if target in self.leaves and target != leaf.path:
                self._check_single(leaf, name, target)
                return _Reference(target)
        for target in (name, f"variables.{name}"):
            if target in self.leaves:
                self._check_single(leaf, name, target)
                return _Reference(target)
        return None

    def _check_single(self, leaf: Leaf, name: str, target: str) -> None:
        other = self.leaves[target]
        if other.group is not None and other.group != leaf.group:
            example = f", as in {other.names()[0]!r}" if other.slots else ""
            raise SceneError(f"{name!r} has a value for each object; name one{example}", path=leaf.path)

    @cached_property
    def varying(self) -> list[Leaf]:
        """The leaves that are not constants: the columns of frames.parquet."""
        overridden = {path for path, _ in self.overrides}
        return [
            f
            for f in self.leaves.values()
            if f.path in overridden or f.distribution.dims or f.distribution.names
        ]

    def sample(self, seed: int, indices: Sequence[int] | I64, sampler: Sampler = "random") -> Draws:
        """The values of all leaves for the given frames; each frame's depend on (seed, index) alone.

        Raises:
            SceneError: an expression gives a value that its leaf cannot take.
        """
        frames = np.asarray(indices, np.int64)
        draw = sobol_uniforms if sampler == "sobol" else seeding.uniforms
        values: dict[str, Array] = {}
        for path in self._order:
            leaf = self.leaves[path]
            values[path] = _draw(leaf, draw, seed, frames, self._named(leaf, values))
            for (template, slot), dist in self.overrides.items():
                if template == path:
                    values[path] = values[path].copy()
                    values[path][:, slot] = _draw(Leaf(leaf.names()[slot], dist), draw, seed, frames, {})
        counts = {name: values[f"{_root(name)}.count"].astype(np.int64) for name in self.slots}
        return Draws(seed, frames, values, counts, self.slots)

    def _named(self, leaf: Leaf, values: Mapping[str, Array]) -> dict[str, Array]:
        """The values that a leaf's expressions name, shaped to broadcast against the leaf's own."""
        env: dict[str, Array] = {}
        for name in leaf.distribution.names:
            target, slot, component = self._resolve(leaf, name)
            value = values[target] if slot is None else values[target][:, slot]
            if component is not None:
                if value.ndim == 1 or not 0 <= component < value.shape[-1]:
                    raise SceneError(f"{name!r}: {target} has no component {component}", path=leaf.path)
                value = value[..., component]
            if leaf.group is not None and (slot is not None or self.leaves[target].group is None):
                value = np.repeat(value[:, None], leaf.slots, 1)
            env[name] = value
        return env


def _draw(
    leaf: Leaf, draw: Callable[..., NDArray[np.float64]], seed: int, frames: I64, env: Mapping[str, Array]
) -> Array:
    dist, slots = leaf.distribution, leaf.slots if leaf.group else 1
    if dist.dims and slots:
        uniform = draw(seed, leaf.names(), frames, dist.dims)  # (n, slots, dims)
    else:
        uniform = np.empty((len(frames), slots, dist.dims))
    try:
        values = np.asarray(dist.ppf(uniform if leaf.group else uniform[:, 0], env))
        if (dist.names or dist.kind == "reference") and leaf.field is not None and slots:
            good = leaf.field.check(
                values.reshape(len(frames) * slots, *values.shape[2 if leaf.group else 1 :])
            )
            if not good.all():
                row = int(np.argmin(good))
                came = values.reshape(len(good), -1)[row].tolist()
                raise ValueError(
                    f"expected {leaf.field.describe()}, but the expression gives "
                    f"{came[0] if len(came) == 1 else came} in frame {frames[row // slots]}"
                )
        return values
    except ValueError as error:
        raise SceneError(str(error), path=leaf.path) from None


def _field_in(annotation: Any, metadata: Sequence[Any] = ()) -> Field | None:
    """The distribution field inside an annotation such as ``dict[str, Number] | None``."""
    found = next((m for m in metadata if isinstance(m, Field)), None)
    for inner in get_args(annotation) if found is None else ():
        found = found or (inner if isinstance(inner, Field) else _field_in(inner))
    return found


def _most(path: str, count: Distribution) -> int:
    if count.names:
        raise SceneError("a count cannot be an expression: its largest value must be known", path=path)
    support: Any = count.support()
    return int(np.max(np.asarray(support, np.float64)))


def _root(group: str) -> str:
    """The path of a group: those of lamps are named by it, those of objects by its last part."""
    return group if "." in group else f"objects.{group}"


def _under(path: str, pattern: str) -> bool:
    return path == pattern or path.startswith(pattern + ".")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)
