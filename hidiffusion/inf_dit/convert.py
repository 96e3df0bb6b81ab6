"""Turns the authors' checkpoint into a folder that `from_pretrained` reads.

    python -m hidiffusion.inf_dit mp_rank_00_model_states.pt models/inf-dit

No key may be missing, and none may be left over but those that the authors' network never reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hidiffusion.inf_dit.transformer import InfDiTTransformer

#: Stored, and read by nothing: tables that are computed, an unused norm, and the image tower,
#: which is another model.
UNUSED = re.compile(
    r"mixins\.adaln_layer\.rope\.freqs_(cos|sin)"
    r"|transformer\.position_embeddings\.weight"
    r"|mixins\.adaln_layer\.k_layer_norm\..*"
    r"|image_encoder\..*"
)
#: The released model, in the words of its own flags.
RELEASED: dict[str, Any] = {
    "num_layers": 28,
    "hidden_size": 1280,
    "num_heads": 16,
    "mlp_ratio": 4,
    "patch_size": 4,
    "block_size_px": 128,
    "vector_dim": 768,
    "rope_modulo": 1024,
    "lr_patch_size": 2,
    "sr_scale": 4,
    "nearby_lr": True,
    "block_position_embedding": True,
    "qk_norm": True,
    "time_channels": 192,
    "sigma_data": 0.5,
    "norm_eps": 1e-6,
}


def from_original(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> InfDiTTransformer:
    """Build a model from tensors with the authors' names.

    Args:
        state_dict: what their checkpoint has under `module`.
        config: their settings: `num_layers`, `hidden_size`, `num_heads`, `mlp_ratio`,
            `patch_size`, `block_size_px`, `vector_dim`, `rope_modulo`, `lr_patch_size`,
            `sr_scale`, `nearby_lr`, `block_position_embedding`, `qk_norm`, `time_channels`,
            `sigma_data`, `norm_eps`; see `RELEASED`. Others are not looked at.

    Returns:
        The model in the dtype of the tensors, ready for use.

    Raises:
        ValueError: a tensor is missing, unknown, or has another shape.
    """
    with torch.device("meta"):  # the tensors given take the place of all
        model: InfDiTTransformer = InfDiTTransformer(**_ours(config))
    sources = {name: _source(name, config) for name in model.state_dict()}
    wanted = {source.name for source in sources.values()}
    missing = sorted(wanted - set(state_dict))
    unknown = sorted(name for name in set(state_dict) - wanted if not UNUSED.fullmatch(name))
    if missing or unknown:
        raise ValueError(
            f"the checkpoint does not fit the configuration: missing {missing[:5]!r} "
            f"({len(missing)} in all), unknown {unknown[:5]!r} ({len(unknown)} in all)"
        )
    state = {name: source.take(state_dict[source.name]) for name, source in sources.items()}
    for name, tensor in model.state_dict().items():
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{sources[name].name!r} has shape {tuple(state_dict[sources[name].name].shape)!r},"
                f" which does not give the {tuple(tensor.shape)!r} of {name!r}"
            )
    model.load_state_dict(state, strict=True, assign=True)
    model.eval().requires_grad_(False)
    return model


def load_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read the weights of a DeepSpeed checkpoint, executing nothing that it holds.

    Raises:
        ValueError: the file has no weights under `module`.
        pickle.UnpicklingError: it holds more than tensors and plain values; torch's message names
            the type, which `torch.serialization.add_safe_globals` admits if you trust it.
    """
    stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(stored, dict) or "module" not in stored:
        raise ValueError(
            f"{str(file)!r} holds no weights under 'module'; expected the authors' .pt"
        )
    weights: dict[str, Tensor] = stored["module"]
    return weights


