"""ControlNets beside warm pipelines: loaded once, and given to the runs that name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel

from service.domain.models.catalog import Model
from service.domain.models.controls import ControlChoice, ControlNet
from service.worker.job.failures import (
    ModelUnavailable,
    UnsupportedRequest,
    device_is_lost,
    is_out_of_memory,
)

#: What a ControlNet copies of its U-Net, and must have in common with any that it speaks to.
_SHARED = ("block_out_channels", "cross_attention_dim", "addition_embed_type")


@dataclass(frozen=True)
class WarmControlNet:
    """A loaded ControlNet.

    Attributes:
        source: where it came from.
        module: a diffusers `ControlNetModel`, on its device.
    """

    source: str
    module: Any

    @property
    def weights(self) -> int:
        """Bytes of its parameters."""
        return sum(weight.nbytes for weight in self.module.parameters())


def offered_control(model: Model, name: str) -> ControlNet:
    """The ControlNet that a model has under a name.

    Raises:
        UnsupportedRequest: there is none in this worker's catalogue.
    """
    net = next((net for net in model.controls if net.name == name), None)
    if net is None:
        known = ", ".join(net.name for net in model.controls) or "none"
        raise UnsupportedRequest(
            f"model {model.name!r} has no ControlNet {name!r} in this worker's catalogue; "
            f"it has: {known}"
        )
    return net


def load_controlnet(net: ControlNet, device: torch.device, dtype: torch.dtype) -> WarmControlNet:
    """Load a ControlNet.

    Raises:
        ModelUnavailable: it cannot be loaded.
    """
    loader: Any = ControlNetModel
    try:
        module = loader.from_pretrained(
            net.source, torch_dtype=dtype, local_files_only=Path(net.source).is_dir()
        )
    except Exception as error:
        if is_out_of_memory(error) or device_is_lost(error):
            raise
        raise ModelUnavailable(f"ControlNet {net.name!r}", net.source, error) from error
    # Frozen, as every warm weight is: torch rounds otherwise where one could be learned.
    return WarmControlNet(net.source, module.requires_grad_(False).eval().to(device))


def check_fits(net: ControlNet, warm: WarmControlNet, unet: Any) -> None:
    """Refuse a ControlNet that was made for U-Nets of another kind.

    Raises:
        ModelUnavailable: naming what differs.
    """
    for name in _SHARED:
        own, wanted = warm.module.config.get(name), unet.config.get(name)
        if _plain(own) != _plain(wanted):
            cause = ValueError(f"it is for another model: its {name} is {own}, not {wanted}")
            raise ModelUnavailable(f"ControlNet {net.name!r}", net.source, cause)


def control_arguments(
    chosen: Sequence[ControlChoice], maps: Sequence[Any], *, image: bool
) -> dict[str, Any]:
    """What a pipeline with ControlNets is called with.

    Args:
        chosen: what a request names.
        maps: the picture of each, of the request's size.
        image: whether the pipeline starts from a picture, which is then called `image`.
    """
    if not chosen:
        return {}
    return {
        "control_image" if image else "image": list(maps),
        "controlnet_conditioning_scale": [choice.scale for choice in chosen],
        "control_guidance_start": [choice.start for choice in chosen],
        "control_guidance_end": [choice.end for choice in chosen],
    }


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, list | tuple) else value
