"""Commands about generations that a running service knows: list, get, watch, and so on."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.making import default_target, follow, report
from service.cli.reaching import Running, with_service
from service.domain.generations.generation import Status

_Id = Annotated[str, typer.Argument(metavar="ID", help="Of a generation.")]
_Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Of one generation or several.")]


@with_service
def list_generations(
    running: Running,
    status: Annotated[Status | None, typer.Option(help="Only those with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One record a line, as JSON.")] = False,
) -> None:
    """List generations, newest first."""
    table = Table("id", "status", "size", "model", "prompt")
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.overflow = "fold"
    with running() as (client, _):
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


@with_service
def get(
    running: Running,
    generation_id: _Id,
) -> None:
    """Print the record of a generation as JSON."""
    with running() as (client, _):
        typer.echo(client.get(generation_id).model_dump_json(indent=2))


@with_service
def cancel(
    running: Running,
    generation_ids: _Ids,
) -> None:
    """Stop generations that are not final."""
    with running() as (client, _):
        for each in generation_ids:
            record = client.cancel(each)
            stopping = record.cancel_requested and not record.status.final
            typer.echo(f"{each}: {'stopping' if stopping else record.status.value}")


@with_service
def delete(
    running: Running,
    generation_ids: _Ids,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete generations with their pictures, for good; what runs is stopped."""
    if not yes:
        typer.confirm(f"Delete {len(generation_ids)} and their pictures for good?", abort=True)
    with running() as (client, _):
        for each in generation_ids:
            client.delete(each)
            typer.echo(f"{each}: deleted")


@with_service
def download(
    running: Running,
    generation_ids: _Ids,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, of a single one.")
    ] = None,
) -> None:
    """Download finished pictures."""
    if output is not None and len(generation_ids) > 1:
        raise typer.BadParameter("one file cannot hold several pictures", param_hint="--output")
    with running() as (client, _):
        for each in generation_ids:
            target = output or default_target(client.get(each))
            typer.echo(client.download(each, target).resolve())


@with_service
def watch(
    running: Running,
    generation_id: _Id,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write once it is done.")
    ] = None,
) -> None:
    """Follow a generation to its end and download its picture; Ctrl+C leaves it running."""
    console = Console()
    with running() as (client, service):
        record = follow(client, generation_id, console)
        target = client.download(generation_id, output or default_target(record))
        report(console, service, record, target)


#: The commands of this module, by their names.
COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_generations,
    "get": get,
    "watch": watch,
    "download": download,
    "cancel": cancel,
    "delete": delete,
}
