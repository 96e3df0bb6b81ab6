"""The pipeline: a picture in, the same picture twice or four times as large out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from hidiffusion.inf_dit.embedding import check_tower, check_vector, embed
from hidiffusion.inf_dit.run import Upscaling, prepare, to_bytes
from hidiffusion.inf_dit.sampler import HeunSampler, HeunState, edm_sigmas
from hidiffusion.inf_dit.transformer import InfDiTTransformer

#: A PIL image, `[h, w, 3]` bytes, or `[1, 3, h, w]` on [-1, 1].
Picture = Image.Image | Tensor | NDArray[np.uint8]


@dataclass(frozen=True)
class UpscaledRegion:
    """A finished region of the large picture.

    Attributes:
        top: row of its upper edge in pixels.
        left: column of its left edge in pixels.
        pixels: `[h, w, 3]`, uint8.
    """

    top: int
    left: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class ChunkDone:
    """What is told after each chunk.

    Attributes:
        done: chunks done, over all evaluations.
        total: chunks in all.
        evaluation: which evaluation it belongs to, from 0.
        top: row of the chunk's upper edge in pixels.
        left: column of its left edge in pixels.
        clean: `[1, 3, h, w]`, how this evaluation sees the clean picture, padding included.
    """

    done: int
    total: int
    evaluation: int
    top: int
    left: int
    clean: Tensor


class InfDiTUpscalePipeline(DiffusionPipeline):
    """Upscales pictures with Inf-DiT.

    Args:
        transformer: the network.
        image_encoder: OpenCLIP's ViT-L/14 trained on DataComp (`laion/CLIP-ViT-L-14-DataComp.XL-
            s13B-b90K`), which the released model was trained beside; no other tower will do.
        feature_extractor: prepares pictures for the tower.
        sigma_min: lowest noise level.
        sigma_max: highest noise level.
        rho: how the levels lie between them.
    """

    config: Any
    model_cpu_offload_seq = "image_encoder->transformer"  # type: ignore[assignment]
    _optional_components = ["image_encoder", "feature_extractor"]  # noqa: RUF012

    def __init__(
        self,
        transformer: InfDiTTransformer,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        *,
        sigma_min: float = 0.002,
        sigma_max: float = 40.0,
        rho: float = 7.0,
    ) -> None:
        super().__init__()
        if image_encoder is not None:
            check_tower(image_encoder, transformer.config.image_embed_dim)
        register: Any = self.register_modules
        register(
            transformer=transformer,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
        )
        remember: Any = self.register_to_config
        remember(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)

    @torch.no_grad()
    def __call__(self, image: Picture, scale: int = 4, **options: Any) -> ImagePipelineOutput:
        """Upscale a picture.

        Args:
            image: a PIL image, `[h, w, 3]` bytes, or `[1, 3, h, w]` on [-1, 1].
            scale: 2 or 4.
            options: as for `stream`.

        Returns:
            An output whose `images` holds one PIL image.
        """
        height, width = _size(image)
        whole = np.empty((height * scale, width * scale, 3), np.uint8)
        for region in self.stream(image, scale, **options):
            rows, columns = region.pixels.shape[:2]
            whole[region.top : region.top + rows, region.left : region.left + columns] = (
                region.pixels
            )
        return ImagePipelineOutput(images=[Image.fromarray(whole)])

    @torch.no_grad()
    def stream(
        self,
        image: Picture,
        scale: int = 4,
        *,
        num_inference_steps: int = 20,
        generator: torch.Generator | None = None,
        init_noise: bool = True,
        image_embeds: Tensor | Literal["none"] | None = None,
        chunk_blocks: int | None = 4,
        rope_wrap: bool = False,
        state_device: torch.device | str | None = None,
        begin: HeunState | None = None,
        on_chunk: Callable[[ChunkDone], None] | None = None,
        on_evaluation: Callable[[HeunState], None] | None = None,
    ) -> Iterator[UpscaledRegion]:
        """Upscale a picture, and yield its regions while the last evaluation makes them.

        The small picture is padded below and on the right, by reflection, to whole blocks: to
        multiples of 32 pixels for the released model, of 64 at scale 2. What was padded is cut off
        the result. Each region is a chunk, final and without a seam; they come in scan order.

        Args:
            image: a PIL image, `[h, w, 3]` bytes, or `[1, 3, h, w]` on [-1, 1].
            scale: 2 or 4.
            num_inference_steps: steps; the network sees the picture `2 * steps - 1` times.
            generator: of the noise, which is drawn for the whole picture at once on its device, so
                that chunks change nothing.
            init_noise: whether the noise is laid over the enlarged picture, as the authors do.
            image_embeds: `[1, D]` of unit length, from `encode_image` or the caller's cache;
                `"none"` leaves it out. By default the tower makes it; without a tower that is
                refused, but for models that take none.
            chunk_blocks: blocks along a chunk's side; `None` takes the whole picture at once.
            rope_wrap: as in the authors' program, which above 4096 pixels makes positions start
                again; see `InfDiTTransformer.begin`.
            state_device: keeps the state, such as "cpu" to leave only chunks on the GPU; by
                default the device of the pipeline.
            begin: an earlier run's state, from `on_evaluation`; it is changed in place.
            on_chunk: told of each chunk; what it raises ends the run.
            on_evaluation: told after each evaluation but the last of the state, which is changed
                in place afterwards, so copy what you keep. Going on from it gives the same picture.

        Yields:
            The regions.

        Raises:
            ValueError: a setting or a picture is no good.
        """
        run = self.start(
            image,
            scale,
            num_inference_steps=num_inference_steps,
            generator=generator,
            init_noise=init_noise,
            image_embeds=image_embeds,
            chunk_blocks=chunk_blocks,
            rope_wrap=rope_wrap,
            state_device=state_device,
            begin=begin,
        )
        count, total = run.chunks, run.evaluations
        with self.progress_bar(total=total) as bar:
            bar.update(run.state.evaluations)
            for evaluation in range(run.state.evaluations, total):
                last = evaluation == total - 1
                for number, (chunk, clean) in enumerate(run.evaluate(), evaluation * count + 1):
                    top, left, height, width = run.place(chunk)
                    if on_chunk is not None:
                        on_chunk(ChunkDone(number, total * count, evaluation, top, left, clean))
                    if last and height and width:
                        pixels = to_bytes(clean[..., :height, :width])
                        yield UpscaledRegion(top, left, pixels)
                bar.update()
                if on_evaluation is not None and not last:
                    on_evaluation(run.state)
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def start(
        self,
        image: Picture,
        scale: int,
        *,
        num_inference_steps: int,
        generator: torch.Generator | None,
        init_noise: bool,
        image_embeds: Tensor | Literal["none"] | None,
        chunk_blocks: int | None,
        rope_wrap: bool,
        state_device: torch.device | str | None,
        begin: HeunState | None,
    ) -> Upscaling:
        """Prepare a run without beginning it; see `stream` for the arguments."""
        prepared = prepare(_to_tensor(image), scale, self.transformer)
        vector = self._vector(prepared.lr, image_embeds)
        device = torch.device(state_device or self._execution_device)
        prepared = replace(prepared, lr_up=prepared.lr_up.to(device))
        sigmas = edm_sigmas(
            num_inference_steps,
            sigma_min=self.config.sigma_min,
            sigma_max=self.config.sigma_max,
            rho=self.config.rho,
        )
        sampler = HeunSampler(sigmas, self.transformer.config.block_size)
        if begin is None:
            drawn_on = torch.device("cpu") if generator is None else generator.device
            noise = torch.randn(prepared.lr_up.shape, generator=generator, device=drawn_on)
            begin = sampler.start(noise.to(device), prepared.lr_up if init_noise else None)
        return Upscaling(
            self.transformer,
            prepared,
            sampler,
            begin,
            vector=vector,
            chunk_blocks=chunk_blocks,
            rope_wrap=rope_wrap,
            device=self._execution_device,
        )

    def encode_image(self, image: Picture, scale: int = 4) -> Tensor:
        """Describe a picture by the tower; one vector serves every run of the picture at a scale.

        Returns:
            `[1, D]`, of unit length.

        Raises:
            ValueError: the pipeline has no tower.
        """
        return self._encoded(prepare(_to_tensor(image), scale, self.transformer).lr)

    def _encoded(self, lr: Tensor) -> Tensor:
        if self.image_encoder is None or self.feature_extractor is None:
            raise ValueError(
                "the model was trained with an image vector and this pipeline has no image_encoder;"
                " load one, pass image_embeds, or pass image_embeds='none' to go without"
            )
        return embed(self.image_encoder, self.feature_extractor, lr)

    def _vector(self, lr: Tensor, given: Tensor | Literal["none"] | None) -> Tensor | None:
        dim = self.transformer.config.image_embed_dim
        if isinstance(given, Tensor):
            check_vector(given, dim)
            return given
        if dim is None:
            return None
        if given == "none":
            warnings.warn(
                "upscaling without the image vector that the model was trained with: the quality "
                "is unknown",
                stacklevel=4,
            )
            return None
        if given is not None:
            raise ValueError(f"image_embeds is {given!r}; pass a tensor, 'none' or None")
        return self._encoded(lr)


def _to_tensor(image: Picture) -> Tensor:
    """Turn a picture into `[1, 3, h, w]` on [-1, 1], float32."""
    if isinstance(image, Tensor):
        return image.to(torch.float32)
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"the picture is {pixels.dtype} {pixels.shape!r}; pass uint8 [h, w, 3]")
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def _size(image: Picture) -> tuple[int, int]:
    """Height and width of a picture."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return int(height), int(width)
