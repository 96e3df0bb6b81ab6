"""`hidiffusion generate`: from a prompt to a picture file, with a progress bar on the way."""

import json
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

from service.cli.client import RequestFailedError, ServiceClient
from service.domain.artifacts import EXTENSIONS


def generate_picture(
    url: str, fields: dict[str, Any], output: Path | None, folder: Path, console: Console
) -> Path:
    """Submit, follow, download and report one generation.

    Args:
        url: base URL of a running service.
        fields: body of `POST /v1/generations`.
        output: file to write; None names one after the generation in `folder`.

    Returns:
        The file that was written.

    Raises:
        RequestFailedError: the service refused the request, or the generation did not succeed.
    """
    with ServiceClient(url) as client:
        generation = client.create(fields)
        generation_id = generation["id"]
        try:
            _follow(client, generation_id, console)
        except KeyboardInterrupt:
            client.cancel(generation_id)
            raise
        record = client.generation(generation_id)
        extension = EXTENSIONS[record["request"]["output_format"]]
        target = output or folder / f"{generation_id}.{extension}"
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download(f"/v1/generations/{generation_id}/image", target)
    _report(console, url, record, target)
    return target


def _follow(client: ServiceClient, generation_id: str, console: Console) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        view = _View(progress)
        for kind, event in client.events(generation_id):
            view.show(kind, event)
            if kind == "failed":
                raise RequestFailedError(
                    f"generation {generation_id} failed: {event['error']['detail']}"
                )
            if kind == "cancelled":
                raise RequestFailedError(f"generation {generation_id} was cancelled")


class _View:
    """Events as progress bars: one for the denoising steps, one for the tiles."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._denoising = progress.add_task("waiting in the queue", total=None)
        self._tiles: TaskID | None = None

    def show(self, kind: str, event: dict[str, Any]) -> None:
        match kind:
            case "started":
                self._progress.update(self._denoising, description="preparing")
            case "step":
                self._progress.update(
                    self._denoising,
                    description="denoising",
                    completed=event["step"],
                    total=event["total"],
                )
            case "tile":
                if self._tiles is None:
                    self._tiles = self._progress.add_task("decoding tiles")
                self._progress.update(self._tiles, completed=event["done"], total=event["total"])


def _report(console: Console, url: str, record: dict[str, Any], target: Path) -> None:
    console.print(f"[bold]picture[/bold]  {escape(str(target.resolve()))}", soft_wrap=True)
    console.print("[bold]recipe[/bold]   " + escape(json.dumps(record["request"])), soft_wrap=True)
    console.print(f"[bold]address[/bold]  {url}/v1/generations/{record['id']}/image")
