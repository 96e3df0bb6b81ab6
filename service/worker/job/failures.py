"""What went wrong, as a stable reason for programs and a sentence for people."""

import errno
import math

import torch

from hidiffusion import HiDiffusionError
from hidiffusion.decode import NonFiniteError
from service.domain.errors import StoreError, Unavailable
from service.domain.generations.generation import Failure
from service.worker.job.checking import CheckerFailed, ContentFiltered


class ModelUnavailable(Exception):
    """A model of the catalogue, or something that goes with one, cannot be loaded.

    Args:
        what: what it is, with its name.
        source: where it was looked for.
        cause: what went wrong.
        remedy: what an operator can do about it.
    """

    def __init__(
        self,
        what: str,
        source: str,
        cause: Exception,
        remedy: str = "correct its `source` in the catalogue",
    ) -> None:
        super().__init__(f"{what} cannot be loaded from {source!r}: {cause}; {remedy}")


class UnsupportedRequest(Exception):
    """The request names something that this worker's catalogue or libraries do not have."""


class InputNotFound(Exception):
    """A picture that the request starts from is not in the store any more."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"the picture {upload_id!r} is gone; upload it and ask again")


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (ModelUnavailable, "MODEL_UNAVAILABLE"),
    (UnsupportedRequest, "UNSUPPORTED_REQUEST"),
    (HiDiffusionError, "UNSUPPORTED_REQUEST"),
    (InputNotFound, "INPUT_NOT_FOUND"),
    (ContentFiltered, "CONTENT_FILTERED"),
    (CheckerFailed, "CHECKER_FAILED"),
    (Unavailable, "STORE_UNAVAILABLE"),
    (StoreError, "STORE_ERROR"),
)


#: How torch's allocator for CPUs says it, and how oneDNN does, which has no memory for its own.
_OUT_OF_MEMORY = ("allocate memory", "could not create a primitive", "could not create a memory")


def failure_of(error: Exception, attention: str | None = None) -> Failure:
    """Describe an error to whoever asked for the picture.

    Args:
        error: what ended the attempt.
        attention: the backend that computed the network's attention, where one was chosen.
    """
    if isinstance(error, NonFiniteError):
        reason, detail = _non_finite_reason(error), str(error)
        if attention is not None and reason == "NON_FINITE_LATENTS":
            detail += (
                f"; attention was computed by {attention!r}: unset HIDIFFUSION_WORKER__ATTENTION"
            )
        return Failure(reason=reason, detail=detail)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return Failure(reason=reason, detail=str(error), retryable=kind is Unavailable)
    if is_out_of_memory(error):
        return out_of_memory(error, None)
    return Failure(
        reason="GENERATION_FAILED", detail=f"{type(error).__name__}: {_first_line(error)}"
    )


def store_reason(error: StoreError | Unavailable) -> str:
    """The stable reason of a store that fails (it may come back) or refuses."""
    return "STORE_UNAVAILABLE" if isinstance(error, Unavailable) else "STORE_ERROR"


def out_of_memory(error: Exception, largest: int | None) -> Failure:
    """Describe a lack of memory, and what would fit.

    Args:
        error: what the last try ended with.
        largest: most pixels that fit; None when the model was never measured on this device.
    """
    side = 0 if largest is None else math.isqrt(largest) // 8 * 8
    remedy = f"about {side} x {side} pixels would fit" if side else "ask for fewer pixels"
    return Failure(
        reason="OUT_OF_MEMORY",
        detail=f"the device has not enough memory, not even for a second, more frugal try; "
        f"{remedy} ({_first_line(error)})",
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )


def device_is_lost(error: Exception) -> bool:
    """Whether the process can no longer use its device and must be replaced."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def is_out_of_descriptors(error: BaseException | None) -> bool:
    """Whether the process, or the machine, could open no more files, and this came of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            return True
        error = error.__cause__ or error.__context__
    return False


def _non_finite_reason(error: NonFiniteError) -> str:
    return "NON_FINITE_LATENTS" if error.where == "the latents" else "NON_FINITE_PIXELS"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
