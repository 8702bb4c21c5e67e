"""Pictures from prompts, labelled by where the network looked at the words: an ordinary dataset.

Frame i is drawn for prompt i mod P, and depends on (pipeline, settings, prompt, seed, i). A class is a word
of the prompts. What the presence test does not find has no mask, and the frame says so: `missing` counts the
classes whose word stands in the frame's prompt and whose thing is not in the picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.batch import I64, U8
from imgsynth.dataset import writer
from imgsynth.dataset.manifest import MAX_INDEX, Header, dumps
from imgsynth.diffusion.attention import Attention, Grid, Tokens, capture
from imgsynth.diffusion.frames import frame_batch
from imgsynth.diffusion.heat import IGNORE, HeatMasks, MaskSettings, masks_of, pieces
from imgsynth.diffusion.mechanism import Labelled
from imgsynth.diffusion.pipelines import Drawing, TextPipeline
from imgsynth.diffusion.sample import Samples
from imgsynth.diffusion.words import check_length, word_tokens
from imgsynth.errors import ImgsynthError
from imgsynth.frame import FrameBatch
from imgsynth.version import __version__

Progress = Callable[[int, int], None]  # frames done, frames in all
Calibrator = Callable[[Any], Any]  # raw confidences → chances

PART = 16  # frames
LABELS = {
    "mask": "16-bit instance ids, 0 = background; connected pieces of where the network looked at the "
    "class's word; class 0 is an area to ignore: neither object nor background can be said",
    "boxes": "tight on the mask; box_amodal and the amodal mask repeat the visible ones; xyxy, half-open "
    "pixels",
    "semantic": "16-bit class ids, 0 = background or ignored",
}


@dataclass(frozen=True)
class Asked:
    """What is drawn and labelled: prompts in turn, and for each class the words that stand for it.

    Raises:
        ImgsynthError: on construction, without prompts or classes.
    """

    prompts: tuple[str, ...]
    words: Mapping[str, str]  # class → words
    negative: str = ""
    layers: tuple[str, ...] = ("*",)
    steps: tuple[int, int] | None = None  # first and last evaluation that is listened to

    def __post_init__(self) -> None:
        if not self.prompts or not self.words:
            raise ImgsynthError("say what to draw (--prompt) and what to label (--class NAME=WORDS)")

    def tokens(self, tokenizers: Sequence[Any]) -> dict[str, list[tuple[int, ...]]]:
        """Prompt → places of each class's tokens.

        Raises:
            ImgsynthError: a prompt that would be cut off, or a class whose words stand in none.
        """
        for prompt in (*self.prompts, self.negative):
            check_length(tokenizers, prompt)
        found = {p: [word_tokens(tokenizers, p, w) for w in self.words.values()] for p in self.prompts}
        for k, (name, words) in enumerate(self.words.items()):
            if not any(places[k] for places in found.values()):
                raise ImgsynthError(f"class {name}: no prompt has the words {words!r}")
        return found


def draw_labelled(
    pipeline: TextPipeline,
    asked: Asked,
    *,
    seed: int,
    indices: I64,
    size: Grid,
    drawing: Drawing | None = None,
    masks: MaskSettings | None = None,
) -> tuple[U8, HeatMasks]:
    """Pictures (n, H, W, 3) of frames `indices`, and the masks of their classes."""
    tokens = asked.tokens(pipeline.tokenizers)
    prompts = [asked.prompts[i % len(asked.prompts)] for i in indices.tolist()]
    taken: list[tuple[list[int], Attention]] = []

    @contextmanager
    def listen(net: Any, rows: list[int]) -> Any:
        here: Tokens = [tokens[prompts[i]] for i in rows]
        steps = None if asked.steps is None else range(asked.steps[0], asked.steps[1] + 1)
        with capture(net, here, layers=asked.layers, steps=steps) as attention:
            yield
        taken.append((rows, attention))

    images = pipeline.draw(
        prompts, seed=seed, indices=indices.tolist(), size=size, settings=drawing, negative=asked.negative,
        listen=listen,
    )  # fmt: skip
    length = int(pipeline.tokenizers[0].model_max_length)
    parts = []
    for rows, attention in taken:
        new = len(dict.fromkeys(rows))  # a call that was filled up repeats its last row
        cross = {g: maps[:new] for g, maps in attention.cross.items()}
        own = {g: maps[:new] for g, maps in attention.own.items()}
        parts.append(masks_of(cross, own, size, length, masks))
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])}
    return images, HeatMasks(**joined)


def by_attention(found: HeatMasks, calibrate: Calibrator | None = None) -> Labelled:
    """Labels of masks: each connected piece an instance with its word's confidence, then what to ignore."""
    instance = np.zeros(found.semantic.shape, np.int32)
    rows: list[tuple[int, int, int, float]] = []
    for i, semantic in enumerate(found.semantic):
        ids, words = pieces(semantic)
        instance[i] = ids
        rows += [(i, k + 1, w, float(found.confidence[i, w - 1])) for k, w in enumerate(words.tolist())]
        if (semantic == IGNORE).any():
            instance[i][semantic == IGNORE] = len(words) + 1
            rows.append((i, len(words) + 1, 0, np.nan))
    table = np.array(rows, np.float64).reshape(-1, 4)
    frame, ids, classes = (table[:, j].astype(np.int32) for j in range(3))
    confidence = table[:, 3]
    if calibrate is not None:
        confidence = np.where(np.isnan(confidence), np.nan, calibrate(np.nan_to_num(confidence)))
    return Labelled("attention", instance, frame, ids, classes, np.clip(confidence, 0, 1))


