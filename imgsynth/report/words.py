"""What a study's numbers say: sentences that follow from intervals, numbers as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHORT = {"classify": "the classifier", "detect": "the detector", "segment": "the mask learner"}


def verdict(results: Mapping[str, Any]) -> list[str]:
    """Up to five sentences: the verdict, what synthetic images alone reach, what they replace, what they add,
    what the scaling law says.
    """
    said = [_decides(results), reaches(results)]
    if results.get("verdict", {}).get("rule") != 0:  # 0: nothing was learned, so nothing follows
        said += [_replaces(results), _adds(results), _advises(results)]
    return [sentence for sentence in said if sentence]


def _decides(results: Mapping[str, Any]) -> str:
    return str(results["verdict"]["sentence"]) if "verdict" in results else ""


def headline(results: Mapping[str, Any]) -> str:
    """The score that all is about."""
    return str(results.get("headline", "accuracy"))


def score_name(results: Mapping[str, Any]) -> str:
    """What to call it."""
    return str(results["what"].get("scores", {}).get(headline(results), headline(results)))


def reaches(results: Mapping[str, Any]) -> str:
    """What the arm of synthetic images alone (or the first) scores, beside the real one."""
    arms = results["arms"]
    arm = "synthetic" if "synthetic" in arms else next(iter(arms))
    score = arms[arm][headline(results)]
    learner = SHORT[results["what"]["study"].get("task", "classify")]
    if headline(results) == "accuracy":
        does = f"gets {percent(score['mean'])} of {score['n']:,} real test images right"
    else:
        does = f"reaches {score_name(results)} {percent(score['mean'])} on {score['n']:,} real test images"
    sentence = f"Trained on {_source(arm)}, {learner} {does}"
    ratio = results.get("paired", {}).get("synthetic_over_real")
    if ratio is None:
        return sentence + "."
    real = arms["real"][headline(results)]["mean"]
    count = results["what"]["images"].get("real train")
    whom = f"training on {count:,} real images" if count else "training on real images"
    return f"{sentence}: {percent(ratio['mean'])} of the {percent(real)} that {whom} reaches."


def _source(arm: str) -> str:
    kind, _, name = arm.partition(":")
    said = {
        "synthetic": "synthetic images alone",
        "real": "real images alone",
        "both": "both kinds of images",
        "finetune": "synthetic, then real images",
        "mix": "a mixture of synthetic images alone",
    }[kind]
    return f"{said} ({name})" if name else said


def _replaces(results: Mapping[str, Any]) -> str:
    worth = results.get("worth", {}).get("synthetic")
    if worth is None:
        return ""
    effective, rate = worth["effective"], worth["exchange"]
    sentence = f"Alone, {worth['n_synthetic']:,} synthetic images are worth {effective['words']}"
    if rate["value"] is None or effective["censored"]:
        return sentence + "."
    return f"{sentence}: {number(rate['value'])} of them stand for one real image."


def _adds(results: Mapping[str, Any]) -> str:
    mixed = results.get("verdict", {}).get("mixed") or "both"
    gain = results.get("paired", {}).get(f"{mixed}_minus_real")
    if gain is None:
        return ""
    low, high = gain["ci95"]
    size = f"{points(gain['mean'])} points {interval(gain['ci95'], points)}"
    kind, _, source = str(mixed).partition(":")
    named = f" ({source})" if source else ""
    adding = {
        "both": f"Adding the synthetic{named} to the real images",
        "finetune": f"Training on the synthetic images{named} first, then on the real ones,",
    }[kind]
    score = "accuracy" if headline(results) == "accuracy" else score_name(results)
    if low > 0:
        return f"{adding} gains {size}."
    if high < 0:
        return f"{adding} costs {score}: {size}."
    return f"{adding} changes {score} by {size}: this test cannot tell that from none."


def _advises(results: Mapping[str, Any]) -> str:
    scaling = results.get("scaling")
    if scaling is None:
        return ""
    fit, advice = scaling["fit"], scaling["advice"]
    kind = "real" if scaling["arm"] == "real" else "synthetic"
    fall = f"from {percent(advice['error_now'])} to {percent(advice['error_then'])}"
    then = f"{advice['factor']} times as many {kind} images would bring the error {fall}"
    floor = f"{percent(fit['C'])} {interval(fit['ci95']['C'], percent)} would remain however many"
    flips = advice.get("flips_at")
    up_to = f"; rendering more pays up to about {number(flips)} images" if flips and kind != "real" else ""
    if advice["action"] == "render more":
        verb = "Gather" if kind == "real" else "Render"
        return f"{verb} more: by the fitted law {then}; {floor}{up_to}."
    if advice["action"] == "change the synthesis":
        todo = (
            "Change the synthesis rather than render more"
            if kind == "synthetic"
            else "More images will not do"
        )
        return f"{todo}: by the fitted law {then}, for {floor}{up_to}."
    why = f"the scaling law is not identified, since {fit['reason']}"
    return f"Whether more images would help, these data do not say: {why}."


# ---- numbers as text ----


def percent(value: float | None) -> str:
    """.9512 → "95.1 %"."""
    return "–" if value is None else f"{100 * value:.1f} %"


def points(value: float) -> str:
    """Difference of shares in points, signed: .0123 → "+1.2"."""
    return f"{100 * value:+.1f}".replace("-", "−")


def number(value: float | None) -> str:
    """Two significant digits; thousands in full."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{float(f'{value:.2g}'):,.0f}".replace("-", "−")
    return f"{value:#.2g}".removesuffix(".").replace("-", "−")


def count(value: float | None) -> str:
    """A number of images, whole; "∞" where there is none."""
    return "∞" if value is None else f"{round(value):,}".replace("-", "−")


def interval(ends: list[float] | None, form: Any = percent) -> str:
    """Two ends in brackets; a unit stands once."""
    if ends is None:
        return ""
    low, high = (form(v) for v in ends)
    return f"[{low.removesuffix(' %')}, {high}]"
