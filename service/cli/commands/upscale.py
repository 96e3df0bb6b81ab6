"""`hidiffusion upscale`: from a picture file to a larger one."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.cli.at_hand import DEFAULT_DATA, DataOption, service_at_hand, stop_on_terminate
from service.cli.connection import (
    AuthorityOption,
    CertificateOption,
    Connection,
    KeyOption,
    ServerOption,
    trust,
)
from service.cli.making import make_pictures
from service.cli.problems import plain_errors


def upscale(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A PNG, JPEG or WebP to enlarge.")
    ],
    scale: Annotated[
        int | None, typer.Option(help="How many times; default: the most that the model has.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="An upscaler of 'hidiffusion models'; default: the first.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; drawn when left out.")] = None,
    output_format: Annotated[str, typer.Option("--format", help="png, webp, jpeg, avif.")] = "png",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Enlarge one picture with a running service, or with an embedded one started for it."""
    console = Console()
    stop_on_terminate()
    with plain_errors():
        verify = trust(ca_certificate, client_certificate, client_key)
        with service_at_hand(server, verify, data, console) as connection:
            fields = {
                "prompt": "upscaled",
                "model": model or _first_upscaler(connection),
                "scale": scale,
                "num_inference_steps": steps,
                "seed": seed,
                "output_format": output_format,
            }
            given: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
            make_pictures(connection, given | {"image": file}, output=output, console=console)


def _first_upscaler(connection: Connection) -> str:
    with connection.client() as client:
        names = [entry.name for entry in client.models() if entry.kind == "upscaler"]
    if not names:
        raise typer.BadParameter("the service has no upscaler; add one to its catalogue")
    return names[0]
