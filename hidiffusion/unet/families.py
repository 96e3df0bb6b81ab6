"""The families of U-Nets the method knows: one row each, found by structure.

A family is a pattern (which levels have cross-attention) and the places and times of the two
mechanisms of RAU-Net. Places are levels, counted from the top, 0; the matching place on the way
up follows by mirror. Times are fractions of the steps, by enlargement of the picture. To add a
family, add a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hidiffusion.errors import InvalidConfigError, UnsupportedModelError
from hidiffusion.unet.config import HiDiffusionConfig, ResolvedConfig, Threshold

#: Number of channels of an inpainting U-Net's input: latents, masked latents and mask.
_INPAINTING_CHANNELS = 9
#: Fraction of the steps in which a ControlNet acts (authors' code).
CONTROL_RATIO = 0.6
#: Side of SDXL-Turbo's training pictures in latents (512 pixels); SDXL's is 128.
_TURBO_NATIVE_SIZE = 64


@dataclass(frozen=True)
class UNetStructure:
    """What of a U-Net decides its family.

    Attributes:
        cross_attention: for each level from the top, whether its down block has cross-attention.
        in_channels: channels of its input.
        native_size: side of its training pictures in latents, or None if its config says nothing.
    """

    cross_attention: tuple[bool, ...]
    in_channels: int
    native_size: int | None


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        name: what `HiDiffusionConfig.family` accepts.
        cross_attention: the pattern of `UNetStructure.cross_attention`.
        window_level: top level with windowed self-attention.
        rad_level: level whose down-sampler quarters, or None.
        pool_level: level with in-block pooling, or None.
        rad_first: whether the down-sampler follows T1 and the pooling T2, or the reverse.
        thresholds: schedules by rising scale.
        in_channels: required input channels, or None for any.
        native_size: required native size, or None for any.
        by_name_only: whether structure cannot tell it from another family.
    """

    name: str
    cross_attention: tuple[bool, ...]
    window_level: int
    rad_level: int | None
    pool_level: int | None
    rad_first: bool
    thresholds: tuple[Threshold, ...]
    in_channels: int | None = None
    native_size: int | None = None
    by_name_only: bool = False

    def matches(self, structure: UNetStructure) -> bool:
        """Tell whether a U-Net of this structure belongs to the family."""
        return (
            not self.by_name_only
            and self.cross_attention == structure.cross_attention
            and self.in_channels in (None, structure.in_channels)
            and self.native_size in (None, structure.native_size)
        )


# The authors give thresholds in latents, for native 64 and 128; as multiples of the native size
# both models read the same: one row from the start, another from four times native.
_SD_THRESHOLDS = (
    Threshold(0.0, 0.4, 0.0, 0.0, 0.4),  # authors' code, 1024x1024
    Threshold(4.0, 0.7, 0.3, 0.0, 0.7),  # authors' code, 2048x2048
)
_SDXL_THRESHOLDS = (
    Threshold(0.0, 0.4, 0.0, 8 / 50, 0.5),  # authors' code, 2048x2048
    Threshold(4.0, 0.7, 0.3, 0.0, 0.7),  # authors' code, 4096x4096
)
_CALM_SDXL_THRESHOLDS = tuple(replace(row, aggressive_ratio=0.0) for row in _SDXL_THRESHOLDS)

_SDXL = Family(
    name="sdxl",
    cross_attention=(False, True, True),
    window_level=1,
    rad_level=1,
    pool_level=1,
    rad_first=False,
    thresholds=_SDXL_THRESHOLDS,
)

