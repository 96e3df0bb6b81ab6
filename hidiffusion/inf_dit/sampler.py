"""The sampler of Inf-DiT: Heun's method on EDM's noise levels (Karras et al., arXiv 2206.00364).

Its state is changed chunk by chunk, in place, because a chunk reads no other chunk's pixels: what
neighbours must know of each other passes through the attention's keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hidiffusion.inf_dit.chunks import Chunk


def edm_sigmas(
    steps: int, *, sigma_min: float = 0.002, sigma_max: float = 40.0, rho: float = 7.0
) -> Tensor:
    """Compute the noise levels (equation 5 of Karras et al.), and 0 behind them.

    Returns:
        `[steps + 1]`, float64, descending.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"num_inference_steps is {steps!r}; it must be at least 1")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


@dataclass
class HeunState:
    """Where a run stands between two evaluations; all that is needed to go on.

    Attributes:
        evaluations: how many are done.
        sample: `[B, 3, H, W]`, float32.
        slope: of the running step, `[B, 3, H, W]`; read by the second of its two evaluations.
    """

    evaluations: int
    sample: Tensor
    slope: Tensor


#: Evaluates one chunk: takes it, its noisy pixels and the noise level; returns its clean pixels.
Denoise = Callable[[Chunk, Tensor, float], Tensor]


class HeunSampler:
    """Takes steps of Heun's method; the last one, to zero, is Euler's.

    Args:
        sigmas: noise levels from `edm_sigmas`.
        block_size: pixels along the side of a block.
    """

    def __init__(self, sigmas: Tensor, block_size: int) -> None:
        self._sigmas = [float(sigma) for sigma in sigmas]
        self._side = block_size

    @property
    def evaluations(self) -> int:
        """How often the network sees the picture: twice a step, but once in the last."""
        return 2 * (len(self._sigmas) - 1) - 1

    def start(self, noise: Tensor, lr_up: Tensor | None) -> HeunState:
        """Begin at the highest level.

        Args:
            noise: `[B, 3, H, W]`, standard normal; it becomes the state.
            lr_up: where given, the noise is laid over it (`init_noise` of the reference).
        """
        sample = noise.mul_(self._sigmas[0])
        if lr_up is not None:
            sample.add_(lr_up.to(sample.device, sample.dtype))
        return HeunState(0, sample, torch.zeros_like(sample))

    def sigma(self, evaluation: int) -> float:
        """The noise level of an evaluation."""
        return self._sigmas[(evaluation + 1) // 2]

    def evaluate(
        self, state: HeunState, chunks: Iterator[Chunk], denoise: Denoise
    ) -> Iterator[tuple[Chunk, Tensor]]:
        """Run one evaluation chunk by chunk; the state is whole again when all chunks are done.

        Yields:
            Each chunk with its clean pixels; those of the last evaluation are the result.
        """
        step, second = divmod(state.evaluations, 2)
        now, after = self._sigmas[step], self._sigmas[step + 1]
        for chunk in chunks:
            sample = chunk.crop(state.sample, self._side)
            slope = chunk.crop(state.slope, self._side)
            if second:
                predicted = sample + slope * (after - now)
                clean = denoise(chunk, predicted, after).to(sample.device)
                sample.add_((slope + (predicted - clean) / after) * ((after - now) / 2))
            else:
                clean = denoise(chunk, sample, now).to(sample.device)
                slope.copy_((sample - clean) / now)
                if after == 0:
                    sample.copy_(clean)
            yield chunk, clean
        state.evaluations += 1
