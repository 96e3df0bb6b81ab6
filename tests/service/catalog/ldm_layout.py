"""Writes a pipeline as one `.safetensors` file in the layout of the first Stable Diffusion.

The reverse of what diffusers does when it reads such a file; names are those of the CompVis code.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE = {
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_TEXT = "cond_stage_model.transformer.text_model."


def write_single_file(pipe: Any, path: Path) -> None:
    """Write the U-Net, autoencoder and text encoder of a pipeline of SD 1.5's shape."""
    tensors = {
        f"model.diffusion_model.{_unet_name(name)}": tensor
        for name, tensor in pipe.unet.state_dict().items()
    }
    levels = len(pipe.vae.config.block_out_channels)
    for name, tensor in pipe.vae.state_dict().items():
        convolved = ".attentions." in name and tensor.ndim == 2
        value = tensor[:, :, None, None] if convolved else tensor
        tensors[f"first_stage_model.{_vae_name(name, levels)}"] = value
    for name, tensor in pipe.text_encoder.state_dict().items():
        tensors[_TEXT + name.removeprefix("text_model.")] = tensor
    save_file(
        {name: tensor.contiguous().to(torch.float16) for name, tensor in tensors.items()}, path
    )


def _unet_name(name: str) -> str:
    for ours, theirs in _UNET.items():
        if name.startswith(ours + "."):
            return _inner(theirs + name.removeprefix(ours))
    down = re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name)
    if down:
        level, kind, index, rest = down.groups()
        place = 1 + 3 * int(level) + int(index)
        return _inner(f"input_blocks.{place}.{int(kind == 'attentions')}.{rest}")
    shrink = re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.*)", name)
    if shrink:
        return f"input_blocks.{3 * (int(shrink[1]) + 1)}.0.op.{shrink[2]}"
    up = re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name)
    if up:
        level, kind, index, rest = up.groups()
        place = 3 * int(level) + int(index)
        return _inner(f"output_blocks.{place}.{int(kind == 'attentions')}.{rest}")
    grow = re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.*)", name)
    assert grow, name
    attends = int(grow[1]) > 0
    return f"output_blocks.{3 * int(grow[1]) + 2}.{1 + attends}.conv.{grow[2]}"


def _inner(name: str) -> str:
    if ".transformer_blocks." in name:
        return name
    for ours, theirs in _RESNET.items():
        name = re.sub(rf"(?<=\d\.){ours}(?=\.)", theirs, name)
    return name


def _vae_name(name: str, levels: int) -> str:
    for ours, theirs in _VAE.items():
        name = name.replace(ours, theirs)
    name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)

    def up(found: re.Match[str]) -> str:
        kind = "block." if found[2] == "resnets" else "upsample."
        return f"up.{levels - 1 - int(found[1])}.{kind}"

    name = re.sub(r"up_blocks\.(\d)\.(resnets)\.", up, name)
    return re.sub(r"up_blocks\.(\d)\.(upsamplers)\.0\.", up, name)
