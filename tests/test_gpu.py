"""The same frames on a CUDA device. Run with ``-m gpu``."""

import numpy as np
import pytest

from imgsynth import generate, scenefile


def _has_cuda() -> bool:
    import warp

    return bool(warp.is_cuda_available())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dice", "digits"])
def test_cuda_draws_what_the_cpu_draws(name):
    if not _has_cuda():
        pytest.skip("no CUDA device")
    scene = scenefile.load(name)
    cpu, cuda = (generate.frames(scene, 0, range(32), device=device) for device in ("cpu", "cuda"))
    for path, values in cpu.values.items():
        np.testing.assert_array_equal(values, cuda.values[path])
    assert np.mean(cpu.buffers.instance == cuda.buffers.instance) >= 0.9999
    both = (cpu.buffers.instance > 0) & (cpu.buffers.instance == cuda.buffers.instance)
    np.testing.assert_allclose(cuda.buffers.depth[both], cpu.buffers.depth[both], rtol=1e-4)
    if name == "dice":  # a digit's samples are black or white: one that differs shows as 16
        difference = np.abs(cpu.images.astype(int) - cuda.images.astype(int)).max(-1)
        assert np.mean(difference <= 2) >= 0.999


@pytest.mark.gpu
def test_a_diffusion_model_trains_on_cuda_from_the_same_draws():
    import torch

    from imgsynth.diffusion.data import DiffusionData
    from imgsynth.diffusion.settings import DiffusionTraining, suited
    from imgsynth.diffusion.train import train

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    data = DiffusionData(images, np.arange(16) % 2, ("a", "b"), "some")
    config = suited((8, 8), 1, ("a", "b"), "tiny")
    settings = DiffusionTraining(steps=3, batch=8, threads=1, precision="fp32")
    cpu, cuda = (train(data, config, settings, seed=0, device=device) for device in ("cpu", None))
    assert cuda.device.type == "cpu"  # a model comes back to where it is saved from
    assert cuda.record["loss"] == pytest.approx(cpu.record["loss"], rel=1e-2)
