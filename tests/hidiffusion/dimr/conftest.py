"""Settings of DiMR's tests."""

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Run everything on one thread: the networks are too small to be shared out."""
