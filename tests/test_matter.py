"""Materials under light: base colour on its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes_for_tests import Material, Shot, Thing, box, grid_quad, icosphere, look_at, make_batch, pose

from imgsynth.color import srgb_to_linear
from imgsynth.render.raster import RasterRenderer

RENDERER = RasterRenderer()


def square(*colors: tuple[int, ...]) -> np.ndarray:
    """A 2 × 2 texture of four sRGB colours, row by row from the top."""
    return np.array([(*c, 255) for c in colors], np.uint8).reshape(2, 2, 4)


@pytest.mark.parametrize("samples", [1, 4])
def test_albedo_is_the_base_colour_whatever_the_light(samples: int) -> None:
    """It ignores light, shadows, metal and emission, keeps textures, and is 0 where nothing is hit."""
    materials = [
        Material((0.2, 0.4, 0.6), 1.0, 0.1, (5, 5, 5)),
        Material((0.5, 1.0, 1.0), texture=0),
        Material((0.3, 0.3, 0.3)),
    ]
    texture = square((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)).repeat(64, 0).repeat(64, 1)
    things = [
        Thing(0, pose(None, (-0.5, 0, 1)), (0.3,) * 3, 0),
        Thing(1, pose(None, (0.6, 0, 1)), material=1),
    ]
    camera = look_at((0, 0.001, 4), (0, 0, 1), (0, 1, 0))
    made = []
    for sun in ((0, 0, 0), (3, 2, 1)):
        shot = Shot(things, camera, sun_direction=(0.3, 0.2, 1), sun=sun, ambient=(0.1,) * 3, shadows=True)
        batch = make_batch([shot], [icosphere(3), grid_quad()], (96, 96), materials, [texture])
        made.append(RENDERER.render(replace(batch, outputs=("albedo",)), samples))
    dark, lit = made
    assert dark.albedo is not None and lit.albedo is not None
    np.testing.assert_array_equal(dark.albedo, lit.albedo)
    assert not np.allclose(dark.color, lit.color)
    albedo, instance = lit.albedo[0], lit.instance[0]
    assert np.all(albedo[instance == 0] == 0)
    np.testing.assert_allclose(albedo[instance == 1], [(0.2, 0.4, 0.6)] * (instance == 1).sum(), rtol=1e-6)
    grey = 0.5 * srgb_to_linear(np.array(128 / 255))
    quarters = np.array([(0.5, 0, 0), (0, 1, 0), (0, 0, 1), (grey, 2 * grey, 2 * grey)])
    off = np.abs(albedo[instance == 2][:, None] - quarters[None]).max(-1)
    assert np.mean(off.min(1) < 1e-5) > 0.85  # all but what lies astride two
    assert np.all(np.bincount(off.argmin(1)) > 0.2 * len(off))


def test_albedo_of_the_ground_and_what_is_not_asked_for() -> None:
    shot = Shot([Thing(0, pose(None, (0, 0, 0.5)))], look_at((3, 0, 1), (0, 0, 0.3)), ground=1)
    batch = make_batch([shot], [box()], (48, 48), [Material((0.9, 0.1, 0.1)), Material((0.1, 0.2, 0.3))])
    assert RENDERER.render(batch).albedo is None
    with_albedo = RENDERER.render(replace(batch, outputs=("albedo",)))
    assert with_albedo.albedo is not None
    floor = (with_albedo.instance[0] == 0) & np.isfinite(with_albedo.depth[0])
    assert floor.any()
    np.testing.assert_allclose(with_albedo.albedo[0][floor], [(0.1, 0.2, 0.3)] * floor.sum(), rtol=1e-6)
    plain = RENDERER.render(batch)
    np.testing.assert_array_equal(plain.color, with_albedo.color)
    np.testing.assert_array_equal(plain.depth, with_albedo.depth)
