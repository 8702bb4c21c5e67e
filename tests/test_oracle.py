"""Every label against an independent ray caster, over random frames of all shapes and of the scenes that ship."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from oracle import Grid, Traced, camera_points, faces_of, silhouette_box, texel, trace

from imgsynth import generate, scenefile
from imgsynth.annotate import annotate
from imgsynth.batch import SceneBatch
from imgsynth.compose import compose
from imgsynth.frame import Buffers, Instances
from imgsynth.render import renderer
from imgsynth.scene import SceneSpec

SIZE = (48, 64)
JITTER = 1e-4  # pixels: closer to a silhouette than this, rounding may decide


@dataclasses.dataclass
class Case:
    """Frames with their labels, and what the oracle says of them."""

    batch: SceneBatch
    buffers: Buffers
    instances: Instances
    semantic: np.ndarray
    traced: list[Traced]
    firm: np.ndarray  # (n, h, w) the same id from all of the jittered rays, and no two objects in one place
    same_face: np.ndarray  # (n, h, w) the same triangle
    alone_firm: list[np.ndarray]  # for each frame (R, h, w)


def examine(batch: SceneBatch, buffers: Buffers, instances: Instances, semantic: np.ndarray) -> Case:
    grid = Grid.centres(batch.size)
    traced, firm, same_face, alone_firm = [], [], [], []
    for i in range(len(batch)):
        centre = trace(batch, i, grid)
        around = [
            trace(batch, i, grid.moved(dx, dy))
            for dx, dy in ((JITTER, 0), (-JITTER, 0), (0, JITTER), (0, -JITTER))
        ]
        traced.append(centre)
        firm.append(np.all([t.instance == centre.instance for t in around], axis=0) & centre.clear)
        same_face.append(np.all([t.face == centre.face for t in around], axis=0))
        alone_firm.append(np.all([t.alone == centre.alone for t in around], axis=0))
        # Through a corner, to the last bit, a ray may slip between the faces that meet there.
        faces = np.sort([t.face for t in (centre, *around)], axis=0)
        corner = np.sum(np.diff(faces, axis=0) > 0, axis=0) > 1
        firm[-1] &= ~corner
        alone_firm[-1] &= ~corner
    return Case(batch, buffers, instances, semantic, traced, np.array(firm), np.array(same_face), alone_firm)


def frames_of(scene: scenefile.Scene, seed: int, n: int) -> Case:
    plan = scene.plan()
    made = generate.frames(plan if scene.file is None and scene.folder == Path() else scene, seed, range(n))
    batch = compose(plan, plan.sample(seed, range(n)), folder=scene.folder)
    return examine(batch, made.buffers, made.instances, made.semantic)


def uniform(low: float, high: float) -> dict[str, list[float]]:
    return {"uniform": [low, high]}


def cube(r: float) -> dict[str, dict[str, list[float]]]:
    return {"box": {"low": [-r, -r, -r], "high": [r, r, r]}}


SHAPES = {
    "sphere": {"radius": uniform(0.1, 0.4)},
    "box": {"size": [uniform(0.1, 0.8), uniform(0.1, 0.8), uniform(0.1, 0.8)]},
    "rounded_box": {"size": [0.5, 0.4, 0.6], "radius": uniform(0.02, 0.15)},
    "cylinder": {"radius": uniform(0.1, 0.3), "height": uniform(0.1, 0.9)},
    "disc": {"radius": uniform(0.1, 0.5)},
    "quad": {"width": uniform(0.2, 1), "height": uniform(0.2, 1)},
    "plate": {
        "outline": [[-0.4, -0.3], [0.4, -0.3], [0.1, 0], [0.4, 0.4], [-0.4, 0.3]],
        "thickness": {"choice": [0, 0.1]},
    },
    "mesh": {"file": "tetra.obj"},
    "dice": {"size": uniform(0.2, 0.6)},
    "strokes": {"glyph": {"choice": ["2", "4", "8"]}, "height": 0.8},
}
CAMERA = {
    "fov_deg": uniform(30, 80),
    "target": cube(0.3),
    "distance": uniform(1.5, 3.5),
    "azimuth_deg": uniform(0, 360),
    "elevation_deg": uniform(-80, 90),
    "roll_deg": uniform(-180, 180),
}
PLACE = {"position": cube(1.0), "rotation": "uniform"}


def crowd(count: dict | int = 1, scale: object = 1.0, **changes: object) -> dict:
    """A spec with every shape; cylinders and plates are props without a label."""
    objects = {
        name: {"count": count, "shape": {name: shape}, "scale": scale, "place": PLACE}
        | ({} if name in ("cylinder", "plate") else {"class": "thing" if name < "m" else "other"})
        for name, shape in SHAPES.items()
    }
    return {
        "name": "crowd",
        "classes": ["thing", "other"],
        "image": {"size": SIZE},
        "renderer": {"samples": 1},
        "camera": CAMERA,
        "objects": objects,
    } | changes


def cutouts() -> dict:
    leaf = {"texture": {"image": "leaf.png"}, "alpha_cutoff": uniform(0.2, 0.8), "repeat": uniform(0.5, 2)}
    shapes = {k: SHAPES[k] for k in ("quad", "disc", "box", "sphere")}
    objects = {
        name: {
            "count": 2,
            "class": "thing",
            "shape": {name: shape},
            "place": PLACE,
            "material": leaf,
        }
        for name, shape in shapes.items()
    }
    return crowd(objects=objects, ground={"height": -0.8})


def framed(**framing: object) -> dict:
    return crowd({"integer": [0, 1]}, camera=CAMERA | {"framing": framing})


def aligned() -> dict:
    """Straight from above, on a grid of 1/32 m a pixel: edges run through pixel centres, sides share planes."""
    shapes = {
        "quad": {"width": 0.5, "height": 0.25},
        "box": {"size": [0.25, 0.25, 0.5]},
        "plate": {"outline": [[-0.25, -0.25], [0.25, -0.25], [0, 0.25]]},
    }
    steps = {"choice": [-0.5, -0.25, 0, 0.25, 0.5]}
    place = {"position": [steps, steps, steps], "yaw_deg": {"choice": [0, 45, 90, 180]}}
    objects = {k: {"count": 3, "class": "thing", "shape": {k: v}, "place": place} for k, v in shapes.items()}
    camera = {
        "distance": 2,
        "elevation_deg": 90,
        "fov_deg": float(2 * np.degrees(np.arctan(24 / 64))),
        "target": {"choice": [[0, 0, 0], [1 / 64, 1 / 64, 0], [1 / 128, 0, 0]]},
    }
    return crowd(objects=objects, camera=camera)


def lying() -> dict:
    """Flat things on the ground, each in a place of its own: nothing hides any part of them."""
    flat = ("quad", "disc", "plate", "strokes")
    objects = {
        name: {
            "class": "thing",
            "shape": {name: SHAPES[name]},
            "place": {
                "position": [{"uniform": [3 * k - 0.5, 3 * k + 0.5]}, 0, 0],
                "yaw_deg": uniform(0, 360),
                "on_ground": True,
            },
        }
        for k, name in enumerate(flat)
    }
    camera = CAMERA | {"elevation_deg": uniform(3, 90), "target": [4, 0, 0], "distance": uniform(3, 9)}
    return crowd(objects=objects, camera=camera, ground={"height": uniform(-0.3, 0.3)})


BARREL = {"brown_conrady": {"k1": uniform(-0.3, -0.2), "k2": 0.05, "p1": 0.01, "p2": uniform(-0.01, 0.01)}}
PINCUSHION = {"brown_conrady": {"k1": uniform(0.1, 0.3), "k2": -0.1, "p1": 0.01, "k3": 0.05, "k4": -0.05}}
FISHEYE = {"fov_deg": uniform(70, 95), "lens": {"fisheye": {"k1": uniform(-0.03, 0.03), "k2": 0.005}}}


SPECS: dict[str, tuple[dict, int]] = {
    "crowd": (crowd({"integer": [0, 2]}), 4),
    "on a ground": (crowd({"integer": [0, 1]}, ground={"height": uniform(-1, 0.5)}), 6),
    "in the midst": (
        crowd(
            {"integer": [1, 3]}, camera=CAMERA | {"distance": uniform(0.01, 1), "near": uniform(0.05, 0.6)}
        ),
        10,
    ),
    "under ground": (
        crowd(1, camera=CAMERA | {"near": uniform(0.05, 1.5)}, ground={"height": uniform(0, 2)}),
        6,
    ),
    "tiny": (crowd({"integer": [0, 4]}, {"log_uniform": [0.002, 0.2]}), 5),
    "cut out": (cutouts(), 8),
    "stretched": (framed(fit="stretch", margin_x=0.1, shift_y=uniform(-0.2, 0.2), max_aspect=3), 6),
    "aligned": (aligned(), 6),
    "lying": (lying(), 8),
    "contained": (framed(fit="contain", margin_x=uniform(-0, 0.3), shift_x=uniform(-0.5, 0.5)), 6),
    "barrel": (crowd(1, camera=CAMERA | {"lens": BARREL}, ground={"height": -0.8}), 2),
    "pincushion": (crowd(1, camera=CAMERA | {"lens": PINCUSHION}), 2),
    "fisheye": (crowd({"integer": [0, 2]}, camera=CAMERA | FISHEYE, ground={"height": -0.9}), 2),
    "fisheye in the midst": (
        crowd(1, camera=CAMERA | FISHEYE | {"distance": uniform(0.01, 0.8), "near": uniform(0.05, 0.4)}),
        3,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mesh file with a vertex that no triangle uses, and a texture with holes."""
    root = tmp_path_factory.mktemp("assets")
    (root / "tetra.obj").write_text(
        "v 0.4 0.4 0.4\nv -0.4 -0.4 0.4\nv -0.4 0.4 -0.4\nv 0.4 -0.4 -0.4\nv 3 3 3\n"
        "f 1 2 4\nf 1 3 2\nf 1 4 3\nf 2 3 4\n"
    )
    rng = np.random.default_rng(3)
    image = np.full((24, 36, 4), 200, np.uint8)
    image[..., 3] = cv2.resize(rng.integers(0, 256, (5, 7), dtype=np.uint8), (36, 24))
    cv2.imwrite(str(root / "leaf.png"), image)
    return root


