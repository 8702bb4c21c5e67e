import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsynth.dataset import rle
from imgsynth.dataset.annotated import AnnotatedImages
from imgsynth.errors import DataError, ModelError
from imgsynth.frame import AmodalMasks
from imgsynth.learn.centre import CONTROLS, CentreNet, draw_masks
from imgsynth.learn.classify import Classifier
from imgsynth.learn.crops import Augment, Working, map_boxes, random_crop, recolored, warp, working_size
from imgsynth.learn.detect import Detector, DetectorConfig
from imgsynth.learn.detect_trainer import train_detector, working_side
from imgsynth.learn.find import boxes_at, distinct, peaks, suppress
from imgsynth.learn.models import load_model
from imgsynth.learn.start import start_from
from imgsynth.learn.targets import Targets, Truth, box_loss, centre_loss, mask_loss, targets_of

TINY = DetectorConfig(
    width=8, steps=90, batch=8, crop=96, side=96, lr=6e-3, threads=1, precision="fp32", scale=0.1, color=0.1
)
FEW = replace(TINY, steps=6, batch=2, width=4)


def encode(mask):
    window = np.array([[0, 0, mask.shape[1], mask.shape[0]]], np.int32)
    amodal = AmodalMasks(window, np.array([0, mask.size]), mask.astype(np.uint8).reshape(-1))
    return rle.encode_amodal(amodal, mask.shape).tolist()[0]


def shapes(n=24, size=(96, 96), seed=0, masks=False, classes=("square", "disc"), name="shapes"):
    """Bright squares and red discs on noise, up to four, none over another."""
    rng = np.random.default_rng(seed)
    images, owner, boxes, labels, texts = [], [], [], [], []
    for i in range(n):
        image = rng.integers(0, 80, (*size, 3)).astype(np.uint8)
        taken = np.zeros(size, bool)
        for _ in range(rng.integers(1, 5)):
            r = int(rng.integers(7, 12))
            x, y = int(rng.integers(r, size[1] - r)), int(rng.integers(r, size[0] - r))
            kind = int(rng.integers(len(classes)))
            mask = np.zeros(size, np.uint8)
            if kind == 0:
                mask[y - r : y + r, x - r : x + r] = 1
            else:
                cv2.circle(mask, (x, y), r - 1, 1, -1)
            if taken[max(y - r, 0) : y + r, max(x - r, 0) : x + r].any():
                continue
            taken |= mask > 0
            image[mask > 0] += np.array((120, 120, 120) if kind == 0 else (150, 20, 20), np.uint8)
            x0, y0, w, h = cv2.boundingRect(mask)
            owner.append(i)
            boxes.append((x0, y0, x0 + w, y0 + h))
            labels.append(kind)
            texts.append(encode(mask))
        images.append(image)
    return AnnotatedImages(
        images,
        np.tile(np.array(size, np.int64), (n, 1)),
        np.array(owner, np.int64),
        np.array(boxes, float),
        np.array(labels, np.int64),
        np.array(texts, object) if masks else None,
        np.zeros(len(owner), bool),
        classes,
        None,
        np.array([f"{i}.png" for i in range(n)]),
        name,
    )


def iou(a, b):
    inner = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)


def f1(found, truth, overlap=0.5, score=0.3):
    """Balance of precision and recall at one score, each truth found once and under its own name."""
    hits, rows = 0, np.flatnonzero(found.scores >= score)
    for i in range(len(truth)):
        open_ = set(range(truth.objects(i).start, truth.objects(i).stop))
        for k in rows[found.owner[rows] == i]:
            for j in list(open_):
                if (
                    truth.classes[truth.labels[j]] == found.classes[found.labels[k]]
                    and iou(found.boxes[k], truth.boxes[j]) >= overlap
                ):
                    open_.discard(j)
                    hits += 1
                    break
    return 2 * hits / (len(rows) + len(truth.owner))


def state(model):
    return {k: v.numpy() for k, v in model.net.state_dict().items()}


def same(a, b):
    return state(a).keys() == state(b).keys() and all(
        np.array_equal(state(a)[k], state(b)[k]) for k in state(a)
    )


