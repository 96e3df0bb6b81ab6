"""The splitters take a low band out and put one back, and the one operation moves it."""

import hypothesis
import pytest
import pywt
import torch
from hypothesis import strategies

from hidiffusion import InvalidConfigError
from hidiffusion.methods.bands import (
    DB4,
    SPLITTERS,
    BoxBand,
    WaveletBand,
    area_weights,
    butterworth_band,
    gaussian_band,
    splitter_of,
    x0_low_band,
)

_SIZE = (36, 40)


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SPLITTERS)
def test_full_weight_gives_the_band_of_the_reference(name: str) -> None:
    splitter = splitter_of(name, _SIZE, (18, 20))
    x0, reference = _noise(2, 3, *_SIZE), _noise(2, 3, *_SIZE, seed=1)
    moved = x0_low_band(x0, splitter.down(reference), splitter, 1.0)
    inner = slice(8, -8) if name == "wavelet" else slice(None)  # its borders are mirrored
    if name in {"box", "wavelet"}:
        found, wanted = splitter.down(moved), splitter.down(reference)
        torch.testing.assert_close(found[..., inner, inner], wanted[..., inner, inner])
    else:  # a filter that falls off slowly keeps only the mean whole
        flat = reference.mean((-2, -1))
        torch.testing.assert_close(moved.mean((-2, -1)), flat)


@pytest.mark.parametrize("name", SPLITTERS)
def test_weights_interpolate_and_no_weight_changes_nothing(name: str) -> None:
    splitter = splitter_of(name, _SIZE, (18, 20))
    x0, band = _noise(1, 2, *_SIZE), splitter.down(_noise(1, 2, *_SIZE, seed=1))
    assert x0_low_band(x0, band, splitter, 0.0) is x0
    half, whole = (x0_low_band(x0, band, splitter, weight) for weight in (0.5, 1.0))
    torch.testing.assert_close(half, (x0 + whole) / 2)


@pytest.mark.parametrize("name", SPLITTERS)
def test_a_picture_that_is_its_own_reference_stays(name: str) -> None:
    splitter = splitter_of(name, _SIZE, (16, 24))
    x0 = _noise(1, 2, *_SIZE)
    torch.testing.assert_close(x0_low_band(x0, splitter.down(x0), splitter, 1.7), x0)


def test_an_unknown_splitter_is_named() -> None:
    with pytest.raises(InvalidConfigError, match="splitter is 'haar'; it must be one of box"):
        splitter_of("haar", (8, 8), (4, 4))


def test_the_taps_are_those_of_db4() -> None:
    assert pytest.approx(pywt.Wavelet("db4").dec_lo, abs=1e-15) == DB4


@hypothesis.given(
    height=strategies.integers(1, 40),
    width=strategies.integers(2, 40),
    level=strategies.integers(1, 2),
)
def test_the_wavelet_band_is_that_of_pywavelets(height: int, width: int, level: int) -> None:
    x, band = _noise(1, 2, height, width), WaveletBand(level)
    low, details = x.numpy(), []
    for _ in range(level):
        low, high = pywt.dwt2(low, "db4", "symmetric")
        details.append([part * 0 for part in high])
    torch.testing.assert_close(band.down(x), torch.from_numpy(low))
    back = low
    for parts in reversed(details):
        back = back[..., : parts[0].shape[-2], : parts[0].shape[-1]]
        back = pywt.idwt2((back, tuple(parts)), "db4", "symmetric")
    expected = torch.from_numpy(back)[..., :height, :width]
    torch.testing.assert_close(band.up(band.down(x), (height, width)), expected)


@pytest.mark.parametrize(("full", "low"), [(2048, 1027), (3072, 1539), (4096, 2051)])
def test_the_wavelet_band_has_the_published_size(full: int, low: int) -> None:
    assert WaveletBand().down(torch.zeros(1, 1, 1, full)).shape[-1] == low


@hypothesis.given(full=strategies.integers(1, 50), low=strategies.integers(1, 50))
def test_area_weights_average_every_pixel_evenly(full: int, low: int) -> None:
    weights = area_weights(full, max(1, min(low, full)))
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))
    torch.testing.assert_close(
        weights.sum(0), torch.full((full,), len(weights) / full, dtype=torch.float64)
    )


def test_boxes_of_any_ratio_measure_what_noise_they_leave() -> None:
    noise = _noise(1, 16, 90, 90)
    assert BoxBand((45, 45)).noise_gain((90, 90)) == pytest.approx(1 / 2)
    for size in ((30, 30), (60, 60), (64, 50)):
        box = BoxBand(size)
        assert box.down(noise).std().item() == pytest.approx(box.noise_gain((90, 90)), rel=0.03)


@pytest.mark.parametrize("make", [gaussian_band, butterworth_band])
def test_a_fourier_band_keeps_half_at_its_cutoff(make) -> None:
    side, cycles = 64, 8
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(side, dtype=torch.float64) / side)
    picture = wave.expand(1, 1, side, side)
    band = make(cycles / (side / 2))
    torch.testing.assert_close(band.down(picture), picture / 2)
    assert band.down(picture.half()).dtype == torch.float16