#: The more particular rows first.
FAMILIES: tuple[Family, ...] = (
    replace(
        _SDXL,
        name="sdxl-inpainting",
        thresholds=_CALM_SDXL_THRESHOLDS,
        in_channels=_INPAINTING_CHANNELS,
    ),
    replace(
        _SDXL,
        name="sdxl-turbo",
        rad_level=None,
        thresholds=(Threshold(0.0, 0.5, 0.0, 0.0, 0.5),),
        native_size=_TURBO_NATIVE_SIZE,
    ),
    replace(_SDXL, name="playground", thresholds=_CALM_SDXL_THRESHOLDS, by_name_only=True),
    _SDXL,
    # Ours: a refiner starts when the layout is settled, so only its attention is windowed.
    Family(
        name="sdxl-refiner",
        cross_attention=(False, True, True, False),
        window_level=1,
        rad_level=None,
        pool_level=None,
        rad_first=False,
        thresholds=(Threshold(0.0, 0.0, 0.0, 0.0, 0.0),),
    ),
    Family(
        name="sd",
        cross_attention=(True, True, True, False),
        window_level=0,
        rad_level=0,
        pool_level=1,
        rad_first=True,
        thresholds=_SD_THRESHOLDS,
    ),
)


def find(structure: UNetStructure, name: str | None = None) -> Family:
    """Find the family of a U-Net.

    Args:
        structure: the U-Net's structure.
        name: a family's name, which then must fit the structure; None finds it.

    Returns:
        The row of the table.

    Raises:
        InvalidConfigError: the name is unknown.
        UnsupportedModelError: no row fits.
    """
    if name is not None and name not in {family.name for family in FAMILIES}:
        known = ", ".join(family.name for family in FAMILIES)
        raise InvalidConfigError(f"family is {name!r}; known families: {known}")
    for family in FAMILIES:
        if family.name == name:
            if family.cross_attention == structure.cross_attention:
                return family
        elif name is None and family.matches(structure):
            return family
    raise UnsupportedModelError(
        f"the U-Net has {_pattern(structure.cross_attention)}; supported: "
        + "; ".join(f"{row.name} ({_pattern(row.cross_attention)})" for row in FAMILIES)
    )


def resolve(config: HiDiffusionConfig, structure: UNetStructure) -> ResolvedConfig:
    """Fill in what the caller left to the model.

    Args:
        config: what was asked for.
        structure: the U-Net's structure.

    Returns:
        A configuration without open questions.

    Raises:
        InvalidConfigError: the family's name is unknown, or no native size is known.
        UnsupportedModelError: no family fits the structure.
    """
    family = find(structure, config.family)
    native_size = config.native_size or structure.native_size
    if native_size is None:
        raise InvalidConfigError("the U-Net's config has no sample_size; give native_size")
    bottom = max(level for level, attends in enumerate(family.cross_attention) if attends)
    last_window = min(family.window_level + config.extra_window_levels, bottom)
    return ResolvedConfig(
        family=family.name,
        native_size=native_size,
        num_levels=len(family.cross_attention),
        rad_level=family.rad_level,
        pool_level=family.pool_level,
        rad_first=family.rad_first,
        window_levels=tuple(range(family.window_level, last_window + 1)),
        extra_window_start=config.extra_window_start,
        thresholds=tuple(_asked(config, row) for row in family.thresholds),
        control_ratio=CONTROL_RATIO if config.control_ratio is None else config.control_ratio,
        window_grid=config.window_grid,
        seed=config.seed,
        shifts=config.shifts,
        timesteps=config.timesteps,
    )


def _asked(config: HiDiffusionConfig, row: Threshold) -> Threshold:
    """Put the caller's ratios in the place of the row's."""
    asked = {
        "t1_ratio": config.t1_ratio,
        "t2_ratio": config.t2_ratio,
        "aggressive_ratio": config.aggressive_ratio,
        "controlled_t1_ratio": config.t1_ratio,
    }
    return replace(row, **{name: ratio for name, ratio in asked.items() if ratio is not None})


def _pattern(cross_attention: Sequence[bool]) -> str:
    kinds = "-".join("attention" if attends else "plain" for attends in cross_attention)
    return f"{len(cross_attention)} levels {kinds}"
