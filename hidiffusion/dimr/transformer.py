"""DiMR: a diffusion network that refines features over several resolutions.

Liu et al., NeurIPS 2024, arXiv 2406.09416. The first stage is a Transformer at the lowest
resolution; each further stage is a ConvNeXt stack at a higher one, and sees what every block below
it made. Each stage estimates the noise at its own resolution; the last one's is the network's
answer, the others serve the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from hidiffusion.dimr.config import read_stages
from hidiffusion.dimr.stage import Stage, StageOutput
from hidiffusion.errors import InvalidConfigError


@dataclass
class DiMROutput(BaseOutput):
    """What the network estimates.

    Attributes:
        sample: the noise, `[B, c, H, W]`: the last stage's estimate.
        stages: every stage's estimate at its own resolution, lowest first; the last is `sample`.
    """

    sample: Tensor
    stages: tuple[Tensor, ...]


class DiMRTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The network of any number of stages; the authors have two and three.

    It keeps nothing between calls, so several threads may call it at once.

    Args:
        stage_configs: keyword arguments of `StageConfig` of each stage, lowest resolution first.
        in_channels: channels of the latents.
        num_classes: entries of the class table; the last is the null class of guidance.

    Raises:
        InvalidConfigError: the stages do not fit each other.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        stage_configs: Sequence[Mapping[str, Any]],
        in_channels: int = 4,
        num_classes: int = 1001,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        read = read_stages(stage_configs)
        self.stages = nn.ModuleList(
            Stage(in_channels, stage, below, num_classes)
            for stage, below in zip(read, (None, *read), strict=False)
        )
        self._sizes = read
        self._num_classes = num_classes
        self._channels = in_channels

    @property
    def sample_size(self) -> tuple[int, int]:
        """Height and width of the latents it was made for; smaller ones run, larger ones fail."""
        last = self._sizes[-1]
        return last.max_height * last.reduction, last.max_width * last.reduction

    @property
    def in_channels(self) -> int:
        """Channels of the latents."""
        return self._channels

    @property
    def null_class(self) -> int:
        """The class that stands for none in guidance."""
        return self._num_classes - 1

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor,
        return_dict: bool = True,
    ) -> DiMROutput | tuple[Tensor, tuple[Tensor, ...]]:
        """Estimate the noise in `sample`.

        Args:
            sample: noisy latents `[B, c, H, W]` in the network's dtype.
            timestep: the label n in (0, 1000], which is a scheduler's timestep plus 1: `[B]`, one a
                sample, or a single one for all. Not rounded.
            class_labels: `[B]`, int64.
            return_dict: False gives the fields of the result as a tuple.

        Raises:
            InvalidConfigError: the latents are larger than the tables of positions, or their sides
                are no multiple of the coarsest stage's.
        """
        self._check(sample)
        results: list[StageOutput] = []
        condition: Tensor | Sequence[Tensor] = class_labels
        labels = self._labels(sample, timestep)
        for stage in self.stages:
            results.append(stage(sample, labels, condition))
            condition = results[-1].features
        noises = tuple(result.sample for result in results)
        return DiMROutput(noises[-1], noises) if return_dict else (noises[-1], noises)

    def _labels(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        """Return labels in float32 at least: half precision has no 999 beside 1000."""
        dtype = torch.promote_types(torch.float32, sample.dtype)
        if isinstance(timestep, Tensor):
            floating = timestep.is_floating_point()
            return timestep.to(sample.device, timestep.dtype if floating else dtype)
        return torch.tensor(timestep, device=sample.device, dtype=dtype)

    def _check(self, sample: Tensor) -> None:
        """Refuse latents of a size that some stage cannot hold."""
        height, width = sample.shape[-2:]
        largest = self.sample_size
        coarsest = max(stage.reduction for stage in self._sizes)
        if height > largest[0] or width > largest[1]:
            raise InvalidConfigError(
                f"latents of {height}x{width} are larger than the {largest[0]}x{largest[1]} that "
                "this DiMR has positions for; make the picture larger with an upscaler"
            )
        if height % coarsest or width % coarsest:
            raise InvalidConfigError(
                f"latents of {height}x{width} cannot be divided by {coarsest}, the reduction of "
                "the coarsest stage; use multiples of it"
            )
