"""What the synthetic images of a study are worth: transfer, real images, classes, nets, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from imgsynth.evaluate.worth import benjamini_hochberg, transfer, verdict
from imgsynth.study.curves import RealCurve
from imgsynth.study.measure import Measured, Tables, resample_headline
from imgsynth.study.plan import Plan
from imgsynth.study.resample import SHARE, Resampler, degrees_of_freedom, interval
from imgsynth.study.spec_arms import arm_of
from imgsynth.study.task import ClassPair, Table, Task

FALSE_DISCOVERIES = 0.05  # the rate at which differences of classes are said to be there
_BACK_STREAM, _NET_STREAM = 90, 10_000  # of the seeds' draws


def transfer_figures(measured: Measured, held_out: Sequence[Table], units: int) -> dict[str, Any]:
    """TRTR, TSTR (of every arm of synthetic images alone), TRTS, gap and relative score.

    Args:
        held_out: the real-trained models on synthetic images, a table a seed.
        units: how many of those images.
    """
    real, real_star = measured.of("real")
    draw = Resampler(units, None, measured.draw.replicates)
    (back,), back_star = resample_headline([held_out], draw, _BACK_STREAM)
    out: dict[str, Any] = {
        "TRTS": {
            "mean": float(back.mean()),
            "ci95": interval(back_star[:, 0], [back], draw.units, point=float(back.mean()), box=SHARE),
            "n": units,
            "per_seed": back.tolist(),
        }
    }
    for arm in measured.point:
        if arm_of(arm).kind == "synthetic" and real.mean() > 0:
            score, star = measured.of(arm)
            figures = transfer(real, score, back, replicates={"trtr": real_star, "tstr": star})
            out[arm] = figures.to_json()
    return out


def worth_of_arms(measured: Measured, real: RealCurve, plan: Plan) -> dict[str, Any]:
    """Effective real images of every arm that saw synthetic ones."""
    out = {}
    for arm, cells in plan.headline.items():
        if arm_of(arm).uses_synthetic:
            out[arm] = real.worth(*measured.of(arm), cells[0].real, cells[0].synthetic)
    return out


def class_deltas(task: Task, arms: Tables, measured: Measured, data: Any) -> dict[str, Any]:
    """Arm − real of every class, tested all at once at a false discovery rate of 5 %."""
    out: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        if arm == "real":
            continue
        a, b = (measured.point[name]["per_class"] for name in (arm, "real"))
        star = measured.star[arm]["per_class"] - measured.star["real"]["per_class"]
        freedom = [
            degrees_of_freedom(star[:, c], [a[:, c], b[:, c]], measured.draw.units) or np.inf
            for c in range(a.shape[1])
        ]
        pair = ClassPair(a.mean(axis=0) - b.mean(axis=0), star, np.array(freedom))
        out[arm] = [row.to_json() for row in task.deltas(arms[arm], arms["real"], data, pair)]
    rows = [row for of_arm in out.values() for row in of_arm]
    found = benjamini_hochberg([np.nan if row["p"] is None else row["p"] for row in rows])
    for row, q in zip(rows, found, strict=True):  # the whole matrix is one family of tests
        row["q"] = None if np.isnan(q) else float(q)
        row["significant"] = bool(q <= FALSE_DISCOVERIES)
    return out


def by_net(nets: Mapping[str, Tables], draw: Resampler) -> dict[str, Any]:
    """The headline of every arm by net, what each arm is against real, and whether the nets' order agrees."""
    arms = list(next(iter(nets.values())))
    out: dict[str, Any] = {"arms": {}, "difference": {}}
    mean: dict[str, list[float]] = {arm: [] for arm in arms}
    for k, (net, tables) in enumerate(nets.items()):
        point, star = resample_headline([tables[arm] for arm in arms], draw, _NET_STREAM * (k + 1))
        out["arms"][net], out["difference"][net] = {}, {}
        for i, arm in enumerate(arms):
            value = float(point[i].mean())
            ends = interval(star[:, i], [point[i]], draw.units, point=value, box=SHARE)
            out["arms"][net][arm] = {"mean": value, "ci95": ends, "per_seed": point[i].tolist()}
            mean[arm].append(value)
            if "real" in arms and arm != "real":
                j = arms.index("real")
                gain = value - float(point[j].mean())
                ends = interval(
                    star[:, i] - star[:, j], [point[i], point[j]], draw.units, point=gain, box=(-1.0, 1.0)
                )
                out["difference"][net][arm] = {"mean": gain, "ci95": ends}
    if "real" in arms:
        out["agreement"] = {arm: rank_agreement(mean[arm], mean["real"]) for arm in arms if arm != "real"}
    return out


def rank_agreement(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Whether nets stand in the same order under two trainings: the ranking utility of Xu, Sun & Cheng 2023
    (arXiv 2305.10015) as the share of pairs that agree, and Kendall's τ_b from three nets on.
    """
    from scipy.stats import kendalltau

    pairs = list(combinations(range(len(a)), 2))
    same = sum(np.sign(a[i] - a[j]) == np.sign(b[i] - b[j]) for i, j in pairs)
    tau = float(kendalltau(a, b).statistic) if len(a) >= 3 else float("nan")
    return {"pairs": len(pairs), "agree": int(same), "tau_b": tau if np.isfinite(tau) else None}


def verdict_of(results: Mapping[str, Any], mixed: str | None, share: float | None) -> dict[str, Any]:
    """What to do with the synthetic images; `mixed` is the arm of both kinds that validation prefers.

    Args:
        share: of synthetic images in that arm, where validation chose it.
    """
    paired, scaling = results["paired"], results.get("scaling")
    gap = paired.get("synthetic_minus_real")
    if gap is not None:
        low, high = gap["ci95"]
        gap = {"mean": -gap["mean"], "ci95": [-high, -low]}
    worth = results.get("worth", {})
    return verdict(
        gap=gap,
        gain=paired.get(f"{mixed}_minus_real"),
        advice=scaling["advice"] if scaling and arm_of(scaling["arm"]).kind == "synthetic" else None,
        effective=(worth.get("synthetic") or {}).get("effective"),
        share=share,
    ).to_json()


def unlearned(real: Mapping[str, Any], chance: float) -> dict[str, Any]:
    """The verdict where training on real images taught the models nothing."""
    low, high = (f"{100 * v:.1f}" for v in real["ci95"])
    return {
        "action": "undecided",
        "sentence": (
            f"Undecided: trained on real images, models score {100 * real['mean']:.1f} % [{low}, {high}], "
            f"which a guess does too ({100 * chance:.0f} %); train for more steps, or another net."
        ),
        "reasons": [],
        "rule": 0,
        "mixed": None,
    }
