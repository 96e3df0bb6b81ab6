"""`hidiffusion models`: what is on offer, and what else should be."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.catalog.adding import new_model, new_part, new_upscaler, stem
from service.catalog.check import checker_troubles, installed_schedulers, troubles
from service.catalog.edit import add_model, add_to_model, remove_model
from service.catalog.file import name_from, read_catalog
from service.catalog.presets import PRESETS_BY_NAME
from service.cli.at_hand import running_service
from service.cli.connection import (
    AuthorityOption,
    CertificateOption,
    Connection,
    KeyOption,
    ServerOption,
    trust,
)
from service.cli.problems import plain_errors, read_settings
from service.domain.models.low_memory import Offload, Quantization

app = typer.Typer(
    help="List the models on offer; add, check and remove entries of the catalogue.",
    invoke_without_command=True,
)

_Name = Annotated[str | None, typer.Option("--name", help="What requests call it.")]
_For = Annotated[
    str | None, typer.Option("--for", metavar="MODEL", help="The model that the addition is for.")
]


def _addition(flag: str, text: str) -> Any:
    return typer.Option(flag, exists=True, metavar="PATH", help=text, rich_help_panel="Additions")


@app.callback()
def models(context: typer.Context) -> None:
    """List the models on offer; add, check and remove entries of the catalogue."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(
    server: ServerOption = None,
    ca_certificate: AuthorityOption = None,
    client_certificate: CertificateOption = None,
    client_key: KeyOption = None,
) -> None:
    """List the models of a running service, or of the local catalogue when none runs."""
    table = Table("model", "native", "largest", "default method", "methods", "warm workers")
    for column in table.columns:
        column.overflow = "fold"  # no name is cut
    table.columns[0].no_wrap = True
    with plain_errors():
        verify = trust(ca_certificate, client_certificate, client_key)
        for row in _rows(running_service(server, verify)):
            table.add_row(*row)
    Console().print(table)


def _rows(connection: Connection | None) -> Iterator[tuple[str, ...]]:
    if connection is None:
        for model in read_settings().load_catalog().models:
            sizes = f"{model.native_size} px", f"{model.max_size} px"
            methods = ", ".join(model.methods)
            yield model.name, *sizes, model.default_method, methods, "none running"
        return
    with connection.client() as client:
        for entry in client.models():
            sizes = f"{entry.native_size} px", f"{entry.max_size} px"
            methods, warm = ", ".join(entry.methods), str(entry.warm_workers)
            yield entry.name, *sizes, entry.default_method, methods, warm


@app.command()
def add(
    source: Annotated[
        str | None,
        typer.Argument(help="A folder, a single .safetensors file, or a hub's OWNER/NAME."),
    ] = None,
    name: _Name = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", help="Another name for requests; repeatable.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Values to fill in: " + ", ".join(PRESETS_BY_NAME) + ".")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, tag or commit in the hub.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="HF_TOKEN", help="For what the hub shows to some alone.")
    ] = None,
    vae: Annotated[
        str | None, typer.Option(help="Folder or hub id of an autoencoder in place of its own.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="For a single file: folder or hub id to take tokenizers from."),
    ] = None,
    quantization: Annotated[
        Quantization | None,
        typer.Option(help="Stores the large networks in fewer bits, to take less memory."),
    ] = None,
    offload: Annotated[
        Offload | None,
        typer.Option(help="Keeps what does not compute in the machine's memory; for GPUs."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of one of the same name.")
    ] = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing where one of the same name is there.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the memory it takes on this machine.")
    ] = False,
    lora: Annotated[Path | None, _addition("--lora", "A LoRA's .safetensors file.")] = None,
    controlnet: Annotated[Path | None, _addition("--controlnet", "A ControlNet's folder.")] = None,
    embedding: Annotated[
        Path | None, _addition("--embedding", "A learned word's file; --name is the word.")
    ] = None,
    ip_adapter: Annotated[
        Path | None,
        _addition("--ip-adapter", "An IP-Adapter's file; image_encoder lies beside it."),
    ] = None,
    for_model: _For = None,
    upscaler: Annotated[
        Path | None,
        _addition("--upscaler", "A network that enlarges: ESRGAN, SwinIR... (.pth, .safetensors)."),
    ] = None,
) -> None:
    """Add a model to the catalogue, or a LoRA, ControlNet, embedding or IP-Adapter to a model.

    A service that runs takes it on at once.
    """
    console = Console()
    catalog = read_settings().catalog
    additions = {
        "loras": lora,
        "controls": controlnet,
        "embeddings": embedding,
        "ip_adapter": ip_adapter,
    }
    chosen = {kind: path for kind, path in additions.items() if path is not None}
    with plain_errors():
        if len(chosen) + (source is not None) + (upscaler is not None) != 1:
            raise ValueError("give one thing to add: a model's SOURCE, or one of the additions")
        if chosen:
            if for_model is None:
                raise ValueError("say which model it is for: --for MODEL")
            for kind, path in chosen.items():
                part = new_part(catalog, for_model, kind, path, name)
                add_to_model(catalog, for_model, kind, part)
                called = part.get("name") or part.get("token") or "an IP-Adapter"
                console.print(f"{for_model} now has {escape(called)}")
            return
        if preset is not None and preset not in PRESETS_BY_NAME:
            raise ValueError(f"no preset {preset!r}: use {', '.join(PRESETS_BY_NAME)}")
        called = name or name_from(upscaler.stem if upscaler else stem(str(source)))
        if if_missing and catalog.exists() and read_catalog(catalog).find(called):
            console.print(f"{escape(called)} is there already")
            return
        if upscaler is not None:
            entry = new_upscaler(catalog, upscaler, called, replace=replace)
            what = f"{entry['scales'][0]} times larger"
        else:
            entry = new_model(
                catalog, str(source), called, preset, revision=revision, token=token,
                config=config, replace=replace,
            )  # fmt: skip
            said = {"vae": vae, "quantization": quantization, "offload": offload}
            entry |= {key: value for key, value in said.items() if value}
            what = f"native {entry['native_size']} px"
        if alias:
            entry["aliases"] = alias
        add_model(catalog, entry, replace=replace)
        console.print(
            f"added [bold]{called}[/bold], {entry['family']}, {what}, to {escape(str(catalog))}",
            soft_wrap=True,
        )
        if calibrate:
            command = [sys.executable, "-m", "service.worker.process.calibrate", called]
            subprocess.run(command, check=False)


@app.command()
def check() -> None:
    """Say what is wrong with the catalogue's entries; the status is 1 when something is."""
    console = Console()
    with plain_errors():
        catalog = read_catalog(read_settings().catalog)
        schedulers = installed_schedulers()
        found = {model.name: [*troubles(model, schedulers)] for model in catalog.models}
    if catalog.safety_checker is not None:
        found["safety_checker"] = [*checker_troubles(catalog.safety_checker)]
    for name, sentences in found.items():
        console.print(f"{name}: {'good' if not sentences else ''}", soft_wrap=True)
        for sentence in sentences:
            console.print(f"  [red]{escape(sentence)}[/red]", soft_wrap=True)
    if any(found.values()):
        raise typer.Exit(1)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A model of the catalogue.")],
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete its folder beside the catalogue.")
    ] = False,
) -> None:
    """Take a model out of the catalogue; what waits for it fails with that reason."""
    catalog = read_settings().catalog
    with plain_errors():
        remove_model(catalog, name)
        folder = catalog.resolve().parent / name
        if purge and folder.is_dir():
            shutil.rmtree(folder)
    Console().print(f"removed {name}")
