"""Do generated masks say what the picture shows? Against a segmenter that never saw the generator.

    python scripts/proof/fidelity.py segmenter RENDERS -o SEGMENTER
    python scripts/proof/fidelity.py check DATASET --segmenter SEGMENTER [--json FILE] [-o SHEET.png]

`segmenter` trains a compact network on renders (an imgsynth dataset with masks, others than the generator saw)
and prints its mean IoU on the last tenth of them, which it is not trained on: what can be reached. `check`
compares a dataset's masks (sampled with the image, or given to it as a layout) with what the segmenter finds
in the pictures (`imgsynth.diffusion.fidelity`): IoU of each class over all pixels, and whether the confidence
of its objects means what it says, as it is in the dataset (`ece_raw`) and after another calibration on the
frames of even number (`ece`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from imgsynth.console import Bar
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion.fidelity import fidelity, labels_of, semantic_of
from imgsynth.learn.semantic import Segmenter, SegmenterConfig, mean_iou, train_segmenter


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("segmenter")
    train.add_argument("renders", type=Path)
    train.add_argument("-o", "--out", type=Path, required=True)
    train.add_argument("--steps", type=int, default=900)
    check = commands.add_parser("check")
    check.add_argument("dataset", type=Path)
    check.add_argument("--segmenter", type=Path, required=True)
    check.add_argument("--right", type=float, default=0.5)
    check.add_argument("--json", type=Path)
    check.add_argument("-o", "--out", type=Path, help="a sheet of pictures, their masks and the segmenter's")
    given = parser.parse_args()
    return segmenter(given) if given.command == "segmenter" else checked(given)


def segmenter(given: argparse.Namespace) -> int:
    dataset = Dataset(given.renders)
    semantic = maps(dataset)
    images, held = dataset.images(), len(dataset) // 10
    with Bar("segmenter", "steps") as bar:
        model = train_segmenter(
            images[:-held], semantic[:-held], dataset.classes, SegmenterConfig(steps=given.steps), seed=0,
            digest=dataset.manifest.sha256, progress=lambda done, total, loss: bar(done, total),
        )  # fmt: skip
    model.save(given.out)
    say(mean_iou(model.predict(images[-held:]), semantic[-held:], len(dataset.classes)), dataset.classes)
    return 0


def checked(given: argparse.Namespace) -> int:
    dataset, model = Dataset(given.dataset), Segmenter.load(given.segmenter)
    images, labels = dataset.images(), labels_of(dataset)
    found = model.predict(images)
    result: dict[str, Any] = fidelity(labels, found, dataset.classes, least=given.right).to_json()
    result |= {"dataset": str(given.dataset), "frames": len(dataset)}
    say(np.array(list(result["iou"].values())), dataset.classes)
    for name in ("objects", "objects_right", "ece_raw", "ece"):
        print(f"{name:16} {result.get(name, '—')}")
    if given.out is not None:
        sheet(given.out, images, semantic_of(labels), found)
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def maps(dataset: Dataset) -> np.ndarray:
    """(n, H, W) class ids of all frames."""
    return np.stack([dataset.semantic_mask(i) for i in range(len(dataset))]).astype(np.uint8)


def say(iou: np.ndarray, classes: tuple[str, ...]) -> None:
    parts = [f"{name} {value:.3f}" for name, value in zip(("background", *classes), iou, strict=True)]
    print(f"mIoU {np.nanmean(iou):.3f}: " + ", ".join(parts))


def sheet(path: Path, images: np.ndarray, semantic: np.ndarray, found: np.ndarray, n: int = 40) -> None:
    """Three lines for each eight pictures: the picture, its mask, the segmenter's."""
    import cv2

    colours = np.array(
        [[40, 40, 40], [66, 133, 244], [52, 168, 83], [234, 67, 53], [251, 188, 5], [171, 71, 188]]
    )
    lines = []
    for start in range(0, min(n, len(images)), 8):
        at = slice(start, start + 8)
        for part in (images[at], colours[semantic[at] % 6], colours[found[at] % 6]):
            big = part.astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
            lines.append(np.concatenate(list(np.broadcast_to(big, (*big.shape[:3], 3))), axis=1))
    width = max(line.shape[1] for line in lines)
    lines = [np.pad(line, ((0, 4), (0, width - line.shape[1]), (0, 0))) for line in lines]
    cv2.imwrite(str(path), np.concatenate(lines)[:, :, ::-1])


if __name__ == "__main__":
    sys.exit(main())
