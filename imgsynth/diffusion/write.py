"""Generated images to disk, as an ordinary dataset: labelled, filtered, with their lineage, resumable.

Frame i is sample i. Where a filter drops it, it is drawn again (attempt 1, 2, … of the same index and class)
until one is kept, so frames count on without gaps, each class has as many as were asked for, and what frame i
holds depends on no other frame (unless the filter remembers: one that refuses repetitions depends on the
frames before). How many draws each frame cost, and why, is in `frames.parquet`, and summed up in
`dataset.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import I64
from imgsynth.dataset import codec, writer
from imgsynth.dataset.manifest import MAX_INDEX, Header, dumps, frame_file
from imgsynth.diffusion.frames import frame_batch
from imgsynth.diffusion.mechanism import Condition, Mechanism
from imgsynth.diffusion.sample import BATCH, Model, Samples, Sampling, sample
from imgsynth.diffusion.verdict import Filter, Verdict
from imgsynth.errors import ImgsynthError, ModelError
from imgsynth.frame import FrameBatch
from imgsynth.version import __version__

Progress = Callable[[int, int], None]  # frames done, frames in all

MOST_DRAWS = 64  # of one frame
PIXELS_PER_PART = 1 << 22
MOST_FRAMES_PER_PART = 256
MOST_PARTS = 1 << 20


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, as the dataset's lineage says it."""

    name: str
    sha256: str  # of the weights
    precision: str  # fp32 or bf16, as the network runs here
    guide_sha256: str = ""
    generation: int = 0  # of the data that it was trained on: 0 = no generated image
    record: Mapping[str, Any] = field(default_factory=dict)  # what is known of its training
    licences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """Which class each frame shows: `classes` in turn, or with `counts` so many of each, one after the other.

    `classes` are positions among the model's; (K,) alone asks for images of no class.
    """

    classes: tuple[int, ...]
    counts: tuple[int, ...] = ()

    def labels(self, indices: I64, start: int) -> I64:
        """(n,) the class of each frame index, `start` being the first of the dataset."""
        classes = np.array(self.classes, np.int64)
        if not self.counts:
            return classes[indices % len(classes)]
        return classes[np.searchsorted(np.cumsum(self.counts), indices - start, side="right")]


