"""The client without its sockets: what to send, and what to make of the answers.

An operation is a generator, a plan. It yields actions and is sent their outcomes; a driver performs
them, `sync.py` by blocking and `aio.py` on an event loop. So whatever the client knows of the
service is written once. A connection that breaks is thrown into the plan as `UnreachableError`.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from service.client.errors import ClientError, UnreachableError, error_of
from service.client.messages import Call, Reply

R = TypeVar("R")

#: The service says something every 15 s on a stream; four times that is a dead connection.
SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Send:
    """Make the call; the outcome is its `Reply`."""

    call: Call


@dataclass(frozen=True)
class Open:
    """Make the call and keep it open for `Read`, in place of the one that was open before.

    Attributes:
        call: what to ask for.
        silence: seconds without a byte after which the connection counts as broken.
    """

    call: Call
    silence: float = SILENCE_SECONDS


@dataclass(frozen=True)
class Read:
    """Read on from what is open; the outcome is some bytes, none at the end."""


@dataclass(frozen=True)
class Pause:
    """Let some seconds pass."""

    seconds: float


@dataclass(frozen=True)
class Run:
    """Do something that may block, such as writing to a file; the outcome is what it returns."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class Emit:
    """Hand a value to the caller while the plan goes on."""

    value: Any


Action = Send | Open | Read | Pause | Run | Emit
Plan = Generator[Action, Any, R]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try.

    Every call can be repeated safely: those that create carry an idempotency key.

    Attributes:
        attempts: tries of one call, and connections in a row to a stream that bring nothing.
        first_pause: seconds before the second try; doubled for each one after that.
        longest_pause: seconds at most.
        longest_retry_after: seconds that the service may ask to wait; beyond it the call fails.
    """

    attempts: int = 6
    first_pause: float = 0.5
    longest_pause: float = 8.0
    longest_retry_after: float = 60.0

    def pause(self, failures: int, error: ClientError) -> float | None:
        """Seconds before the next try after so many failures, or None to give up."""
        if not error.retryable or failures >= self.attempts:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_retry_after else None
        longest = min(self.first_pause * 2 ** (failures - 1), self.longest_pause)
        # Clients that lost the same server must not all come back in the same moment.
        return random.uniform(longest / 2, longest)


def ask(call: Call, retry: RetryPolicy) -> Plan[Reply]:
    """The good answer to a call, after as many tries as it takes.

    Raises:
        ClientError: the service refuses, or was out of reach for too long.
    """
    for failures in count(1):
        error: ClientError | None
        try:
            reply: Reply = yield Send(call)
            error = error_of(reply)
        except UnreachableError as lost:
            error = lost
        if error is None:
            return reply
        yield from pause_or_raise(retry, failures, error)
    raise AssertionError("unreachable")


def pause_or_raise(retry: RetryPolicy, failures: int, error: ClientError) -> Plan[None]:
    """Let the pause before the next try pass, or give up with `error`."""
    pause = retry.pause(failures, error)
    if pause is None:
        raise error
    yield Pause(pause)
