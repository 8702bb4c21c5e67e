"""What synthetic images are worth: arms × sizes × seeds, trained alike, tested once on real images.

    from imgsynth.study import run_study
    results = run_study("scenes/digits/study.yaml", "out")     # → out/results.json, out/report.html

The arms are `real`, `synthetic` and `both`; every training takes the same number of optimiser steps. See
`imgsynth.study.spec` for the study file, `imgsynth.study.cells` for what is cached and how a study goes on
after a stop, `imgsynth.study.measure` for the intervals and `imgsynth.study.run` for the layout of
results.json.
"""

from imgsynth.study.run import run_study
from imgsynth.study.spec import Study, StudySpec, load_study

__all__ = ["Study", "StudySpec", "load_study", "run_study"]
