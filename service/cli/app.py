"""The `hidiffusion` command and its subcommands."""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.at_hand import (
    DEFAULT_DATA,
    DataOption,
    embedded_and_ready,
    need_torch,
    stop_on_terminate,
)
from service.cli.commands import generate, generations, keys, models, upscale, webhooks
from service.cli.commands.devices import CPU, chosen_devices, run_workers, visible_devices
from service.cli.problems import plain_errors, read_settings
from service.cli.settings_table import describe_settings
from service.telemetry import configure_logging

app = typer.Typer(
    help="High-resolution pictures with HiDiffusion: run the service, or ask it for a picture.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(webhooks.app, name="webhooks")

app.command()(generate.generate)
app.command()(upscale.upscale)
for name, command in generations.COMMANDS.items():
    app.command(name)(command)

_DevicesOption = Annotated[
    str | None,
    typer.Option(
        help="One worker a device: all, or numbers such as 0,1; cpu may be named. Each sees its "
        "own device alone. Default: one worker, on the device of HIDIFFUSION_WORKER__DEVICE."
    ),
]


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hidiffusion {metadata.version('hidiffusion')}")
        raise typer.Exit


@app.callback()
def hidiffusion(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_tell_version, is_eager=True, help="Tell the version."
        ),
    ] = False,
) -> None:
    """High-resolution pictures with HiDiffusion: run the service, or ask it for a picture."""


@app.command()
def up(data: DataOption = DEFAULT_DATA, devices: _DevicesOption = None) -> None:
    """Run the whole service on this machine until interrupted: Redis, API, gRPC and workers."""
    console = Console()
    need_torch()
    if devices is not None:
        with plain_errors():
            _chosen(devices)
    stop_on_terminate()
    with suppress(KeyboardInterrupt), embedded_and_ready(data, console, devices) as service:
        console.print(f"[green]ready[/green]: open {service.url}/ in a browser", soft_wrap=True)
        table = Table(show_header=False, box=None)
        table.add_row("HTTP", service.url, "[dim]API documentation at /docs[/dim]")
        table.add_row("gRPC", service.grpc_address, "[dim]with reflection[/dim]")
        table.add_row("data", str(service.data), "[dim]logs in logs/[/dim]")
        console.print(table)
        console.print("Press Ctrl+C to stop.")
        while True:
            time.sleep(1.0)
            for name in service.revive():
                console.print(f"[yellow]{name} died and was started again[/yellow]")


@app.command()
def api() -> None:
    """Run the HTTP and gRPC front ends; settings come from HIDIFFUSION_* variables."""
    from service.bootstrap import run_api

    with plain_errors():
        run_api(read_settings())


@app.command()
def worker(devices: _DevicesOption = None) -> None:
    """Run one worker, a supervisor and its warm pipeline process; with --devices, one a device."""
    settings = read_settings()
    need_torch()
    with plain_errors():
        if devices is None:
            from service.supervisor.start import run_worker

            run_worker(settings)
            return
        configure_logging(settings.log_level, settings.log_format)
        raise typer.Exit(run_workers(settings, _chosen(devices)))


@app.command()
def sweep(
    scan: Annotated[
        bool,
        typer.Option(
            "--scan", help="Go through every object too: for what Redis has lost track of."
        ),
    ] = False,
) -> None:
    """Delete from the store what is over its budget and what has ended."""
    from service.bootstrap import sweep as sweep_store

    with plain_errors():
        swept = sweep_store(read_settings(), scan=scan)
    deleted = f"deleted {swept.records} records and {swept.objects} objects"
    typer.echo(f"{deleted}; {swept.kept_bytes} bytes stay")


@app.command()
def verify(
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget them, as if they had been purged.")
    ] = False,
) -> None:
    """List results that the store does not hold whole, as after a restored backup."""
    from service.bootstrap import verify as verify_results

    with plain_errors():
        broken = verify_results(read_settings(), forget=forget)
    for generation in broken:
        typer.echo(generation.id)
    what = "forgotten" if forget else "not whole"
    typer.echo(f"{len(broken)} results are {what}" if broken else "every result is whole", err=True)
    raise typer.Exit(1 if broken and not forget else 0)


@app.command()
def quarantine() -> None:
    """List the generations that some process could not read; another version recorded them."""
    from service.bootstrap import quarantined

    table = Table("generation", "since", "what is wrong with it")
    table.columns[0].no_wrap = True
    with plain_errors():
        for one in quarantined(read_settings()):
            since = datetime.fromtimestamp(one.since, UTC).isoformat(timespec="seconds")
            table.add_row(one.id, since, escape(one.cause))
    Console().print(table if table.row_count else "every record can be read")


@app.command()
def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """List every setting: environment variable, default and meaning."""
    rows = describe_settings()
    if markdown:
        typer.echo("| variable | default | meaning |\n| --- | --- | --- |")
        for row in rows:
            typer.echo(f"| `{row.variable}` | `{row.default}` | {row.description} |")
        return
    table = Table("variable", "default", "meaning")
    for row in rows:
        table.add_row(row.variable, escape(row.default), escape(row.description))
    Console().print(table)


def _chosen(devices: str) -> list[str]:
    only_cpu = set(devices.split(",")) == {CPU}
    return chosen_devices(devices, [] if only_cpu else visible_devices(os.environ))
