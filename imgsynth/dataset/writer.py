"""Frames to disk: by parts, in any order, by any number of processes, and resumable.

    todo = create(root, header, resume)     # the parts still to draw
    for part in todo:                       # in worker processes
        write_part(root, header, part, batch)
    commit(root, header)                    # tables, annotations, dataset.json

While it grows a dataset has a folder `parts/` (the header, and for each finished part its rows and a record
with the SHA-256 of its files) and no `dataset.json`, so that nothing takes it for finished. A part counts
once its record is there, which is put in place by one `os.replace`; what was half written is written again.
The bytes of a frame's files depend on spec, seed, index and versions alone; tables and annotations on those
of their frames; nothing on parts, workers or order.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from imgsynth.batch import U8
from imgsynth.dataset import coco, codec, manifest, panoptic, tables
from imgsynth.dataset.disk import disk_errors, hashed, replace, sync_folder, write_file
from imgsynth.dataset.manifest import Header, Manifest, Part, PartHash, frame_file
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.frame import Buffers, FrameBatch

_HEADER = "header.json"
_FRAGMENTS = ("frames", "instances", "coco")  # a part's share of each table


def create(root: Path | str, header: Header, resume: bool = False) -> list[Part]:
    """Make or reopen the dataset folder `root` and return the parts still to do (none where it is finished).

    Raises:
        ImgsynthError: the folder cannot be written, or holds something else, or a dataset already: finished,
            begun (without `resume`), or begun with another header (says which field differs).
    """
    root = Path(root)
    parts = root / manifest.PARTS
    with disk_errors(root):
        begun = _begun(root, resume)
        if begun is not None:
            _same_header(root, begun, header)
            if (root / manifest.MANIFEST).exists():
                shutil.rmtree(parts, ignore_errors=True)  # a stop between the commit and its clean-up
                return []
            return [p for p in header.parts() if not _is_committed(root, p)]
        for kind in header.kinds:
            (root / manifest.KINDS[kind][0]).mkdir(parents=True, exist_ok=True)
        parts.mkdir(exist_ok=True)
        replace(parts / _HEADER, manifest.dumps(header.to_json()).encode())
    return header.parts()


def write_part(root: Path | str, header: Header, part: Part, batch: FrameBatch) -> None:
    """Write the files of a part, its rows, and last its record. Safe to repeat; any order will do.

    Raises:
        DataError: the batch is not that part, or its labels contradict each other.
        ImgsynthError: the disk is full or cannot be written; what was committed before stays.
    """
    root = Path(root)
    _check_batch(header, part, batch)
    rows = tables.instances_table(batch)
    with disk_errors(root):
        hashes, digests, sizes = _write_files(root, header, batch)
        parts = root / manifest.PARTS
        fragments = {what: parts / _fragment(part, what) for what in _FRAGMENTS}
        tables.write_fragment(fragments["frames"], tables.frames_table(header, batch, digests))
        tables.write_fragment(fragments["instances"], rows)
        lines = coco.annotation_lines(rows, header.size, header.keypoints)
        fragments["coco"].write_text(coco.SEPARATOR.join(lines), encoding="utf-8")
        if "panoptic" in header.outputs:
            fragments["panoptic"] = parts / _fragment(part, "panoptic")
            lines = panoptic.annotation_lines(batch)
            fragments["panoptic"].write_text(coco.SEPARATOR.join(lines), encoding="utf-8")
        record = {
            "start": part.start,
            "count": part.count,
            "sha256": manifest.part_hash(hashes),
            "files": hashes,
            "bytes": sizes | {f"{manifest.PARTS}/{p.name}": p.stat().st_size for p in fragments.values()},
        }
        replace(parts / _record(part), manifest.dumps(record).encode(), durable=False)


def commit(root: Path | str, header: Header) -> None:
    """Merge the parts into tables and annotations, then write `dataset.json` and remove `parts/`.

    Time is linear in the rows; memory holds one part and one row group. Does nothing where the dataset is
    finished.

    Raises:
        ImgsynthError: a part is missing, or the disk is full or cannot be written.
    """
    root = Path(root)
    if (root / manifest.MANIFEST).exists():
        return
    parts = header.parts()
    folder = root / manifest.PARTS
    missing = [p for p in parts if not (folder / _record(p)).exists()]
    if missing:
        raise ImgsynthError(
            f"{root}: cannot finish: {len(missing)} of {len(parts)} parts are missing, "
            f"the first begins with frame {missing[0].start}"
        )
    with disk_errors(root):
        files: dict[str, str] = {}
        with hashed(root / manifest.FRAMES, files) as out:
            tables.merge_fragments([folder / _fragment(p, "frames") for p in parts], out, tables.FRAME_ROWS)
        with hashed(root / manifest.INSTANCES, files) as out:
            fragments = [folder / _fragment(p, "instances") for p in parts]
            instances = tables.merge_fragments(fragments, out, tables.INSTANCE_ROWS)
        with hashed(root / manifest.COCO, files) as out:
            _write_annotations(out, coco.opening(header), [folder / _fragment(p, "coco") for p in parts])
        if "panoptic" in header.outputs:
            with hashed(root / manifest.PANOPTIC, files) as out:
                lines = [folder / _fragment(p, "panoptic") for p in parts]
                _write_annotations(out, panoptic.opening(header), lines)
        hashes = []
        for part in parts:
            record = manifest.parse((folder / _record(part)).read_bytes(), folder / _record(part))
            hashes.append(PartHash(start=part.start, count=part.count, sha256=record["sha256"]))
        sync_folder(root)
        frames = [folder / _fragment(p, "frames") for p in parts]
        rules, filters = tables.rule_counts(frames), tables.drop_counts(frames)
        text = Manifest.of(header, instances, files, hashes, rules, filters).dumps()
        replace(root / manifest.MANIFEST, text.encode(), draft=folder / manifest.MANIFEST)
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(root: Path | str) -> tuple[int, int] | None:
    """(committed, all) parts of a dataset that was begun and not finished; None where there is none."""
    root = Path(root)
    begun = root / manifest.PARTS / _HEADER
    if (root / manifest.MANIFEST).exists() or not begun.is_file():
        return None
    parts = Header.from_json(manifest.parse(begun.read_bytes(), begun), begun).parts()
    return sum((root / manifest.PARTS / _record(p)).exists() for p in parts), len(parts)


def _begun(root: Path, resume: bool) -> Header | None:
    """The header of the dataset that stands in `root`, None where there is room for a new one."""
    if root.exists() and not root.is_dir():
        raise ImgsynthError(f"{root}: expected a folder, this is a file")
    entries = {e.name for e in os.scandir(root)} if root.exists() else set()
    done, begun = root / manifest.MANIFEST, root / manifest.PARTS / _HEADER
    if manifest.MANIFEST in entries:
        if not resume:
            raise ImgsynthError(
                f"{root}: holds a finished dataset already; choose another folder or remove it"
            )
        return Manifest.loads(done.read_bytes(), done).header
    if begun.is_file():
        if not resume:
            raise ImgsynthError(
                f"{root}: holds an unfinished dataset; continue it with --resume or remove it"
            )
        return Header.from_json(manifest.parse(begun.read_bytes(), begun), begun)
    ours = {manifest.PARTS, *(folder for folder, _ in manifest.KINDS.values())}
    # A stop before the header was in place leaves empty folders of ours.
    if not entries <= ours or any(any((root / name).iterdir()) for name in entries - {manifest.PARTS}):
        raise ImgsynthError(
            f"{root}: not empty, and not an imgsynth dataset: {', '.join(sorted(entries)[:3])} …"
        )
    return None


def _same_header(root: Path, begun: Header, now: Header) -> None:
    old, new = begun.to_json(), now.to_json()
    for field in ("name", "spec_digest", *sorted(old.keys() | new.keys())):
        if old.get(field) != new.get(field):
            what = f"{field} {old.get(field)!r}, now {new.get(field)!r}"
            what = "another scene" if field == "spec" else what
            raise ImgsynthError(f"{root}: cannot resume: the dataset was begun with {what}")


def _is_committed(root: Path, part: Part) -> bool:
    """Whether the part's record is there and all its files have their size (a power cut may empty some)."""
    path = root / manifest.PARTS / _record(part)
    try:
        record = manifest.parse(path.read_bytes(), path)
        return all(os.stat(f"{root}/{name}").st_size == size for name, size in record["bytes"].items())
    except (FileNotFoundError, DataError, KeyError):
        return False
    return True


