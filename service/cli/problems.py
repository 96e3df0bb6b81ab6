"""How a command says what went wrong: in a line and a status, never in a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from redis import RedisError
from rich.console import Console
from rich.markup import escape

from service.cli.embedded import StartError
from service.client import ClientError
from service.domain.errors import ServiceError
from service.settings import Settings

#: What a user can do something about: `RuntimeError` is how it is told that devices cannot be
#: asked, `RedisError` how Redis refuses a user or a password.
_TOLD = (ClientError, StartError, ServiceError, RedisError, ValueError, OSError, RuntimeError)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say what went wrong in a line, without a traceback, and exit with status 1."""
    try:
        yield
    except typer.Exit:  # a RuntimeError too
        raise
    except _TOLD as error:
        _say("error", str(error))
        raise typer.Exit(1) from None


def read_settings() -> Settings:
    """The settings of the environment; exits with status 2 when one is wrong, naming each."""
    try:
        return Settings()
    except ValidationError as error:
        told = [
            f"HIDIFFUSION_{'__'.join(str(part).upper() for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        ]
        _say("bad settings", "\n".join(told))
    except ValueError as error:
        _say("bad settings", str(error))
    raise typer.Exit(2)


def _say(what: str, told: str) -> None:
    separator = "\n" if "\n" in told else " "
    console = Console(stderr=True)
    console.print(f"[red]{what}[/red]{separator}{escape(told)}", soft_wrap=True)
