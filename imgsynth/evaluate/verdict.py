"""The verdict on a set of synthetic images, in words, by stated rules from figures with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imgsynth.errors import DataError

ACTIONS = (
    "use it",
    "mix it",
    "render more",
    "change the synthesis",
    "do not use it",
    "undecided",
)


@dataclass(frozen=True)
class Verdict:
    """`action` (one of ACTIONS), a `sentence`, the `reasons` (figures) and which `rule` decided, 1 to 7."""

    action: str
    sentence: str
    reasons: list[str]
    rule: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return asdict(self)


def verdict(
    *,
    gap: Mapping[str, Any] | None = None,
    gain: Mapping[str, Any] | None = None,
    advice: Mapping[str, Any] | None = None,
    effective: Mapping[str, Any] | None = None,
    share: float | None = None,
    tolerance: float = 0.01,
) -> Verdict:
    """What to do with the synthetic images; the first rule that holds decides.

    1. "use it": the gap real − synthetic is at most `tolerance` with 97.5 % confidence (its interval ends at
       or below it): synthetic images alone do what the real ones do.
    2. "mix it": both − real is above 0 (its interval begins above 0); or, where that was not measured, the
       effective real images of the mixture begin above 0.
    3. "do not use it": both − real is below 0 (its interval ends below 0): they take away.
    4. "render more": the scaling advice is that, for the error falls with n still.
    5. "change the synthesis": the scaling advice is that, for the transfer gap is what is left.
    6. "do not use it": both − real is at most `tolerance` (its interval ends at or below it), and the law
       promises nothing: they add nothing worth the trouble.
    7. "undecided": the intervals are too wide, or too little was measured; more seeds or test images decide.

    Args:
        gap: TRTR − TSTR, `{"mean", "ci95"}`, of a score in [0, 1] where higher is better.
        gain: both − real, likewise.
        advice: `Advice.to_json()`; only of synthetic images.
        effective: `Effective.to_json()`, of the mixture where there is one (n_real > 0), else of synthetic
            only.
        share: of synthetic images in the mixture that was best on validation data.
        tolerance: the difference in score that does not matter.

    Raises:
        DataError: a figure without mean and interval.
    """
    reasons = _reasons(gap, gain, advice, effective)
    action, rule, why = _decide(gap, gain, advice, effective, tolerance)
    if action == "mix it" and share is not None:
        why += f"; best at a share of {share:.0%} synthetic images"
    if action == "render more" and advice is not None and advice.get("flips_at") is not None:
        why += f", up to about {_round(advice['flips_at'])} images"
    return Verdict(action, f"{action[0].upper()}{action[1:]}: {why}.", reasons, rule)


def _decide(
    gap: Mapping[str, Any] | None,
    gain: Mapping[str, Any] | None,
    advice: Mapping[str, Any] | None,
    effective: Mapping[str, Any] | None,
    tolerance: float,
) -> tuple[str, int, str]:
    said = None if advice is None else advice["action"]
    gap_high = None if gap is None else _ends(gap)[1]
    low, high = (None, None) if gain is None else _ends(gain)
    if gap_high is not None and gap_high <= tolerance:
        return "use it", 1, "alone they are as good as the real images"
    if low is not None and low > 0:
        return "mix it", 2, "with the real images they are better than those alone"
    if gain is None and effective is not None and effective["n_real"] > 0 and effective["lo"] > 0:
        return "mix it", 2, "with the real images they stand for more of those"
    if high is not None and high < 0:
        return "do not use it", 3, "with the real images they are worse than those alone"
    if said == "render more":
        return "render more", 4, "the error falls with their number still"
    if said == "change the synthesis":
        return "change the synthesis", 5, "what is left of the error does not fall with their number"
    if high is not None and high <= tolerance:
        points = f"{100 * tolerance:g} point{'s' if tolerance != 0.01 else ''}"
        return "do not use it", 6, f"to these real images they add no more than {points}"
    if gap is None and gain is None:
        return (
            "undecided",
            7,
            "nothing was measured on real images that could be set against real training images",
        )
    return "undecided", 7, "the intervals are too wide; more seeds or more test images would decide"


def _reasons(
    gap: Mapping[str, Any] | None,
    gain: Mapping[str, Any] | None,
    advice: Mapping[str, Any] | None,
    effective: Mapping[str, Any] | None,
) -> list[str]:
    out = []
    if gap is not None:
        out.append(f"real minus synthetic: {_points(gap)}")
    if gain is not None:
        out.append(f"both minus real: {_points(gain)}")
    if effective is not None:
        words = effective.get("words", "")
        kind = f"added to {effective['n_real']:,}" if effective["n_real"] else "alone"
        out.append(f"synthetic images {kind} are worth {words}")
    if advice is not None:
        reason = advice.get("reason") or advice["action"]
        out.append(f"scaling law: {reason}")
    return out


def _ends(figure: Mapping[str, Any]) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in figure["ci95"])
        if not low <= float(figure["mean"]) <= high:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise DataError(f"verdict: expected a mean inside its ci95, got {dict(figure)}") from None
    return low, high


def _points(figure: Mapping[str, Any]) -> str:
    low, high = _ends(figure)
    return f"{100 * figure['mean']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _round(n: float) -> str:
    """Two digits: more were never known of an n* from a fit."""
    return f"{float(f'{n:.2g}'):,.0f}"