def prompt_dataset(
    pipeline: TextPipeline,
    asked: Asked,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    start: int = 0,
    size: Grid | None = None,
    drawing: Drawing | None = None,
    masks: MaskSettings | None = None,
    calibrate: Calibrator | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw frames start … start + n - 1 into a dataset folder; returns what was made, as plain JSON values.

    Memory holds one part of 16 frames; files are the same bytes however often the run was stopped.

    Raises:
        ImgsynthError: bad arguments, prompts or words; a folder that is not free; a full disk.
    """
    if n < 1 or start < 0 or not 0 <= seed < 2**64 or start + n > MAX_INDEX:
        raise ImgsynthError(
            f"expected n ≥ 1 and start ≥ 0 and a seed of 0 to 2^64 - 1, got {n}, {start}, {seed}"
        )
    drawing, masks = drawing or Drawing(), masks or MaskSettings()
    size = size or (pipeline.side, pipeline.side)
    tokens = asked.tokens(pipeline.tokenizers)
    header = _header(pipeline, asked, n, seed, start, size, drawing, masks, device)
    root = Path(out)
    todo = writer.create(root, header, resume)
    done = n - sum(part.count for part in todo)
    if progress is not None:
        progress(done, n)
    for part in todo:
        indices = np.arange(part.start, part.start + part.count)
        images, found = draw_labelled(
            pipeline, asked, seed=seed, indices=indices, size=size, drawing=drawing, masks=masks
        )
        writer.write_part(root, header, part, _frames(asked, tokens, indices, images, found, calibrate))
        done += part.count
        if progress is not None:
            progress(done, n)
    writer.commit(root, header)
    return _summary(root)


def _frames(
    asked: Asked,
    tokens: Mapping[str, list[tuple[int, ...]]],
    indices: I64,
    images: U8,
    found: HeatMasks,
    calibrate: Calibrator | None,
) -> FrameBatch:
    prompts = [asked.prompts[i % len(asked.prompts)] for i in indices.tolist()]
    named = np.array([[bool(places) for places in tokens[p]] for p in prompts])
    scores = {
        f"{what}.{name}": np.where(named[:, k], getattr(found, what)[:, k], np.nan).astype(np.float64)
        for what in ("level", "contrast")
        for k, name in enumerate(asked.words)
    }
    samples = Samples(indices, np.zeros_like(indices), np.zeros_like(indices), images)
    labels = by_attention(found, calibrate)
    batch = frame_batch(
        samples, labels, tuple(asked.words), values={"prompt": np.array(prompts, object)}, scores=scores
    )
    missing = (named & ~found.present).sum(1).astype(np.int32)
    return replace(batch, report={**batch.report, "missing": missing})


def _header(
    pipeline: TextPipeline,
    asked: Asked,
    n: int,
    seed: int,
    start: int,
    size: Grid,
    drawing: Drawing,
    masks: MaskSettings,
    device: str,
) -> Header:
    run = asdict(drawing)
    del run["strength"], run["control"]
    made = {
        "pipeline": pipeline.sha256,
        "scheduler": type(pipeline.pipe.scheduler).__name__,
        "precision": str(pipeline.net.dtype).removeprefix("torch."),
        "prompts": list(asked.prompts),
        "negative": asked.negative,
        "drawing": run,
        "labels": {
            "kind": "attention",
            "words": dict(asked.words),
            "layers": list(asked.layers),
            "steps": None if asked.steps is None else list(asked.steps),
            "masks": asdict(masks),
        },
    }
    spec = {"diffusion": made}
    texts = {name: {"convention": text, "grounding": "attention"} for name, text in LABELS.items()}
    return Header(
        name=Path(pipeline.name).name, spec=spec,
        spec_digest=hashlib.sha256(dumps(spec).encode()).hexdigest(), seed=seed, start=start, count=n,
        part_size=PART, size=size, channels=3, classes=tuple(asked.words), outputs=("semantic",),
        renderer="diffusion", device=device.partition(":")[0], versions=versions(), generation=1,
        labels=texts,
        parents=({"kind": "model", "name": pipeline.name, "sha256": pipeline.sha256},),
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Of everything that the bytes of a pipeline's pictures depend on."""
    names = {
        "numpy": "numpy", "opencv": "opencv-python-headless", "pyarrow": "pyarrow", "torch": "torch",
        "diffusers": "diffusers", "transformers": "transformers",
    }  # fmt: skip
    return {"imgsynth": __version__, **{n: metadata.version(package) for n, package in names.items()}}


def _summary(root: Path) -> dict[str, Any]:
    from imgsynth.dataset.reader import Dataset

    dataset = Dataset(root)
    rows = dataset.instances
    classes = rows.column("class_id").to_numpy()
    shown = {
        name: len(np.unique(rows.column("frame").to_numpy()[classes == k + 1]))
        for k, name in enumerate(dataset.classes)
    }
    return {
        "dataset": str(root), "frames": len(dataset), "start": dataset.header.start,
        "seed": dataset.header.seed, "generation": dataset.header.generation, "grounding": "attention",
        "frames_with": shown, "missing": int(dataset.frames.column("missing").to_numpy().sum()),
    }  # fmt: skip
