"""Lens models against OpenCV's, and cameras by lens, intrinsics and pose; labels under lenses: test_oracle.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Grid, straightened, trace

from imgsynth import generate, geometry, lens
from imgsynth.compose import compose
from imgsynth.errors import ImgsynthError, SceneError
from imgsynth.render import renderer
from imgsynth.render.base import pinholes_only
from imgsynth.scene import SceneSpec
from imgsynth.scenefile import Scene

BROWN = st.tuples(
    *(st.floats(-a, a) for a in (0.4, 0.1, 0.005, 0.005, 0.05)),
    st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*(st.floats(-a, a) for a in (0.1, 0.05, 0.01)))),
).map(lambda v: (lens.BROWN_CONRADY, [*v[:5], *v[5]]))
FISHEYE = st.tuples(*(st.floats(-a, a) for a in (0.1, 0.05, 0.02, 0.005))).map(
    lambda v: (lens.KANNALA_BRANDT, [*v, 0.0, 0.0, 0.0, 0.0])
)
LENSES = st.one_of(BROWN, FISHEYE)


def points_in(radius: float, n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    angle, r = rng.uniform(0, 2 * np.pi, n), radius * np.sqrt(rng.uniform(0, 1, n))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], -1)


@settings(max_examples=60, deadline=None)
@given(LENSES)
def test_bending_is_opencvs_and_is_undone(given_lens):
    kind, c = given_lens
    reach = lens.reach(kind, c)
    assert reach > 0
    straight = points_in(reach * 0.999)
    bent = lens.bend(kind, c, straight)
    if kind == lens.BROWN_CONRADY:
        flat = np.concatenate([straight, np.ones((len(straight), 1))], 1)
        expected = cv2.projectPoints(flat, np.zeros(3), np.zeros(3), np.eye(3), np.array(c))[0][:, 0]
    else:
        expected = cv2.fisheye.distortPoints(straight[:, None], np.eye(3), np.array(c[:4]))[:, 0]
    np.testing.assert_allclose(bent, expected, rtol=1e-9, atol=1e-12)
    back = lens.straighten(kind, c, bent, reach)
    np.testing.assert_allclose(lens.bend(kind, c, back), bent, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(back, straight, atol=1e-5 * max(reach, 1))


@settings(max_examples=60, deadline=None)
@given(LENSES)
def test_the_bulge_of_a_segment_is_bounded(given_lens):
    """Chords and curves of random segments within the field."""
    kind, c = given_lens
    reach = lens.reach(kind, c)
    a = points_in(reach)
    b = a + (a[::-1] - a) * np.random.default_rng(1).uniform(0, 1, (len(a), 1)) ** 2
    t = np.linspace(0, 1, 33)[:, None, None]
    chord = lens.bend(kind, c, a) * (1 - t) + lens.bend(kind, c, b) * t
    off = np.linalg.norm(lens.bend(kind, c, a + t * (b - a)) - chord, axis=-1).max(0)
    radius = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    step = np.minimum(np.ceil(radius / reach * lens.STEPS).astype(int), lens.STEPS)
    bound = np.sum((a - b) ** 2, axis=1) / 8 * lens.bulge(kind, c, reach)[step]
    assert np.all(off <= bound * (1 + 1e-6) + 1e-9 * max(1.0, float(np.abs(chord).max())))


def test_the_field_ends_where_the_lens_bends_back():
    """r (1 + k1 r²) turns at r = 1/√(-3 k1); the equidistant fisheye goes on to the bound of all fields."""
    reach = lens.reach(lens.BROWN_CONRADY, [-0.25, 0, 0, 0, 0, 0, 0, 0])
    assert reach == pytest.approx((3 * 0.25) ** -0.5, rel=0.01)
    beyond = lens.bend(lens.BROWN_CONRADY, [-0.25, 0, 0, 0, 0, 0, 0, 0], [reach, 0.0]) * 1.01
    assert np.isnan(lens.straighten(lens.BROWN_CONRADY, np.array([-0.25, *[0] * 7]), beyond, reach)).all()
    assert lens.reach(lens.KANNALA_BRANDT, np.zeros(8)) == pytest.approx(np.tan(np.radians(lens.MOST_DEG)))


def scene(camera: dict, **changes: object) -> SceneSpec:
    spec = {
        "name": "one",
        "classes": ["thing"],
        "image": {"size": [48, 64]},
        "renderer": {"samples": 1},
        "camera": camera,
        "objects": {"box": {"class": "thing", "shape": {"box": {"size": 0.3}}}},
    }
    return SceneSpec.model_validate(spec | changes)


def cameras_of(camera: dict, n: int = 1):
    plan = Scene(scene(camera), Path()).plan()
    return compose(plan, plan.sample(0, range(n))).cameras


def test_the_field_of_view_is_that_of_the_picture_through_the_lens():
    """What lies half the field below the axis falls on the lower border: f = H/2 / (fov/2) if equidistant."""
    k = cameras_of({"fov_deg": 90, "lens": {"fisheye": {}}}).k[0]
    assert k[1, 1] == pytest.approx(24 / (np.pi / 4))
    assert k[0, 0] == k[1, 1]
    k = cameras_of({"fov_deg": 90, "lens": {"brown_conrady": {"k1": 0.1}}}).k[0]
    assert k[1, 1] == pytest.approx(24 / 1.1)


def test_intrinsics_in_pixels_fractions_and_opencvs_origin():
    given_k = {"fx": 50, "fy": 60, "cx": 30, "cy": 20}
    k = cameras_of({"intrinsics": given_k}).k[0]
    np.testing.assert_allclose(k, [[50, 0, 30], [0, 60, 20], [0, 0, 1]])
    k = cameras_of({"intrinsics": given_k | {"pixel_centers": "integer"}}).k[0]
    np.testing.assert_allclose(k, [[50, 0, 30.5], [0, 60, 20.5], [0, 0, 1]])
    fractions = {"fx": 50 / 64, "fy": 60 / 48, "cx": 30 / 64, "cy": 20 / 48, "units": "fractions"}
    np.testing.assert_allclose(
        cameras_of({"intrinsics": fractions}).k[0], [[50, 0, 30], [0, 60, 20], [0, 0, 1]]
    )
    np.testing.assert_allclose(
        cameras_of({"intrinsics": {"fx": 50}}).k[0], [[50, 0, 32], [0, 50, 24], [0, 0, 1]]
    )


def test_poses_in_three_ways_are_one():
    orbit = {"target": [0.1, 0.2, 0.3], "distance": 2, "azimuth_deg": 30, "elevation_deg": 40, "roll_deg": 25}
    pose = cameras_of(orbit).world_from_camera[0]
    look = {"position": pose[:3, 3].tolist(), "target": orbit["target"], "roll_deg": 25}
    np.testing.assert_allclose(cameras_of({"pose": {"look_at": look}}).world_from_camera[0], pose, atol=1e-9)
    np.testing.assert_allclose(
        cameras_of({"pose": {"matrix": pose.tolist()}}).world_from_camera[0], pose, atol=1e-12
    )
    inverse = geometry.rigid_inverse(pose)
    turn = {"rvec": cv2.Rodrigues(inverse[:3, :3])[0][:, 0].tolist(), "tvec": inverse[:3, 3].tolist()}
    np.testing.assert_allclose(cameras_of({"pose": {"opencv": turn}}).world_from_camera[0], pose, atol=1e-9)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"fov_deg": 60, "intrinsics": {"fx": 50}}, "intrinsics stands instead of fov_deg"),
        ({"distance": 2, "pose": {"opencv": {"rvec": [0, 0, 0], "tvec": [0, 0, 1]}}}, "instead of distance"),
        ({"lens": {"fisheye": {}, "brown_conrady": {}}}, "expected exactly one of"),
        ({"pose": {"matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]}}, "last row"),
    ],
)
def test_what_is_said_twice_is_refused(camera, words):
    with pytest.raises(ValueError, match=words):
        scene(camera)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"fov_deg": 150, "lens": {"fisheye": {}}}, "further than 85° from the lens's axis"),
        ({"fov_deg": 80, "lens": {"brown_conrady": {"k1": -0.4}}}, "bends back on itself 42° from its axis"),
        ({"fov_deg": 120, "lens": {"brown_conrady": {"k1": -0.4}}}, "bends back before 60°"),
        ({"pose": {"matrix": [1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0]}}, "orthonormal"),
        ({"pose": {"look_at": {"position": [0, 0, 0]}}}, "away from its target"),
    ],
)
def test_what_no_camera_can_be_is_refused(camera, words):
    with pytest.raises(SceneError, match=words):
        cameras_of(camera)


def test_framing_through_a_lens_fills_the_picture():
    """The labelled object's box, of curved edges, reaches the margins."""
    camera = {"distance": 1.0, "fov_deg": 60, "elevation_deg": {"uniform": [20, 80]}}
    for bends in ({"fisheye": {"k1": 0.05}}, {"brown_conrady": {"k1": -0.2, "p1": 0.01}}):
        frame = {"fit": "stretch", "margin_x": 0.1, "margin_y": 0.2}
        batch_of = Scene(scene(camera | {"lens": bends, "framing": frame}), Path()).plan()
        batch = compose(batch_of, batch_of.sample(0, range(4)))
        box = renderer().render(batch, 1).boxes
        np.testing.assert_allclose(box, np.tile([6.4, 9.6, 57.6, 38.4], (4, 1)), atol=1e-6)


