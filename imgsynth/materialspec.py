"""What a scene file says of materials and their textures; `imgsynth.matter` collects them for a batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imgsynth.batch import PATTERN_KINDS
from imgsynth.distributions import Distribution, integer, text
from imgsynth.leaves import (
    PICK,
    SEED,
    Color,
    Fraction,
    Name,
    NonNegative,
    Positive,
    Rotation,
    Seed,
    exactly_one,
    leaf,
)
from imgsynth.yamlfile import Spec


class NoiseTextureSpec(Spec):
    """A texture made from noise: tiles seamlessly, two colours (multiplied with the material's own)."""

    kind: Annotated[Distribution, text(("noise", "speckle", "stripes", "checker", "wood"))] = leaf("noise")
    a: Color = leaf("white")
    b: Color = leaf("#808080")
    cells: Annotated[Distribution, integer(ge=1, le=64)] = leaf(4)
    seed: Seed = leaf(SEED)
    size: Annotated[int, Field(ge=8, le=1024)] = 128


class TextureSpec(Spec):
    """One source of a texture: an image or SVG file, a folder to pick from, or noise. Paths are relative to
    the scene file.

    Of a folder, `file` names the file by its stem, and `pick` chooses among its variants: `stop` takes
    stop.svg, stop.b.svg …; without `file`, `pick` chooses among all.
    """

    image: str | None = None
    svg: str | None = None
    folder: str | None = None
    file: Name | None = None
    noise: NoiseTextureSpec | None = None
    pick: Fraction = leaf(0.5)
    svg_size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]] = (256, 256)

    @model_validator(mode="before")
    @classmethod
    def _picks(cls, data: Any) -> Any:
        return {"pick": PICK, **data} if isinstance(data, dict) and data.get("folder") is not None else data

    @model_validator(mode="after")
    def _one(self) -> TextureSpec:
        exactly_one(self, ("image", "svg", "folder", "noise"))
        if self.file is not None and self.folder is None:
            raise ValueError("file names a file of a folder: give folder too")
        return self


class PatternSpec(Spec):
    """A procedural pattern of two colours (multiplied with the material's own), worked out where it is seen.

    `scale` is the length of a cell, a check, a pair of stripes, a growth ring, the way from vein to vein, a
    brick or the whole gradient: in metres of the object, or with `space: uv` in repeats of the texture.
    `rotation` turns the pattern in the object: wood grows along its x; stripes, veins and the gradient follow
    each other along it. `octaves` and `gain` shape fbm and marble, `contrast` fbm; `warp` bends wood and
    marble; `mortar` is a share of a course's height, `variation` how much single bricks differ. See
    docs/matter.md.
    """

    kind: Annotated[Distribution, text(PATTERN_KINDS)] = leaf("fbm")
    a: Color = leaf("white")
    b: Color = leaf("#606060")
    scale: Positive = leaf(0.05)
    seed: Seed = leaf(SEED)
    space: Literal["object", "uv"] = "object"
    rotation: Rotation | None = None
    octaves: Annotated[Distribution, integer(ge=1, le=10)] = leaf(5)
    gain: Fraction = leaf(0.5)
    contrast: NonNegative = leaf(1.5)
    warp: NonNegative = leaf(0.3)
    mortar: Fraction = leaf(0.15)
    variation: Fraction = leaf(0.2)


class MaterialSpec(Spec):
    """Metallic-roughness (glTF 2.0): `repeat` is texture repeats per unit of uv; texels with alpha below
    `alpha_cutoff` are not there.

    `normal` is a normal map in tangent space (green along v), its slopes times `normal_scale`; `surface`
    holds roughness in green and metal in blue, which `roughness` and `metallic` multiply (1 unless given);
    `emission_texture` is multiplied by `emission` (1 unless given; without it the emission has the base
    colour). `clearcoat` lays a clear lacquer over it all.
    """

    color: Color = leaf("#c8c8c8")
    metallic: Fraction = leaf(0.0)
    roughness: Fraction = leaf(0.6)
    emission: NonNegative = leaf(0.0)
    texture: TextureSpec | None = None
    normal: TextureSpec | None = None
    normal_scale: NonNegative = leaf(1.0)
    surface: TextureSpec | None = None
    emission_texture: TextureSpec | None = None
    pattern: PatternSpec | None = None
    clearcoat: Fraction = leaf(0.0)
    clearcoat_roughness: Fraction = leaf(0.05)
    repeat: Positive = leaf(1.0)
    alpha_cutoff: Fraction = leaf(0.0)

    @model_validator(mode="before")
    @classmethod
    def _factors(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        ones: dict[str, Any] = {}
        if data.get("surface") is not None:
            ones |= {"roughness": 1.0, "metallic": 1.0}
        if data.get("emission_texture") is not None:
            ones["emission"] = 1.0
        return {**ones, **data}

    @model_validator(mode="after")
    def _normals_are_pictures(self) -> MaterialSpec:
        if self.normal is not None and self.normal.noise is not None:
            raise ValueError("normal: expected an image, svg or folder: noise makes colours, not normals")
        return self
