"""The diffusion transformers that are known, one row a class of diffusers.

Native sizes and position axes: the models' own configurations and diffusers 0.42.1. Only SD3's
configuration tells a native size, and all rows can be overruled by `native_tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import diffusers
from packaging.version import Version

from hidiffusion.errors import UnsupportedModelError
from hidiffusion.upstream import unwrap

#: What transformers are tried with; older versions pass other arguments, and name parts otherwise.
_LEAST_DIFFUSERS = Version("0.42")


@dataclass(frozen=True, kw_only=True)
class Family:
    """What distinguishes the transformers of one class.

    Attributes:
        name: for people and messages.
        model: name of the class in diffusers.
        native_tokens: side of the training pictures in tokens.
        positions: how positions reach the model: "ids", a tensor of coordinates; "shapes", the
            grid's sides; "tables", looked up by the model itself; "learned", a table that is added.
        axes: which axes of the rotary embedding are the rows and the columns.
        latents: how latents look at `scheduler.step`: "plain" [B, C, h, w], "packed" with 2x2
            squares in the channels [B, N, 4 C], or "patches" [B, N, C] of which each is one token.
        patch: latents along the side of a token; 1 where latents are patches already.
        shift: how the pipeline finds the shift of the schedule: "linear" in the tokens, or
            "empirical", Flux.2's own rule.
        joint: whether both axes are scaled alike unless asked otherwise. Users of Z-Image find
            artifacts where they are not (ComfyUI-DyPE's notes on its settings).
    """

    name: str
    model: str
    native_tokens: int
    positions: str
    axes: tuple[int, int] = (1, 2)
    latents: str = "packed"
    patch: int = 2
    shift: str = "linear"
    joint: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(name="Flux.1", model="FluxTransformer2DModel", native_tokens=64, positions="ids"),
    Family(name="Chroma", model="ChromaTransformer2DModel", native_tokens=64, positions="ids"),
    Family(
        name="Flux.2",
        model="Flux2Transformer2DModel",
        native_tokens=64,
        positions="ids",
        latents="patches",
        patch=1,
        shift="empirical",
    ),
    Family(
        name="Qwen-Image",
        model="QwenImageTransformer2DModel",
        native_tokens=83,
        positions="shapes",
    ),
    Family(
        name="Z-Image",
        model="ZImageTransformer2DModel",
        native_tokens=64,
        positions="tables",
        latents="plain",
        joint=True,
    ),
    Family(
        name="Stable Diffusion 3",
        model="SD3Transformer2DModel",
        native_tokens=64,
        positions="learned",
        latents="plain",
    ),
)


def find_transformer(model: object) -> Any:
    """Return the transformer of a pipeline, or the model itself if it is one.

    Raises:
        UnsupportedModelError: there is none of a known family.
    """
    inner = getattr(model, "transformer", None)
    found: Any = unwrap(model if inner is None else inner)  # type: ignore[arg-type]
    family_of(found)
    return found


def is_transformer(model: object) -> bool:
    """Tell whether a pipeline, or the model itself, is of a family of this table."""
    inner = getattr(model, "transformer", None)
    found: Any = model if inner is None else inner
    return any(row.model == type(unwrap(found)).__name__ for row in FAMILIES)


def family_of(transformer: object) -> Family:
    """Return the row of a transformer.

    Raises:
        UnsupportedModelError: its class is in no row, a setting of it is not known, or diffusers
            is older than what these models were tried with.
    """
    name = type(transformer).__name__
    for row in FAMILIES:
        if row.model == name:
            if Version(diffusers.__version__) < _LEAST_DIFFUSERS:
                raise UnsupportedModelError(
                    f"found {name} of diffusers {diffusers.__version__}; on diffusion transformers "
                    f"hidiffusion needs {_LEAST_DIFFUSERS} or later: "
                    f"pip install 'diffusers>={_LEAST_DIFFUSERS}'"
                )
            _refuse_variants(row, transformer)
            return row
    known = ", ".join(f"{row.model} ({row.name})" for row in FAMILIES)
    raise UnsupportedModelError(
        f"found {name}, which is no transformer of a known family; known are {known}"
    )


def native_tokens(transformer: Any) -> int:
    """Return the side of the training pictures in tokens.

    Args:
        transformer: of a known family. A fine-tuned one of another size says so by
            `transformer.register_to_config(native_tokens=...)`.
    """
    told = getattr(transformer.config, "native_tokens", None)
    if told is not None:
        return int(told)
    side = getattr(transformer.config, "sample_size", None)
    if side is None:
        return family_of(transformer).native_tokens
    return int(side) // int(transformer.config.patch_size)


def _refuse_variants(row: Family, transformer: Any) -> None:
    if row.positions == "shapes" and type(transformer.pos_embed).__name__ != "QwenEmbedRope":
        raise UnsupportedModelError(
            f"found a {row.model} for layered pictures (use_layer3d_rope), whose positions are "
            "those of several pictures; use one that draws a single picture"
        )
    if row.positions == "learned" and transformer.config.pos_embed_max_size is None:
        raise UnsupportedModelError(
            f"found a {row.model} without pos_embed_max_size; give one with a table of positions"
        )
