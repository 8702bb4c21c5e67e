"""Mesh files written by hand, for tests of what reads them."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def png(pixels: Any) -> bytes:
    """An image file of uint8 (h, w, 3 or 4)."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "PNG")
    return out.getvalue()


class Glb:
    """A glTF tree in the making, with one buffer."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}], "nodes": [], "meshes": [],
            "accessors": [], "bufferViews": [], "materials": [], "textures": [], "images": [],
        }  # fmt: skip
        self.data = b""

    def view(self, data: bytes, **more: Any) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        entry = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **more}
        self.tree["bufferViews"].append(entry)
        self.data += data
        return len(self.tree["bufferViews"]) - 1

    def accessor(self, values: Any, dtype: str = "<f4", **more: Any) -> int:
        array = np.asarray(values, dtype)
        array = array[:, None] if array.ndim == 1 else array
        code = {"<f4": 5126, "<u4": 5125, "<u2": 5123, "<u1": 5121, "<i2": 5122, "<i1": 5120}[dtype]
        kind = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
        entry = {
            "bufferView": self.view(array.tobytes()), "componentType": code, "count": len(array), "type": kind, **more,
        }  # fmt: skip
        self.tree["accessors"].append(entry)
        return len(self.tree["accessors"]) - 1

    def texture(self, pixels: Any) -> dict[str, Any]:
        self.tree["images"].append({"bufferView": self.view(png(pixels)), "mimeType": "image/png"})
        self.tree["textures"].append({"source": len(self.tree["images"]) - 1})
        return {"index": len(self.tree["textures"]) - 1}

    def material(self, **entry: Any) -> int:
        self.tree["materials"].append(entry)
        return len(self.tree["materials"]) - 1

    def mesh(self, *primitives: dict[str, Any]) -> int:
        self.tree["meshes"].append({"primitives": list(primitives)})
        return len(self.tree["meshes"]) - 1

    def node(self, root: bool = True, **entry: Any) -> int:
        self.tree["nodes"].append(entry)
        if root:
            self.tree["scenes"][0]["nodes"].append(len(self.tree["nodes"]) - 1)
        return len(self.tree["nodes"]) - 1

    def quad(self, material: int | None = None, z: float = 0, **more: Any) -> dict[str, Any]:
        """A unit square at height z with texture coordinates as it lies: its upper left corner is (0, 1)."""
        square = np.array([[0, 0, z], [1, 0, z], [1, 1, z], [0, 1, z]], float)
        uv = np.c_[square[:, 0], 1 - square[:, 1]]
        primitive: dict[str, Any] = {
            "attributes": {"POSITION": self.accessor(square), "TEXCOORD_0": self.accessor(uv)},
            "indices": self.accessor([0, 1, 2, 0, 2, 3], "<u2"),
        }
        if material is not None:
            primitive["material"] = material
        primitive["attributes"] |= more
        return primitive

    def glb(self, path: Path) -> Path:
        tree = {**self.tree, "buffers": [{"byteLength": len(self.data)}]}
        body = json.dumps(tree).encode()
        body += b" " * (-len(body) % 4)
        data = self.data + b"\0" * (-len(self.data) % 4)
        size = 12 + 8 + len(body) + 8 + len(data)
        head = struct.pack("<4sII", b"glTF", 2, size)
        path.write_bytes(
            head
            + struct.pack("<I4s", len(body), b"JSON")
            + body
            + struct.pack("<I4s", len(data), b"BIN\0")
            + data
        )
        return path

    def gltf(self, path: Path, uri: str = "buffer.bin") -> Path:
        (path.parent / "buffer.bin").write_bytes(self.data)
        tree = {**self.tree, "buffers": [{"byteLength": len(self.data), "uri": uri}]}
        path.write_text(json.dumps(tree))
        return path


def binary_stl(path: Path, corners: Any, count: int | None = None) -> Path:
    """corners (f, 3, 3)."""
    array = np.zeros(len(corners), np.dtype([("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")]))
    array["c"] = corners
    number = len(corners) if count is None else count
    path.write_bytes(b"solid pretending".ljust(80) + struct.pack("<I", number) + array.tobytes())
    return path
