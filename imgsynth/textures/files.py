"""Image files as textures: decoded safely, listed in a fixed order, cached with their mip chains."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from imgsynth.batch import U8
from imgsynth.below import files_below
from imgsynth.errors import DataError
from imgsynth.textures.mips import Chain, Role, build_mips
from imgsynth.textures.svg import rasterize_svg

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"))
MAX_PIXELS = 64_000_000
CACHE_BYTES = 512 * 2**20


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> U8:
    """An image file as RGBA (h, w, 4), upright by its EXIF orientation; of several frames the first.

    PNG, JPEG, WebP, BMP, TIFF or PPM, told by content, whatever the name says. Sixteen-bit grey is cut to
    eight bits.

    Raises:
        DataError: no such file, another format, broken, or more than `max_pixels` (checked before decoding).
    """
    with _opened(path, max_pixels) as image:
        try:
            if image.mode.startswith("I;16"):
                grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
                return np.ascontiguousarray(np.asarray(Image.fromarray(grey).convert("RGBA")))
            return np.array(ImageOps.exif_transpose(image).convert("RGBA"))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: broken image file ({error})") from None


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of an image file as displayed, from its header.

    Raises:
        DataError: as `read_image`, but for damage that only decoding would show.
    """
    with _opened(path, MAX_PIXELS) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
        return image.size if turned else (image.height, image.width)


def _opened(path: str | Path, max_pixels: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: expected an image file ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: expected at most {max_pixels} pixels, got several times that") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if image.width * image.height > max_pixels:
        image.close()
        raise DataError(f"{path}: expected at most {max_pixels} pixels, got {image.width} × {image.height}")
    return image


def list_images(folder: str | Path, *, svg: bool = False) -> list[Path]:
    """Image files of a folder and its sub-folders, in the order of `files_below`; SVG on request.

    Raises:
        DataError: as `files_below`, or no image in it.
    """
    folder = Path(folder)
    wanted = SUFFIXES | {".svg"} if svg else SUFFIXES
    found = files_below(folder, wanted)
    if not found:
        raise DataError(
            f"{folder}: expected at least one image file ({', '.join(sorted(wanted))}), found none"
        )
    return [folder / name for name in found]


class _ByteCache:
    """Least recently used values, bounded by bytes; thread-safe."""

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self._entries: OrderedDict[tuple[Any, ...], tuple[Chain, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> Chain | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: tuple[Any, ...], value: Chain) -> None:
        weight = sum(level.nbytes for level in value)
        with self._lock:
            if key in self._entries or weight > self.limit:
                return
            self._entries[key] = (value, weight)
            self.held += weight
            while self.held > self.limit:
                self.held -= self._entries.popitem(last=False)[1][1]


_CACHE = _ByteCache(CACHE_BYTES)


def load_chain(path: str | Path, *, svg_size: tuple[int, int] = (256, 256), role: Role = "color") -> Chain:
    """An image or .svg file with its mip chain, cached by path, modification time and size; arrays are
    read-only.

    `svg_size` (height, width) is the size vector art is drawn at; `role` says how `build_mips` averages.

    Raises:
        DataError: as `read_image` and `rasterize_svg`.
    """
    path = Path(path)
    try:
        stat = path.stat()
    except OSError:
        raise DataError(f"{path}: no such file") from None
    vector = path.suffix.lower() == ".svg"
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size, svg_size if vector else None, role)
    chain = _CACHE.get(key)
    if chain is None:
        chain = tuple(build_mips(rasterize_svg(path, svg_size) if vector else read_image(path), role))
        for level in chain:
            level.flags.writeable = False
        _CACHE.put(key, chain)
    return chain