@dataclass(frozen=True)
class Source:
    """Where one of our tensors lies in the authors' checkpoint.

    Attributes:
        name: their tensor.
        part: which of its `parts` equal pieces along the first axis.
        parts: how many tensors of ours it holds.
        packed: whether the pieces have a first axis of length 1 that ours do not have.
    """

    name: str
    part: int = 0
    parts: int = 1
    packed: bool = False

    def take(self, tensor: Tensor) -> Tensor:
        """Cut our tensor out of theirs."""
        piece = tensor.tensor_split(self.parts)[self.part]
        return (piece[0] if self.packed and len(piece) == 1 else piece).contiguous()


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the authors' settings into ours."""
    heads = config["num_heads"]
    renamed = {
        "num_attention_heads": heads,
        "attention_head_dim": config["hidden_size"] // heads,
        "block_size": config["block_size_px"],
        "image_embed_dim": config["vector_dim"],
        "block_embed": config["block_position_embedding"],
    }
    same = (
        *("num_layers", "mlp_ratio", "patch_size", "lr_patch_size", "sr_scale", "time_channels"),
        *("rope_modulo", "nearby_lr", "qk_norm", "norm_eps", "sigma_data"),
    )
    return renamed | {name: config[name] for name in same}


def _source(ours: str, config: Mapping[str, Any]) -> Source:
    """Find one of our tensors by its name."""
    layer = re.match(r"transformer_blocks\.(\d+)\.", ours)
    number = int(layer.group(1)) if layer else 0
    short = re.sub(r"^transformer_blocks\.\d+", "N", ours)
    if short == "N.attn1.block_embed":
        return Source("mixins.adaln_layer.re_pos_embed", number, config["num_layers"], packed=True)
    if short in _TABLES:
        return Source(_TABLES[short], packed=True)
    stem, _, kind = short.rpartition(".")
    name = f"{_PAIRS[stem].format(n=number)}.{kind}"
    return Source(name, *_PARTS.get(stem, (0, 1)))


#: Our tables of positions in the first layer, and theirs.
_TABLES = {
    "N.attn2.query_pos": "mixins.adaln_layer.lr_query_position_embedding",
    "N.attn2.key_pos": "mixins.adaln_layer.lr_key_position_embedding",
}
#: Ours that are one piece of theirs: which one, of how many.
_PARTS = {
    "N.attn1.to_q": (0, 3),
    "N.attn1.to_k": (1, 3),
    "N.attn1.to_v": (2, 3),
    "N.attn2.to_k": (0, 2),
    "N.attn2.to_v": (1, 2),
}
#: Our name with `N` for a layer, and theirs; `weight` and `bias` follow in both.
_PAIRS = {
    "patch_embed.proj": "mixins.patch_embed.proj",
    "time_embed.linear_1": "time_embed.mlp.0",
    "time_embed.linear_2": "time_embed.mlp.2",
    "image_embed.linear_1": "cond_embed.map_vector.0",
    "image_embed.linear_2": "cond_embed.map_vector.2",
    "lr_patch_embed.proj": "mixins.adaln_layer.proj_lr",
    "norm_out.linear": "mixins.final_layer.adaLN_modulation.1",
    "proj_out": "mixins.final_layer.linear",
    "N.norm1.linear": "mixins.adaln_layer.adaLN_modulations.{n}.1",
    "N.attn1.to_q": "transformer.layers.{n}.attention.query_key_value",
    "N.attn1.to_k": "transformer.layers.{n}.attention.query_key_value",
    "N.attn1.to_v": "transformer.layers.{n}.attention.query_key_value",
    "N.attn1.to_out.0": "transformer.layers.{n}.attention.dense",
    "N.attn1.norm_qk": "mixins.adaln_layer.q_layer_norm.{n}",
    "N.ff.net.0.proj": "transformer.layers.{n}.mlp.dense_h_to_4h",
    "N.ff.net.2": "transformer.layers.{n}.mlp.dense_4h_to_h",
    "N.attn2.to_q": "mixins.adaln_layer.cross_attention.query",
    "N.attn2.to_k": "mixins.adaln_layer.cross_attention.key_value",
    "N.attn2.to_v": "mixins.adaln_layer.cross_attention.key_value",
    "N.attn2.to_out.0": "mixins.adaln_layer.cross_attention.dense",
    "N.attn2.norm_q": "mixins.adaln_layer.cross_q_ln",
    "N.attn2.norm_k": "mixins.adaln_layer.cross_k_ln",
    "N.norm3": "mixins.adaln_layer.post_cross_attention_layernorm",
}
