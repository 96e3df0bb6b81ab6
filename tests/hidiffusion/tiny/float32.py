"""What a result in float32 may differ by, told by float64 and not by one processor."""

import torch
from torch import Tensor

#: How many times further from the exact numbers ours in float32 may be than the authors' float32.
#: Each rounds as its processor does; the largest of many roundings differs little between them.
MARGIN = 8


def assert_meets(
    theirs: Tensor, exact: Tensor, rounded: Tensor, limit: float, name: str = ""
) -> None:
    """Compare with a reference that was computed in float32 elsewhere.

    Args:
        theirs: The reference.
        exact: Ours in float64, whose difference from the reference is that one's own rounding.
        rounded: Ours in float32, as this processor rounds.
        limit: Largest absolute difference of `exact` from `theirs`.
        name: What is compared, for the message.
    """
    assert exact.shape == theirs.shape == rounded.shape, name
    assert exact.dtype == torch.float64, name
    assert rounded.dtype == torch.float32, name
    authors = _distance(theirs, exact)
    assert authors <= limit, name
    unit = torch.finfo(torch.float32).eps * exact.abs().max().item()
    assert _distance(rounded, exact) <= MARGIN * max(authors, unit), name


def _distance(one: Tensor, other: Tensor) -> float:
    return (one.double() - other.double()).abs().max().item()
