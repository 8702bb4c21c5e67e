"""Procedural patterns: closed forms near and far, statistics of noise, and that nothing but the point counts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import (
    Material,
    Shot,
    Thing,
    box,
    icosphere,
    intrinsics,
    look_at,
    make_batch,
    pose,
    random_rotations,
)

from imgsynth.batch import PATTERN_KINDS, Patterns, SceneBatch
from imgsynth.compose import compose
from imgsynth.plan import Plan
from imgsynth.render.raster import RasterRenderer
from imgsynth.scene import SceneSpec

RENDERER = RasterRenderer()
SIZE = (96, 96)


def patterns(kind: str, count: int = 1, **columns) -> Patterns:
    """Rows of one kind, black to white, in cells of a metre."""
    values = {
        "mapped": False, "frame": np.eye(3), "offset": (0.0, 0.0, 0.0), "color_a": (0, 0, 0), "color_b": (1, 1, 1),
        "seed": 5, "octaves": 4, "gain": 0.5, "contrast": 1.0, "warp": 0.3, "mortar": 0.2, "variation": 0.0,
    } | columns  # fmt: skip
    types = {"mapped": bool, "seed": np.uint32, "octaves": np.int32}
    rows = {
        name: np.repeat(np.asarray(v, types.get(name, np.float32))[None], count, 0)
        for name, v in values.items()
    }
    return Patterns(np.full(count, PATTERN_KINDS.index(kind), np.int32), **rows)


def with_patterns(batch: SceneBatch, rows: Patterns) -> SceneBatch:
    return replace(batch, materials=replace(batch.materials, patterns=rows), outputs=("albedo",))


def floor(kind: str, pixel: float, middle=(0.0, 0.0), **columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pattern on the ground from straight above, `pixel` metres to a pixel: shares of b, x and y."""
    height = 50.0
    eye = (*middle, height)
    camera = look_at(eye, (*middle, 0), (0, 1, 0))
    shot = Shot([], camera, intrinsics(height / pixel, SIZE), ground=0)
    batch = make_batch([shot], [box()], SIZE, [Material((1, 1, 1), pattern=0)])
    albedo = RENDERER.render(with_patterns(batch, patterns(kind, **columns))).albedo
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return albedo[0, ..., 0].astype(float), middle[0] + (x - 48) * pixel, middle[1] - (y - 48) * pixel


def test_checker_stripes_and_gradient_up_close() -> None:
    shift = (0.13, 0.29, 0.4)
    t, x, y = floor("checker", 0.05, offset=shift)
    want = (np.floor(x + 0.13) + np.floor(y + 0.29)) % 2
    edge = np.minimum(abs(x + 0.13 - np.rint(x + 0.13)), abs(y + 0.29 - np.rint(y + 0.29))) < 0.04
    np.testing.assert_allclose(t[~edge], want[~edge], atol=1e-3)
    t, x, _ = floor("stripes", 0.05, offset=shift)
    inside = abs((x + 0.13) % 0.5 - 0.25) < 0.2
    np.testing.assert_allclose(t[inside], ((x + 0.13) % 1 >= 0.5)[inside], atol=1e-3)
    t, x, _ = floor("gradient", 0.02)
    np.testing.assert_allclose(t, np.clip(x + 0.5, 0, 1), atol=1e-4)


def test_edges_hold_the_share_of_the_pixel_that_they_cut() -> None:
    """Box-filtered: an edge's pixel is as bright as the part of it that is b."""
    t, x, _ = floor("stripes", 0.03, offset=(0.013, 0, 0))
    fine = (np.arange(200) + 0.5) / 200 - 0.5
    want = ((x[0, :, None] + 0.013 + 0.03 * fine) % 1 >= 0.5).mean(1)
    np.testing.assert_allclose(t[40], want, atol=6e-3)


@pytest.mark.parametrize(
    ("kind", "mean"), [("checker", 0.5), ("stripes", 0.5), ("fbm", 0.5), ("marble", 0.2), ("worley", 0.5203),
                       ("wood", 0.3125), ("brick", 1 - (1 - 0.2 * 0.35) * 0.8)]
)  # fmt: skip
def test_far_away_a_pattern_is_its_mean_and_variance_only_falls(kind: str, mean: float) -> None:
    """No aliasing: the wider the footprint the less is left, and what is left has the near view's mean."""
    middle = (3.3, 7.7)
    spread = []
    for pixel in (0.05, 0.4, 0.8, 1.7, 6.3):
        t, _, _ = floor(kind, pixel, middle, offset=(0.2, 0.3, 0.45))
        spread.append(t.std())
        if pixel >= 0.4:
            assert abs(t.mean() - mean) < 0.03
    assert all(b <= a + 0.06 * spread[0] for a, b in itertools.pairwise(spread)), spread
    assert spread[-1] < 0.12 * spread[0] and spread[0] > 0.1


