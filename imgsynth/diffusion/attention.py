"""What a text-to-image network looked at: attention probabilities, taken through hooks while it denoises.

Fused kernels give no probabilities, so the layers' own projections are listened to: forward hooks on `to_q`
and `to_k` (and `add_k_proj` where text and image share one attention) keep queries and keys, and when the
layer is done, softmax(Q Kᵀ · scale) is formed in float32 for what was asked for: chosen layers, chosen
evaluations of the network, the conditional half of a guided batch, chosen tokens. Normalized queries and keys
and rotary positions are applied as the layer's processor applies them; a processor that is not known, or one
that projects Q, K and V at once, is refused, because its probabilities would be somebody else's.

Height and width come from the feature map that enters the layer's transformer, so any picture format will do.
Nothing of the network is replaced: once the hooks are off it is what it was.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from imgsynth.batch import F32
from imgsynth.diffusion.projections import HeldLayer, rule_of
from imgsynth.errors import ModelError

Grid = tuple[int, int]  # (height, width) of a feature map
Tokens = Sequence[Sequence[Sequence[int]]]  # [image][word] → places of its tokens in the prompt

_AT_ONCE = 1 << 25  # probabilities formed at a time: 128 MiB


@dataclass
class Attention:
    """Mean attention of n images and K words, by size of the feature map; filled when the capture ends.

    `cross[h, w]` is (n, K, h, w) float32: the probability with which a pixel looks at any of the word's
    tokens, averaged over heads, layers and evaluations (an absolute number: all tokens together make 1).
    `own[h, w]` is (n, h·w, h·w): with which pixel (row) looks at pixel (column); rows sum to 1. `layers`
    names what was taken.
    """

    cross: dict[Grid, F32] = field(default_factory=dict)
    own: dict[Grid, F32] = field(default_factory=dict)
    layers: dict[str, Grid] = field(default_factory=dict)
    evaluations: int = 0


@contextmanager
def capture(
    net: nn.Module,
    tokens: Tokens,
    *,
    layers: Sequence[str] = ("*",),
    steps: Container[int] | None = None,
    own_pixels: int = 1024,
) -> Iterator[Attention]:
    """Within, take the attention of `net` (a UNet2DConditionModel or a transformer of diffusers).

    Args:
        net: the denoising network of a pipeline.
        tokens: for each image of the batch, for each word, the places of its tokens; a word that an image's
            prompt lacks has none, and maps of zeros.
        layers: patterns of the layers' names (`up_blocks.*`, `*.attn2`); see `attention_layers`.
        steps: which evaluations of the network count, from 0 (default: all).
        own_pixels: the largest feature map, in pixels, whose attention to itself is kept.

    The network must see a batch of as many rows as there are images, or twice that (unguided half first).
    Yields an Attention, filled when the block ends.

    Raises:
        ModelError: no such layer, a processor that is not known, fused projections, a compiled network; or,
            while it runs, a batch of another size or a feature map whose shape cannot be told.
    """
    chosen = _chosen(net, layers)
    taking = _Taking(net, tokens, steps, own_pixels)
    handles: list[Any] = []
    try:
        handles.append(net.register_forward_pre_hook(taking.begin, with_kwargs=True))
        for ancestor in {id(a): a for a in (_ancestor(net, name) for name in chosen)}.values():
            hook = taking.note_grid(ancestor)
            handles.append(ancestor.register_forward_pre_hook(hook, with_kwargs=True))
        for name, module in chosen.items():
            handles += taking.listen(name, module, _ancestor(net, name))
        yield taking.result
        taking.finish()
    finally:
        for handle in handles:
            handle.remove()
        taking.forget()


def attention_layers(net: nn.Module) -> list[str]:
    """Names of all modules of `net` that project queries and keys, in the order in which they were built."""
    return [
        name for name, module in net.named_modules() if hasattr(module, "to_q") and hasattr(module, "heads")
    ]


def _chosen(net: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    if hasattr(net, "_orig_mod"):
        raise ModelError(
            "the network is compiled, and hooks would not be called: capture before torch.compile"
        )
    names = attention_layers(net)
    chosen = [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
    if not chosen:
        known = ", ".join(names[:3]) + " …" if names else "it has none"
        raise ModelError(f"no attention layer of {type(net).__name__} is called {list(patterns)}: {known}")
    found = {name: net.get_submodule(name) for name in chosen}
    for name, module in found.items():
        rule_of(name, module)
    return found


def _ancestor(net: nn.Module, name: str) -> nn.Module:
    """The module whose input tells the layer's height and width: its transformer, else the network."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = net.get_submodule(".".join(parts[:end]))
        if hasattr(module, "is_input_continuous"):
            return module
    return net


