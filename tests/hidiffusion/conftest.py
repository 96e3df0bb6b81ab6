"""Settings of the library's tests."""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

# Machines differ in speed: no time limit a case, and no more cases than find mistakes here.
hypothesis.settings.register_profile("library", deadline=None, max_examples=40)
hypothesis.settings.load_profile("library")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sum in the order in which the reference was summed.

    With other numbers of threads float32 sums are cut elsewhere, and 1e-5 is less than that shows.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
