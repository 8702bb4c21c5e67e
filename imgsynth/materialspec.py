"""What a scene file says of materials and their textures; `imgsynth.matter` collects them for a batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imgsynth.batch import LAYER_KINDS, PATTERN_KINDS
from imgsynth.distributions import Distribution, integer, number, text, vector
from imgsynth.leaves import (
    PICK,
    SEED,
    Color,
    Fraction,
    Name,
    NonNegative,
    Number,
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


class DirtSpec(Spec):
    """Blotches of dirt: `coverage` is their share of the surface, `scale` their size (metres, or units of uv
    with `space: uv`), `softness` that of their edges.
    """

    color: Color = leaf("#5b4a38")
    coverage: Fraction = leaf(0.3)
    strength: Fraction = leaf(0.85)
    scale: Positive = leaf(0.05)
    softness: NonNegative = leaf(0.4)
    roughness: Fraction = leaf(0.9)
    metallic: Fraction = leaf(0.0)
    seed: Seed = leaf(SEED)
    space: Literal["object", "uv"] = "object"


class FadingSpec(Spec):
    """Bleached blotches: towards grey of nearly the same brightness, tinted by `color`; else as dirt."""

    color: Color = leaf("white")
    coverage: Fraction = leaf(0.5)
    strength: Fraction = leaf(0.6)
    scale: Positive = leaf(0.2)
    softness: NonNegative = leaf(1.0)
    roughness: Fraction = leaf(0.8)
    seed: Seed = leaf(SEED)
    space: Literal["object", "uv"] = "object"


class ScratchesSpec(Spec):
    """Straight scratches, `width` wide and about `length` long (metres, or units of uv)."""

    color: Color = leaf("#b4b4b4")
    coverage: Annotated[Distribution, number(ge=0, le=0.5)] = leaf(0.04)
    strength: Fraction = leaf(0.8)
    width: Positive = leaf(0.0005)
    length: Positive = leaf(0.03)
    roughness: Fraction = leaf(0.5)
    metallic: Fraction = leaf(0.0)
    seed: Seed = leaf(SEED)
    space: Literal["object", "uv"] = "object"


class StickersSpec(Spec):
    """Rounded rectangles strewn over the surface, each of a colour between `a` and `b`, times `texture` where
    there is one (its alpha cuts them out). Each lies in a cell of its own, `scale` wide.
    """

    a: Color = leaf("#f2e205")
    b: Color = leaf("#0566c8")
    coverage: Annotated[Distribution, number(ge=0, le=0.2)] = leaf(0.1)
    strength: Fraction = leaf(1.0)
    scale: Positive = leaf(0.08)
    roughness: Fraction = leaf(0.35)
    metallic: Fraction = leaf(0.0)
    seed: Seed = leaf(SEED)
    texture: TextureSpec | None = None
    space: Literal["object", "uv"] = "object"


class DecalSpec(Spec):
    """A picture laid on the texture coordinates: its middle, its size (width, height) and its turn,
    counter-clockwise, in units of uv. Its alpha says what it covers.
    """

    texture: TextureSpec
    color: Color = leaf("white")
    center: Annotated[Distribution, vector(2)] = leaf([0.5, 0.5])
    size: Annotated[Distribution, vector(2, gt=0)] = leaf([0.5, 0.5])
    rotation_deg: Number = leaf(0.0)
    strength: Fraction = leaf(1.0)
    roughness: Fraction = leaf(0.35)
    metallic: Fraction = leaf(0.0)


class LayerSpec(Spec):
    """Exactly one layer. `strength` is how much of what is below it hides."""

    dirt: DirtSpec | None = None
    fading: FadingSpec | None = None
    scratches: ScratchesSpec | None = None
    stickers: StickersSpec | None = None
    decal: DecalSpec | None = None

    @property
    def kind(self) -> str:
        """The name of the layer given."""
        return next(name for name in LAYER_KINDS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one(self) -> LayerSpec:
        exactly_one(self, LAYER_KINDS)
        return self


class MaterialSpec(Spec):
    """Metallic-roughness (glTF 2.0): `repeat` is texture repeats per unit of uv; texels with alpha below
    `alpha_cutoff` are not there.

    `normal` is a normal map in tangent space (green along v), its slopes times `normal_scale`; `surface`
    holds roughness in green and metal in blue, which `roughness` and `metallic` multiply (1 unless given);
    `emission_texture` is multiplied by `emission` (1 unless given; without it the emission has the base
    colour). `clearcoat` lays a clear lacquer over it all. `layers`, by names of your own, lie upon each other
    in the order given, over texture and pattern.
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
    layers: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], LayerSpec] = {}
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
