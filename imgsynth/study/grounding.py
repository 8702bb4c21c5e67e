"""What the labels of each set of a study rest on: said in every report, as no figure is better than they."""

from __future__ import annotations

from imgsynth.dataset.tables import GROUNDING
from imgsynth.study.sets import REAL, Sets, called
from imgsynth.study.spec import Study

MEANING = {
    "render-exact": "render-exact, by-products of the rendering",
    "condition": "what the generator was asked for, not checked",
    "joint-sampled": "sampled with the image",
    "attention": "read off the generator's attention",
    "inherited": "inherited from the image it was made from",
}


def grounding(study: Study, sets: Sets) -> dict[str, str]:
    """A sentence for each set, under the names of `Sets.named`."""
    out = {}
    for name, source in study.spec.sources().items():
        if source.scene is not None:
            held = GROUNDING
        elif source.model is not None:
            held = "condition"  # a study of classes; what samples masks is refused there
        else:
            held = _recorded(study.locate(source.data or ""))
        out[called(name)] = source.labels or MEANING.get(held, held)
    for part in REAL:
        out[f"real {part}"] = study.spec.real.labels or "as its files have them, taken as true"
    return out


def _recorded(data: str) -> str:
    """What a dataset of imgsynth says of its labels; a set of other making says nothing."""
    from pathlib import Path

    from imgsynth.dataset.manifest import MANIFEST
    from imgsynth.dataset.reader import Dataset

    if not (Path(data) / MANIFEST).is_file():
        return "as its files have them; the study does not say what they rest on"
    said = sorted(set(Dataset(data).instances.column("grounding").to_pylist()))
    return ", ".join(MEANING.get(s, s) for s in said) or "of no object"
