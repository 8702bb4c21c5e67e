"""What a filter says of samples, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from imgsynth.batch import F64
from imgsynth.diffusion.sample import Samples


@dataclass(frozen=True)
class Verdict:
    """Of n samples: the reason why each is dropped ("" where it is kept), and what was measured."""

    reason: NDArray[Any]  # (n,) one of the filter's reasons, or ""
    scores: Mapping[str, F64] = field(default_factory=dict)  # (n,) by name; NaN where nothing was measured
    confidence: F64 | None = None  # (n,) calibrated chance that the label asked for is right


class Filter(Protocol):
    """What keeps or drops samples, each by itself: a verdict may depend on the sample and on what the filter
    held before, never on other samples of the call (else batches and shards would decide).
    """

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons there can be: words of letters, digits and underscores."""
        ...

    def __call__(self, samples: Samples) -> Verdict:
        """What it says of each sample."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides its verdicts (thresholds, digests of data and models), as plain JSON values."""
        ...
