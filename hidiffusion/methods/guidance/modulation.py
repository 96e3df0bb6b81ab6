"""Attention modulation of FAM diffusion (arXiv 2411.18552): attention maps of native size guide.

The self-attention maps M of a large picture are mixed with those that the model has at native size:
(1 - weight) * M + weight * U[M_native]. U spreads each entry over the boxes of its query and its
key and divides by the keys in a box, so that rows still sum to 1.

No map is made. U[M_native] V is M_native times the box means of V, spread over the boxes of the
queries, and means pass through the linear projections, so the extra work is that of native size,
and whatever computes the attention stays. In each step the model sees the finished native picture
with the noise of that step, as an alternative to keeping the maps of a whole native run in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hidiffusion.methods.bands import BoxBand
from hidiffusion.methods.guidance.inner_calls import UNetCall
from hidiffusion.methods.noise import noise_of
from hidiffusion.unet.patch import unpatched_calls
from hidiffusion.unet.sites import find_unet
from hidiffusion.upstream import BasicTransformerBlock, Transformer2DModel, guard_hooks

#: Height and width of a feature map.
Shape = tuple[int, int]


def native_attention(
    attention: Any, tokens: Tensor, size: Shape, native: Tensor, native_size: Shape
) -> Tensor:
    """Return what a self-attention gives if its map is the enlarged one of native size.

    Args:
        attention: a diffusers `Attention`.
        tokens: its input, [B, h * w, C].
        size: h and w.
        native: its input at native size, [B, n, C].
        native_size: height and width of that.

    Returns:
        The output, [B, h * w, C].
    """
    box = BoxBand(native_size)
    pooled = _tokens(box.down(_map(tokens, size)))
    query, key, value = (
        projection(each).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for projection, each in zip(
            (attention.to_q, attention.to_k, attention.to_v), (native, native, pooled), strict=True
        )
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    low = mixed.transpose(1, 2).flatten(2)
    for layer in attention.to_out:
        low = layer(low)
    return _tokens(box.up(_map(low, native_size), size))


def _map(tokens: Tensor, size: Shape) -> Tensor:
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


def _tokens(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).transpose(1, 2)


class NativeCall:
    """Forward pre-hook of a U-Net: before each call, asks about the native picture.

    Attributes:
        asking: whether that call is under way.
        size: of the feature map that the transformer under way works on.

    Args:
        pipe: gives the scheduler.
        native: finished native latents, [B, C, h, w].
        generator: draws their noise, once.
    """

    def __init__(self, pipe: Any, native: Tensor, generator: Any) -> None:
        self._pipe = pipe
        self._native = native
        self._noise = randn_tensor(
            native.shape, generator=generator, device=native.device, dtype=native.dtype
        )
        self.asking = False
        self.size: Shape = (0, 0)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call the U-Net at native size; `Modulation` keeps what it needs of that."""
        if self.asking:
            return
        call = UNetCall.of(args, kwargs)
        scheduler = self._pipe.scheduler
        noise = noise_of(scheduler, call.timestep)
        state = noise.alpha * self._native + noise.sigma * self._noise
        state = scheduler.scale_model_input(state, call.timestep).to(call.sample)
        branches = call.sample.shape[0] // state.shape[0]
        self.asking = True
        try:
            with unpatched_calls(unet):
                call.ask(unet, state.repeat(branches, 1, 1, 1), call.timestep)
        finally:
            self.asking = False

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def measure(self, transformer: nn.Module, args: tuple[Any, ...]) -> None:
        """Note the size of a transformer's feature map: a forward pre-hook of it."""
        del transformer
        self.size = (args[0].shape[-2], args[0].shape[-1])


class Modulation:
    """Hooks of one self-attention: note its input, and mix native attention into its output.

    Args:
        call: tells which call is under way.
        weight: share of the native map.
    """

    def __init__(self, call: NativeCall, weight: float) -> None:
        self._call = call
        self._weight = weight
        self._native: tuple[Tensor, Shape] | None = None
        self._tokens: Tensor | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def note(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the input, before windows are cut from it: a forward pre-hook."""
        del attention
        tokens = args[0] if args else kwargs["hidden_states"]
        if self._call.asking:
            self._native = tokens, self._call.size
        else:
            self._tokens = tokens

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def mix(self, attention: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Return the modulated output: a forward hook."""
        del args
        if self._call.asking or self._native is None or self._tokens is None:
            return None
        low = native_attention(attention, self._tokens, self._call.size, *self._native)
        self._native = self._tokens = None
        return torch.lerp(output, low, self._weight)


@contextmanager
def modulated_attention(pipe: Any, native: Tensor, generator: Any, weight: float) -> Iterator[None]:
    """Mix native attention maps into those of a larger run inside a `with` block.

    Acts on the self-attentions of the first up block that has any, as published. Enter it after
    HiDiffusion, so that its calls of native size are planned by themselves.

    Args:
        pipe: a diffusers pipeline with a U-Net.
        native: the finished native latents, [B, C, h, w].
        generator: draws their noise; one, or one for each sample.
        weight: share of the native maps; 0 leaves the pipeline as it is.
    """
    if weight == 0:
        yield
        return
    guard_hooks()
    with ExitStack() as hooks:
        for handle in _hooks(find_unet(pipe), NativeCall(pipe, native, generator), weight):
            hooks.callback(handle.remove)
        yield


def _hooks(unet: Any, call: NativeCall, weight: float) -> Iterator[RemovableHandle]:
    yield unet.register_forward_pre_hook(call, with_kwargs=True, prepend=True)
    block = next(block for block in unet.up_blocks if hasattr(block, "attentions"))
    for module in block.modules():
        if isinstance(module, Transformer2DModel):
            yield module.register_forward_pre_hook(call.measure)
        elif isinstance(module, BasicTransformerBlock) and not module.only_cross_attention:
            each, attention = Modulation(call, weight), module.attn1
            yield attention.register_forward_pre_hook(each.note, with_kwargs=True, prepend=True)
            yield attention.register_forward_hook(each.mix)
