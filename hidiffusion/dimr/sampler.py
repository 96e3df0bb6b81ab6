"""The solver that the authors sample with, as a diffusers scheduler.

DPM-Solver (Lu et al., arXiv 2206.00927) in its "fast" singlestep form, predicting the clean
latents, with third-order steps on continuous time. diffusers' `DPMSolverSinglestepScheduler` is as
good (see docs/dimr.md) but takes other inner points and whole timesteps, so its numbers differ.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import numpy as np
import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from hidiffusion.errors import InvalidConfigError


class DPMSolverFastScheduler(SchedulerMixin, ConfigMixin):
    """DPM-Solver in steps of order 3, the last one or two of a lower order.

    `num_inference_steps` counts calls of the network. The run ends at the lowest time of the
    schedule, with the noise that is there left in (a deviation of 0.029 by default): the authors
    take no step to 0. Timesteps are floats from `num_train_timesteps - 1` to 0; the label that the
    network was trained with is the timestep plus 1.

    Args:
        num_train_timesteps: entries of the noise schedule.
        beta_start: first beta; the schedule is linear in its root ("scaled linear").
        beta_end: last beta.
        beta_schedule: only "scaled_linear"; named so that diffusers' schedulers are made right from
            this one's configuration.
        prediction_type: only "epsilon", likewise.
    """

    order = 1

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        prediction_type: str = "epsilon",
    ) -> None:
        if (beta_schedule, prediction_type) != ("scaled_linear", "epsilon"):
            raise InvalidConfigError(
                f"beta_schedule is {beta_schedule!r} and prediction_type {prediction_type!r}; DiMR "
                "has 'scaled_linear' and 'epsilon'"
            )
        betas = np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2
        self._log_alphas = 0.5 * np.cumsum(np.log1p(-betas))
        #: Share of the clean latents in the noisy ones, squared, by whole timestep; float64.
        self.alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas))
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float32)

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Lay out a run.

        Args:
            num_inference_steps: calls of the network, at least 1.
            device: where `timesteps` goes.

        Raises:
            InvalidConfigError: fewer than one step.
        """
        if num_inference_steps < 1:
            raise InvalidConfigError(
                f"num_inference_steps is {num_inference_steps}; it must be at least 1"
            )
        self.num_inference_steps = num_inference_steps
        entries = len(self._log_alphas)
        grid = np.linspace(entries - 1, 0.0, num_inference_steps + 1)
        #: Log of the signal's scale at each point of the grid, the end included.
        log_alphas = np.interp(grid, np.arange(entries), self._log_alphas)
        self._alphas = np.exp(log_alphas)
        self._sigmas = np.sqrt(-np.expm1(2 * log_alphas))
        self._lambdas = log_alphas - np.log(self._sigmas)
        self._blocks = _blocks(num_inference_steps)
        self._index = 0
        self._estimates: list[Tensor] = []
        self._start: Tensor | None = None
        self.timesteps = torch.from_numpy(grid[:-1]).to(device or "cpu", torch.float32)

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """Return `sample`: this solver scales nothing."""
        del timestep
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        return_dict: bool = True,
        **_: Any,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Go on to the next point at which the network is asked.

        Args:
            model_output: noise that the network estimates in `sample`, guidance included.
            timestep: the entry of `timesteps`; the calls must come in their order.
            sample: latents at that time, of any shape; their dtype is kept.
            return_dict: False gives a tuple.
        """
        del timestep
        if self.num_inference_steps is None:
            raise InvalidConfigError("set_timesteps must be called before step")
        first, order = self._blocks[self._index]
        alpha, sigma = float(self._alphas[self._index]), float(self._sigmas[self._index])
        if self._index == first:
            self._estimates, self._start = [], sample
        self._estimates.append((sample - sigma * model_output) / alpha)
        result = self._advance(first, order)
        self._index += 1
        return SchedulerOutput(prev_sample=result) if return_dict else (result,)

    def _advance(self, first: int, order: int) -> Tensor:
        """Return the latents at the next point of the grid, seen from the block's first.

        The formulas are those of the paper's appendix for predicted clean latents (DPM-Solver++,
        arXiv 2211.01095, in its singlestep form).
        """
        start, estimates = cast("Tensor", self._start), self._estimates
        taken = len(estimates)
        last = taken == order
        lambdas = self._lambdas
        whole = float(lambdas[first + order] - lambdas[first])
        step = float(lambdas[first + taken] - lambdas[first])
        alpha = float(self._alphas[first + taken])
        phi_1 = math.expm1(-step)
        scale = float(self._sigmas[first + taken] / self._sigmas[first])
        result = scale * start - alpha * phi_1 * estimates[0]
        if taken == 1:
            return result
        # How far the newest inner point lies within the whole step, and what has changed there.
        share = float(lambdas[first + taken - 1] - lambdas[first]) / whole
        slope = (estimates[-1] - estimates[0]) / share
        if last and order == 2:
            return result - alpha * phi_1 / 2 * slope
        weight = (phi_1 / step + 1) * (1.0 if last else step / whole)
        return result + alpha * weight * slope


def _blocks(steps: int) -> tuple[tuple[int, int], ...]:
    """Return for each call the first call of its block, and the block's order."""
    threes, rest = divmod(steps, 3)
    orders = [3] * threes + [rest] if rest else [3] * (threes - 1) + [2, 1]
    starts = itertools.accumulate(orders, initial=0)
    pairs = zip(starts, orders, strict=False)
    return tuple((start, order) for start, order in pairs for _ in range(order))
