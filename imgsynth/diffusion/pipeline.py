"""The model as a pipeline of diffusers, for those who come with its API; `sample` does more and faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from imgsynth.diffusion.config import DiffuserConfig
from imgsynth.diffusion.model import Diffuser
from imgsynth.diffusion.objectives import TIMES
from imgsynth.errors import ModelError


class DiffuserPipeline(DiffusionPipeline):
    """A class-conditional pixel UNet and its scheduler; `from_pretrained` of this class opens a model folder.

    Args:
        unet: the network, on patches.
        scheduler: FlowMatchEuler for a flow; DDIM for v-prediction (on data divided by its spread).
        diffuser: the configuration, as plain values.
    """

    model_cpu_offload_seq = "unet"

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler | DDIMScheduler,
        diffuser: dict[str, Any] | None = None,  # diffusers takes what has no default for a module
    ):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(diffuser=DiffuserConfig.of(diffuser or {}).plain())

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int],
        num_inference_steps: int = 25,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """One image a label (K: of no class) by the scheduler's own steps; mask bits are dropped.

        Raises:
            ModelError: the model is conditioned on a layout, or an unknown label.
        """
        config = DiffuserConfig.of(self.config.diffuser)
        model = Diffuser(self.unet, config)
        if config.layout_channels:
            raise ModelError("this pipeline has no layout to give; use imgsynth diffuse refine")
        if not all(0 <= int(label) <= model.null for label in class_labels):
            raise ModelError(f"class_labels: expected 0 to {model.null}, got {list(class_labels)}")
        labels = torch.tensor([int(label) for label in class_labels], device=self.device)
        x = torch.randn((len(labels), model.planes, *model.size), generator=generator).to(self.device)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        for time in self.progress_bar(self.scheduler.timesteps):
            clock = time.float().expand(len(x))
            said = model.predict(x, clock, labels)
            if guidance_scale != 1:
                free = model.predict(x, clock, torch.full_like(labels, model.null))
                said = free + guidance_scale * (said - free)
            x = self.scheduler.step(said, time, x, return_dict=False)[0]
        if config.objective == "v":
            x = x * config.sigma_data
        pixels = (x[:, : config.channels].clamp(-1, 1) + 1) / 2
        images: Any = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return ImagePipelineOutput(images=self.numpy_to_pil(images) if output_type == "pil" else images)


def scheduler_of(config: DiffuserConfig) -> FlowMatchEulerDiscreteScheduler | DDIMScheduler:
    """The scheduler of diffusers whose clock is the net's: its timesteps go to the net as they are."""
    if config.objective == "flow":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=TIMES)
    angle = np.arange(TIMES, dtype=np.float64) * (np.pi / 2 / TIMES)
    kept = np.cos(angle) ** 2  # ᾱ at timestep k: σ/σ_d = tan(kπ/2000)
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return DDIMScheduler(
        num_train_timesteps=TIMES,
        trained_betas=betas.tolist(),
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
