"""Mesh files: geometry, textures, colours come through; hostile and broken files get one clear line."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from imgsynth.errors import DataError
from imgsynth.shapes.meshfile import load_mesh
from imgsynth.shapes.surface import is_closed, volume

CUBE = """
v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1
f 1 4 3 2\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".glb"])
def test_every_format_gives_the_same_box(tmp_path: Path, suffix: str) -> None:
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    box.export(tmp_path / f"box{suffix}")
    loaded = load_mesh(tmp_path / f"box{suffix}", unit=0.5, up_axis="z")
    m = loaded.meshes
    assert len(m) == 1 and len(m.faces) == 12 and not m.two_sided
    assert np.allclose(np.ptp(m.vertices[0], axis=0), [0.5, 1.0, 1.5])
    assert volume(m.vertices[0].astype(float), m.faces.astype(np.int64)) == pytest.approx(0.75)
    assert np.allclose(np.linalg.norm(m.normals, axis=-1), 1, atol=1e-6)


def test_missing_normals_are_creased_and_missing_uv_projected(tmp_path: Path) -> None:
    m = load_mesh(write(tmp_path / "cube.obj", CUBE)).meshes
    corner = m.vertices[0][m.faces]
    flat = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert np.allclose(m.normals[0][m.faces], flat[:, None], atol=1e-6)
    assert m.vertices.shape[1] == 24
    # Each side of the unit cube shows the whole unit square once.
    uv = m.uv[m.faces]
    assert np.allclose(np.abs(np.linalg.det(uv[:, 1:] - uv[:, :1])) / 2, 0.5)


def test_missing_normals_of_a_smooth_mesh_follow_the_sphere(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(3)
    text = "\n".join(
        [
            *("v {} {} {}".format(*v) for v in ball.vertices),
            *("f {} {} {}".format(*(f + 1)) for f in ball.faces),
        ]
    )
    m = load_mesh(write(tmp_path / "ball.obj", text)).meshes
    assert (m.normals * m.vertices).sum(-1).min() > 0.999


def test_y_up_is_turned(tmp_path: Path) -> None:
    write(tmp_path / "t.obj", "v 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3\n")
    m = load_mesh(tmp_path / "t.obj", up_axis="y").meshes
    assert np.allclose(sorted(map(tuple, m.vertices[0])), [(0, 0, 0), (0, 0, 2), (1, 0, 0)])
    assert np.allclose(m.normals, [0, -1, 0], atol=1e-6)  # +z of the file looks along -y
    assert m.two_sided


def test_inside_out_is_turned(tmp_path: Path) -> None:
    inverted = CUBE.strip().splitlines()
    flipped = [
        f"f {' '.join(reversed(line.split()[1:]))}" if line.startswith("f") else line for line in inverted
    ]
    m = load_mesh(write(tmp_path / "cube.obj", "\n".join(flipped))).meshes
    assert volume(m.vertices[0].astype(float), m.faces.astype(np.int64)) == pytest.approx(1)
    centred = m.vertices[0] - 0.5
    assert (centred * m.normals[0]).sum(-1).min() > 0.4


def textured_obj(folder: Path, texture: str = "wood.png") -> Path:
    Image.new("RGB", (4, 2), (255, 128, 0)).save(folder / "wood.png")
    write(folder / "m.mtl", f"newmtl a\nKd 1 1 1\nmap_Kd {texture}\nnewmtl b\nKd 1 0 0\n")
    body = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    faces = "usemtl a\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\nusemtl b\nf 1/1 2/2 5/3\n"
    return write(folder / "m.obj", f"mtllib m.mtl\n{body}{faces}")


def test_obj_texture_uv_and_a_slot_per_material(tmp_path: Path) -> None:
    loaded = load_mesh(textured_obj(tmp_path))
    assert loaded.meshes.slot_names == ("a", "b")
    assert np.bincount(loaded.meshes.slots).tolist() == [2, 1]
    a, b = loaded.materials
    assert a.texture is not None and a.texture[0].shape == (2, 4, 4)
    assert (a.texture[0] == [255, 128, 0, 255]).all()
    assert b.texture is None
    assert np.allclose(b.color, [1, 0, 0])
    main = np.unique(loaded.meshes.faces[loaded.meshes.slots == 0])
    assert np.allclose(loaded.meshes.uv[main], loaded.meshes.vertices[0, main, :2])  # v grows upwards


def test_glb_texture_uv_and_factor(tmp_path: Path) -> None:
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=[255, 0, 127, 255])
    quad = trimesh.Trimesh(
        np.c_[uv, np.zeros(4)],
        [[0, 1, 2], [0, 2, 3]],
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,
    )
    quad.export(tmp_path / "q.glb")
    loaded = load_mesh(tmp_path / "q.glb", up_axis="z")
    (own,) = loaded.materials
    assert own.texture is not None and (own.texture[0][..., :3] == [10, 20, 30]).all()
    assert np.allclose(own.color, [1, 0, 127 / 255])
    assert np.allclose(loaded.meshes.uv, loaded.meshes.vertices[0, :, :2], atol=1e-6)


