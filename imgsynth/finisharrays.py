"""What the surfaces of a batch are made of, as structs of arrays: textures, patterns, layers, materials.

`imgsynth.batch` hands them on. `T` textures, `L` their levels, `A` materials; float32 unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class TexturePool:
    """RGBA textures, sRGB-encoded 8 bit, straight alpha, with their mip chains (2×2 box in linear light).

    Texture t has levels first_level[t] .. first_level[t+1]-1; level l is `level_size[l]` (height, width)
    texels starting at `level_start[l]`, row 0 at the top (v = 1). Level 0 is the image itself.

    Textures that a material uses for data are not sRGB: `surface_texture` holds values / 255, averaged as
    they are; `normal_texture` holds unit normals as 128 + 127 · (x, y, z), and in alpha 255 · (1 - s), where
    s² is the variance of slopes that averaging took away (Toksvig, "Mipmapping normal maps", 2005).
    """

    texels: U8  # (texels, 4)
    first_level: I32  # (T + 1,)
    level_start: I64  # (L,)
    level_size: I32  # (L, 2)

    def __len__(self) -> int:
        return len(self.first_level) - 1

    @staticmethod
    def empty() -> TexturePool:
        """No textures."""
        return TexturePool(
            np.zeros((1, 4), np.uint8),
            np.zeros(1, np.int32),
            np.zeros(1, np.int64),
            np.ones((1, 2), np.int32),
        )


PATTERN_KINDS = ("fbm", "worley", "checker", "stripes", "wood", "marble", "brick", "gradient")
FBM, WORLEY, CHECKER, STRIPES, WOOD, MARBLE, BRICK, RAMP = range(8)


@dataclass(frozen=True)
class Patterns:
    """`p` procedural patterns of two colours, worked out by the renderer at the points it sees.

    The pattern's own point is `frame` · x + `offset`, x the point in the object's frame, its scale applied
    (metres; of the ground: world), or (u, v, 0) in repeats of the texture where `mapped`. What each kind
    makes of it: `imgsynth.render.patterns`; columns that a kind has no use for are ignored.
    """

    kind: I32  # (p,) index into PATTERN_KINDS
    mapped: NDArray[np.bool_]  # (p,)
    frame: F32  # (p, 3, 3)
    offset: F32  # (p, 3)
    color_a: F32  # (p, 3)
    color_b: F32  # (p, 3)
    seed: NDArray[np.uint32]  # (p,)
    octaves: I32  # (p,)
    gain: F32  # (p,) of an octave's amplitude on the last's
    contrast: F32  # (p,) fbm
    warp: F32  # (p,) wood, marble
    mortar: F32  # (p,) brick: share of a course's height
    variation: F32  # (p,) brick: how much brighter or darker single bricks are

    def __len__(self) -> int:
        return len(self.kind)


LAYER_KINDS = ("dirt", "fading", "scratches", "stickers", "decal")
DIRT, FADING, SCRATCHES, STICKERS, DECAL = range(5)


@dataclass(frozen=True)
class Layers:
    """`l` layers that lie over materials: each changes colour, roughness and metal where it covers.

    `imgsynth.render.layers` says what each kind makes of its columns; those it has no use for are ignored.
    """

    kind: I32  # (l,) index into LAYER_KINDS
    mapped: NDArray[np.bool_]  # (l,) over texture coordinates, not in the object's frame
    color_a: F32  # (l, 3)
    color_b: F32  # (l, 3) stickers: each has a colour of its own between the two
    coverage: F32  # (l,) share of the surface
    strength: F32  # (l,) 0..1: how much of what is below it hides
    roughness: F32  # (l,) perceptual
    metallic: F32  # (l,)
    scale: F32  # (l,) dirt, fading: a blotch; stickers: the cell that holds one: metres or units of uv
    width: F32  # (l,) scratches
    length: F32  # (l,)
    softness: F32  # (l,) dirt, fading: of the edges, in standard deviations of the noise
    seed: NDArray[np.uint32]  # (l,)
    texture: I32  # (l,) decal, stickers; -1 = none
    place: F32  # (l, 2, 3) decal: (u, v, 1) to coordinates of its picture, 0..1, downwards

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Materials:
    """Metallic-roughness materials (glTF 2.0 §3.9): base colour is multiplied by the texture where there is
    one, and by the pattern.

    What stands after `alpha_cutoff` may be left out: no such texture, no coat, no pattern. Textures named in
    `normal_texture` and `surface_texture` hold data, not colours; see `TexturePool`.
    """

    base_color: F32  # (A, 3)
    metallic: F32  # (A,)
    roughness: F32  # (A,) perceptual, 0..1
    emission: F32  # (A, 3) radiance
    texture: I32  # (A,) -1 = none
    uv_scale: F32  # (A, 2) texture repeats per unit of uv
    alpha_cutoff: F32  # (A,) texture alpha below it is not there, for colour and labels alike; 0 = opaque
    normal_texture: I32 = None  # type: ignore[assignment]  # (A,) tangent space, +y along v
    normal_scale: F32 = None  # type: ignore[assignment]  # (A,) of its x and y
    surface_texture: I32 = None  # type: ignore[assignment]  # (A,) green · roughness, blue · metallic
    emission_texture: I32 = None  # type: ignore[assignment]  # (A,) · emission
    clearcoat: F32 = None  # type: ignore[assignment]  # (A,) KHR_materials_clearcoat: weight, 0 = none
    clearcoat_roughness: F32 = None  # type: ignore[assignment]  # (A,) perceptual
    pattern: I32 = None  # type: ignore[assignment]  # (A,) row of `patterns`, -1 = none
    patterns: Patterns | None = None
    layer_range: I32 = None  # type: ignore[assignment]  # (A, 2) first and last + 1 row of `layers`, in order
    layers: Layers | None = None

    def __post_init__(self) -> None:
        count = len(self.metallic)
        for names, value in (
            (("normal_texture", "surface_texture", "emission_texture", "pattern"), np.int32(-1)),
            (("clearcoat", "clearcoat_roughness"), np.float32(0)),
            (("normal_scale",), np.float32(1)),
        ):
            for name in names:
                if getattr(self, name) is None:
                    object.__setattr__(self, name, np.full(count, value))
        if self.layer_range is None:
            object.__setattr__(self, "layer_range", np.zeros((count, 2), np.int32))

    @property
    def plain(self) -> bool:
        """Whether all are constants and at most a base-colour texture."""
        textures = (self.normal_texture, self.surface_texture, self.emission_texture, self.pattern)
        layered = np.any(self.layer_range[:, 1] > self.layer_range[:, 0])
        return not (layered or np.any(self.clearcoat > 0) or any(np.any(t >= 0) for t in textures))
