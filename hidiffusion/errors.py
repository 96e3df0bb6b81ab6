"""What the library raises.

* HiDiffusionError
  + UnsupportedModelError   no U-Net, or one whose structure is in no row of the table
  + UnsupportedPipelineError  a kind of pipeline that a method cannot run
  + InvalidConfigError      a setting that is out of range or contradicts the model
  + MissingSchedulerError   nothing tells where a step stands in the run
  + UnknownTimestepError    a timestep is in no table that is known
  + AlreadyAppliedError     applied to another pipeline of this model, with other settings
  + ConcurrentCallError     a call of the model began while another was under way
  + UnplannedCallError      a block of the U-Net was called outside the U-Net's forward
  + InterruptedGenerationError  a pass was interrupted, so the passes after it did not run

UnannouncedRunWarning       a pipeline that the method is not applied to runs the model
"""

from __future__ import annotations

from typing import Any


class HiDiffusionError(Exception):
    """Base of every error of this library; the message says what was found and what to do."""


class UnsupportedModelError(HiDiffusionError, ValueError):
    """The model has no U-Net, or one that no family describes."""


class UnsupportedPipelineError(HiDiffusionError, ValueError):
    """The pipeline is of a kind that the method cannot run."""


class InvalidConfigError(HiDiffusionError, ValueError):
    """A setting is out of its range or contradicts the model or the call."""


class MissingSchedulerError(HiDiffusionError, ValueError):
    """There is no scheduler, so the position of a step in the run cannot be derived."""


class UnknownTimestepError(HiDiffusionError, ValueError):
    """A timestep is no entry of a table that is known, so its place in the run is unknown."""


class AlreadyAppliedError(HiDiffusionError, RuntimeError):
    """Another pipeline of this model has the method with other settings."""


class ConcurrentCallError(HiDiffusionError, RuntimeError):
    """The model is called while another call of it is under way."""


class UnplannedCallError(HiDiffusionError, RuntimeError):
    """A block of the U-Net runs outside a call of the U-Net, so without a plan."""


class InterruptedGenerationError(HiDiffusionError, RuntimeError):
    """A pass was interrupted by its caller, so the generation ended there.

    Attributes:
        latents: as the pass left them, [B, C, h, w].
    """

    def __init__(self, message: str, latents: Any) -> None:
        super().__init__(message)
        self.latents = latents


class UnannouncedRunWarning(UserWarning):
    """A model runs in a pipeline that the method was not applied to, so not all is known of it."""
