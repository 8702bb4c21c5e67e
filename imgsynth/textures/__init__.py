"""Textures: RGBA images, sRGB-encoded 8 bit with straight alpha, from files, vector art or noise, and their
mip chains.

`files` decodes image files (and caches them with their chains), `svg` rasterizes vector art, `procedural`
makes noise that tiles, `mips` builds chains and packs them into the `TexturePool` that renderers take. Row 0
is the top (v = 1) throughout.
"""

from imgsynth.textures.files import image_size, list_images, load_chain, read_image
from imgsynth.textures.mips import Chain, Role, build_mips, pool
from imgsynth.textures.procedural import KINDS, noise_texture
from imgsynth.textures.svg import rasterize_svg

__all__ = [
    "KINDS",
    "Chain",
    "Role",
    "build_mips",
    "image_size",
    "list_images",
    "load_chain",
    "noise_texture",
    "pool",
    "rasterize_svg",
    "read_image",
]
