"""The state between two denoising steps, as one safetensors document: no pickle, one atomic object.

Tensors are stored as they are; everything else is JSON in the header. Whatever a scheduler keeps
that is neither (an object with state of its own, such as a Brownian tree) cannot be stored.
"""

import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

_VERSION = 3

#: A safetensors file begins with the length of its JSON header, 8 bytes, little-endian.
_LENGTH_BYTES = 8


class NotStorable(Exception):
    """A scheduler keeps something that is neither tensor, number, text nor a list of these."""


@dataclass(frozen=True)
class Snapshot:
    """Where a denoising stands.

    Attributes:
        step: steps done, over all passes of the method.
        stage: the pass under way, from 0.
        stage_step: steps of this pass that are done.
        latents: `[1, C, h, w]` after that step.
        scheduler: what its scheduler has changed in itself since the pass began, by attribute.
        generator: state of the pass's random generator.
        earlier: what the passes before it left, a tensor each.
        before: steps of the stages before the one it stands in; None in the first.
    """

    step: int
    stage: int
    stage_step: int
    latents: torch.Tensor
    scheduler: dict[str, Any]
    generator: torch.Tensor
    earlier: tuple[torch.Tensor, ...]
    before: int | None = None


def to_bytes(snapshot: Snapshot, recipe: dict[str, Any]) -> bytes:
    """A snapshot with the recipe of its picture.

    Raises:
        NotStorable: a value of the scheduler's cannot be stored.
    """
    tensors = {"latents": _stored(snapshot.latents), "generator": snapshot.generator}
    scheduler = {name: _pack(value, tensors) for name, value in snapshot.scheduler.items()}
    header = {
        "version": _VERSION,
        "recipe": recipe,
        "step": snapshot.step,
        "stage": snapshot.stage,
        "stage_step": snapshot.stage_step,
        "before": snapshot.before,
        "earlier": [_pack(tensor, tensors) for tensor in snapshot.earlier],
        "scheduler": scheduler,
        "on_host": snapshot.latents.device.type == "cpu",
    }
    return safetensors.torch.save(tensors, {"snapshot": json.dumps(header)})


def from_bytes(data: bytes, recipe: dict[str, Any], device: torch.device) -> Snapshot | None:
    """The snapshot in `data`, or None when it belongs to another recipe or version.

    Args:
        data: what `to_bytes` made.
        recipe: of the picture to be made; only with an equal one does the rest come out the same.
        device: where tensors go that were not in the machine's own memory.

    Raises:
        ValueError: `data` is no snapshot.
    """
    header = _header(data)
    if header["version"] != _VERSION or header["recipe"] != recipe:
        return None
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"not a snapshot: {error}") from error
    scheduler = {
        name: _unpack(value, tensors, device) for name, value in header["scheduler"].items()
    }
    latents = tensors["latents"] if header["on_host"] else tensors["latents"].to(device)
    return Snapshot(
        step=header["step"],
        stage=header["stage"],
        stage_step=header["stage_step"],
        latents=latents,
        scheduler=scheduler,
        generator=tensors["generator"],
        before=header["before"],
        earlier=tuple(_unpack(packed, tensors, device) for packed in header["earlier"]),
    )


def _header(data: bytes) -> Any:
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        metadata = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"]
        return json.loads(metadata["snapshot"])
    except (KeyError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a snapshot: {error!r}") from error


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    match value:
        case torch.Tensor():
            name = f"tensor.{len(tensors)}"
            tensors[name] = _stored(value)
            return {"tensor": name, "on_host": value.device.type == "cpu"}
        case list():
            return {"list": [_pack(item, tensors) for item in value]}
        case None | bool() | int() | float() | str():
            return {"plain": value}
    raise NotStorable(f"a scheduler keeps a {type(value).__name__}, which cannot be stored")


def _unpack(packed: dict[str, Any], tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    if "list" in packed:
        return [_unpack(item, tensors, device) for item in packed["list"]]
    if "tensor" in packed:
        tensor = tensors[packed["tensor"]]
        return tensor if packed["on_host"] else tensor.to(device)
    return packed["plain"]


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()
