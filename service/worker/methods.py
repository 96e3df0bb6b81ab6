"""How a pipeline goes beyond its native size, by the name that requests use."""

import contextlib
from typing import Any

from hidiffusion import patched
from service.worker.failures import UnsupportedRequest

#: Method name to what is switched on; "direct" patches nothing.
_PARTS: dict[str, dict[str, bool]] = {
    "hidiffusion": {"raunet": True, "window_attention": True},
    "raunet": {"raunet": True, "window_attention": False},
    "msw-msa": {"raunet": False, "window_attention": True},
}


def using_method(pipe: Any, name: str, seed: int) -> contextlib.AbstractContextManager[Any]:
    """Patch `pipe` with a method inside a `with` block, and leave it as it was.

    Args:
        pipe: a diffusers pipeline, already with the scheduler of the run.
        name: of the method.
        seed: of the request; all that a method draws at random comes from it.

    Raises:
        UnsupportedRequest: there is no method of this name.
    """
    if name == "direct":
        return contextlib.nullcontext(pipe)
    if name not in _PARTS:
        raise UnsupportedRequest(
            f"method {name!r} is unknown; use one of {', '.join(['direct', *_PARTS])}"
        )
    return patched(pipe, seed=seed, **_PARTS[name])
