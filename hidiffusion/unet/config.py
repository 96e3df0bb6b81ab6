"""What a caller may ask for, and the same with every question answered.

`HiDiffusionConfig` is the caller's: a field left at None is derived from the model.
`ResolvedConfig` is ours: it has no None that stands for "derive", so nothing below asks again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

from hidiffusion.errors import InvalidConfigError
from hidiffusion.options import check_options, option

#: Shifts move the window grid by 0 to 3 quarters of a window (paper, section 3.3).
NUM_SHIFTS = 4


class ShiftSchedule(Protocol):
    """Chooses the window shift of one block in one U-Net call.

    It must be a pure function, so that equal requests give equal pictures.
    """

    def __call__(self, *, seed: int, block: int, step: int, timestep: float) -> int:
        """Return a shift in quarters of a window.

        Args:
            seed: the request's seed.
            block: index of the windowed block, in the order in which the U-Net runs them.
            step: position of the call in its run, from 0.
            timestep: the timestep given to the U-Net.

        Returns:
            0, 1, 2 or 3.
        """


def random_shifts(*, seed: int, block: int, step: int, timestep: float) -> int:
    """Draw a shift, all four equally likely, from a hash of seed, block and timestep.

    The timestep rather than the step is hashed, so a run resumed half-way draws the same shifts.
    """
    del step
    counter = f"{seed}/{block}/{timestep:.3f}".encode()
    return hashlib.blake2b(counter, digest_size=1).digest()[0] % NUM_SHIFTS


#: Limits of what is a fraction of the steps.
_RATIO: dict[str, float] = {"minimum": 0, "maximum": 1}


@dataclass(frozen=True, kw_only=True)
class HiDiffusionConfig:
    """Settings of RAU-Net and MSW-MSA; the defaults are the published method.

    Attributes:
        seed: seed of the window shifts; one for each sample of the batch if a tuple. None takes
            the seed of the generator given to the pipeline, and 0 where there is none.
        family: name of a row of `hidiffusion.unet.families.FAMILIES`. None finds it by structure,
            which cannot tell Playground v2 from SDXL.
        native_size: side of the training pictures in latents. None reads the U-Net's sample_size.
        t1_ratio: fraction of the steps in which the first mechanism of the family is active.
        t2_ratio: fraction of the steps in which the second one is active as well.
        aggressive_ratio: fraction of the steps that start with the down-sampler in place of the
            pooling; 0 turns the aggressive stage off.
        control_ratio: fraction of the steps in which a ControlNet acts; None is the published 0.6.
        window_grid: windows along each axis, or "native" for as many as keep a window at the
            token count of the whole map in training. The published grid is 2.
        extra_window_levels: further levels of the U-Net, below the published one, with windows.
        extra_window_start: fraction of the steps after which the further levels get theirs; before
            it, where the layout is settled, their attention stays global.
        shifts: chooses each window shift.
        timesteps: all timesteps of the run, where the scheduler's table does not hold them: a
            U-Net without a scheduler, or a run resumed half-way.
    """

    seed: int | tuple[int, ...] | None = None
    family: str | None = None
    native_size: int | None = None
    t1_ratio: float | None = option(
        None, "Fraction of the steps with the first mechanism; null is published.", **_RATIO
    )
    t2_ratio: float | None = option(
        None, "Fraction of the steps with the second one as well; null is published.", **_RATIO
    )
    aggressive_ratio: float | None = option(
        None, "Fraction of the steps of the aggressive stage; null is published.", **_RATIO
    )
    control_ratio: float | None = option(
        None, "Fraction of the steps with a ControlNet; null is published, 0.6.", **_RATIO
    )
    window_grid: int | Literal["native"] = option(
        2,
        "Windows along each axis; native keeps their size.",
        minimum=1,
        maximum=64,
        words=("native",),
    )
    extra_window_levels: int = option(
        0, "Further levels of the model with windows.", minimum=0, maximum=3
    )
    extra_window_start: float = option(
        0.0, "Fraction of the steps after which the further levels get windows.", **_RATIO
    )
    shifts: ShiftSchedule = random_shifts
    timesteps: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.native_size is not None and self.native_size < 1:
            raise InvalidConfigError(
                f"native_size is {self.native_size!r}; it must be 1 latent or more"
            )
        self._check_sequences()

    def _check_sequences(self) -> None:
        """Lists are refused: they would make the configuration mutable and unhashable."""
        for name in ("seed", "timesteps"):
            value = getattr(self, name)
            if isinstance(value, list) or value == ():
                raise InvalidConfigError(f"{name} is {value!r}; give a tuple that is not empty")


@dataclass(frozen=True)
class Threshold:
    """The schedule from one enlargement of the picture on, as fractions of the steps.

    Attributes:
        scale: smallest min(height, width) / native size at which it holds.
        t1_ratio: end of the first mechanism.
        t2_ratio: end of the second mechanism.
        aggressive_ratio: end of the stage in which the down-sampler replaces the pooling.
        controlled_t1_ratio: t1_ratio under a ControlNet without an initial image.
    """

    scale: float
    t1_ratio: float
    t2_ratio: float
    aggressive_ratio: float
    controlled_t1_ratio: float


@dataclass(frozen=True)
class ResolvedConfig:
    """A configuration with everything derived from the model filled in.

    Attributes:
        family: name of the family's row.
        native_size: side of the training pictures in latents.
        num_levels: levels of the U-Net.
        rad_level: level whose down-sampler quarters, or None.
        pool_level: level with in-block pooling, or None.
        rad_first: whether the down-sampler follows T1 and the pooling T2, or the reverse.
        window_levels: levels with windowed self-attention, the published one first.
        extra_window_start: fraction of the steps after which all but the first have windows.
        thresholds: schedules by rising scale.
        control_ratio: fraction of the steps in which a ControlNet acts.
        window_grid: windows along each axis, or "native".
        seed: explicit seed or seeds, or None for the run's.
        shifts: chooses each window shift.
        timesteps: explicit table of the run, or None for the scheduler's.
    """

    family: str
    native_size: int
    num_levels: int
    rad_level: int | None
    pool_level: int | None
    rad_first: bool
    window_levels: tuple[int, ...]
    extra_window_start: float
    thresholds: tuple[Threshold, ...]
    control_ratio: float
    window_grid: int | Literal["native"]
    seed: int | tuple[int, ...] | None
    shifts: ShiftSchedule
    timesteps: tuple[float, ...] | None
