"""What a caller may ask of a diffusion transformer beyond its training size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hidiffusion.errors import InvalidConfigError
from hidiffusion.options import check_options, option
from hidiffusion.unet.config import ShiftSchedule, random_shifts

#: Ways to bring positions beyond the training size back into the trained range.
RULES = ("none", "interpolation", "ntk", "yarn")

#: Ways to sharpen attention over more tokens than in training.
TEMPERATURES = ("none", "yarn", "entropy")

#: How the two axes of a picture are scaled.
AXES = ("each", "joint")

#: What becomes of the schedule's shift towards noise in larger pictures.
TIME_SHIFTS = ("native", "sqrt", "pipeline")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Settings of positions, windows and time shift on a diffusion transformer.

    Attributes:
        seed: seed of the window shifts; one for each sample of the batch if a tuple. None is 0.
        native_tokens: side of the training pictures in tokens; None takes the family's.
        positions: how the positions of a picture larger than native are brought back into the
            trained range.
        axes: whether each axis is scaled by its own length or both jointly, by the longer one;
            None takes the family's: jointly for Z-Image, each for the others.
        temperature: how attention is sharpened; None is "yarn" with YaRN and "none" otherwise.
        window_grid: windows along each axis; "native" for as many as keep a window at the side of
            the training pictures, 1 for none.
        full_share: fraction of the steps, from the first, with full attention in spite of windows.
        time_shift: "native" keeps the schedule of native pictures, "sqrt" shifts it by the square
            root of the enlargement (Esser et al., ICML 2024, section 5.3.2), "pipeline" leaves
            what the pipeline does, which beyond four native areas ends in pure noise.
        shifts: chooses each window shift.
    """

    seed: int | tuple[int, ...] | None = None
    native_tokens: int | None = None
    positions: str = option("yarn", "How positions are scaled.", words=RULES)
    axes: str | None = option(
        None, "Whether axes are scaled each or jointly; null is the family's.", words=AXES
    )
    temperature: str | None = option(
        None, "How attention is sharpened; null is what fits the positions.", words=TEMPERATURES
    )
    window_grid: int | Literal["native"] = option(
        "native",
        "Windows along each axis; native keeps their size, 1 is full attention.",
        minimum=1,
        maximum=64,
        words=("native",),
    )
    full_share: float = option(
        0.3, "Fraction of the steps, from the first, with full attention.", minimum=0, maximum=1
    )
    time_shift: str = option("native", "Shift of the schedule towards noise.", words=TIME_SHIFTS)
    shifts: ShiftSchedule = random_shifts

    def __post_init__(self) -> None:
        check_options(self)
        if self.native_tokens is not None and self.native_tokens < 1:
            raise InvalidConfigError(
                f"native_tokens is {self.native_tokens!r}; it must be 1 token or more"
            )
        if isinstance(self.seed, list) or self.seed == ():
            raise InvalidConfigError(f"seed is {self.seed!r}; give a tuple that is not empty")

    @property
    def sharpening(self) -> str:
        """The temperature with the default filled in."""
        return self.temperature or ("yarn" if self.positions == "yarn" else "none")
