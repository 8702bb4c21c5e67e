"""Vector art as textures, drawn by resvg (resvg_py, MIT; resvg itself Apache-2.0 or MIT).

resvg opens any file an SVG names, wherever it lies, so documents that refer to anything outside themselves
are refused before it sees them. Text is set in DejaVu Sans as matplotlib ships it, never in a font of the
machine, so that pictures are the same everywhere.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import io
import re
import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from imgsynth.batch import U8
from imgsynth.errors import DataError

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 64_000_000
EMBEDDED = ("PNG", "JPEG", "GIF", "WEBP")  # what a picture inside a drawing may be
_EMBEDDED = re.compile(r"data:image/(?:png|jpeg|jpg|gif|webp);base64,(.*)\Z", re.S)
_OUTSIDE_URL = re.compile(r"url\(\s*['\"]?\s*(?!#)[^)]*\)|@import", re.I)
_NUMBER = re.compile(r"\s*([0-9.eE+-]+)\s*(?:px)?\s*\Z")


def rasterize_svg(source: str | Path, size: tuple[int, int]) -> U8:
    """An SVG, stretched to `size` (height, width), as RGBA (h, w, 4) with straight alpha.

    Args:
        source: a file, or the document itself where it is a string that starts with "<".
        size: in pixels.

    Raises:
        DataError: no such file, not SVG, larger than 16 MiB, an entity declaration, or a reference to
            anything outside the document (embedded PNG, JPEG, GIF and WebP are fine).
    """
    height, width = size
    if not (0 < height * width <= MAX_PIXELS and height > 0):
        raise DataError(f"svg size: expected 1 to {MAX_PIXELS} pixels, got {height} × {width}")
    inline = isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith("<")
    name = "svg" if inline else str(source)
    root = _parse(str(source) if inline else _text(Path(source)), name)
    _stretch(root, height, width, name)
    return _draw(root, height, width, name)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: expected at most {MAX_BYTES} bytes of SVG, got {path.stat().st_size}")
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected SVG in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _parse(text: str, name: str) -> ET.Element:
    if "<!ENTITY" in text:
        raise DataError(f"{name}: expected SVG without entity declarations")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise DataError(f"{name}: expected SVG, got broken XML ({error})") from None
    if _local(root.tag) != "svg":
        raise DataError(f"{name}: expected an <svg> document, got <{_local(root.tag)}>")
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        if _local(element.tag) == "style" and _OUTSIDE_URL.search(element.text or ""):
            raise DataError(f"{name}: expected SVG without references to outside, got one in <style>")
        for key, value in element.attrib.items():
            _check_attribute(name, _local(element.tag), _local(key), value)
    return root


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _check_attribute(name: str, tag: str, key: str, value: str) -> None:
    if key == "href" and tag not in ("a", "script") and not value.strip().startswith("#"):
        embedded = _EMBEDDED.match(value.strip())
        if embedded is None:
            raise DataError(
                f"{name}: expected SVG without references to outside, got <{tag} href='{value[:60]}'>"
            )
        _check_embedded(name, embedded[1])
    elif _OUTSIDE_URL.search(value):
        raise DataError(
            f"{name}: expected SVG without references to outside, got {key}='{value[:60]}' in <{tag}>"
        )


def _check_embedded(name: str, encoded: str) -> None:
    """Refuse embedded images that would be huge once decoded."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded)), formats=EMBEDDED) as image:
            small = image.width * image.height <= MAX_PIXELS
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError):
        small = False
    if not small:
        raise DataError(f"{name}: an embedded image is broken or has more than {MAX_PIXELS} pixels")


def _stretch(root: ET.Element, height: int, width: int, name: str) -> None:
    """Make the root fill exactly (height, width), whatever its own size and aspect."""
    if root.get("viewBox") is None:
        sides = [_NUMBER.match(root.get(side, "")) for side in ("width", "height")]
        if not all(sides):
            raise DataError(f"{name}: expected an SVG with a viewBox, or width and height in pixels")
        root.set("viewBox", "0 0 {} {}".format(*(side[1] for side in sides if side)))
    try:
        view = [float(n) for n in root.get("viewBox", "").replace(",", " ").split()]
    except ValueError:
        view = []
    if len(view) != 4 or not np.isfinite(view).all() or min(view[2:]) <= 0:
        raise DataError(f"{name}: viewBox: expected x, y, width, height, got {root.get('viewBox')!r}")
    root.set("width", str(width))
    root.set("height", str(height))
    root.set("preserveAspectRatio", "none")


def _draw(root: ET.Element, height: int, width: int, name: str) -> U8:
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(
            svg_string=ET.tostring(root, encoding="unicode"),
            skip_system_fonts=True,
            font_files=_fonts() if any(_local(str(e.tag)) == "text" for e in root.iter()) else None,
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
            serif_family="DejaVu Sans",
            monospace_family="DejaVu Sans",
        )
    except ValueError as error:
        raise DataError(f"{name}: cannot be drawn ({error})") from None
    drawn = np.array(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
    if drawn.shape != (height, width, 4):
        raise DataError(f"{name}: expected a picture of {height} × {width}, resvg drew {drawn.shape[:2]}")
    return drawn


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    """DejaVu Sans, regular and bold, found without importing matplotlib (which is slow)."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return [
        str(folder / f"{face}.ttf")
        for face in ("DejaVuSans", "DejaVuSans-Bold")
        if (folder / f"{face}.ttf").is_file()
    ]
