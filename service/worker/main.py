"""The pipeline process: `python -m service.worker.main --channel-fd N`.

It connects the channel that its supervisor passed down, loads and warms the models, says so, and
then serves one run at a time until it is told to stop or the supervisor is gone. Settings come
from the environment, as everywhere.
"""

import argparse
import logging
import os
import queue
import signal
import threading
from typing import Any

import diffusers
import pyvips
import transformers

from service.domain.generation import Generation
from service.queue.channel import (
    Cancel,
    Channel,
    ChannelClosed,
    Happened,
    Message,
    Run,
    Stop,
    Warm,
    die_with_parent,
)
from service.settings import Settings
from service.storage.store import open_store
from service.telemetry import bind_generation, configure_logging
from service.worker.attempt import Attempt
from service.worker.failures import device_is_lost
from service.worker.generate import DeviceLost, Studio
from service.worker.pipelines import Pipelines
from service.worker.warm_up import warm_up

_log = logging.getLogger(__name__)

#: Exit status of a process that cannot understand its supervisor.
BROKEN_CHANNEL_STATUS = 76

#: Exit status of a process that cannot use its device any more.
DEVICE_LOST_STATUS = 75


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
        self._pipelines = Pipelines(catalog, settings.worker)
        self._studio = Studio(self._pipelines, open_store(settings.store), settings.worker)
        self._sending = threading.Lock()
        self._runs: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._cancelled: set[tuple[str, int]] = set()

    def serve(self) -> None:
        """Load, say so, and run what is asked for until told to stop."""
        threading.Thread(target=self._listen, name="channel", daemon=True).start()
        if self._settings.worker.preload:
            for name in self._models:
                self._preload(name)
        self._say_what_is_warm()
        while (generation := self._runs.get()) is not None:
            with bind_generation(generation.id, generation.attempt):
                self._run(generation)

    def _preload(self, name: str) -> None:
        """Load a model; one that fails is tried again when it is asked for."""
        try:
            warm_up(self._pipelines.get(name))
        except Exception as error:
            if device_is_lost(error):
                raise DeviceLost(str(error)) from error
            _log.exception("model %s is not warm", name)
            self._pipelines.forget(name)

    def _run(self, generation: Generation) -> None:
        fence, loads = (generation.id, generation.attempt), self._pipelines.loads
        self._studio.run(
            Attempt(
                generation,
                lambda event: self._send(Happened(generation_id=generation.id, event=event)),
                lambda: generation.cancel_requested or fence in self._cancelled,
            )
        )
        self._cancelled.discard(fence)
        if self._pipelines.loads != loads:
            self._say_what_is_warm()

    def _say_what_is_warm(self) -> None:
        self._send(Warm(models=self._pipelines.names, loads=self._pipelines.loads))

    def _send(self, message: Message) -> None:
        with self._sending:
            self._channel.send(message)

    def _listen(self) -> None:
        """Hear the supervisor; without one there is nobody to work for, so exit at once."""
        try:
            while True:
                match self._channel.receive():
                    case Run(generation=generation):
                        self._runs.put(generation)
                    case Cancel(generation_id=generation_id, attempt=attempt):
                        self._cancelled.add((generation_id, attempt))
                    case Stop():
                        self._runs.put(None)
        except ChannelClosed:
            os._exit(0)
        except Exception:
            _log.exception("the channel is broken")
            os._exit(BROKEN_CHANNEL_STATUS)


def main(arguments: list[str] | None = None) -> None:
    """Run the pipeline process."""
    parser = argparse.ArgumentParser(prog="python -m service.worker.main", description=__doc__)
    parser.add_argument("--channel-fd", type=int, required=True, help="socket to the supervisor")
    options = parser.parse_args(arguments)
    settings = Settings()
    if settings.store.url.startswith("memory:"):
        raise ValueError(
            f"store {settings.store.url!r} is private to each process, so nobody could read what "
            "this one writes; set HIDIFFUSION_STORE__URL to file:// or s3://"
        )
    configure_logging(settings.log_level)
    die_with_parent()
    # Signals to the whole group are the supervisor's business: it drains, then says Stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _tune_libraries()
    try:
        PipelineServer(Channel.from_fd(options.channel_fd), settings).serve()
    except ChannelClosed:
        _log.info("the supervisor is gone")
    except DeviceLost as error:
        _log.error("the device is lost: %s", error)
        os._exit(DEVICE_LOST_STATUS)


def _tune_libraries() -> None:
    """No bars and chatter; pictures are encoded side by side, one thread each, and not cached."""
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    logging.getLogger("pyvips").setLevel(logging.WARNING)
    for library in (diffusers, transformers):
        chatter: Any = library.utils.logging
        chatter.disable_progress_bar()
        chatter.set_verbosity_error()


if __name__ == "__main__":
    main()
