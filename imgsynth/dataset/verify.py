"""Whether a dataset is what it says: every hash, and every label against the masks it came from.

Files: each is there, nothing else is, each has its SHA-256 (which names the damaged file) and is what its
name says. Labels: visible boxes are the bounds of the masks, areas their counts, RLE texts their pixels;
what is visible is part of the amodal mask; fractions follow from areas; keypoints are where their visibility
says; `annotations.json` and `panoptic.json` say the same as `instances.parquet`. Maps: no depth is NaN, no
distance less than the depth, object coordinates only on objects, flow finite where it is not occluded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imgsynth.dataset import codec, manifest
from imgsynth.dataset.manifest import Manifest, frame_file
from imgsynth.dataset.mapcheck import check_classes, check_maps, decode, segments_by_frame
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.selfcheck import Report, check_annotations, check_labels, instance_rows
from imgsynth.errors import DataError

__all__ = ["Report", "verify"]


def verify(root: Path | str) -> Report:
    """Check the dataset in `root`. Reads every file once.

    Raises:
        DataError: there is no such folder.
    """
    root, report = Path(root), Report()
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder")
    try:
        dataset = Dataset(root)
    except DataError as e:
        report.add(str(e).removeprefix(f"{root}: "))  # whoever prints the report names the folder
        return report
    _check_names(dataset, report)
    _check_tables(dataset.root, dataset.manifest, report)
    digests = _recorded_digests(dataset, report)
    rows = instance_rows(dataset, report)
    _check_frames(dataset, digests, rows, report)
    if rows is not None:
        check_annotations(dataset, rows, report)
    return report


def _check_names(dataset: Dataset, report: Report) -> None:
    """Every file is there, and nothing else."""
    header = dataset.header
    expected = {frame_file(kind, i) for kind in header.kinds for i in header.indices}
    expected |= {manifest.MANIFEST, *header.tables}
    found = set()
    for name in _walk(dataset.root, dataset.root):
        if os.path.islink(dataset.root / name):
            report.add(f"{name}: a symbolic link, expected a file")
        elif name not in expected:
            report.add(f"{name}: does not belong to the dataset")
        found.add(name)
    for name in sorted(expected - found):
        report.add(f"{name}: missing")


def _walk(root: Path, folder: Path) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, Path(entry.path))
        else:
            yield Path(entry.path).relative_to(root).as_posix()


def _check_tables(root: Path, told: Manifest, report: Report) -> None:
    """The hashes of the tables, and of the manifest itself."""
    if told.sha256 != told.digest():
        report.add(f"{manifest.MANIFEST}: was changed: its content does not have the SHA-256 that it holds")
    for name in told.header.tables:
        report.tally("files")
        try:
            with open(root / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue  # missing: said already
        if digest != told.files.get(name):
            report.add(f"{name}: SHA-256 is not the one in {manifest.MANIFEST}")


def _recorded_digests(dataset: Dataset, report: Report) -> dict[str, list[bytes]]:
    """Kind → SHA-256 of each frame's file, as `frames.parquet` has them; also checks its rows."""
    header = dataset.header
    try:
        frames = dataset.frames
        if not np.array_equal(frames.column("index").to_numpy(), np.array(header.indices)):
            report.add(f"{manifest.FRAMES}: its rows are not frames {header.start}..{header.indices[-1]}")
        if not np.array_equal(frames.column("seed").to_numpy(), np.full(header.count, header.seed)):
            report.add(f"{manifest.FRAMES}: its frames are not of seed {header.seed}")
        return {kind: frames.column(f"sha256_{kind}").to_pylist() for kind in header.kinds}
    except (DataError, KeyError, pa.ArrowException) as e:
        report.add(str(e))
        return {}


def _check_frames(
    dataset: Dataset, digests: dict[str, list[bytes]], rows: dict[str, Any] | None, report: Report
) -> None:
    """Hashes of all files by part and frame, and the labels of each frame against its mask."""
    header = dataset.header
    stuff = segments_by_frame(dataset, report) if "panoptic" in header.outputs else {}
    parts = header.parts()
    told = {(p.start, p.count): p.sha256 for p in dataset.manifest.parts}
    if list(told) != [(p.start, p.count) for p in parts]:
        report.add(f"{manifest.MANIFEST}: its parts do not cover frames {header.start}..{header.indices[-1]}")
    for part in parts:
        hashes: dict[str, str] = {}
        before = report.count
        for position in range(part.start - header.start, part.start - header.start + part.count):
            maps = _check_files(dataset, position, digests, hashes, report)
            report.tally("frames")
            index = header.start + position
            check_maps(index, maps, report)
            if "mask" in maps and rows is not None:
                check_labels(index, maps["mask"], rows, report)
                check_classes(index, maps, rows, stuff.get(index), len(header.classes), report)
        whole = len(hashes) == part.count * len(header.kinds) and report.count == before
        if whole and manifest.part_hash(hashes) != told.get((part.start, part.count)):
            last = part.start + part.count - 1
            where = f"frames {part.start}..{last}"
            report.add(f"{where}: the hash of the part is not the one in {manifest.MANIFEST}")


def _check_files(
    dataset: Dataset,
    position: int,
    digests: dict[str, list[bytes]],
    hashes: dict[str, str],
    report: Report,
) -> dict[str, Any]:
    """Hash and decode each file of a frame; returns its label maps by kind, those that can be read."""
    header, maps = dataset.header, dict[str, Any]()
    for kind in header.kinds:
        name = frame_file(kind, header.start + position)
        try:
            data = (dataset.root / name).read_bytes()
        except OSError:
            continue  # missing: said already
        report.tally("files")
        digest = hashlib.sha256(data)
        hashes[name] = digest.hexdigest()
        if kind in digests and digest.digest() != digests[kind][position]:
            report.add(f"{name}: SHA-256 is not the one in {manifest.FRAMES}")
        try:
            if kind == "image":
                codec.decode_image(data, header.size, header.channels, name)
            else:
                maps[kind] = decode(kind, data, header.size, name)
        except DataError as e:
            report.add(str(e))
    return maps