CASES = (*SPECS, "dice", "digits", "mirrored")
THOROUGH = ("pincushion", "fisheye in the midst")  # more of what "barrel" and "fisheye" ask


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in THOROUGH else name for name in CASES],
)
def case(request: pytest.FixtureRequest, folder: Path) -> Case:
    return make(request.param, folder)


def make(name: str, folder: Path) -> Case:
    if name == "dice":
        return frames_of(scenefile.load("dice", sets=["image.size=[64,64]", "renderer.samples=1"]), 5, 3)
    if name == "digits":
        return frames_of(scenefile.load("digits"), 5, 30)
    if name == "mirrored":
        return mirrored(folder)
    spec, n = SPECS[name]
    return frames_of(scenefile.Scene(SceneSpec.model_validate(spec), folder), 7, n)


def mirrored(folder: Path) -> Case:
    """What no scene file says but a batch may: a scale of its own for each axis, also negative."""
    plan = scenefile.Scene(SceneSpec.model_validate(crowd({"integer": [0, 2]})), folder).plan()
    batch = compose(plan, plan.sample(8, range(6)), folder=folder)
    scale = np.random.default_rng(2).uniform(0.3, 1.5, (len(batch.instances), 3))
    scale *= np.random.default_rng(3).choice([-1, 1], scale.shape)
    batch = dataclasses.replace(batch, instances=dataclasses.replace(batch.instances, scale=scale))
    buffers = renderer("raster").render(batch, 1)
    return examine(batch, buffers, *annotate(batch, buffers))


