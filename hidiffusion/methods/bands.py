"""The one operation behind low-band guidance, and the ways to say what a low band is.

Upsample Guidance, DiffuseHigh, FAM and their kin replace the low band of the predicted clean
picture x0 by that of a reference. They differ in the reference, in the split and in the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hidiffusion.errors import InvalidConfigError


class Splitter(Protocol):
    """Takes the low band out of a picture or of latents, and puts one back; both are linear."""

    def down(self, x: Tensor) -> Tensor:
        """Return the low band of `x` [B, C, h, w], in a form of the splitter's own."""

    def up(self, band: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what `band` contributes to a picture [B, C, *size]."""


def x0_low_band(x0: Tensor, band: Tensor, splitter: Splitter, weight: float) -> Tensor:
    """Move the low band of x0 to another one: x0 + weight * up(band - down(x0)).

    Args:
        x0: predicted clean picture or latents, [B, C, h, w].
        band: the reference's low band, as `splitter.down` gives it.
        splitter: says what the low band is.
        weight: 1 replaces the band, 0 leaves x0, more overshoots.

    Returns:
        The guided x0, in the dtype of x0.
    """
    if weight == 0:
        return x0
    difference = band.to(x0) - splitter.down(x0)
    return x0 + weight * splitter.up(difference, (x0.shape[-2], x0.shape[-1]))


@dataclass(frozen=True)
class BoxBand:
    """Means over boxes, as Upsample Guidance has it: area pooling down, nearest neighbour up.

    Attributes:
        size: height and width of the band. Where it does not divide the picture's, boxes share
            the pixels on their borders by area.
    """

    size: tuple[int, int]

    def down(self, x: Tensor) -> Tensor:
        """Return the mean of each box, [B, C, *size]."""
        height, width = x.shape[-2:]
        if height % self.size[0] == 0 and width % self.size[1] == 0:
            box = (height // self.size[0], width // self.size[1])
            return functional.avg_pool2d(x, box)
        rows = area_weights(height, self.size[0]).to(x)
        columns = area_weights(width, self.size[1]).to(x)
        return rows @ x @ columns.T

    def up(self, band: Tensor, size: tuple[int, int]) -> Tensor:
        """Return each mean spread over its box."""
        return functional.interpolate(band, size, mode="nearest-exact")

    def noise_gain(self, size: tuple[int, int]) -> float:
        """Return the standard deviation that white noise of a picture has left after `down`."""
        pairs = zip(size, self.size, strict=True)
        powers = [area_weights(full, low).square().sum(1).mean().item() for full, low in pairs]
        return math.sqrt(math.prod(powers))


def area_weights(full: int, low: int) -> Tensor:
    """Return the matrix [low, full] that takes the mean over `low` equal intervals of `full`."""
    edges = torch.arange(low + 1, dtype=torch.float64) * full / low
    pixels = torch.arange(full, dtype=torch.float64)
    ends = torch.minimum(edges[1:, None], pixels + 1)
    starts = torch.maximum(edges[:-1, None], pixels)
    return (ends - starts).clamp(min=0) * low / full


#: Decomposition low-pass of Daubechies' wavelet with four vanishing moments (db4).
DB4 = (
    -0.010597401785069032,
    0.0328830116668852,
    0.030841381835560764,
    -0.18703481171909309,
    -0.027983769416859854,
    0.6308807679298589,
    0.7148465705529157,
    0.2303778133088965,
)


@dataclass(frozen=True)
class WaveletBand:
    """The LL subband of a discrete wavelet transform with symmetric borders, as DiffuseHigh has it.

    Attributes:
        level: how often the transform is repeated on its own LL.
        taps: the wavelet's decomposition low-pass.
    """

    level: int = 1
    taps: tuple[float, ...] = DB4

    def down(self, x: Tensor) -> Tensor:
        """Return LL: each axis filtered, mirrored at its ends, and every second value kept."""
        for _ in range(self.level):
            x = self._analyse(self._analyse(x, -1), -2)
        return x

    def up(self, band: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the inverse transform of LL with all other subbands zero."""
        sizes = [size]
        for _ in range(self.level - 1):
            sizes.append((self._length(sizes[-1][0]), self._length(sizes[-1][1])))
        for height, width in reversed(sizes):
            band = self._synthesise(self._synthesise(band, height, -2), width, -1)
        return band

    def _length(self, full: int) -> int:
        return (full + len(self.taps) - 1) // 2

    def _analyse(self, x: Tensor, axis: int) -> Tensor:
        rows, shape = _rows(x, axis)
        reach = len(self.taps) - 1
        # Mirrored at the border between pixels: ..., x1, x0 | x0, x1, ...; period 2 n.
        full = rows.shape[-1]
        places = torch.arange(1 - reach, full + reach, device=x.device) % (2 * full)
        places = torch.minimum(places, 2 * full - 1 - places)
        kernel = rows.new_tensor(self.taps).flip(0)[None, None]
        return _shaped(functional.conv1d(rows[..., places], kernel, stride=2), shape, axis)

    def _synthesise(self, band: Tensor, full: int, axis: int) -> Tensor:
        rows, shape = _rows(band, axis)
        kernel = rows.new_tensor(self.taps).flip(0)[None, None]
        spread = functional.conv_transpose1d(rows, kernel, stride=2)
        begin = len(self.taps) - 2
        return _shaped(spread[..., begin : begin + full], shape, axis)


def _rows(x: Tensor, axis: int) -> tuple[Tensor, torch.Size]:
    """Bring an axis to the end and join all others: [rows, 1, length]."""
    moved = x.movedim(axis, -1)
    return moved.reshape(-1, 1, moved.shape[-1]), moved.shape


def _shaped(rows: Tensor, shape: torch.Size, axis: int) -> Tensor:
    return rows.reshape(*shape[:-1], rows.shape[-1]).movedim(-1, axis)


@dataclass(frozen=True)
class FourierBand:
    """A low-pass in the Fourier domain.

    Attributes:
        response: gain at a frequency, given as a fraction of the highest one of the picture
            (Nyquist's) along an axis; 1 at frequency 0.
    """

    response: Callable[[Tensor], Tensor]

    def down(self, x: Tensor) -> Tensor:
        """Return the filtered picture, at its full size."""
        wide = x.double() if x.dtype == torch.float64 else x.float()
        height, width = x.shape[-2:]
        rows = torch.fft.fftfreq(height, 0.5, dtype=wide.dtype, device=x.device)
        columns = torch.fft.rfftfreq(width, 0.5, dtype=wide.dtype, device=x.device)
        gain = self.response(torch.hypot(rows[:, None], columns[None]))
        low: Tensor = torch.fft.irfft2(torch.fft.rfft2(wide) * gain, s=(height, width))
        return low.to(x.dtype)

    def up(self, band: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the band itself."""
        del size
        return band


def gaussian_band(cutoff: float) -> FourierBand:
    """Return a low-pass whose gain falls as a Gaussian, to one half at `cutoff` of Nyquist's."""
    return FourierBand(lambda frequency: torch.exp2(-((frequency / cutoff) ** 2)))


def butterworth_band(cutoff: float, order: int = 4) -> FourierBand:
    """Return Butterworth's low-pass, with gain one half at `cutoff` of Nyquist's frequency."""
    return FourierBand(lambda frequency: 1 / (1 + (frequency / cutoff) ** (2 * order)))


#: Names of the splitters in configurations.
SPLITTERS = ("box", "wavelet", "gaussian", "butterworth")


def splitter_of(name: str, size: tuple[int, int], native: tuple[int, int]) -> Splitter:
    """Build the splitter whose low band is what latents of the native size can hold.

    Args:
        name: one of `SPLITTERS`.
        size: height and width of what is split.
        native: height and width of the low-resolution reference.

    Raises:
        InvalidConfigError: the name is unknown.
    """
    scale = math.sqrt(size[0] * size[1] / (native[0] * native[1]))
    if name == "box":
        return BoxBand(native)
    if name == "wavelet":
        return WaveletBand(level=max(1, round(math.log2(scale))))
    if name == "gaussian":
        return gaussian_band(1 / scale)
    if name == "butterworth":
        return butterworth_band(1 / scale)
    raise InvalidConfigError(f"splitter is {name!r}; it must be one of {', '.join(SPLITTERS)}")
