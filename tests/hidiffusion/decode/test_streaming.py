"""Decoded tiles are the undivided decode, for every kind of AutoencoderKL, and can be dropped."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st

from hidiffusion.decode import NonFiniteError, UnsupportedAutoencoderError, decode_tiles
from tests.hidiffusion.decode.small_vae import assembled, largest_difference, noise, small_vae

#: The promise is 1e-3; float32 rounding leaves about 1e-5.
TOLERANCE = 1e-4


def _undivided(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.decode(latents).sample


KINDS: dict[str, dict[str, Any]] = {
    "Stable Diffusion": {"layers_per_block": 2},
    "without attention": {"mid_block_add_attention": False},
    "without quant convolutions": {"use_quant_conv": False, "use_post_quant_conv": False},
    "sixteen channels": {"latent_channels": 16},
    "factor 4": {"levels": 3},
    "attention in a block": {
        "up_block_types": ("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 3),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_equal_the_undivided_decode(kind: str) -> None:
    vae = small_vae(**KINDS[kind])
    latents = noise(1, vae.config.latent_channels, 9, 12)
    expected = _undivided(vae, latents)
    ours = assembled(decode_tiles(vae, latents, tile=32), expected)
    assert largest_difference(ours, expected) < TOLERANCE


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 2), st.integers(1, 13), st.integers(1, 13), st.sampled_from([24, 40, 64]))
def test_any_batch_and_any_size_decodes_the_same(
    batch: int, height: int, width: int, tile: int
) -> None:
    vae, latents = small_vae(), noise(batch, 4, height, width)
    expected = _undivided(vae, latents)
    ours = assembled(decode_tiles(vae, latents, tile=tile), expected)
    assert largest_difference(ours, expected) < TOLERANCE


def test_only_wanted_regions_are_decoded() -> None:
    vae, latents = small_vae(), noise(1, 4, 9, 12)
    every = {(tile.top, tile.left): tile.pixels for tile in decode_tiles(vae, latents, tile=32)}
    wanted = [place for number, place in enumerate(every) if number % 3 == 1]
    seen: list[object] = []
    vae.decoder.conv_out.register_forward_hook(lambda *_: seen.append(None))
    some = [*decode_tiles(vae, latents, tile=32, wanted=lambda *place: place in wanted)]
    assert [(tile.top, tile.left) for tile in some] == wanted
    assert len(seen) == len(wanted)
    for tile in some:
        assert torch.equal(tile.pixels, every[tile.top, tile.left])


def test_seams_are_no_worse_than_the_inside() -> None:
    vae, latents = small_vae(), noise(1, 4, 16, 16)
    exact = _undivided(vae.double(), latents.double())
    ours = assembled(decode_tiles(small_vae(), latents, tile=32), exact)
    error = (ours - exact).abs().amax((0, 1))
    seams = torch.zeros(128, dtype=torch.bool)
    seams[[31, 32, 63, 64, 95, 96]] = True
    assert error[seams].mean() < 2 * error[~seams].mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_differs_by_no_more_than_its_own_rounding(dtype: torch.dtype) -> None:
    latents = noise(1, 4, 8, 8)
    exact = _undivided(small_vae().double(), latents.double())
    vae = copy.deepcopy(small_vae()).to(dtype)
    theirs = largest_difference(_undivided(vae, latents.to(dtype)), exact)
    tiles = list(decode_tiles(vae, latents, tile=32))
    assert all(tile.pixels.dtype == torch.float32 for tile in tiles)
    assert largest_difference(assembled(tiles, exact), exact) < 2 * theirs


def test_tiles_come_row_by_row_at_multiples_of_the_tile() -> None:
    tiles = list(decode_tiles(small_vae(), noise(1, 4, 5, 9), tile=32))
    places = [(tile.top, tile.left, *tile.pixels.shape[2:]) for tile in tiles]
    assert places == [
        (0, 0, 32, 32),
        (0, 32, 32, 32),
        (0, 64, 32, 8),
        (32, 0, 8, 32),
        (32, 32, 8, 32),
        (32, 64, 8, 8),
    ]


def test_a_tile_that_covers_everything_is_the_plain_decode() -> None:
    vae, latents = small_vae(), noise(1, 4, 6, 7)
    (only,) = decode_tiles(vae, latents, tile=64)
    assert torch.equal(only.pixels, _undivided(vae, latents))


def test_fused_projections_and_tiling_switches_make_no_difference() -> None:
    vae, latents = small_vae(sample_size=32), noise(1, 4, 8, 8)
    expected = _undivided(vae, latents)
    vae.enable_tiling()
    assert largest_difference(_undivided(vae, latents), expected) > 100 * TOLERANCE
    vae.fuse_qkv_projections()
    for tile in (32, 64):
        ours = assembled(decode_tiles(vae, latents, tile=tile), expected)
        assert largest_difference(ours, expected) < TOLERANCE


def _cancel_at(stop: int, done: int, _total: int) -> None:
    if done == stop:
        raise InterruptedError(str(stop))


def _hooks(vae: AutoencoderKL) -> int:
    return sum(len(module._forward_hooks) for module in vae.modules())


def test_progress_counts_every_step_and_cancels_at_any_of_them() -> None:
    vae, latents = small_vae(), noise(1, 4, 8, 8)
    expected = _undivided(vae, latents)
    seen: list[tuple[int, int]] = []
    list(decode_tiles(vae, latents, tile=32, progress=lambda *step: seen.append(step)))
    total = seen[0][1]
    assert seen == [(done, total) for done in range(total)]

    for stop in range(0, total, 7):
        with pytest.raises(InterruptedError, match=f"^{stop}$"):
            list(decode_tiles(vae, latents, tile=32, progress=partial(_cancel_at, stop)))
    assert _hooks(vae) == 0
    assert torch.equal(_undivided(vae, latents), expected)


def test_an_abandoned_decode_leaves_nothing_behind() -> None:
    vae, latents = small_vae(), noise(1, 4, 8, 8)
    expected, weights = _undivided(vae, latents), copy.deepcopy(vae.state_dict())
    tiles = decode_tiles(vae, latents, tile=32)
    next(tiles)
    assert torch.is_grad_enabled()
    tiles.close()
    assert _hooks(vae) == 0
    assert all(torch.equal(value, weights[name]) for name, value in vae.state_dict().items())
    assert torch.equal(_undivided(vae, latents), expected)


def test_two_decodes_of_one_autoencoder_may_interleave() -> None:
    vae = small_vae()
    first, second = noise(1, 4, 8, 8), -noise(1, 4, 8, 8)
    pairs = list(
        zip(
            decode_tiles(vae, first, tile=32),
            decode_tiles(vae, second, tile=32),
            strict=True,
        )
    )
    for index, latents in enumerate((first, second)):
        expected = _undivided(vae, latents)
        ours = assembled((pair[index] for pair in pairs), expected)
        assert largest_difference(ours, expected) < TOLERANCE


def test_latents_that_are_not_finite_never_become_a_picture() -> None:
    latents = noise(1, 4, 8, 8)
    latents[0, 1, 2, 3] = float("nan")
    with pytest.raises(NonFiniteError, match="the latents hold NaN"):
        decode_tiles(small_vae(), latents)


def test_an_overflow_inside_the_decoder_is_an_error_that_names_the_layer() -> None:
    vae = small_vae().half()
    vae.decoder.up_blocks[2].resnets[0].conv1.weight.data.fill_(6e4)
    with pytest.raises(NonFiniteError, match=r"up_blocks\.2\.resnets\.0\.norm2.*float32"):
        list(decode_tiles(vae, noise(1, 4, 8, 8), tile=32))


@pytest.mark.parametrize("tile", [32, 64])
def test_an_overflow_behind_the_last_norm_is_an_error_too(tile: int) -> None:
    vae = small_vae().half()
    vae.decoder.conv_out.weight.data.fill_(6e4)
    with pytest.raises(NonFiniteError, match=r"the pixels hold NaN.*float32"):
        list(decode_tiles(vae, noise(1, 4, 8, 8), tile=tile))


@pytest.mark.parametrize("tile", [0, -8, 12])
def test_a_tile_that_is_no_whole_number_of_latents_is_refused(tile: int) -> None:
    with pytest.raises(ValueError, match=f"tile is {tile} pixels.*multiple of 8"):
        decode_tiles(small_vae(), noise(1, 4, 8, 8), tile=tile)


@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 3, 8, 8)])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pass \[B, 4, h, w\]"):
        decode_tiles(small_vae(), noise(*shape))


def test_a_decoder_of_another_structure_is_refused() -> None:
    vae = small_vae()
    vae.decoder.up_blocks[1].upsamplers[0].interpolate = False
    with pytest.raises(UnsupportedAutoencoderError, match=r"up_blocks\.1\.Upsample2D"):
        decode_tiles(vae, noise(1, 4, 8, 8))
