import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imgsynth.dataset.labelled import LabelledImages
from imgsynth.errors import DataError, ModelError
from imgsynth.learn.classify import Classifier, ClassifierConfig, suited
from imgsynth.learn.loop import ahead, resolve_precision, warmup_cosine
from imgsynth.learn.nets import CompactNet, build_net, load_weights
from imgsynth.learn.trainer import augment, train_classifier

TINY = ClassifierConfig(width=4, steps=60, batch=16, lr=1e-2)


def bars(n=240, size=(8, 8), channels=1, seed=0, name="bars"):
    """Upright (0), lying (1) and no (2) bars on noise: learnable in seconds, not by brightness alone."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (n, *size, channels))
    labels = rng.integers(0, 3, n)
    for i in range(n):
        at = rng.integers(1, min(size) - 2)
        if labels[i] == 0:
            images[i, :, at : at + 2] += 150
        elif labels[i] == 1:
            images[i, at : at + 2] += 150
    return LabelledImages(images.astype(np.uint8), labels, ("upright", "lying", "none"), None, name)


@pytest.fixture(scope="module")
def trained():
    return train_classifier(bars(), TINY, seed=1, validation=bars(seed=9, name="held out"))


def state(model):
    return {k: v.numpy() for k, v in model.net.state_dict().items()}


def same(a, b):
    return all(np.array_equal(state(a)[k], state(b)[k]) for k in state(a))


def test_it_learns(trained):
    test = bars(seed=5)
    p = trained.predict(test.images)
    assert p.shape == (240, 3) and p.dtype == np.float32
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (p.argmax(axis=1) == test.labels).mean() > 0.95
    assert trained.record["validation"]["accuracy"] > 0.95
    assert trained.record["data"] == {
        "name": "bars",
        "images": 240,
        "digest": bars().digest(),
        "weighted": False,
    }


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_state_alone(trained):
    torch.manual_seed(77)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    again = train_classifier(bars(), TINY, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads
    assert same(trained, again)
    assert not same(trained, train_classifier(bars(), replace(TINY, steps=60), seed=2))


def test_every_size_of_data_takes_the_same_steps():
    config = replace(TINY, steps=7)
    for n in (3, 16, 17, 240):
        seen = []
        train_classifier(bars(n), config, seed=0, progress=lambda *a: seen.append(a))  # noqa: B023
        assert [(done, whole) for done, whole, _ in seen] == [(i, 7) for i in range(1, 8)]
        assert all(np.isfinite(loss) for *_, loss in seen)


def test_an_epoch_shows_every_image_once():
    from imgsynth.learn.loop import batches

    stream = batches(10, replace(TINY, batch=4), 0, None, 0)
    rows = torch.cat([next(stream) for _ in range(10)]).numpy()
    for epoch in rows.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    late = batches(10, replace(TINY, batch=4), 0, None, 6)
    assert np.array_equal(torch.cat([next(late) for _ in range(4)]).numpy(), rows[24:])


def test_sampling_weights_are_frequencies():
    from imgsynth.learn.loop import batches, chances_of

    stream = batches(4, replace(TINY, batch=1000), 0, chances_of([1, 2, 5, 0], 4), 0)
    counts = np.bincount(torch.cat([next(stream) for _ in range(20)]).numpy(), minlength=4)
    expected = 20_000 * np.array([1, 2, 5]) / 8
    assert counts[3] == 0
    assert ((counts[:3] - expected) ** 2 / expected).sum() < 13.8  # χ², 2 degrees of freedom, 99.9 %
    for bad in ([1, 1], [0, 0, 0, 0], [1, 1, 1, -1], [1, 1, 1, np.inf]):
        with pytest.raises(DataError, match="sampling weights"):
            chances_of(bad, 4)


class Stop(Exception):
    pass


@pytest.mark.parametrize("weighted", [False, True])
def test_a_run_cut_short_goes_on_to_the_same_bits(tmp_path, weighted):
    data, path = bars(100), tmp_path / "run" / "state.safetensors"
    config = replace(TINY, steps=24, dropout=0.3)
    how = {"seed": 3, "weights": np.arange(1, 101) if weighted else None}

    def stop(done, whole, loss):
        if done == 17:
            raise Stop

    with pytest.raises(Stop):
        train_classifier(data, config, progress=stop, checkpoint=path, checkpoint_every=5, **how)
    steps = []
    resumed = train_classifier(
        data, config, progress=lambda *a: steps.append(a[0]), checkpoint=path, checkpoint_every=5, **how
    )
    assert steps == list(range(16, 25))
    whole = train_classifier(data, config, **how)
    assert same(resumed, whole) and resumed.record == whole.record
    assert not list(path.parent.glob("*.part"))


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    path, config = tmp_path / "state", replace(TINY, steps=4)
    train_classifier(bars(50), config, seed=0, checkpoint=path)
    for data, other, seed in (
        (bars(50), config, 1),
        (bars(51), config, 0),
        (bars(50), replace(config, lr=0.1), 0),
    ):
        with pytest.raises(ModelError, match="another run"):
            train_classifier(data, other, seed=seed, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        train_classifier(bars(50), config, seed=0, checkpoint=path)


def test_saved_and_loaded_it_answers_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    back = Classifier.load(tmp_path / "model")
    images = bars(seed=5).images
    assert np.array_equal(back.predict(images), trained.predict(images))
    assert back.classes == trained.classes and back.config == trained.config
    assert dict(back.record) == json.loads(json.dumps(dict(trained.record)))
    files = sorted(p.name for p in (tmp_path / "model").iterdir())
    assert files == ["model.json", "model.safetensors"]
    first = [(tmp_path / "model" / f).read_bytes() for f in files]
    back.save(tmp_path / "again")
    assert [(tmp_path / "again" / f).read_bytes() for f in files] == first


def edit(folder, **changes):
    path = folder / "model.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "it has no model.json"),
        (lambda f: (f / "model.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "model.json").write_text("[]"), "not the record of a classifier"),
        (lambda f: edit(f, format=99), "format 99 of imgsynth"),
        (lambda f: edit(f, classes=["a"]), "does not describe its weights"),
        (lambda f: edit(f, size=[10**9, 8]), "does not describe its weights"),
        (lambda f: edit(f, size=None), "does not describe its weights"),
        (lambda f: edit(f, config={"net": "os.system"}), "net: expected `compact`"),
        (lambda f: edit(f, config={"stepz": 3}), "did you mean 'steps'"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "its SHA-256 differs"),
    ],
)
def test_a_spoilt_model_is_refused_with_a_cure(trained, tmp_path, spoil, message):
    trained.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=message):
        Classifier.load(tmp_path)
    with pytest.raises(ModelError, match="imgsynth learn"):
        Classifier.load(tmp_path / "gone")


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (9, 13), (16, 16), (23, 24), (28, 28), (32, 32), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_compact_net_fits_its_input(size, channels):
    net = CompactNet(size, channels, 5, width=4)
    assert net(torch.zeros(2, channels, *size)).shape == (2, 5)
    assert net.head[2].in_features == net.features[-2].num_features * 16


def test_other_sizes_and_colours_are_brought_to_the_trained_form(trained):
    test = bars(seed=5)
    large = np.repeat(np.repeat(test.images, 2, axis=1), 2, axis=2)
    p = trained.predict(test.images)
    assert np.array_equal(trained.predict(large), p)
    assert np.array_equal(trained.predict(np.repeat(large, 3, axis=3)), p)
    assert trained.predict(test.images[:0]).shape == (0, 3)
    for bad in (test.images[0], test.images.astype(float), test.images.repeat(2, axis=3)):
        with pytest.raises(ModelError, match="predict: expected images"):
            trained.predict(bad)


def test_training_at_another_size(tmp_path):
    model = train_classifier(bars(60, (12, 20), 3), replace(TINY, steps=5, image_size=16), seed=0)
    assert model.size == (16, 16) and model.channels == 3
    model.save(tmp_path)
    assert Classifier.load(tmp_path).size == (16, 16)


def test_augmentation_is_small_centred_and_fixed_by_its_generator():
    x = torch.zeros(4000, 1, 17, 17)
    x[:, :, 8, 8] = 1
    once = augment(x, torch.Generator().manual_seed(0))
    assert torch.equal(once, augment(x, torch.Generator().manual_seed(0)))
    at = torch.arange(17.0) - 8
    mass = once.sum(dim=(2, 3), keepdim=True)
    kept = mass.flatten() > 0.2
    shift = ((once * at).sum(dim=(2, 3), keepdim=True) / mass).flatten()[kept]
    # 0.1 of the half image (8.5 pixels), to within the division by a scale near 1.
    assert abs(float(shift.mean())) < 0.05 and float(shift.std()) == pytest.approx(0.85, rel=0.1)
    flat = torch.full((3, 1, 8, 8), 0.7)
    assert torch.allclose(augment(flat, torch.Generator().manual_seed(0)), flat)


def test_many_classes_get_more_steps_and_few_the_defaults():
    assert suited(10) == {} and ClassifierConfig.of(suited(43)).steps == 2150
    assert ClassifierConfig.of({**suited(43), "steps": 5}).steps == 5


def test_warmup_and_cosine():
    factors = [warmup_cosine(s, 100, 0.1) for s in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1 and np.argmax(factors) == 9
    assert np.all(np.diff(factors[9:]) < 0) and 0 < factors[-1] < 1e-3
    assert factors[54] == pytest.approx(0.5, abs=0.02)
    assert warmup_cosine(0, 1, 0.0) == 1


def test_bf16_trains_too_and_auto_keeps_small_images_in_fp32():
    assert resolve_precision("auto", (8, 8)) == "fp32"
    assert resolve_precision("bf16", (8, 8)) == "bf16"
    model = train_classifier(bars(), replace(TINY, precision="bf16"), seed=1)
    test = bars(seed=5)
    assert (model.predict(test.images).argmax(axis=1) == test.labels).mean() > 0.9
    assert all(p.dtype == torch.float32 for p in model.net.parameters())


def test_a_net_of_torchvision_with_weights_from_a_file(tmp_path):
    config = ClassifierConfig(net="torchvision:squeezenet1_1", steps=1, batch=2, image_size=32)
    model = train_classifier(bars(4), config, seed=0)
    assert model.channels == 3 and model.predict(bars(4).images).shape == (4, 3)
    other = build_net("torchvision:resnet18", (32, 32), 3, 7, 0)
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    torch.save(other.state_dict(), tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        net = build_net("torchvision:resnet18", (32, 32), 3, 3, 0)
        assert load_weights(net, tmp_path / name) == ["fc.weight", "fc.bias"]
        assert torch.equal(net.layer1[0].conv1.weight, other.layer1[0].conv1.weight)
    with pytest.raises(ModelError, match="does not fit the network"):
        load_weights(CompactNet((8, 8), 1, 3), tmp_path / "w.pth")


def test_weights_that_run_code_or_are_not_there_are_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return ((tmp_path / "was-here").touch, ())

    torch.save({"x": Hostile()}, tmp_path / "bad.pth")
    net = CompactNet((8, 8), 1, 3)
    with pytest.raises(ModelError, match="not readable as plain tensors"):
        load_weights(net, tmp_path / "bad.pth")
    assert not (tmp_path / "was-here").exists()
    with pytest.raises(ModelError, match="no such file"):
        load_weights(net, tmp_path / "gone.pth")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1"),
        ({"batch": 2.5}, "batch: expected a whole number"),
        ({"batch": 1}, "batch"),
        ({"lr": "fast"}, "lr: expected a number"),
        ({"lr": float("nan")}, "lr"),
        ({"augment": 1}, "augment: expected true or false"),
        ({"precision": "fp16"}, "precision"),
        ({"widht": 3}, "unknown setting 'widht'; did you mean 'width'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ModelError, match=message):
        ClassifierConfig.of(settings)


def test_wrong_nets_and_data_are_refused():
    with pytest.raises(ModelError, match="no classification model 'resnet19'"):
        train_classifier(bars(4), replace(TINY, net="torchvision:resnet19"), seed=0)
    with pytest.raises(ModelError, match="at least 4×4 pixels"):
        CompactNet((3, 8), 1, 3)
    one = LabelledImages(bars(4).images, np.zeros(4, int), ("a",), None, "one")
    with pytest.raises(DataError, match="classes; training needs"):
        train_classifier(one, TINY, seed=0)
    strange = LabelledImages(bars(4).images, np.zeros(4, int), ("a",), None, "strange")
    with pytest.raises(DataError, match="class 'a' is not among upright"):
        train_classifier(bars(4), TINY, seed=0, validation=strange)


def test_divergence_is_said():
    with pytest.raises(ModelError, match=r"diverged.*smaller lr"):
        train_classifier(bars(40), replace(TINY, lr=1e3, weight_decay=10.0, augment=False), seed=0)


def test_the_packages_load_without_torch():
    code = (
        "import sys, imgsynth.learn, imgsynth.evaluate, imgsynth.evaluate.score;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ahead_keeps_order_and_says_what_failed():
    def counting():
        yield from range(5)
        raise DataError("no sixth image")

    got = []
    with pytest.raises(DataError, match="sixth"):
        for item in ahead(counting()):
            got.append(item)
    assert got == [0, 1, 2, 3, 4]
    assert list(ahead(iter([]))) == []
