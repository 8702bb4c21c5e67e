import numpy as np
import pytest
from PIL import Image

from imgsynth import geometry, scenefile
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec


def batch(n=50, seed=1, folder=None, **data):
    plan = Plan(SceneSpec.model_validate({"name": "t", **data}))
    return compose(plan, plan.sample(seed, range(n)), folder=folder)


def ball(**more):
    return {"class": "a", "shape": {"sphere": {"radius": 0.1}}, **more}


def test_orbit_camera_looks_at_its_target_from_its_distance():
    b = batch(
        200,
        camera={"target": [1, 2, 3], "distance": {"uniform": [2, 4]}, "azimuth_deg": {"uniform": [0, 360]},
                "elevation_deg": {"uniform": [-90, 90]}, "roll_deg": {"uniform": [-180, 180]}},
    )  # fmt: skip
    pose = b.cameras.world_from_camera
    np.testing.assert_allclose(
        pose[:, :3, :3] @ pose[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12
    )
    assert np.allclose(np.linalg.det(pose[:, :3, :3]), 1)
    target = geometry.transform(geometry.rigid_inverse(pose), np.tile([1.0, 2.0, 3.0], (200, 1, 1)))[:, 0]
    np.testing.assert_allclose(target[:, :2], 0, atol=1e-9)
    assert 2 <= target[:, 2].min() <= target[:, 2].max() <= 4


def test_camera_straight_above_has_north_up():
    b = batch(1, camera={"elevation_deg": 90, "azimuth_deg": -90, "distance": 2})
    np.testing.assert_allclose(
        b.cameras.world_from_camera[0, :3, 1], [0, -1, 0], atol=1e-12
    )  # image down is -y
    np.testing.assert_allclose(b.cameras.world_from_camera[0, :3, 0], [1, 0, 0], atol=1e-12)


def test_ids_count_within_the_frame_and_rows_are_sorted():
    b = batch(
        30,
        classes=["a"],
        objects={"x": ball(count={"integer": [0, 4]}), "y": ball(count={"integer": [0, 3]})},
    )
    assert np.all(np.diff(b.instances.frame) >= 0)
    for i in range(30):
        here = b.instances.frame == i
        np.testing.assert_array_equal(b.instances.id[here], np.arange(here.sum()) + 1)
    assert b.instances.path[0].startswith(("objects.x[", "objects.y["))


def test_equal_shapes_share_one_mesh():
    b = batch(
        20,
        classes=["a"],
        objects={"x": ball(count=3), "y": {**ball(), "shape": {"sphere": {"radius": {"uniform": [1, 2]}}}}},
    )
    assert len(b.meshes.vertex_start) - 1 == 1 + 20
    assert set(b.instances.mesh[b.instances.group == "x"]) == {0}


def test_up_and_ground_put_the_named_face_on_top_and_the_lowest_point_on_the_floor():
    names = ["one", "two", "three", "four", "five", "six"]
    b = batch(
        60,
        classes=names,
        ground={"height": 0.25},
        objects={"die": {"class": {"expr": "place.up"}, "shape": {"dice": {"right_handed": {"bernoulli": 0.5}}}, "scale": 2,
                         "place": {"up": {"choice": names}, "yaw_deg": {"uniform": [0, 360]}, "on_ground": True}}},
    )  # fmt: skip
    for row in range(60):
        mesh = b.instances.mesh[row]
        vertices = (
            b.meshes.vertices[b.meshes.vertex_start[mesh] : b.meshes.vertex_start[mesh + 1]]
            * b.instances.scale[row]
        )
        world = geometry.transform(b.instances.world_from_object[row], vertices.astype(float))
        assert abs(world[:, 2].min() - 0.25) < 1e-6
        assert abs(world[:, 2].max() - 0.25 - 0.032) < 1e-6  # a die lies flat
    assert len(set(b.instances.class_id)) == 6


def test_apart_keeps_objects_from_touching_and_drops_what_has_no_room():
    crowded = {"count": 30, "class": "a", "shape": {"sphere": {"radius": {"uniform": [0.05, 0.1]}}},
               "place": {"position": {"box": {"low": [-0.5, -0.5, 0], "high": [0.5, 0.5, 0]}}, "apart": 0.02}}  # fmt: skip
    b = batch(40, classes=["a"], objects={"x": crowded})
    placed = 0
    for i in range(40):
        here = b.instances.frame == i
        placed += here.sum()
        xy = b.instances.world_from_object[here, :2, 3]
        radius = np.array([
            np.abs(b.meshes.vertices[b.meshes.vertex_start[m] : b.meshes.vertex_start[m + 1], :2]).max() for m in b.instances.mesh[here]
        ])  # fmt: skip
        gap = np.linalg.norm(xy[:, None] - xy[None], axis=-1) - radius[:, None] - radius[None]
        assert gap[~np.eye(here.sum(), dtype=bool)].min() >= 0.02 - 1e-3
    assert 40 * 10 < placed < 40 * 30


def test_apart_is_the_same_for_a_frame_alone():
    spec = scenefile.load("dice").spec
    plan = Plan(spec)
    folder = scenefile.load("dice").folder
    whole = compose(plan, plan.sample(0, range(10)), folder=folder)
    alone = compose(plan, plan.sample(0, [7]), folder=folder)
    here = whole.instances.frame == 7
    np.testing.assert_array_equal(whole.instances.world_from_object[here], alone.instances.world_from_object)
    np.testing.assert_array_equal(whole.instances.path[here], alone.instances.path)


@pytest.mark.parametrize("fit", ["stretch", "contain"])
def test_framing_fills_the_image_as_asked(fit):
    b = batch(
        40,
        classes=["a"],
        image={"size": [60, 80]},
        camera={
            "elevation_deg": {"uniform": [20, 90]},
            "distance": 3,
            "framing": {"fit": fit, "margin_x": 0.1, "margin_y": 0.2},
        },
        objects={"x": {"class": "a", "shape": {"box": {"size": [{"uniform": [0.1, 0.5]}, 0.2, 0.3]}}}},
    )
    for i in range(40):
        mesh = b.instances.mesh[i]
        vertices = b.meshes.vertices[b.meshes.vertex_start[mesh] : b.meshes.vertex_start[mesh + 1]].astype(
            float
        )
        camera = geometry.rigid_inverse(b.cameras.world_from_camera[i]) @ b.instances.world_from_object[i]
        pixel = geometry.project(b.cameras.k[i], geometry.transform(camera, vertices))
        low, high = pixel.min(0), pixel.max(0)
        np.testing.assert_allclose((low + high) / 2, [40, 30], atol=1e-4)
        size = (high - low) / [80 * 0.8, 60 * 0.6]
        if fit == "stretch":
            np.testing.assert_allclose(size, 1, atol=1e-5)
        else:
            assert abs(size.max() - 1) < 1e-5
            assert b.cameras.k[i, 0, 0] == pytest.approx(b.cameras.k[i, 1, 1])


def test_backgrounds_pick_by_weight_and_photos_keep_their_aspect(tmp_path):
    for k, shape in enumerate([(40, 80), (90, 30)]):
        Image.fromarray(np.full((*shape, 3), 50 * k, np.uint8)).save(tmp_path / f"{k}.png")
    b = batch(
        2000,
        folder=tmp_path,
        image={"size": [50, 100]},
        background={"flat": "red", "photos": {"folder": "."}, "weights": {"photos": 3}},
    ).backgrounds
    photos = b.kind == 3
    assert abs(photos.mean() - 0.75) < 0.04
    size = np.array([[80, 40], [30, 90]])[b.texture[photos]]
    window = b.window[photos]
    aspect = (window[:, 2] - window[:, 0]) * size[:, 0] / ((window[:, 3] - window[:, 1]) * size[:, 1])
    np.testing.assert_allclose(aspect, 2.0, rtol=1e-4)
    assert window.min() >= 0
    assert window.max() <= 1 + 1e-6
    assert set(b.texture[photos]) == {0, 1}


def test_noise_textures_are_one_a_row_and_files_one_in_all(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / "a.png")
    b = batch(
        12,
        folder=tmp_path,
        classes=["a"],
        ground={"material": {"texture": {"noise": {"kind": {"choice": ["noise", "checker"]}, "size": 16}}}},
        objects={"x": ball(count=2, material={"texture": {"image": "a.png"}})},
    )
    assert len(b.textures) == 12 + 1
    assert len(set(b.materials.texture[b.ground.material])) == 12


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (
            {"classes": ["b"], "objects": {"x": ball()}},
            SceneError,
            r"objects.x.class: 'a' is not among the scene's classes \(b\)",
        ),
        (
            {"objects": {"x": {"shape": {"box": {"size": 1}}, "place": {"up": "north"}}}},
            SceneError,
            "objects.x.place.up: the shape has no direction 'north'",
        ),
        (
            {"objects": {"x": {"shape": {"box": {"size": 1}}, "parts": {"lid": {}}}}},
            SceneError,
            "objects.x.parts: the shape has no part 'lid'",
        ),
        (
            {"objects": {"x": {"shape": {"mesh": {"file": "none.obj"}}}}},
            SceneError,
            r"objects\.x\.shape\.mesh: .*none\.obj",
        ),
        (
            {"background": {"photos": {"folder": "nowhere"}}},
            SceneError,
            r"background\.photos\.folder: .*nowhere",
        ),
        (
            {"objects": {"x": {"shape": {"rounded_box": {"size": 1, "radius": 0.7}}}}},
            SceneError,
            "objects.x.shape.rounded_box: radius",
        ),
    ],
)
def test_mistakes_are_named(data, error, text, tmp_path):
    with pytest.raises(error, match=text):
        batch(3, folder=tmp_path, **data)
