"""Repairs of meshes: each is done, said, and leaves sound meshes as they are; sizes and places by closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from imgsynth.batch import Meshes
from imgsynth.errors import DataError
from imgsynth.shapes.meshfile import MeshFile, load_mesh
from imgsynth.shapes.objfile import roughness_of
from imgsynth.shapes.surface import face_normals, volume
from imgsynth.shapes.vertexcolors import painted
from imgsynth.shapes.winding import consistent
from tests.meshchecks import assert_sound
from tests.meshwriting import binary_stl

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text_obj(vertices: NDArray, faces: NDArray) -> str:
    return "\n".join(
        ["v {} {} {}".format(*v) for v in vertices] + ["f {} {} {}".format(*(f + 1)) for f in faces]
    )


def obj(path: Path, vertices: NDArray, faces: NDArray) -> Path:
    path.write_text(text_obj(vertices, faces))
    return path


def measured(m: Meshes) -> tuple[float, float]:
    """(area, volume) of the only mesh."""
    v, f = m.vertices[0].astype(np.float64), m.faces.astype(np.int64)
    return float(np.linalg.norm(face_normals(v, f), axis=1).sum() / 2), volume(v, f)


def has(loaded: MeshFile, words: str) -> bool:
    return any(words in note for note in loaded.notes)


UNITS = {"m": 1, "cm": 1e-2, "mm": 1e-3, "inch": 0.0254, "ft": 0.3048, 2.5: 2.5}


@pytest.mark.parametrize("unit", list(UNITS))
@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".glb"])
def test_area_and_volume_scale_with_the_unit(tmp_path: Path, unit: float | str, suffix: str) -> None:
    trimesh.creation.box((2, 3, 4)).export(tmp_path / f"a{suffix}")
    loaded = load_mesh(tmp_path / f"a{suffix}", unit=unit)
    area, content = measured(loaded.meshes)
    s = UNITS[unit]
    assert area == pytest.approx(52 * s**2, rel=1e-5) and content == pytest.approx(24 * s**3, rel=1e-5)
    # Only glTF says which axis is up.
    sides = np.ptp(loaded.meshes.vertices[0], axis=0) / s
    assert np.allclose(sides, [2, 4, 3] if suffix == ".glb" else [2, 3, 4], rtol=1e-5)


@pytest.mark.parametrize(
    ("center", "low"),
    [("origin", (5, 6, 7)), ("bottom", (-1, -1.5, 0)), ("box", (-1, -1.5, -2)), ("centroid", (-1, -1.5, -2))],
)
def test_center_and_size(tmp_path: Path, center: str, low: tuple[float, ...]) -> None:
    box = trimesh.creation.box((2, 3, 4))
    path = obj(tmp_path / "a.obj", box.vertices + np.array([6, 7.5, 9]), box.faces)
    points = {"corner": (5.0, 6.0, 7.0)}
    loaded = load_mesh(path, center=center, keypoints=points)
    assert np.allclose(loaded.meshes.vertices[0].min(0), low, atol=1e-6)
    assert np.allclose(loaded.meshes.keypoints["corner"], low, atol=1e-6)
    half = load_mesh(path, center=center, size_m=2.0, keypoints=points).meshes
    assert np.allclose(half.vertices[0].min(0), np.array(low) / 2, atol=1e-6)
    assert np.allclose(half.keypoints["corner"], np.array(low) / 2, atol=1e-6)


def test_centre_of_mass_of_a_cone_is_a_quarter_up(tmp_path: Path) -> None:
    trimesh.creation.cone(1.0, 4.0, sections=64).export(tmp_path / "c.stl")
    assert load_mesh(tmp_path / "c.stl", center="centroid").meshes.vertices[0, :, 2].min() == pytest.approx(
        -1, abs=1e-5
    )


def test_keypoints_turn_with_the_axes(tmp_path: Path) -> None:
    path = obj(tmp_path / "a.obj", np.eye(3), np.array([[0, 1, 2]]))
    m = load_mesh(path, up_axis="y", unit="cm", keypoints={"up": (0, 1, 0), "out": (0, 0, 1)}).meshes
    assert np.allclose(m.keypoints["up"], [0, 0, 0.01]) and np.allclose(m.keypoints["out"], [0, -0.01, 0])
    for point in m.keypoints.values():
        assert np.isclose(m.vertices[0], point).all(1).any()


@QUIET
@given(flips=st.lists(st.booleans(), min_size=80, max_size=80))
def test_any_mixture_of_windings_is_mended(tmp_path: Path, flips: list[bool]) -> None:
    ball = trimesh.creation.icosphere(1)
    faces = np.where(np.array(flips)[:, None], ball.faces[:, ::-1], ball.faces)
    loaded = load_mesh(obj(tmp_path / "b.obj", ball.vertices, faces))
    assert_sound(loaded.meshes)
    assert measured(loaded.meshes)[1] == pytest.approx(ball.volume, rel=1e-5)
    assert not loaded.meshes.two_sided
    assert (loaded.meshes.normals * loaded.meshes.vertices).sum(-1).min() > 0.9


def test_every_closed_surface_is_turned_by_itself_but_for_hollows(tmp_path: Path) -> None:
    outer, inner = trimesh.creation.icosphere(2, 1.0), trimesh.creation.icosphere(2, 0.5)
    apart = trimesh.creation.icosphere(2, 1.0)
    vertices = np.concatenate([outer.vertices, inner.vertices, apart.vertices + np.array([5, 0, 0])])
    n = len(outer.vertices)
    faces = np.concatenate([outer.faces, inner.faces[:, ::-1] + n, apart.faces[:, ::-1] + 2 * n])
    loaded = load_mesh(obj(tmp_path / "b.obj", vertices, faces))
    assert has(loaded, f"inside out: {len(apart.faces)} triangles turned")
    assert measured(loaded.meshes)[1] == pytest.approx(outer.volume - inner.volume + apart.volume, rel=1e-5)


def test_a_moebius_strip_is_left_as_it_is() -> None:
    n = 12
    quads = []
    for k in range(n):
        a, b = 2 * k, 2 * k + 1
        c, d = ((k + 1) * 2, (k + 1) * 2 + 1) if k < n - 1 else (1, 0)
        quads += [[a, b, c], [b, d, c]]
    flip, surface, closed = consistent(np.array(quads))
    assert not flip.any() and set(surface) == {0} and not closed.any()


def test_open_meshes_are_two_sided_and_closed_ones_not(tmp_path: Path) -> None:
    box = trimesh.creation.box((1, 1, 1))
    whole = load_mesh(obj(tmp_path / "a.obj", box.vertices, box.faces))
    ajar = load_mesh(obj(tmp_path / "b.obj", box.vertices, box.faces[:-1]))
    assert whole.closed and not whole.meshes.two_sided
    assert not ajar.closed and ajar.meshes.two_sided and has(ajar, "not closed")


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    box = trimesh.creation.box((1, 1, 1))
    vertices = np.concatenate([box.vertices, [[9, 9, 9], [np.nan, 0, 0]]])  # nobody uses these two
    faces = np.concatenate([box.faces, [[0, 1, 1], [0, 0, 0]], box.faces[:1], box.faces[1:2, [1, 2, 0]]])
    loaded = load_mesh(obj(tmp_path / "a.obj", vertices, faces))
    assert has(loaded, "2 triangles without area dropped") and has(
        loaded, "2 triangles that stood twice dropped"
    )
    assert len(loaded.meshes.faces) == 12 and loaded.closed
    assert np.abs(loaded.meshes.vertices).max() == 0.5


def test_given_normals_that_look_inwards_are_turned(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(2)
    lines = [
        *("v {} {} {}".format(*v) for v in ball.vertices),
        *("vn {} {} {}".format(*-v) for v in ball.vertices),
    ]
    lines += ["f {0}//{0} {1}//{1} {2}//{2}".format(*(f + 1)) for f in ball.faces]
    (tmp_path / "b.obj").write_text("\n".join(lines))
    m = load_mesh(tmp_path / "b.obj").meshes
    assert (m.normals * m.vertices).sum(-1).min() > 0.999


def test_given_normals_are_kept(tmp_path: Path) -> None:
    (tmp_path / "t.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0.6 0.8\nf 1//1 2//1 3//1\n")
    assert np.allclose(load_mesh(tmp_path / "t.obj").meshes.normals, [0, 0.6, 0.8])


def test_sizes_that_are_seldom_meant_are_said(tmp_path: Path) -> None:
    box = trimesh.creation.box((200, 100, 100))
    path = obj(tmp_path / "a.obj", box.vertices + 1e6, box.faces)
    loaded = load_mesh(path)
    assert has(loaded, "is 200 m long: say its unit") and has(loaded, "center brings it near")
    assert not load_mesh(path, unit="mm", center="bottom").notes[0].startswith("is")
    # What is far away keeps its shape when it is brought near.
    assert np.allclose(np.ptp(load_mesh(path, center="box").meshes.vertices[0], axis=0), [200, 100, 100])


def test_too_many_triangles_names_the_cure(tmp_path: Path) -> None:
    trimesh.creation.icosphere(3).export(tmp_path / "b.stl")
    with pytest.raises(DataError, match=r"decimate the mesh .* or raise max_triangles"):
        load_mesh(tmp_path / "b.stl", max_triangles=100)
    with pytest.raises(DataError, match="raise max_mb"):
        load_mesh(tmp_path / "b.stl", max_bytes=1000)
    assert len(load_mesh(tmp_path / "b.stl").meshes.faces) == 1280


def test_stl_text_and_binary_agree(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(1)
    binary_stl(tmp_path / "a.stl", ball.vertices[ball.faces])
    corners = ball.vertices[ball.faces].astype(np.float32)
    facets = "\n".join(
        "facet normal 0 0 0\nouter loop\n"
        + "\n".join("vertex {!r} {!r} {!r}".format(*map(float, p)) for p in tri)
        + "\nendloop\nendfacet"
        for tri in corners
    )
    (tmp_path / "b.stl").write_text(f"solid ball\n{facets}\nendsolid ball\n")
    a, b = load_mesh(tmp_path / "a.stl").meshes, load_mesh(tmp_path / "b.stl").meshes
    assert np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces) and not a.two_sided
    (tmp_path / "c.stl").write_text(f"solid ball\n{facets[: len(facets) // 2]}")
    with pytest.raises(DataError, match="truncated"):
        load_mesh(tmp_path / "c.stl")
    with pytest.raises(DataError, match="truncated"):
        load_mesh(binary_stl(tmp_path / "d.stl", ball.vertices[ball.faces], count=900))


def test_obj_takes_polygons_negative_numbers_and_mixed_corners(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "f 1/1 2/2 3/3 4/4 # a square\nv 0 0 1\nv 1 0 1\nv 1 1 1\nf -3 -2 \\\n -1\n"
    )
    m = load_mesh(tmp_path / "a.obj").meshes
    assert len(m.faces) == 3 and measured(m)[0] == pytest.approx(1.5)
    low = m.vertices[0, :, 2] == 0
    assert np.allclose(m.uv[low], m.vertices[0, low, :2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\n", "line 4: expected a face of 3 to 64 corners, got 2"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n\nf 1 2 -4\n", "line 5: '-4' names what is not there"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2/1 3/1\n", "line 4: '1/1' names what is not there"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "line 4: '0' names what is not there"),
        ("v 0 0 0\nv 1 x 0\nv 0 1 0\nf 1 2 3\n", "expected numbers after 'v': got 'x'"),
        ("v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "numbers after every 'v'"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf a b c\n", "expected faces as"),
    ],
)
def test_obj_mistakes_say_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(DataError) as caught:
        load_mesh(tmp_path / "a.obj")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_mtl_words(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 3), 90, np.uint8)).save(tmp_path / "my wood.png")
    Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "m.mtl").write_text(
        "newmtl a\nKd 0.5 0.5 0.5\nKs 1 1 1\nNs 98\nmap_Kd -s 1 1 1 -o 0 0 0 my wood.png\nmap_d cut.png\n"
        "newmtl b\nKd 1 0 0\nKs 0 0 0\nNs 500\nKe 0 1 0\n"
        "newmtl c\nPr 0.25\nPm 0.75\nd 0.5\nmap_Bump bumps.png\n"
    )
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nv 2 0 0\n"
    (tmp_path / "a.obj").write_text(
        f"mtllib m.mtl\n{corners}usemtl c\nf 1 2 3\nusemtl a\nf 2 4 3\nusemtl b\nf 2 5 4\n"
    )
    loaded = load_mesh(tmp_path / "a.obj")
    assert loaded.meshes.slot_names == ("c", "a", "b")  # by first use
    c, a, b = loaded.materials
    assert a.roughness == pytest.approx((2 / 100) ** 0.25) and a.alpha_cutoff == 0.5
    assert a.texture is not None
    assert a.texture[0][..., 3].tolist() == [[0, 255], [255, 255]] and a.texture[0][0, 0, 0] == 90
    assert np.allclose(a.color, ((0.5 + 0.055) / 1.055) ** 2.4)
    assert b.roughness == 1.0 and np.allclose(b.emission, [0, 1, 0])
    assert (c.roughness, c.metallic) == (0.25, 0.75)
    assert has(loaded, "'c': opaque here, 50%") and has(loaded, "'c': its map_bump is left out")
    assert roughness_of(0) == 1.0


def test_a_lost_material_library_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n")
    loaded = load_mesh(tmp_path / "a.obj")
    assert has(loaded, "'gone.mtl' is not there") and loaded.materials[0].color is None


def bilinear(image: NDArray, uv: NDArray) -> NDArray:
    """Filtered linear colour (m, 3) at uv, v upwards, as a renderer looks it up."""
    from imgsynth.color import srgb_to_linear

    linear = srgb_to_linear(image[..., :3] / 255)
    h, w = image.shape[:2]
    x, y = uv[:, 0] * w - 0.5, (1 - uv[:, 1]) * h - 0.5
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    s, t = (x - i)[:, None], (y - j)[:, None]

    def at(column: NDArray, row: NDArray) -> NDArray:
        return linear[row % h, column % w]

    return (at(i, j) * (1 - s) + at(i + 1, j) * s) * (1 - t) + (
        at(i, j + 1) * (1 - s) + at(i + 1, j + 1) * s
    ) * t


@pytest.mark.parametrize("count", [1, 3, 16, 100])
def test_vertex_colours_blend_linearly_in_the_texture(count: int) -> None:
    rng = np.random.default_rng(count)
    corners, colors = rng.normal(size=(count, 3, 3)), rng.uniform(0.3, 0.6, (count, 3, 3))
    image, uv = painted(corners, colors)
    weight = rng.dirichlet([1, 1, 1], (count, 8))
    where = np.einsum("fkc,fcd->fkd", weight, uv).reshape(-1, 2)
    wanted = np.einsum("fkc,fcd->fkd", weight, colors).reshape(-1, 3)
    assert np.abs(bilinear(image, where) - wanted).max() < 0.006  # what eight bits of sRGB can say


def test_ply_with_vertex_and_face_colours(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(1)
    ball.visual.vertex_colors = np.c_[np.tile([[255, 0, 0]], (42, 1)), np.full(42, 255)]
    ball.export(tmp_path / "one.ply")
    assert np.allclose(load_mesh(tmp_path / "one.ply").materials[0].color, [1, 0, 0])
    ball.visual.vertex_colors = np.c_[(ball.vertices * 100 + 128).astype(int), np.full(42, 255)]
    ball.export(tmp_path / "many.ply", encoding="ascii")
    own = load_mesh(tmp_path / "many.ply")
    assert own.materials[0].texture is not None and has(own, "vertex colours become a texture")
    corner = own.meshes.faces[:, 0]
    seen = bilinear(own.materials[0].texture[0], own.meshes.uv[corner])
    wanted = ((((own.meshes.vertices[0, corner] * 100 + 128) / 255) + 0.055) / 1.055) ** 2.4
    assert np.abs(seen - wanted).max() < 0.01
    box = trimesh.creation.box((1, 1, 1))
    box.visual.face_colors = np.c_[np.arange(36).reshape(12, 3) * 7, np.full(12, 255)]
    box.export(tmp_path / "faces.ply")
    loaded = load_mesh(tmp_path / "faces.ply")
    assert loaded.closed and not loaded.meshes.two_sided  # colours part no surface


def test_the_same_file_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    box = trimesh.creation.box((1, 1, 1))
    path = obj(tmp_path / "a.obj", box.vertices, box.faces)
    first = load_mesh(path)
    assert load_mesh(path) is first and load_mesh(path, unit="cm") is not first
    obj(path, box.vertices * 3, box.faces)
    assert np.ptp(load_mesh(path).meshes.vertices[0], axis=0).max() == 3


def test_a_large_texture_is_halved_until_it_fits(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 256, 3), 77, np.uint8)).save(tmp_path / "t.png")
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    (tmp_path / "a.obj").write_text("mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n")
    texture = load_mesh(tmp_path / "a.obj", texture_px=100).materials[0].texture
    assert texture is not None and texture[0].shape == (16, 64, 4)


SEEDS: dict[str, bytes] = {}


def seed_files(folder: Path) -> dict[str, bytes]:
    if not SEEDS:
        ball = trimesh.creation.icosphere(0)
        ball.visual.vertex_colors = np.full((12, 4), 200)
        for name, more in (("a.stl", {}), ("b.stl", {"file_type": "stl_ascii"}), ("c.ply", {}), ("d.obj", {}),
                           ("e.ply", {"encoding": "ascii"}), ("f.glb", {})):  # fmt: skip
            ball.export(folder / name, **more)
            SEEDS[name] = (folder / name).read_bytes()
    return SEEDS


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    seeds = seed_files(tmp_path)
    name = data.draw(st.sampled_from(sorted(seeds)))
    body = bytearray(seeds[name])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        what = data.draw(
            st.sampled_from([b"", b"\xff", b"nan", b"99999999999", b"-1", b"\n", b"/", b"[", b"\0\0\0\x80"])
        )
        body[at : at + data.draw(st.integers(0, 6))] = what
    end = data.draw(st.one_of(st.none(), st.integers(0, len(body))))
    path = tmp_path / f"x{Path(name).suffix}"
    path.write_bytes(bytes(body[:end]))
    try:
        m = load_mesh(path, max_triangles=10_000).meshes
    except DataError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
    else:
        assert np.isfinite(m.vertices).all() and np.isfinite(m.normals).all() and np.isfinite(m.uv).all()
        assert m.faces.min() >= 0 and m.faces.max() < m.vertices.shape[1]


@QUIET
@given(body=st.binary(max_size=300), suffix=st.sampled_from([".obj", ".ply", ".stl", ".glb", ".gltf"]))
def test_noise_is_refused_in_one_line(tmp_path: Path, body: bytes, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(body)
    with pytest.raises(DataError) as caught:
        load_mesh(path)
    assert "\n" not in str(caught.value)
