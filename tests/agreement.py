"""How far two renderers' buffers of the same frames are apart, in the figures that docs/renderers.md quotes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from imgsynth.frame import Buffers


@dataclass
class Agreement:
    """Figures over many frames; `add` as many batches as wanted."""

    ious: list[float] = field(default_factory=list)  # visible masks of objects larger than `least` pixels
    amodal: list[float] = field(default_factory=list)
    depth: list[np.ndarray] = field(default_factory=list)  # relative, where both hit
    angle: list[np.ndarray] = field(default_factory=list)  # degrees, where both see the same object
    differs: list[float] = field(default_factory=list)  # share of pixels with other ids

    def add(self, a: Buffers, b: Buffers, frame_of: np.ndarray, ids: np.ndarray, least: int = 100) -> None:
        for f in range(len(a.instance)):
            self.differs.append(float((a.instance[f] != b.instance[f]).mean()))
            both = np.isfinite(a.depth[f]) & np.isfinite(b.depth[f])
            self.depth.append(np.abs(a.depth[f][both] - b.depth[f][both]) / a.depth[f][both])
            same = both & (a.instance[f] == b.instance[f])
            cos = np.einsum("nc,nc->n", a.normal[f][same].astype(float), b.normal[f][same].astype(float))
            self.angle.append(np.degrees(np.arccos(np.clip(cos, -1, 1))))
        size = a.instance.shape[1:]
        for row, (f, i) in enumerate(zip(frame_of, ids, strict=True)):
            for out, (p, q) in (
                (self.ious, (a.instance[f] == i, b.instance[f] == i)),
                (self.amodal, (a.amodal.mask(row, size), b.amodal.mask(row, size))),
            ):
                if p.sum() > least:
                    out.append(float((p & q).sum() / (p | q).sum()))

    def figures(self) -> dict[str, float]:
        depth, angle = np.concatenate(self.depth), np.concatenate(self.angle)
        return {
            "frames": len(self.differs),
            "objects": len(self.ious),
            "least IoU": min(self.ious),
            "mean IoU": float(np.mean(self.ious)),
            "least amodal IoU": min(self.amodal),
            "pixels with other ids": float(np.mean(self.differs)),
            "depth within 1e-3": float((depth <= 1e-3).mean()),
            "normals within 1°": float((angle <= 1.0).mean()),
        }
