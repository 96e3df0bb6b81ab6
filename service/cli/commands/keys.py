"""Manage the file of API keys: `hidiffusion keys create | list | revoke`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.application.access import new_key
from service.domain.access import KeyLimits, Scope
from service.storage.key_file import KeyFile

app = typer.Typer(help="Manage the API keys of a service.", no_args_is_help=True)

_FileOption = Annotated[
    Path, typer.Option("--file", envvar="HIDIFFUSION_API__KEY_FILE", help="The file of keys.")
]
_DEFAULT_FILE = Path("keys.json")
_DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="Whose key: lower-case letters, digits, hyphens.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="May be given again; default: read and write.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires.")] = None,
    requests: Annotated[int | None, typer.Option(help="Changing requests a minute.")] = None,
    reads: Annotated[int | None, typer.Option(help="Reading requests a minute.")] = None,
    unfinished: Annotated[int | None, typer.Option(help="Unfinished generations at once.")] = None,
    megapixels: Annotated[float | None, typer.Option(help="Megapixels a minute.")] = None,
    megabytes: Annotated[float | None, typer.Option(help="Stored megabytes.")] = None,
    weight: Annotated[float, typer.Option(help="Share of busy workers beside others'.")] = 1.0,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    file: _FileOption = _DEFAULT_FILE,
) -> None:
    """Make a key and print its token, this once: the file holds only a hash of it."""
    now = datetime.now(UTC)
    try:
        limits = KeyLimits(
            requests_per_minute=requests,
            reads_per_minute=reads,
            unfinished=unfinished,
            megapixels_per_minute=megapixels,
            stored_megabytes=megabytes,
            weight=weight,
        )
        expires = now + timedelta(days=days) if days else None
        scopes = tuple(scope or _DEFAULT_SCOPES)
        key, token = new_key(tenant, scopes, now, expires_at=expires, limits=limits, note=note)
        KeyFile(file).add(key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(token)


@app.command(name="list")
def list_keys(file: _FileOption = _DEFAULT_FILE) -> None:
    """List every key, without its secret."""
    table = Table("id", "tenant", "scopes", "expires", "limits", "note")
    table.columns[0].no_wrap = True
    for key in KeyFile(file).all():
        limits = key.limits.model_dump(exclude_defaults=True)
        table.add_row(
            key.id,
            key.tenant,
            ", ".join(key.scopes),
            f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never",
            ", ".join(f"{name}={value:g}" for name, value in limits.items()),
            key.note,
        )
    Console().print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, the middle part of its token.")],
    file: _FileOption = _DEFAULT_FILE,
) -> None:
    """Remove a key; running services refuse it from now on."""
    if not KeyFile(file).remove(key_id):
        typer.echo(f"no key has the id {key_id!r}; see: hidiffusion keys list", err=True)
        raise typer.Exit(1)
