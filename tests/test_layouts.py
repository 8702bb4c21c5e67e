"""Rendered maps as planes of a layout; training and sampling that follow them; starting from images."""

import numpy as np
import pytest
from closed_forms_diffusion import Mixture

from imgsynth import generate
from imgsynth.dataset.reader import Dataset
from imgsynth.diffusion import layout
from imgsynth.diffusion.data import DiffusionData
from imgsynth.diffusion.sample import Sampling, sample
from imgsynth.errors import DataError, ImgsynthError, ModelError


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    root = tmp_path_factory.mktemp("toys") / "data"
    generate.render("toys", 6, root, workers=1, sets=["outputs=[semantic, depth, normal]"])
    return Dataset(root)


def test_kinds_and_names():
    assert layout.chosen("semantic, edges") == ("semantic", "edges")
    names = layout.plane_names(("depth", "normal", "semantic"), ("cat", "dog"))
    assert names == ("depth", "normal:x", "normal:y", "normal:z", "semantic:cat", "semantic:dog")
    assert layout.kinds_of(names, ("cat", "dog")) == ("depth", "normal", "semantic")
    for text, match in (("semantc", "semantic"), ("edges,edges", "each once"), (" ,", "expected some of")):
        with pytest.raises(ImgsynthError, match=match):
            layout.chosen(text)
    for bad in ((), ("mask",), ("semantic:cat",), ("normal:x",)):
        with pytest.raises(DataError, match="cannot be laid out"):
            layout.kinds_of(bad, ("cat", "dog"))


def test_planes_of_a_small_map():
    ids = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 2, 0]])
    assert (layout.edge_plane(ids)[..., 0] > 0).tolist() == [
        [False, True, True, False],
        [True, True, True, True],
        [True, True, True, True],
    ]
    assert layout.edge_plane(np.ones((3, 3), int)).max() == 0
    planes = layout.semantic_planes(np.array([[0, 2, 1]]), 2)
    assert planes.tolist() == [[[0, 0], [0, 255], [255, 0]]]
    depth = np.array([[2.0, 4.0, np.inf]], np.float32)
    assert layout.depth_plane(depth)[..., 0].tolist() == [[255, 128, 0]]
    assert layout.depth_plane(np.full((1, 2), np.inf, np.float32)).max() == 0
    normal = np.array([[[0, 0, -1], [0, 0, 0], [1, 0, 0]]], np.float32)
    assert layout.normal_planes(normal)[0].tolist() == [[128, 128, 0], [128, 128, 128], [255, 128, 128]]


def test_a_datasets_layout_is_its_maps(toys):
    kinds = ("semantic", "edges", "depth", "normal")
    planes = layout.layout_of(toys, kinds)
    assert planes.shape == (6, 32, 32, 8) and planes.dtype == np.uint8
    semantic = np.stack([toys.semantic_mask(i) for i in range(6)])
    for k in range(3):
        np.testing.assert_array_equal(planes[..., k] == 255, semantic == k + 1)
    part = layout.layout_of(toys, kinds, [4, 1])
    np.testing.assert_array_equal(part, planes[[4, 1]])
    data = DiffusionData.read(str(toys.root), layout=("edges", "semantic"))
    assert data.layout_names == ("edges", "semantic:ball", "semantic:block", "semantic:cone")
    np.testing.assert_array_equal(data.layout, planes[..., [3, 0, 1, 2]])
    assert set(data.labels.tolist()) == {3}  # several classes a frame: of none


def test_a_map_that_is_missing_is_said(tmp_path):
    root = generate.render("toys", 1, tmp_path / "data", workers=1)
    with pytest.raises(DataError, match=r"no depth maps; render it with --set outputs='\[depth\]'"):
        layout.layout_of(Dataset(root), ("depth",))


def test_sampling_from_images_keeps_more_of_them_the_less_noise_it_starts_with():
    model = Mixture((0.0, 0.0), (0.3, 0.3), size=(16, 16))
    rng = np.random.default_rng(0)
    source = rng.integers(60, 200, (8, 16, 16, 1)).astype(np.uint8)
    given = {"labels": np.zeros(8, np.int64), "seed": 1, "indices": np.arange(8), "source": source}
    far = [
        np.abs(
            sample(model, settings=Sampling(steps=12, low=0.01, high=high), **given).images.astype(int)
            - source
        ).mean()
        for high in (0.05, 0.3, 20.0)
    ]
    assert far[0] < 0.05 * 127.5 < far[1] < 0.75 * far[2]
    # With noise of any strength the samples keep the model's law: from an image drawn of it, too.
    fresh = sample(model, settings=Sampling(steps=12), **(given | {"source": None}))
    assert abs(int(fresh.images.std()) - 0.3 * 127.5) < 4


def test_a_source_that_does_not_fit_is_refused():
    model = Mixture(size=(8, 8))
    given = {"labels": np.zeros(2, np.int64), "seed": 1, "indices": np.arange(2)}
    with pytest.raises(ModelError, match=r"source: expected uint8 \(2, 8, 8, 1\)"):
        sample(model, **given, source=np.zeros((2, 8, 9, 1), np.uint8))
