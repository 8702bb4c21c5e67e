"""Where a word of a prompt stands among the tokens that a text encoder reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from imgsynth.errors import ImgsynthError, ModelError


def word_tokens(tokenizers: Sequence[Any], prompt: str, word: str) -> tuple[int, ...]:
    """Places of all tokens of every occurrence of `word` in `prompt`, in order; none where it does not occur.

    A word may be several ("traffic light"), may fall into several tokens, and is found whole only, in any
    case ("cat" is not in "concatenate"; a plural is another word). Several tokenizers (SDXL has two) must
    agree.

    Args:
        tokenizers: the pipeline's, of the fast kind, which tell where in the text a token stands.

    Raises:
        ImgsynthError: an empty word, or a prompt longer than a text encoder reads.
        ModelError: a tokenizer without places, or two that cut the prompt differently.
    """
    if not word.strip():
        raise ImgsynthError("expected a word to look for in the prompt, got an empty one")
    found = [_places(tokenizer, prompt, word.strip()) for tokenizer in tokenizers]
    if any(places != found[0] for places in found[1:]):
        raise ModelError(f"the pipeline's tokenizers cut {prompt!r} differently: {word!r} stands at {found}")
    return found[0]


def check_length(tokenizers: Sequence[Any], prompt: str) -> None:
    """Refuse a prompt whose end the text encoders would not read.

    Raises:
        ImgsynthError: it is too long, saying by how much.
    """
    for tokenizer in tokenizers:
        count, most = len(tokenizer(prompt, truncation=False).input_ids), int(tokenizer.model_max_length)
        if count > most:
            raise ImgsynthError(
                f"the prompt has {count} tokens with its ends, the text encoder reads {most}: "
                f"what stands last would be cut off; shorten {prompt!r}"
            )


def _places(tokenizer: Any, prompt: str, word: str) -> tuple[int, ...]:
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} does not say where tokens stand in the text; "
            "install transformers 5, whose tokenizers do"
        )
    check_length([tokenizer], prompt)
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    spans = [m.span() for m in re.finditer(rf"(?<!\w){spaced}(?!\w)", prompt, re.IGNORECASE)]
    offsets = tokenizer(prompt, truncation=False, return_offsets_mapping=True)["offset_mapping"]
    return tuple(
        place
        for place, (first, last) in enumerate(offsets)
        if last > first and any(first < end and last > start for start, end in spans)
    )
