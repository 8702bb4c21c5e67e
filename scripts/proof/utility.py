"""What samples are worth: a classifier trained only on them, tested on real images it never saw.

    python scripts/proof/utility.py --train DATA --test DATA --samples DATA … -o DIR [--seeds 5] [--steps N]

    --train  real images, which the generator was trained on
    --test   real images that it never saw; `tenth` keeps a fixed tenth of --train for it, by a hash of the row's
             number (train the generator on what is left: --write-train FILE.npz writes it)
    --samples  generated images, once for each generator or filter

Every arm (real, and each set of samples) is trained --seeds times with the same net and the same number of
optimiser steps. Each training is one file in DIR, named by a hash of all that decides it, so a run that was
stopped goes on, and `--share 0/2` and `--share 1/2` in two shells do half each. One thread a process: the same
bits on one machine. When all are there, the gap is printed with its interval over test images and seeds (the
pigeonhole bootstrap), and distances beside it, on a net trained on --train. Nothing is chosen by the test set.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.dataset import disk
from imgsynth.dataset.labelled import LabelledImages
from imgsynth.dataset.leaks import shared_images
from imgsynth.dataset.sources import load
from imgsynth.dataset.split import split
from imgsynth.evaluate.bootstrap import bootstrap_mean, paired_difference
from imgsynth.gate.features import compare
from imgsynth.learn.classify import ClassifierConfig, suited
from imgsynth.learn.trainer import train_classifier


def sets(told: argparse.Namespace) -> tuple[LabelledImages, LabelledImages, dict[str, LabelledImages]]:
    """Training images, test images, and the samples by the name they are given by."""
    train = load(told.train)
    if told.test == "tenth":
        rows = split(train.labels, train.groups, {"train": 0.9, "test": 0.1})
        train, test = (train.subset(rows[part], name=f"{train.name} ({part})") for part in ("train", "test"))
    else:
        test = load(told.test).aligned(train.classes).fitted(train.size, train.channels)
        both = shared_images(train, test)
        if both:
            print(f"note: {len(both)} test images stand in --train as well, pixel for pixel", file=sys.stderr)
    if told.limit:
        train, test = (d.take(min(told.limit, len(d)), 0) for d in (train, test))
    samples = {}
    for spec in told.samples:
        data = load(spec).aligned(train.classes).fitted(train.size, train.channels)
        samples[spec] = data.take(min(told.limit, len(data)), 0) if told.limit else data
    return train, test, samples


def cell_of(data: LabelledImages, test: LabelledImages, config: ClassifierConfig, seed: int) -> str:
    """Name of a training: a hash of its images, its settings, its seed and the test images."""
    parts = [data.digest(), test.digest(), json.dumps(asdict(config), sort_keys=True), str(seed)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def trained(
    file: Path, data: LabelledImages, test: LabelledImages, config: ClassifierConfig, seed: int
) -> np.ndarray:
    """Which test images a classifier trained on `data` gets right, (n,) bool; kept in `file`."""
    if not file.exists():
        checkpoint = file.with_suffix(".checkpoint")
        model = train_classifier(data, config, seed=seed, checkpoint=checkpoint, checkpoint_every=500)
        right = model.predict(test.images).argmax(axis=1) == test.labels
        packed = io.BytesIO()
        np.savez_compressed(packed, right=right)
        disk.replace(file, packed.getvalue())
        checkpoint.unlink(missing_ok=True)
    with np.load(file, allow_pickle=False) as held:
        return held["right"]


def distance_of(
    file: Path, made: LabelledImages, test: LabelledImages, train: LabelledImages
) -> dict[str, Any]:
    """Distances of samples to the test images, kept in `file`."""
    if not file.exists():
        disk.replace(file, json.dumps(compare(made, test, train=train).to_json()).encode())
    return json.loads(file.read_text())


def report(
    right: dict[str, np.ndarray],
    distances: dict[str, dict[str, Any]],
    groups: np.ndarray | None,
    goal: float | None,
) -> dict[str, Any]:
    """Accuracies, gaps to the real arm and distances; `right` is (n, seeds) by arm."""
    arms: dict[str, Any] = {}
    for name, table in right.items():
        arms[name] = {
            "accuracy": bootstrap_mean(table, groups).to_json(),
            "per_seed": table.mean(axis=0).tolist(),
        }
        if name != "real":
            gap = paired_difference(right["real"], table, groups)
            arms[name] |= {"gap": gap.to_json(), "distance": distances[name]}
            if goal is not None:
                arms[name]["within_goal"] = {
                    "goal": goal,
                    "mean": gap.value <= goal,
                    "surely": gap.hi <= goal,
                }
    names = [n for n in arms if n != "real"]
    by_gap = sorted(names, key=lambda n: arms[n]["gap"]["mean"])
    by_fd = sorted(names, key=lambda n: distances[n]["fd"]["mean"])
    return {
        "arms": arms,
        "best_first_by_gap": by_gap,
        "best_first_by_fd": by_fd,
        "fd_ranks_utility": by_gap == by_fd,
    }


def lines(results: dict[str, Any]) -> list[str]:
    """The results for people."""
    out = [f"{'arm':<40}{'accuracy %':>22}{'gap, points':>24}{'FD':>10}{'KID':>10}"]
    for name, arm in results["arms"].items():
        cells = [figure(arm["accuracy"])]
        if "gap" in arm:
            d = arm["distance"]
            cells += [figure(arm["gap"]), f"{d['fd']['mean']:.4f}", f"{d['kid']['mean']:.4f}"]
        out.append(
            f"{name[-40:]:<40}" + "".join(f"{c:>{w}}" for c, w in zip(cells, (22, 24, 10, 10), strict=False))
        )
    if len(results["arms"]) > 2:
        same = "the same order as" if results["fd_ranks_utility"] else "another order than"
        out.append(f"By Fréchet distance the samples stand in {same} by what they are worth.")
    return out


def figure(value: dict[str, Any]) -> str:
    """Percent with an interval."""
    low, high = value["ci95"]
    return f"{100 * value['mean']:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing of this share, then report if all is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--samples", nargs="*", default=[])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--goal", type=float, help="largest gap wanted, in points")
    parser.add_argument("--limit", type=int, help="images of each set, for a trial")
    parser.add_argument("--share", default="0/1", metavar="I/N", help="do every N-th training, from the I-th")
    parser.add_argument("--write-train", type=Path, help="write the training images and stop")
    told = parser.parse_args(arguments)
    train, test, samples = sets(told)
    if told.write_train:
        np.savez_compressed(
            told.write_train, images=train.images, labels=train.labels, classes=np.array(train.classes)
        )
        return 0
    told.out.mkdir(parents=True, exist_ok=True)
    config = ClassifierConfig.of({**suited(len(train.classes)), "steps": told.steps, "threads": 1})
    share, of = (int(v) for v in told.share.split("/"))
    arms = {"real": train, **samples}
    cells = [(arm, seed) for seed in range(told.seeds) for arm in arms]
    files = {(arm, seed): told.out / f"{cell_of(arms[arm], test, config, seed)}.npz" for arm, seed in cells}
    for number, (arm, seed) in enumerate(cells):
        if number % of == share and not files[arm, seed].exists():
            right = trained(files[arm, seed], arms[arm], test, config, seed)
            print(f"{arm}, seed {seed}: {100 * right.mean():.2f} %", file=sys.stderr, flush=True)
    missing = sum(not file.exists() for file in files.values())
    if missing:
        print(f"{missing} of {len(cells)} trainings are still to be done by other shares", file=sys.stderr)
        return 0
    right = {
        arm: np.stack([trained(files[arm, s], arms[arm], test, config, s) for s in range(told.seeds)], axis=1)
        for arm in arms
    }
    distances = {}
    for arm, made in samples.items():
        key = hashlib.sha256((made.digest() + test.digest() + train.digest()).encode()).hexdigest()[:24]
        distances[arm] = distance_of(told.out / f"{key}.json", made, test, train)
    results = report(right, distances, test.groups, None if told.goal is None else told.goal / 100)
    results["what"] = {
        "train": told.train,
        "test": told.test,
        "images": {"test": len(test), **{arm: len(data) for arm, data in arms.items()}},
        "seeds": told.seeds,
        "config": asdict(config),
    }
    disk.replace(told.out / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    print("\n".join(lines(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
