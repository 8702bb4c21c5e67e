"""How one array becomes the bytes of one file, and back.

============  =====================  ====================================================================
what          file                   content
============  =====================  ====================================================================
image         ``images/*.png``       8 bit, grey or RGB
mask          ``masks/*.png``        16-bit grey: instance id, 0 = background
depth         ``depth/*.npz``        one float32 array ``depth`` (H, W), metres, inf where nothing is hit;
                                     a zip (deflate) that ``np.load(…, allow_pickle=False)`` reads
normal        ``normals/*.png``      16-bit RGB: component = (value - 32768) / 32767, so that 0 is exact
distance      ``distance/*.npz``     one float32 array ``distance`` (H, W), metres along the ray, as depth
albedo        ``albedo/*.png``       16-bit RGB: linear base colour = value / 65535
nocs          ``nocs/*.png``         16-bit RGB: place in the object's 3-D box = value / 65535; 0 off objects
flow          ``flow_*/*.npz``       float32 ``flow`` (H, W, 2), pixels (x, y), NaN where it cannot be said;
                                     uint8 ``occluded`` (H, W), 1 where what moved cannot be seen
panoptic      ``panoptic/*.png``     8-bit RGB: segment id = R + 256 G + 65536 B, 0 = void
semantic      ``semantic/*.png``     16-bit grey: class id, 0 = background
============  =====================  ====================================================================

Nothing is decoded before its header says the expected size and depth, so that a hostile file costs no memory.
"""

from __future__ import annotations

import io
import math
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
    """16-bit PNG of (H, W) ids of instances or classes."""
    return _png(instance)


def decode_mask(data: bytes, size: tuple[int, int], where: str | Path) -> I32:
    """(H, W) ids of a 16-bit PNG."""
    return _decode_png(data, size, 16, _GREY, where).astype(np.int32)


def encode_normal(normal: F32) -> bytes:
    """16-bit RGB PNG of (H, W, 3) unit normals."""
    levels = np.rint(normal * 32767.0) + 32768.0
    return _png(np.ascontiguousarray(levels[:, :, ::-1].astype(np.uint16)))


def decode_normal(data: bytes, size: tuple[int, int], where: str | Path) -> F32:
    """(H, W, 3) normals, within 2e-5 a component of what was encoded; exactly 0 where nothing was hit."""
    levels = _decode_png(data, size, 16, _RGB, where)[:, :, ::-1]
    return (levels.astype(np.float32) - 32768.0) / np.float32(32767.0)


def encode_shares(shares: F32) -> bytes:
    """16-bit RGB PNG of (H, W, 3) numbers in 0..1 (what lies outside is cut off)."""
    levels = np.rint(np.clip(shares, 0.0, 1.0) * 65535.0)
    return _png(np.ascontiguousarray(levels[:, :, ::-1].astype(np.uint16)))


def decode_shares(data: bytes, size: tuple[int, int], where: str | Path) -> F32:
    """(H, W, 3) numbers in 0..1, within 8e-6 of what was encoded."""
    levels = _decode_png(data, size, 16, _RGB, where)[:, :, ::-1]
    return levels.astype(np.float32) / np.float32(65535.0)


def encode_segments(ids: I32) -> bytes:
    """8-bit RGB PNG of (H, W) segment ids below 2^24, as COCO's panoptic form has them."""
    return _png(np.stack([(ids >> shift) & 255 for shift in (16, 8, 0)], -1).astype(np.uint8))


def decode_segments(data: bytes, size: tuple[int, int], where: str | Path) -> I32:
    """(H, W) segment ids."""
    blue, green, red = np.moveaxis(_decode_png(data, size, 8, _RGB, where).astype(np.int32), -1, 0)
    return red + 256 * green + 65536 * blue


def encode_depth(depth: F32) -> bytes:
    """npz of (H, W) float32 depth; level 1, as higher ones cost twice the time for 4 % less."""
    return _npz(depth=depth.astype(np.float32, copy=False))


def decode_depth(data: bytes, size: tuple[int, int], where: str | Path) -> F32:
    """(H, W) float32 depth of an npz file."""
    return _decode_npz(data, "depth", size, np.float32, "depth", where)


def encode_distance(distance: F32) -> bytes:
    """npz of (H, W) float32 distance."""
    return _npz(distance=distance.astype(np.float32, copy=False))


def decode_distance(data: bytes, size: tuple[int, int], where: str | Path) -> F32:
    """(H, W) float32 distance of an npz file."""
    return _decode_npz(data, "distance", size, np.float32, "distance", where)


def encode_flow(flow: F32, occluded: NDArray[np.bool_]) -> bytes:
    """npz of (H, W, 2) float32 flow and (H, W) bytes, 1 = occluded."""
    return _npz(flow=flow.astype(np.float32, copy=False), occluded=occluded.astype(np.uint8))


def decode_flow(data: bytes, size: tuple[int, int], where: str | Path) -> tuple[F32, NDArray[np.bool_]]:
    """Flow (H, W, 2) in pixels and where it ends unseen (H, W)."""
    flow = _decode_npz(data, "flow", (*size, 2), np.float32, "flow", where)
    return flow, _decode_npz(data, "occluded", size, np.uint8, "flow", where) != 0


def _npz(**arrays: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, values in arrays.items():
            array = io.BytesIO()
            np.lib.format.write_array(array, np.ascontiguousarray(values), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            archive.writestr(entry, array.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return out.getvalue()


def _decode_npz(
    data: bytes, name: str, size: tuple[int, ...], kind: type, what: str, where: str | Path
) -> NDArray[Any]:
    limit = math.prod(size) * np.dtype(kind).itemsize + 4096
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(f"{name}.npy") as entry:
            content = entry.read(limit + 1)
        if len(content) > limit:
            raise ValueError("larger than its frame")
        array = io.BytesIO(content)
        if np.lib.format.read_magic(array) != (1, 0):
            raise ValueError("not an array of NumPy's format 1.0")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(array)
        if shape != size or by_columns or dtype != kind:
            raise ValueError(f"expected {np.dtype(kind)} {size} by rows, got {dtype} {shape}")
        return np.frombuffer(array.read(), kind).reshape(size)
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{where}: not a {what} file: {e}") from None


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
