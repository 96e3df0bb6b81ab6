"""Attention backends for U-Nets: what diffusers' `set_attention_backend` does not reach.

The processors that diffusers gives a U-Net call torch's attention by name. Here they stay what they
are, and only that one call is handed to diffusers' dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hidiffusion.upstream import Attention, dispatch_attention_fn


def set_attention_backend(network: nn.Module, backend: str) -> None:
    """Compute a network's attention by a backend of diffusers, in a U-Net as in a transformer.

    Works before and after `apply_hidiffusion`. A call with a mask, which most backends do not take,
    stays torch's. Processors that were set by hand stay. `network.reset_attention_backend()` goes
    back.

    Args:
        network: the U-Net or transformer of a pipeline.
        backend: a name that diffusers knows, such as "_native_cudnn", "flash", "_flash_3" or
            "sage" (https://huggingface.co/docs/diffusers/optimization/attention_backends).

    Raises:
        ValueError: there is no such backend.
        RuntimeError: its package is not installed.
    """
    # diffusers' own types say less of processors than there is.
    model: Any = network
    processor: Any = DispatchedAttnProcessor
    for module in model.modules():
        if isinstance(module, Attention) and _is_stock(module.processor):
            module.set_processor(processor())
    model.set_attention_backend(backend)


def _is_stock(processor: Any) -> bool:
    return type(processor) is AttnProcessor2_0


class DispatchedAttnProcessor(AttnProcessor2_0):
    """The stock processor; its attention is computed by the backend that is set, if any."""

    _attention_backend: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Attend as `AttnProcessor2_0` does."""
        if self._attention_backend is None:
            return super().__call__(*args, **kwargs)
        with _Dispatched(self._attention_backend):
            return super().__call__(*args, **kwargs)


class _Dispatched(TorchFunctionMode):
    """Hands torch's attention [B, heads, tokens, dim] to a backend, [B, tokens, heads, dim]."""

    def __init__(self, backend: Any) -> None:
        super().__init__()
        self._backend = backend

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        attends = func is functional.scaled_dot_product_attention
        if not attends or kwargs.get("attn_mask") is not None:
            return func(*args, **kwargs)
        query, key, value = (each.transpose(1, 2) for each in args)
        return dispatch_attention_fn(query, key, value, backend=self._backend).transpose(1, 2)
