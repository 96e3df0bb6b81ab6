"""The child's side of the channel: takes runs, tells events."""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Sequence

from service import tracing
from service.channel import (
    ALIVE_SECONDS,
    Alive,
    Cancel,
    Channel,
    ChannelClosed,
    DeviceFree,
    Happened,
    Message,
    Run,
    Stop,
    Warm,
)
from service.domain.generations.events import Event, status_after
from service.domain.generations.generation import Generation
from service.settings import Settings
from service.storage.store import open_store
from service.telemetry import bind_generation
from service.worker.job.attempt import Attempt
from service.worker.job.safety import chosen_checker
from service.worker.process.libraries import tune_libraries
from service.worker.process.warm_up import warm_up
from service.worker.run.generate import DeviceLost, ProcessUnfit, Studio, unfitness
from service.worker.weights.garbage import set_loaded_aside
from service.worker.weights.pipelines import Pipelines

_log = logging.getLogger(__name__)

#: Exit status of a process in which nothing can be run any more.
UNFIT_STATUS = 75

#: Exit status of a process that cannot understand its supervisor.
BROKEN_CHANNEL_STATUS = 76


def serve(channel: Channel, settings: Settings) -> None:
    """Serve runs in turn until told to stop, or until the supervisor or the device is gone."""
    tune_libraries()
    try:
        PipelineServer(channel, settings).serve()
    except ChannelClosed:
        _log.info("the supervisor is gone")
    except ProcessUnfit as error:
        _log.error("another process has to go on: %s: %s", type(error).__name__, error)
        _leave(UNFIT_STATUS)


class PipelineServer:
    """The child's side of the channel: takes runs, tells events.

    Args:
        channel: the line to the supervisor.
        settings: of the whole service.
    """

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        catalog = settings.load_catalog()
        self._models = settings.worker.models or catalog.names
        self._pipelines = Pipelines(settings)
        checker = chosen_checker(settings.worker, catalog, self._pipelines.device)
        self._studio = Studio(
            self._pipelines,
            open_store(settings.store),
            settings.worker,
            checker,
            on_failure=lambda: self._runs.put(None),
        )
        self._sending = threading.Lock()
        self._runs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._cancelled: set[tuple[str, int]] = set()
        self._suspended: set[tuple[str, int]] = set()

    def serve(self) -> None:
        """Load, say so, and run what is asked for until told to stop."""
        threading.Thread(target=self._listen, name="channel", daemon=True).start()
        threading.Thread(target=self._tell_alive, name="alive", daemon=True).start()
        if self._settings.worker.preload:
            for name in self._models:
                self._preload(name)
        set_loaded_aside()
        self._send(self._what_is_warm())
        try:
            while (run := self._runs.get()) is not None:
                with bind_generation(run.generation.id, run.generation.attempt):
                    self._run((run.generation, *run.mates))
        except DeviceLost:
            self._studio.finish()
            raise
        self._studio.finish()

    def _preload(self, name: str) -> None:
        """Load a model if it fits; one that fails is tried again when it is asked for."""
        if not self._pipelines.has_room(name):
            _log.warning("model %s is not loaded ahead: no room beside those before it", name)
            return
        try:
            warm_up(self._pipelines.get(name))
        except Exception as error:
            if unfit := unfitness(error):
                raise unfit from error
            _log.exception("model %s is not warm", name)
            self._pipelines.forget(name)

    def _run(self, generations: Sequence[Generation]) -> None:
        before = self._what_is_warm()
        self._pipelines.refresh()
        self._studio.draw([self._attempt(generation) for generation in generations])
        if self._what_is_warm() != before:
            set_loaded_aside()
            self._send(self._what_is_warm())
        first = generations[0]
        self._send(DeviceFree(generation_id=first.id, attempt=first.attempt))

    def _attempt(self, generation: Generation) -> Attempt:
        fence = (generation.id, generation.attempt)

        def emit(event: Event) -> None:
            self._send(Happened(generation_id=generation.id, event=event))
            if status_after(event).final:
                self._cancelled.discard(fence)
                self._suspended.discard(fence)

        return Attempt(
            generation,
            emit,
            lambda: generation.cancel_requested or fence in self._cancelled,
            lambda: fence in self._suspended,
            spread_keys=self._settings.store.spread_keys,
        )

    def _what_is_warm(self) -> Warm:
        return Warm(
            models=tuple(sorted(self._pipelines.names)),
            loads=self._pipelines.loads,
            evictions=self._pipelines.evictions,
            capacities=self._pipelines.memory.capacities,
        )

    def _send(self, message: Message) -> None:
        with self._sending:
            self._channel.send(message)

    def _tell_alive(self) -> None:
        with contextlib.suppress(ChannelClosed):
            while True:
                self._send(Alive())
                time.sleep(ALIVE_SECONDS)

    def _listen(self) -> None:
        """Hear the supervisor; without one there is nobody to work for, so exit at once."""
        try:
            while True:
                match self._channel.receive():
                    case Run() as run:
                        self._runs.put(run)
                    case Cancel(generation_id=generation_id, attempt=attempt) as cancel:
                        wanted = self._suspended if cancel.resumable else self._cancelled
                        wanted.add((generation_id, attempt))
                    case Stop():
                        self._runs.put(None)
        except ChannelClosed:
            _leave(0)
        except Exception:
            _log.exception("the channel is broken")
            _leave(BROKEN_CHANNEL_STATUS)


def _leave(status: int) -> None:
    tracing.flush()
    os._exit(status)
