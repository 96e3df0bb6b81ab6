"""The `hidiffusion` command and its subcommands."""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli import keys, models, upscale, webhooks
from service.cli.at_hand import (
    embedded_and_ready,
    need_torch,
    service_at_hand,
    stop_on_terminate,
)
from service.cli.connection import (
    AuthorityOption,
    CertificateOption,
    KeyOption,
    ServerOption,
    trust,
)
from service.cli.devices import CPU, chosen_devices, run_workers, visible_devices
from service.cli.generate import generate_picture
from service.cli.problems import plain_errors, read_settings
from service.cli.settings_table import describe_settings
from service.telemetry import configure_logging

app = typer.Typer(
    help="High-resolution pictures with HiDiffusion: run the service, or ask it for a picture.",
    no_args_is_help=True,
    add_completion=False,
)

app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(webhooks.app, name="webhooks")

app.command()(upscale.upscale)

_DataOption = Annotated[
    Path, typer.Option("--data", help="Folder of the embedded service: results, queue, logs.")
]
_DEFAULT_DATA = Path("data")

_DevicesOption = Annotated[
    str | None,
    typer.Option(
        help="One worker a device: all, or numbers such as 0,1; cpu may be named. Each sees its "
        "own device alone. Default: one worker, on the device of HIDIFFUSION_WORKER__DEVICE."
    ),
]


def _picture_option(text: str) -> Any:
    return typer.Option(exists=True, dir_okay=False, readable=True, metavar="FILE", help=text)


@app.command()
def up(data: _DataOption = _DEFAULT_DATA, devices: _DevicesOption = None) -> None:
    """Run the whole service on this machine until interrupted: Redis, API, gRPC and workers."""
    console = Console()
    need_torch()
    if devices is not None:
        with plain_errors():
            _chosen(devices)
    stop_on_terminate()
    with suppress(KeyboardInterrupt), embedded_and_ready(data, console, devices) as service:
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
            from service.supervisor.supervisor import run_worker

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
    with plain_errors():
        for one in quarantined(read_settings()):
            since = datetime.fromtimestamp(one.since, UTC).isoformat(timespec="seconds")
            table.add_row(one.id, since, escape(one.cause))
    Console().print(table if table.row_count else "every record can be read")


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    size: Annotated[int | None, typer.Option(help="Width and height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels; overrides --size.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels; overrides --size.")] = None,
    model: Annotated[str | None, typer.Option(help="A name from 'hidiffusion models'.")] = None,
    method: Annotated[str | None, typer.Option(help="How to go beyond native size.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="A diffusers scheduler class.")] = None,
    image: Annotated[
        Path | None, _picture_option("A PNG, JPEG or WebP to start from; sets the size.")
    ] = None,
    mask: Annotated[
        Path | None, _picture_option("White where the image is drawn anew, black where it stays.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far to go from the image, 0 to 1.")
    ] = None,
    upscale_by: Annotated[
        str | None, typer.Option("--upscale", help="An upscaler to enlarge the picture by.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What the picture should not show.")] = "",
    seed: Annotated[int | None, typer.Option(help="Seed; drawn when left out.")] = None,
    output_format: Annotated[str, typer.Option("--format", help="png, webp, jpeg, avif.")] = "png",
    bit_depth: Annotated[int | None, typer.Option(help="Bits per channel: 8, 10, 12, 16.")] = None,
    quality: Annotated[int | None, typer.Option(help="Of webp, jpeg and avif, 1 to 100.")] = None,
    tile_format: Annotated[str | None, typer.Option(help="png, webp or jpeg.")] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata/--no-metadata", help="Write the recipe into the file.")
    ] = True,
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    timeout: Annotated[int | None, typer.Option(help="Longest run of an attempt, in s.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
    data: _DataOption = _DEFAULT_DATA,
) -> None:
    """Make one picture with a running service, or with an embedded one started for it."""
    fields = {
        "prompt": prompt,
        "negative_prompt": negative,
        "width": width or size,
        "height": height or size,
        "model": model,
        "method": method,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "scheduler": scheduler,
        "seed": seed,
        "strength": strength,
        "upscale": {"model": upscale_by} if upscale_by else None,
        "output_format": output_format,
        "bit_depth": bit_depth,
        "quality": quality,
        "tile_format": tile_format,
        "metadata": metadata,
        "priority": priority,
        "timeout_seconds": timeout,
    }
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    pictures = {name: path for name, path in (("image", image), ("mask", mask)) if path}
    console = Console()
    stop_on_terminate()
    with plain_errors():
        verify = trust(ca_certificate, client_certificate, client_key)
        with service_at_hand(server, verify, data, console) as connection:
            folder = Path("outputs")
            generate_picture(
                connection, given, pictures, output=output, folder=folder, console=console
            )


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
