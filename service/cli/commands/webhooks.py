"""Deliver webhooks and look after them: `hidiffusion webhooks deliver | secret | list | retry`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.problems import plain_errors, read_settings
from service.storage.secret_file import SecretFile

app = typer.Typer(help="Call clients back once their pictures are done.", no_args_is_help=True)

_DEFAULT_FILE = Path("webhook-secrets.json")


@app.command()
def deliver() -> None:
    """Deliver webhooks until told to stop; several of these may run side by side."""
    from service.bootstrap import run_webhooks

    settings = read_settings()
    with plain_errors():
        run_webhooks(settings)


@app.command()
def secret(
    tenant: Annotated[
        str, typer.Argument(help="Whose; none: that of a service without API keys.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Sign no more with the tenant's earlier secrets.")
    ] = False,
    file: Annotated[
        Path,
        typer.Option("--file", envvar="HIDIFFUSION_WEBHOOKS__SECRET_FILE", help="The secrets."),
    ] = _DEFAULT_FILE,
) -> None:
    """Make a secret to sign a tenant's webhooks with, and print it for whoever receives them."""
    try:
        typer.echo(SecretFile(file).add(tenant, replace=replace))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command(name="list")
def list_undelivered() -> None:
    """List the webhooks that wait for an attempt, and those that are dead."""
    from service.bootstrap import open_outbox

    table = Table("generation", "state", "when", "attempts", "last error")
    table.columns[0].no_wrap = True
    settings = read_settings()
    with plain_errors():
        for each in open_outbox(settings).undelivered():
            when = datetime.fromtimestamp(each.at, UTC)
            table.add_row(each.id, each.state, f"{when:%F %T}", str(each.attempts), each.error)
    Console().print(table)


@app.command()
def retry(generation_id: Annotated[str, typer.Argument(help="Id from the list.")]) -> None:
    """Try a dead webhook again, with as many attempts as a new one."""
    from service.bootstrap import open_outbox

    settings = read_settings()
    with plain_errors():
        revived = open_outbox(settings).revive(generation_id)
    if not revived:
        typer.echo(f"no dead webhook has the id {generation_id!r}", err=True)
        raise typer.Exit(1)