def test_scene_graph_is_joined_mirrored_parts_too(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    ball = trimesh.creation.icosphere(1)
    scene.add_geometry(ball, transform=trimesh.transformations.translation_matrix([3, 0, 0]))
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = -3
    scene.add_geometry(ball, transform=mirror)
    scene.export(tmp_path / "two.glb")
    m = load_mesh(tmp_path / "two.glb", up_axis="z").meshes
    assert len(m.faces) == 2 * len(ball.faces) and not m.two_sided
    assert volume(m.vertices[0].astype(float), m.faces.astype(np.int64)) == pytest.approx(
        2 * ball.volume, rel=1e-5
    )
    outward = m.vertices[0] - np.where(m.vertices[0, :, :1] > 0, 1, -1) * np.array([3, 0, 0])
    assert (outward * m.normals[0]).sum(-1).min() > 0.9


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "..\\secret.png", "sub/../../secret.png"])
def test_textures_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    with pytest.raises(DataError, match="outside its folder"):
        load_mesh(textured_obj(home, name))


def test_material_libraries_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write(tmp_path / "m.mtl", "newmtl a\nKd 1 1 1\n")
    path = write(tmp_path / "home" / "m.obj", "mtllib ../m.mtl\nusemtl a\n" + CUBE)
    with pytest.raises(DataError, match="outside its folder"):
        load_mesh(path)


def test_symbolic_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (home / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="outside its folder"):
        load_mesh(textured_obj(home, "link.png"))


def test_missing_texture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names 'gone\.png', which is not there"):
        load_mesh(textured_obj(tmp_path, "gone.png"))


def glb(tree: dict) -> bytes:
    body = json.dumps(tree).encode()
    body += b" " * (-len(body) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(body), len(body), b"JSON") + body


def test_glb_accessor_bomb_is_refused_before_parsing(tmp_path: Path) -> None:
    accessor = {"componentType": 5126, "count": 10**12, "type": "VEC3"}
    (tmp_path / "bomb.glb").write_bytes(glb({"asset": {"version": "2.0"}, "accessors": [accessor]}))
    with pytest.raises(DataError, match="triangles"):
        load_mesh(tmp_path / "bomb.glb")


BROKEN = {
    "empty.obj": b"",
    "words.obj": b"this is no mesh",
    "points.obj": b"v 0 0 0\nv 1 0 0\n",
    "flat.obj": b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n",
    "range.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n",
    "nan.obj": b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "short.stl": b"\0" * 90,
    "noise.glb": b"glTF" + bytes(range(200)),
    "noise.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\n"
    b"property float x\nend_header\n",
    "picture.gif": b"GIF89a",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_files_are_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(DataError) as caught:
        load_mesh(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_missing_file_limits_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_mesh(tmp_path / "none.obj")
    path = write(tmp_path / "cube.obj", CUBE)
    with pytest.raises(DataError, match="at most 11 triangles, got 12"):
        load_mesh(path, max_triangles=11)
    with pytest.raises(DataError, match="bytes"):
        load_mesh(path, max_bytes=10)
    with pytest.raises(DataError, match="unit"):
        load_mesh(path, unit=0)
    with pytest.raises(DataError, match="up_axis"):
        load_mesh(path, up_axis="x")


def test_is_closed() -> None:
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    assert is_closed(faces)
    assert not is_closed(faces[:3])
    assert not is_closed(np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
