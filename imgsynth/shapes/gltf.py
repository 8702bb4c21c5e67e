"""glTF 2.0 and GLB files: the nodes of the scene with their transforms, materials with textures, keypoints.

Section numbers are of the glTF 2.0 specification (Khronos). Animations, skins and morph targets are left at
rest; compressed geometry is refused with the cure.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.shapes.gltfmaterial import read_material, uv_set
from imgsynth.shapes.meshsource import Home, Part, Source, rows_or_none

MAX_NODES = 100_000
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}  # §3.6.2.2
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_KNOWN = {
    "KHR_mesh_quantization", "KHR_texture_transform", "KHR_lights_punctual", "EXT_texture_webp",
}  # fmt: skip
_BROKEN = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
    struct.error, MemoryError, ZeroDivisionError,
)  # fmt: skip
_KEYPOINT = ("kp_", "keypoint:")


def read_gltf(home: Home, data: bytes) -> Source:
    """Read a .glb or .gltf file.

    Raises:
        DataError: not glTF 2.0, broken, truncated, compressed, or beyond the limits.
    """
    source = Source()
    try:
        tree, chunk = _opened(home, data)
        needed = [e for e in tree.get("extensionsRequired", []) if not _known(str(e))]
        if needed:
            raise home.fail(
                f"needs the glTF extension {needed[0]!r}: export it without (no mesh or texture compression)"
            )
        _Reader(home, tree, chunk, source).run()
    except _BROKEN as error:
        raise home.fail(
            f"broken glTF file ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        ) from None
    return source


def _known(extension: str) -> bool:
    return extension in _KNOWN or extension.startswith("KHR_materials_")


def _opened(home: Home, data: bytes) -> tuple[dict[str, Any], bytes | None]:
    """The JSON tree, and the binary chunk that a GLB file brings (§4.4)."""
    if data[:4] != b"glTF":
        if home.path.suffix.lower() == ".glb":
            raise home.fail("expected a GLB file (binary glTF 2.0)")
        return _tree(home, data), None
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2:
        raise home.fail(f"expected glTF version 2, got {version}")
    if length > len(data):
        raise home.fail(f"the file is truncated: it should have {length} bytes and has {len(data)}")
    size, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON" or 20 + size > length:
        raise home.fail("expected a GLB file (binary glTF 2.0)")
    tree, at, chunk = _tree(home, data[20 : 20 + size]), 20 + size, None
    while chunk is None and at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > length:
            raise home.fail("the file is truncated inside a chunk")
        chunk = data[at + 8 : at + 8 + size] if kind == b"BIN\0" else None
        at += 8 + size
    return tree, chunk


def _tree(home: Home, text: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict) or not isinstance(tree.get("asset"), dict):
        raise home.fail("expected a glTF 2.0 file (JSON with an asset)")
    version = str(tree["asset"].get("version", ""))
    if not version.startswith("2"):
        raise home.fail(f"expected glTF version 2, got {version!r}")
    return tree


class _Reader:
    """One file on its way into a Source."""

    def __init__(self, home: Home, tree: dict[str, Any], chunk: bytes | None, source: Source):
        self.home, self.tree, self.chunk, self.source = home, tree, chunk, source
        self.buffers: dict[int, bytes] = {}
        self.materials: dict[int, FileMaterial] = {}
        self.faces = 0

    def item(self, what: str, index: Any) -> dict[str, Any]:
        items = self.tree.get(what, [])
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
            raise self.home.fail(f"broken glTF file: {what}[{index!r}] does not exist")
        if not isinstance(items[index], dict):
            raise self.home.fail(f"broken glTF file: {what}[{index}] is no object")
        found: dict[str, Any] = items[index]
        return found

    def run(self) -> None:
        """Walk the scene's nodes from its roots, each once."""
        nodes, seen = self.tree.get("nodes", []), set()
        scenes = self.tree.get("scenes", [])
        if scenes:
            roots = self.item("scenes", self.tree.get("scene", 0)).get("nodes", [])
        else:
            children = {c for node in nodes for c in node.get("children", [])}
            roots = [k for k in range(len(nodes)) if k not in children]
        if len(nodes) > MAX_NODES:
            raise self.home.fail(f"expected at most {MAX_NODES} nodes, got {len(nodes)}")
        stack = [(root, np.eye(4)) for root in reversed(roots)]
        while stack:
            index, above = stack.pop()
            node = self.item("nodes", index)
            if index in seen:
                raise self.home.fail(f"broken glTF file: node {index} hangs in the tree twice")
            seen.add(index)
            pose = above @ _local(node)
            if "mesh" in node:
                self._mesh(self.item("meshes", node["mesh"]), pose)
            else:
                self._keypoint(str(node.get("name", "")), pose)
            if "skin" in node:
                self.source.note("its skin is left at rest")
            stack += [(child, pose) for child in reversed(node.get("children", []))]
        if self.tree.get("animations"):
            self.source.note("its animations are left at rest")

    def _keypoint(self, name: str, pose: F64) -> None:
        prefix = next((p for p in _KEYPOINT if name.lower().startswith(p) and len(name) > len(p)), None)
        if prefix is not None:
            if name[len(prefix) :] in self.source.keypoints:
                raise self.home.fail(f"the keypoint {name[len(prefix) :]!r} stands twice")
            self.source.keypoints[name[len(prefix) :]] = pose[:3, 3].copy()

    def _mesh(self, mesh: dict[str, Any], pose: F64) -> None:
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", 4)
            if mode not in (4, 5, 6):
                self.source.note("points and lines are left out")
                continue
            if primitive.get("targets"):
                self.source.note("its morph targets are left at rest")
            packed = [e for e in primitive.get("extensions", {}) if "compression" in e]
            if packed:
                raise self.home.fail(f"needs the glTF extension {packed[0]!r}: export it without compression")
            self.source.parts.append(self._part(primitive, mode, pose))

    def _part(self, primitive: dict[str, Any], mode: int, pose: F64) -> Part:
        attributes = primitive["attributes"]
        vertices = self.accessor(attributes["POSITION"])
        count = len(vertices)
        if vertices.shape[1] != 3:
            raise self.home.fail("broken glTF file: POSITION is not VEC3")
        index = self.accessor(primitive["indices"])[:, 0] if "indices" in primitive else np.arange(count)
        faces = _triangles(index.astype(np.int64), mode)
        self.faces += len(faces)
        if self.faces > self.home.max_triangles:
            raise self.home.too_many(self.faces)
        material = self._material(primitive["material"]) if "material" in primitive else None
        which, transform = (
            uv_set(self.item("materials", primitive["material"])) if material else (0, np.eye(3))
        )

        def given(name: str, width: int) -> F64 | None:
            values = self.accessor(attributes[name]) if name in attributes else None
            return rows_or_none(values, count, width)

        uv = given(f"TEXCOORD_{which}", 2)
        if uv is not None:  # §3.8.1: the origin is the upper left corner
            uv = (np.c_[uv, np.ones(count)] @ transform.T)[:, :2] * [1, -1] + [0, 1]
        normals, turn = given("NORMAL", 3), pose[:3, :3]
        if normals is not None:
            normals = normals @ np.linalg.pinv(turn)
        if np.linalg.det(turn) < 0:  # §3.7.4: a mirrored node turns the winding round
            faces = faces[:, ::-1]
        return Part(
            vertices @ turn.T + pose[:3, 3], faces, normals, uv, self._colors(attributes, count), material
        )

    def _colors(self, attributes: dict[str, Any], count: int) -> F64 | None:
        """COLOR_0, linear (§3.7.2.1); None where it is all white, as many exporters write it."""
        if "COLOR_0" not in attributes:
            return None
        values = self.accessor(attributes["COLOR_0"], unit=True)
        if len(values) != count or values.shape[1] not in (3, 4):
            return None
        colors = np.clip(np.nan_to_num(values[:, :3]), 0, 1)
        return None if (colors >= 1 - 1e-6).all() else colors

    def _material(self, index: Any) -> FileMaterial:
        if index not in self.materials:
            item = self.item("materials", index)
            self.materials[index] = read_material(item, f"material{index}", self.home, self, self.source)
        return self.materials[index]

    def image(self, texture: dict[str, Any]) -> tuple[str, bytes]:
        """What a texture's image is called, and its bytes."""
        item = self.item("textures", texture["index"])
        webp = item.get("extensions", {}).get("EXT_texture_webp", {})
        if "source" not in item and "source" not in webp:
            raise self.home.fail("a texture has no image of a known format (PNG, JPEG, WebP)")
        index = item.get("source", webp.get("source"))
        image = self.item("images", index)
        if "bufferView" in image:
            return f"image {index}", bytes(self.view(image["bufferView"])[0])
        return f"image {index}", self.uri(image["uri"])

    def uri(self, uri: str) -> bytes:
        """What a data URI holds, or the file beside the mesh that it names."""
        if not uri.startswith("data:"):
            if "://" in uri:
                raise self.home.fail(f"names {uri[:80]!r}: nothing is fetched from a network")
            from urllib.parse import unquote

            return self.home.read(unquote(uri))
        head, comma, body = uri.partition(",")
        if not comma or not head.endswith(";base64"):
            raise self.home.fail("broken glTF file: a data URI that is not base64")
        try:
            return base64.b64decode(body, validate=True)
        except binascii.Error:
            raise self.home.fail("broken glTF file: a data URI that is not base64") from None

    def buffer(self, index: int) -> bytes:
        """A buffer's bytes (§3.6.1)."""
        if index not in self.buffers:
            item = self.item("buffers", index)
            if "uri" in item:
                self.buffers[index] = self.uri(item["uri"])
            elif index == 0 and self.chunk is not None:
                self.buffers[index] = self.chunk
            else:
                raise self.home.fail(f"broken glTF file: buffer {index} holds nothing")
        return self.buffers[index]

    def view(self, index: int) -> tuple[memoryview, int | None]:
        """A buffer view's bytes, and its stride."""
        item = self.item("bufferViews", index)
        data, start, length = self.buffer(item["buffer"]), item.get("byteOffset", 0), item["byteLength"]
        if not 0 <= start <= start + length <= len(data):
            raise self.home.fail(f"the file is truncated: buffer view {index} ends after its buffer")
        stride = item.get("byteStride")
        return memoryview(data)[start : start + length], stride if stride is None else int(stride)

    def accessor(self, index: int, *, unit: bool = False) -> NDArray[Any]:
        """An accessor's values (count, width); floats where normalized (§3.6.2.2), or integers are taken as a
        `unit` range.
        """
        item = self.item("accessors", index)
        count, width = int(item["count"]), _WIDTHS[item["type"]]
        dtype = np.dtype(_DTYPES[item["componentType"]])
        if not 0 <= count * width <= 20 * self.home.max_triangles:
            raise self.home.too_many(count // 3)
        if "bufferView" in item:
            values = self._strided(item["bufferView"], item.get("byteOffset", 0), count, width, dtype)
        else:
            values = np.zeros((count, width), dtype)
        if "sparse" in item:
            values = self._sparse(values, item["sparse"])
        if dtype.kind == "f":
            return values.astype(np.float64)
        if not (item.get("normalized") or unit):
            return values.astype(np.int64)
        return np.maximum(values.astype(np.float64) / np.iinfo(dtype).max, -1.0)

    def _strided(self, view: int, start: int, count: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        data, stride = self.view(view)
        step = stride or dtype.itemsize * width
        if (
            start < 0
            or step <= 0
            or (count and start + (count - 1) * step + dtype.itemsize * width > len(data))
        ):
            raise self.home.fail(f"the file is truncated: an accessor ends after its buffer view {view}")
        if count == 0:
            return np.zeros((0, width), dtype)
        return np.ndarray((count, width), dtype, data, start, (step, dtype.itemsize)).copy()

    def _sparse(self, values: NDArray[Any], sparse: dict[str, Any]) -> NDArray[Any]:
        count, where, what = int(sparse["count"]), sparse["indices"], sparse["values"]
        if not 0 <= count <= len(values):
            raise self.home.fail("broken glTF file: a sparse accessor replaces more than there is")
        kind = np.dtype(_DTYPES[where["componentType"]])
        rows = self._strided(where["bufferView"], where.get("byteOffset", 0), count, 1, kind)[:, 0]
        values[rows] = self._strided(
            what["bufferView"], what.get("byteOffset", 0), count, values.shape[1], values.dtype
        )
        return values


def _triangles(index: I64, mode: int) -> I64:
    """(f, 3) of a list, a strip or a fan (§3.7.2.1)."""
    if mode == 4:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    k = np.arange(max(len(index) - 2, 0))
    if mode == 6:
        return np.stack([index[k + 1], index[k + 2], np.broadcast_to(index[:1], k.shape)], 1)
    odd = k % 2
    return np.stack([index[k], index[k + 1 + odd], index[k + 2 - odd]], 1)


def _local(node: dict[str, Any]) -> F64:
    """A node's transform: its matrix, column by column, or translation · rotation · scale (§3.5.3)."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    out = np.eye(4)
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    norm = x * x + y * y + z * z + w * w
    s = 2.0 / norm if norm > 0 else 0.0
    out[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    out[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
    out[:3, 3] = node.get("translation", (0, 0, 0))
    return out
