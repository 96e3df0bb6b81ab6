"""DiMR as a diffusers pipeline, shaped like `DiTPipeline`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from hidiffusion.dimr.guidance import guidance_weight, guide
from hidiffusion.dimr.sampler import DPMSolverFastScheduler
from hidiffusion.dimr.transformer import DiMRTransformer
from hidiffusion.errors import InvalidConfigError

#: A class by number or by name.
Label = int | str


class DiMRPipeline(DiffusionPipeline):
    """Pictures of classes.

    Args:
        transformer: the network.
        vae: the autoencoder whose latents it was trained on.
        scheduler: one that predicts noise: `DPMSolverFastScheduler`, as the authors sample, or one
            of diffusers' made from the same betas.
        id2label: names of the classes, several divided by commas; as in `DiTPipeline`.
    """

    transformer: DiMRTransformer
    vae: Any
    scheduler: Any
    model_cpu_offload_seq = "transformer->vae"  # type: ignore[assignment]
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        transformer: DiMRTransformer,
        vae: AutoencoderKL,
        scheduler: Any,
        id2label: Mapping[int | str, str] | None = None,
    ) -> None:
        super().__init__()
        parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler}
        self.register_modules(**parts)  # type: ignore[no-untyped-call]
        names = {int(number): text for number, text in (id2label or {}).items()}
        named = {str(number): text for number, text in names.items()}
        self.register_to_config(id2label=named)  # type: ignore[no-untyped-call]
        self.labels = dict(
            sorted(
                (name.strip(), number) for number, text in names.items() for name in text.split(",")
            )
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[Any], **kwargs: Any
    ) -> DiMRPipeline:
        """Load a folder that `save_pretrained` wrote; arguments as in diffusers.

        diffusers finds classes in its own package only, so the two that are ours are loaded here.
        """
        path, dtype = pretrained_model_name_or_path, kwargs.get("dtype", kwargs.get("torch_dtype"))
        if "transformer" not in kwargs:
            kwargs["transformer"] = DiMRTransformer.from_pretrained(
                path, subfolder="transformer", torch_dtype=dtype
            )
        if "scheduler" not in kwargs:
            kwargs["scheduler"] = DPMSolverFastScheduler.from_pretrained(
                path, subfolder="scheduler"
            )
        result: DiMRPipeline = super().from_pretrained(path, **kwargs)
        return result

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a side that one latent stands for."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def get_label_ids(self, label: Label | Sequence[Label]) -> list[int]:
        """Return the numbers of classes given by name or number.

        Raises:
            InvalidConfigError: no such class; the null class of guidance is none.
        """
        labels = [label] if isinstance(label, int | str) else list(label)
        null = self.transformer.null_class
        for one in labels:
            if isinstance(one, str) and one not in self.labels:
                known = ", ".join(list(self.labels)[:12])
                raise InvalidConfigError(
                    f"there is no class named {one!r}; "
                    + (
                        f"pipe.labels has all {len(self.labels)} names: {known}"
                        if known
                        else "this pipeline has no names of classes, so give numbers"
                    )
                )
            if isinstance(one, int) and not 0 <= one < null:
                raise InvalidConfigError(f"there is no class {one}; classes are 0 to {null - 1}")
        return [self.labels[one] if isinstance(one, str) else one for one in labels]

    @torch.no_grad()
    def __call__(  # noqa: PLR0917 - in the order of DiTPipeline
        self,
        class_labels: Label | Sequence[Label],
        guidance_scale: float = 1.4,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int = 50,
        output_type: str = "pil",
        return_dict: bool = True,
        *,
        guidance_power: float | None = None,
        latents: Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        callback_on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Draw one picture of each class.

        Args:
            class_labels: by number or name; one or several, also different ones.
            guidance_scale: 1.4 is the authors' 0.4; 1 or less is no guidance, and half the work.
            generator: of the starting noise; a list has one for each picture.
            num_inference_steps: calls of the network; the authors take 250.
            output_type: "pil", "np" `[B, H, W, 3]` in 0..1, "pt" `[B, 3, H, W]` in 0..1, or
                "latent": `[B, c, h, w]` as the network made them.
            return_dict: False gives a tuple.
            guidance_power: None holds the scale through the run; a number lets it grow from 1 (see
                `hidiffusion.dimr.guidance.guidance_weight`).
            latents: starting noise `[B, c, h, w]` instead of the generator's.
            height: of the picture, in pixels; the trained size by default, the largest too.
            width: of the picture, in pixels.
            callback_on_step_end: called as `callback(pipe, step, timestep, {"latents": ...})` after
                each step; what it returns under "latents" replaces them. `pipe._interrupt = True`
                ends the run.
            callback_on_step_end_tensor_inputs: only "latents" can be asked for.

        Returns:
            `ImagePipelineOutput`, or its fields.

        Raises:
            InvalidConfigError: an unknown class, a size the network has no positions for, or a
                guidance that `guidance_weight` refuses.
        """
        del callback_on_step_end_tensor_inputs
        labels = torch.tensor(self.get_label_ids(class_labels), device=self._execution_device)
        guidance_weight(1000.0, guidance_scale, guidance_power)
        latents = self.prepare_latents(len(labels), generator, latents, height, width)
        self.scheduler.set_timesteps(num_inference_steps, device=latents.device)
        self._interrupt = False
        self._num_timesteps = len(self.scheduler.timesteps)
        steps = self.denoise(
            latents,
            labels,
            guidance_scale=guidance_scale,
            guidance_power=guidance_power,
            generator=generator,
            callback=callback_on_step_end,
        )
        with self.progress_bar(total=self._num_timesteps) as bar:
            for _, latents in steps:  # noqa: B007 - the last ones are decoded
                bar.update()
                if self._interrupt:
                    break
        images: Any = latents if output_type == "latent" else self.decode(latents, output_type)
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def denoise(
        self,
        latents: Tensor,
        class_labels: Tensor,
        *,
        guidance_scale: float,
        guidance_power: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        begin: int = 0,
        callback: Callable[..., Mapping[str, Any] | None] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Run the scheduler over its timesteps, and yield each step's number and latents.

        Args:
            latents: `[B, c, h, w]`, of `prepare_latents` or of a step.
            class_labels: `[B]`, numbers, on the device of the latents.
            guidance_scale: as in a call.
            guidance_power: as in a call.
            generator: for schedulers that add noise.
            begin: the first step, from 0; the scheduler must stand there.
            callback: `callback_on_step_end` of a call.
        """
        extra = self._step_arguments(generator)
        for step, timestep in enumerate(self.scheduler.timesteps[begin:], begin):
            noisy = self.scheduler.scale_model_input(latents, timestep)
            noise = self.predict_noise(
                noisy, timestep, class_labels, guidance_scale, guidance_power
            )
            latents = self.scheduler.step(noise, timestep, latents, **extra).prev_sample
            if callback is not None:
                told = callback(self, step, timestep, {"latents": latents})
                latents = (told or {}).get("latents", latents)
            yield step, latents

    def predict_noise(
        self,
        latents: Tensor,
        timestep: Tensor,
        class_labels: Tensor,
        guidance_scale: float,
        guidance_power: float | None = None,
    ) -> Tensor:
        """Return the guided noise in `latents`, in their shape and dtype.

        Args:
            latents: `[B, c, h, w]`.
            timestep: of the scheduler, a single one; the network's label is 1 more.
            class_labels: `[B]`, numbers.
            guidance_scale: as in a call.
            guidance_power: as in a call.
        """
        label = timestep + 1.0
        guided = guidance_scale > 1
        sample = latents.to(self.transformer.dtype)
        if guided:
            # Both halves in one call.
            sample = torch.cat([sample, sample])
            null = torch.full_like(class_labels, self.transformer.null_class)
            class_labels = torch.cat([class_labels, null])
        estimate = self.transformer(sample, label, class_labels, return_dict=False)[0]
        noise: Tensor = estimate.to(latents.dtype)
        if not guided:
            return noise
        conditional, unconditional = noise.chunk(2)
        weight = guidance_scale
        if guidance_power is not None:
            weight = guidance_weight(float(label), guidance_scale, guidance_power)
        return guide(conditional, unconditional, weight)

    def decode(self, latents: Tensor, output_type: str = "pil") -> Any:
        """Return pictures of latents `[B, c, h, w]`, as `output_type` says."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        pictures = self.vae.decode(scaled, return_dict=False)[0]
        return self.image_processor.postprocess(pictures, output_type=output_type)

    def prepare_latents(
        self,
        batch: int,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Tensor:
        """Return starting noise `[B, c, h, w]`, in float32 at least: the solver's sums need it.

        Raises:
            InvalidConfigError: there are other than `batch` latents.
        """
        dtype = torch.promote_types(torch.float32, self.transformer.dtype)
        device = self._execution_device
        if latents is None:
            factor = self.vae_scale_factor
            rows, columns = self.transformer.sample_size
            shape = (
                batch,
                self.transformer.in_channels,
                height // factor if height else rows,
                width // factor if width else columns,
            )
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        elif latents.shape[0] != batch:
            raise InvalidConfigError(
                f"there are {latents.shape[0]} latents for {batch} class labels; give one for each"
            )
        sigma = self.scheduler.init_noise_sigma
        start: Tensor = latents.to(device, dtype) * sigma
        return start

    def _step_arguments(self, generator: Any) -> dict[str, Any]:
        """Return the generator for schedulers that add noise in their steps."""
        takes = inspect.signature(self.scheduler.step).parameters
        return {"generator": generator} if "generator" in takes else {}
