"""Compiled models: what a worker does where `HIDIFFUSION_WORKER__COMPILE` names a backend."""

from typing import Any

import torch
import torch._dynamo

from hidiffusion.transformer.families import is_transformer

#: Graphs of one U-Net. Each size takes one for every stage of a method's schedule; torch's limit of
#: 8 is meant for models that see one kind of input. Beyond the limit, calls are not compiled.
GRAPHS = 128


def checked_backend(name: str | None) -> str | None:
    """The name of a backend that this torch has, or None.

    Raises:
        ValueError: there is no such backend.
    """
    if name is None or name in torch.compiler.list_backends(exclude_tags=()):
        return name
    usual = ", ".join(torch.compiler.list_backends())
    raise ValueError(
        f"{name!r} is no backend of torch.compile here; set HIDIFFUSION_WORKER__COMPILE to one of "
        f"{usual}, or leave it unset"
    )


def compile_denoiser(denoiser: Any, backend: str) -> None:
    """Have a model compiled at its first call for each size and stage, in place.

    Transformers are dozens of equal blocks, which are compiled once for all.
    """
    torch._dynamo.config.recompile_limit = GRAPHS
    if is_transformer(denoiser):
        denoiser.compile_repeated_blocks(backend=backend, dynamic=False)
    else:
        denoiser.compile(backend=backend, dynamic=False)


def uncompiled() -> Any:
    """A `with` block in which compiled modules compute as they would without it."""
    return torch.compiler.set_stance("force_eager")