def generate(
    model: Model,
    origin: Origin,
    n: int,
    out: str | Path,
    *,
    asked: Asked | None = None,
    seed: int = 0,
    start: int = 0,
    settings: Sampling | None = None,
    mechanism: Mechanism | None = None,
    keep: Filter | None = None,
    guide_model: Model | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Sample frames start … start + n - 1 into a dataset folder.

    Memory holds one part (at most 256 frames). Files are the same bytes however often the run was stopped and
    resumed, and frame i is the same in every dataset of the same model, settings, seed and class.

    Raises:
        ImgsynthError: bad arguments, a folder that is not free, a full disk, a frame of which 64 draws in a
            row were dropped.
    """
    if n < 1 or start < 0 or not 0 <= seed < 2**64 or start + n > MAX_INDEX:
        raise ImgsynthError(
            f"expected n ≥ 1, start ≥ 0, start + n ≤ {MAX_INDEX} and a seed of 0 to 2^64 - 1, "
            f"got n={n}, start={start}, seed={seed}"
        )
    job = _Job(
        model, guide_model, settings or Sampling(), mechanism or Condition(), keep,
        asked or Asked(tuple(range(len(model.classes)))), seed, start, device,
    )  # fmt: skip
    header = job.header(origin, n)
    root = Path(out)
    todo = writer.create(root, header, resume)
    done = n - sum(part.count for part in todo)
    if progress is not None:
        progress(done, n)
    for part in header.parts() if todo else []:
        indices = np.arange(part.start, part.start + part.count)
        if part not in todo:
            job.recall(root, header, indices)
            continue
        writer.write_part(root, header, part, job.frames(indices))
        done += part.count
        if progress is not None:
            progress(done, n)
    writer.commit(root, header)
    return root


@dataclass(frozen=True)
class _Job:
    model: Model
    guide: Model | None
    settings: Sampling
    mechanism: Mechanism
    keep: Filter | None
    asked: Asked
    seed: int
    start: int
    device: str

    def header(self, origin: Origin, n: int) -> Header:
        model = self.model
        labels = self.mechanism.describe()
        texts = labels.pop("labels")
        made = {
            "model": origin.sha256,
            "guide": origin.guide_sha256,
            "precision": origin.precision,
            "batch": BATCH,
            "sampling": self.settings.to_json(),
            "asked": {"classes": list(self.asked.classes), "counts": list(self.asked.counts)},
            "labels": labels,
            "filters": {} if self.keep is None else self.keep.describe(),
        }
        spec = {"diffusion": made}
        pixels = model.planes * model.size[0] * model.size[1]
        fits = max(1, min(MOST_FRAMES_PER_PART, PIXELS_PER_PART // pixels))
        part = fits // BATCH * BATCH or fits
        if n > MOST_PARTS * part:
            raise ImgsynthError(f"{n} frames are too many for one dataset (at most {MOST_PARTS * part})")
        return Header(
            name=origin.name, spec=spec, spec_digest=hashlib.sha256(dumps(spec).encode()).hexdigest(),
            seed=self.seed, start=self.start, count=n, part_size=part, size=model.size,
            channels=1 if model.channels == 1 else 3, classes=model.classes, renderer="diffusion",
            device=self.device.partition(":")[0], versions=_versions(), licences=dict(origin.licences),
            generation=origin.generation + 1,
            labels={k: {"convention": t, "grounding": self.mechanism.grounding} for k, t in texts.items()},
            parents=({"kind": "model", "name": origin.name, "sha256": origin.sha256, **origin.record},),
        )  # fmt: skip

    def frames(self, indices: I64) -> FrameBatch:
        """Finished frames `indices`: drawn, judged, drawn again, labelled."""
        labels = self.asked.labels(indices, self.start)
        samples, verdict, lost = self.kept(indices, labels)
        found = self.mechanism(samples)
        if verdict is not None and verdict.confidence is not None and found.grounding == "condition":
            found = replace(found, confidence=np.clip(verdict.confidence, 0, 1))
        names = np.array([*self.model.classes, None], object)
        return frame_batch(
            samples, found, self.model.classes,
            values={"class": names[labels]} if labels.max() < len(self.model.classes) else {},
            dropped=lost, scores={} if verdict is None else verdict.scores,
        )  # fmt: skip

    def kept(self, indices: I64, labels: I64) -> tuple[Samples, Verdict | None, dict[str, I64]]:
        """The first draw of each frame that the filter keeps, what it said of it, and how many it dropped
        before, by reason.
        """
        if self.keep is None:
            return self.draw(indices, labels, np.zeros(len(indices), np.int64)), None, {}
        lost = {reason: np.zeros(len(indices), np.int64) for reason in self.keep.reasons}
        held: list[tuple[Samples, Verdict, I64, I64]] = []  # draws, which of them are kept, for which frames
        open_, tried = np.arange(len(indices)), 0
        while len(open_):
            # A call of the network has room for BATCH samples: few open frames try several draws at once.
            ahead = 1 if tried == 0 or self.keep.remembers else max(1, BATCH // len(open_))
            ahead = min(ahead, MOST_DRAWS - tried)
            if ahead < 1:
                raise self.hopeless(indices[open_[0]], labels[open_[0]], lost, open_[0])
            frame, attempt = np.repeat(open_, ahead), np.tile(tried + np.arange(ahead), len(open_))
            samples = self.draw(indices[frame], labels[frame], attempt)
            beside = [s.images[r] for s, _, r, _ in held]
            verdict = self.keep(samples, np.concatenate(beside) if beside else None)
            good = (np.asarray(verdict.reason) == "").reshape(len(open_), ahead)
            first = np.where(good.any(axis=1), good.argmax(axis=1), ahead)
            reasons = np.asarray(verdict.reason).reshape(len(open_), ahead)
            for reason, count in lost.items():
                count[open_] += ((reasons == reason) & (np.arange(ahead) < first[:, None])).sum(axis=1)
            done = first < ahead
            rows = np.flatnonzero(done) * ahead + first[done]
            held.append((samples, verdict, rows, open_[done]))
            open_, tried = open_[~done], tried + ahead
        samples, verdict = _in_order(held)
        self.keep.accept(samples.images, samples.labels)
        return samples, verdict, lost

    def recall(self, root: Path, header: Header, indices: I64) -> None:
        """Tell a filter that remembers of frames that are on disk already."""
        if self.keep is not None and self.keep.remembers:
            paths = [root / frame_file("image", i) for i in indices.tolist()]
            images = [codec.decode_image(p.read_bytes(), header.size, header.channels, p) for p in paths]
            self.keep.accept(np.stack(images), self.asked.labels(indices, self.start))

    def draw(self, indices: I64, labels: I64, attempts: I64) -> Samples:
        return sample(
            self.model, labels, seed=self.seed, indices=indices, attempts=attempts, settings=self.settings,
            guide_model=self.guide, device=self.device,
        )  # fmt: skip

    def hopeless(self, index: int, label: int, lost: Mapping[str, I64], row: int) -> ModelError:
        name = [*self.model.classes, "no class"][label]
        why = ", ".join(f"{count[row]} {reason}" for reason, count in lost.items() if count[row])
        return ModelError(
            f"frame {index} ({name}): {MOST_DRAWS} draws in a row were dropped ({why}); loosen the filter "
            "or train the model longer"
        )


def _in_order(held: Sequence[tuple[Samples, Verdict, I64, I64]]) -> tuple[Samples, Verdict]:
    """The kept draws of all rounds by frame."""
    order = np.argsort(np.concatenate([frames for *_, frames in held]))
    rows = [rows for *_, rows, _ in held]

    def joined(parts: Sequence[Any]) -> Any:
        if parts[0] is None:
            return None
        return np.concatenate([np.asarray(part)[r] for part, r in zip(parts, rows, strict=True)])[order]

    samples = Samples(**{f.name: joined([getattr(s, f.name) for s, *_ in held]) for f in fields(Samples)})
    verdicts = [verdict for _, verdict, *_ in held]
    scores = {name: joined([v.scores[name] for v in verdicts]) for name in verdicts[0].scores}
    return samples, Verdict(
        joined([v.reason for v in verdicts]), scores, joined([v.confidence for v in verdicts])
    )


def _versions() -> dict[str, str]:
    """Of everything that a file's bytes depend on."""
    names = {
        "numpy": "numpy", "opencv": "opencv-python-headless", "pyarrow": "pyarrow", "torch": "torch",
        "diffusers": "diffusers",
    }  # fmt: skip
    return {"imgsynth": __version__, **{n: metadata.version(package) for n, package in names.items()}}
