"""Wavefront OBJ files with their material libraries (.mtl)."""

from __future__ import annotations

import numpy as np

from imgsynth.batch import F64, I64
from imgsynth.color import srgb_to_linear
from imgsynth.errors import DataError
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.shapes.meshsource import Home, MissingFile, Part, Source
from imgsynth.shapes.surface import distinct_rows

_CORNERS = 64  # of one polygon, at most


def read_obj(home: Home, data: bytes) -> Source:
    """Read an .obj file: polygons are cut into fans of triangles, each material makes a part, in the order of
    their first use.

    Raises:
        DataError: a line that is wrong, with its number; a material library or texture that cannot be read.
    """
    text = data.decode("utf-8", "replace").replace("\\\r\n", " ").replace("\\\n", " ")
    lines: dict[str, list[str]] = {"v": [], "vt": [], "vn": [], "f": []}
    face_line, face_material, before = [], [], []  # of each face; vertices, texture points, normals so far
    libraries, names, current = [], {"": 0}, 0
    for number, line in enumerate(text.splitlines(), 1):
        word, _, rest = line.lstrip().partition(" ")
        if word == "f":
            face_line.append(number)
            face_material.append(current)
            if "-" in rest:
                before.append((len(face_line) - 1, *(len(lines[k]) for k in ("v", "vt", "vn"))))
        if word in lines:
            lines[word].append(rest.partition("#")[0])
        elif word == "usemtl":
            current = names.setdefault(rest.strip(), len(names))
        elif word == "mtllib":
            libraries.append(rest.strip())
    source = Source()
    if not lines["v"] or not lines["f"]:
        return source
    vertices = _table(home, lines["v"], "v", (3, 4, 6, 7))
    uv = _table(home, lines["vt"], "vt", (1, 2, 3)) if lines["vt"] else None
    normals = _table(home, lines["vn"], "vn", (3,)) if lines["vn"] else None
    sizes = [len(vertices), 0 if uv is None else len(uv), 0 if normals is None else len(normals)]
    corners, counts = _corners(home, lines["f"], face_line, before, sizes)
    faces, owner = _fans(corners, counts)
    materials: dict[str, FileMaterial] = {}
    for library in libraries:
        try:
            text = home.read(library).decode("utf-8", "replace")
        except MissingFile:
            source.note(f"its material library {library!r} is not there: no materials")
            continue
        materials |= read_mtl(home, text, source)
    by_number = {number: name for name, number in names.items()}
    of_face = np.array(face_material)[owner]
    for number in dict.fromkeys(face_material):
        name = by_number[number]
        if name and name not in materials:
            source.note(f"material {name!r} is in no material library")
        material = materials.get(name, FileMaterial(name=name) if name else None)
        mine = faces[of_face == number]
        source.parts.append(_part(mine, vertices, uv, normals, material))
    return source


def _table(home: Home, rows: list[str], word: str, widths: tuple[int, ...]) -> F64:
    """Rows of numbers; what some rows lack is NaN."""
    try:
        flat = np.array(" ".join(rows).split(), np.float64)
        width = len(flat) // len(rows)
        if width * len(rows) == len(flat) and width in widths and len(rows[0].split()) == width:
            return flat.reshape(len(rows), width)
        split = [row.split() for row in rows]
        out = np.full((len(rows), max(map(len, split))), np.nan)
        for k, row in enumerate(split):
            out[k, : len(row)] = row
    except ValueError:
        raise home.fail(f"expected numbers after {word!r}: {_culprit(rows)}") from None
    if min(map(len, split)) < min(widths) or out.shape[1] > max(widths):
        raise home.fail(f"expected {' or '.join(map(str, widths))} numbers after every {word!r}")
    return out


def _culprit(rows: list[str]) -> str:
    for row in rows:
        for word in row.split():
            try:
                float(word)
            except ValueError:
                return f"got {word[:40]!r}"
    return "too many"


