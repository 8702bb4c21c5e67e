from dataclasses import replace

import numpy as np
import pytest
import torch

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import ModelError
from imgsynth.learn import mixing
from imgsynth.learn.classify import ClassifierConfig
from imgsynth.learn.trainer import train_classifier


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=64, channels=3, side=16):
    return torch.randint(256, (n, channels, side, side), generator=generator(7)).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_depends_on_its_generator_only_and_grows_with_its_magnitude(channels):
    smooth = torch.linspace(40, 200, 16).repeat(64, channels, 16, 1).to(torch.uint8)
    before = torch.random.get_rng_state()
    a, b = (mixing.randaugment(smooth, 9, generator(3)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a, b) and a.dtype == torch.uint8 and a.shape == smooth.shape
    assert not torch.equal(a, mixing.randaugment(smooth, 9, generator(4)))
    stray = [
        float((mixing.randaugment(smooth, m, generator(3)).float() - smooth).abs().mean()) for m in (3, 9, 20)
    ]
    assert stray[0] < stray[1] < stray[2]


def test_each_operation_does_what_it_is_called():
    x = noise(8)
    none, plus, minus = torch.zeros(8), torch.ones(8), -torch.ones(8)
    (same, autocontrast, equalize, rotate, solarize, posterize,
     shear_x, shear_y, left, up, brightness, contrast, colour, sharpness) = mixing._OPERATIONS  # fmt: skip
    for op in (
        rotate,
        solarize,
        posterize,
        shear_x,
        shear_y,
        left,
        up,
        brightness,
        contrast,
        colour,
        sharpness,
    ):
        changed = (op(x, none).int() - x.int()).abs()
        assert int(changed.max()) <= (1 if op is not solarize else 255)  # strength 0 changes nothing
    assert torch.equal(same(x, plus), x)
    dull = (60 + x.float() / 255 * 100).to(torch.uint8)
    spread = autocontrast(dull, plus)
    assert (spread.amin((2, 3)) == 0).all() and (spread.amax((2, 3)) == 255).all()
    flat = torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)
    assert torch.equal(autocontrast(flat, plus[:2]), flat)
    assert equalize(dull, plus).float().std() > dull.float().std()
    assert torch.equal(solarize(x, plus), 255 - x) and set(posterize(x, plus).unique().tolist()) <= set(
        range(0, 256, 16)
    )
    assert torch.equal(brightness(flat, -plus[:2]), torch.full_like(flat, 1))
    assert contrast(x, minus).float().std() < 0.2 * x.float().std()
    grey = colour(x, minus).float()
    assert (grey.amax(1) - grey.amin(1)).mean() < 0.15 * (x.float().amax(1) - x.float().amin(1)).mean()
    assert sharpness(x, plus).float().std() > x.float().std() > sharpness(x, minus).float().std()
    turned = rotate(dull.flip(0), plus)
    assert not torch.equal(turned, rotate(dull.flip(0), minus))
    step = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    step[..., 8:] = 200
    assert int((left(step, torch.tensor([0.3])) > 100).sum()) > int((step > 100).sum())
    assert torch.equal(up(step, plus[:1]), step)


def test_cutmix_pastes_one_box_and_its_share_is_the_area():
    x = torch.arange(32.0)[:, None, None, None].expand(32, 2, 12, 10).contiguous()
    shares = []
    for seed in range(200):
        out, partner, own = mixing.cutmix(x, generator(seed))
        foreign = out != x
        moved = partner != torch.arange(32)
        boxes = foreign[moved].reshape(int(moved.sum()), -1)
        assert (boxes == boxes[0]).all()  # the same box everywhere
        assert foreign[~moved].sum() == 0
        assert own == pytest.approx(1 - float(boxes[0].float().mean()))
        assert (
            torch.equal(out[moved][:, 0][foreign[moved][:, 0]].unique(), partner[moved].float().unique())
            or own == 1
        )
        shares.append(own)
    # With side s, s² uniform: E (s − s²/4)² = 1/2 − 1/5 + 1/48 is what the border leaves of the box.
    assert np.mean(shares) == pytest.approx(1 - (1 / 2 - 1 / 5 + 1 / 48), abs=0.04) and min(shares) < 0.4


def test_the_prior_is_how_often_training_draws_a_class():
    labels = torch.tensor([0] * 90 + [1] * 10)
    assert torch.allclose(mixing.log_prior(labels, 3, None).exp(), torch.tensor([0.9, 0.1, 0.005]))
    even = torch.tensor([0.5 / 90] * 90 + [0.5 / 10] * 10, dtype=torch.float64)
    assert torch.allclose(mixing.log_prior(labels, 2, even).exp(), torch.tensor([0.5, 0.5]))


def overlapping(n, minority, seed):
    """Two classes that differ by brightness and overlap; `minority` is the share of class 1."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < minority * n).astype(np.int64)
    images = np.clip(rng.normal(110 + 40 * labels[:, None, None, None], 8, (n, 4, 4, 1)), 0, 255)
    images = np.clip(images + rng.normal(0, 25, (n, 1, 1, 1)), 0, 255).astype(np.uint8)
    return LabelledImages(images, labels, ("dark", "light"), None, "overlap")


def test_logit_adjustment_moves_the_border_towards_the_common_class():
    config = ClassifierConfig(width=4, steps=250, batch=32, lr=5e-3, label_smoothing=0.0, augment=False)
    train, test = overlapping(2000, 0.05, 0), overlapping(1000, 0.5, 1)
    recall = []
    for tau in (0.0, 1.0):
        said = (
            train_classifier(train, replace(config, logit_adjustment=tau), seed=0)
            .predict(test.images)
            .argmax(1)
        )
        recall.append([float((said[test.labels == c] == c).mean()) for c in (0, 1)])
    plain, adjusted = recall
    assert adjusted[1] > plain[1] + 0.1 and np.mean(adjusted) > np.mean(plain)


def test_the_options_are_off_by_default_trained_reproducibly_and_checked():
    data = overlapping(64, 0.5, 0)
    base = ClassifierConfig(width=4, steps=6, batch=8)
    assert (base.randaugment, base.cutmix, base.logit_adjustment) == (0, 0, 0)
    plain = train_classifier(data, base, seed=0).predict(data.images)
    for option in ({"randaugment": 9.0}, {"cutmix": 1.0}, {"logit_adjustment": 1.0}):
        first, again = (
            train_classifier(data, replace(base, **option), seed=0).predict(data.images) for _ in range(2)
        )
        even = "logit_adjustment" in option  # where classes are alike, the prior is the same for both
        assert np.array_equal(first, again) and (even or not np.array_equal(first, plain))
    for option in ({"randaugment": 31}, {"cutmix": 1.1}, {"logit_adjustment": -1}):
        with pytest.raises(ModelError, match=next(iter(option))):
            ClassifierConfig(**option)
