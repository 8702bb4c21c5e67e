"""Where a detector starts from when it does not start from nothing: another detector's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from imgsynth.learn.centre import CentreNet
from imgsynth.learn.nets import fit_weights, read_weights
from imgsynth.learn.store import RECORD, WEIGHTS, read_record
from imgsynth.learn.torchvision_detect import TorchvisionDetector

PREFIX = "inner."
# What depends on the number of classes, or is there only where masks are.
COMPACT = ("reader.", "canvas.")
TORCHVISION = (
    "inner.roi_heads.box_predictor.",
    "inner.roi_heads.mask_predictor.mask_fcn_logits.",
    "inner.head.classification_head.",
)


def start_from(net: CentreNet | TorchvisionDetector, path: Path, classes: Sequence[str]) -> list[str]:
    """Fill `net` from a model folder that `learn` wrote, or from a file of weights.

    Classes are matched by name where the weights' own names are known (model.json beside them): what is read
    for a class they share is kept, in its place; the others start as drawn. Without names, a read-out of the
    same size is taken as it is.

    Returns:
        Names of the tensors that were left as drawn, wholly or in part.

    Raises:
        ModelError: a missing or unreadable file, or weights of another network.
    """
    if path.is_dir():
        path = path / WEIGHTS
    held = read_weights(path)
    if isinstance(net, TorchvisionDetector):
        if not any(name.startswith(PREFIX) for name in held):
            held = {PREFIX + name: t for name, t in held.items()}
        readouts: tuple[str, ...] = TORCHVISION
    else:
        readouts = COMPACT
    known = None
    if (path.parent / RECORD).is_file() and path.name == WEIGHTS:
        known = [str(c) for c in read_record(path.parent, ("detect", "segment")).get("classes", [])]
    mixed: list[str] = []
    if known is not None and known != list(classes):
        mixed = _by_name(net, held, known, classes)
    return sorted({*mixed, *fit_weights(net, held, path, readouts)})


def _by_name(
    net: CentreNet | TorchvisionDetector,
    held: dict[str, Tensor],
    known: Sequence[str],
    classes: Sequence[str],
) -> list[str]:
    """Replace what is read for each class by rows in the order of `classes`; returns the changed names.

    In torchvision's networks row 0 may be the background and a class may own several rows (one an anchor):
    there all of it is dropped.
    """
    own = net.state_dict()
    changed = []
    for name in list(held):
        if isinstance(net, CentreNet) and name.startswith("reader.names.") and name in own:
            rows = own[name].clone()
            rows[0] = held[name][0]  # nothing
            for k, c in enumerate(classes):
                if c in known:
                    rows[1 + k] = held[name][1 + known.index(c)]
            held[name] = rows
            changed.append(name)
        elif isinstance(net, TorchvisionDetector) and name.startswith(TORCHVISION):
            del held[name]
            changed.append(name)
    return changed
