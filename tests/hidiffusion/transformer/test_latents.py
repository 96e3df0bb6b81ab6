"""Latents as feature maps, against the pipelines' own packing."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import Flux2Pipeline, FluxPipeline, QwenImagePipeline

from hidiffusion.errors import InvalidConfigError
from hidiffusion.transformer.latents import Layout, layout_of
from tests.hidiffusion.tiny.transformers import FAMILIES

ROWS, COLUMNS = 3, 5


def test_unpacking_is_that_of_the_pipelines() -> None:
    packed = torch.randn(2, ROWS * COLUMNS, 64)
    found = Layout("packed", ROWS, COLUMNS).unpack(packed)
    size = (16 * ROWS, 16 * COLUMNS, 8)
    assert torch.equal(found, FluxPipeline._unpack_latents(packed, *size))
    assert torch.equal(found, QwenImagePipeline._unpack_latents(packed, *size).squeeze(2))
    again = FluxPipeline._pack_latents(found, 2, 16, 2 * ROWS, 2 * COLUMNS)
    assert torch.equal(again, packed)
    patches = torch.randn(2, 128, ROWS, COLUMNS)
    tokens = Flux2Pipeline._pack_latents(patches)
    assert torch.equal(Layout("patches", ROWS, COLUMNS).unpack(tokens), patches)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("packed", (2, ROWS * COLUMNS, 64)),
        ("patches", (2, ROWS * COLUMNS, 128)),
        ("plain", (2, 16, 2 * ROWS, 2 * COLUMNS)),
    ],
)
def test_packing_undoes_unpacking(kind: str, shape: tuple[int, ...]) -> None:
    latents = torch.randn(shape)
    layout = Layout(kind, ROWS, COLUMNS)
    assert layout.unpack(latents).dim() == 4
    assert torch.equal(layout.pack(layout.unpack(latents)), latents)


def test_pictures_are_whole_tokens() -> None:
    pipe = SimpleNamespace(transformer=FAMILIES["flux"].build(), vae_scale_factor=8)
    assert layout_of(pipe, 1024, 2048) == Layout("packed", 128, 64)
    with pytest.raises(InvalidConfigError, match=r"1000x1024 .* Flux\.1 are multiples of 16"):
        layout_of(pipe, 1000, 1024)
