"""What a training step of each preset costs, beside a plain UNet of diffusers at the same image size, in one run.

    python scripts/bench/diffuser_step.py [--size 28] [--batch 64] [--repeats 3] [--json FILE]

`plain` has what a first try would have: no patches, three levels (32, 64, 128), two blocks, 8 groups a norm and
torch's fused attention. `small, fused` and `small, 8 groups` are ours without one of its two choices. Time is
processor time of one thread, the least of the repeats, taken in turns; bf16 where the learner would take it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from diffusers import UNet2DModel  # noqa: E402
from diffusers.models.attention_processor import Attention, AttnProcessor2_0  # noqa: E402

from imgsynth.diffusion.model import Diffuser  # noqa: E402
from imgsynth.diffusion.settings import PRESETS, suited  # noqa: E402
from imgsynth.learn.loop import resolve_precision  # noqa: E402

CLASSES = tuple("abcdefghij")


def plain(size: int) -> Any:
    side = 4 * -(-size // 4)
    return UNet2DModel(
        sample_size=side, in_channels=1, out_channels=1, block_out_channels=(32, 64, 128), layers_per_block=2,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8, num_class_embeds=11, attention_head_dim=32,
    ).to(memory_format=torch.channels_last)  # fmt: skip


def regrouped(net: Any, groups: int) -> Any:
    for module in net.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = groups
    return net


def rivals(size: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Name → (network, shape of what it is shown)."""
    out = {"plain": (plain(size), (1, 4 * -(-size // 4), 4 * -(-size // 4)))}
    for preset in [*PRESETS, "small, fused", "small, 8 groups"]:
        config = suited((size, size), 1, CLASSES, preset.partition(",")[0])
        net = Diffuser.new(config, 0).net.train()
        if preset.endswith("fused"):
            for module in net.modules():
                if isinstance(module, Attention):
                    module.set_processor(AttnProcessor2_0())
        if preset.endswith("8 groups"):
            regrouped(net, 8)
        out[preset] = (net, (config.patch**2, *config.inner_size))
    return out


def step_seconds(net: Any, shape: tuple[int, ...], batch: int, precision: str) -> float:
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    x = torch.randn(batch, *shape).contiguous(memory_format=torch.channels_last)
    labels, clock = torch.arange(batch) % 11, torch.rand(batch) * 1000
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        said = net(x, clock, class_labels=labels).sample
    loss = (said.float() - x).square().mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    precision = resolve_precision("auto", (args.size, args.size))
    field = rivals(args.size)
    best = dict.fromkeys(field, float("inf"))
    for repeat in range(args.repeats + 1):
        for name, (net, shape) in field.items():
            seconds = step_seconds(net, shape, args.batch, precision)
            if repeat:  # the first of each compiles its kernels
                best[name] = min(best[name], seconds)
    rows = [
        {
            "net": name,
            "parameters": sum(p.numel() for p in net.parameters()),
            "seconds": best[name],
            "of_plain": best[name] / best["plain"],
        }
        for name, (net, _) in field.items()
    ]
    print(f"{args.size} px, batch {args.batch}, {precision}, one thread")
    for row in rows:
        print(
            f"{row['net']:18} {row['parameters'] / 1e6:6.2f} M  {row['seconds']:.3f} s  "
            f"{row['of_plain']:.2f} of plain"
        )
    if args.json:
        args.json.write_text(json.dumps({"size": args.size, "precision": precision, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
