"""What is to be added to the catalogue: brought to where it lies, and described by an entry."""

import shutil
from pathlib import Path
from typing import Any

from service.catalog.edit import entry_for, upscaler_entry
from service.catalog.fetch import bring, convert_file, download, inspect_upscaler
from service.catalog.file import LORA_FOLDER, name_from, read_catalog
from service.catalog.inspect import inspect_model, read_header
from service.catalog.presets import PRESETS_BY_NAME, preset_for


def new_model(
    catalog: Path,
    source: str,
    name: str,
    preset: str | None,
    *,
    revision: str | None,
    token: str | None,
    config: str | None,
    replace: bool,
) -> dict[str, Any]:
    """The entry of a model, which lies beside the catalogue or in its own folder afterwards."""
    path, own = Path(source), catalog.resolve().parent / name
    _require_free(catalog, name, replace=replace)
    if not path.exists():
        download(source, own, revision=revision, token=token)
        path = own
    found = inspect_model(path)
    fitting = PRESETS_BY_NAME[preset] if preset else preset_for(found, source)
    if fitting.structure != found.structure:
        raise ValueError(f"preset {fitting.name} is for {fitting.structure}, not {found.structure}")
    if found.single_file:
        if replace and own.exists():
            shutil.rmtree(own)
        if own.exists():
            raise ValueError(f"{str(own)!r} is there already; remove it, or give another --name")
        convert_file(path, own, found, config)
        path = own
    beside = path.resolve().parent == catalog.resolve().parent
    placed = path.name if beside else str(path.resolve())
    return entry_for(found, fitting, name=name, source=placed, title=stem(source))


def new_upscaler(catalog: Path, path: Path, name: str, *, replace: bool) -> dict[str, Any]:
    """The entry of a network that enlarges; its file is copied to lie beside the catalogue."""
    _require_free(catalog, name, replace=replace)
    architecture, scale = inspect_upscaler(path)
    folder = catalog.resolve().parent
    target = folder / "upscalers" / f"{name}{path.suffix}"
    bring(path, target)
    return upscaler_entry(architecture, scale, name=name, source=str(target.relative_to(folder)))


def _require_free(catalog: Path, name: str, *, replace: bool) -> None:
    if not replace and catalog.exists() and read_catalog(catalog).find(name):
        raise ValueError(f"the catalogue has {name!r} already; give another --name, or --replace")


def stem(source: str) -> str:
    """The last part of a path or hub id, without the ending of a file."""
    return Path(source).name.removesuffix(".safetensors")


def new_part(catalog: Path, model: str, kind: str, path: Path, name: str | None) -> dict[str, Any]:
    """What an addition's entry says; a LoRA or embedding is copied to lie beside the catalogue."""
    folder = catalog.resolve().parent
    if kind == "controls":
        if not (path / "config.json").is_file():
            raise ValueError(f"{str(path)!r} is no ControlNet: it has no config.json")
        called = name or name_from(path.name)
        return {"name": called, "title": path.name, "source": str(path.resolve())}
    if path.suffix == ".safetensors":
        read_header(path)
    if kind == "ip_adapter":
        return {"source": str(path.resolve().parent), "file": path.name}
    shelf = LORA_FOLDER if kind == "loras" else "embeddings"
    called = name or (name_from(path.stem) if kind == "loras" else path.stem)
    target = folder / shelf / model / f"{name_from(called)}{path.suffix}"
    bring(path, target)
    key = "name" if kind == "loras" else "token"
    return {key: called, "title": path.stem, "source": str(target.relative_to(folder))}
