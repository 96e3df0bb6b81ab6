"""`hidiffusion generate`: from a prompt to a picture file, with a progress bar on the way."""

import json
import mimetypes
from collections.abc import Mapping
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


def generate_picture(
    connection: Connection,
    fields: dict[str, Any],
    pictures: Mapping[str, Path],
    *,
    output: Path | None,
    folder: Path,
    console: Console,
) -> Path:
    """Submit, follow, download and report one generation.

    Args:
        connection: to a running service.
        fields: body of `POST /v1/generations`.
        pictures: files to upload first, for the fields that are to name them.
        output: file to write; None names one after the generation in `folder`.

    Returns:
        The file that was written.

    Raises:
        ClientError: the service refused the request, or the generation did not succeed.
        OSError: a file cannot be read or written.
    """
    with connection.client() as client:
        uploads = {name: _upload(client, path, console) for name, path in pictures.items()}
        generation_id = client.create(fields | uploads).id
        try:
            generation = _follow(client, generation_id, console)
        except KeyboardInterrupt:
            client.cancel(generation_id)
            raise
        extension = EXTENSIONS[generation.request.output_format]
        target = output or folder / f"{generation_id}.{extension}"
        client.download(generation_id, target)
    _report(console, connection, generation, target)
    return target


def _upload(client: Client, path: Path, console: Console) -> str:
    """Send a picture; returns the id that stands for it in requests."""
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    with console.status(f"sending {escape(str(path))}"):
        return client.upload(path.read_bytes(), media_type=media_type).id


def _follow(client: Client, generation_id: str, console: Console) -> Generation:
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


def _report(console: Console, connection: Connection, generation: Generation, target: Path) -> None:
    recipe = json.dumps(generation.request.model_dump(mode="json"))
    console.print(f"[bold]picture[/bold]  {escape(str(target.resolve()))}", soft_wrap=True)
    console.print("[bold]recipe[/bold]   " + escape(recipe), soft_wrap=True)
    address = f"{connection.url}/v1/generations/{generation.id}/image"
    if not connection.lasting:
        address = "none: its service ran for this picture; `hidiffusion up` keeps one running"
    console.print(f"[bold]address[/bold]  {address}", soft_wrap=True)
