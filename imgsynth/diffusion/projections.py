"""Queries and keys of one attention layer, as its processor makes them before it compares them.

What each known processor of diffusers does to what `to_q` and `to_k` give: whether it normalizes, turns by
rotary positions, and in which order it lines up image and text. `tests/test_attention.py` holds the table to
what reaches torch's scaled_dot_product_attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imgsynth.errors import ModelError


@dataclass(frozen=True)
class Rule:
    """How a processor gets from projections to queries and keys."""

    norm: bool = False  # applies norm_q and norm_k
    rotary: Literal["no", "own-keys", "all"] = "no"  # turns keys only where they are the image's, or always
    joint: Literal["no", "image-first", "text-first"] = "no"  # text keys from add_k_proj, in one sequence
    own_scale: bool = False  # uses the layer's `scale`, not 1/√d


_PLAIN = Rule(own_scale=True)
RULES = {
    "AttnProcessor": _PLAIN,
    "SlicedAttnProcessor": _PLAIN,
    "XFormersAttnProcessor": _PLAIN,
    "AttnProcessor2_0": Rule(norm=True),
    "HunyuanAttnProcessor2_0": Rule(norm=True, rotary="own-keys"),
    "JointAttnProcessor2_0": Rule(norm=True, joint="image-first"),
    "FluxAttnProcessor": Rule(norm=True, rotary="all", joint="text-first"),
}
"""Processors (classes of diffusers) whose queries and keys are known."""


def rule_of(name: str, module: nn.Module) -> Rule:
    """The rule of the layer's processor.

    Raises:
        ModelError: it projects Q, K and V at once, or is not known.
    """
    processor = type(getattr(module, "processor", None)).__name__
    if getattr(module, "fused_projections", False) or processor.startswith("Fused"):
        raise ModelError(
            f"{name}: projects Q, K and V at once, so they cannot be told apart; "
            "call the pipeline's unfuse_qkv_projections() first"
        )
    if processor not in RULES:
        raise ModelError(
            f"{name}: attention of {processor} is not known; expected {', '.join(RULES)} "
            "(unload what replaced it, or leave the layer out of layers)"
        )
    return RULES[processor]


class HeldLayer:
    """One layer, and what it projected in the present evaluation."""

    def __init__(self, name: str, module: Any):
        self.name, self.module = name, module
        self.rule = rule_of(name, module)
        self.clear()

    def clear(self) -> None:
        """Let go of all tensors."""
        self.listening = False
        self.grid: tuple[int, int] | None = None
        self.kept: dict[str, Tensor] = {}
        self.rotary: Any = None
        self.mask: Tensor | None = None
        self.text: slice | None = None  # which keys are the text's; None: there are none
        self.image: slice | None = None  # which are the image's, beside the text's
        self.scale = 1.0

    def start(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], listening: bool) -> None:
        """Before the layer: note what it was given."""
        self.clear()
        self.listening = listening
        if not listening:
            return
        hidden = args[0] if args else kwargs["hidden_states"]
        if hidden.ndim == 4:
            self.grid = (int(hidden.shape[2]), int(hidden.shape[3]))
        text = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
        if text is not None:
            self.text = slice(0, int(text.shape[1]))
        self.mask = args[2] if len(args) > 2 else kwargs.get("attention_mask")
        self.rotary = kwargs.get("image_rotary_emb")

    def keeper(self, part: str) -> Callable[..., None]:
        """A forward hook that keeps what a projection gave."""

        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            if self.listening:
                self.kept[part] = output.detach()

        return hook

    def projected(self, rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries (n, heads, pixels, d) and keys (n, heads, keys, d) in float32, and what is added to their
        scores, (n, 1 or pixels, keys); sets `scale`, and `text` and `image` to their places among the keys.

        Raises:
            ModelError: the layer did not project, or its mask has a shape that is not known.
        """
        if "to_q" not in self.kept or "to_k" not in self.kept:
            raise ModelError(f"{self.name}: its processor did not call to_q and to_k")
        queries, keys = self._heads("to_q", "norm_q"), self._heads("to_k", "norm_k")
        first = 0  # where the image begins in a shared sequence
        if self.rule.joint != "no" and self.text is not None:
            more = self._heads("add_k_proj", "norm_added_k")
            length, own = more.shape[2], keys.shape[2]
            keys = _joined(keys, more, self.rule.joint)
            first = length if self.rule.joint == "text-first" else 0
            self.image = slice(first, first + own)
            start = own if self.rule.joint == "image-first" else 0
            self.text = slice(start, start + length)
        if self.rotary is not None and self.rule.rotary != "no":
            queries, keys = self._turned(queries, keys, first)
        own_scale = self.rule.own_scale
        self.scale = float(self.module.scale) if own_scale else float(queries.shape[-1]) ** -0.5
        return queries[rows].float(), keys[rows].float(), self._bias(len(queries), keys.shape[2], rows)

    def _heads(self, part: str, norm: str) -> Tensor:
        """(batch, heads, places, d) of a projection, normalized as the layer does."""
        flat = self.kept[part]
        split = flat.reshape(len(flat), flat.shape[1], self.module.heads, -1).transpose(1, 2)
        layer = getattr(self.module, norm, None) if self.rule.norm else None
        return split if layer is None else layer(split)

    def _turned(self, queries: Tensor, keys: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Both turned by rotary positions; `first` is the place of the image's first query."""
        from diffusers.models import embeddings

        turn: Any = embeddings.apply_rotary_emb
        part = slice(first, first + queries.shape[2])
        cos, sin = self.rotary
        queries = turn(queries, (cos[part], sin[part]))
        if self.rule.rotary == "all" or self.text is None:
            keys = turn(keys, self.rotary)
        return queries, keys

    def _bias(self, batch: int, keys: int, rows: slice) -> Tensor | None:
        if self.mask is None or self.rule.joint == "image-first":  # that processor ignores masks
            return None
        mask = self.mask
        if mask.ndim != 3 or len(mask) != batch or mask.shape[-1] != keys:
            raise ModelError(
                f"{self.name}: attention mask {tuple(mask.shape)}: expected ({batch}, 1, {keys})"
            )
        return mask[rows].float()


def _joined(image: Tensor, text: Tensor, order: str) -> Tensor:
    return torch.cat([image, text] if order == "image-first" else [text, image], dim=2)