class _Taking:
    """The sums, and the hooks that add to them."""

    def __init__(self, net: nn.Module, tokens: Tokens, steps: Container[int] | None, own_pixels: int):
        self.result = Attention()
        self.net, self.tokens, self.steps, self.own_pixels = net, tokens, steps, own_pixels
        words = {len(of_image) for of_image in tokens}
        if len(words) != 1:
            raise ModelError(f"expected as many words for each image, got {[len(t) for t in tokens]}")
        self.words = words.pop()
        self.evaluation, self.rows = -1, slice(0, 0)
        self.grids: dict[int, Grid] = {}
        self.held: list[HeldLayer] = []
        self.sums: dict[tuple[str, Grid], Tensor] = {}
        self.counts: dict[tuple[str, Grid], int] = {}

    def active(self) -> bool:
        return self.rows.stop > 0 and (self.steps is None or self.evaluation in self.steps)

    def begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Before the network: which evaluation it is, and which rows of the batch are conditional."""
        self.evaluation += 1
        batch, n = len(_sample(args, kwargs)), len(self.tokens)
        if batch not in (n, 2 * n):
            raise ModelError(
                f"the network sees a batch of {batch} for {n} images: expected {n}, or {2 * n} with guidance"
            )
        self.rows = slice(batch - n, batch)
        self.result.evaluations += self.active()

    def note_grid(self, ancestor: nn.Module) -> Any:
        """Before a transformer: height and width of what it works on, in tokens."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            grid = _grid(module, args, kwargs)
            if grid is not None:
                self.grids[id(ancestor)] = grid

        return hook

    def listen(self, name: str, module: nn.Module, ancestor: nn.Module) -> list[Any]:
        """Register a layer's hooks; returns their handles."""
        held = HeldLayer(name, module)
        self.held.append(held)

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            held.start(args, kwargs, listening=self.active())

        def after(*_: Any) -> None:
            if held.listening:
                self.add(held, held.grid or self.grids.get(id(ancestor)))
                held.clear()

        handles = [module.register_forward_pre_hook(before, with_kwargs=True)]
        for part in ("to_q", "to_k", "add_k_proj"):
            projection = getattr(module, part, None)
            if projection is not None:
                handles.append(projection.register_forward_hook(held.keeper(part)))
        return [*handles, module.register_forward_hook(after)]

    @torch.no_grad()
    def add(self, layer: HeldLayer, grid: Grid | None) -> None:
        """Add one layer's probabilities, of the conditional rows, to the sums."""
        queries, keys, bias = layer.projected(self.rows)
        pixels = queries.shape[2]
        if grid is None or grid[0] * grid[1] != pixels:
            said = (
                "its feature map's height and width are not known" if grid is None else f"its map is {grid}"
            )
            raise ModelError(
                f"{layer.name}: attends from {pixels} places, but {said}; leave it out of layers"
            )
        crosses = layer.text is not None
        if not crosses and pixels > self.own_pixels:
            return
        self.result.layers[layer.name] = grid
        for i in range(len(self.tokens)):
            looks = _mean_over_heads(queries[i], keys[i], layer.scale, None if bias is None else bias[i])
            if layer.text is None:
                self._sum("own", grid, i, looks)
                continue
            self._sum("cross", grid, i, self._of_words(looks[:, layer.text], i, layer.name))
            if layer.image is not None and pixels <= self.own_pixels:
                among = looks[:, layer.image]
                self._sum("own", grid, i, among / among.sum(1, keepdim=True))

    def _of_words(self, looks: Tensor, i: int, name: str) -> Tensor:
        """(K, pixels) probability of looking at any token of each word."""
        out = looks.new_zeros(self.words, len(looks))
        for k, places in enumerate(self.tokens[i]):
            if any(not 0 <= place < looks.shape[1] for place in places):
                raise ModelError(f"{name}: token {max(places)} is asked for, the text has {looks.shape[1]}")
            if places:
                out[k] = looks[:, list(dict.fromkeys(places))].sum(1)
        return out

    def _sum(self, kind: str, grid: Grid, i: int, value: Tensor) -> None:
        key = (kind, grid)
        if key not in self.sums:
            self.sums[key] = value.new_zeros(len(self.tokens), *value.shape)
            self.counts[key] = 0
        self.sums[key][i] += value
        self.counts[key] += i == 0

    def finish(self) -> None:
        """Means, as numpy arrays, into the result."""
        for (kind, grid), total in sorted(self.sums.items()):
            mean = (total / self.counts[kind, grid]).cpu().numpy()
            if kind == "own":
                self.result.own[grid] = mean
            else:
                self.result.cross[grid] = mean.reshape(len(self.tokens), self.words, *grid)

    def forget(self) -> None:
        """Let go of every tensor of the network."""
        self.sums.clear()
        for held in self.held:
            held.clear()


def _mean_over_heads(queries: Tensor, keys: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    """(pixels, keys) float32 mean over heads of softmax(Q Kᵀ · scale + bias), from (heads, ·, d)."""
    heads, pixels, _ = queries.shape
    each = max(1, _AT_ONCE // (pixels * keys.shape[1]))
    total = queries.new_zeros(pixels, keys.shape[1])
    for first in range(0, heads, each):
        scores = queries[first : first + each] @ keys[first : first + each].transpose(1, 2) * scale
        if bias is not None:
            scores += bias
        total += scores.softmax(-1).sum(0)
    return total / heads


def _sample(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The first argument of a network or layer, however it was passed."""
    for value in (*args[:1], kwargs.get("sample"), kwargs.get("hidden_states")):
        if isinstance(value, Tensor):
            return value
    raise ModelError(f"the network was called without a tensor to denoise: {sorted(kwargs)}")


def _grid(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Grid | None:
    sample = _sample(args, kwargs)
    if sample.ndim == 3 and kwargs.get("img_ids") is not None:  # packed: rows and columns stand beside it
        ids = kwargs["img_ids"].reshape(-1, 3)
        low, high = ids.amin(0), ids.amax(0)
        return int(high[1] - low[1]) + 1, int(high[2] - low[2]) + 1
    if sample.ndim != 4:
        return None
    patch = 1
    if not getattr(module, "is_input_continuous", False):
        patch = getattr(getattr(module, "config", None), "patch_size", None) or 1
    return int(sample.shape[-2]) // patch, int(sample.shape[-1]) // patch
