"""One run of a diffusion transformer at full size: positions brought back, attention in windows."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from hidiffusion.methods.generation.passes import Pass
from hidiffusion.methods.method import BEYOND_NATIVE, one_pass
from hidiffusion.options import check_options, option
from hidiffusion.transformer.config import AXES, RULES, TEMPERATURES, TIME_SHIFTS, TransformerConfig
from hidiffusion.transformer.patch import patched


@dataclass(frozen=True, kw_only=True)
class PositionsConfig:
    """Settings of scaled positions; see `hidiffusion.transformer.TransformerConfig`.

    Attributes:
        seed: the request's seed or seeds, for the window shifts of methods that have windows.
        native_size: side of the training pictures in tokens; None takes the family's.
        positions: how positions are brought back into the trained range.
        axes: whether each axis is scaled by its own length or both jointly.
        temperature: how attention is sharpened.
        time_shift: what becomes of the schedule's shift towards noise.
    """

    seed: int | tuple[int, ...] | None = None
    native_size: int | None = None
    positions: str = option("yarn", "How positions are scaled.", words=RULES)
    axes: str | None = option(
        None, "Whether axes are scaled each or jointly; null is the family's.", words=AXES
    )
    temperature: str | None = option(
        None, "How attention is sharpened; null is what fits the positions.", words=TEMPERATURES
    )
    time_shift: str = option("native", "Shift of the schedule towards noise.", words=TIME_SHIFTS)

    def __post_init__(self) -> None:
        check_options(self)
        self.transformer()

    def transformer(self) -> TransformerConfig:
        """Return the settings of what acts on the transformer."""
        known = {entry.name for entry in fields(TransformerConfig)}
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        shared = {name: value for name, value in given.items() if name in known}
        return TransformerConfig(native_tokens=self.native_size, **(self.fixed() | shared))

    def fixed(self) -> dict[str, Any]:
        """Return the settings that this method does not leave to its caller."""
        return {"window_grid": 1}


@dataclass(frozen=True, kw_only=True)
class TokenWindowsConfig(PositionsConfig):
    """Settings of windowed attention.

    Attributes:
        window_grid: windows along each axis; "native" keeps their side at the training pictures'.
        full_share: fraction of the steps, from the first, with full attention: windows alone lose
            the whole.
    """

    window_grid: int | Literal["native"] = option(
        "native",
        "Windows along each axis; native keeps their size.",
        minimum=1,
        maximum=64,
        words=("native",),
    )
    full_share: float = option(
        0.3, "Fraction of the steps, from the first, with full attention.", minimum=0, maximum=1
    )

    def fixed(self) -> dict[str, Any]:
        """Return nothing: all is the caller's."""
        return {}


def with_full_calls(large: Pass, config: PositionsConfig) -> Pass:
    """Return a pass that knows how many of its calls attend to everything."""
    share = config.transformer().full_share if large.draws == "token-windows" else 0
    return replace(large, full_calls=math.ceil(share * large.calls - 1e-9))


def apply(pipe: Any, config: PositionsConfig) -> AbstractContextManager[Any]:
    """Return the `with` block in which a pipeline draws so."""
    return patched(pipe, config.transformer())


METHODS = (
    one_pass(
        apply,
        draws=lambda _: "positions",
        costs=with_full_calls,
        name="positions",
        models="transformer",
        summary="a transformer with positions brought back into the trained range",
        config_type=PositionsConfig,
        min_scale=BEYOND_NATIVE,
    ),
    one_pass(
        apply,
        draws=lambda _: "token-windows",
        costs=with_full_calls,
        name="token-windows",
        models="transformer",
        summary="a transformer with scaled positions, then attention in windows of native size",
        config_type=TokenWindowsConfig,
        min_scale=BEYOND_NATIVE,
    ),
)
