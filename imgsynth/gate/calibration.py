"""Whether a confidence means what it says, and maps that make it so.

A confidence is calibrated where, of the answers given with confidence p, the share p is right. Reliability
bins show it, the expected calibration error (ECE; Guo, Pleiss, Sun, Weinberger 2017, "On calibration of
modern neural networks", eq. 3) sums it up. Temperature scaling (ibid., § 4.2) and isotonic regression
(Zadrozny and Elkan 2002) are fitted on held-out data, never on what a classifier was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsynth.batch import F64
from imgsynth.errors import DataError
from imgsynth.evaluate.bootstrap import Estimate, percentile_shares, resample_counts, sum_by_group

BINS = 15
LEVEL = 0.95
LOG_TEMPERATURE = (-4.0, 4.0)  # e^±4: beyond, a net's outputs say nothing


class Bin(NamedTuple):
    """Answers whose confidence lies in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float  # their mean confidence; NaN in an empty bin
    accuracy: float  # share that is right, with its Wilson interval
    accuracy_lo: float
    accuracy_hi: float


@dataclass(frozen=True)
class Reliability:
    """Reliability bins and what they sum up to."""

    bins: tuple[Bin, ...]
    ece: Estimate
    ece_debiased: float  # ECE less what chance alone adds to it
    worst: float  # greatest gap of a bin that holds at least 1 % of the answers
    brier: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; empty bins are left out."""
        return {
            "ece": self.ece.to_json(),
            "ece_debiased": self.ece_debiased,
            "worst_gap": self.worst,
            "brier": self.brier,
            "bins": [b._asdict() for b in self.bins if b.n],
        }


def reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bins: int = BINS,
    equal: str = "width",
    bootstrap: int = 1000,
    seed: int = 0,
) -> Reliability:
    """How well confidences (n,) in [0, 1] agree with what was right (n,) bool.

    The plain ECE is biased upwards: chance alone opens gaps. `ece_debiased` takes from each bin's squared gap
    its sampling variance a(1 − a)/(m − 1) (as Kumar, Liang and Ma 2019, "Verified uncertainty calibration",
    § 5, do for the squared error). The interval of ECE is a bootstrap's over answers, or groups of them.

    Args:
        confidence: in [0, 1].
        correct: whether each answer was right.
        groups: (n,) what an answer must not be parted from in resampling.
        bins: how many.
        equal: bins of equal `width`, or of equal `mass` (as many answers in each).
        bootstrap: resamples of the interval.
        seed: of the resampling.

    Raises:
        DataError: no answers, shapes that differ, confidences outside [0, 1], an unknown kind of bins.
    """
    p, right = _answers(confidence, correct)
    edges = _edges(p, bins, equal)
    of = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, len(edges) - 2)
    k, rows = len(edges) - 1, np.arange(len(p))
    table = np.zeros((len(p), 3 * k))
    table[rows, of], table[rows, k + of], table[rows, 2 * k + of] = 1, p, right
    sums = sum_by_group(table, groups)
    total = sums.sum(axis=0)
    draws = np.concatenate([_ece(counts @ sums, k) for counts in resample_counts(len(sums), bootstrap, seed)])
    lo, hi = np.quantile(draws, percentile_shares(len(sums), LEVEL))
    value = float(_ece(total[None], k)[0])
    held, said, hits = total[:k], total[k : 2 * k], total[2 * k :]
    full = held > 0
    gap, share = np.zeros(k), held / len(p)
    gap[full] = (hits[full] - said[full]) / held[full]
    accuracy = np.divide(hits, held, out=np.full(k, np.nan), where=full)
    chance = np.where(held > 1, accuracy * (1 - accuracy) / np.maximum(held - 1, 1), gap**2)
    below, above = wilson(hits, held)
    mean = np.divide(said, held, out=np.full(k, np.nan), where=full)
    columns = (edges[:-1], edges[1:], held, mean, accuracy, below, above)
    return Reliability(
        tuple(
            Bin(float(a), float(b), int(m), *map(float, rest))
            for a, b, m, *rest in zip(*columns, strict=True)
        ),
        Estimate(value, float(min(lo, value)), float(max(hi, value))),
        float(share[full] @ np.sqrt(np.maximum(gap**2 - np.nan_to_num(chance), 0))[full]),
        float(np.abs(gap[share >= 0.01]).max(initial=0.0)),
        float(np.mean((p - right) ** 2)),
    )


def wilson(hits: ArrayLike, n: ArrayLike, level: float = LEVEL) -> tuple[F64, F64]:
    """Wilson's (1927) interval of a rate seen as hits of n, elementwise; [0, 1] where n is 0."""
    from scipy.special import ndtri

    k, m = np.asarray(hits, float), np.asarray(n, float)
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    rate = np.divide(k, m, out=np.full(np.shape(k), 0.5), where=m > 0)
    middle = (k + z2 / 2) / (m + z2)
    half = np.sqrt(z2 * (m * rate * (1 - rate) + z2 / 4)) / (m + z2)
    return np.clip(np.where(m > 0, middle - half, 0), 0, 1), np.clip(np.where(m > 0, middle + half, 1), 0, 1)


