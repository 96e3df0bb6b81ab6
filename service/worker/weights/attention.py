"""Attention by another backend: where `HIDIFFUSION_WORKER__ATTENTION` names one of diffusers'."""

from diffusers.models.attention_dispatch import AttentionBackendName
from torch import nn

from hidiffusion import set_attention_backend
from service.domain.models.catalog import Model

_NAMES = tuple(name.value for name in AttentionBackendName)


def checked_attention(name: str | None) -> str | None:
    """The name of a backend that this diffusers knows, or None.

    Raises:
        ValueError: there is no such backend.
    """
    if name is None or name in _NAMES:
        return name
    raise ValueError(
        f"{name!r} is no attention backend of diffusers here; set HIDIFFUSION_WORKER__ATTENTION to "
        f"one of {', '.join(_NAMES)}, or leave it unset"
    )


def attention_of(model: Model, name: str | None) -> str | None:
    """The backend that a model's network attends by: only diffusers' own networks have a choice."""
    return name if model.engine == "latent-diffusion" else None


def use_attention(network: nn.Module, name: str | None) -> None:
    """Compute a network's attention by a backend, if one is named.

    Raises:
        RuntimeError: its package is not installed.
    """
    if name is not None:
        set_attention_backend(network, name)
