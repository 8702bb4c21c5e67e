"""What a study file says: which synthetic images, which real ones, which arms, how often, how long.

    name: digits
    task: classify
    synthetic: {scene: digits, count: 5000, seed: 1}     # or {data: FOLDER}: a set that exists already
    real: {train: "sklearn:digits:train", validation: "sklearn:digits:validation", test:
        "sklearn:digits:test"}
    arms: [real, synthetic, both]
    seeds: 3
    learner: {steps: 600}                                # imgsynth.learn.classify.ClassifierConfig
    scaling: {arm: synthetic, sizes: [50, 160, 500, 1600, 5000]}

`scene` is a shipped scene's name or a path; it and every DATA are looked for beside the study file first.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from imgsynth.errors import SceneError
from imgsynth.scenefile import shipped
from imgsynth.yamlfile import Document, Spec, nearest, read_yaml, shown, validate

STUDY_FILE = "study.yaml"
ARMS = ("real", "synthetic", "both")


def _arm(value: Any) -> Any:
    if value not in ARMS:
        raise ValueError(f"expected an arm, got {shown(value)}{nearest(str(value), ARMS)}")
    return value


Arm = Annotated[Literal["real", "synthetic", "both"], BeforeValidator(_arm)]


class Synthetic(Spec):
    """Where the synthetic images come from: a scene to render, or a set at hand."""

    scene: str | None = None
    count: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    set: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    sampler: Literal["random", "sobol"] = "random"
    data: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.scene is None) == (self.data is None):
            raise ValueError("expected either scene and count (to render) or data (a set that exists)")
        if self.scene is not None and self.count is None:
            raise ValueError("count is missing: how many images to render")
        asked = self.model_fields_set & {"count", "seed", "set", "freeze", "sampler"}
        if self.data is not None and asked:
            raise ValueError(f"{sorted(asked)[0]} belongs to a scene; with data it has no meaning")
        return self


class Real(Spec):
    """The real images, as DATA of the command line; `test` is scored once, when all training is done."""

    train: str
    validation: str
    test: str


class Both(Spec):
    """How the arm `both` mixes: every image equally often, or the real ones as a share of each batch."""

    real_share: float | None = Field(None, gt=0, lt=1)


class Scaling(Spec):
    """A learning curve: one arm trained on nested subsets of its synthetic (for `real`: its real) images."""

    arm: Arm = "synthetic"
    sizes: tuple[int, ...]
    seeds: int | None = Field(None, ge=2)
    D: float | None = Field(None, gt=0)

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if len(sizes) < 3:
            raise ValueError(f"expected at least 3 sizes (5 to tell α from C), got {len(sizes)}")
        if any(size < 1 for size in sizes) or len(set(sizes)) != len(sizes):
            raise ValueError(f"expected different sizes of at least 1, got {list(sizes)}")
        return tuple(sorted(sizes))


class StudySpec(Spec):
    """A study: arms × seeds, and a scaling curve, all with equal optimiser steps."""

    name: str = Field(min_length=1, max_length=80)
    description: str = ""
    task: Literal["classify"] = "classify"
    synthetic: Synthetic
    real: Real
    arms: tuple[Arm, ...] = ("real", "synthetic", "both")
    both: Both = Both()
    seeds: int = 3
    first_seed: int = Field(0, ge=0)
    learner: dict[str, Any] = Field(default_factory=dict)
    scaling: Scaling | None = None
    bootstrap: int = Field(2000, ge=100, le=100_000)

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: int) -> int:
        if seeds < 2:
            raise ValueError(f"expected at least 2 seeds, for without them there is no interval, got {seeds}")
        return seeds

    @field_validator("arms")
    @classmethod
    def _arms(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        if not arms or len(set(arms)) != len(arms):
            raise ValueError(f"expected different arms of {', '.join(ARMS)}, got {list(arms)}")
        return arms

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.both.real_share is not None and "both" not in self.arms:
            raise ValueError("both.real_share is given, but the arm both is not among the arms")
        return self

    def seed_list(self) -> list[int]:
        """The seeds of every arm."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def scaling_seeds(self) -> list[int]:
        """The seeds at every size of the scaling curve."""
        count = self.seeds if self.scaling is None or self.scaling.seeds is None else self.scaling.seeds
        return list(range(self.first_seed, self.first_seed + count))

    def canonical(self) -> dict[str, Any]:
        """Plain JSON values, defaults left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def digest(self) -> str:
        """SHA-256 of `canonical`."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Study:
    """A validated study, the folder its paths start from, and the file to point at in errors."""

    spec: StudySpec
    folder: Path = Path()
    document: Document | None = None

    def locate(self, data: str) -> str:
        """A DATA or scene with its path, if that exists beside the study file, made absolute."""
        source, mark, part = data.partition("#")
        kind, _, rest = source.partition(":")
        if kind == "torchvision":  # torchvision:NAME:ROOT[:SPLIT]
            name, _, rest = rest.partition(":")
            root, colon, split = rest.partition(":")
            beside = self.folder / root
            moved = f"{kind}:{name}:{beside}{colon}{split}" if root and beside.exists() else source
        else:
            beside = self.folder / source
            moved = str(beside) if source and beside.exists() else source
        return moved + mark + part

    def error(self, message: str, *key: str | int) -> SceneError:
        """An error that points at `key` in the study file."""
        return (self.document or Document({})).error(message, key)


def load_study(source: str | Path | StudySpec) -> Study:
    """Read a study: a file, a folder with a study.yaml, or the name of a shipped scene that has one.

    A spec is taken as it is; its paths start at the current folder.

    Raises:
        SceneError: one line with file, line, path, what was expected and the nearest valid name.
    """
    if isinstance(source, StudySpec):
        return Study(source)
    path = Path(source)
    if not path.is_file():
        here, shipped_here = path / STUDY_FILE, shipped().get(str(source))
        named = shipped_here / STUDY_FILE if shipped_here else here
        path = here if here.is_file() else named if named.is_file() else here if path.is_dir() else path
    document = read_yaml(path)
    return Study(validate(StudySpec, document), path.parent, document)


def shown_source(study: Study) -> str:
    """How to name the study on a command line: a shipped one by its name, wherever it is installed."""
    file = study.document.file if study.document else None
    if file is None:
        return STUDY_FILE
    for name, folder in shipped().items():
        if file.name == STUDY_FILE and file.parent.resolve() == folder.resolve():
            return name
    return file.as_posix()
