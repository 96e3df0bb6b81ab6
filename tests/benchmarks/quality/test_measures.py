"""The measures of the quality bench, on pictures whose truth is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import measures
from benchmarks.quality.enlarge import enlarge
from benchmarks.quality.measures import Pixels
from benchmarks.quality.plan import Size

DATA = Path(__file__).parents[2] / "models" / "data"


@pytest.fixture(params=["apple", "guitar"])
def emoji(request: pytest.FixtureRequest) -> Pixels:
    """A training picture of 256x256 on white."""
    picture = Image.open(DATA / f"{request.param}.webp").convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(ground, picture).convert("RGB"))


def scene(emoji: Pixels, places: list[tuple[int, int]], side: int = 512) -> Pixels:
    """White with an emoji of 200 pixels at each place (left, top)."""
    sheet = Image.new("RGB", (side, side), "white")
    small = Image.fromarray(emoji).resize((200, 200), Image.Resampling.LANCZOS)
    for place in places:
        sheet.paste(small, place)
    return np.asarray(sheet)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_counts_the_objects_that_were_pasted(emoji: Pixels, count: int) -> None:
    places = [(20, 20), (280, 280), (20, 280), (280, 20)][:count]
    assert measures.count_objects(scene(emoji, places), emoji) == count


def test_an_enlarged_object_is_one_object(emoji: Pixels) -> None:
    for side in (256, 512, 1024):
        assert measures.count_objects(enlarge(emoji, Size(side, side)), emoji) == 1


def test_crumbs_are_no_objects(emoji: Pixels) -> None:
    picture = enlarge(emoji, Size(512, 512)).copy()
    picture[:24, :24] = 0
    assert measures.count_objects(picture, emoji) == 1


def test_the_white_inside_of_an_object_belongs_to_it() -> None:
    ring = np.full((256, 256, 3), 255, np.uint8)
    ring[40:200, 40:200] = 0
    ring[50:190, 50:190] = 255
    assert measures.object_areas(ring) == [pytest.approx(160 * 160, rel=0.05)]


def test_off_white_ground_is_ground(emoji: Pixels) -> None:
    greyish = (scene(emoji, [(20, 20), (280, 280)]) * 0.95).astype(np.uint8)
    assert measures.count_objects(greyish, emoji) == 2


def test_a_blank_picture_has_no_objects_and_no_layout(emoji: Pixels) -> None:
    blank = np.full((256, 256, 3), 255, np.uint8)
    assert measures.count_objects(blank, emoji) == 0
    assert abs(measures.agreement(blank, emoji)) < 0.1


def test_agreement_falls_from_the_same_layout_to_another(emoji: Pixels) -> None:
    enlarged = measures.agreement(enlarge(emoji, Size(512, 512)), emoji)
    moved = measures.agreement(enlarge(np.roll(emoji, 12, axis=1), Size(512, 512)), emoji)
    repeated = measures.agreement(np.tile(emoji, (2, 2, 1)), emoji)
    assert enlarged > 0.99
    assert enlarged > moved > repeated


def test_agreement_finds_the_object_in_a_wide_picture(emoji: Pixels) -> None:
    wide = np.concatenate([enlarge(emoji, Size(512, 512)), scene(emoji, [])], axis=1)
    assert measures.agreement(wide, emoji) > 0.99


def test_detail_is_what_native_resolution_cannot_hold(emoji: Pixels) -> None:
    enlarged = enlarge(emoji, Size(512, 512))
    noise = np.random.default_rng(0).normal(0, 8, enlarged.shape)
    noisy = (enlarged + noise).clip(0, 255).astype(np.uint8)
    assert measures.detail(enlarged) < 1.5
    # Half of the bandwidth along each axis is beyond native: 3/4 of the power; white cuts a part.
    assert 3 < measures.detail(noisy) < 8