def _check_batch(header: Header, part: Part, batch: FrameBatch) -> None:
    wanted = np.arange(part.start, part.start + part.count)
    if not np.array_equal(batch.indices, wanted):
        raise DataError(f"part {part.number}: expected frames {wanted[0]}..{wanted[-1]}, got {batch.indices}")
    shape = (part.count, *header.size, header.channels)
    if batch.images.shape != shape or batch.images.dtype != np.uint8:
        raise DataError(f"part {part.number}: expected uint8 images {shape}, got {batch.images.shape}")
    if batch.classes != header.classes:
        raise DataError(f"part {part.number}: expected classes {header.classes}, got {batch.classes}")
    rows, ids = batch.instances, batch.buffers.instance
    if (
        max(rows.id.max(initial=0), ids.max()) > manifest.MAX_ID
        or min(rows.id.min(initial=1) - 1, ids.min()) < 0
    ):
        raise DataError(
            f"part {part.number}: instance ids must lie in 1..{manifest.MAX_ID}; masks have 16 bits"
        )
    for field in ("box_visible", "box_amodal", "visible_fraction", "truncated_fraction"):
        values = getattr(rows, field)
        bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if bad.any():
            k = int(np.argmax(bad))
            index = batch.indices[rows.frame[k]]
            raise DataError(f"frame {index}, instance {rows.id[k]} ({rows.path[k]}): {field} is not finite")


