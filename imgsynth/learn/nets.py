"""Networks for classification: a compact one that fits its input's size, and torchvision's by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgsynth.errors import ModelError


class CompactNet(nn.Module):
    """A plain convolutional network for images of 8×8 to 64×64 pixels.

    Input of 24 pixels or more first goes through one 3×3 convolution and a 2×2 max-pool, since full
    resolution is where the time goes. Then stages of two 3×3 convolutions (batch norm, ReLU) at 1, 2, 4, …
    times `width` channels (at most 8), halved by max-pooling between stages until 4 to 7 pixels a side are
    left. What is left is averaged to 4×4 at most and read out linearly, place by place: on small images the
    place of a stroke says much.

    Args:
        size: (height, width) of the input, at least 4.
        channels: 1 or 3.
        classes: number of outputs.
        width: channels of the first stage.
    """

    def __init__(
        self, size: tuple[int, int], channels: int, classes: int, width: int = 24, dropout: float = 0.0
    ):
        super().__init__()
        if min(size) < 4:
            raise ModelError(f"net compact: images of at least 4×4 pixels expected, got {size[0]}×{size[1]}")
        side = min(size)
        layers: list[nn.Module] = []
        held = channels
        if side >= 24:
            layers += [*_conv(held, width), nn.MaxPool2d(2)]
            held, side = width, side // 2
        stages = max(1, int(math.log2(side / 4)) + 1)
        for stage in range(stages):
            if stage:
                layers.append(nn.MaxPool2d(2))
            c = width * min(2**stage, 8)
            layers += [*_conv(held, c), *_conv(c, c)]
            held = c
        self.features = nn.Sequential(*layers)
        halvings = stages - 1 + (min(size) >= 24)
        left = (size[0] >> halvings, size[1] >> halvings)
        self.pool = nn.Identity() if left == (4, 4) else nn.AdaptiveAvgPool2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(held * 16, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        out: Tensor = self.head(self.pool(self.features(x)))
        return out


def _conv(held: int, made: int) -> list[nn.Module]:
    conv = nn.Conv2d(held, made, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(made), nn.ReLU(inplace=True)]


def build_net(
    name: str, size: tuple[int, int], channels: int, classes: int, width: int, dropout: float = 0.0
) -> nn.Module:
    """A network with freshly drawn weights (from torch's global generator: seed it first).

    Args:
        name: `compact`, or `torchvision:` and the name of one of its classification models (these take 3
            channels).
        size: (height, width) of the input.
        channels: 1 or 3.
        classes: number of outputs.
        width: channels of the compact net's first stage.
        dropout: before the compact net's read-out.

    Raises:
        ModelError: an unknown name.
    """
    if name == "compact":
        return CompactNet(size, channels, classes, width, dropout)
    if not name.startswith("torchvision:"):
        raise ModelError(
            f"net: expected `compact` or `torchvision:NAME` (such as torchvision:resnet18), got {name!r}"
        )
    from torchvision import models

    known = models.list_models(module=models)
    wanted = name.removeprefix("torchvision:")
    if wanted not in known:
        raise ModelError(
            f"net: torchvision has no classification model {wanted!r}; it has {', '.join(known)}"
        )
    # Both warn unless told, and their auxiliary heads need inputs larger than ours.
    extra: dict[str, Any] = {}
    if wanted in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": True}
    net: nn.Module = models.get_model(wanted, weights=None, num_classes=classes, **extra)
    return net


def input_channels(name: str, channels: int) -> int:
    """Channels that a net of this name takes for data of `channels` (torchvision's all take RGB)."""
    return channels if name == "compact" else 3


def load_weights(net: nn.Module, path: Path) -> list[str]:
    """Start `net` from a state dict in a file (.safetensors, or .pth read with `weights_only=True`).

    A read-out layer for another number of classes is left as it was drawn; anything else that does not fit is
    an error.

    Returns:
        Names of the tensors that were left as drawn.

    Raises:
        ModelError: a missing or unreadable file, or weights of another network.
    """
    return fit_weights(net, read_weights(path), path, (_readout(net) + ".",))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        ModelError: a missing or unreadable file.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"weights: no such file: {path}")
    try:
        if path.suffix == ".safetensors":
            held = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # safetensors and torch raise many kinds for damaged or unsafe files
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ModelError(f"weights: {path}: not readable as plain tensors: {reason}") from e
    if not isinstance(held, dict) or not all(isinstance(v, Tensor) for v in held.values()):
        raise ModelError(f"weights: {path}: expected a state dict (names and tensors)")
    return held


def fit_weights(
    net: nn.Module, held: Mapping[str, Tensor], path: Path, readouts: tuple[str, ...]
) -> list[str]:
    """Put `held` (read from `path`) into `net`; what begins with one of `readouts` may be missing or of
    another shape, and stays as drawn.

    Returns:
        Names of the tensors that were left as drawn.

    Raises:
        ModelError: anything else that does not fit.
    """
    own = net.state_dict()
    left = [n for n in own if n not in held or held[n].shape != own[n].shape]
    # Frozen norms, as torchvision's published detectors have them, count no batches.
    strange = [n for n in left if not n.startswith(readouts) and not n.endswith("num_batches_tracked")] + [
        n for n in held if n not in own and "aux" not in n.lower() and not n.startswith(readouts)
    ]
    if strange:
        raise ModelError(
            f"weights: {path}: does not fit the network, at {strange[0]!r} ({len(strange)} such names)"
        )
    net.load_state_dict({n: held[n] for n in own if n not in left}, strict=False)
    return left


def _readout(net: nn.Module) -> str:
    """Name of the last linear layer."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
