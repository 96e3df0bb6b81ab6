"""Asking a U-Net once more inside one of its own calls, about a smaller state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hidiffusion.methods.bands import BoxBand


@dataclass(frozen=True)
class UNetCall:
    """The arguments of a U-Net call.

    Attributes:
        sample: what the model sees, [B, C, h, w].
        timestep: as given to the model.
        rest: further arguments by place.
        named: further arguments by name.
    """

    sample: Tensor
    timestep: Any
    rest: tuple[Any, ...]
    named: dict[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> UNetCall:
        """Sort the arguments of a call."""
        named = dict(kwargs)
        first = args[0] if args else named.pop("sample")
        second = args[1] if len(args) > 1 else named.pop("timestep")
        return cls(first, second, args[2:], named)

    def ask(self, unet: nn.Module, state: Tensor, timestep: Any) -> Tensor:
        """Call the model on a smaller state with everything else of this call made to fit.

        Args:
            unet: the model.
            state: in the place of the sample, [B, C, h, w]; the channels that it lacks, the mask
                and picture of an edit, are the box means of the sample's.
            timestep: in the place of the call's.

        Returns:
            What the model says, [B, C, h, w].
        """
        size = (state.shape[-2], state.shape[-1])
        if self.sample.shape[1] > state.shape[1]:
            conditions = BoxBand(size).down(self.sample[:, state.shape[1] :])
            state = torch.cat([state, conditions], dim=1)
        named = self.pooled(size) | {"return_dict": False}
        answer: Tensor = unet(state, timestep, *self.rest, **named)[0]
        return answer

    def pooled(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return the named arguments for a state of this size."""
        named = dict(self.named)
        added = dict(named.get("added_cond_kwargs") or {})
        if added.get("time_ids") is not None:
            shrink = math.sqrt(math.prod(size) / math.prod(self.sample.shape[-2:]))
            added["time_ids"] = _shrunk_time_ids(added["time_ids"], shrink)
            named["added_cond_kwargs"] = added
        residuals = named.get("down_block_additional_residuals")
        if residuals is not None:
            top = residuals[0].shape[-2]
            named["down_block_additional_residuals"] = tuple(_fit(r, top, size) for r in residuals)
            middle = named["mid_block_additional_residual"]
            named["mid_block_additional_residual"] = _fit(middle, top, size)
        adapters = named.get("down_intrablock_additional_residuals")
        if adapters is not None:
            top = self.sample.shape[-2]
            named["down_intrablock_additional_residuals"] = [_fit(r, top, size) for r in adapters]
        return named


def _shrunk_time_ids(time_ids: Tensor, shrink: float) -> Tensor:
    """SDXL is told sizes and crops in pixels; the pooled picture's are smaller.

    Of six numbers all are pixels; of the refiner's five the last is the aesthetic score.
    """
    factors = torch.full_like(time_ids, shrink)
    if time_ids.shape[-1] == 5:
        factors[..., 4] = 1
    return time_ids * factors


def _fit(residual: Tensor, top: int, size: tuple[int, int]) -> Tensor:
    """Bring what a ControlNet or adapter adds to its level's map, in a pooled state of `size`.

    A level's map is the one above it halved, rounded up; `top` is the height of the first.
    """
    height, width = size
    for _ in range(round(math.log2(top / residual.shape[-2]))):
        height, width = -(-height // 2), -(-width // 2)
    return nn.functional.adaptive_avg_pool2d(residual, (height, width))
