"""Bring models and small weights to where the catalogue lies."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from service.catalog.check import is_hub_id
from service.catalog.inspect import Found

#: Endings of what a part of a pipeline needs beside its weights.
_SMALL = (".json", ".txt", ".model", ".jinja")


def download(source: str, target: Path, *, revision: str | None, token: str | None) -> None:
    """Download a hub's model to a folder, in half precision where there is that.

    Raises:
        ValueError: `source` is no hub id, or the hub does not give it.
    """
    if not is_hub_id(source):
        raise ValueError(f"{source!r} is no folder, no file, and no hub's OWNER/NAME")
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError:
        raise ValueError(
            "huggingface-hub is not installed here; it comes with `pip install hidiffusion[worker]`"
        ) from None
    try:
        names = HfApi(token=token).list_repo_files(source, revision=revision)
        snapshot_download(
            source,
            revision=revision,
            token=token,
            local_dir=target,
            allow_patterns=wanted_files(names),
        )
    except Exception as error:
        raise ValueError(f"the hub does not give {source!r}: {error}") from None


def wanted_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files, those of a pipeline in diffusers' layout.

    Parts are folders with a configuration: others hold the same weights in other forms. Where every
    part has its weights in half precision too, these are taken alone.
    """
    paths = [PurePosixPath(name) for name in names]
    parts = {path.parent for path in paths if path.suffix == ".json"}
    weights = [p for p in paths if p.suffix == ".safetensors" and p.parent in parts]
    weights = [path for path in weights if path.parent != PurePosixPath(".")]
    halves = [path for path in weights if ".fp16." in path.name or ".fp16-" in path.name]
    if {path.parent for path in halves} == {path.parent for path in weights}:
        weights = halves
    small = [path for path in paths if path.suffix in _SMALL and path.parent in parts]
    return [str(path) for path in (*small, *weights)]


def convert_file(file: Path, target: Path, found: Found, config: str | None) -> None:
    """Turn a single-file checkpoint into a folder, in a process that loads torch.

    Raises:
        ValueError: it cannot be converted; says why.
    """
    command = [sys.executable, "-m", "service.worker.process.convert"]
    arguments = [str(file), str(target), found.structure]
    more = ["--config", config] if config else []
    done = subprocess.run(
        [*command, *arguments, *more], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise ValueError(
            f"{str(file)!r} cannot be converted: {last}. Tokenizers and configurations come from "
            "the hub; without a network give a folder of such a model as --config"
        )


def inspect_upscaler(file: Path) -> tuple[str, int]:
    """The architecture and scale of a network that enlarges, by a process that loads torch.

    Raises:
        ValueError: it is none that spandrel reads, or spandrel is not installed; says which.
    """
    command = [sys.executable, "-m", "service.worker.weights.enlarger", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise ValueError(f"{str(file)!r} is no upscaler: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    return str(found["architecture"]), int(found["scale"])


def bring(path: Path, target: Path) -> None:
    """Copy a file to where the catalogue lies; it appears when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    shutil.copyfile(path, unfinished)
    unfinished.replace(target)