def test_what_knows_pinholes_only_says_so():
    plan = Scene(scene({"fov_deg": 60, "lens": {"fisheye": {}}}), Path()).plan()
    batch = compose(plan, plan.sample(3, [7]))
    with pytest.raises(ImgsynthError, match="depth of field is for pinhole cameras only, and frame 7"):
        pinholes_only(batch, "depth of field")
    plan = Scene(scene({}), Path()).plan()
    pinholes_only(compose(plan, plan.sample(3, [7])), "depth of field")


def test_a_frame_is_the_same_alone_and_beside_other_lenses():
    spec = scene({"fov_deg": 60, "lens": {"brown_conrady": {"k1": {"uniform": [-0.2, 0.2]}}}})
    plan = Scene(spec, Path()).plan()
    together = renderer().render(compose(plan, plan.sample(3, range(5))), 4)
    alone = renderer().render(compose(plan, plan.sample(3, [3])), 4)
    for name in ("color", "depth", "normal", "instance"):
        np.testing.assert_array_equal(getattr(together, name)[3], getattr(alone, name)[0])


@pytest.mark.parametrize("samples", [1, 16])
def test_colour_through_a_lens_is_what_its_rays_see(samples):
    """A white box under constant light on black: each sample sees what a ray through it does."""
    spec = scene(
        {"distance": 0.7, "fov_deg": 80, "lens": {"fisheye": {"k1": 0.05}}},
        renderer={"samples": samples},
        background={"flat": "black"},
        light={"sun": None, "ambient": {"radiance": 1}},
        objects={
            "box": {
                "shape": {"box": {"size": 0.3}},
                "place": {"rotation": "uniform"},
                "material": {"roughness": 1, "color": "white"},
            }
        },
    )
    plan = Scene(spec, Path()).plan()
    batch = compose(plan, plan.sample(1, [0]))
    k = int(samples**0.5)
    hit = trace(batch, 0, Grid.centres(batch.size, k)).instance > 0
    color = renderer().render(batch, samples).color[0, ..., 0]
    differ = (color > 0.5) != hit
    assert 0.02 < hit.mean() < 0.9
    assert differ.sum() == 0