@pytest.fixture(scope="module")
def trained():
    return train_detector(shapes(masks=True), replace(TINY, masks=True), seed=1)


def test_it_finds_names_and_cuts_out(trained):
    test = shapes(seed=9, masks=True)
    found = trained.predict(test.images)
    assert trained.task == "segment" and found.classes == ("square", "disc") and found.images == len(test)
    assert f1(found, test) > 0.9
    overlaps = []
    for j in range(len(test.owner)):
        mine = [
            k
            for k in np.flatnonzero(found.owner == test.owner[j])
            if iou(found.boxes[k], test.boxes[j]) > 0.5
        ]
        for k in mine[:1]:
            a, b = rle.decode(found.masks[k], (96, 96)), test.mask(j)
            overlaps.append((a & b).sum() / (a | b).sum())
    assert len(overlaps) > 0.9 * len(test.owner) and np.median(overlaps) > 0.8


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_state_alone():
    torch.manual_seed(77)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    config = replace(FEW, masks=True)
    data = shapes(6, masks=True)
    first = train_detector(data, config, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads
    again = train_detector(data, config, seed=1)
    assert same(first, again) and first.record == again.record
    assert not same(first, train_detector(data, config, seed=2))


class Stop(Exception):
    pass


@pytest.mark.parametrize("weighted", [False, True])
def test_a_run_cut_short_goes_on_to_the_same_bits(tmp_path, weighted):
    data, path = shapes(6), tmp_path / "run" / "state.safetensors"
    how = {"seed": 3, "weights": np.arange(1, 7) if weighted else None}

    def stop(done, whole, loss):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train_detector(data, FEW, progress=stop, checkpoint=path, checkpoint_every=2, **how)
    steps = []
    resumed = train_detector(
        data, FEW, progress=lambda *a: steps.append(a[0]), checkpoint=path, checkpoint_every=2, **how
    )
    assert steps == [5, 6]
    whole = train_detector(data, FEW, **how)
    assert same(resumed, whole) and resumed.record == whole.record
    with pytest.raises(ModelError, match="another run"):
        train_detector(data, replace(FEW, flip=False), checkpoint=path, **how)


def test_saved_and_loaded_it_answers_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert isinstance(back, Detector) and back.config == trained.config and back.task == "segment"
    images = shapes(4, seed=5).images
    a, b = trained.predict(images), back.predict(images)
    for name in ("owner", "boxes", "labels", "scores", "masks"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    assert record["task"] == "segment" and record["record"]["side"] == 96
    back.save(tmp_path / "again")
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()
    with pytest.raises(ModelError, match="not the record of a classifier"):
        Classifier.load(tmp_path / "model")


def edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "it has no model.json"),
        (lambda f: edit(f, task="classify"), "not the record of a detector"),
        (lambda f: edit(f, classes=["a", "b", "c"]), "does not describe its weights"),
        (lambda f: edit(f, side=10**9), "does not describe its weights"),
        (lambda f: edit(f, unit="wide"), "does not describe its weights"),
        (lambda f: edit(f, unit=0), "does not describe its weights"),
        (lambda f: edit(f, config={"net": "os.system"}), "net: expected `compact`"),
        (lambda f: edit(f, config={"stepz": 3}), "did you mean 'steps'"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "its SHA-256 differs"),
    ],
)
def test_a_spoilt_model_is_refused_with_a_cure(trained, tmp_path, spoil, message):
    trained.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=message):
        Detector.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1"),
        ({"crop": 100}, "crop: expected a multiple of 32"),
        ({"lr": float("nan")}, "lr"),
        ({"masks": 1}, "masks: expected true or false"),
        ({"threads": 0}, "threads"),
        ({"side": 5000}, "side"),
        ({"precision": "fp16"}, "precision"),
        ({"weights": 3}, "net and weights: expected text"),
        ({"object_size": 3}, "unknown setting 'object_size'; did you mean 'object_px'"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(ModelError, match=message):
        DetectorConfig.of(values)


def test_masks_have_defaults_of_their_own_that_settings_override():
    assert DetectorConfig.of({}) == DetectorConfig()
    masks = DetectorConfig.of({"masks": True, "batch": 4})
    assert (masks.crop, masks.batch, DetectorConfig().crop) == (256, 4, 192)
    assert DetectorConfig.of(asdict(DetectorConfig(masks=True))) == DetectorConfig(masks=True)
    assert DetectorConfig.of({"masks": True, "net": "torchvision:maskrcnn_resnet50_fpn"}).crop == 192


def test_wrong_data_is_refused():
    data = shapes(4)
    with pytest.raises(DataError, match="no object"):
        train_detector(data.subset(np.zeros(0, int)), FEW, seed=0)
    with pytest.raises(DataError, match="has no masks; --task detect"):
        train_detector(data, replace(FEW, masks=True), seed=0)
    with pytest.raises(DataError, match="sampling weights"):
        train_detector(data, FEW, seed=0, weights=[1, 2])
    with pytest.raises(ModelError, match="expected `compact`"):
        train_detector(data, replace(FEW, net="yolo"), seed=0)


def test_an_image_without_objects_or_of_another_size_or_in_grey_is_no_trouble(trained):
    class Mixed:
        sizes = ((40, 200), (31, 33), (300, 280))

        def __len__(self):
            return 3

        def __getitem__(self, i):
            return np.full((*self.sizes[i], 1 if i else 3), 30, np.uint8)

    found = trained.predict(Mixed())
    assert found.images == 3 and len(found.masks) == len(found.owner) == len(found.scores)
    for k, (x0, y0, x1, y1) in enumerate(found.boxes):
        h, w = Mixed.sizes[found.owner[k]]
        assert 0 <= x0 <= x1 <= w and 0 <= y0 <= y1 <= h
        assert rle.decode(found.masks[k], (h, w)).shape == (h, w)
    nothing = trained.predict([])
    assert nothing.images == 0 and nothing.boxes.shape == (0, 4)


def test_an_object_to_be_ignored_is_no_truth_and_no_mistake():
    boxes = np.array([[0, 0, 16, 16], [32, 32, 48, 48]], np.float32)
    t = targets_of([Truth(boxes, np.array([0, 1]), np.array([True, False]))], (64, 64))
    assert t.centre.tolist() == [[0, 10, 10]]
    assert t.counts[0, :4, :4].sum() == 0 and t.counts.sum() == 256 - 16
    assert t.heat[0, :4, :4].max() < 1e-6
    quiet = torch.full((1, 16, 16), -20.0)
    quiet[0, 10, 10] = 20.0
    loud = quiet.clone()
    loud[0, 2, 2] = 20.0
    assert centre_loss(quiet, t) < 1e-6 and centre_loss(loud, t) == centre_loss(quiet, t)
    loud[0, 2, 8] = 20.0
    assert centre_loss(loud, t) == pytest.approx(20, rel=1e-3)


def test_targets_by_hand():
    # A box of 8×5 cells around cell (6, 5): its bell has sd .72 along x, and along y that of side √40.
    t = targets_of(
        [Truth(np.array([[8, 16, 40, 36]], np.float32), np.array([3]), np.array([False]))], (64, 64)
    )
    assert t.centre.tolist() == [[0, 6, 6]] and t.heat[0, 6, 6] == 1
    assert t.heat[0, 6, 7] == pytest.approx(np.exp(-0.5 / 0.72**2)) == t.heat[0, 6, 5]
    assert t.heat[0, 7, 6] == pytest.approx(np.exp(-0.5 / (0.09**2 * 40)), rel=1e-5)
    assert t.cell.tolist() == [[0, 6, 5], [0, 6, 6], [0, 6, 7]]
    assert t.weight.sum() == pytest.approx(1) and t.weight.argmax() == 1
    assert t.box[1].tolist() == [4.5, 2.5, 3.5, 2.5] and t.label.tolist() == [3]
    assert t.whole.tolist() == [[2, 4, 10, 9]]
    assert box_loss(t.box, t) == pytest.approx(0, abs=1e-5)


def test_all_cells_of_a_mask_answer_for_the_box_a_little():
    mask = np.zeros((16, 16), np.float32)
    mask[4:9, 2:10] = 1
    mask[4, 2] = 0.3
    t = targets_of(
        [Truth(np.array([[8, 16, 40, 36]], np.float32), np.array([0]), np.array([False]), [mask])], (64, 64)
    )
    assert len(t.cell) == 39 and t.weight.sum() == pytest.approx(1)
    middle, corner = ((t.cell == torch.tensor([0, *c])).all(dim=1).nonzero().item() for c in ((6, 6), (8, 9)))
    assert t.weight[corner] == pytest.approx(0.05 * t.weight[middle].item())
    assert t.box[corner].tolist() == [7.5, 4.5, 0.5, 0.5]


def test_of_masks_that_share_most_of_the_smaller_the_lesser_goes():
    windows = np.array([[0, 0, 20, 4], [10, 0, 20, 4], [18, 0, 28, 4], [0, 8, 4, 12]], np.int32)
    drawn = [np.ones((w[3] - w[1], w[2] - w[0]), np.uint8) for w in windows]
    assert distinct(windows, drawn, 0.6).tolist() == [0, 2, 3]  # an end of the first; a neighbour; apart
    assert distinct(windows[::-1], drawn[::-1], 0.6).tolist() == [0, 1, 2]
    assert distinct(windows, drawn, 0.1).tolist() == [0, 3]


def test_objects_without_a_mask_teach_no_mask():
    boxes = np.array([[0, 0, 16, 16], [32, 32, 48, 48]], np.float32)
    mask = np.full((16, 16), 0.5, np.float32)
    t = targets_of([Truth(boxes, np.array([0, 1]), np.zeros(2, bool), [None, mask])] * 2, (64, 64))
    assert t.drawn.tolist() == [1, 3] and t.masks.shape == (2, 16, 16)
    data = shapes(4, masks=True)
    data.masks[1:] = ""
    rng = np.random.default_rng(0)
    made = [random_crop(Working(data, 96), i, 96, Augment(), rng, 4)[1] for i in range(4)]
    assert sum(m is not None for truth in made for m in truth.masks) <= 1
    assert sum(m is None for truth in made for m in truth.masks) >= 3


def one(box, wanted):
    z = torch.zeros(1, 3, dtype=torch.int64)
    return box_loss(
        torch.tensor([box]),
        Targets(*(torch.zeros(1),) * 2, z, torch.ones(1), torch.tensor([wanted]), z, z, z, z, z),
    )


def test_box_loss_is_one_less_giou():
    # Boxes 2×2 and 4×4 about one point: IoU 1/4, hull = union.
    assert one([1.0, 1, 1, 1], [2.0, 2, 2, 2]) == pytest.approx(0.75)
    # Widths 2 and 2 of height 2, one pushed by 1: inner 2, union 6, hull 6.
    assert one([0.0, 1, 2, 1], [1.0, 1, 1, 1]) == pytest.approx(2 / 3)
    # A cell outside its box still wants the box where it is: [1, 3] against [0, 2] along x.
    assert one([0.0, 1, 2, 1], [-1.0, 1, 3, 1]) == pytest.approx(2 / 3)


def test_an_empty_crop_has_targets_too():
    none = Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), [])
    t = targets_of([none, none], (64, 64))
    assert t.heat.shape == (2, 16, 16) and not len(t.cell) and not len(t.drawn)
    assert torch.isfinite(centre_loss(torch.zeros(2, 16, 16), t))


