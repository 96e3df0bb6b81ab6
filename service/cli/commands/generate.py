"""`hidiffusion generate`: from a prompt, or the recipe in a picture, to picture files."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.cli import parse
from service.cli.at_hand import DEFAULT_DATA, DataOption, service_at_hand, stop_on_terminate
from service.cli.connection import (
    AuthorityOption,
    CertificateOption,
    KeyOption,
    ServerOption,
    trust,
)
from service.cli.making import make_pictures
from service.cli.problems import plain_errors
from service.domain.requests.request import MAX_BATCH


def _picture_option(flag: str, text: str) -> Any:
    return typer.Option(flag, exists=True, dir_okay=False, readable=True, metavar="FILE", help=text)


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What the picture shows; with --from it may be left out.")
    ] = None,
    recipe: Annotated[
        Path | None, _picture_option("--from", "A PNG to take the recipe from; options change it.")
    ] = None,
    n: Annotated[
        int, typer.Option("-n", min=1, max=MAX_BATCH, help="Pictures; seeds follow each other.")
    ] = 1,
    size: Annotated[int | None, typer.Option(help="Width and height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels; overrides --size.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels; overrides --size.")] = None,
    model: Annotated[str | None, typer.Option(help="A name from 'hidiffusion models'.")] = None,
    method: Annotated[str | None, typer.Option(help="How to go beyond native size.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="A diffusers scheduler class.")] = None,
    image: Annotated[
        Path | None, _picture_option("--image", "A PNG, JPEG or WebP to start from; sets the size.")
    ] = None,
    mask: Annotated[
        Path | None,
        _picture_option("--mask", "White where the image is drawn anew, black where it stays."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far to go from the image, 0 to 1.")
    ] = None,
    upscale_by: Annotated[
        str | None, typer.Option("--upscale", help="An upscaler to enlarge the picture by.")
    ] = None,
    loras: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="NAME[=WEIGHT]", help="A LoRA to draw with; repeatable."),
    ] = None,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="NAME=FILE[,SCALE]",
            help="A ControlNet and the map that it reads; repeatable.",
        ),
    ] = None,
    image_prompt: Annotated[
        str | None,
        typer.Option(metavar="FILE[,SCALE]", help="A picture that says what to draw."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of the method; repeatable."),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What it should not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; drawn when left out.")] = None,
    output_format: Annotated[
        str | None, typer.Option("--format", help="png, webp, jpeg, avif.")
    ] = None,
    bit_depth: Annotated[int | None, typer.Option(help="Bits per channel: 8, 10, 12, 16.")] = None,
    quality: Annotated[int | None, typer.Option(help="Of webp, jpeg and avif, 1 to 100.")] = None,
    tile_format: Annotated[str | None, typer.Option(help="png, webp or jpeg.")] = None,
    metadata: Annotated[
        bool | None,
        typer.Option("--metadata/--no-metadata", help="Write the recipe into the file."),
    ] = None,
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    timeout: Annotated[int | None, typer.Option(help="Longest run of an attempt, in s.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Show the picture when it is done.")] = False,
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
    data: DataOption = DEFAULT_DATA,
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
        "image": image,
        "mask": mask,
        "strength": strength,
        "loras": [parse.lora(each) for each in loras] if loras else None,
        "controls": [parse.control(each) for each in controls] if controls else None,
        "image_prompt": parse.image_prompt(image_prompt) if image_prompt else None,
        "method_options": dict(parse.option(each) for each in options) if options else None,
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
    if prompt is None and recipe is None:
        raise typer.BadParameter(
            "say what to draw, or take a recipe with --from", param_hint="PROMPT"
        )
    console = Console()
    stop_on_terminate()
    with plain_errors():
        verify = trust(ca_certificate, client_certificate, client_key)
        with service_at_hand(server, verify, data, console) as connection:
            if recipe is not None:
                with connection.client() as client:
                    given = client.read_recipe(recipe.read_bytes()) | given
            made = make_pictures(connection, given, count=n, output=output, console=console)
        if show:
            for each in made:
                typer.launch(str(each))