def softmax(logits: ArrayLike, temperature: float = 1.0) -> F64:
    """Probabilities (n, K) of logits (n, K) divided by a temperature."""
    z = np.asarray(logits, np.float64) / temperature
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature under which logits (n, K) are likeliest to have given labels (n,).

    The mean negative log likelihood is convex in 1/T; its minimum is found in [e⁻⁴, e⁴].

    Raises:
        DataError: no rows, shapes that do not fit, logits that are not finite.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if z.ndim != 2 or len(z) == 0 or y.shape != (len(z),) or not np.isfinite(z).all():
        raise DataError(
            f"temperature: expected finite logits (n ≥ 1, K) and labels (n,), got {z.shape}, {y.shape}"
        )
    own = z[np.arange(len(y)), y]

    def loss(log_t: float) -> float:
        scale = np.exp(-log_t)
        return float(np.mean(logsumexp(scale * z, axis=1) - scale * own))

    return float(
        np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURE, method="bounded", options={"xatol": 1e-6}).x)
    )


@dataclass(frozen=True)
class Isotonic:
    """A rising map of confidences: straight lines between knots, level beyond them."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, confidence: ArrayLike) -> F64:
        """Calibrated confidences, of the same shape."""
        return np.asarray(np.interp(np.asarray(confidence, float), self.x, self.y))


def fit_isotonic(confidence: ArrayLike, correct: ArrayLike, *, least: int = 20) -> Isotonic:
    """The rising map of confidences (n,) that best agrees, in squares, with what was right (n,).

    Pool adjacent violators (Ayer et al. 1955) over runs of at least `least` answers in order of confidence,
    so that the ends are not 0 and 1 for a handful of them; each pool is a knot at its mean confidence.

    Raises:
        DataError: as `reliability`.
    """
    p, right = _answers(confidence, correct)
    order = np.argsort(p, kind="stable")
    runs = max(1, min(len(p) // max(1, least), 1000))
    pools: list[tuple[float, float, float]] = []  # answers, sum of confidences, sum of right ones
    for part in np.split(order, _cuts(p[order], runs, least)):
        pool = (float(len(part)), float(p[part].sum()), float(right[part].sum()))
        while pools and pools[-1][2] * pool[0] >= pool[2] * pools[-1][0]:
            last = pools.pop()
            pool = (last[0] + pool[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    return Isotonic(tuple(s / n for n, s, _ in pools), tuple(r / n for n, _, r in pools))


def _cuts(p: F64, runs: int, least: int) -> list[int]:
    """Where to cut rising values (n,) into about so many equal runs: never between equal ones, so before them
    where that leaves a run of `least`, else after them.
    """
    cuts: list[int] = []
    for cut in np.linspace(0, len(p), runs + 1).round().astype(int)[1:-1].tolist():
        before = cuts[-1] if cuts else 0
        start, end = (int(np.searchsorted(p, p[cut], side)) for side in ("left", "right"))
        place = start if start - before >= least else end
        if before < place < len(p):
            cuts.append(place)
    return cuts


def label_confidence(probabilities: ArrayLike, labels: ArrayLike, trust: float | None = None) -> F64:
    """How likely each label (n,) is right, from class probabilities (n, K) that did not know it.

    `trust` is the share of labels that are right before an image is looked at, the wrong ones spread evenly
    over the other classes: by Bayes the confidence is t·p_y / (t·p_y + (1 − t)/(K − 1)·(1 − p_y)).
    None: the label counts for nothing (trust 1/K), and the confidence is p_y.

    Raises:
        DataError: a trust outside (0, 1], shapes that do not fit.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if p.ndim != 2 or y.shape != (len(p),):
        raise DataError(
            f"label confidence: expected probabilities (n, K) and labels (n,), got {p.shape}, {y.shape}"
        )
    if trust is not None and not 0 < trust <= 1:
        raise DataError(f"label confidence: trust: expected a share in (0, 1], got {trust}")
    own = p[np.arange(len(y)), y]
    if trust is None or p.shape[1] < 2:
        return own
    wrong = (1 - trust) / (p.shape[1] - 1)
    return np.asarray(trust * own / np.maximum(trust * own + wrong * (1 - own), 1e-300))


