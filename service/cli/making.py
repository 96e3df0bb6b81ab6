"""From the fields of a request to picture files, with a progress bar on the way."""

import json
import mimetypes
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service.cli.connection import Connection
from service.client import Client, Event, Generation, StepEvent, TileEvent
from service.domain.artifacts import EXTENSIONS

#: Where pictures go when nobody says where.
FOLDER = Path("outputs")


def make_pictures(
    connection: Connection,
    fields: dict[str, Any],
    *,
    count: int = 1,
    output: Path | None,
    console: Console,
) -> list[Path]:
    """Submit, follow, download and report one generation, or several that differ in their seeds.

    Args:
        connection: to a running service.
        fields: body of `POST /v1/generations`; a path in it stands for a file to upload first.
        count: how many pictures.
        output: file to write, numbered where there are several; None names them after the
            generations, in `FOLDER`.
        console: where to tell of it.

    Returns:
        The files that were written.

    Raises:
        ClientError: the service refused the request, or a generation did not succeed.
        OSError: a file cannot be read or written.
    """
    with connection.client() as client:
        request = _uploaded(client, fields, console)
        if count == 1:
            asked: tuple[Generation, ...] = (client.create(request),)
        else:
            asked = client.create_batch(request, count)
        targets = []
        try:
            for number, each in enumerate(asked, 1):
                generation = follow(client, each.id, console)
                target = _target(generation, output, number if count > 1 else None)
                client.download(each.id, target)
                report(console, connection, generation, target)
                targets.append(target)
        except KeyboardInterrupt:
            for each in asked[len(targets) :]:
                client.cancel(each.id)
            raise
    return targets


def default_target(generation: Generation) -> Path:
    """Where a picture goes when nobody says where."""
    extension = EXTENSIONS[generation.request.output_format]
    return FOLDER / f"{generation.id}.{extension}"


def _target(generation: Generation, output: Path | None, number: int | None) -> Path:
    if output is None:
        return default_target(generation)
    return output if number is None else output.with_stem(f"{output.stem}-{number}")


def _uploaded(client: Client, fields: Any, console: Console) -> Any:
    """The same with the id of an upload in the place of each file."""
    if isinstance(fields, Path):
        media_type = mimetypes.guess_type(fields.name)[0] or "application/octet-stream"
        with console.status(f"sending {escape(str(fields))}"):
            return client.upload(fields.read_bytes(), media_type=media_type).id
    if isinstance(fields, dict):
        return {name: _uploaded(client, value, console) for name, value in fields.items()}
    if isinstance(fields, list):
        return [_uploaded(client, each, console) for each in fields]
    return fields


def follow(client: Client, generation_id: str, console: Console) -> Generation:
    """Show how far a generation is; returns its record once it has succeeded."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        return client.wait(generation_id, on_event=_View(progress).show)


class _View:
    """Events as progress bars: one for the denoising steps, one for the tiles."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._denoising = progress.add_task("waiting in the queue", total=None)
        self._tiles: TaskID | None = None

    def show(self, event: Event) -> None:
        match event:
            case StepEvent(step=step, total=total):
                self._progress.update(
                    self._denoising, description="denoising", completed=step, total=total
                )
            case TileEvent(done=done, total=total):
                if self._tiles is None:
                    self._tiles = self._progress.add_task("decoding tiles")
                self._progress.update(self._tiles, completed=done, total=total)
            case Event(type="started"):
                self._progress.update(self._denoising, description="preparing")


def report(console: Console, connection: Connection, generation: Generation, target: Path) -> None:
    """Tell where a picture is, how to look at it, and how it was made."""
    recipe = json.dumps(generation.request.model_dump(mode="json"))
    console.print(f"[bold]picture[/bold]  {escape(str(target.resolve()))}", soft_wrap=True)
    look = f"{connection.url}/#/{generation.id}"
    if not connection.lasting:
        look = f"{target.resolve().as_uri()}, or --open; `hidiffusion up` shows pictures on a page"
    console.print(f"[bold]look[/bold]     {escape(look)}", soft_wrap=True)
    console.print("[bold]recipe[/bold]   " + escape(recipe), soft_wrap=True)