def test_rays_of_pixels():
    spec = scene({"fov_deg": 55, "lens": {"brown_conrady": {"k1": -0.2, "p2": 0.01}}})
    plan = Scene(spec, Path()).plan()
    batch = compose(plan, plan.sample(1, [0]))
    pixel = np.random.default_rng(0).uniform([0, 0], [64, 48], (50, 2))
    cameras = batch.cameras
    rows = np.zeros(50, int)
    got = lens.look(cameras.lens.kind[rows], cameras.lens.coefficients[rows], cameras.k[rows], pixel)
    np.testing.assert_allclose(got, straightened(batch, 0, pixel), atol=1e-9)


def test_a_dataset_says_what_lens_it_has(tmp_path):
    """A frame's K, lens and coefficients, read back from the file, take a pixel to the ray that saw it."""
    spec = scene({"fov_deg": 55, "lens": {"brown_conrady": {"k1": {"uniform": [-0.2, 0.1]}, "p2": 0.01}}})
    generate.render(spec, 3, tmp_path / "set", workers=1)
    rows = pq.read_table(tmp_path / "set" / "frames.parquet").to_pylist()
    assert [row["lens"] for row in rows] == ["brown_conrady"] * 3
    for row in rows:
        assert row["lens_coefficients"][0] == row["camera.lens.brown_conrady.k1"]
        assert row["lens_coefficients"][3] == 0.01
    assert "lens" not in pq.read_schema(plain_set(tmp_path)).names


