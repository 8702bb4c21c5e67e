"""The segmenter of pixels: learns a planted rule, resumes to the bit, and is kept safely."""

import numpy as np
import pytest

from imgsynth.errors import DataError, ModelError
from imgsynth.learn.semantic import Segmenter, SegmenterConfig, mean_iou, train_segmenter

CLASSES = ("red", "green")
QUICK = SegmenterConfig(width=8, steps=200, batch=16, precision="fp32")


def squares(n, seed):
    """Grey noise with one red and one green square."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 120, (n, 16, 16, 1)).repeat(3, axis=3).astype(np.uint8)
    semantic = np.zeros((n, 16, 16), np.uint8)
    for i in range(n):
        for k in (1, 2):
            y, x = rng.integers(0, 11, 2)
            semantic[i, y : y + 5, x : x + 5] = k
        for k in (1, 2):
            images[i][semantic[i] == k, k - 1] = 230
    return images, semantic


@pytest.fixture(scope="module")
def model():
    return train_segmenter(*squares(200, 0), CLASSES, QUICK, seed=1)


def test_it_learns_what_is_planted(model):
    images, semantic = squares(50, 1)
    found = model.predict(images)
    assert found.dtype == np.uint8 and found.shape == semantic.shape
    assert mean_iou(found, semantic, 2).min() > 0.9
    chances = model.chances(images[:3])
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(chances, model.chances(images)[:3])  # whatever stands beside


@pytest.mark.slow
def test_a_run_cut_short_goes_on_to_the_same_bits(tmp_path, model):
    path = tmp_path / "state.safetensors"

    class Stop(Exception):
        pass

    def stop(step, steps, loss):
        if step == 251:
            raise Stop

    config = SegmenterConfig(width=4, steps=255, batch=4, precision="fp32")
    images, semantic = squares(20, 2)
    whole = train_segmenter(images, semantic, CLASSES, config, seed=1)
    with pytest.raises(Stop):
        train_segmenter(images, semantic, CLASSES, config, seed=1, checkpoint=path, progress=stop)
    again = train_segmenter(images, semantic, CLASSES, config, seed=1, checkpoint=path)
    for a, b in zip(whole.net.state_dict().values(), again.net.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_save_and_load(tmp_path, model):
    model.save(tmp_path / "m")
    images, _ = squares(4, 3)
    np.testing.assert_array_equal(Segmenter.load(tmp_path / "m").predict(images), model.predict(images))
    (tmp_path / "m" / "model.json").write_text(
        (tmp_path / "m" / "model.json").read_text().replace("semantic", "detect")
    )
    with pytest.raises(ModelError, match="not the record of a segmenter"):
        Segmenter.load(tmp_path / "m")


def test_what_does_not_fit_is_refused(model):
    images, semantic = squares(4, 3)
    with pytest.raises(DataError, match="expected class ids 0 to 1"):
        train_segmenter(images, semantic, ("red",), QUICK, seed=0)
    with pytest.raises(ModelError, match="expected uint8"):
        model.predict(images[..., :1])
    with pytest.raises(ModelError, match="steps"):
        SegmenterConfig.of({"steps": 0})
    with pytest.raises(ModelError, match="width"):
        SegmenterConfig.of({"widht": 8})


def test_iou_in_closed_form():
    truth = np.array([[0, 1, 1, 2]])
    found = np.array([[0, 1, 0, 2]])
    np.testing.assert_allclose(mean_iou(found, truth, 3), [0.5, 0.5, 1, np.nan])
