"""What a reader of mesh files yields, and the folder that it may read from."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgsynth.batch import F64, I64, U8
from imgsynth.errors import DataError
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.textures import Chain, Role, build_mips
from imgsynth.textures.files import FORMATS, MAX_PIXELS

SUPPORTED = (".obj", ".ply", ".stl", ".glb", ".gltf")


class MissingFile(DataError):
    """A file that a mesh file names is not there."""


@dataclass
class Part:
    """Triangles of one material, in the file's own coordinates, texture v upwards."""

    vertices: F64  # (v, 3)
    faces: I64  # (f, 3)
    normals: F64 | None = None  # (v, 3), rows without one NaN
    uv: F64 | None = None  # (v, 2), rows without one NaN
    colors: F64 | None = None  # (v, 3) linear
    material: FileMaterial | None = None


@dataclass
class Source:
    """A mesh file as read: parts with the same material share a slot; notes say what was left out."""

    parts: list[Part] = field(default_factory=list)
    keypoints: dict[str, F64] = field(default_factory=dict)  # name → (3,)
    notes: dict[str, bool] = field(default_factory=dict)  # what → whether it changes what one sees

    def note(self, text: str, *, loud: bool = True) -> None:
        """Say something once; quietly what is done for many sound meshes."""
        self.notes[text] = self.notes.get(text, False) or loud


@dataclass
class Home:
    """A mesh file at hand, its limits, and the files beside it, which alone it may name."""

    path: Path
    max_triangles: int
    max_bytes: int
    texture_px: int
    used: dict[Path, tuple[int, int]] = field(default_factory=dict)  # file → (modification time, size)

    def __post_init__(self) -> None:
        self._images: dict[tuple[str, Role], Chain] = {}

    def fail(self, message: str) -> DataError:
        """An error that names the file."""
        return DataError(f"{self.path}: {message}")

    def too_many(self, count: int) -> DataError:
        """The error for too many triangles, and its cure."""
        return self.fail(
            f"expected at most {self.max_triangles} triangles, got {count}: decimate the mesh (Blender's "
            "Decimate modifier, MeshLab's quadric edge collapse), or raise max_triangles"
        )

    def own(self) -> bytes:
        """The mesh file itself."""
        if not self.path.is_file():
            raise self.fail("no such file")
        return self._bytes(self.path, "expected")

    def read(self, name: str) -> bytes:
        """A file that the mesh file names.

        Raises:
            DataError: it lies outside the mesh's folder, is not there, or is too large.
        """
        name = name.strip().replace("\\", "/")
        home = self.path.parent.resolve()
        try:
            target = (home / name).resolve()
            inside, there = target.is_relative_to(home), target.is_file()
        except (OSError, ValueError):  # a name that no file system takes
            inside, there = True, False
        if not inside:
            raise self.fail(f"names {name!r}, which lies outside its folder")
        if not there:
            raise MissingFile(str(self.fail(f"names {name!r}, which is not there")))
        return self._bytes(target, f"names {name!r}: expected")

    def _bytes(self, path: Path, what: str) -> bytes:
        stat = path.stat()
        if not 0 < stat.st_size <= self.max_bytes:
            size = f"{self.max_bytes / 2**20:g} MiB" if self.max_bytes >= 2**20 else f"{self.max_bytes} bytes"
            cure = "" if stat.st_size == 0 else ": make it smaller, or raise max_mb"
            raise self.fail(f"{what} 1 byte to {size}, got {stat.st_size} bytes{cure}")
        self.used[path] = (stat.st_mtime_ns, stat.st_size)
        return path.read_bytes()

    def file_texture(self, name: str, role: Role = "color") -> Chain:
        """The mip chain of an image file beside the mesh; each is decoded once."""
        key = (name, role)
        if key not in self._images:
            self._images[key] = self.texture(self.read(name), f"texture {name!r}", role)
        return self._images[key]

    def texture(self, data: bytes, what: str, role: Role = "color", *, opaque: bool = False) -> Chain:
        """The mip chain of an image at hand, its first levels left out while a side exceeds `texture_px`."""
        return self.chain(self.decoded(data, what), role, opaque=opaque)

    def decoded(self, data: bytes, what: str) -> U8:
        """An image at hand as RGBA (h, w, 4)."""
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise self.fail(f"{what}: expected at most {MAX_PIXELS} pixels")
                return np.array(image.convert("RGBA"))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise self.fail(f"{what}: expected an image ({', '.join(FORMATS)}): {_line(error)}") from None

    def chain(self, image: U8, role: Role = "color", *, opaque: bool = False) -> Chain:
        """The mip chain of RGBA (h, w, 4), made opaque on request."""
        if opaque:
            image[..., 3] = 255
        levels = build_mips(image, role)
        first = next((k for k, level in enumerate(levels) if max(level.shape[:2]) <= self.texture_px), 0)
        for level in levels[first:]:
            level.flags.writeable = False
        return tuple(levels[first:])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def checked(home: Home, source: Source) -> Source:
    """The same source, if it has triangles, not too many, whose vertices exist.

    Raises:
        DataError: otherwise.
    """
    source.parts = [part for part in source.parts if len(part.faces)]
    total = sum(len(part.faces) for part in source.parts)
    if total == 0:
        raise home.fail("expected triangles, found none" + _because(source.notes))
    if total > home.max_triangles:
        raise home.too_many(total)
    for part in source.parts:
        most, least = int(part.faces.max()), int(part.faces.min())
        if least < 0 or most >= len(part.vertices):
            bad = least if least < 0 else most
            raise home.fail(f"a face names vertex {bad} of {len(part.vertices)}")
        used = np.zeros(len(part.vertices), bool)
        used[part.faces] = True
        bad_count = int((used & ~np.isfinite(part.vertices).all(1)).sum())
        if bad_count:
            raise home.fail(
                f"expected finite vertices, but {bad_count} of {int(used.sum())} are not: mend the mesh"
            )
        if not (np.abs(part.vertices[used]) < 1e30).all():
            raise home.fail("expected coordinates below 1e30")
    return source


def _because(notes: Iterable[str]) -> str:
    text = "; ".join(notes)
    return f" ({text})" if text else ""


def rows_or_none(values: Any, count: int, width: int) -> F64 | None:
    """Values as (count, width) floats, or None where they are of another shape."""
    if values is None or np.shape(values) != (count, width):
        return None
    return np.asarray(values, np.float64)
