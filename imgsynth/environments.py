"""Environment maps from files: equirectangular .hdr and .exr, read safely, their suns taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from imgsynth.batch import F32, F64
from imgsynth.below import files_below
from imgsynth.color import luminance
from imgsynth.errors import DataError
from imgsynth.sky import directions

MAX_PIXELS = 8192 * 4096
MAX_BYTES = 512 * 2**20
KEPT_ROWS = 1024
"""Larger maps are averaged down to so many rows."""
SUFFIXES = (".hdr", ".exr")
_SIZE = re.compile(rb"^([-+][XY]) (\d{1,9}) ([-+][XY]) (\d{1,9})$")
_SEARCH = np.radians(6.0)  # around the brightest place, where its sun is looked for
_SHARE = 0.05  # of the map's flux that a source must give to be a sun


@dataclass(frozen=True)
class Environment:
    """A map without its sun, and that sun.

    `radiance` + sun has the file's light: (h, 2·h, 3) linear, the middle looks along +x, azimuth grows to the
    left, the top row is +z. `sun_irradiance` is 0 where no small source gives a twentieth of all light.
    """

    whole: F32  # (h, 2h, 3) as in the file
    radiance: F32  # (h, 2h, 3) the sun replaced by what is around it
    sun_direction: F64  # (3,)
    sun_irradiance: F64  # (3,) on a surface facing it
    sun_radius: float  # radians


def load_environment(path: str | Path) -> Environment:
    """An equirectangular map from a .hdr (Radiance) or .exr (OpenEXR) file; read-only, cached.

    Raises:
        DataError: no such file, another format, broken, too large, not twice as wide as high, or values that
            are no light; an .exr where this OpenCV cannot read it.
    """
    path = Path(path)
    try:
        stat = path.stat()
    except OSError:
        raise DataError(f"{path}: no such file") from None
    if stat.st_size > MAX_BYTES:
        raise DataError(f"{path}: expected at most {MAX_BYTES >> 20} MiB, got {stat.st_size >> 20}")
    return _load(path.resolve(), stat.st_mtime_ns, stat.st_size)


def list_environments(folder: str | Path) -> list[Path]:
    """The .hdr and .exr files of a folder and its sub-folders, in the order of `files_below`.

    Raises:
        DataError: as `files_below`, or none in it.
    """
    folder = Path(folder)
    found = files_below(folder, SUFFIXES)
    if not found:
        raise DataError(f"{folder}: expected at least one environment map (.hdr, .exr), found none")
    return [folder / name for name in found]


@lru_cache(maxsize=16)
def _load(path: Path, modified: int, size: int) -> Environment:
    image = _read(path)
    height, width = image.shape[:2]
    if width != 2 * height:
        raise DataError(
            f"{path}: expected an equirectangular map, twice as wide as high, got {width} × {height}"
        )
    if not np.all(np.isfinite(image)) or image.min() < 0:
        raise DataError(f"{path}: expected radiance of at least 0 everywhere, got {image.min()} or no number")
    if height > KEPT_ROWS:
        image = cv2.resize(image, (2 * KEPT_ROWS, KEPT_ROWS), interpolation=cv2.INTER_AREA).astype(np.float32)
    made = without_sun(image)
    for array in (made.whole, made.radiance):
        array.flags.writeable = False
    return made


def _read(path: Path) -> F32:
    """Linear RGB (h, w, 3) float32."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x76\x2f\x31\x01"):
        return _read_exr(path)
    if not head.startswith((b"#?RADIANCE", b"#?RGBE")):
        raise DataError(f"{path}: expected a Radiance (.hdr) or OpenEXR (.exr) file")
    sizes = [m for m in map(_SIZE.match, head.splitlines()) if m]
    if not sizes:
        raise DataError(f"{path}: broken Radiance file: its header names no size")
    first = sizes[0]
    if (first[1], first[3]) != (b"-Y", b"+X"):
        raise DataError(f"{path}: expected rows from top to bottom and left to right (-Y … +X …)")
    _check_size(path, int(first[4]), int(first[2]))
    return _decoded(path)


def _read_exr(path: Path) -> F32:
    try:
        import OpenEXR  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise DataError(
            f"{path}: reading .exr needs the package OpenEXR (pip install 'imgsynth[exr]')"
        ) from None
    try:
        with OpenEXR.File(str(path), header_only=True) as file:
            low, high = file.header()["dataWindow"]
            _check_size(path, int(high[0]) - int(low[0]) + 1, int(high[1]) - int(low[1]) + 1)
        with OpenEXR.File(str(path)) as file:
            channels = file.channels()
            found = channels.get("RGB", channels.get("RGBA"))
            if found is not None:
                pixels = found.pixels[..., :3]
            else:
                pixels = np.stack([channels[c].pixels for c in "RGB"], -1)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: broken OpenEXR file ({str(error).splitlines()[0]})") from None
    return np.ascontiguousarray(pixels, np.float32)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or width < 4 or height < 2:
        raise DataError(f"{path}: expected 4 × 2 to {MAX_PIXELS} pixels, got {width} × {height}")


def _decoded(path: Path) -> F32:
    try:
        bgr = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"{path}: broken image file ({error.err or 'cannot be decoded'})") from None
    if bgr is None or bgr.ndim != 3 or bgr.dtype != np.float32:
        raise DataError(f"{path}: broken image file (cannot be decoded)")
    return np.ascontiguousarray(bgr[..., ::-1])


def without_sun(image: F32) -> Environment:
    """Take the one small strong source out of a map (h, 2·h, 3), its light kept as a sun.

    Looked for is the brightest texel; its sun is what within 6° of it stands out by more than a tenth of its
    brightness over the ring about that. Light is conserved: what the map loses the sun has.
    """
    height = len(image)
    d = directions(height)
    edges = np.cos(np.pi * np.arange(height + 1) / height)
    solid = (np.pi / height * (edges[:-1] - edges[1:]))[:, None]
    bright = luminance(image).astype(np.float64)
    peak = np.unravel_index(int(bright.argmax()), bright.shape)
    near = d @ d[peak]
    ring = (near < np.cos(_SEARCH)) & (near > np.cos(2 * _SEARCH))
    around = np.median(image[ring], axis=0) if ring.any() else np.zeros(3)
    strong = (near >= np.cos(_SEARCH)) & (bright > 0.1 * bright[peak])
    extra = np.maximum(np.where(strong[..., None], image - around, 0.0), 0.0) * solid[..., None]
    flux, total = extra.sum((0, 1)), (image * solid[..., None]).sum((0, 1))
    none = Environment(image, image, np.array([0.0, 0.0, 1.0]), np.zeros(3), 0.0)
    # A source that fills its surroundings is a window or a bright sky: it stays in the map.
    if luminance(flux) < _SHARE * luminance(total) or luminance(around) > 0.1 * bright[peak]:
        return none
    weight = luminance(extra)
    direction = np.einsum("hw,hwc->c", weight, d)
    direction /= np.linalg.norm(direction)
    away2 = 2 * np.maximum(1 - d @ direction, 0)
    # A disc of angular radius ρ has a mean square distance of ρ²/2 from its middle.
    radius = float(np.sqrt(2 * (weight * away2).sum() / weight.sum()))
    rest = (image - extra / solid[..., None]).astype(np.float32)
    return Environment(image, np.maximum(rest, 0), direction, flux, min(radius, float(_SEARCH)))
