"""Errors as clients hear of them."""

import pytest
import torch

from hidiffusion import InvalidConfigError
from hidiffusion.decode import NonFiniteError
from service.domain.errors import StoreError, Unavailable
from service.worker.job.failures import (
    ModelUnavailable,
    UnsupportedRequest,
    device_is_lost,
    failure_of,
)


def _real_out_of_memory() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (ModelUnavailable("model 'sdxl'", "no/where", OSError("gone")), "MODEL_UNAVAILABLE", False),
        (UnsupportedRequest("no such scheduler"), "UNSUPPORTED_REQUEST", False),
        (InvalidConfigError("no such method"), "UNSUPPORTED_REQUEST", False),
        (NonFiniteError("the latents", "x"), "NON_FINITE_LATENTS", False),
        (NonFiniteError("outputs of conv_in", "x"), "NON_FINITE_PIXELS", False),
        (Unavailable("store", "refused"), "STORE_UNAVAILABLE", True),
        (StoreError("denied"), "STORE_ERROR", False),
        (torch.OutOfMemoryError("CUDA out of memory"), "OUT_OF_MEMORY", False),
        (_real_out_of_memory(), "OUT_OF_MEMORY", False),
        (RuntimeError("could not create a primitive"), "OUT_OF_MEMORY", False),
        (KeyError("surprise"), "GENERATION_FAILED", False),
    ],
)
def test_each_error_has_a_stable_reason(error: Exception, reason: str, retryable: bool) -> None:
    failure = failure_of(error)
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert failure.detail


def test_details_name_the_culprit() -> None:
    model = ModelUnavailable("model 'sdxl'", "no/where", OSError("gone"))
    assert failure_of(model).detail == (
        "model 'sdxl' cannot be loaded from 'no/where': gone; correct its `source` in the catalogue"
    )
    assert failure_of(KeyError("surprise")).detail == "KeyError: 'surprise'"


def test_what_computed_the_attention_is_a_suspect_where_latents_are_no_numbers() -> None:
    latents, pixels = (NonFiniteError(where, "x") for where in ("the latents", "the pixels"))
    assert "'sage': unset HIDIFFUSION_WORKER__ATTENTION" in failure_of(latents, "sage").detail
    assert "sage" not in failure_of(pixels, "sage").detail
    assert "HIDIFFUSION" not in failure_of(latents).detail


def test_only_a_broken_device_is_lost() -> None:
    assert device_is_lost(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not device_is_lost(torch.OutOfMemoryError("CUDA out of memory"))
    assert not device_is_lost(RuntimeError("shapes do not match"))
