"""Renders painted over: labels stay as they were, what drifted goes, and the run may be stopped anywhere."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

from imgsynth import generate
from imgsynth.dataset.reader import Dataset
from imgsynth.dataset.verify import verify
from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.inherit import inherited_frames
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.painters import LayoutPainter, Painting, PipelinePainter, guide_pictures, paint
from imgsynth.diffusion.pipelines import Drawing, load_pipeline
from imgsynth.diffusion.repaint import repaint_dataset
from imgsynth.diffusion.sample import Sampling
from imgsynth.errors import DataError, ImgsynthError

torch.set_num_threads(1)
warnings.filterwarnings("ignore", message=".*not initialized.*")
N = 5
FAST = Drawing(steps=2, strength=0.5)


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repaint") / "render"
    outputs = "outputs=[depth, normal, distance, nocs, albedo, semantic, panoptic]"
    return generate.render(
        "toys", N, folder, seed=4, start=3, workers=1, sets=["image.size=[48, 72]", outputs]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    tiny.stable_diffusion(root / "sd")
    tiny.controlnet(root / "controlnet")
    tiny.adapter(root / "adapter")
    return root


class Painter:
    """Stands where a pipeline would: brightens, and moves the pictures of some frames."""

    task, extra, name, sha256, multiple, side = "image", "", "painter", "0" * 64, 8, 48
    pipe, net = SimpleNamespace(scheduler=None), SimpleNamespace(dtype=torch.float32)

    def __init__(self, move=(), stop=None):
        self.move, self.stop, self.calls = set(move), stop, []

    def draw(self, prompts, *, indices, images, size, **_):
        self.calls += list(indices)
        if self.stop is not None and len(self.calls) > self.stop:
            raise KeyboardInterrupt
        out = (255 * (images / 255) ** 0.7).astype(np.uint8)  # brighter
        for k, index in enumerate(indices):
            if index in self.move:
                out[k] = np.roll(out[k], (size[0] // 4, size[1] // 4), (0, 1))
        return out


PHOTO = Painting("a photo")


def over(painter, render, out, painting=PHOTO, drawing=FAST, **more):
    """`repaint_dataset` with a pipeline, two frames at a time."""
    return repaint_dataset(PipelinePainter(painter, painting, drawing, group=2), render, out, **more)


def test_a_dataset_read_back_as_frames_is_the_dataset(render, tmp_path):
    """Written again with its own pictures every label file is the same; tables differ in what is said of them."""
    from imgsynth.dataset import writer

    source = Dataset(render)
    out = tmp_path / "again"
    outputs = tuple(o for o in source.header.outputs if o != "albedo")
    header = source.header.model_copy(update={"outputs": outputs})
    for part in writer.create(out, header):
        positions = list(range(part.start - header.start, part.start - header.start + part.count))
        images = source.images(positions)
        indices = np.arange(part.start, part.start + part.count)
        writer.write_part(out, header, part, inherited_frames(source, positions, images, indices, {}))
    writer.commit(out, header)
    assert verify(out).ok, verify(out)
    again = Dataset(out)
    for kind in header.kinds:
        for i in range(N):
            assert again.path(kind, i).read_bytes() == source.path(kind, i).read_bytes()
    for name in source.instances.column_names:
        if name not in ("grounding", "confidence"):
            assert again.instances.column(name).equals(source.instances.column(name)), name
    for name in source.frames.column_names:
        if not name.startswith("sha256_albedo"):
            assert again.frames.column(name).equals(source.frames.column(name)), name
    assert again.frames.column("parent.frame").to_pylist() == list(range(3, 3 + N))


def test_labels_stay_and_drifted_frames_go(render, tmp_path):
    source, out = Dataset(render), tmp_path / "out"
    made = over(Painter(move=[4, 6]), render, out, seed=1)
    assert made["frames"] == 3 and made["drawn"] == N and sum(made["dropped"].values()) == 2
    assert verify(out).ok, verify(out)
    dataset = Dataset(out)
    assert dataset.frames.column("parent.frame").to_pylist() == [3, 5, 7] and dataset.header.generation == 1
    assert (
        "albedo" not in dataset.header.outputs
        and dataset.header.spec["diffusion"]["dropped"] == made["dropped"]
    )
    for k, p in enumerate((0, 2, 4)):
        assert np.array_equal(dataset.instance_mask(k), source.instance_mask(p))
        assert np.array_equal(dataset.depth(k), source.depth(p))
        assert not np.array_equal(dataset.image(k), source.image(p))
    rows = dataset.instances.to_pylist()
    assert {r["grounding"] for r in rows} == {"inherited"} and made["mean_confidence"] > 0.7
    assert {v["grounding"] for v in dataset.header.labels.values()} == {"inherited"}
    assert not (tmp_path / "out.painting").exists()


def test_stopped_and_resumed_the_same_bytes(render, tmp_path, monkeypatch):
    monkeypatch.setattr("imgsynth.diffusion.repaint.PART", 2)
    arguments = (render, tmp_path / "b")
    over(Painter(move=[4]), render, tmp_path / "a", seed=1)
    with pytest.raises(KeyboardInterrupt):
        over(Painter(move=[4], stop=2), *arguments, seed=1)
    with pytest.raises(ImgsynthError, match="continue it with --resume"):
        over(Painter(), *arguments, seed=1)
    with pytest.raises(ImgsynthError, match="begun with other arguments"):
        over(Painter(), *arguments, seed=2, resume=True)
    second = Painter(move=[4])
    made = over(second, *arguments, seed=1, resume=True)
    assert second.calls == [5, 6, 7]  # the first two waited on disk
    assert over(second, *arguments, seed=1, resume=True) == made
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    with pytest.raises(ImgsynthError, match="not empty"):
        over(second, *arguments, seed=1)


def test_where_every_frame_drifts_it_is_said(render, folder, tmp_path):
    """A random network at full strength paints something else."""
    pipeline = load_pipeline(str(folder / "sd"), task="image", controlnet=str(folder / "controlnet"))
    painting = Painting("a photo of a {classes}", control="edges")
    with pytest.raises(ImgsynthError, match=r"every frame drifted from its labels .*lower the strength"):
        over(pipeline, render, tmp_path / "out", painting, Drawing(steps=2, strength=1.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("control", ["depth", "normal", "edges", "canny", "semantic"])
def test_every_guide_is_the_frames_own(render, control):
    source = Dataset(render)
    guides = guide_pictures(source, [0, 1], Painting("x", control=control))
    assert guides.shape == (2, 48, 72, 3) and guides.dtype == np.uint8 and guides.std() > 1
    ids = source.instance_mask(0)
    inside = cv2.erode((ids > 0).astype(np.uint8), np.ones((5, 5))) > 0
    if control == "semantic":
        assert np.array_equal(guides[0].any(-1), source.semantic_mask(0) > 0)
    if control in ("edges", "canny"):
        assert set(np.unique(guides)) == {0, 255}
    if control == "depth":
        assert guides[0][..., 0].max() == 255 and guides[0][inside].mean() > guides[0].min()


def test_large_pipelines_paint_with_guides_and_from_noise(render, folder):
    source = Dataset(render)
    guided = load_pipeline(str(folder / "sd"), task="image", controlnet=str(folder / "controlnet"))
    drawn = [
        paint(guided, source, [0], Painting("a {classes}", control=c), seed=0, drawing=FAST)
        for c in ("depth", "edges")
    ]
    assert drawn[0].shape == (1, 48, 72, 3) and not np.array_equal(drawn[0], drawn[1])
    noise = load_pipeline(str(folder / "sd"), adapter=str(folder / "adapter"))
    assert paint(noise, source, [0], Painting("a", control="normal"), seed=0, drawing=FAST).shape == (
        1,
        48,
        72,
        3,
    )


def test_what_cannot_be_is_refused(render, tmp_path):
    with pytest.raises(ImgsynthError, match="--control: expected edges, canny"):
        Painting("a", control="pose")
    with pytest.raises(ImgsynthError, match="needs a ControlNet or an adapter"):
        over(Painter(), render, tmp_path / "o", Painting("a", control="depth"))
    bare = generate.render("toys", 1, tmp_path / "bare", workers=1)
    with pytest.raises(DataError, match="has no depth, which --control depth is made from"):
        guide_pictures(Dataset(bare), [0], Painting("a", control="depth"))


CLASSES = ("ball", "block", "cone")


def following(seed=0, **more):
    """A small model that follows semantic maps and edges, with random weights."""
    values = {"size": (48, 72), "channels": 3, "classes": CLASSES, "widths": (16,), "blocks": 1, "patch": 4}
    names = [f"semantic:{c}" for c in CLASSES] + ["edges"]
    record = {"data": {"layout": names}, "generation": 1}
    config = DiffuserConfig(**(values | {"layout_channels": 4} | more))
    model = Diffuser.new(config, seed, record)
    with torch.no_grad():
        for p in model.net.parameters():  # a fresh net's last layer is zero
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def test_a_small_model_draws_into_the_frames_layout(render, tmp_path):
    source, settings = Dataset(render), Sampling(steps=2)
    painter = LayoutPainter(following(), "follower", settings)
    painter.check(source)
    drawn = painter.paint(source, [0, 3], 1)
    assert drawn.shape == (2, 48, 72, 3) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(painter.paint(source, [3], 1)[0], drawn[1])  # alone as in a batch
    assert not np.array_equal(painter.paint(source, [0], 2)[0], drawn[0])
    # The layout reaches the network: of another frame it draws another picture from the same noise.
    other = painter.model.denoise(
        torch.zeros(2, 3, 48, 72),
        torch.ones(2),
        layout=torch.stack([torch.ones(4, 48, 72), torch.zeros(4, 48, 72)]),
    )
    assert (other[0] - other[1]).abs().max() > 1e-3
    # The less strength, the more of the render stays; what stays whole keeps all labels.
    faint = LayoutPainter(following(), "follower", settings, strength=0.05)
    far = [np.abs(p.paint(source, [0], 1)[0].astype(int) - source.image(0)).mean() for p in (faint, painter)]
    assert far[0] < 10 < far[1]
    made = repaint_dataset(faint, render, tmp_path / "out", seed=1)
    assert made["frames"] + sum(made["dropped"].values()) == N and made["frames"] >= 3
    assert made["generation"] == 2 and verify(tmp_path / "out").ok
    assert Dataset(tmp_path / "out").header.spec["diffusion"]["strength"] == 0.05


def test_a_layout_that_does_not_fit_is_refused(render):
    source, settings = Dataset(render), Sampling(steps=2)
    for model, match in (
        (following(size=(32, 32)), "frames of 48×72 pixels, the model draws 32×32"),
        (following(classes=("a", "b", "c")), "classes ball, block, cone; the model's are a, b, c"),
    ):
        with pytest.raises(DataError, match=match):
            LayoutPainter(model, "m", settings).check(source)
    with pytest.raises(ImgsynthError, match="follows no layout"):
        LayoutPainter(following(layout_channels=0), "m", settings)
    with pytest.raises(ImgsynthError, match="--strength: expected more than 0"):
        LayoutPainter(following(), "m", settings, strength=0)