def rows_of(case: Case, frame: int) -> np.ndarray:
    return np.flatnonzero(case.batch.instances.frame == frame)


def test_ids_are_those_of_the_nearest_surface(case: Case) -> None:
    ids = np.array([t.instance for t in case.traced])
    assert np.mean(case.firm) > 0.97
    assert (ids > 0).any()
    np.testing.assert_array_equal(case.buffers.instance[case.firm], ids[case.firm])


def test_depths_and_normals_are_those_of_the_hit(case: Case) -> None:
    same = case.firm & (np.array([t.instance for t in case.traced]) == case.buffers.instance)
    depth = np.array([t.depth for t in case.traced])
    hit = same & np.isfinite(depth)
    np.testing.assert_array_equal(np.isfinite(case.buffers.depth[same]), np.isfinite(depth[same]))
    np.testing.assert_allclose(case.buffers.depth[hit], depth[hit], rtol=1e-6)
    face = hit & case.same_face
    normal = np.array([t.normal for t in case.traced])
    cosine = np.einsum("pi,pi->p", normal[face], case.buffers.normal[face])
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max(initial=0) < 0.1
    nothing = same & ~np.isfinite(depth)
    assert not case.buffers.normal[nothing].any()


def test_amodal_masks_are_those_of_each_object_alone(case: Case) -> None:
    for i, traced in enumerate(case.traced):
        for r, row in enumerate(rows_of(case, i)):
            mask, firm = case.buffers.amodal.mask(row, case.batch.size), case.alone_firm[i][r]
            np.testing.assert_array_equal(mask[firm], traced.alone[r][firm])
            assert abs(int(case.instances.area_amodal[row]) - int(traced.alone[r].sum())) <= np.sum(~firm)


