"""A running service, and one that answers as a script says."""

from tests.service.api.conftest import shared_stack, stack

__all__ = ["shared_stack", "stack"]
