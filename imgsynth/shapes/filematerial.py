"""What a mesh file says of one material; the scene's own words go before it."""

from __future__ import annotations

from dataclasses import dataclass

from imgsynth.batch import F64
from imgsynth.textures import Chain


@dataclass(frozen=True)
class FileMaterial:
    """One material of a mesh file, metallic-roughness (glTF 2.0 §3.9); None where the file says nothing.

    Colours are linear. Textures are mip chains of RGBA images. `two_sided` counts only where parts of the
    surface are cut out: a closed surface hides its inside.
    """

    name: str = "main"
    color: F64 | None = None  # (3,) factor of the texture, or the colour where there is none
    texture: Chain | None = None  # sRGB
    metallic: float | None = None
    roughness: float | None = None  # perceptual
    emission: F64 | None = None  # (3,) radiance
    alpha_cutoff: float | None = None
    two_sided: bool = False
    normal: Chain | None = None  # role "normal" of `imgsynth.textures.build_mips`
    normal_scale: float | None = None
    surface: Chain | None = None  # role "data": roughness in green, metal in blue
    emission_texture: Chain | None = None  # sRGB
    clearcoat: float | None = None
    clearcoat_roughness: float | None = None

    @property
    def chains(self) -> tuple[Chain, ...]:
        """All its textures."""
        every = (self.texture, self.normal, self.surface, self.emission_texture)
        return tuple(chain for chain in every if chain is not None)
