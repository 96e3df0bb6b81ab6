"""Positions, stages and map sizes: numbers in, numbers out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidiffusion.clock import Position, locate
from hidiffusion.unet.config import HiDiffusionConfig, ResolvedConfig
from hidiffusion.unet.families import FAMILIES, UNetStructure, resolve
from hidiffusion.unet.schedule import DIRECT, Size, Stage, level_sizes, stage

NATIVE = {"sd": 64, "sdxl": 128, "sdxl-turbo": 64, "sdxl-inpainting": 128, "playground": 128}


def resolved(name: str, native: int | None = None, **options: object) -> ResolvedConfig:
    row = next(row for row in FAMILIES if row.name == name)
    structure = UNetStructure(row.cross_attention, row.in_channels or 4, native or NATIVE[name])
    return resolve(HiDiffusionConfig(family=name, **options), structure)


def active(name: str, side: int, total: int, **call: bool) -> list[str]:
    """One letter a step: b(oth), d(own-sampler), p(ooling), - (none)."""
    letters = []
    for step in range(total):
        now = stage(resolved(name), Size(side, side), Position(step, total), **call)
        letters.append(
            "b" if now.rad and now.pool else "d" if now.rad else "p" if now.pool else "-"
        )
    return "".join(letters)


@pytest.mark.parametrize(
    ("family", "side", "expected"),
    [
        ("sd", 128, "d" * 20 + "-" * 30),
        ("sd", 256, "b" * 15 + "d" * 20 + "-" * 15),
        ("sdxl", 256, "d" * 8 + "p" * 12 + "-" * 30),
        ("sdxl", 512, "b" * 15 + "p" * 20 + "-" * 15),
        ("sdxl-inpainting", 256, "p" * 20 + "-" * 30),
        ("playground", 256, "p" * 20 + "-" * 30),
        ("sdxl-turbo", 128, "p" * 25 + "-" * 25),
        ("sdxl-turbo", 256, "p" * 25 + "-" * 25),
    ],
)
def test_the_published_schedules(family: str, side: int, expected: str) -> None:
    assert active(family, side, 50) == expected


def test_the_shorter_side_chooses_the_row() -> None:
    """Beyond four native sides by area, and not by its height."""
    wide = stage(resolved("sd"), Size(192, 512), Position(0, 50))
    assert (wide.rad, wide.pool) == (True, False)
    assert stage(resolved("sd"), Size(256, 512), Position(0, 50)).pool


def test_the_aggressive_part_can_be_set_below_four_times_native() -> None:
    longer = resolved("sdxl", aggressive_ratio=0.3)
    stages = [stage(longer, Size(256, 256), Position(step, 10)) for step in range(5)]
    assert [(each.rad, each.pool) for each in stages] == [
        *[(True, False)] * 3,
        (False, True),
        (False, False),
    ]


def test_under_a_controlnet_sdxl_pools_for_half_of_the_run() -> None:
    assert active("sdxl", 256, 50, controlled=True) == "d" * 8 + "p" * 17 + "-" * 25


@pytest.mark.parametrize(("family", "expected"), [("sd", "d"), ("sdxl", "p"), ("sdxl-turbo", "p")])
def test_a_run_of_one_step_shrinks_in_it(family: str, expected: str) -> None:
    assert active(family, 2 * NATIVE[family], 1) == expected


@given(st.sampled_from(sorted(NATIVE)), st.integers(1, 300), st.integers(1, 300))
def test_native_area_or_less_is_left_alone(family: str, height: int, width: int) -> None:
    size, native = Size(height, width), NATIVE[family]
    now = stage(resolved(family), size, Position(0, 10))
    assert (now == DIRECT) == (height * width <= native * native)
    assert now.shrinks == (height * width >= 2 * native * native)


@given(st.integers(1, 8), st.integers(8, 200), st.integers(8, 200), st.integers(0, 9))
def test_only_the_ratio_to_the_native_size_counts(
    factor: int, height: int, width: int, step: int
) -> None:
    """A 256-pixel model at 512 is a 512-pixel model at 1024."""
    small = stage(resolved("sd", native=32), Size(height, width), Position(step, 10))
    large = stage(
        resolved("sd", native=32 * factor),
        Size(height * factor, width * factor),
        Position(step, 10),
    )
    assert small == large


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=40, unique=True), st.data())
def test_a_timestep_is_found_at_its_place(table: list[float], data: st.DataObject) -> None:
    table.sort(reverse=True)
    index = data.draw(st.integers(0, len(table) - 1))
    assert locate(table, table[index]) == Position(index, len(table))


def test_both_calls_of_a_second_order_step_stand_at_one_place() -> None:
    table = [900.0, 600.0, 600.0, 300.0, 300.0]
    assert [locate(table, time).step for time in table] == [0, 1, 1, 3, 3]


def test_a_timestep_beside_the_table_counts_as_its_neighbour() -> None:
    assert locate([999.0, 749.0, 499.0, 249.0], 740.0).step == 1


@pytest.mark.parametrize(
    ("family", "side", "now", "mid_block"),
    [  # specification: SD 1.5 at 1024 and 2048, SDXL at 2048 and 4096
        ("sd", 128, Stage(rad=True, pool=False, windows=(0,), control=True), 8),
        ("sd", 256, Stage(rad=True, pool=True, windows=(0,), control=True), 8),
        ("sd", 256, Stage(rad=True, pool=False, windows=(0,), control=True), 16),
        ("sdxl", 256, Stage(rad=False, pool=True, windows=(1,), control=True), 32),
        ("sdxl", 512, Stage(rad=True, pool=True, windows=(1,), control=True), 32),
        ("sdxl", 512, DIRECT, 128),
    ],
)
def test_published_sizes_of_the_mid_block(
    family: str, side: int, now: Stage, mid_block: int
) -> None:
    levels = level_sizes(resolved(family), Size(side, side), now)
    assert levels[-1].inner == (mid_block, mid_block)


@given(st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans())
def test_sizes_never_vanish(height: int, width: int, rad: bool, pool: bool) -> None:
    now = Stage(rad=rad, pool=pool, windows=(0,), control=True)
    for level in level_sizes(resolved("sdxl"), Size(height, width), now):
        assert min(*level.full, *level.inner) >= 1


def test_ratios_that_are_asked_for_hold_at_every_size() -> None:
    config = resolved("sd", t1_ratio=1.0, t2_ratio=0.5)
    for side in (128, 256, 512):
        assert stage(config, Size(side, side), Position(9, 10)).rad
        assert not stage(config, Size(side, side), Position(5, 10)).pool


def test_control_ends_before_the_run() -> None:
    config = replace(resolved("sdxl"), control_ratio=0.6)
    heard = [
        stage(config, Size(256, 256), Position(step, 10), controlled=True).control
        for step in range(10)
    ]
    assert heard == [True] * 6 + [False] * 4
