"""What a folder with a diffusion transformer is, by its configurations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Pixels along the side of a token, in every family: 8 to a latent, 2 latents to a token.
TOKEN_PIXELS = 16

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One of diffusers' pipelines that draw with a transformer which the library knows.

    Attributes:
        pipeline: its class.
        structure: what `Found` and the presets call it.
        model: class of its transformer.
        native_tokens: side of the training pictures, where the configuration does not say.
        packed: whether the transformer takes squares of 2x2 latents as channels.
        preset: names what suits it, from the configurations of transformer, scheduler and pipeline.
    """

    pipeline: str
    structure: str
    model: str
    preset: Callable[[Config, Config, Config], str]
    native_tokens: int = 64
    packed: bool = False


def _flux(transformer: Config, _scheduler: Config, _index: Config) -> str:
    """Schnell was distilled without a number for guidance."""
    return "flux-dev" if transformer.get("guidance_embeds") else "flux-schnell"


def _flux2_klein(_transformer: Config, _scheduler: Config, index: Config) -> str:
    return "flux2-klein" if index.get("is_distilled") else "flux2-klein-base"


def _z_image(_transformer: Config, scheduler: Config, _index: Config) -> str:
    """The model that Turbo was distilled from shifts its schedule by 6, Turbo by 3."""
    return "z-image" if scheduler.get("shift", 3.0) > 3 else "z-image-turbo"


def _sd3(transformer: Config, _scheduler: Config, _index: Config) -> str:
    """3.5 normalises queries and keys; its medium one has a second attention in some blocks."""
    if transformer.get("dual_attention_layers"):
        return "sd35-medium"
    return "sd35-large" if transformer.get("qk_norm") else "sd3-medium"


ROWS: tuple[Row, ...] = (
    Row("FluxPipeline", "flux", "FluxTransformer2DModel", _flux, packed=True),
    Row("ChromaPipeline", "chroma", "ChromaTransformer2DModel", lambda *_: "chroma", packed=True),
    Row("Flux2Pipeline", "flux2", "Flux2Transformer2DModel", lambda *_: "flux2-dev"),
    Row("Flux2KleinPipeline", "flux2", "Flux2Transformer2DModel", _flux2_klein),
    Row("ZImagePipeline", "z-image", "ZImageTransformer2DModel", _z_image),
    Row("StableDiffusion3Pipeline", "sd3", "SD3Transformer2DModel", _sd3),
)

BY_PIPELINE = {row.pipeline: row for row in ROWS}


def native_size(row: Row, transformer: Config) -> int:
    """Side of the training pictures in pixels, as the library finds it."""
    tokens = transformer.get("native_tokens")
    if tokens is None and isinstance(side := transformer.get("sample_size"), int):
        tokens = side // int(transformer.get("patch_size", 2))
    return TOKEN_PIXELS * int(tokens or row.native_tokens)


def trouble(row: Row, transformer: Config, vae: Config) -> str | None:
    """Why the service cannot draw with a transformer of this row, or None."""
    found = transformer.get("_class_name")
    if found != row.model:
        return f"its transformer is a {found}, where {row.pipeline} has a {row.model}"
    channels = transformer.get("in_channels")
    wanted = 4 * vae.get("latent_channels", 16)
    if row.packed and channels is not None and channels != wanted:
        return (
            f"its transformer takes {channels} channels, as those do that fill or are controlled, "
            f"where one that draws from words takes {wanted}; add the base model instead"
        )
    return None
