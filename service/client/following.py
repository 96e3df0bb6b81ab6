"""Plans that follow a generation: its events, its tiles, its end."""

import json
import time
from collections import deque

from service.client.errors import (
    ClientError,
    NotFoundError,
    UnreachableError,
    WaitTimeoutError,
    error_of,
)
from service.client.messages import Call
from service.client.models import Event, Generation, Tile, TileEvent, event_of
from service.client.operations import Request, create, get, path_of, result_of
from service.client.plans import (
    SILENCE_SECONDS,
    Emit,
    Open,
    Plan,
    Read,
    RetryPolicy,
    ask,
    pause_or_raise,
)
from service.client.server_sent import EventParser

#: A connection that held for so many seconds was a good one, though nothing happened.
_HEALTHY_SECONDS = 10.0


class Feed:
    """The events of one generation, each once and in order, over as many connections as it takes.

    Args:
        generation_id: whose.
        after: id of the last event that is known already.
        timeout: seconds until it gives up; None never does.
        retry: how long to try when the service is away.
    """

    def __init__(
        self, generation_id: str, after: str | None, timeout: float | None, retry: RetryPolicy
    ) -> None:
        self._id = generation_id
        self._last = after
        self._seen: set[str] = set()
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._retry = retry
        self._ready: deque[Event] = deque()
        self._parser: EventParser | None = None
        self._opened = 0.0
        self._failures = 0
        self._over = False

    def next(self) -> Plan[Event | None]:
        """The next event; None after the final one.

        Raises:
            ClientError: the service refuses, or stays away for too long.
            WaitTimeoutError: the time is up.
        """
        while not self._ready and not self._over:
            try:
                yield from self._receive()
            except ClientError as error:
                self._parser = None
                self._check_time()
                yield from self._pause(error)
            self._check_time()
        return self._ready.popleft() if self._ready else None

    def _receive(self) -> Plan[None]:
        if self._parser is None:
            yield from self._connect()
            return
        chunk: bytes = yield Read()
        if not chunk:
            raise UnreachableError(f"the event stream of {self._id} broke off too often")
        for sent in self._parser.feed(chunk):
            if sent.id in self._seen:
                continue
            self._seen.add(sent.id)
            self._last, self._failures = sent.id, 0
            event = event_of(sent.id, json.loads(sent.data))
            self._ready.append(event)
            self._over = self._over or event.final

    def _connect(self) -> Plan[None]:
        headers = {"Accept": "text/event-stream"}
        if self._last is not None:
            headers["Last-Event-ID"] = self._last
        silence = SILENCE_SECONDS if self._deadline is None else self._left(self._deadline)
        call = Call("GET", f"{path_of(self._id)}/events", headers=headers)
        self._opened = time.monotonic()
        reply = yield Open(call, silence=min(silence, SILENCE_SECONDS))
        error = error_of(reply)
        if error is not None:
            raise error
        self._over = reply.status == 204
        self._parser = EventParser()

    def _pause(self, error: ClientError) -> Plan[None]:
        if time.monotonic() - self._opened > _HEALTHY_SECONDS:
            self._failures = 0
        self._failures += 1
        yield from pause_or_raise(self._retry, self._failures, error)

    def _check_time(self) -> None:
        if self._deadline is not None and not self._over and time.monotonic() >= self._deadline:
            raise WaitTimeoutError(f"generation {self._id} is not final yet; it goes on")

    @staticmethod
    def _left(deadline: float) -> float:
        return max(deadline - time.monotonic(), 0.01)


def events(
    generation_id: str, after: str | None, timeout: float | None, retry: RetryPolicy
) -> Plan[None]:
    """Emit every event in order, up to the final one."""
    feed = Feed(generation_id, after, timeout, retry)
    while (event := (yield from feed.next())) is not None:
        yield Emit(event)


def wait(generation_id: str, timeout: float | None, retry: RetryPolicy) -> Plan[Generation]:
    """Emit every event, and return the record of a generation that succeeded.

    Raises:
        GenerationFailedError: it failed.
        GenerationCancelledError: it was cancelled.
        WaitTimeoutError: it is not final in time.
    """
    yield from events(generation_id, None, timeout, retry)
    generation = yield from get(generation_id, retry)
    result_of(generation)
    return generation


def generate(
    request: Request, key: str | None, timeout: float | None, retry: RetryPolicy
) -> Plan[Generation]:
    """Ask for a picture and wait for it."""
    generation = yield from create(request, key, retry)
    return (yield from wait(generation.id, timeout, retry))


def tiles(generation_id: str, timeout: float | None, retry: RetryPolicy) -> Plan[None]:
    """Emit every tile with its bytes as it lands, up to the end of the generation."""
    feed = Feed(generation_id, None, timeout, retry)
    while (event := (yield from feed.next())) is not None:
        if isinstance(event, TileEvent):
            yield from _tile(event, retry)
    result_of((yield from get(generation_id, retry)))


def _tile(event: TileEvent, retry: RetryPolicy) -> Plan[None]:
    try:
        reply = yield from ask(Call("GET", event.tile.href), retry)
    except NotFoundError:
        # A later attempt has begun meanwhile, and announces the tile again.
        return
    place = event.tile.model_dump()
    yield Emit(
        Tile(**place, attempt=event.attempt, done=event.done, total=event.total, data=reply.content)
    )
