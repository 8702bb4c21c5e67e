"""What a study file says: which synthetic images, which real ones, which arms, how often, how long.

    name: digits
    task: classify                                       # or detect, segment
    synthetic: {scene: digits, count: 5000, seed: 1}     # or {data: FOLDER}: a set that exists already
    real: {train: "sklearn:digits:train", validation: "sklearn:digits:validation", test:
        "sklearn:digits:test"}
    arms: [real, synthetic, both]
    seeds: 3
    learner: {steps: 600}                                # the task's ClassifierConfig or DetectorConfig
    scaling: {arm: synthetic, sizes: [50, 160, 500, 1600, 5000]}

`scene` is a shipped scene's name or a path; it and every DATA are looked for beside the study file first.
In a DATA, ``${IMGSYNTH_REAL}`` stands for the folder with your copies of real sets (by environment).
More, each where wanted:

    synthetic: {flat: {scene: signs, count: 5000}, photo: {data: diffused}}      # several generators, named
    further: {diffusion: {model: digits, count: 5000}}   # generators that only KIND:NAME draws from
    arms: [real, synthetic, "synthetic:flat", "both:photo", finetune, mix]       # see study.spec_arms
    both: {real_share: [0.25, 0.5, 0.75]}                # or one; of several, the best on validation images
    finetune: {pretrain: 0.5, learner: {lr: 0.001}}      # half of the steps on synthetic images, half on real
    mix: {shares: {flat: 3, photo: 1}}
    real_sizes: [0.1, 0.3, 200, 1.0]                     # the real-only curve: fractions or numbers
    surface: {arm: both, sizes: [500, 1600, 5000]}       # these synthetic sizes × real_sizes
    nets: [compact, "torchvision:resnet18"]              # or {NAME: {learner settings}}; first: headline

The real-only curve is what synthetic images are priced by (effective real images); the surface is what the
two-dimensional law is fitted to.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from imgsynth.errors import SceneError
from imgsynth.scenefile import shipped
from imgsynth.study.spec_arms import (
    MIX,
    Arm,
    ArmName,
    Both,
    Finetune,
    Mix,
    Sources,
    Synthetic,
    arm_of,
    good_names,
)
from imgsynth.yamlfile import Document, Spec, nearest, read_yaml, validate

STUDY_FILE = "study.yaml"
REAL_VARIABLE = "IMGSYNTH_REAL"
ONE = "synthetic"  # what a single generator is called
MIN_SIZES = 3


class Real(Spec):
    """The real images, as DATA of the command line; `test` is scored once, when all training is done."""

    train: str
    validation: str
    test: str
    labels: str | None = Field(None, min_length=1, max_length=200)  # who made them, for the report


def _sizes(sizes: tuple[int, ...], least: int = MIN_SIZES) -> tuple[int, ...]:
    if len(sizes) < least:
        raise ValueError(f"expected at least {least} sizes (5 to tell α from C), got {len(sizes)}")
    if any(size < 1 for size in sizes) or len(set(sizes)) != len(sizes):
        raise ValueError(f"expected different sizes of at least 1, got {list(sizes)}")
    return tuple(sorted(sizes))


class Scaling(Spec):
    """A learning curve: one arm trained on nested subsets of its synthetic (for `real`: its real) images."""

    arm: ArmName = "synthetic"
    sizes: tuple[int, ...]
    seeds: int | None = Field(None, ge=2)
    D: float | None = Field(None, gt=0)

    @field_validator("sizes")
    @classmethod
    def _ordered(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return _sizes(sizes)


class Surface(Spec):
    """A grid: one arm at these numbers of synthetic images, times every number of `real_sizes`.

    From three sizes on the two-dimensional law is fitted; fewer say what the arm is worth at each number of
    real images.
    """

    arm: ArmName = "both"
    sizes: tuple[int, ...]

    @field_validator("sizes")
    @classmethod
    def _ordered(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return _sizes(sizes, 1)

    @field_validator("arm")
    @classmethod
    def _two_kinds(cls, arm: str) -> str:
        if not (arm_of(arm).uses_real and arm_of(arm).uses_synthetic):
            raise ValueError(f"expected an arm that sees both kinds of images, both or finetune; got {arm}")
        return arm


def _nets(value: Any) -> Any:
    """A list of nets is short for a mapping of their names to {net: NAME}."""
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        if len(set(value)) != len(value):
            raise ValueError(f"expected different nets, got {list(value)}")
        return {name: {"net": name} for name in value}
    return value


class StudySpec(Spec):
    """A study: arms × seeds × nets, a scaling curve, a real-only curve, a surface; equal optimiser steps."""

    name: str = Field(min_length=1, max_length=80)
    description: str = ""
    task: Literal["classify", "detect", "segment"] = "classify"
    synthetic: Sources
    further: Annotated[dict[str, Synthetic], AfterValidator(good_names)] = Field(default_factory=dict)
    real: Real
    arms: tuple[ArmName, ...] = ("real", "synthetic", "both")
    both: Both = Both()
    finetune: Finetune = Finetune()
    mix: Mix | None = None
    seeds: int = 3
    first_seed: int = Field(0, ge=0)
    learner: dict[str, Any] = Field(default_factory=dict)
    nets: Annotated[dict[str, dict[str, Any]], BeforeValidator(_nets)] = Field(default_factory=dict)
    scaling: Scaling | None = None
    real_sizes: tuple[int | float, ...] = ()
    surface: Surface | None = None
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
            raise ValueError(f"expected different arms such as real, synthetic, both; got {list(arms)}")
        return arms

    @field_validator("real_sizes")
    @classmethod
    def _real_sizes(cls, sizes: tuple[int | float, ...]) -> tuple[int | float, ...]:
        if len(sizes) < MIN_SIZES:
            raise ValueError(f"expected at least {MIN_SIZES} sizes to fit a curve to, got {len(sizes)}")
        for size in sizes:
            if size <= 0 or (isinstance(size, float) and size > 1):
                raise ValueError(
                    f"expected numbers of images, or fractions above 0 up to 1.0 of the real training set; "
                    f"got {size}"
                )
        return sizes

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not isinstance(self.synthetic, Synthetic) and (twice := set(self.synthetic) & set(self.further)):
            raise ValueError(f"further: {sorted(twice)[0]} is the name of another generator, too")
        if self.both.real_share is not None and not any(arm.kind == "both" for arm in self.all_arms()):
            raise ValueError("both.real_share is given, but the arm both is not among the arms")
        if "finetune" in self.model_fields_set and not any(a.kind == "finetune" for a in self.all_arms()):
            raise ValueError("finetune is given, but the arm finetune is not among the arms")
        if self.surface is not None and not self.real_sizes:
            raise ValueError("surface needs real_sizes, the numbers of real images of its grid")
        return self

    def sources(self) -> dict[str, Synthetic]:
        """The generators by name, those of `further` last; a single one is called `synthetic`."""
        return {**self._main(), **self.further}

    def _main(self) -> dict[str, Synthetic]:
        """Those that an arm without a SOURCE draws from."""
        return {ONE: self.synthetic} if isinstance(self.synthetic, Synthetic) else dict(self.synthetic)

    def place(self, generator: str) -> tuple[str, ...]:
        """Where in the file a generator stands."""
        if generator in self.further:
            return ("further", generator)
        return ("synthetic",) if generator == ONE else ("synthetic", generator)

    def all_arms(self) -> list[Arm]:
        """Every arm that anything is trained for."""
        more = [part.arm for part in (self.scaling, self.surface) if part is not None]
        return [arm_of(name) for name in dict.fromkeys([*self.arms, *more])]

    def shares(self, source: str | None) -> dict[str, float | None]:
        """Generators that an arm with this SOURCE draws from, each with its share or None (all images
        alike).
        """
        if source == MIX and self.mix is not None:
            total = sum(self.mix.shares.values())
            return {name: share / total for name, share in self.mix.shares.items()}
        return dict.fromkeys(self._main() if source is None else [source], None)

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
        """A DATA or scene with its path, if that exists beside the study file, made absolute.

        ``${IMGSYNTH_REAL}`` stands for the folder that the environment variable of that name holds: where
        one's copies of real sets are (default: ../shared/real, from the current folder).
        """
        real = os.environ.get(REAL_VARIABLE) or "../shared/real"
        source, mark, part = data.replace(f"${{{REAL_VARIABLE}}}", str(Path(real).absolute())).partition("#")
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
        return _checked(Study(source))
    path = Path(source)
    if not path.is_file():
        here, shipped_here = path / STUDY_FILE, shipped().get(str(source))
        named = shipped_here / STUDY_FILE if shipped_here else here
        path = here if here.is_file() else named if named.is_file() else here if path.is_dir() else path
    document = read_yaml(path)
    return _checked(Study(validate(StudySpec, document), path.parent, document))


def _checked(study: Study) -> Study:
    """Refuse arms and shares that name a generator which the study has not, each at its place."""
    spec = study.spec
    names = [name for name in spec.sources() if name != ONE]
    named: list[tuple[str, tuple[str | int, ...]]] = [(arm, ("arms", k)) for k, arm in enumerate(spec.arms)]
    named += [(spec.scaling.arm, ("scaling", "arm"))] if spec.scaling else []
    named += [(spec.surface.arm, ("surface", "arm"))] if spec.surface else []
    for arm, key in named:
        source = arm_of(arm).source
        if source == MIX and spec.mix is None:
            raise study.error(f"{arm} needs mix: {{shares: {{GENERATOR: SHARE, …}}}}", *key)
        if source not in (None, MIX, *names):
            raise study.error(_unknown(str(source), names), *key)
    for name in spec.mix.shares if spec.mix else ():
        if name not in names:
            raise study.error(_unknown(name, names), "mix", "shares", name)
    return study


def _unknown(source: str, names: list[str]) -> str:
    if not names:
        return f"no generator is called {source!r}: synthetic is a single one, without a name"
    return f"no generator is called {source!r}{nearest(source, names)}"


def shown_source(study: Study) -> str:
    """How to name the study on a command line: a shipped one by its name, wherever it is installed."""
    file = study.document.file if study.document else None
    if file is None:
        return STUDY_FILE
    for name, folder in shipped().items():
        if file.name == STUDY_FILE and file.parent.resolve() == folder.resolve():
            return name
    return file.as_posix()
