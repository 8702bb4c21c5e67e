"""Expressions of other leaves: a small, safe arithmetic over arrays.

The grammar is Python's, restricted: + - * / // % **, comparisons, ``a if c else b``, and/or/not, the
functions below, and dotted names such as ``camera.fov_deg`` or ``objects.die[0].size``. All arithmetic is
float64 over the frames' axis, so no expression can hang or grow: its cost is its length times the number of
frames. An expression that is one name is a reference, and takes over values of any kind.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgsynth.distributions.base import Distribution, DistributionError, Env, lead, shown

MAX_LENGTH = 500
MAX_NODES = 200
MAX_DEPTH = 40

_BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
# name: (function, least and greatest number of arguments)
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "min": (lambda *a: _fold(np.minimum, a), 2, 16),
    "max": (lambda *a: _fold(np.maximum, a), 2, 16),
    "abs": (np.abs, 1, 1),
    "sqrt": (np.sqrt, 1, 1),
    "sin_deg": (lambda a: np.sin(np.radians(a)), 1, 1),
    "cos_deg": (lambda a: np.cos(np.radians(a)), 1, 1),
    "tan_deg": (lambda a: np.tan(np.radians(a)), 1, 1),
    "exp": (np.exp, 1, 1),
    "log": (np.log, 1, 1),
    "floor": (np.floor, 1, 1),
    "ceil": (np.ceil, 1, 1),
    "round": (np.round, 1, 1),
    "clip": (lambda a, low, high: _fold(np.minimum, (_fold(np.maximum, (a, low)), high)), 3, 3),
    "where": (lambda c, a, b: _where(c, a, b), 3, 3),
}
_COMPONENT = re.compile(r"(.+)\[(\d+)\]\Z")


def split_component(name: str) -> tuple[str, int] | None:
    """("camera.position", 2) of "camera.position[2]": a name that is no leaf may be a component of one."""
    match = _COMPONENT.match(name)
    return (match[1], int(match[2])) if match else None


@dataclass(frozen=True)
class Expression(Distribution):
    """A value computed from other leaves. `source` is kept as written.

    Raises:
        DistributionError: a syntax error, a forbidden construct, an unknown function, or too long a text.
    """

    source: str
    _tree: ast.expr = field(init=False, repr=False, compare=False)
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    kind: ClassVar[str] = "reference"
    event_shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        tree = _parse(self.source)
        names: set[str] = set()
        _check(tree, names, self.source, 0)
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "_names", tuple(sorted(names)))

    @property
    def dims(self) -> int:
        """None."""
        return 0

    @property
    def names(self) -> tuple[str, ...]:
        """Dotted names that occur, sorted."""
        return self._names

    @property
    def reference(self) -> str | None:
        """The name, where the whole expression is one."""
        return self._names[0] if isinstance(self._tree, ast.Name | ast.Attribute | ast.Subscript) else None

    def evaluate(self, env: Env) -> NDArray[Any]:
        """The value over `env`, which maps every name to an array with one row a frame.

        A name that `env` lacks but whose last ``[k]`` can be split off is component k of the rest.

        Raises:
            DistributionError: an unknown name, text in arithmetic, or a result that is not finite.
        """
        with np.errstate(all="ignore"):  # only the result must be finite: where(x > 0, log(x), 0) is fine
            value = np.asarray(_evaluate(self._tree, env, self.source))
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = value[~np.isfinite(value)].flat[0]
            raise DistributionError(f"expected '{self.source}' to be finite, got {bad}")
        return value

    def ppf(self, u: NDArray[np.float64], env: Env | None = None) -> NDArray[Any]:
        """`evaluate`, repeated over the batch where the expression names nothing."""
        value = self.evaluate(env or {})
        return np.full(lead(u), value) if value.ndim == 0 else value

    def support(self) -> tuple[Any, ...]:
        """(NaN, NaN): unknown until sampled."""
        return np.nan, np.nan

    def median(self) -> Any:
        """Undefined: raises DistributionError, for an expression has no law of its own."""
        raise DistributionError(
            f"expected a law, got the expression '{self.source}', which has no median of its own"
        )

    def mean(self) -> Any:
        """Undefined: raises DistributionError."""
        raise DistributionError(
            f"expected a law, got the expression '{self.source}', which has no mean of its own"
        )

    def to_yaml(self) -> Any:
        """{expr: source}."""
        return {"expr": self.source}


def _parse(source: object) -> ast.expr:
    if not isinstance(source, str) or not source.strip():
        raise DistributionError(f"expected an expression such as '2 * radius', got {shown(source)}")
    if len(source) > MAX_LENGTH:
        raise DistributionError(
            f"expected an expression of at most {MAX_LENGTH} characters, got {len(source)}"
        )
    try:
        return ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise DistributionError(
            f"expected an expression such as '2 * radius', got '{shown(source)}': {reason}"
        ) from None


def _check(root: ast.expr, names: set[str], source: str, depth: int) -> None:
    """Refuse all but the grammar, before anything is evaluated; collect the names."""
    if sum(1 for _ in ast.walk(root)) > MAX_NODES or depth > MAX_DEPTH:
        raise DistributionError(f"expected a simpler expression, got '{shown(source)}'")
    if isinstance(root, ast.Name | ast.Attribute | ast.Subscript):
        names.add(_dotted(root, source))
        return
    if isinstance(root, ast.Call):
        _check_call(root, source)
        children: list[ast.expr] = root.args
    elif isinstance(root, ast.Constant):
        _check_constant(root.value, source)
        children = []
    elif isinstance(root, ast.BinOp) and type(root.op) in _BINARY:
        children = [root.left, root.right]
    elif isinstance(root, ast.UnaryOp) and isinstance(root.op, ast.UAdd | ast.USub | ast.Not):
        children = [root.operand]
    elif isinstance(root, ast.Compare) and all(type(op) in _COMPARE for op in root.ops):
        children = [root.left, *root.comparators]
    elif isinstance(root, ast.BoolOp):
        children = root.values
    elif isinstance(root, ast.IfExp):
        children = [root.test, root.body, root.orelse]
    else:
        part = shown(ast.unparse(root))
        raise DistributionError(f"expected arithmetic in an expression, got '{part}' in '{shown(source)}'")
    for child in children:
        _check(child, names, source, depth + 1)


def _check_call(call: ast.Call, source: str) -> None:
    name = call.func.id if isinstance(call.func, ast.Name) else shown(ast.unparse(call.func))
    if name not in _FUNCTIONS:
        near = difflib.get_close_matches(name, _FUNCTIONS, 1, 0.4)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DistributionError(f"expected a function out of {', '.join(_FUNCTIONS)}, got '{name}'{hint}")
    _, least, most = _FUNCTIONS[name]
    if (
        call.keywords
        or not least <= len(call.args) <= most
        or any(isinstance(a, ast.Starred) for a in call.args)
    ):
        count = str(least) if least == most else f"{least} to {most}"
        raise DistributionError(f"expected {count} arguments for {name}, got '{shown(ast.unparse(call))}'")


def _check_constant(value: object, source: str) -> None:
    if isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) < 1e300):
        return
    raise DistributionError(
        f"expected a number, true, false or a text, got {shown(value)} in '{shown(source)}'"
    )


def _dotted(node: ast.expr, source: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, source)}.{node.attr}"
    index = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(node, ast.Subscript) and isinstance(index, ast.Constant) and type(index.value) is int:
        return f"{_dotted(node.value, source)}[{index.value}]"
    raise DistributionError(f"expected a name such as objects.die[0].size, got '{shown(ast.unparse(node))}'")


def _lookup(name: str, env: Env) -> NDArray[Any]:
    if name in env:
        return np.asarray(env[name])
    part = split_component(name)
    if part and part[0] in env:
        whole = np.asarray(env[part[0]])
        if whole.ndim > 1 and part[1] < whole.shape[-1]:
            return whole[..., part[1]]
    near = difflib.get_close_matches(name, list(env), 1, 0.4)
    raise DistributionError(
        f"expected the name of a leaf, got '{name}'" + (f" (did you mean {near[0]}?)" if near else "")
    )


def _evaluate(node: ast.expr, env: Env, source: str) -> Any:
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return _lookup(_dotted(node, source), env)
    if isinstance(node, ast.Constant):
        value = node.value
        return np.asarray(value if isinstance(value, bool | str) else float(value))  # type: ignore[arg-type]
    if isinstance(node, ast.Call):
        function = _FUNCTIONS[node.func.id][0]  # type: ignore[attr-defined]
        args = [_evaluate(a, env, source) for a in node.args]
        if node.func.id == "where":  # type: ignore[attr-defined]
            return function(*args)
        return function(*_aligned([_number(a, source) for a in args]))
    if isinstance(node, ast.BinOp):
        operands = [_number(_evaluate(side, env, source), source) for side in (node.left, node.right)]
        return _BINARY[type(node.op)](*_aligned(operands))
    if isinstance(node, ast.UnaryOp):
        operand = _evaluate(node.operand, env, source)
        if isinstance(node.op, ast.Not):
            return np.logical_not(operand)
        return -_number(operand, source) if isinstance(node.op, ast.USub) else _number(operand, source)
    if isinstance(node, ast.Compare):
        sides = [_evaluate(side, env, source) for side in (node.left, *node.comparators)]
        steps = [_compare(op, a, b, source) for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True)]
        return _fold(np.logical_and, steps)
    if isinstance(node, ast.BoolOp):
        values = [_evaluate(v, env, source) for v in node.values]
        return _fold(np.logical_and if isinstance(node.op, ast.And) else np.logical_or, values)
    assert isinstance(node, ast.IfExp)
    return _where(*(_evaluate(part, env, source) for part in (node.test, node.body, node.orelse)))


def _number(value: NDArray[Any], source: str) -> NDArray[np.float64]:
    if value.dtype.kind not in "biuf":
        raise DistributionError(f"expected numbers in arithmetic, got a text in '{shown(source)}'")
    return value.astype(np.float64)


def _compare(op: ast.cmpop, a: NDArray[Any], b: NDArray[Any], source: str) -> NDArray[np.bool_]:
    texts = [v.dtype.kind in "UO" for v in (a, b)]
    if any(texts) and not (all(texts) and isinstance(op, ast.Eq | ast.NotEq)):
        raise DistributionError(
            f"expected to compare numbers, or two texts by == or !=, got '{shown(source)}'"
        )
    return _COMPARE[type(op)](*_aligned([a, b]))


def _aligned(values: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Frames' axes first: (n,) against (n, 3) is (n, 1), never a match of n with 3."""
    most = max(v.ndim for v in values)
    return [v.reshape(v.shape + (1,) * (most - v.ndim)) if v.ndim else v for v in values]


def _fold(function: Callable[..., Any], values: Any) -> Any:
    total, *rest = _aligned(list(values))
    for value in rest:
        total = function(total, value)
    return total


def _where(condition: Any, yes: Any, no: Any) -> Any:
    c, a, b = _aligned([np.asarray(v) for v in (condition, yes, no)])
    if (a.dtype.kind in "UO") != (b.dtype.kind in "UO"):
        raise DistributionError("expected two numbers or two texts to choose from, got one of each")
    return np.where(c, a, b)
