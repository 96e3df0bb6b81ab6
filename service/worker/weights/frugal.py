"""Run with less memory, more slowly: for what did not fit the first time.

Attention never holds its matrix here, so slicing it would save nothing. What does save: the network
takes one sample at a time, where guidance has it take two; whatever does not compute at the
moment waits in the machine's memory instead of on the device; the decoder works in smaller tiles
and keeps its feature maps off the device. The picture is the same but for rounding.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook

from hidiffusion.transformer.families import is_transformer
from service.worker.weights.compiling import uncompiled

_HOOK = "hidiffusion_service_one_by_one"

#: Side of the decoder's tiles in pixels; half of what it takes otherwise.
DECODER_TILE = 256


@contextlib.contextmanager
def frugal_denoising(pipe: Any) -> Iterator[None]:
    """Denoise inside the block with one sample at a time and the autoencoder parked.

    Diffusion transformers of the library's families keep their batch: most are guided without a
    second sample.
    """
    if is_transformer(pipe):
        with parked(pipe.vae), uncompiled():
            yield
        return
    network = getattr(pipe, "unet", None) or pipe.transformer
    registry = HookRegistry.check_if_exists_or_initialize(network)
    registry.register_hook(_OneByOne(), _HOOK)
    try:
        with parked(pipe.vae), uncompiled():
            yield
    finally:
        registry.remove_hook(_HOOK, recurse=False)


@contextlib.contextmanager
def parked(module: torch.nn.Module) -> Iterator[None]:
    """Keep a module that is not needed inside the block in the machine's memory."""
    device = next(module.parameters()).device
    packed = getattr(module, "hf_quantizer", None) is not None  # not every kind can be moved
    if device.type == "cpu" or packed:
        yield
        return
    module.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        module.to(device)


class _OneByOne(ModelHook):
    """Calls a network once for each sample of its batch.

    Each call is a whole one, from the outside, so that whatever plans its calls plans it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inside = False

    def new_forward(self, module: torch.nn.Module, sample: Any, *args: Any, **kwargs: Any) -> Any:
        """The predictions of all samples, as one call would give them."""
        forward: Any = self.fn_ref.original_forward
        if self._inside or len(sample) == 1:
            return forward(sample, *args, **kwargs)
        self._inside = True
        try:
            outputs = [
                module(*_one((sample, *args), n, len(sample)), **_one(kwargs, n, len(sample)))[0]
                for n in range(len(sample))
            ]
        finally:
            self._inside = False
        return (torch.cat(outputs),)


def _one(value: Any, number: int, count: int) -> Any:
    """What belongs to one sample, of whatever has a part for each."""
    if isinstance(value, torch.Tensor) and value.ndim and len(value) == count:
        return value[number : number + 1]
    if isinstance(value, dict):
        return {key: _one(inner, number, count) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_one(inner, number, count) for inner in value]
    return value
