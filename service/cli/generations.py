"""Commands about generations that a running service knows: list, get, watch, and so on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.at_hand import running_service
from service.cli.connection import (
    AuthorityOption,
    CertificateOption,
    Connection,
    KeyOption,
    ServerOption,
    trust,
)
from service.cli.making import default_target, follow, report
from service.cli.problems import plain_errors
from service.client import Client
from service.domain.generation import Status

_Id = Annotated[str, typer.Argument(metavar="ID", help="Of a generation.")]
_Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Of one generation or several.")]


def list_generations(
    status: Annotated[Status | None, typer.Option(help="Only those with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One record a line, as JSON.")] = False,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """List generations, newest first."""
    table = Table("id", "status", "size", "model", "prompt")
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.overflow = "fold"
    with _running(server, ca_certificate, client_certificate, client_key) as (client, _):
        records = client.list(status=status, page_size=min(limit, 100))
        for record, _ in zip(records, range(limit), strict=False):
            if as_json:
                typer.echo(record.model_dump_json())
            request = record.request
            size = f"{request.output_width} x {request.output_height}"
            cells = (record.id, record.status.value, size, request.model, request.prompt)
            table.add_row(*(escape(cell) for cell in cells))
    if not as_json:
        Console().print(table)


def get(
    generation_id: _Id,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """Print the record of a generation as JSON."""
    with _running(server, ca_certificate, client_certificate, client_key) as (client, _):
        typer.echo(client.get(generation_id).model_dump_json(indent=2))


def cancel(
    generation_ids: _Ids,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """Stop generations that are not final."""
    with _running(server, ca_certificate, client_certificate, client_key) as (client, _):
        for each in generation_ids:
            record = client.cancel(each)
            stopping = record.cancel_requested and not record.status.final
            typer.echo(f"{each}: {'stopping' if stopping else record.status.value}")


def delete(
    generation_ids: _Ids,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """Delete generations with their pictures, for good; what runs is stopped."""
    if not yes:
        typer.confirm(f"Delete {len(generation_ids)} and their pictures for good?", abort=True)
    with _running(server, ca_certificate, client_certificate, client_key) as (client, _):
        for each in generation_ids:
            client.delete(each)
            typer.echo(f"{each}: deleted")


def download(
    generation_ids: _Ids,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, of a single one.")
    ] = None,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """Download finished pictures."""
    if output is not None and len(generation_ids) > 1:
        raise typer.BadParameter("one file cannot hold several pictures", param_hint="--output")
    with _running(server, ca_certificate, client_certificate, client_key) as (client, _):
        for each in generation_ids:
            target = output or default_target(client.get(each))
            typer.echo(client.download(each, target).resolve())


def watch(
    generation_id: _Id,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write once it is done.")
    ] = None,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """Follow a generation to its end and download its picture; Ctrl+C leaves it running."""
    console = Console()
    with _running(server, ca_certificate, client_certificate, client_key) as (client, service):
        record = follow(client, generation_id, console)
        target = client.download(generation_id, output or default_target(record))
        report(console, service, record, target)


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


#: The commands of this module, by their names.
COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_generations,
    "get": get,
    "watch": watch,
    "download": download,
    "cancel": cancel,
    "delete": delete,
}
