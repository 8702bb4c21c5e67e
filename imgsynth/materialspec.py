"""What a scene file says of materials and their textures; `imgsynth.matter` collects them for a batch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from imgsynth.distributions import Distribution, integer, text
from imgsynth.leaves import PICK, SEED, Color, Fraction, Name, NonNegative, Positive, Seed, exactly_one, leaf
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


class MaterialSpec(Spec):
    """Metallic-roughness (glTF 2.0): `repeat` is texture repeats per unit of uv; texels with alpha below
    `alpha_cutoff` are not there.
    """

    color: Color = leaf("#c8c8c8")
    metallic: Fraction = leaf(0.0)
    roughness: Fraction = leaf(0.6)
    emission: NonNegative = leaf(0.0)
    texture: TextureSpec | None = None
    repeat: Positive = leaf(1.0)
    alpha_cutoff: Fraction = leaf(0.0)
