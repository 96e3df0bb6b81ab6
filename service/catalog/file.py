"""Read the catalogue from its file, and again whenever it changes.

Beside the catalogue may lie a folder `loras` with a folder for each model: what is dropped into
`loras/MODEL/` is offered for that model under its own name, without an entry.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.domain.models.adapters import Lora
from service.domain.models.catalog import Catalog, Model

_log = logging.getLogger(__name__)

LORA_FOLDER = "loras"
_MAX_NAME = 64


def read_catalog(path: Path) -> Catalog:
    """The catalogue in a file; a relative `source` is a path beside it.

    Raises:
        ValueError: the file is missing, or breaks a rule of `Catalog`; every rule is told.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"cannot read the model catalogue {str(path)!r} ({error.strerror}); "
            "set HIDIFFUSION_CATALOG to a JSON file like models/catalog.json"
        ) from None
    try:
        catalog = Catalog.model_validate_json(text)
    except ValidationError as error:
        broken = "\n".join(f"  {line}" for line in _lines(error))
        raise ValueError(f"the model catalogue {str(path)!r} is not right:\n{broken}") from None
    folder = path.resolve().parent
    checker = catalog.safety_checker
    return Catalog(
        models=tuple(_located(_with_dropped(m, folder), folder) for m in catalog.models),
        safety_checker=None if checker is None else _source(checker, folder),
    )


class CatalogFile:
    """The catalogue as it is now: the file is read again once it, or a LoRA folder, has changed.

    One that has become unreadable is told of in the log, and the last good one stays.

    Args:
        path: of the file.

    Raises:
        ValueError: as `read_catalog`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._catalog = read_catalog(path)

    def __call__(self) -> Catalog:
        """The catalogue; the very same object until something changes."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._catalog = read_catalog(self._path)
            except ValueError as error:
                _log.error("the catalogue has changed and is left aside: %s", error)
            else:
                _log.info("the catalogue has changed: %s", ", ".join(self._catalog.names))
        return self._catalog


def name_from(text: str) -> str:
    """A name that the catalogue takes, made of a file's, folder's or repository's."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name[:_MAX_NAME].strip("-") or "model"


def _stamp(path: Path) -> tuple[object, ...]:
    """What changes when the catalogue does."""
    folder = path.parent / LORA_FOLDER
    return tuple(_file_stamp(each) for each in (path, folder, *_folders(folder)))


def _file_stamp(path: Path) -> tuple[str, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _with_dropped(model: Model, folder: Path) -> Model:
    """A model with the LoRAs that were dropped into its folder beside those of its entry."""
    known = {lora.name for lora in model.loras}
    files = sorted((folder / LORA_FOLDER / model.name).glob("*.safetensors"))
    dropped = {name_from(each.stem): each for each in files}
    found = [
        Lora(name=name, title=each.stem, source=str(each))
        for name, each in dropped.items()
        if name not in known
    ]
    return model.model_copy(update={"loras": (*model.loras, *found)})


def _located(model: Model, folder: Path) -> Model:
    located: dict[str, Any] = {"source": _source(model.source, folder)}
    if model.vae is not None:
        located["vae"] = _source(model.vae, folder)
    for kind in ("loras", "embeddings", "controls"):
        located[kind] = tuple(
            entry.model_copy(update={"source": _source(entry.source, folder)})
            for entry in getattr(model, kind)
        )
    if model.ip_adapter is not None:
        source = _source(model.ip_adapter.source, folder)
        located["ip_adapter"] = model.ip_adapter.model_copy(update={"source": source})
    return model.model_copy(update=located)


def _source(source: str, folder: Path) -> str:
    """Absolute, where it lies beside the catalogue; else it is a hub id or absolute already."""
    local = folder / source
    return str(local) if local.exists() else source


def _lines(error: ValidationError) -> Iterator[str]:
    for each in error.errors():
        place = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        yield f"{place}: {message}" if place else message
