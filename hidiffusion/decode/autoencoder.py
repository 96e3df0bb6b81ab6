"""An AutoencoderKL taken apart into layers, by its structure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import (
    AttnDownEncoderBlock2D,
    AttnUpDecoderBlock2D,
    DownEncoderBlock2D,
    UNetMidBlock2D,
    UpDecoderBlock2D,
)
from diffusers.models.upsampling import Upsample2D
from torch import nn

from hidiffusion.decode.errors import UnsupportedAutoencoderError
from hidiffusion.decode.layers import AttentionLayer, ConvLayer, Layer, ResnetLayer
from hidiffusion.decode.network import Network
from hidiffusion.decode.tiles import Reach
from hidiffusion.upstream import unwrap

_BLOCKS = (AttnDownEncoderBlock2D, AttnUpDecoderBlock2D, DownEncoderBlock2D, UpDecoderBlock2D)


@dataclass(frozen=True)
class Traits:
    """What the tiled coders need to know of an autoencoder.

    Attributes:
        factor: pixels per latent along one axis: 8 for Stable Diffusion.
        latent_channels: channels of its latents: 4 for Stable Diffusion, 16 for later families.
        image_channels: channels of the pictures that it encodes.
        device: where it computes.
        dtype: of its weights.
    """

    factor: int
    latent_channels: int
    image_channels: int
    device: torch.device
    dtype: torch.dtype


def configuration(vae: Any) -> Any:
    """Give the configuration of `vae`, which diffusers leaves untyped."""
    return vae.config


def traits_of(vae: Any) -> Traits:
    """Describe `vae`, brought to its device first where accelerate keeps it offloaded.

    Raises:
        UnsupportedAutoencoderError: if it is no `AutoencoderKL`, or is offloaded module by module,
            so that weights are only there during a module's own call.
    """
    require_kind(vae)
    hook = getattr(vae, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(vae)
        if vae.device.type == "meta":
            raise UnsupportedAutoencoderError(
                "the autoencoder is under sequential CPU offload, which hides its weights; "
                "use enable_model_cpu_offload instead"
            )
    config = configuration(vae)
    factor = 2 ** (len(config.block_out_channels) - 1)
    return Traits(factor, config.latent_channels, config.in_channels, vae.device, vae.dtype)


def require_kind(vae: Any) -> None:
    """Refuse what is no `AutoencoderKL` or Flux.2's, before anything is asked of it.

    Raises:
        UnsupportedAutoencoderError: naming the class.
    """
    kind = type(unwrap(vae)) if isinstance(vae, nn.Module) else type(vae)
    # Flux.2's is built of the same parts; diffusers before 0.36 has no such class to ask for.
    if not issubclass(kind, AutoencoderKL) and kind.__name__ != "AutoencoderKLFlux2":
        raise UnsupportedAutoencoderError(
            f"the autoencoder is {kind.__name__!r}, which cannot be tiled exactly: use an "
            "AutoencoderKL, or call its own decode and encode"
        )


def latents_per_tile(tile: int, traits: Traits) -> int:
    """Convert the edge of a tile from pixels to latents.

    Raises:
        ValueError: unless it is a positive whole number.
    """
    if tile < traits.factor or tile % traits.factor:
        raise ValueError(
            f"tile is {tile!r} pixels; it must be a positive multiple of {traits.factor}"
        )
    return tile // traits.factor


def decoder_network(vae: Any) -> Network:
    """Take apart `vae.decode`.

    Raises:
        UnsupportedAutoencoderError: if a part's tiled form is not known.
    """
    require_kind(vae)
    decoder: Any = unwrap(vae.decoder)
    before = _present(vae.post_quant_conv)
    _require(isinstance(decoder, Decoder), "decoder", decoder)
    layers: list[Layer] = [ConvLayer("decoder.conv_in", [*before, decoder.conv_in])]
    layers += _mid_layers("decoder.mid_block", decoder.mid_block)
    for index, block in enumerate(decoder.up_blocks):
        layers += _block_layers(f"decoder.up_blocks.{index}", block)
    modules = [decoder.conv_act, decoder.conv_out]
    head = ConvLayer("decoder.conv_norm_out", modules, norm=decoder.conv_norm_out)
    return Network([*before, decoder], layers, head)


def encoder_network(vae: Any) -> Network:
    """Take apart `vae.encode`, up to the moments.

    Raises:
        UnsupportedAutoencoderError: if a part's tiled form is not known.
    """
    require_kind(vae)
    encoder: Any = unwrap(vae.encoder)
    behind = _present(vae.quant_conv)
    _require(isinstance(encoder, Encoder), "encoder", encoder)
    layers: list[Layer] = [ConvLayer("encoder.conv_in", [encoder.conv_in])]
    for index, block in enumerate(encoder.down_blocks):
        layers += _block_layers(f"encoder.down_blocks.{index}", block)
    layers += _mid_layers("encoder.mid_block", encoder.mid_block)
    modules = [encoder.conv_act, encoder.conv_out, *behind]
    head = ConvLayer("encoder.conv_norm_out", modules, norm=encoder.conv_norm_out)
    return Network([encoder, *behind], layers, head)


def _present(module: nn.Module | None) -> list[nn.Module]:
    return [] if module is None else [module]


def _mid_layers(name: str, block: Any) -> Iterator[Layer]:
    _require(isinstance(block, UNetMidBlock2D), name, block)
    attentions = [None, *block.attentions]
    for index, (attention, resnet) in enumerate(zip(attentions, block.resnets, strict=True)):
        if attention is not None:
            yield _attention(f"{name}.attentions.{index - 1}", attention)
        yield _resnet(f"{name}.resnets.{index}", resnet)


def _block_layers(name: str, block: Any) -> Iterator[Layer]:
    _require(isinstance(block, _BLOCKS), name, block)
    attentions = getattr(block, "attentions", [None] * len(block.resnets))
    for index, (resnet, attention) in enumerate(zip(block.resnets, attentions, strict=True)):
        yield _resnet(f"{name}.resnets.{index}", resnet)
        if attention is not None:
            yield _attention(f"{name}.attentions.{index}", attention)
    for sampler in getattr(block, "upsamplers", None) or getattr(block, "downsamplers", None) or ():
        yield _sampler(f"{name}.{type(sampler).__name__}", sampler)


def _resnet(name: str, resnet: Any) -> ResnetLayer:
    known = isinstance(resnet, ResnetBlock2D) and resnet.time_emb_proj is None
    _require(known and resnet.upsample is None and resnet.downsample is None, name, resnet)
    return ResnetLayer(name, resnet)


def _attention(name: str, attention: Any) -> AttentionLayer:
    known = isinstance(attention, Attention) and attention.group_norm is not None
    _require(known and attention.spatial_norm is None, name, attention)
    return AttentionLayer(name, attention)


def _sampler(name: str, sampler: Any) -> ConvLayer:
    if isinstance(sampler, Upsample2D) and sampler.interpolate:
        _require(sampler.use_conv and sampler.norm is None, name, sampler)
        return ConvLayer(name, [sampler], Reach.UPSAMPLE)
    known = isinstance(sampler, Downsample2D) and sampler.padding == 0
    _require(known and sampler.use_conv and sampler.norm is None, name, sampler)
    return ConvLayer(name, [sampler], Reach.DOWNSAMPLE)


def _require(known: bool, name: str, module: nn.Module) -> None:
    if not known:
        raise UnsupportedAutoencoderError(
            f"{name} is {type(module).__name__!r} in a form that cannot be tiled exactly: "
            "use an AutoencoderKL, or call its own decode and encode"
        )
