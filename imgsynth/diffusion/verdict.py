"""What a filter says of samples, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from imgsynth.batch import F64, I64, U8
from imgsynth.diffusion.sample import Samples


@dataclass(frozen=True)
class Verdict:
    """Of n samples: the reason why each is dropped ("" where it is kept), and what was measured."""

    reason: NDArray[Any]  # (n,) one of the filter's reasons, or ""
    scores: Mapping[str, F64] = field(default_factory=dict)  # (n,) by name; NaN where nothing was measured
    confidence: F64 | None = None  # (n,) calibrated chance that the label asked for is right


class Filter(Protocol):
    """What keeps or drops samples. A verdict depends on the sample and on the frames that were accepted
    before it, never on others (else batches would decide).
    """

    @property
    def remembers(self) -> bool:
        """Whether verdicts depend on what was accepted before, and so on where the dataset starts."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons there can be: words of letters, digits and underscores."""
        ...

    def __call__(self, samples: Samples, beside: U8 | None = None) -> Verdict:
        """What it says of each sample; `beside` are images kept since it was last told to `accept` any."""
        ...

    def accept(self, images: U8, labels: I64) -> None:
        """Be told of frames that are in the dataset, a part at a time, in their order."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides its verdicts (thresholds, digests of data and models), as plain JSON values."""
        ...
