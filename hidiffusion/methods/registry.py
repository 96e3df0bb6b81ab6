"""The methods by name: one row each, one way to use them all.

    result = registry.get("hidiffusion-guided").generate(
        pipe, width=4096, height=4096, seed=7, prompt="a red guitar", band_end=0.5
    )
    result.images

`generate` runs every method on every kind of pipeline that it supports. Keywords that it does not
name are arguments of the pipeline, and options of the method; a word that is neither is refused.
Where a word is both, such as `guidance_scale`, it is the pipeline's, and the method's is given in
`options={...}`. What it returns is the pipeline's output, so `output_type` and the rest mean what
they mean there.

Methods of a single pass can also be applied by themselves:

    with registry.get("hidiffusion").patched(pipe, seed=7, t1_ratio=0.5):
        pipe("a red guitar", height=2048, width=2048)
"""

from __future__ import annotations

from hidiffusion.errors import InvalidConfigError
from hidiffusion.methods import (
    diffuse_high,
    guided,
    refine,
    refresh,
    single,
    token_windows,
    upsample_guidance,
)
from hidiffusion.methods.method import Method
from hidiffusion.options import nearest

_FILES = (single, upsample_guidance, diffuse_high, guided, refresh, token_windows, refine)

#: Every method by its name.
METHODS: dict[str, Method] = {row.name: row for file in _FILES for row in file.METHODS}


def get(name: str) -> Method:
    """Return the method of this name.

    Raises:
        InvalidConfigError: there is none.
    """
    try:
        return METHODS[name]
    except KeyError:
        hint = nearest(name, METHODS)
        raise InvalidConfigError(f"method is {name!r}; {hint}") from None
