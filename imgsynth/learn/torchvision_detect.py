"""torchvision's detection networks by name, trained and asked like the compact one.

They get the same crops at the same working size; their own resizing is switched off, except in the SSD
family, whose input size is fixed: these see whole images. Ignored objects are background to them, which know
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imgsynth.batch import F32
from imgsynth.errors import ModelError
from imgsynth.learn.targets import Truth

PREFIX = "torchvision:"


class TorchvisionDetector(nn.Module):
    """One of torchvision's detection networks, with weights drawn from torch's global generator.

    Args:
        name: as torchvision calls it (fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, ssdlite320_…).
        classes: how many, without a background.
        masks: whether masks are wanted.
        score_floor: what scores less is not found.
        most: objects an image.

    Raises:
        ModelError: an unknown name, or one that does not fit the task.
    """

    def __init__(self, name: str, classes: int, masks: bool, score_floor: float = 0.05, most: int = 200):
        super().__init__()
        from torchvision import models

        known = [n for n in models.list_models(module=models.detection) if not n.startswith("keypointrcnn")]
        if name not in known:
            raise ModelError(f"net: torchvision has no detection model {name!r}; it has {', '.join(known)}")
        if name.startswith("maskrcnn") != masks:
            raise ModelError(
                f"net: {name} {'does not find' if masks else 'learns from'} masks; "
                + ("try torchvision:maskrcnn_resnet50_fpn" if masks else "use --task segment")
            )
        self.whole = name.startswith("ssd")
        self.inner: Any = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes + 1)
        self.inner.transform._skip_resize = not self.whole
        for place in (self.inner, getattr(self.inner, "roi_heads", None)):
            for attribute, value in (
                ("score_thresh", score_floor),
                ("detections_per_img", most),
            ):
                if hasattr(place, attribute):
                    setattr(place, attribute, value)

    def loss(self, images: Tensor, truths: Sequence[Truth]) -> Tensor:
        """The sum of the network's own losses on crops (n, 3, H, W) of pixels in 0..1."""
        targets = []
        for truth in truths:
            sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
            kept = np.flatnonzero(~truth.ignored & (sides.min(axis=1, initial=np.inf) >= 1))
            target = {
                "boxes": torch.from_numpy(truth.boxes[kept]).float(),
                "labels": torch.from_numpy(truth.labels[kept] + 1),
            }
            if truth.masks is not None:
                drawn = torch.zeros((len(kept), *images.shape[2:]), dtype=torch.uint8)
                for row, k in enumerate(kept.tolist()):
                    mask = truth.masks[k]
                    if mask is None:  # it has a box only: filled
                        x0, y0, x1, y1 = np.rint(truth.boxes[k]).astype(int).tolist()
                        drawn[row, y0:y1, x0:x1] = 1
                    else:
                        drawn[row] = torch.from_numpy(mask > 0.5)
                target["masks"] = drawn
            targets.append(target)
        parts: dict[str, Tensor] = self.inner(list(images), targets)
        return torch.stack(list(parts.values())).sum()

    def find(self, image: Tensor) -> tuple[F32, Any, F32, F32 | None]:
        """Boxes (k, 4) in the image's pixels, labels, scores and mask chances (k, H, W) in one image
        (3, H, W) of pixels in 0..1.
        """
        height, width = image.shape[1:]
        if not self.whole:
            self.inner.transform.min_size = (min(height, width),)
            self.inner.transform.max_size = max(height, width)
        said = self.inner([image])[0]
        masks = said["masks"][:, 0].numpy() if "masks" in said else None
        return said["boxes"].numpy(), (said["labels"] - 1).numpy(), said["scores"].numpy(), masks
