"""What commands over a running service have in common: the options that say how it is reached."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from service.cli.at_hand import running_service
from service.cli.connection import (
    AuthorityOption,
    CertificateOption,
    Connection,
    KeyOption,
    ServerOption,
    trust,
)
from service.cli.problems import plain_errors
from service.client import Client

#: Opens a client of the service that runs, and says how it is reached.
Running = Callable[[], AbstractContextManager[tuple[Client, Connection]]]

_OPTIONS = {
    "server": ServerOption,
    "ca_certificate": AuthorityOption,
    "client_certificate": CertificateOption,
    "client_key": KeyOption,
}


def with_service(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of a connection in the place of its first parameter."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        reached = functools.partial(_running, *(given.pop(name) for name in _OPTIONS))
        command(reached, **given)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]
    run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*own, *more)}
    return run


@contextmanager
def _running(
    server: str | None, authority: Path | None, certificate: Path | None, key: Path | None
) -> Iterator[tuple[Client, Connection]]:
    """A client of the service that runs; what goes wrong with it is said in a line."""
    with plain_errors():
        connection = running_service(server, trust(authority, certificate, key))
        if connection is None:
            raise ValueError(
                "no service runs here; start one with `hidiffusion up`, or name one by --server"
            )
        with connection.client() as client:
            yield client, connection