def test_areas_fractions_and_boxes_are_those_of_the_oracle(case: Case) -> None:
    labels = case.instances
    for i, traced in enumerate(case.traced):
        firm = bool(case.firm[i].all() and case.alone_firm[i].all())
        semantic = np.zeros(case.batch.size, int)
        for r, row in enumerate(rows_of(case, i)):
            visible = traced.instance == case.batch.instances.id[row]
            semantic[visible] = case.batch.instances.class_id[row]
            if not firm:
                continue
            assert labels.area_visible[row] == visible.sum()
            share = visible.sum() / max(traced.alone[r].sum(), 1)
            assert labels.visible_fraction[row] == pytest.approx(share, abs=1e-12)
            y, x = np.nonzero(visible)
            tight = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
            np.testing.assert_array_equal(labels.box_visible[row], tight)
        np.testing.assert_array_equal(case.semantic[i][case.firm[i]], semantic[case.firm[i]])


def test_amodal_boxes_bound_the_clipped_objects(case: Case) -> None:
    for row in range(len(case.instances)):
        box = silhouette_box(case.batch, row)
        expected = np.zeros(4) if box is None else box
        if box is not None and case.batch.cameras.lens is not None:
            # The oracle looks at points of the object only: just outside of them lies the bound.
            grown = (case.instances.box_amodal[row] - expected) * [-1, -1, 1, 1]
            assert grown.min() > -2e-3
            assert grown.max() < 0.02 + 2e-3 * max(expected[2:] - expected[:2])
            continue
        np.testing.assert_allclose(case.instances.box_amodal[row], expected, rtol=1e-7, atol=1e-6)


