"""Families are found by structure, and the table fills in what was not asked for."""

import pytest

from hidiffusion import InvalidConfigError, UnsupportedModelError
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.families import FAMILIES, UNetStructure, find, resolve
from hidiffusion.unet.sites import structure
from tests.hidiffusion.tiny import models as tiny_models


@pytest.mark.parametrize(
    ("config", "changes", "expected"),
    [
        (tiny_models.SD15, {}, "sd"),
        (tiny_models.SD21, {}, "sd"),
        (tiny_models.SD15, {"in_channels": 9}, "sd"),
        (tiny_models.SDXL, {}, "sdxl"),
        (tiny_models.SDXL, {"in_channels": 9}, "sdxl-inpainting"),
        (tiny_models.SDXL, {"native": 64}, "sdxl-turbo"),
        (tiny_models.SDXL, {"native": 128}, "sdxl"),
        (tiny_models.SDXL_REFINER, {}, "sdxl-refiner"),
    ],
)
def test_structure_tells_the_family(config: dict, changes: dict, expected: str) -> None:
    assert find(structure(tiny_models.unet(config, **changes))).name == expected


def test_every_family_is_found_by_its_name() -> None:
    for row in FAMILIES:
        assert find(UNetStructure(row.cross_attention, 4, 64), row.name) is row


def test_a_name_must_be_known() -> None:
    with pytest.raises(InvalidConfigError, match=r"family is 'sd3'; known families: .*sdxl"):
        find(UNetStructure((True, True, True, False), 4, 64), "sd3")


def test_a_name_must_fit_the_structure() -> None:
    with pytest.raises(UnsupportedModelError, match=r"4 levels attention-.*supported"):
        find(UNetStructure((True, True, True, False), 4, 64), "sdxl")


def test_an_unknown_structure_names_what_was_found_and_what_is_known() -> None:
    with pytest.raises(UnsupportedModelError, match=r"2 levels attention-plain; supported: .*sd "):
        find(UNetStructure((True, False), 4, 64))


def test_without_a_sample_size_the_native_size_must_be_given() -> None:
    silent = UNetStructure((True, True, True, False), 4, None)
    with pytest.raises(InvalidConfigError, match="give native_size"):
        resolve(HiDiffusionConfig(), silent)
    assert resolve(HiDiffusionConfig(native_size=48), silent).native_size == 48


def test_extra_window_levels_end_where_attention_ends() -> None:
    sdxl = UNetStructure((False, True, True), 4, 128)
    assert resolve(HiDiffusionConfig(), sdxl).window_levels == (1,)
    assert resolve(HiDiffusionConfig(extra_window_levels=3), sdxl).window_levels == (1, 2)