def plain_set(root: Path) -> Path:
    """frames.parquet of a scene with a pinhole."""
    generate.render(scene({}), 1, root / "plain", workers=1)
    return root / "plain" / "frames.parquet"


@pytest.mark.parametrize("bends", [{"fisheye": {"k1": 0.02}}, {"brown_conrady": {"k1": -0.15, "p1": 0.01}}])
def test_textures_and_shadows_through_a_lens_are_those_of_a_bent_photograph(bends):
    """Against a large pinhole picture of the scene, looked up where OpenCV says that pixels look: about as near
    as a small pinhole picture is, whose textures are filtered as coarsely. (A barrel shows more edges.)
    """
    checker = {"noise": {"kind": "checker", "cells": 2, "a": "white", "b": "black", "size": 64}}
    red = {"shape": {"box": {"size": 0.4}}, "place": {"on_ground": True}, "material": {"color": "red"}}
    changes = {
        "ground": {"material": {"texture": checker, "repeat": 2}},
        "objects": {"box": red},
        "sensor": {"tone": "linear"},
    }

    def taken(side: int, samples: int, **camera: object):
        image = {"image": {"size": [side, side]}, "renderer": {"samples": samples}}
        plan = Scene(
            scene({"distance": 1.5, "elevation_deg": 50} | camera, **image, **changes), Path()
        ).plan()
        return generate.frames(plan, 1, [0]).images[0].astype(float), compose(plan, plan.sample(1, [0]))

    large, wide = taken(960, 4, fov_deg=100, roll_deg=20)

    def off(**camera: object) -> np.ndarray:
        got, batch = taken(48, 16, **camera)
        grid = Grid.centres((48, 48), 5)
        points = np.stack(np.meshgrid(grid.x, grid.y), -1).reshape(-1, 2)
        bent = batch.cameras.lens is not None
        rays = straightened(batch, 0, points) if bent else lens.normalized(batch.cameras.k[0], points)
        at = (lens.pixels(wide.cameras.k[0], rays) - 0.5).astype(np.float32).reshape(240, 240, 2)
        assert at.min() > 0
        assert at.max() < 959
        expected = cv2.remap(large, at[..., 0], at[..., 1], cv2.INTER_LINEAR).reshape(48, 5, 48, 5, 3)
        assert got.std() > 30
        return np.abs(expected.mean((1, 3)) - got)

    error, plain = off(fov_deg=65, lens=bends, roll_deg=20), off(fov_deg=65, roll_deg=20)
    assert error.mean() < 1.3 * plain.mean()
    assert np.quantile(error, 0.99) < 1.3 * np.quantile(plain, 0.99)
