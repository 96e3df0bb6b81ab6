"""The object store, or the folder in its place, fails."""

import random
import time

from tests.chaos.stack import Stack


def store_500(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store answers 500."""
    _store(stack, "500", chance.uniform(0.5, 5))


def store_503(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store answers 503."""
    _store(stack, "503", chance.uniform(0.5, 5))


def store_full(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store has no room."""
    _store(stack, "full", chance.uniform(0.5, 5))


def store_denied(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store denies access."""
    _store(stack, "denied", chance.uniform(0.5, 5))


def store_cut(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The store does what it is asked and drops the connection instead of answering."""
    _store(stack, "cut", chance.uniform(0.2, 2))


def store_slow(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """Every answer of the store takes a second."""
    _store(stack, "slow", chance.uniform(1, 4))


def folder_full(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The disk of the service, with the folder of the store, has no room."""
    stack.machine.fill_disk(True)
    time.sleep(chance.uniform(0.5, 5))
    stack.machine.fill_disk(False)


def _store(stack: Stack, fault: str, seconds: float) -> None:
    stack.faulty.fault = fault  # type: ignore[assignment]
    time.sleep(seconds)
    stack.faulty.fault = "none"
