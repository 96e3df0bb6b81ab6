"""Tiny random transformers of every family, with the structure of the real ones.

Two blocks of each kind, two heads, a native size of eight tokens. Same seed, same weights.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    ChromaTransformer2DModel,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from torch import Tensor

#: Side of the training pictures, in tokens.
NATIVE = 8
#: Tokens of a prompt.
TEXT = 5

_FLUX: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 8,
    "axes_dims_rope": (4, 6, 6),
}


@dataclass(frozen=True)
class Tiny:
    """A family's tiny model.

    Attributes:
        model: its class.
        config: its configuration.
    """

    model: type[Any]
    config: dict[str, Any]

    def build(self, dtype: torch.dtype = torch.float32) -> Any:
        """Build the model; same weights in every call."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            # diffusers warns of a name that its own Chroma uses.
            warnings.simplefilter("ignore", FutureWarning)
            model = self.model(**self.config).eval().requires_grad_(False)
        for name, weight in model.named_parameters():
            if weight.dim() > 1 or "pad_token" in name:
                torch.nn.init.normal_(weight, std=0.2)
        model.register_to_config(native_tokens=NATIVE)
        return model.to(dtype)

    def arguments(
        self, rows: int, columns: int, *, batch: int = 1, seed: int = 1, **changes: Any
    ) -> dict[str, Any]:
        """Return the arguments of a call on a picture of so many tokens."""
        draw = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw)

        made = _ARGUMENTS[self.model.__name__](random, rows, columns, batch)
        return made | {"return_dict": False} | changes


def output(model: Any, arguments: dict[str, Any]) -> Tensor:
    """Call a model and return its answer as one tensor."""
    with torch.no_grad():
        answer = model(**arguments)[0]
    return torch.stack(answer) if isinstance(answer, list) else answer


def _ids(rows: int, columns: int, axes: int) -> Tensor:
    ids = torch.zeros(rows, columns, axes)
    ids[..., 1] = torch.arange(rows)[:, None]
    ids[..., 2] = torch.arange(columns)[None]
    return ids.flatten(0, 1)


def _flux(random: Any, rows: int, columns: int, batch: int) -> dict[str, Any]:
    return {
        "hidden_states": random(batch, rows * columns, 16),
        "encoder_hidden_states": random(batch, TEXT, 8),
        "pooled_projections": random(batch, 8),
        "timestep": torch.full((batch,), 0.5),
        "img_ids": _ids(rows, columns, 3),
        "txt_ids": torch.zeros(TEXT, 3),
    }


def _chroma(random: Any, rows: int, columns: int, batch: int) -> dict[str, Any]:
    arguments = _flux(random, rows, columns, batch)
    del arguments["pooled_projections"]
    mask = torch.ones(batch, TEXT + rows * columns)
    mask[:, 3:TEXT] = 0
    return arguments | {"attention_mask": mask}


def _flux2(random: Any, rows: int, columns: int, batch: int) -> dict[str, Any]:
    text_ids = torch.zeros(TEXT, 4)
    text_ids[:, 3] = torch.arange(TEXT)
    return {
        "hidden_states": random(batch, rows * columns, 16),
        "encoder_hidden_states": random(batch, TEXT, 8),
        "timestep": torch.full((batch,), 0.5),
        "guidance": torch.full((batch,), 3.0),
        "img_ids": _ids(rows, columns, 4)[None].expand(batch, -1, -1),
        "txt_ids": text_ids[None].expand(batch, -1, -1),
    }


def _qwen(random: Any, rows: int, columns: int, batch: int) -> dict[str, Any]:
    mask = torch.ones(batch, TEXT, dtype=torch.long)
    mask[:, 3:] = 0
    return {
        "hidden_states": random(batch, rows * columns, 16),
        "encoder_hidden_states": random(batch, TEXT, 8),
        "encoder_hidden_states_mask": mask,
        "timestep": torch.full((batch,), 0.5),
        "img_shapes": [[(1, rows, columns)]] * batch,
    }


def _z_image(random: Any, rows: int, columns: int, batch: int) -> dict[str, Any]:
    return {
        "x": list(random(batch, 4, 1, 2 * rows, 2 * columns)),
        "t": torch.full((batch,), 0.5),
        # Of different lengths beyond a multiple of 32, so that the shorter is masked.
        "cap_feats": [random(TEXT + 32 * sample, 8) for sample in range(batch)],
    }


def _sd3(random: Any, rows: int, columns: int, batch: int) -> dict[str, Any]:
    return {
        "hidden_states": random(batch, 4, 2 * rows, 2 * columns),
        "encoder_hidden_states": random(batch, TEXT, 8),
        "pooled_projections": random(batch, 8),
        "timestep": torch.full((batch,), 500.0),
    }


_ARGUMENTS = {
    "FluxTransformer2DModel": _flux,
    "ChromaTransformer2DModel": _chroma,
    "Flux2Transformer2DModel": _flux2,
    "QwenImageTransformer2DModel": _qwen,
    "ZImageTransformer2DModel": _z_image,
    "SD3Transformer2DModel": _sd3,
}

FAMILIES: dict[str, Tiny] = {
    "flux": Tiny(FluxTransformer2DModel, _FLUX | {"pooled_projection_dim": 8}),
    "chroma": Tiny(
        ChromaTransformer2DModel,
        _FLUX
        | {
            "approximator_num_channels": 8,
            "approximator_hidden_dim": 8,
            "approximator_layers": 1,
        },
    ),
    "flux2": Tiny(
        Flux2Transformer2DModel,
        _FLUX | {"axes_dims_rope": (4, 4, 4, 4), "timestep_guidance_channels": 8},
    ),
    "qwen": Tiny(
        QwenImageTransformer2DModel,
        {key: value for key, value in _FLUX.items() if key != "num_single_layers"}
        | {"out_channels": 4},
    ),
    "z-image": Tiny(
        ZImageTransformer2DModel,
        {
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 8,
            "axes_dims": [4, 6, 6],
            "axes_lens": [128, 32, 32],
        },
    ),
    "sd3": Tiny(
        SD3Transformer2DModel,
        {
            "sample_size": 2 * NATIVE,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 8,
            "pos_embed_max_size": 12,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
    ),
}