def _corners(
    home: Home, faces: list[str], line: list[int], before: list[tuple[int, ...]], sizes: list[int]
) -> tuple[I64, I64]:
    """(c, 3) vertex, texture point and normal of every corner, from 0 and -1 where there is none; corners by
    face.
    """
    words = [face.split() for face in faces]
    counts = np.array([len(w) for w in words], np.int64)
    if counts.max() > _CORNERS or counts.min() < 3:
        k = int(np.argmax((counts > _CORNERS) | (counts < 3)))
        raise home.fail(f"line {line[k]}: expected a face of 3 to {_CORNERS} corners, got {counts[k]}")
    flat = [word for face in words for word in face]
    try:
        out = _indices(flat)
    except (ValueError, OverflowError):
        raise home.fail("expected faces as v, v/vt, v//vn or v/vt/vn with whole numbers") from None
    start = np.cumsum([0, *counts])
    for k, *had in before:  # negative numbers count back from where the face stands
        mine = out[start[k] : start[k + 1]]
        mine += (mine < 0) * (np.array(had) + 1)
    size = np.array(sizes)
    bad = (out[:, 0] < 1) | (out > size).any(1) | (out < 0).any(1)
    if bad.any():
        corner = int(np.argmax(bad))
        k = int(np.searchsorted(start, corner, side="right")) - 1
        raise home.fail(
            f"line {line[k]}: {flat[corner]!r} names what is not there ({size[0]} vertices, "
            f"{size[1]} texture points, {size[2]} normals)"
        )
    return out - 1, counts


def _indices(words: list[str]) -> I64:
    """(c, 3) numbers as written, 0 where left out."""
    joined = " ".join(words)
    slashes = words[0].count("/")
    if all(word.count("/") == slashes for word in words) and ("//" in words[0]) * len(words) == joined.count(
        "//"
    ):
        numbers = np.array(joined.replace("//", "/0/").replace("/", " ").split(), np.int64)
        table = np.zeros((len(words), 3), np.int64)
        table[:, : slashes + 1] = numbers.reshape(len(words), slashes + 1)
        return table
    split = [[*word.split("/"), "", ""][:3] for word in words]
    return np.array([[int(n or 0) for n in row] for row in split], np.int64)


def _fans(corners: I64, counts: I64) -> tuple[I64, I64]:
    """(f, 3, 3) corners of triangles, and the polygon (f,) that each is cut from."""
    owner = np.repeat(np.arange(len(counts)), counts - 2)
    first = np.cumsum(counts) - counts
    step = np.arange(len(owner)) - np.repeat(np.cumsum(counts - 2) - (counts - 2), counts - 2)
    a = first[owner]
    return corners[np.stack([a, a + step + 1, a + step + 2], 1)], owner


def _part(
    faces: I64, vertices: F64, uv: F64 | None, normals: F64 | None, material: FileMaterial | None
) -> Part:
    """Corners that agree in vertex, texture point and normal become one vertex."""
    first, index = distinct_rows(faces.reshape(-1, 3))
    v, t, n = faces.reshape(-1, 3)[first].T
    colors = None
    if vertices.shape[1] >= 6:  # a common extension: red, green, blue in sRGB after the place
        rgb = vertices[v, 3:6]
        if np.isfinite(rgb).all():
            colors = _linear(rgb / (255 if rgb.max() > 1 else 1))

    def rows(table: F64 | None, which: I64, width: int) -> F64 | None:
        if table is None or (which < 0).all() or table.shape[1] < width:
            return None
        out = table[which, :width].copy()
        out[which < 0] = np.nan
        return out

    index = index.reshape(-1, 3).astype(np.int64)
    return Part(vertices[v, :3], index, rows(normals, n, 3), rows(uv, t, 2), colors, material)


_TAKES = {"-o": 3, "-s": 3, "-t": 3, "-mm": 2, "-bm": 1, "-blendu": 1, "-blendv": 1, "-boost": 1,
          "-cc": 1, "-clamp": 1, "-imfchan": 1, "-texres": 1, "-type": 1}  # fmt: skip


