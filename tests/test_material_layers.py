"""Layers over materials: each covers the share that it is asked for, near and far, and lies where it is put."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import Material, Shot, Thing, box, grid_quad, icosphere, intrinsics, look_at, make_batch

from imgsynth.batch import LAYER_KINDS, Layers, SceneBatch
from imgsynth.compose import compose
from imgsynth.plan import Plan
from imgsynth.render.raster import RasterRenderer
from imgsynth.scene import SceneSpec
from imgsynth.textures import build_mips, pool

RENDERER = RasterRenderer()
SIZE = (96, 96)


def layer(*kinds: str, **columns) -> Layers:
    """White layers of these kinds, in cells of a metre."""
    values = {
        "mapped": False, "color_a": (1, 1, 1), "color_b": (1, 1, 1), "coverage": 0.3, "strength": 1.0,
        "roughness": 0.9, "metallic": 0.0, "scale": 1.0, "width": 0.06, "length": 3.0, "softness": 0.4,
        "seed": 3, "texture": -1, "place": np.zeros((2, 3)),
    } | columns  # fmt: skip
    types = {"mapped": bool, "seed": np.uint32, "texture": np.int32}
    rows = {
        name: np.repeat(np.asarray(v, types.get(name, np.float32))[None], len(kinds), 0)
        for name, v in values.items()
    }
    return Layers(np.array([LAYER_KINDS.index(kind) for kind in kinds], np.int32), **rows)


def layered(batch: SceneBatch, rows: Layers) -> SceneBatch:
    """The batch with all layers on its first material."""
    count = len(batch.materials.metallic)
    spans = np.zeros((count, 2), np.int32)
    spans[0, 1] = len(rows)
    return replace(
        batch, materials=replace(batch.materials, layers=rows, layer_range=spans), outputs=("albedo",)
    )


def floors(rows: Layers, pixel: float, places: int = 4) -> np.ndarray:
    """What the layers make of a black floor from straight above, at several places, `pixel` metres a pixel."""
    shots = []
    for k in range(places):
        middle = (k * 37.3, -k * 23.7)
        camera = look_at((*middle, 50.0), (*middle, 0), (0, 1, 0))
        shots.append(Shot([], camera, intrinsics(50.0 / pixel, SIZE), ground=0))
    batch = make_batch(shots, [box()], SIZE, [Material((0, 0, 0))])
    return RENDERER.render(layered(batch, rows)).albedo[..., 0].astype(float)


@pytest.mark.parametrize(
    ("kind", "coverage", "softness", "near"),
    [("dirt", 0.1, 0.4, 0.21), ("dirt", 0.5, 0.1, 0.21), ("dirt", 0.8, 2.0, 0.21), ("fading", 0.3, 1.0, 0.21), ("scratches", 0.05, 0, 0.21),
     ("scratches", 0.3, 0, 0.05), ("stickers", 0.05, 0, 0.21), ("stickers", 0.2, 0, 0.21)],
)  # fmt: skip
def test_coverage_is_the_share_of_the_surface_near_and_far(
    kind: str, coverage: float, softness: float, near: float
) -> None:
    rows = layer(kind, coverage=coverage, softness=softness)
    white = 0.35 if kind == "fading" else 1.0  # of a bleached black
    spread = []
    for pixel in (near, 0.7, 2.9):
        share = floors(rows, pixel) / white
        assert share.min() >= 0 and share.max() <= 1 + 1e-6
        assert abs(share.mean() - coverage) < max(0.13 * coverage, 0.03 if softness else 0.0)
        spread.append(share.std())
    assert spread[0] > 0.03 and spread[2] < 0.2 * spread[0] and spread[1] < 1.02 * spread[0]


@pytest.mark.parametrize("kind", ["dirt", "fading", "scratches", "stickers"])
def test_nothing_is_covered_without_coverage_or_strength(kind: str) -> None:
    assert np.all(floors(layer(kind, coverage=0.0), 0.1, 1) < 1e-4)
    assert np.all(floors(layer(kind, strength=0.0, coverage=0.2), 0.1, 1) == 0)
    half = floors(layer(kind, strength=0.5, coverage=0.2), 0.1, 1)
    np.testing.assert_allclose(2 * half, floors(layer(kind, coverage=0.2), 0.1, 1), atol=1e-6)


def test_scratches_are_as_wide_as_they_say() -> None:
    """Across a scratch that is alone the share adds up to its width, whatever the pixel."""
    share = floors(layer("scratches", coverage=0.1, width=0.1, length=50.0), 0.031, 1)[0]
    marked = share > 0.5
    # Erode by the half width of a line of 0.1 m: 3.2 pixels; nothing of twice that is left but crossings.
    wide = marked.copy()
    for axis in (0, 1):
        for shift in range(-4, 5):
            wide &= np.roll(marked, shift, axis)
    assert marked.any() and wide.sum() < 0.02 * marked.sum() + 1


def test_a_decal_lies_where_it_is_put() -> None:
    """A picture of four colours, turned by a quarter: corners by corners; half see-through where its alpha is."""
    image = np.array([[(255, 0, 0, 255), (0, 255, 0, 255)], [(0, 0, 255, 255), (255, 255, 255, 0)]], np.uint8)
    image = image.repeat(32, 0).repeat(32, 1)
    material = {"color": "black", "layers": {"mark": {"decal": {"texture": {"image": "x.png"}, "center": [0.5, 0.25],
                "size": [0.4, 0.2], "rotation_deg": 90}}}}  # fmt: skip
    spec = SceneSpec.model_validate(
        {"name": "s", "objects": {"a": {"shape": {"quad": {"width": 1, "height": 1}}, "material": material}}}
    )
    from imgsynth import decor

    plan = Plan(spec)
    draws = plan.sample(0, [0])
    mark = spec.objects["a"].material.layers["mark"]

    def read(name: str) -> np.ndarray:
        return draws[f"objects.a.material.layers.mark.{name}"][:, 0]

    rows = decor.layers(mark, read, 1, np.zeros(1, np.int32))
    camera = look_at((0, 0, 3), (0, 0, 0), (0, 1, 0))
    shot = Shot([Thing(0)], camera, intrinsics(3 * 96, SIZE))
    batch = make_batch([shot], [grid_quad()], SIZE, [Material((0.1,) * 3)], pool([tuple(build_mips(image))]))
    albedo = RENDERER.render(layered(batch, rows)).albedo[0]

    def at(u: float, v: float) -> list[float]:
        return [round(float(c), 2) for c in albedo[round(96 * (1 - v)), round(96 * u)]]

    # Turned to the left the picture's upper left is at the lower left; it is 0.2 wide and 0.4 high now.
    assert at(0.45, 0.15) == [1, 0, 0] and at(0.45, 0.35) == [0, 1, 0] and at(0.55, 0.15) == [0, 0, 1]
    assert at(0.55, 0.35) == [0.1, 0.1, 0.1]
    for u, v in ((0.38, 0.25), (0.62, 0.25), (0.5, 0.03), (0.5, 0.47), (0.8, 0.8)):
        assert at(u, v) == [0.1, 0.1, 0.1]


def test_layers_change_roughness_and_metal_and_hide_the_coat() -> None:
    """A layer that hides all is the material that it says."""
    rows = layer(
        "decal", roughness=0.3, metallic=1.0, color_a=(0.8, 0.6, 0.2), place=((0, 0, 0.5), (0, 0, 0.5))
    )
    materials = [
        Material((0.1, 0.2, 0.3), 0, 0.9, (3, 3, 3), clearcoat=1.0),
        Material((0.8, 0.6, 0.2), 1.0, 0.3),
    ]
    shots = [
        Shot([Thing(0, material=k)], look_at((0, -3, 1), (0, 0, 0)), sun_direction=(0.4, -1, 1), sun=(2,) * 3, ambient=(0.3,) * 3)
        for k in (0, 1)
    ]  # fmt: skip
    made = RENDERER.render(layered(make_batch(shots, [icosphere(3)], (40, 40), materials), rows))
    np.testing.assert_allclose(made.color[0], made.color[1], rtol=3e-3)


def test_scenes_name_layers_and_their_leaves() -> None:
    material = {
        "color": "white",
        "layers": {
            "grime": {"dirt": {"coverage": {"uniform": [0, 1]}}},
            "wear": {"scratches": {"strength": 0.5}},
        },
    }
    scene = {"name": "s", "image": {"size": [32, 32]}, "camera": {"distance": 3},
             "objects": {"a": {"shape": {"box": {"size": [1, 1, 1]}}, "material": material, "count": 2},
                         "b": {"shape": {"box": {"size": [1, 1, 1]}}}}}  # fmt: skip
    plan = Plan(SceneSpec.model_validate(scene))
    at = "objects.a.material.layers"
    names = {leaf.path for leaf in plan.varying if leaf.path.startswith("objects")}
    assert names == {f"{at}.grime.dirt.coverage", f"{at}.grime.dirt.seed", f"{at}.wear.scratches.seed"}
    draws = plan.sample(1, range(3))
    batch = compose(plan, draws)
    rows, spans = batch.materials.layers, batch.materials.layer_range
    assert rows is not None and len(rows) == 12
    for r, material_id in enumerate(batch.instances.materials[:, 0]):
        first, last = spans[material_id]
        if batch.instances.group[r] == "b":
            assert first == last
            continue
        assert [LAYER_KINDS[k] for k in rows.kind[first:last]] == ["dirt", "scratches"]
        slot = int(batch.instances.path[r].partition("[")[2][:-1])
        want = draws[f"{at}.grime.dirt.coverage"][batch.instances.frame[r], slot]
        np.testing.assert_allclose(rows.coverage[first], want, rtol=1e-6)
        assert rows.strength[first + 1] == 0.5
    for wrong, match in (
        ({"dirt": {}, "fading": {}}, "exactly one of"),
        ({"stickers": {"coverage": 0.5}}, "coverage"),
    ):
        bad = {"shape": {"sphere": {"radius": 1}}, "material": {"layers": {"x": wrong}}}
        with pytest.raises(ValueError, match=match):
            SceneSpec.model_validate({"name": "s", "objects": {"a": bad}})