def test_brick_closed_form() -> None:
    """Up close: mortar is where it should be, in running bond; over a wall its share is exact."""
    m, course = 0.2, 0.35
    t, x, y = floor("brick", 0.013, (0.4, 0.3))
    v = y / course
    u = x + 0.5 * (np.floor(v) % 2)
    brick = (abs(u % 1 - 0.5) < 0.5 - m * course / 2) & (abs(v % 1 - 0.5) < 0.5 - m / 2)
    near = np.minimum(
        abs(abs(u % 1 - 0.5) - 0.5 + m * course / 2), course * abs(abs(v % 1 - 0.5) - 0.5 + m / 2)
    )
    clear = near > 0.014
    np.testing.assert_allclose(t[clear], (~brick)[clear], atol=1e-3)
    assert clear.mean() > 0.6 and brick.any() and not brick.all()
    t, _, _ = floor("brick", 7.3)
    np.testing.assert_allclose(t, 1 - (1 - m * course) * (1 - m), atol=0.02)


def hash3(x: np.ndarray, y: np.ndarray, z: np.ndarray, seed: int) -> np.ndarray:
    """The lattice hash, in numpy."""
    with np.errstate(over="ignore"):
        x, y, z = (np.asarray(a).astype(np.int64).astype(np.uint32) for a in (x, y, z))
        h = (
            np.uint32(seed)
            ^ (x * np.uint32(0x9E3779B1))
            ^ (y * np.uint32(0x85EBCA77))
            ^ (z * np.uint32(0xC2B2AE3D))
        )
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
        h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
        return h ^ (h >> np.uint32(16))


@pytest.mark.parametrize("mapped", [False, True])
def test_worley_is_the_distance_to_the_nearest_point(mapped: bool) -> None:
    """Against brute force over five cells each way."""
    t, x, y = floor("worley", 0.02, (11.3, -4.2), offset=(0, 0, 0.4), mapped=mapped)
    q = np.stack([x, y, np.full_like(x, 0.4)], -1)
    cell = np.floor(q).astype(int)
    best = np.full(x.shape, np.inf)
    reach = range(-2, 3)
    for dx in reach:
        for dy in reach:
            for dz in (0,) if mapped else reach:
                at = cell + np.array([dx, dy, dz])
                if mapped:
                    at[..., 2] = 0
                h = hash3(at[..., 0], at[..., 1], at[..., 2], 5)
                point = at + np.stack([((h >> s) & 1023) + 0.5 for s in (0, 10, 20)], -1) / 1024
                away = (point - q) ** 2
                best = np.minimum(best, np.sqrt(away[..., :2].sum(-1) if mapped else away.sum(-1)))
    np.testing.assert_allclose(t, np.minimum(best, 1), atol=2e-5)


def test_fbm_has_the_variance_and_the_spectrum_it_should() -> None:
    """One octave lies in one band; each further one has gain² of the power, an octave higher."""

    def spectrum(**columns) -> tuple[np.ndarray, float]:
        """Power by octave of frequency, from half a cycle a cell; and the variance."""
        power, variance = np.zeros(5), []
        ky, kx = np.meshgrid(*[np.fft.fftfreq(96, 0.04)] * 2)
        octave = np.floor(np.log2(np.maximum(np.hypot(kx, ky), 1e-9)) + 1.0).astype(int)
        for seed in range(6):
            t, _, _ = floor(
                "fbm", 0.04, (seed * 31.7, 3), contrast=0.1, seed=seed, offset=(0, 0, 0.37), **columns
            )
            z = (t - 0.5) / (0.1 * 0.39894)
            variance.append(z.var())
            window = np.hanning(96)[:, None] * np.hanning(96)
            f = np.abs(np.fft.fft2((z - z.mean()) * window)) ** 2
            power += [f[octave == k].sum() for k in range(5)]
        return power, float(np.mean(variance))

    one, variance = spectrum(octaves=1)
    assert one[:2].sum() > 0.7 * one.sum() and one[3:].sum() < 0.02 * one.sum()
    assert 0.6 < variance < 1.3  # slices of lattice noise differ
    steep, _ = spectrum(octaves=5, gain=0.5)
    flat, _ = spectrum(octaves=5, gain=0.9)
    ratio = steep[2:4] / steep[1:3]
    assert np.all((ratio > 0.12) & (ratio < 0.5))
    assert np.all(flat[2:4] / flat[1:3] > 1.6 * ratio)


