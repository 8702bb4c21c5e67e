"""Training without a disk: frames rendered as they are asked for, as torch tensors.

    data = RenderedDataset("dice", seed=1, count=10_000, outputs=("image", "boxes", "labels"))
    for images, targets in DataLoader(data, batch_size=8, num_workers=2, collate_fn=detection_batch):
        ...

Frame i has the pixels and labels that ``imgsynth render`` writes for index i. Frames are rendered in groups
of `batch` (16 where none is given) and groups are dealt to the workers of a DataLoader in turn, so that
together they give each frame once; and in order, where the loader's batches are those groups.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from imgsynth import generate, scenefile
from imgsynth.dataset.manifest import MAX_INDEX
from imgsynth.errors import ImgsynthError
from imgsynth.frame import FrameBatch
from imgsynth.plan import Sampler
from imgsynth.samples import OUTPUTS, frame_sample
from imgsynth.scene import Output, SceneSpec

Sample = dict[str, Any]
GROUP = 16  # frames rendered together where no batch is asked for


class RenderedDataset(IterableDataset[Sample]):
    """Labelled frames of a scene, rendered on the fly: sized with `count`, else endless.

    Yields a dict for each frame: `index` and the outputs asked for (see `imgsynth.samples`). With `batch` it
    yields dicts of that many frames at once (the last of an epoch may hold fewer): maps and images stacked,
    (n, …), without being copied; what differs in length between frames as lists. Give such a dataset to a
    DataLoader with ``batch_size=None``.

    Epoch e (`set_epoch`, also while persistent workers run) of a sized dataset holds the frames start + e ·
    count onwards: fresh ones. Left alone every pass gives the same frames.

    Args:
        scene: as for `imgsynth.generate.render`.
        seed: of the frames.
        count: frames an epoch; None is endless.
        start: index of the first frame.
        outputs: what each sample holds, of `imgsynth.samples.OUTPUTS`.
        batch: frames a dict; None gives single frames.
        device: where frames are rendered and tensors lie ("cpu", "cuda", "cuda:1"). On the CPU tensors share
            the memory of the frames; images pass through the sensor there, so a GPU's are copied to it.
        transform: applied to each dict before it is given.
        sampler: "random" or "sobol".
        sets: changes to the scene, as ``--set`` takes them.
        freeze: leaves held still, as ``--freeze`` takes them.

    Raises:
        ImgsynthError: a scene that is wrong, an unknown output, numbers out of range.
    """

    def __init__(
        self,
        scene: str | Path | SceneSpec | scenefile.Scene,
        *,
        seed: int = 0,
        count: int | None = None,
        start: int = 0,
        outputs: Sequence[str] = ("image", "boxes", "labels"),
        batch: int | None = None,
        device: str = "cpu",
        transform: Callable[[Sample], Sample] | None = None,
        sampler: Sampler = "random",
        sets: Iterable[str] = (),
        freeze: Iterable[str] = (),
    ):
        super().__init__()
        if unknown := [name for name in outputs if name not in OUTPUTS]:
            raise ImgsynthError(f"outputs: expected some of {', '.join(OUTPUTS)}, got {unknown[0]!r}")
        if (count is not None and count < 1) or (batch is not None and batch < 1) or min(seed, start) < 0:
            raise ImgsynthError(
                "expected count ≥ 1, batch ≥ 1, seed ≥ 0 and start ≥ 0, "
                f"got count={count}, batch={batch}, seed={seed}, start={start}"
            )
        maps = [name for name in outputs if name in get_args(Output)]
        wanted = [*sets, f"outputs=[{', '.join(dict.fromkeys(maps))}]"]
        self.scene = scenefile.load(scene, sets=wanted, freeze=freeze)
        self.seed, self.count, self.start = seed, count, start
        self.outputs, self.batch, self.device = tuple(outputs), batch, device
        self.transform, self.sampler = transform, sampler
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers see it change
        self._first, self._given = 0, 0  # position where the pass began, and frames given since
        self._of = (0, 1)  # worker, workers of that pass
        self._resumed = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: label c of `labels` is `classes[c - 1]`, `class` counts from 0."""
        return self.scene.spec.classes

    @property
    def epoch(self) -> int:
        """The epoch that the next pass gives."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass. Raises ImgsynthError for an endless dataset: it has only one."""
        if epoch < 0 or (epoch > 0 and self.count is None):
            raise ImgsynthError(f"expected an epoch ≥ 0 of a dataset with a count, got {epoch}")
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Dicts a pass gives. Raises TypeError where the dataset is endless, as lists and loaders expect."""
        if self.count is None:
            raise TypeError("an endless RenderedDataset has no length; give it a count")
        return self.count if self.batch is None else math.ceil(self.count / self.batch)

    def state_dict(self) -> dict[str, int]:
        """Where the current pass stands, in this process, for `load_state_dict` to go on from there."""
        worker, workers = self._of
        state = {"epoch": self.epoch, "first": self._first, "given": self._given}
        return state | {"worker": worker, "workers": workers}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass go on where another stood. A state of the whole dataset (no workers) may be given
        to one that is read by any number of workers; one worker's only to that worker.
        """
        self._epoch.fill_(state["epoch"])
        self._first, self._given = state["first"], state["given"]
        self._of = (state["worker"], state["workers"])
        if self._of == (0, 1):
            self._first, self._given = self._first + self._given, 0
        self._resumed = True

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        here = (0, 1) if info is None else (info.id, info.num_workers)
        if not self._resumed:
            self._first, self._given = 0, 0
        elif self._given and self._of != here:
            raise ImgsynthError(f"a state of worker {self._of} cannot be given to worker {here}")
        self._resumed, self._of = False, here
        return self._samples(*here)

    def _samples(self, worker: int, workers: int) -> Iterator[Sample]:
        _own_renderer()
        plan_of, offset = self.scene, self.start + self.epoch * (self.count or 0)
        skip = self._given
        for positions in self._groups(worker, workers):
            if skip >= len(positions):
                skip -= len(positions)
                continue
            positions, skip = positions[skip:], 0
            indices = range(offset + positions.start, offset + positions.stop)
            made = generate.frames(plan_of, self.seed, indices, sampler=self.sampler, device=self.device)
            for size, sample in self._split(made):
                self._given += size
                yield sample if self.transform is None else self.transform(sample)

    def _groups(self, worker: int, workers: int) -> Iterator[range]:
        """Positions, within the epoch, of the groups of frames that fall to this worker."""
        size = self.batch or GROUP
        end = self.count if self.count is not None else MAX_INDEX - self.start
        for first in range(self._first + worker * size, end, workers * size):
            yield range(first, min(first + size, end))

    def _split(self, made: FrameBatch) -> Iterator[tuple[int, Sample]]:
        if self.batch is not None:
            yield len(made), stacked(made, self.outputs, self.device)
            return
        for k in range(len(made)):
            yield 1, _placed(frame_sample(made, k, self.outputs), self.device)


