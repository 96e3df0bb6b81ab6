"""What a scheduler's latents and a model's output mean: how they hold the clean picture x0.

Schedulers keep latents as alpha * x0 + sigma * noise and read the model's output as a prediction of
the noise, of v, of x0 or of a flow. In every case x0 is an affine function of latents and output,
so a change of x0 is a change of the output divided by one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from hidiffusion.errors import InvalidConfigError
from hidiffusion.upstream import begin_index


class Noise(NamedTuple):
    """How much of latents is picture and how much is noise: alpha * x0 + sigma * noise."""

    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """Logarithm of the signal-to-noise ratio alpha^2 / sigma^2; -inf for nothing but noise."""
        return 2 * math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


@dataclass(frozen=True)
class CleanPrediction:
    """x0 as a function of the scheduler's latents and the model's output.

    Attributes:
        of_sample: factor of the latents.
        of_output: factor of the output.
    """

    of_sample: float
    of_output: float

    def x0(self, sample: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return the predicted clean latents."""
        return self.of_sample * sample + self.of_output * output

    def output_change(self, x0_change: torch.Tensor) -> torch.Tensor:
        """Return the change of the output that changes x0 by this."""
        return x0_change / self.of_output


def noise_of(scheduler: Any, timestep: Any) -> Noise:
    """Tell what the latents of a call hold, just before the call or just before its `step`.

    Args:
        scheduler: a diffusers scheduler whose timesteps are set.
        timestep: an entry of its table.

    Raises:
        InvalidConfigError: the scheduler tells no noise level.
    """
    if hasattr(scheduler, "precondition_outputs"):
        return Noise(1.0, _sigma(scheduler, timestep))
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        level = torch.tensor(_sigma(scheduler, timestep), dtype=torch.float64)
        alpha, scaled = scheduler._sigma_to_alpha_sigma_t(level)
        return Noise(float(alpha), float(scaled))
    if _is_flow(scheduler):
        sigma = _sigma(scheduler, timestep)
        return Noise(1 - sigma, sigma)
    if hasattr(scheduler, "sigmas"):
        return Noise(1.0, _sigma(scheduler, timestep))
    if (
        hasattr(scheduler, "ets")
        and hasattr(scheduler, "alphas")
        and scheduler.timesteps.max() <= 1
    ):
        index = _index(scheduler, timestep)
        return Noise(float(scheduler.alphas[index]), float(scheduler.betas[index]))
    if hasattr(scheduler, "alphas_cumprod"):
        kept = float(scheduler.alphas_cumprod[int(timestep)])
        return Noise(math.sqrt(kept), math.sqrt(1 - kept))
    raise InvalidConfigError(
        f"the scheduler is {type(scheduler).__name__}, which tells no noise level; use one of the "
        "schedulers that docs/pipelines.md lists"
    )


def prediction(scheduler: Any, timestep: Any) -> CleanPrediction:
    """Tell how x0 follows from the latents and the output of a call.

    Args:
        scheduler: a diffusers scheduler whose timesteps are set.
        timestep: an entry of its table.

    Raises:
        InvalidConfigError: the scheduler or its prediction type is unknown.
    """
    noise = noise_of(scheduler, timestep)
    if hasattr(scheduler, "precondition_outputs"):
        one, zero, sigma = torch.ones(()), torch.zeros(()), torch.tensor(noise.sigma)
        skip = scheduler.precondition_outputs(one, zero, sigma)
        out = scheduler.precondition_outputs(zero, one, sigma)
        return CleanPrediction(float(skip), float(out))
    return clean_prediction(prediction_type(scheduler), noise)


def clean_prediction(kind: str, noise: Noise) -> CleanPrediction:
    """Tell how x0 follows from latents and output for a type of prediction.

    Args:
        kind: "epsilon", "v_prediction", "flow_prediction", "sample" or "original_sample".
        noise: what the latents hold.

    Raises:
        InvalidConfigError: the type is unknown.
    """
    alpha, sigma = noise
    if kind == "epsilon" and alpha > 0:
        return CleanPrediction(1 / alpha, -sigma / alpha)
    if kind == "v_prediction":
        # Models see latents of variance one; v is defined on these (Salimans and Ho, 2022).
        norm = math.hypot(alpha, sigma)
        return CleanPrediction(alpha / norm**2, -sigma / norm)
    if kind == "flow_prediction":
        return CleanPrediction(1.0, -sigma)
    if kind in {"sample", "original_sample"}:
        return CleanPrediction(0.0, 1.0)
    if kind == "epsilon":
        raise InvalidConfigError(
            "the first timestep is nothing but noise (rescale_betas_zero_snr), and a prediction of "
            "the noise says nothing of the picture there; use prediction_type v_prediction"
        )
    raise InvalidConfigError(
        f"the scheduler's prediction_type is {kind!r}; it must be epsilon, v_prediction, "
        "flow_prediction or sample"
    )


def prediction_type(scheduler: Any) -> str:
    """Return what the scheduler takes the model's output for."""
    if hasattr(scheduler, "sigmas") and _is_flow(scheduler):
        return "flow_prediction"
    # IPNDM has no such setting; its formula is that of v.
    return str(getattr(scheduler.config, "prediction_type", None) or "v_prediction")


def _is_flow(scheduler: Any) -> bool:
    return "FlowMatch" in type(scheduler).__name__


def _sigma(scheduler: Any, timestep: Any) -> float:
    """Return the noise level at which the model was asked; between the steps for second orders."""
    index = _index(scheduler, timestep)
    if getattr(scheduler, "state_in_first_order", True):
        return float(scheduler.sigmas[index])
    if getattr(scheduler, "mid_point_sigma", None) is not None:  # DPM-Solver SDE
        return float(scheduler.mid_point_sigma)
    if hasattr(scheduler, "sigmas_up"):  # KDPM2, ancestral
        return float(scheduler.sigmas_interpol[index - 1])
    if hasattr(scheduler, "sigmas_interpol"):  # KDPM2
        return float(scheduler.sigmas_interpol[index])
    return float(scheduler.sigmas[index])  # Heun


def _index(scheduler: Any, timestep: Any) -> int:
    """Return the entry of the table without setting the scheduler's own index."""
    if scheduler.step_index is not None:
        return int(scheduler.step_index)
    begin = begin_index(scheduler)
    return int(scheduler.index_for_timestep(timestep) if begin is None else begin)