def test_truncation_is_what_a_larger_frame_shows(case: Case) -> None:
    height, width = case.batch.size
    for row in range(0, len(case.instances), 2):
        box, got = silhouette_box(case.batch, row), case.instances.truncated_fraction[row]
        if box is None:
            assert got == 1
            continue
        low, high = np.floor(box[:2]), np.ceil(box[2:])
        stride = np.maximum((high - low) / 250, 1)
        x, y = (low[a] + (np.arange((high[a] - low[a]) // stride[a]) + 0.5) * stride[a] for a in (0, 1))
        alone = trace(case.batch, case.batch.instances.frame[row], Grid(x, y), rows=np.array([row])).alone[0]
        inside = alone[np.ix_((y > 0) & (y < height), (x > 0) & (x < width))].sum()
        if alone.sum() == 0:
            assert got in (0, 1)
            continue
        # Exact, but where edges run through pixel centres, or the object is so large that only some are looked at.
        frame = case.batch.instances.frame[row]
        firm = case.alone_firm[frame][np.flatnonzero(rows_of(case, frame) == row)[0]].all()
        slack = 0.02 if (stride > 1).any() else 1e-12 if firm else 0.05
        assert got == pytest.approx(1 - inside / alone.sum(), abs=slack)


def test_poses_and_boxes_in_three_dimensions(case: Case) -> None:
    labels, batch = case.instances, case.batch
    for row in range(len(labels)):
        seen = camera_points(batch, row)[np.unique(faces_of(batch, row))]
        pose = labels.camera_from_object[row]
        own = (seen - pose[:3, 3]) @ pose[:3, :3]
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
        low, high = (labels.box3d_center[row] + s * labels.box3d_size[row] / 2 for s in (-1, 1))
        np.testing.assert_allclose(own.min(0), low, atol=1e-5)
        np.testing.assert_allclose(own.max(0), high, atol=1e-5)
        np.testing.assert_allclose(
            batch.cameras.world_from_camera[labels.frame[row]] @ pose,
            labels.world_from_object[row],
            atol=1e-9,
        )


def unlit(shape: dict, texture: dict | None, samples: int) -> SceneBatch:
    """Rough things under constant light only: their radiance is (1 - f) · albedo + f with f = 0.04, from wherever seen."""
    spec = crowd(
        renderer={"samples": samples},
        light={"sun": None, "ambient": {"radiance": 1}},
        background={"flat": "black"},
        objects={
            "thing": {
                "shape": shape,
                "place": {"rotation": "uniform"},
                "material": {"roughness": 1, "color": "white", "texture": texture},
            }
        },
        camera=CAMERA | {"distance": 2.0, "fov_deg": 40},
    )
    plan = scenefile.Scene(SceneSpec.model_validate(spec), Path()).plan()
    return compose(plan, plan.sample(1, range(2)))


def averaged(image: np.ndarray, k: int) -> np.ndarray:
    """Means over k×k blocks of (h·k, w·k, …)."""
    h, w = image.shape[0] // k, image.shape[1] // k
    return image.reshape(h, k, w, k, -1).mean((1, 3))


@pytest.mark.parametrize("shape", ["box", "dice", "plate", "strokes", "cylinder"])
def test_colour_is_coverage_times_radiance(shape: str) -> None:
    """Every sample sees what a ray through it sees, and a pixel is their mean."""
    batch = unlit({shape: SHAPES[shape]}, None, 16)
    buffers = renderer("raster").render(batch, 16)
    for i in range(len(batch)):
        hit = trace(batch, i, Grid.centres(batch.size, 4)).instance > 0
        assert 0.01 < hit.mean() < 0.9
        np.testing.assert_allclose(
            averaged(buffers.color[i], 4)[..., 0], averaged(hit[..., None], 4)[..., 0], atol=1e-5
        )


@pytest.mark.parametrize("samples", [4, 16])
@pytest.mark.parametrize("shape", ["cylinder", "sphere", "rounded_box"])
def test_sharp_textures_stay_whole_on_curved_shapes(shape: str, samples: int) -> None:
    """Against the mean of 6×6 rays' texels: samples of several triangles that share a shading point must not displace it."""
    sizes: dict[str, dict] = {
        "cylinder": {"radius": 0.5, "height": 1},
        "sphere": {"radius": 0.6},
        "rounded_box": {"size": 1, "radius": 0.2},
    }
    texture = {"noise": {"kind": "checker", "cells": 2, "a": "white", "b": "black", "size": 64}}
    batch = unlit({shape: sizes[shape]}, texture, samples)
    buffers = renderer("raster").render(batch, samples)
    errors = []
    for i in range(len(batch)):
        traced = trace(batch, i, Grid.centres(batch.size, 6))
        hit = traced.instance > 0
        radiance = np.zeros((*hit.shape, 1))
        for which in np.unique(batch.materials.texture[traced.material[hit]]):
            here = hit & (batch.materials.texture[traced.material] == which)
            radiance[here] = 0.96 * texel(batch, int(which), traced.uv[here])[:, :1] + 0.04
        inside = averaged(hit[..., None], 6)[..., 0] == 1
        rendered = averaged(buffers.color[i], buffers.supersample)[..., 0]
        errors.append(np.abs(rendered - averaged(radiance, 6)[..., 0])[inside])
    error = np.concatenate(errors)
    assert error.mean() < 0.009
    assert np.mean(error > 0.3) < 0.002


def test_what_lies_on_the_ground_is_seen_whole(folder: Path) -> None:
    """Rounding does not let the ground speckle through things that lie in its plane."""
    scene = scenefile.Scene(SceneSpec.model_validate(lying()), folder)
    labels = generate.frames(scene, 2, range(30)).instances
    seen = labels.area_amodal > 20
    assert seen.sum() > 30
    np.testing.assert_array_equal(labels.visible_fraction[seen], 1)


def test_framing_fills_the_image(folder: Path) -> None:
    """The labelled objects' boxes together reach the margins on both axes (stretch) or on one (contain), and keep within."""
    for fit in ("stretch", "contain"):
        spec = framed(fit=fit, margin_x=0.1, margin_y=0.2)
        spec["camera"] |= {"distance": 4}
        made = generate.frames(scenefile.Scene(SceneSpec.model_validate(spec), folder), 3, range(12))
        for i in range(12):
            rows = made.instances.of_frame(i)
            box = made.instances.box_amodal[rows[made.instances.class_id[rows] > 0]]
            if not len(box):
                continue
            low, high = box[:, :2].min(0) / [64, 48], box[:, 2:].max(0) / [64, 48]
            np.testing.assert_allclose((low + high) / 2, 0.5, atol=1e-6)
            room = (high - low) / [0.8, 0.6]
            np.testing.assert_allclose(room if fit == "stretch" else room.max(), 1, atol=1e-6)


def test_the_oracle_misses_no_ray(folder: Path) -> None:
    """Testing only rays near a triangle's image changes nothing."""
    spec = crowd(camera=CAMERA | {"distance": 0.8, "near": 0.3}, image={"size": [12, 16]})
    plan = scenefile.Scene(SceneSpec.model_validate(spec), folder).plan()
    batch = compose(plan, plan.sample(4, range(2)), folder=folder)
    for i in range(2):
        quick, slow = (trace(batch, i, Grid.centres(batch.size), exhaustive=e) for e in (False, True))
        for field in dataclasses.fields(Traced):
            np.testing.assert_array_equal(getattr(quick, field.name), getattr(slow, field.name))


def test_the_oracle_knows_a_square() -> None:
    """A 1 m square 2 m before a camera of focal length 40 px covers 20 × 20 pixels about the middle, 2 m deep."""
    spec = crowd(
        objects={"quad": {"shape": {"quad": {"width": 1, "height": 1}}}},
        camera={"distance": 2, "elevation_deg": 90, "fov_deg": float(2 * np.degrees(np.arctan(24 / 40)))},
    )
    plan = scenefile.Scene(SceneSpec.model_validate(spec), Path()).plan()
    traced = trace(compose(plan, plan.sample(0, [0])), 0, Grid.centres(SIZE))
    expected = np.zeros(SIZE, int)
    expected[14:34, 22:42] = 1
    np.testing.assert_array_equal(traced.instance, expected)
    np.testing.assert_allclose(traced.depth[expected == 1], 2)
    np.testing.assert_allclose(traced.normal[expected == 1], [[0, 0, -1]] * 400, atol=1e-12)
