"""Solids and plates: closed, outward, crack-free, with closed-form areas and volumes at random parameters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meshchecks import assert_sound, exact

from imgsynth.batch import F64, Meshes
from imgsynth.errors import SceneError
from imgsynth.shapes import plates, solids
from imgsynth.shapes.surface import face_normals, volume

LENGTH = st.floats(1e-3, 10)
SHARE = st.floats(0.02, 0.98)


def area(m: Meshes, k: int = 0, slot: int | None = None) -> float:
    vertices, faces = exact(m, k)
    faces = faces if slot is None else faces[m.slots == slot]
    return float(np.linalg.norm(face_normals(vertices, faces), axis=1).sum() / 2)


SOLIDS: dict[str, Callable[[], Meshes]] = {
    "box": lambda: solids.box([[1, 2, 3], [0.1, 0.2, 0.3]]),
    "rounded_box": lambda: solids.rounded_box([[1, 2, 3], [1, 1, 1]], [0.2, 0.01]),
    "sphere": lambda: solids.sphere([1.0, 0.5]),
    "cylinder": lambda: solids.cylinder([1.0, 0.5], [1.0, 3.0]),
    "cone": lambda: solids.cone([1.0, 0.5], 1.0, [0.5, 0.1]),
    "capsule": lambda: solids.capsule([1.0, 0.5], [1.0, 3.0]),
    "plate": lambda: plates.plate(plates.regular_outline(8), [0.1, 0.2]),
}


@pytest.mark.parametrize("name", sorted(SOLIDS))
def test_solids_are_sound(name: str) -> None:
    assert_sound(SOLIDS[name]())


@pytest.mark.parametrize("make", [lambda: plates.quad([1, 2], 3), lambda: plates.disc([1, 2])])
def test_sheets_are_sound(make: Callable[[], Meshes]) -> None:
    m = make()
    assert_sound(m, closed=False)
    assert m.two_sided and (m.normals == [0, 0, 1]).all()


@given(st.tuples(LENGTH, LENGTH, LENGTH))
@settings(max_examples=25, deadline=None)
def test_box(size: tuple[float, float, float]) -> None:
    m = solids.box(size)
    assert_sound(m, normals_within_deg=0.1)
    x, y, z = size
    assert volume(*exact(m)) == pytest.approx(x * y * z, rel=1e-5)
    assert area(m) == pytest.approx(2 * (x * y + y * z + z * x), rel=1e-5)


@pytest.mark.parametrize("make", [lambda: solids.box([1, 2, 3]), lambda: solids.rounded_box([1, 2, 3], 0.1)])
def test_box_sides_are_named_and_textures_stand_upright(make: Callable[[], Meshes]) -> None:
    m = make()
    axes = {"right": [1, 0, 0], "left": [-1, 0, 0], "back": [0, 1, 0], "front": [0, -1, 0]}
    axes |= {"top": [0, 0, 1], "bottom": [0, 0, -1]}
    assert {name: d.tolist() for name, d in m.directions.items()} == axes
    uv = m.uv if m.uv.ndim == 2 else m.uv[0]
    for name in ("right", "left", "back", "front"):
        on = (m.normals[0] @ m.directions[name]) > 0.999
        assert np.corrcoef(uv[on, 1], m.vertices[0, on, 2])[0, 1] > 0.999, name
    # Seen from outside, u runs to the right: (du × dv) points outwards.
    for triangle in m.faces:
        d, t = np.diff(m.vertices[0][triangle], axis=0), np.diff(uv[triangle], axis=0)
        turn = np.linalg.det(t) * np.dot(np.cross(d[0], d[1]), m.normals[0][triangle[0]])
        assert turn > -1e-9


@given(st.tuples(LENGTH, LENGTH, LENGTH), SHARE, st.sampled_from([2, 4, 6, 8]))
@settings(max_examples=40, deadline=None)
def test_rounded_box(size: tuple[float, float, float], share: float, segments: int) -> None:
    r = share * min(size) / 2
    m = solids.rounded_box(size, r, segments=segments)
    assert_sound(m)
    assert np.allclose(np.ptp(m.vertices[0], axis=0), size, rtol=1e-5)
    # Every vertex lies on the ideal surface, with the ideal normal: r away from the core box along it.
    core = np.array(size) / 2 - r
    vertex = m.vertices[0].astype(np.float64)
    inner = np.clip(vertex, -core, core)
    assert np.allclose(np.linalg.norm(vertex - inner, axis=1), r, atol=2e-6 * max(size))
    assert np.allclose((vertex - inner), r * m.normals[0], atol=2e-6 * max(size))


def test_rounded_box_volume_converges_to_the_closed_form() -> None:
    size, r = np.array([1.0, 1.5, 2.0]), 0.3
    x, y, z = size - 2 * r
    steiner = x * y * z + 2 * r * (x * y + y * z + z * x) + np.pi * r**2 * (x + y + z) + 4 / 3 * np.pi * r**3
    short = [1 - volume(*exact(solids.rounded_box(size, r, segments=n))) / steiner for n in (4, 8, 16, 32)]
    assert 0 < short[-1] < 4e-4
    assert np.allclose(np.array(short[:-1]) / short[1:], 4, rtol=0.1)  # second order


def test_rounded_box_goes_from_sharp_to_ball() -> None:
    sharp, ball = solids.rounded_box([1, 1, 1], 0.0), solids.rounded_box([1, 1, 1], 0.5)
    assert volume(*exact(sharp)) == pytest.approx(1)
    assert np.allclose(np.linalg.norm(ball.vertices, axis=-1), 0.5, atol=1e-6)


@given(LENGTH, st.integers(4, 64))
@settings(max_examples=25, deadline=None)
def test_sphere(radius: float, segments: int) -> None:
    m = solids.sphere(radius, segments=segments)
    assert_sound(m)
    assert np.allclose(np.linalg.norm(m.vertices, axis=-1), radius, rtol=1e-6)
    assert np.allclose(m.vertices, radius * m.normals, atol=1e-6 * radius)


def test_sphere_converges() -> None:
    assert len(solids.sphere(1.0).faces) == 960
    lost = [1 - volume(*exact(solids.sphere(1.0, segments=n))) / (4 / 3 * np.pi) for n in (32, 64)]
    assert 0.015 < lost[0] < 0.017 and lost[0] / lost[1] == pytest.approx(4, rel=0.02)
    assert area(solids.sphere(1.0, segments=128)) == pytest.approx(4 * np.pi, rel=1e-3)


@given(LENGTH, LENGTH, st.integers(3, 64))
@settings(max_examples=25, deadline=None)
def test_cylinder(radius: float, height: float, n: int) -> None:
    m = solids.cylinder(radius, height, segments=n)
    assert_sound(m, normals_within_deg=61)
    polygon = n / 2 * np.sin(2 * np.pi / n) * radius**2
    assert volume(*exact(m)) == pytest.approx(polygon * height, rel=1e-4)
    assert area(m, slot=1) == pytest.approx(polygon, rel=1e-4) == area(m, slot=2)
    assert area(m, slot=0) == pytest.approx(2 * n * np.sin(np.pi / n) * radius * height, rel=1e-4)


@given(LENGTH, LENGTH, st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_cone(radius: float, height: float, ratio: float) -> None:
    m = solids.cone(radius, height, ratio * radius, segments=48)
    assert_sound(m)
    disc = 24 * np.sin(np.pi / 24) * radius**2
    assert volume(*exact(m)) == pytest.approx(disc * height / 3 * (1 + ratio + ratio**2), rel=1e-4)


@given(LENGTH, LENGTH)
@settings(max_examples=25, deadline=None)
def test_capsule(radius: float, height: float) -> None:
    m = solids.capsule(radius, height)
    assert_sound(m)
    axis = np.clip(m.vertices[0, :, 2], -height / 2, height / 2)
    spoke = m.vertices[0] - np.stack([0 * axis, 0 * axis, axis], 1)
    assert np.allclose(np.linalg.norm(spoke, axis=1), radius, atol=1e-5 * (radius + height))


def test_disc_and_quad_areas() -> None:
    assert area(plates.disc(2.0, segments=64)) == pytest.approx(32 * np.sin(np.pi / 32) * 4, rel=1e-5)
    m = plates.quad([2.0, 3.0], 4.0)
    assert [area(m, 0), area(m, 1)] == pytest.approx([8, 12])
    corner = m.uv[np.lexsort((m.vertices[0, :, 0], m.vertices[0, :, 1]))]
    assert corner.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


def star(points: int, radii: list[float]) -> F64:
    """A random star-shaped polygon: simple, usually concave."""
    angle = 2 * np.pi * np.arange(points) / points
    return np.array(radii)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)


@given(st.lists(st.floats(0.05, 1), min_size=3, max_size=24), LENGTH, st.booleans())
@settings(max_examples=60, deadline=None)
def test_plate_of_concave_outlines(radii: list[float], thickness: float, clockwise: bool) -> None:
    outline = star(len(radii), radii)
    m = plates.plate(outline[::-1] if clockwise else outline, thickness)
    assert_sound(m, normals_within_deg=1)
    flat = float(plates.signed_area(outline))
    assert len(m.faces) == 2 * (len(radii) - 2) + 2 * len(radii)
    assert volume(*exact(m)) == pytest.approx(flat * thickness, rel=1e-3)
    assert area(m, slot=0) == pytest.approx(flat, rel=1e-3) == area(m, slot=1)
    around = np.linalg.norm(outline - np.roll(outline, 1, axis=0), axis=1).sum()
    assert area(m, slot=2) == pytest.approx(around * thickness, rel=1e-3)
    assert m.vertices[..., 2].max() == 0 and m.vertices[..., 2].min() == np.float32(-thickness)


def test_plate_as_a_comb_a_sheet_and_with_points_in_line() -> None:
    teeth = [[0, 0], [5, 0], [5, 2], [4, 2], [4, 1], [3, 1], [3, 2], [2, 2], [2, 1], [1, 1], [1, 2], [0, 2]]
    sheet = plates.plate(teeth)
    assert sheet.two_sided and area(sheet) == pytest.approx(8)
    assert_sound(sheet, closed=False)
    in_line = [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2], [0, 1]]
    assert area(plates.plate(in_line)) == pytest.approx(4)


def test_plate_thickness_zero_and_outlines_by_mesh() -> None:
    outline = plates.rectangle_outline(2, 1)
    m = plates.plate(np.stack([outline, 2 * outline]), [0.0, 0.5])
    assert volume(*exact(m, 0)) == 0 and volume(*exact(m, 1)) == pytest.approx(4)
    assert np.isfinite(m.normals).all()


def test_back_of_a_plate_reads_upright() -> None:
    m = plates.plate(plates.rectangle_outline(2, 1), 0.1)
    back = np.unique(m.faces[m.slots == 1])
    assert np.allclose(m.uv[0, back, 0], 0.5 - m.vertices[0, back, 0] / 2)
    assert np.allclose(m.uv[0, back, 1], 0.5 + m.vertices[0, back, 1])


def test_round_corners() -> None:
    square = plates.rectangle_outline(2.0, 2.0)
    rounded = plates.round_corners(square, 0.5, segments=32)
    assert rounded.shape == (4 * 33, 2)
    assert plates.signed_area(rounded) == pytest.approx(4 - (4 - np.pi) * 0.25, rel=1e-3)
    assert np.abs(rounded).max() == pytest.approx(1)
    ell = [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]  # five convex corners, one reflex
    assert plates.signed_area(plates.round_corners(ell, 0.2, segments=64)) == pytest.approx(
        3 - 4 * (1 - np.pi / 4) * 0.04, rel=1e-4
    )
    with pytest.raises(SceneError, match="radius"):
        plates.round_corners(square, 1.01)


BAD = {
    "bow tie": (lambda: plates.plate([[0, 0], [1, 1], [1, 0], [0, 1]]), "area|simple"),
    "pentagram": (lambda: plates.plate(star(5, [1] * 5)[[0, 2, 4, 1, 3]]), "simple"),
    "two points": (lambda: plates.plate([[0, 0], [1, 0]]), "3 or more"),
    "repeated": (lambda: plates.plate([[0, 0], [1, 0], [1, 0], [0, 1]]), "twice in a row"),
    "mixed": (lambda: plates.plate([star(4, [1, 1, 1, 1]), star(4, [1, 1, 1, 1])[::-1]]), "same way round"),
    "radius": (
        lambda: solids.rounded_box([[1, 1, 1], [1, 2, 3]], [0.1, 0.6]),
        r"radius: .* 0\.6 \(mesh 1 of 2",
    ),
    "size": (lambda: solids.box([1, 0, 1]), "size"),
    "sphere": (lambda: solids.sphere([1.0, -2.0]), r"radius: .*got -2 \(mesh 1 of 2\)"),
    "nan": (lambda: solids.sphere(np.nan), "finite"),
    "lengths": (lambda: solids.cylinder([1, 2], [1, 2, 3]), "one length"),
    "segments": (lambda: solids.sphere(1.0, segments=2), "segments"),
    "columns": (lambda: solids.box([[1, 2]]), "3 numbers"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_parameters_are_named(name: str) -> None:
    make, match = BAD[name]
    with pytest.raises(SceneError, match=match):
        make()


def test_a_mesh_is_the_same_alone_and_in_a_batch() -> None:
    size, radius = np.random.default_rng(3).uniform(1, 2, (7, 3)), np.linspace(0, 0.4, 7)
    batch = solids.rounded_box(size, radius)
    alone = solids.rounded_box(size[4:5], radius[4:5])
    assert np.array_equal(batch.vertices[4:5], alone.vertices) and np.array_equal(batch.faces, alone.faces)
    assert np.array_equal(batch.uv[4:5], alone.uv)


def test_empty_batches() -> None:
    none = np.zeros(0)
    assert (
        len(solids.sphere(none))
        == len(plates.quad(none, 1.0))
        == len(solids.rounded_box(np.ones((0, 3)), none))
        == 0
    )
    assert len(plates.plate(plates.regular_outline(6), none)) == 0


def test_shapes_load_neither_torch_nor_warp_nor_trimesh() -> None:
    code = (
        "import sys, imgsynth.shapes.solids, imgsynth.shapes.plates, imgsynth.shapes.dice;"
        "import imgsynth.shapes.meshfile, imgsynth.textures;"
        "assert not {'torch', 'warp', 'trimesh', 'scipy.sparse'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
