"""Tiled encoding gives the undivided posterior, for every size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hidiffusion.decode import NonFiniteError, encode_tiles
from tests.hidiffusion.decode.small_vae import largest_difference, noise, small_vae


def _undivided(vae: object, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.encode(image).latent_dist.parameters


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 2), st.integers(8, 100), st.integers(8, 100), st.sampled_from([16, 32, 64]))
def test_moments_equal_the_undivided_encode(batch: int, height: int, width: int, tile: int) -> None:
    vae, image = small_vae(), noise(batch, 3, height, width)
    ours = encode_tiles(vae, image, tile=tile)
    assert largest_difference(ours.parameters, _undivided(vae, image)) < 1e-5
    assert ours.mean.shape == (batch, 4, height // 8, width // 8)


def test_same_generator_same_sample_as_the_undivided_posterior() -> None:
    vae, image = small_vae(), noise(1, 3, 80, 72)
    with torch.no_grad():
        expected = vae.encode(image).latent_dist.sample(torch.Generator().manual_seed(3))
    ours = encode_tiles(vae, image, tile=32).sample(torch.Generator().manual_seed(3))
    assert largest_difference(ours, expected) < 1e-5


@pytest.mark.parametrize("changes", [{"use_quant_conv": False}, {"mid_block_add_attention": False}])
def test_autoencoders_without_the_optional_parts(changes: dict[str, bool]) -> None:
    vae, image = small_vae(**changes), noise(1, 3, 64, 64)
    ours = encode_tiles(vae, image, tile=32).parameters
    assert largest_difference(ours, _undivided(vae, image)) < 1e-5


def test_progress_can_cancel_and_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    vae, image = small_vae(), noise(1, 3, 64, 64)
    encode_tiles(vae, image, tile=32, progress=lambda *step: seen.append(step))
    assert seen[-1][0] == seen[-1][1] - 1

    def cancel(_done: int, _total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        encode_tiles(vae, image, tile=32, progress=cancel)


def test_wrong_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 64, 64\).*pass \[B, 3, H, W\]"):
        encode_tiles(small_vae(), noise(1, 4, 64, 64))
    with pytest.raises(ValueError, match="at least 8 pixels"):
        encode_tiles(small_vae(), noise(1, 3, 7, 64))
    with pytest.raises(NonFiniteError, match="the pixels"):
        encode_tiles(small_vae(), torch.full((1, 3, 64, 64), float("inf")))