def _file_name(text: str) -> str:
    """The file that a map_… line names, after its options."""
    words = text.split(" ")
    k = 0
    while k < len(words) and words[k].lower() in _TAKES:
        most, k = _TAKES[words[k].lower()], k + 1
        while most and k < len(words) - 1 and (most == 1 or _is_number(words[k])):
            most, k = most - 1, k + 1
    return " ".join(words[k:]).strip()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_mtl(home: Home, text: str, source: Source) -> dict[str, FileMaterial]:
    """The materials of a library. Kd and map_Kd give the colour, Ns the roughness (as `roughness_of`), Pr and
    Pm roughness and metallic where they are given, Ke emission, map_d a cut-out at one half.
    """
    said: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            current = said.setdefault(rest.strip(), {})
        elif word and rest.strip():
            current[word.lower()] = rest.partition("#")[0].strip()
    return {name: _material(home, name, words, source) for name, words in said.items()}


def _material(home: Home, name: str, said: dict[str, str], source: Source) -> FileMaterial:
    def numbers(word: str, count: int) -> F64 | None:
        try:
            values = np.array(said[word].split()[:count], np.float64)
        except (KeyError, ValueError):
            return None
        if len(values) == 1:
            values = np.repeat(values, count)
        return values if len(values) == count and np.isfinite(values).all() else None

    def number(word: str) -> float | None:
        values = numbers(word, 1)
        return None if values is None else float(values[0])

    diffuse, glow, shine = numbers("kd", 3), numbers("ke", 3), number("ns")
    roughness = number("pr")
    if roughness is None and shine is not None:
        specular = numbers("ks", 3)
        roughness = 1.0 if specular is not None and not specular.any() else roughness_of(shine)
    opacity = number("d")
    if opacity is None and (through := number("tr")) is not None:
        opacity = 1.0 - through
    if opacity is not None and opacity < 1:
        source.note(f"material {name!r}: opaque here, {opacity:.0%} in the file (dissolve)")
    for word in ("map_bump", "bump", "disp", "map_ns", "map_pr", "map_pm"):
        if word in said:
            source.note(f"material {name!r}: its {word} is left out")
    texture, cutoff = _textures(home, said)
    metallic = number("pm")
    return FileMaterial(
        name=name,
        color=None if diffuse is None else _linear(diffuse),
        texture=texture,
        metallic=None if metallic is None else float(np.clip(metallic, 0, 1)),
        roughness=None if roughness is None else float(np.clip(roughness, 0, 1)),
        emission=_linear(glow) if glow is not None and glow.any() else None,
        alpha_cutoff=cutoff,
        normal=home.file_texture(_file_name(said["norm"]), "normal") if "norm" in said else None,
        emission_texture=home.file_texture(_file_name(said["map_ke"])) if "map_ke" in said else None,
    )


def _textures(home: Home, said: dict[str, str]) -> tuple[tuple[np.ndarray, ...] | None, float | None]:
    if "map_kd" not in said and "map_d" not in said:
        return None, None
    color = _file_name(said["map_kd"]) if "map_kd" in said else None
    mask = _file_name(said["map_d"]) if "map_d" in said else None
    if mask is None or mask == color:
        assert color is not None or mask is not None
        return home.file_texture(color or mask or ""), 0.5 if mask else None
    alpha = home.decoded(home.read(mask), f"texture {mask!r}")
    cut = alpha[..., 3] if (alpha[..., 3] < 255).any() else alpha[..., 0]
    image = np.full((*cut.shape, 4), 255, np.uint8)
    if color is not None:
        image = home.decoded(home.read(color), f"texture {color!r}")
        if image.shape[:2] != cut.shape:
            raise DataError(f"{home.path}: map_Kd {color!r} and map_d {mask!r} are not of one size")
    image[..., 3] = cut
    return home.chain(image), 0.5


def _linear(color: F64) -> F64:
    return np.asarray(srgb_to_linear(np.clip(color, 0, 1)), np.float64)


def roughness_of(exponent: float) -> float:
    """Perceptual roughness of a Blinn-Phong exponent: alpha² = 2 / (n + 2), roughness² = alpha (Walter et al.
    2007, eq. of the Beckmann-Phong match).
    """
    return float((2.0 / (max(exponent, 0.0) + 2.0)) ** 0.25)
