"""Change the catalogue's file: whole or not at all, by one process at a time."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.catalog.file import read_catalog
from service.catalog.inspect import LATENT_PIXELS, Found
from service.catalog.presets import MAX_SIZE, Preset
from service.catalog.transformers import TOKEN_PIXELS

#: Lists of a model's entry that `add_to_model` fills, with what tells their members apart.
PARTS = {"loras": "name", "controls": "name", "embeddings": "token"}


def entry_for(
    found: Found, preset: Preset, *, name: str, source: str, title: str = ""
) -> dict[str, Any]:
    """An entry for a model, filled with what its files and its preset say."""
    native = found.native_size or preset.native_size
    transformer = found.network == "transformer"
    multiple = TOKEN_PIXELS if transformer else LATENT_PIXELS
    scheduler = dict(preset.scheduler_config)
    if not found.single_file or found.prediction_type:
        scheduler.pop("prediction_type", None)  # the model's own configuration has it
    if found.single_file and found.prediction_type:
        scheduler["prediction_type"] = found.prediction_type
    entry: dict[str, Any] = {
        "name": name,
        "title": title or f"{name}: {preset.title}",
        "source": source,
        "family": preset.name,
        "native_size": native,
        "min_size": max(64, native // 4 // multiple * multiple),
        "max_size": MAX_SIZE,
        "default_size": preset.default_size * native // preset.native_size,
        "default_steps": preset.steps,
        "default_guidance_scale": preset.guidance_scale,
        "default_scheduler": preset.scheduler,
        "default_method": preset.default_method,
        "schedulers": list(preset.schedulers),
        "methods": list(preset.methods),
    }
    given = {
        "scheduler_config": scheduler,
        "variant": found.variant,
        "method_options": preset.method_options,
    }
    entry |= {key: value for key, value in given.items() if value}
    if transformer:
        entry |= {"size_multiple": multiple, "prompt_weighting": False, "bfloat16": True}
    return entry


def upscaler_entry(architecture: str, scale: int, *, name: str, source: str) -> dict[str, Any]:
    """An entry for a network that enlarges in one pass."""
    return {
        "name": name,
        "title": Path(source).stem,
        "source": source,
        "kind": "upscaler",
        "engine": "spandrel",
        "family": architecture,
        "scales": [scale],
        "native_size": 256,
        "min_size": scale,
        "max_size": 8192,
        "default_size": 1024,
        "default_steps": 1,
        "schedulers": ["OnePass"],
        "default_scheduler": "OnePass",
        "methods": ["direct"],
        "default_method": "direct",
    }


def add_model(path: Path, entry: dict[str, Any], *, replace: bool = False) -> None:
    """Put a model's entry into the catalogue, which is made if there is none.

    Raises:
        ValueError: there is one of this name already, or the catalogue would not be right.
    """
    with _changing(path) as document:
        models = document.setdefault("models", [])
        at = next((i for i, each in enumerate(models) if each["name"] == entry["name"]), None)
        if at is None:
            models.append(entry)
        elif replace:
            models[at] = entry
        else:
            raise ValueError(
                f"the catalogue has a model {entry['name']!r} already; "
                "give another --name, or --replace it"
            )


def add_to_model(path: Path, model: str, kind: str, part: dict[str, Any]) -> None:
    """Add a LoRA, ControlNet or embedding to a model, or give it an IP-Adapter.

    One of the same name is replaced.

    Raises:
        ValueError: there is no such model, or the catalogue would not be right.
    """
    with _changing(path) as document:
        entry = _entry(document, model)
        if kind in PARTS:
            key = PARTS[kind]
            others = [each for each in entry.get(kind, []) if each[key] != part[key]]
            entry[kind] = [*others, part]
        else:
            entry[kind] = part


def remove_model(path: Path, name: str) -> None:
    """Take a model's entry out of the catalogue; raises ValueError where there is none."""
    with _changing(path) as document:
        document["models"].remove(_entry(document, name))


def _entry(document: dict[str, Any], name: str) -> dict[str, Any]:
    models = document.get("models", [])
    entry = next((each for each in models if each["name"] == name), None)
    if entry is None:
        known = ", ".join(each["name"] for each in models) or "none"
        raise ValueError(f"the catalogue has no model {name!r}; it has: {known}")
    found: dict[str, Any] = entry
    return found


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Any]]:
    """The catalogue's document, written back in one step once the result proves to be right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            read_catalog(path)
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        yield document
        _replace(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w",
        encoding="utf-8",
        dir=path.parent,
        prefix=f".{path.stem}-",
        suffix=".json",
        delete=False,
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new = Path(file.name)
    try:
        read_catalog(new)
        new.chmod(0o644)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
