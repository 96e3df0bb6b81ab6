"""A service to ask: the one named, one that runs here, or an embedded one started for the job."""

import importlib.util
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.cli.connection import Connection, local_service
from service.cli.embedded import Embedded, embedded_service
from service.cli.problems import plain_errors, read_settings

DataOption = Annotated[
    Path, typer.Option("--data", help="Folder of the embedded service: results, queue, logs.")
]
DEFAULT_DATA = Path("data")


def running_service(server: str | None, verify: ssl.SSLContext | bool) -> Connection | None:
    """The service named, or one that runs here."""
    return Connection(server, verify) if server else local_service(read_settings().api, verify)


@contextmanager
def service_at_hand(
    server: str | None, verify: ssl.SSLContext | bool, data: Path, console: Console
) -> Iterator[Connection]:
    """The service to use: the one named, one that runs here, or an embedded one."""
    if connection := running_service(server, verify):
        yield connection
        return
    need_torch()
    with embedded_and_ready(data, console) as service:
        yield Connection(service.url, lasting=False)


@contextmanager
def embedded_and_ready(
    data: Path, console: Console, devices: str | None = None
) -> Iterator[Embedded]:
    with plain_errors(), embedded_service(data, read_settings(), devices) as service:
        with console.status("starting Redis, the API and a worker, and warming the model"):
            service.wait_until_ready()
        yield service


def stop_on_terminate() -> None:
    """Let SIGTERM unwind like Ctrl+C, so that every child is stopped in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def need_torch() -> None:
    """A supervisor never loads torch, so its absence would show in the pipeline process alone."""
    for package in ("torch", "diffusers"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(name=package)
