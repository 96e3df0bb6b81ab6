"""The authors' checkpoints (github.com/qihao067/DiMR, commit fa141ae) as a `DiMRTransformer`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hidiffusion.dimr.transformer import DiMRTransformer
from hidiffusion.errors import InvalidConfigError

#: Time-dependent parameters, the only kind of normalisation that released checkpoints have.
NORM_TYPE = "TDRMSN"


def _released(dim: int, heads: int, blocks: tuple[int, int]) -> dict[str, Any]:
    common = {"image_input_ratio": 1, "final_kernel_size": 3, "dropout_prob": 0}
    return {
        "channels": 4,
        "num_classes": 1001,
        "norm_type": NORM_TYPE,
        "stages": [
            {
                "block_type": "TransformerBlock",
                "dim": dim,
                "hidden_dim": 2 * dim,
                "num_attention_heads": heads,
                "num_blocks": blocks[0],
                "max_height": 16,
                "max_width": 16,
                "input_feature_ratio": 2,
                **common,
            },
            {
                "block_type": "ConvNeXtBlock",
                "dim": dim // 2,
                "hidden_dim": dim,
                "kernel_size": 7,
                "num_blocks": blocks[1],
                "max_height": 32,
                "max_width": 32,
                "input_feature_ratio": 1,
                **common,
            },
        ],
    }


#: The configurations of the released checkpoints, for ImageNet at 256x256.
RELEASED: dict[str, dict[str, Any]] = {
    "DiMR-XL-2R": _released(960, 16, (39, 20)),
    "DiMR-G-2R": _released(1152, 16, (57, 29)),
}

#: Entries of a configuration that say something of training only; dropout is off in use.
_TRAINING_ONLY = {"dropout_prob"}

#: Names of the checkpoint and ours, tried in order on the part behind `stages.S.`.
_NAMES = [
    (r"input_layer\.1\.", "proj_in."),
    (r"input_layer\.3\.position_embeddings\.", "pos_embed."),
    (r"class_embeds\.", "class_embed."),
    (r"blocks\.(\d+)\.block([12])\.norm\.", r"blocks.\1.norm\2."),
    (r"blocks\.(\d+)\.block1\.dense\.", r"blocks.\1.attn1.to_out.0."),
    (r"blocks\.(\d+)\.block1\.1\.", r"blocks.\1.dwconv."),
    (r"blocks\.(\d+)\.block2\.w2\.", r"blocks.\1.ff.net.2."),
    (r"skip_denses\.", "skip_proj."),
    (r"upsample\.0\.", "lowres_norm."),
    (r"upsample\.1\.kernel\.", "lowres_proj."),
    (r"upsample\.2\.", "lowres_norm_out."),
    (r"output_layer\.0\.", "norm_out."),
    (r"output_layer\.2\.", "proj_out."),
]
_QKV = re.compile(r"(stages\.\d+\.blocks\.\d+)\.block1\.query_key_value\.weight")
_GATE = re.compile(r"stages\.\d+\.blocks\.\d+\.block2\.w0\.(weight|bias)")
_VALUE = re.compile(r"(stages\.\d+\.blocks\.\d+\.block2)\.w1\.(weight|bias)")


def from_original(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> DiMRTransformer:
    """Build the network of a checkpoint.

    Args:
        state_dict: the authors' flat dictionary; each of its tensors must be used.
        config: `channels`, `num_classes`, `norm_type` and `stages`, in the authors' names; those of
            the released checkpoints are in `RELEASED`.

    Returns:
        The network in evaluation mode, in the dtype of the checkpoint.

    Raises:
        InvalidConfigError: the configuration describes another kind of network, or tensors are
            missing, left over, or of another shape.
    """
    with torch.device("meta"):
        model: DiMRTransformer = DiMRTransformer(**model_config(config))
    converted = rename(state_dict)
    _compare(converted, model)
    model.load_state_dict(converted, assign=True)
    model.eval()
    return model


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `DiMRTransformer` for a configuration of the authors."""
    known = {"channels", "num_classes", "norm_type", "stages"}
    if set(config) != known:
        raise InvalidConfigError(
            f"the configuration has the entries {sorted(config)}; it needs {sorted(known)}"
        )
    if config["norm_type"] != NORM_TYPE:
        raise InvalidConfigError(
            f"norm_type is {config['norm_type']!r}; only {NORM_TYPE!r} is supported, which all "
            "released checkpoints have"
        )
    stages = [
        {name: value for name, value in stage.items() if name not in _TRAINING_ONLY}
        for stage in config["stages"]
    ]
    return {
        "stage_configs": stages,
        "in_channels": config["channels"],
        "num_classes": config["num_classes"],
    }


def rename(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of `DiMRTransformer`; unknown names stay as they are."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if match := _QKV.fullmatch(name):
            for part, third in zip("qkv", tensor.tensor_split(3), strict=True):
                renamed[f"{match[1]}.attn1.to_{part}.weight"] = third.contiguous()
        elif match := _VALUE.fullmatch(name):
            gate = state_dict.get(f"{match[1]}.w0.{match[2]}")
            parts = [tensor] if gate is None else [tensor, gate]
            # diffusers' GEGLU takes value and gate in one matrix, in this order.
            renamed[f"{match[1].removesuffix('block2')}ff.net.0.proj.{match[2]}"] = torch.cat(parts)
        elif not (_GATE.fullmatch(name) and name.replace(".w0.", ".w1.") in state_dict):
            renamed[_rename(name)] = tensor
    return renamed


def _rename(name: str) -> str:
    match = re.match(r"stages\.\d+\.", name)
    if match is None:
        return name
    for theirs, ours in _NAMES:
        new, count = re.subn("^" + theirs, ours, name[match.end() :])
        if count:
            return match[0] + new
    return name


def _compare(converted: Mapping[str, Tensor], model: DiMRTransformer) -> None:
    """Refuse tensors that are missing, left over, or of another shape."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in converted.items()}
    problems = {
        "missing": sorted(set(wanted) - set(found)),
        "left over": sorted(set(found) - set(wanted)),
        "of another shape": [
            f"{name} is {found[name]} instead of {wanted[name]}"
            for name in sorted(set(wanted) & set(found))
            if wanted[name] != found[name]
        ],
    }
    told = [f"{len(names)} {what}, such as {names[0]}" for what, names in problems.items() if names]
    if told:
        raise InvalidConfigError(
            f"the checkpoint does not fit the configuration: {'; '.join(told)}"
        )