def _write_files(
    root: Path, header: Header, batch: FrameBatch
) -> tuple[dict[str, str], dict[str, list[bytes]], dict[str, int]]:
    """Write the files of each frame. Returns path → hex SHA-256, kind → digests by frame, path → bytes."""
    hashes: dict[str, str] = {}
    digests: dict[str, list[bytes]] = {}
    sizes: dict[str, int] = {}
    for kind in header.kinds:
        encode = _encoder(kind, batch)
        digests[kind] = []
        for k, index in enumerate(batch.indices.tolist()):
            data = encode(k)
            name = frame_file(kind, index)
            write_file(f"{root}/{name}", data)
            digest = hashlib.sha256(data)
            digests[kind].append(digest.digest())
            hashes[name], sizes[name] = digest.hexdigest(), len(data)
    return hashes, digests, sizes


def _encoder(kind: str, batch: FrameBatch) -> Callable[[int], bytes]:
    """A function from batch position to the bytes of that frame's file.

    Raises:
        DataError: the frames lack what the header promises.
    """
    if kind == "image":
        images: U8 = np.ascontiguousarray(batch.images)
        return lambda k: codec.encode_image(images[k])
    if kind == "mask":
        masks = batch.buffers.instance.astype(np.uint16)
        return lambda k: codec.encode_mask(masks[k])
    if kind == "semantic":
        classes = batch.semantic.astype(np.uint16)
        return lambda k: codec.encode_mask(classes[k])
    if kind == "panoptic":
        return lambda k: codec.encode_segments(panoptic.segments(batch, k))
    if kind.startswith("flow_"):
        flow, occluded = _given(batch.buffers, kind), _given(batch.buffers, kind.replace("flow", "occluded"))
        return lambda k: codec.encode_flow(flow[k], occluded[k])
    encode, holder = _PLAIN[kind]
    values = _given(batch if holder == "frame" else batch.buffers, kind)
    return lambda k: encode(values[k])


# Kinds that are one array a frame: how it is encoded, and whether buffers hold it or the finished frames.
_PLAIN: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "depth": (codec.encode_depth, "buffers"),
    "normal": (codec.encode_normal, "buffers"),
    "albedo": (codec.encode_shares, "buffers"),
    "distance": (codec.encode_distance, "frame"),
    "nocs": (codec.encode_shares, "frame"),
}


def _given(holder: FrameBatch | Buffers, name: str) -> Any:
    values = getattr(holder, name)
    if values is None:
        raise DataError(f"the dataset has an output {name}, its frames were made without")
    return values


def _write_annotations(out: IO[bytes], opening: Iterable[str], fragments: Sequence[Path]) -> None:
    for text in opening:
        out.write(text.encode("utf-8"))
    separator = b""
    for path in fragments:
        data = path.read_bytes()
        if data:
            out.write(separator + data)
            separator = coco.SEPARATOR.encode("ascii")
    out.write(coco.CLOSING.encode("ascii"))


def _record(part: Part) -> str:
    return f"{part.number:05d}.json"


def _fragment(part: Part, what: str) -> str:
    return f"{part.number:05d}.{what}"
