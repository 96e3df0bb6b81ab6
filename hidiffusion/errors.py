"""What the library raises.

* HiDiffusionError
  + UnsupportedModelError   no U-Net, or one whose structure is in no row of the table
  + UnsupportedPipelineError  a kind of pipeline that a method cannot run
  + InvalidConfigError      a setting that is out of range or contradicts the model
  + MissingSchedulerError   nothing tells where a step stands in the run
  + AlreadyAppliedError     applied before, with another configuration
  + UnplannedCallError      a block of the U-Net was called outside the U-Net's forward
"""


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


class AlreadyAppliedError(HiDiffusionError, RuntimeError):
    """The model carries the method with another configuration."""


class UnplannedCallError(HiDiffusionError, RuntimeError):
    """A block of the U-Net runs outside a call of the U-Net, so without a plan."""
