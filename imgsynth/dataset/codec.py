"""How one array becomes the bytes of one file, and back.

============  =====================  ====================================================================
what          file                   content
============  =====================  ====================================================================
image         ``images/*.png``       8 bit, grey or RGB
mask          ``masks/*.png``        16-bit grey: instance id, 0 = background
depth         ``depth/*.npz``        one float32 array ``depth`` (H, W), metres, inf where nothing is hit;
                                     a zip (deflate) that ``np.load(…, allow_pickle=False)`` reads
normal        ``normals/*.png``      16-bit RGB: component = (value - 32768) / 32767, so that 0 is exact
============  =====================  ====================================================================

Nothing is decoded before its header says the expected size and depth, so that a hostile file costs no memory.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F32, I32, U8
from imgsynth.errors import DataError

_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_GREY, _RGB = 0, 2
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # a zip entry must carry a date; the clock stays out of the files


def encode_image(image: U8) -> bytes:
    """PNG of an (H, W, 1) or (H, W, 3) RGB image."""
    return _png(image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def decode_image(data: bytes, size: tuple[int, int], channels: int, where: str | Path) -> U8:
    """The (H, W, channels) image of a PNG that must have this size and number of channels."""
    pixels = _decode_png(data, size, 8, _GREY if channels == 1 else _RGB, where)
    return pixels[:, :, None] if channels == 1 else np.ascontiguousarray(pixels[:, :, ::-1])


def encode_mask(instance: NDArray[np.uint16]) -> bytes:
    """16-bit PNG of (H, W) instance ids."""
    return _png(instance)


def decode_mask(data: bytes, size: tuple[int, int], where: str | Path) -> I32:
    """(H, W) instance ids of a 16-bit PNG."""
    return _decode_png(data, size, 16, _GREY, where).astype(np.int32)


def encode_normal(normal: F32) -> bytes:
    """16-bit RGB PNG of (H, W, 3) unit normals."""
    levels = np.rint(normal * 32767.0) + 32768.0
    return _png(np.ascontiguousarray(levels[:, :, ::-1].astype(np.uint16)))


def decode_normal(data: bytes, size: tuple[int, int], where: str | Path) -> F32:
    """(H, W, 3) normals, within 2e-5 a component of what was encoded; exactly 0 where nothing was hit."""
    levels = _decode_png(data, size, 16, _RGB, where)[:, :, ::-1]
    return (levels.astype(np.float32) - 32768.0) / np.float32(32767.0)


def encode_depth(depth: F32) -> bytes:
    """npz of (H, W) float32 depth; level 1, as higher ones cost twice the time for 4 % less."""
    array = io.BytesIO()
    np.lib.format.write_array(array, np.ascontiguousarray(depth, np.float32), allow_pickle=False)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo("depth.npy", _ZIP_DATE)
        archive.writestr(entry, array.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return out.getvalue()


def decode_depth(data: bytes, size: tuple[int, int], where: str | Path) -> F32:
    """(H, W) float32 depth of an npz file."""
    limit = 4 * size[0] * size[1] + 4096
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("depth.npy") as entry:
            content = entry.read(limit + 1)
        if len(content) > limit:
            raise ValueError("larger than its frame")
        array = io.BytesIO(content)
        if np.lib.format.read_magic(array) != (1, 0):
            raise ValueError("not an array of NumPy's format 1.0")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(array)
        if shape != size or by_columns or dtype != np.float32:
            raise ValueError(f"expected float32 {size} by rows, got {dtype} {shape}")
        return np.frombuffer(array.read(), np.float32).reshape(size)
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{where}: not a depth file: {e}") from None


def _png(pixels: NDArray[Any]) -> bytes:
    # OpenCV's own default (sub filter, run-length strategy) is its fastest and, on renders, its smallest.
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise DataError(f"cannot encode a {pixels.shape} {pixels.dtype} array as PNG")
    return data.tobytes()


def _decode_png(data: bytes, size: tuple[int, int], bits: int, color: int, where: str | Path) -> NDArray[Any]:
    if len(data) < 33 or data[:16] != _PNG_START:
        raise DataError(f"{where}: not a PNG file")
    width, height, got_bits, got_color = struct.unpack(">IIBB", data[16:26])
    if (height, width) != size or (got_bits, got_color) != (bits, color):
        kind = {_GREY: "grey", _RGB: "RGB"}
        raise DataError(
            f"{where}: expected a {size[1]}×{size[0]} {bits}-bit {kind[color]} PNG, "
            f"got {width}×{height} {got_bits}-bit {kind.get(got_color, f'colour type {got_color}')}"
        )
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[:2] != size:
        raise DataError(f"{where}: a damaged PNG file")
    return pixels