def fit_trust(probabilities: ArrayLike, labels: ArrayLike, *, steps: int = 200) -> float:
    """The share of right labels that makes the labels (n,) likeliest, given calibrated probabilities (n, K).

    Expectation maximisation (as Saerens, Latinne and Decaestecker 2002 do for class priors): the mean
    confidence under a trust is the next trust. The likelihood is concave, so the start does not matter.
    """
    p = np.asarray(probabilities, np.float64)
    trust = 0.5
    for _ in range(steps):
        before, trust = trust, float(label_confidence(p, labels, min(max(trust, 1e-6), 1 - 1e-9)).mean())
        if abs(trust - before) < 1e-7:
            break
    return trust


def conformal_threshold(values: ArrayLike, share: float) -> float:
    """The threshold below which a new value of the same kind falls with a chance of at most `share`.

    It is the ⌊share·(n + 1)⌋-th smallest of n values (the split-conformal quantile; Vovk, Gammerman and
    Shafer 2005): an exchangeable value falls strictly below it with a chance of at most
    ⌊share·(n + 1)⌋/(n + 1). −inf where n is too small for that to be 1/(n + 1) at least.
    """
    v = np.sort(np.asarray(values, np.float64))
    rank = int(np.floor(share * (len(v) + 1) + 1e-9))
    return float(v[rank - 1]) if rank >= 1 else -np.inf


def _answers(confidence: ArrayLike, correct: ArrayLike) -> tuple[F64, F64]:
    p, right = np.asarray(confidence, np.float64), np.asarray(correct)
    if p.ndim != 1 or len(p) == 0 or right.shape != p.shape or not ((p >= 0) & (p <= 1 + 1e-9)).all():
        raise DataError(
            f"calibration: expected confidences (n ≥ 1,) in [0, 1] and as many answers, "
            f"got {p.shape} and {right.shape}"
        )
    return np.minimum(p, 1.0), right.astype(np.float64)


def _edges(p: F64, bins: int, equal: str) -> F64:
    if equal == "width":
        return np.linspace(0, 1, bins + 1)
    if equal != "mass":
        raise DataError(f"calibration: bins of equal width or mass expected, got {equal!r}")
    inner = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]])


def _ece(sums: F64, k: int) -> F64:
    """ECE (b,) of sums (b, 3k): answers, confidences and right ones of each bin."""
    gaps: NDArray[np.float64] = np.abs(sums[:, 2 * k :] - sums[:, k : 2 * k]).sum(axis=1)
    return gaps / sums[:, :k].sum(axis=1)