def stacked(made: FrameBatch, outputs: Sequence[str], device: str = "cpu") -> Sample:
    """One dict for all frames: images and maps (n, …), sharing the frames' memory on the CPU; else lists."""
    whole = frame_sample(made, slice(None), [name for name in outputs if OUTPUTS[name].dense])
    ragged = [name for name in outputs if not OUTPUTS[name].dense]
    each = [frame_sample(made, k, ragged) for k in range(len(made))]
    lists = {name: [sample[name] for sample in each] for name in ragged}
    return _placed({**whole, **lists}, device)


def detection_batch(samples: Sequence[Sample]) -> tuple[list[torch.Tensor], list[Sample]]:
    """Collate frames as torchvision's detectors take them: float images (3, H, W) in 0..1, and for each a
    dict of all that is not the image, with `image_id`.
    """
    images = [s["image"].float() / 255 for s in samples]
    images = [i.expand(3, -1, -1) if len(i) == 1 else i for i in images]
    targets = [
        {"image_id": int(s["index"]), **{k: v for k, v in s.items() if k not in ("image", "index")}}
        for s in samples
    ]
    return images, targets


def _placed(sample: Mapping[str, Any], device: str) -> Sample:
    def placed(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value).to(device, non_blocking=True)
        return [placed(v) for v in value] if isinstance(value, list) else value

    return {name: placed(value) for name, value in sample.items()}


_PROCESS = os.getpid()


def _own_renderer() -> None:
    """A forked worker makes a renderer of its own: one inherited shares scratch memory with nobody, but its
    engine was started for another process.
    """
    global _PROCESS
    if os.getpid() != _PROCESS:
        _PROCESS = os.getpid()
        generate._kept.cache_clear()
