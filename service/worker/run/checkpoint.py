"""Put a denoising aside in the object store from time to time, and find what was put aside.

Each attempt has one checkpoint, its newest; a put replaces the one before in one step. A later
attempt at the same generation takes up the newest one that there is.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from service.application.ports import ObjectStore
from service.domain.artifacts import CHECKPOINT_MEDIA_TYPE, ArtifactKeys
from service.domain.errors import NotFound, ServiceError
from service.domain.generations.generation import Generation
from service.settings import WorkerSettings
from service.worker.job.attempt import Attempt
from service.worker.job.snapshot import NotStorable, Snapshot, from_bytes, to_bytes

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A checkpoint, and where everything lies that its attempt stored."""

    snapshot: Snapshot
    keys: ArtifactKeys


def newest_checkpoint(
    store: ObjectStore, generation: Generation, recipe: dict[str, Any], device: torch.device
) -> Found | None:
    """What the latest of the earlier attempts put aside, or None: begin at the beginning.

    Args:
        store: where checkpoints are.
        generation: with the number of the attempt that begins now.
        recipe: all that decides the picture; a checkpoint of another recipe is passed over.
        device: where the pipeline computes.

    Raises:
        Unavailable, StoreError: the store cannot be asked.
    """
    numbers = range(generation.attempt - 1, 0, -1)
    for keys in chain.from_iterable(ArtifactKeys.either(generation.id, each) for each in numbers):
        key = keys.checkpoint
        try:
            snapshot = from_bytes(store.get(key), recipe, device)
        except NotFound:
            continue
        except ValueError as error:
            _log.warning("passing over %s: %s", key, error)
            continue
        if snapshot is not None:
            _log.info("going on after step %d, from %s", snapshot.step, key)
            return Found(snapshot, keys)
        _log.info("passing over %s: it belongs to another recipe", key)
    return None


class Checkpoints:
    """The checkpoints of one attempt, written on a thread of their own.

    One is written once `checkpoint_every_steps` steps and `checkpoint_every_seconds` seconds have
    both passed since the last, after the last step if that much time has passed, and when the
    attempt is suspended. One that cannot be written is
    left out: the attempt goes on. What was written is deleted when the picture is complete.

    Args:
        attempt: whose state it is.
        store: takes them.
        settings: how often.
        recipe: all that decides the picture.
        begin: what the attempt took up itself, if anything.
    """

    def __init__(
        self,
        attempt: Attempt,
        store: ObjectStore,
        settings: WorkerSettings,
        recipe: dict[str, Any],
        begin: Snapshot | None,
    ) -> None:
        self._attempt = attempt
        self._store = store
        self._key = attempt.keys.checkpoint
        self._settings = settings
        self._recipe = recipe
        self._newest = begin
        self._stored_step = 0 if begin is None else begin.step
        self._stored_at = time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None

    def offer(self, snapshot: Snapshot, *, last: bool) -> None:
        """Keep a snapshot in mind, and store it when it is time."""
        self._newest = snapshot
        every = self._settings.checkpoint_every_steps
        enough = snapshot.step - self._stored_step >= (1 if last else every)
        idle = self._under_way is None or self._under_way.done()
        spent = time.monotonic() - self._stored_at
        if every and enough and idle and spent >= self._settings.checkpoint_every_seconds:
            self._submit(snapshot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait()
        if kind is None:
            self._discard()
        elif self._attempt.suspended() and self._newest is not None:
            if self._newest.step > self._stored_step:
                self._submit(self._newest)
            self._wait()
        self._pool.shutdown()

    def _discard(self) -> None:
        if self._under_way is not None:
            try:
                self._store.delete_prefix(self._key)
            except ServiceError as error:
                _log.warning("the checkpoint stays until it is swept: %s", error)

    def _submit(self, snapshot: Snapshot) -> None:
        self._stored_step, self._stored_at = snapshot.step, time.monotonic()
        self._under_way = self._pool.submit(self._write, snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        try:
            data = to_bytes(snapshot, self._recipe)
            self._store.put(self._key, data, CHECKPOINT_MEDIA_TYPE)
        except (NotStorable, ServiceError) as error:
            _log.warning("no checkpoint of step %d: %s", snapshot.step, error)
        else:
            _log.info("checkpoint of step %d, %d bytes", snapshot.step, len(data))

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()