def test_a_frame_alone_is_the_frame_in_a_batch_and_seeds_differ() -> None:
    shots = [Shot([Thing(0, pose(None, (0, 0, 3)), material=k)], ambient=(1, 1, 1)) for k in range(8)]
    materials = [Material((1, 1, 1), pattern=k) for k in range(8)]
    rows = patterns("fbm", 8)
    rows = replace(rows, kind=np.arange(8, dtype=np.int32))
    batch = with_patterns(make_batch(shots, [icosphere(3)], (40, 40), materials), rows)
    whole = RENDERER.render(batch, 4)
    for k in range(8):
        alone = with_patterns(make_batch(shots[k : k + 1], [icosphere(3)], (40, 40), materials), rows)
        made = RENDERER.render(alone, 4)
        np.testing.assert_array_equal(made.color[0], whole.color[k])
        np.testing.assert_array_equal(made.albedo[0], whole.albedo[k])
    other = RENDERER.render(with_patterns(batch, replace(rows, seed=rows.seed + 1)), 4)
    assert not np.allclose(other.albedo[0], whole.albedo[0]) and not np.allclose(
        other.albedo[1], whole.albedo[1]
    )


@pytest.mark.parametrize("kind", ["fbm", "worley", "wood", "marble", "checker", "brick"])
def test_patterns_are_fixed_in_the_object_in_metres(kind: str) -> None:
    """Moving object and camera together changes nothing; nor does growing the object and shrinking its mesh."""
    turn = random_rotations(np.random.default_rng(2), 1)[0]
    move = pose(turn, (4, -2, 7))
    camera = look_at((0.3, -4, 1), (0, 0, 0))
    small = box(0.7, 0.5, 0.9)
    large = replace(small, vertices=small.vertices * [2.0, 4.0, 0.5])
    shots = [
        Shot([Thing(0)], camera),
        Shot([Thing(0, move)], move @ camera),
        Shot([Thing(1, scale=(0.5, 0.25, 2.0))], camera),
    ]
    batch = make_batch(shots, [small, large], (64, 64), [Material((1, 1, 1), pattern=0)])
    rows = patterns(kind, frame=np.eye(3) * 6, offset=(0.21, 0.13, 0.37))
    made = RENDERER.render(with_patterns(batch, rows)).albedo
    assert made[0].std() > 0.03
    for k in (1, 2):
        assert np.mean(np.abs(made[k] - made[0]).max(-1) < 2e-3) > 0.985


def test_a_scene_says_patterns_with_leaves() -> None:
    material = {"color": "white", "pattern": {"kind": {"choice": ["wood", "brick"]}, "a": "#ff0000", "scale": 0.1,
                "space": "uv", "rotation": {"axis": [0, 0, 1], "angle_deg": 90}}}  # fmt: skip
    scene = {"name": "s", "image": {"size": [32, 32]}, "camera": {"distance": 3},
             "objects": {"a": {"shape": {"box": {"size": [1, 1, 1]}}, "material": material, "count": 2}}}  # fmt: skip
    plan = Plan(SceneSpec.model_validate(scene))
    names = {leaf.path for leaf in plan.varying if leaf.path.startswith("objects")}
    assert names == {f"objects.a.material.pattern.{leaf}" for leaf in ("kind", "seed")}
    batch = compose(plan, plan.sample(1, range(6)))
    rows = batch.materials.patterns
    assert rows is not None and len(rows) == 12
    assert set(rows.kind) == {PATTERN_KINDS.index("wood"), PATTERN_KINDS.index("brick")}
    assert len(set(rows.seed.tolist())) == 12 and rows.mapped.all()
    np.testing.assert_allclose(rows.frame[0] @ [0, 0.1, 0], [1, 0, 0], atol=1e-6)  # its x lies along v
    np.testing.assert_array_equal(batch.materials.pattern[batch.instances.materials[:, 0]] >= 0, True)
    with pytest.raises(ValueError, match="brick"):
        SceneSpec.model_validate(
            {
                **scene,
                "objects": {"a": {**scene["objects"]["a"], "material": {"pattern": {"kind": "bricks"}}}},
            }
        )
