"""Attention modulation equals the published mix of attention maps, which are never made."""

from typing import Any

import pytest
import torch

from hidiffusion import InvalidConfigError
from hidiffusion.methods import registry
from hidiffusion.methods.guidance.modulation import modulated_attention, native_attention
from tests.hidiffusion.tiny import models as tiny_models


def _attention(seed: int = 0) -> Any:
    block = tiny_models.unet(seed=seed).double().up_blocks[1]
    return block.attentions[0].transformer_blocks[0].attn1


def _heads(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    return tokens.unflatten(-1, (attention.heads, -1)).transpose(1, 2)


def _map(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    query, key = (_heads(attention, to(tokens)) for to in (attention.to_q, attention.to_k))
    return torch.softmax(query @ key.transpose(-1, -2) * attention.scale, dim=-1)


def _spread(native: torch.Tensor, height: int, width: int, factor: int) -> torch.Tensor:
    """Repeat rows and columns of a map over boxes of tokens; rows keep their sum of 1."""
    full = torch.arange(height * factor * width * factor)
    row, column = full // (width * factor), full % (width * factor)
    box = (row // factor) * width + column // factor
    return native[..., box, :][..., box] / factor**2


@torch.no_grad()
def test_the_output_is_that_of_the_enlarged_native_map() -> None:
    attention = _attention()
    large, native = torch.randn(2, 6 * 4, 16).double(), torch.randn(2, 3 * 2, 16).double()
    enlarged = _spread(_map(attention, native), 3, 2, 2)
    assert torch.allclose(enlarged.sum(-1), torch.ones(()).double())
    expected = (enlarged @ _heads(attention, attention.to_v(large))).transpose(1, 2).flatten(2)
    expected = attention.to_out[0](expected)
    given = native_attention(attention, large, (6, 4), native, (3, 2))
    assert torch.allclose(given, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_outputs_are_mixed_as_maps_are() -> None:
    attention = _attention()
    large, native = torch.randn(1, 4 * 4, 16).double(), torch.randn(1, 2 * 2, 16).double()
    mixed = 0.7 * _map(attention, large) + 0.3 * _spread(_map(attention, native), 2, 2, 2)
    expected = (mixed @ _heads(attention, attention.to_v(large))).transpose(1, 2).flatten(2)
    low = native_attention(attention, large, (4, 4), native, (2, 2))
    given = torch.lerp(attention(large), low, 0.3)
    assert torch.allclose(given, attention.to_out[0](expected), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_picture_guided_by_itself_is_left_alone() -> None:
    """At native size and on equal noise the native maps are the picture's own."""
    pipe = tiny_models.sd_pipeline()
    pipe.scheduler.set_timesteps(4)
    time = pipe.scheduler.timesteps[1]
    inputs = tiny_models.unet_inputs(pipe.unet, 8, 8)
    clean = inputs["sample"]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    inputs["sample"] = pipe.scheduler.add_noise(clean, noise, time[None])
    plain = pipe.unet(timestep=time, **inputs).sample
    with modulated_attention(pipe, clean, torch.Generator().manual_seed(1), 1.0):
        own = pipe.unet(timestep=time, **inputs).sample
    with modulated_attention(pipe, clean, torch.Generator().manual_seed(2), 1.0):
        other = pipe.unet(timestep=time, **inputs).sample
    assert torch.allclose(own, plain, atol=1e-5)
    assert not torch.allclose(other, plain, atol=1e-5)
    assert torch.equal(pipe.unet(timestep=time, **inputs).sample, plain)


def _draw(pipe: Any, **options: Any) -> torch.Tensor:
    method = registry.get("hidiffusion-guided")
    call = {"prompt": "abc", "num_inference_steps": 4, "output_type": "latent"}
    return method.generate(pipe, seed=3, width=144, height=96, options=options, **call).images


@pytest.mark.parametrize("build", [tiny_models.sd_pipeline, tiny_models.sdxl_pipeline])
def test_the_option_acts_and_is_off_by_default(build: Any) -> None:
    pipe = build()
    off = _draw(pipe)
    calls: list[tuple[int, ...]] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _, args: calls.append(tuple(args[0].shape[-2:]))
    )
    on = _draw(pipe, attention_weight=0.5)
    assert torch.isfinite(on).all()
    assert not torch.allclose(on, off, atol=1e-4)
    assert len(calls) == 12
    assert calls[4:6] == [calls[0], (12, 18)]
    calls.clear()
    assert torch.equal(_draw(pipe, attention_weight=0.0), off)
    assert len(calls) == 8
    handle.remove()


def test_it_goes_with_a_strength_and_the_model_as_it_is() -> None:
    pipe = tiny_models.sd_pipeline()
    options = {"strength": 0.5, "denoiser": "direct"}
    on = _draw(pipe, attention_weight=1.0, **options)
    assert not torch.allclose(on, _draw(pipe, **options), atol=1e-4)


def test_the_plan_counts_its_native_calls() -> None:
    def pooled(weight: float) -> list[int]:
        passes = registry.get("hidiffusion-guided").passes(
            tiny_models.sd_pipeline(),
            width=128,
            height=128,
            options={"attention_weight": weight},
            num_inference_steps=4,
        )
        return [each.pooled_calls for each in passes]

    assert pooled(0.0) == [0, 0]
    assert pooled(0.3) == [0, 4]


def test_a_weight_beyond_one_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="attention_weight is 2; it must be between 0 and"):
        registry.get("hidiffusion-guided").configure(attention_weight=2)
