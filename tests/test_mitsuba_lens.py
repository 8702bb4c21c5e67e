"""Mitsuba looks through lenses along the rays that the raster renderer's labels have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_scenes import random_batch
from test_light_around import smooth_map
from test_mitsuba_light import SUN, SUNLIGHT, still_life, under

from imgsynth import lens as models
from imgsynth.batch import Cameras, Lens, SceneBatch
from imgsynth.errors import ImgsynthError
from imgsynth.render.raster import RasterRenderer
from imgsynth.render.reference import Cells, refuse_unknown

pytest.importorskip("mitsuba", reason="needs the extra mitsuba")

from imgsynth.render import cycles
from imgsynth.render.mitsuba import MitsubaRenderer
from imgsynth.render.mitsuba_sensor import looked_at

RASTER = RasterRenderer()
LENSES = {
    "brown": (models.BROWN_CONRADY, (-0.3, 0.1, 0.001, -0.002, 0.02), 48.0),
    "fisheye": (models.KANNALA_BRANDT, (0.05, -0.01, 0.002, 0.0), 26.0),
    "narrow field": (models.BROWN_CONRADY, (-0.45,), 26.0),
}


def through(batch: SceneBatch, name: str) -> SceneBatch:
    kind, given, focal = LENSES[name]
    n = len(batch)
    k, coefficients = batch.cameras.k.copy(), np.zeros((n, 8))
    k[:, 0, 0] = k[:, 1, 1] = focal
    coefficients[:, : len(given)] = given
    return replace(
        batch, cameras=replace(batch.cameras, k=k, lens=Lens(np.full(n, kind, np.int32), coefficients))
    )


@pytest.mark.parametrize("name", LENSES)
def test_labels_are_those_of_the_raster_renderer(name):
    """Ids, amodal masks and whole silhouettes; depth of what both hit, floors at grazing angles aside."""
    batch = through(random_batch(6, seed=7, size=(40, 48)), name)
    a, b = RASTER.render(batch), MitsubaRenderer(1, 1).render(batch)
    assert (a.instance != b.instance).mean() < 1e-4 and (a.instance > 0).sum() > 100
    assert (a.amodal.data != b.amodal.data).mean() < 1e-3
    np.testing.assert_allclose(b.amodal_total.sum(), a.amodal_total.sum(), rtol=0.01)
    both = (a.instance > 0) & (a.instance == b.instance)
    assert np.quantile(np.abs(b.depth[both] / a.depth[both] - 1), 0.99) < 1e-3
    np.testing.assert_array_equal(np.isfinite(a.depth), np.isfinite(b.depth))


@pytest.mark.slow
@pytest.mark.parametrize("name", LENSES)
def test_light_through_a_lens_falls_where_it_should(name):
    """Mean radiance within 3 %, and the same picture; outside of the lens's field lies the background."""
    batch = through(under(still_life(sun=SUNLIGHT, direction=SUN), smooth_map()), name)
    a, b = (r.render(batch, 4).color[0] for r in (RASTER, MitsubaRenderer(16, 2)))
    np.testing.assert_allclose(a.mean((0, 1)), b.mean((0, 1)), rtol=0.03)
    small = [c.reshape(20, 4, 20, 4, 3).mean((1, 3)).reshape(-1) for c in (a, b)]
    assert np.corrcoef(*small)[0, 1] > 0.98


def test_a_table_of_a_pinhole_is_its_matrix():
    """Also with pixels that are not square, and skewed."""
    k = np.array([[[40.0, 3.0, 11.0], [0, 50.0, 9.0], [0, 0, 1]]])
    cameras = Cameras(k, np.eye(4)[None], np.ones(1))
    table = looked_at(cameras, 0, Cells(-4.0, 2.0, 2.0, 7, 5))
    point = np.array([-4.0 + 2 * 3.5, 2.0 + 2 * 1.5, 1.0])
    np.testing.assert_allclose([*table[1, 3, :2], 1], np.linalg.inv(k[0]) @ point)
    np.testing.assert_allclose(table[1, 3, 2:4], [2 / 40, 0], atol=1e-12)
    np.testing.assert_allclose(table[1, 3, 4:], (np.linalg.inv(k[0]) @ [0, 2.0, 0])[:2], atol=1e-12)


def test_cycles_refuses_lenses_by_name():
    with pytest.raises(ImgsynthError, match=r"--renderer cycles does not draw cameras\.lens"):
        refuse_unknown(through(random_batch(1, 0), "brown"), "cycles", cycles.DRAWN)
