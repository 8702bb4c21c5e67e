"""What a study's report shows: training images, and real test images that an arm gets wrong."""

from __future__ import annotations

import numpy as np

from imgsynth.report import Mistake, Pictures
from imgsynth.study.plan import Plan
from imgsynth.study.results import Answered
from imgsynth.study.sets import Sets
from imgsynth.study.spec import Study

MISTAKES = 24


def taken(study: Study, sets: Sets, plan: Plan, test: Answered) -> Pictures:
    """Training images, and the real test images that the synthetic arm (or the first) gets wrong."""
    arm = "synthetic" if "synthetic" in plan.headline else next(iter(plan.headline))
    guesses = np.stack([p.argmax(axis=1) for p in test.predictions(plan.headline[arm])])  # (K, n)
    wrong = guesses != sets.test.labels
    rows = np.argsort(-wrong.sum(axis=0), kind="stable")[:MISTAKES]
    mistakes = []
    for row in rows[wrong[:, rows].any(axis=0)]:
        said = np.bincount(guesses[wrong[:, row], row], minlength=len(sets.test.classes))
        mistakes.append(
            Mistake(
                image=np.asarray(sets.test.images[row]),
                true=sets.test.classes[sets.test.labels[row]],
                predicted=sets.test.classes[int(said.argmax())],
                wrong=int(wrong[:, row].sum()),
                seeds=len(guesses),
            )
        )
    synthetic = next(iter(sets.synthetic.values()))
    return Pictures(synthetic=synthetic, real=sets.train, mistakes=mistakes, mistakes_arm=arm)
