"""Laws fitted to errors that were measured elsewhere: scaling, worth."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imgsynth.analyses.options import BootstrapOption, MaybeOutOption, finish, shown
from imgsynth.console import JsonOption
from imgsynth.errors import DataError

MAX_ROWS = 100_000
Rows = list[dict[str, float]]


def scaling(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .csv with columns n, error[, seed][, s], or a study's results.json."
        ),
    ],
    out: MaybeOutOption = None,
    fixed: Annotated[
        float | None,
        typer.Option("--D", min=0, help="Hold D (Mikami et al. hold 0.48); not with a column s."),
    ] = None,
    bootstrap: BootstrapOption = 400,
    as_json: JsonOption = False,
) -> None:
    """Fit the scaling law error(n) = D·n^-α + C, and say whether to render more or to change the synthesis.

    A row is one training: n synthetic images, its error (1 − score). Several seeds a size tell noise from
    law; α is refused where these sizes do not determine it. With a column s (real images) the law is
    L(n, s) = δ(γ + n^-α)·s^-β (Mikami et al. 2021), which says how many synthetic images stand for a real
    one.
    """
    from imgsynth.analyses import law_pages as pages
    from imgsynth.version import __version__

    rows = _read(file, ("n", "error"), ("seed", "s"))
    what = {
        "file": str(file),
        "rows": len(rows),
        "imgsynth": __version__,
        "command": shown("scaling", file, ("-o", out), ("--D", fixed), ("--bootstrap", bootstrap)),
    }
    if "s" in rows[0]:
        if fixed is not None:
            raise DataError("--D: the law of two numbers has no D; leave it out, or the column s")
        results, said, lines = _surface(rows, bootstrap)
    else:
        results, said, lines = _line(rows, fixed, bootstrap)
    results["what"] = what
    finish(results, said, lambda: pages.scaling(results, said), out, as_json, lines)


def worth(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv",
            help="Columns real, synthetic, error[, seed]: rows with synthetic 0 are the real-only curve.",
        ),
    ],
    out: MaybeOutOption = None,
    bootstrap: BootstrapOption = 1000,
    as_json: JsonOption = False,
) -> None:
    """Effective real images: how many real images a synthetic set stands for, read off the real-only curve.

    A row is one training on `real` real and `synthetic` synthetic images. For every mixture the answer is the
    number of further real images that would have reached the same error, and how many synthetic ones one is.
    """
    from imgsynth.analyses import law_pages as pages
    from imgsynth.evaluate.worth import effective_real_images, exchange_rate
    from imgsynth.version import __version__

    rows = _read(file, ("real", "synthetic", "error"), ("seed",))
    groups = _grouped(rows, ("real", "synthetic"))
    curve = {real: errors for (real, synthetic), errors in groups.items() if synthetic == 0}
    mixed = {key: errors for key, errors in groups.items() if key[1] > 0}
    if not mixed:
        raise DataError(f"{file}: no row has synthetic images, so there is nothing to price")
    sets: list[dict[str, Any]] = []
    for (real, synthetic), errors in mixed.items():
        effective = effective_real_images(
            list(curve), list(curve.values()), int(real), errors, bootstrap=bootstrap
        )
        rate = exchange_rate(effective, int(synthetic))
        sets.append(
            {
                "real": real, "synthetic": synthetic, "errors": errors,
                "effective": effective.to_json(), "rate": rate.to_json(),
            }
        )  # fmt: skip
    results: dict[str, Any] = {
        "analysis": "worth",
        "curve": [{"real": n, "errors": errors} for n, errors in curve.items()],
        "sets": sets,
        "what": {
            "file": str(file), "rows": len(rows), "imgsynth": __version__,
            "command": shown("worth", file, ("-o", out), ("--bootstrap", bootstrap)),
        },
    }  # fmt: skip
    said = [
        f"{int(one['synthetic']):,} synthetic images beside {int(one['real']):,} real ones are worth "
        f"{one['effective']['words']}."
        for one in sets
    ]
    finish(results, said, lambda: pages.worth(results, said), out, as_json)


def _line(rows: Rows, fixed: float | None, bootstrap: int) -> tuple[dict[str, Any], list[str], list[str]]:
    import numpy as np

    from imgsynth.analyses import law_pages as pages
    from imgsynth.evaluate.scaling import advise, fit_scaling, holdout

    groups = _grouped(rows, ("n",))
    sizes, errors = [n for (n,) in groups], list(groups.values())
    fit = fit_scaling(sizes, errors, D=fixed, bootstrap=bootstrap)
    grid = np.geomspace(sizes[0], 10 * sizes[-1], 60)
    low, high = fit.band(grid)
    results: dict[str, Any] = {
        "analysis": "scaling",
        "sizes": sizes,
        "errors": errors,
        "fit": fit.to_json(),
        "band": {
            "n": grid.tolist(), "error": fit.predict(grid).tolist(),
            "low": low.tolist(), "high": high.tolist(),
        },
        "advice": advise(fit, int(sizes[-1])).to_json(),
        "holdout": holdout(sizes, errors, D=fixed, bootstrap=bootstrap).to_json() if len(sizes) > 3 else None,
    }  # fmt: skip
    lines = [
        f"{name:6} {getattr(fit, name):.4g}  [{fit.ci95[name][0]:.4g}, {fit.ci95[name][1]:.4g}]"
        for name in ("alpha", "C", "D")
    ]
    return results, pages.scaling_sentences(results), lines


def _surface(rows: Rows, bootstrap: int) -> tuple[dict[str, Any], list[str], list[str]]:
    from imgsynth.analyses import law_pages as pages
    from imgsynth.evaluate.surface import fit_surface

    groups = _grouped(rows, ("n", "s"))
    n, s = [key[0] for key in groups], [key[1] for key in groups]
    fit = fit_surface(n, s, list(groups.values()), bootstrap=bootstrap)
    results: dict[str, Any] = {
        "analysis": "scaling",
        "cells": [{"n": a, "s": b, "errors": e} for (a, b), e in groups.items()],
        "surface": fit.to_json(),
        "exchange": fit.exchange(max(n), max(s)).to_json(),
    }
    lines = [
        f"{name:6} {getattr(fit, name):.4g}  [{fit.ci95[name][0]:.4g}, {fit.ci95[name][1]:.4g}]"
        f"{'  not identified: ' + fit.unidentified[name] if name in fit.unidentified else ''}"
        for name in ("alpha", "beta", "gamma", "delta")
    ]
    return results, pages.surface_sentences(results), lines


def _grouped(rows: Rows, keys: tuple[str, ...]) -> dict[tuple[float, ...], list[float]]:
    """Errors of the seeds of each cell, in the order of its sizes."""
    out: dict[tuple[float, ...], list[float]] = {}
    for row in rows:
        out.setdefault(tuple(row[k] for k in keys), []).append(row["error"])
    return dict(sorted(out.items()))


def _read(file: Path, needed: Sequence[str], known: Sequence[str]) -> Rows:
    """Rows of numbers of a .csv with a heading, or of the scaling part of a study's results.json.

    Raises:
        DataError: not such a file; says the line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text in UTF-8"
        raise DataError(f"{file}: {why}; expected a .csv with columns {', '.join(needed)}") from None
    if file.suffix.lower() == ".json":
        return _of_study(file, text, needed)
    table = csv.DictReader(text.splitlines())
    heads = [h.strip() for h in table.fieldnames or []]
    table.fieldnames = heads
    missing = [name for name in needed if name not in heads]
    if missing:
        raise DataError(f"{file}: expected columns {', '.join(needed)}, found {', '.join(heads) or 'none'}")
    rows: Rows = []
    for number, line in enumerate(table, 2):
        if len(rows) >= MAX_ROWS:
            raise DataError(f"{file}: more than {MAX_ROWS:,} rows")
        row = {}
        for name in (n for n in (*needed, *known) if n in heads and n != "seed"):
            try:
                row[name] = float(line[name])
            except (TypeError, ValueError):
                raise DataError(f"{file}:{number}: {name}: expected a number, got {line[name]!r}") from None
            if not math.isfinite(row[name]):
                raise DataError(f"{file}:{number}: {name}: expected a finite number, got {line[name]!r}")
        rows.append(row)
    if not rows:
        raise DataError(f"{file}: no rows below the heading")
    return rows


def _of_study(file: Path, text: str, needed: Sequence[str]) -> Rows:
    if "n" not in needed:
        raise DataError(f"{file}: expected a .csv; a study's results.json has its own figures of worth")
    try:
        part = json.loads(text)["scaling"]
        pairs = [
            (float(n), float(e))
            for n, errors in zip(part["sizes"], part["errors_per_seed"], strict=True)
            for e in errors
        ]
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{file}: not the results.json of a study with scaling (sizes, errors_per_seed)"
        ) from None
    if not pairs:
        raise DataError(f"{file}: its scaling part is empty")
    return [{"n": n, "error": e} for n, e in pairs]