def test_peaks_boxes_and_suppression():
    logits = torch.full((8, 8), -9.0)
    logits[2, 3], logits[2, 4], logits[6, 6] = 2.0, 1.0, 3.0
    at, score = peaks(logits, 0.1, 10)
    assert at.tolist() == [[6, 6], [2, 3]] and score.tolist() == pytest.approx([0.9526, 0.8808], abs=1e-3)
    assert len(peaks(logits, 0.9, 10)[0]) == 1 and len(peaks(logits, 0.1, 1)[0]) == 1
    reach = torch.log(torch.tensor([1.0, 2, 3, 4]))[:, None, None].expand(4, 8, 8)
    assert boxes_at(reach, torch.tensor([[6, 6]])).numpy() == pytest.approx(np.array([[22, 18, 38, 42]]))
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [50, 50, 60, 60]], np.float32)
    assert suppress(boxes, np.array([0.5, 0.9, 0.8, 0.1], np.float32), 0.6).tolist() == [1, 2, 3]
    assert suppress(boxes[:0], np.zeros(0, np.float32), 0.6).tolist() == []


def test_a_mask_network_of_known_weights():
    # First layer passes (canvas 0 + x offset), second passes it on, third takes 1 from it.
    controls = torch.zeros(1, CONTROLS)
    controls[0, 0] = controls[0, 8] = 1  # output 0 of layer 1: canvas 0, offset x
    controls[0, 88] = 1  # layer 2 begins after 80 weights and 8 biases
    controls[0, 160] = 1  # layer 3 after 64 and 8 more
    controls[0, 168] = -1
    assert CONTROLS == 169
    canvas = torch.rand(1, 8, 5)
    offset = torch.stack([torch.arange(5.0) - 2, torch.rand(5)])[None]
    expected = torch.relu(canvas[:, 0] + offset[:, 0]) - 1
    assert torch.allclose(draw_masks(canvas, controls, offset), expected)


def test_mask_loss_is_least_at_the_truth():
    truth = torch.zeros(1, 64)
    truth[0, 20:40] = 1
    right = 20 * (2 * truth - 1)
    assert (
        mask_loss(right, truth) < 0.01 < 0.3 < mask_loss(torch.zeros(1, 64), truth) < mask_loss(-right, truth)
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.floats(0, 0.5))
def test_boxes_and_masks_follow_their_pixels(seed, flip, turn, scale):
    """A lit block in the dark, wherever the crop lies: box, mask and light agree to a pixel."""
    image = np.zeros((80, 120, 3), np.uint8)
    image[30:54, 50:84] = 255
    mask = image[..., 0] > 0
    data = AnnotatedImages(
        [image], np.array([[80, 120]]), np.array([0]), np.array([[50.0, 30, 84, 54]]), np.array([0]),
        np.array([encode(mask)], object), np.array([False]), ("a",), None, np.array(["x"]), "one",
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    working = Working(data, int(np.sqrt(80 * 120)))
    crop, truth = random_crop(working, 0, 96, Augment(scale, flip, turn, 0.0), rng, 4)
    lit = crop.min(axis=2) > 190
    if not len(truth.boxes):
        return
    x0, y0, x1, y1 = truth.boxes[0]
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not len(rows):
        return
    assert np.allclose(
        [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], [x0, y0, x1, y1], atol=2.5 if turn else 1.6
    )
    covered = truth.masks[0]
    assert covered.shape == (24, 24)
    assert covered.sum() * 16 == pytest.approx(lit.sum(), rel=0.12, abs=40)


def test_a_map_moves_boxes_as_it_moves_pixels():
    image = np.zeros((8, 10, 3), np.uint8)
    image[2:4, 5:8] = 200
    turned = np.array([[0.0, -1, 8], [1, 0, 0]])  # 90 degrees: (x, y) to (8 − y, x)
    assert map_boxes(np.array([[5.0, 2, 8, 4]]), turned).tolist() == [[4, 5, 6, 8]]
    out = warp(image, turned, (10, 8), 0)
    assert np.array_equal(np.argwhere(out[..., 0] == 200).min(axis=0), [5, 4])
    assert (out[..., 0] == 200).sum() == 6


def test_recolouring_is_fixed_by_its_generator_and_mild():
    image = np.full((32, 32, 3), 128, np.uint8)
    once = [recolored(image, 0.3, np.random.default_rng(k)) for k in range(200)]
    assert np.array_equal(once[3], recolored(image, 0.3, np.random.default_rng(3)))
    means = np.array([o.mean() for o in once])
    assert 110 < means.mean() < 146 and 10 < means.std() < 50


def test_the_working_size():
    assert working_size((1080, 1440), 600) == (520, 693)
    data = shapes(8)
    side, unit = working_side(data, DetectorConfig(object_px=12))
    sides = data.boxes[:, 2:] - data.boxes[:, :2]
    typical = np.median(np.sqrt(sides.prod(axis=1)))
    assert side == round(96 * 12 / typical) and unit == pytest.approx(12, rel=0.02)
    assert working_side(data, DetectorConfig(object_px=500))[0] == 96  # never enlarged
    assert working_side(data, DetectorConfig(side=200))[0] == 200


def test_every_crop_shows_at_least_part_of_an_object_most_of_the_time():
    data, rng = shapes(20, (200, 300)), np.random.default_rng(0)
    working = Working(data, int(np.sqrt(200 * 300)))
    shown = [len(random_crop(working, k % 20, 64, Augment(), rng)[1].boxes) > 0 for k in range(200)]
    assert np.mean(shown) > 0.8


def test_fine_tuning_matches_classes_by_name(trained, tmp_path):
    trained.save(tmp_path / "base")
    held = trained.net.state_dict()
    net = CentreNet(3, TINY.width, True)
    drawn = net.state_dict()["reader.names.weight"].clone()
    left = start_from(net, tmp_path / "base", ("disc", "star", "square"))
    got = net.state_dict()
    assert set(left) == {"reader.names.weight", "reader.names.bias"}
    assert torch.equal(got["reader.names.weight"][[0, 3, 1]], held["reader.names.weight"])
    assert torch.equal(got["reader.names.weight"][2], drawn[2])
    assert torch.equal(got["stem.0.weight"], held["stem.0.weight"])
    plain = CentreNet(1, TINY.width, False)
    left = start_from(plain, tmp_path / "base" / "model.safetensors", ("block",))
    assert left == ["reader.names.bias", "reader.names.weight"]
    assert torch.equal(plain.state_dict()["box.weight"], held["box.weight"])
    with pytest.raises(ModelError, match="does not fit the network"):
        start_from(CentreNet(2, TINY.width + 8, True), tmp_path / "base", ("square", "disc"))
    config = replace(FEW, width=TINY.width, weights=str(tmp_path / "base"), masks=True, steps=1, lr=1e-9)
    tuned = train_detector(shapes(4, masks=True), config, seed=0)
    assert tuned.record["started_from"]["left_as_drawn"] == []
    assert np.allclose(state(tuned)["box.weight"], state(trained)["box.weight"], atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ssdlite320_mobilenet_v3_large", marks=pytest.mark.slow),
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        pytest.param("retinanet_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("maskrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_torchvision_by_name(tmp_path, name):
    masks = name.startswith("mask")
    config = replace(FEW, net=f"torchvision:{name}", masks=masks, steps=1, crop=64, score_floor=0.0, most=5)
    data = shapes(2, masks=masks)
    model = train_detector(data, config, seed=0)
    found = model.predict(data.images)
    assert found.boxes.shape == (len(found.owner), 4) and set(found.labels) <= {0, 1}
    assert (found.masks is not None) == masks
    assert np.all(found.boxes >= 0) and np.all(found.boxes <= 96)
    model.save(tmp_path)
    back = Detector.load(tmp_path).predict(data.images)
    assert np.array_equal(back.boxes, found.boxes) and np.array_equal(back.scores, found.scores)


def test_torchvision_names_and_tasks_that_do_not_fit():
    data = shapes(2)
    for config, message in (
        (replace(FEW, net="torchvision:fastrcnn"), "no detection model 'fastrcnn'; it has fasterrcnn"),
        (replace(FEW, net="torchvision:maskrcnn_resnet50_fpn"), "learns from masks; use --task segment"),
        (replace(FEW, net="torchvision:ssd300_vgg16", precision="bf16"), "trains in fp32 only"),
    ):
        with pytest.raises(ModelError, match=message):
            train_detector(data, config, seed=0)
