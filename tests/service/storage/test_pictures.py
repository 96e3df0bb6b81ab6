"""Pictures from strangers: what is kept of good ones, and how bad ones are refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from service.domain.requests.uploads import BadPicture
from service.storage.pictures import PictureReader

READER = PictureReader(1 << 20, 1_000_000, ("png", "jpeg", "webp"))
FORMATS = ["PNG", "JPEG", "WEBP"]


def photo(width: int = 60, height: int = 40) -> Image.Image:
    gradient = Image.linear_gradient("L").resize((width, height))
    return Image.merge(
        "RGB", (gradient, gradient.rotate(180), gradient.rotate(90).resize(gradient.size))
    )


def encoded(picture: Image.Image, name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


def kept(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(READER(data).png))


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_stay_and_all_else_goes(name: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    lossless = {"lossless": True} if name == "WEBP" else {}
    data = encoded(photo(), name, exif=exif, **lossless)
    assert b"a secret place" in data

    picture = READER(data)

    assert (picture.width, picture.height) == (60, 40)
    chunks = {picture.png[at : at + 4] for at in range(8, len(picture.png) - 4)}
    assert not chunks & {b"eXIf", b"tEXt", b"iTXt", b"zTXt", b"iCCP"}
    assert b"a secret place" not in picture.png
    difference = np.abs(np.asarray(kept(data), int) - np.asarray(photo(), int))
    assert difference.mean() <= (3 if name == "JPEG" else 0)


def test_the_same_pixels_have_the_same_name_whatever_file_they_came_in() -> None:
    webp = encoded(photo(), "WEBP", lossless=True, exact=True)
    assert READER(webp).id == READER(encoded(photo(), "PNG", dpi=(300, 300))).id
    assert READER(webp).id != READER(encoded(photo(61), "PNG")).id


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(), "JPEG", exif=exif, quality=100, subsampling=0)
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    upright = photo()
    if orientation in turned:
        upright = upright.transpose(Image.Transpose(turned[orientation]))
    picture = kept(data)
    assert picture.size == upright.size
    assert np.abs(np.asarray(picture, int) - np.asarray(upright, int)).mean() < 3


@pytest.mark.parametrize(
    ("mode", "name", "expected"),
    [("L", "PNG", "RGB"), ("1", "PNG", "RGB"), ("P", "PNG", "RGB"), ("I;16", "PNG", "RGB"),
     ("CMYK", "JPEG", "RGB"), ("LA", "PNG", "RGBA"), ("RGBA", "WEBP", "RGBA")],
)  # fmt: skip
def test_every_kind_of_pixel_becomes_srgb(mode: str, name: str, expected: str) -> None:
    picture = photo().convert("I").convert("I;16") if mode == "I;16" else photo().convert(mode)
    if mode.endswith("A"):
        picture.putpixel((0, 0), (0,) * len(mode))
    assert kept(encoded(picture, name)).mode == expected


def test_a_colour_profile_is_applied() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    assert kept(encoded(photo(), "PNG", icc_profile=swapped.tobytes())).size == (60, 40)
    plain = Image.new("RGB", (8, 8), (128, 128, 128))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixel = kept(encoded(plain, "PNG", icc_profile=srgb)).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    assert all(abs(value - 128) <= 2 for value in pixel)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_cut_short_is_refused(name: str, share: float) -> None:
    noise = Image.effect_noise((200, 200), 80).convert("RGB")
    data = encoded(noise, name)
    with pytest.raises(BadPicture, match="broken or incomplete"):
        READER(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_what_moves_is_refused(name: str) -> None:
    data = encoded(photo(), name, save_all=True, append_images=[photo().rotate(90)])
    with pytest.raises(BadPicture, match="animated"):
        READER(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"II*\0",
     b"RIFF\0\0\0\0WAVE", encoded(photo(), "GIF"), encoded(photo(), "BMP"),
     encoded(photo(), "TIFF"), encoded(photo(), "AVIF")],
)  # fmt: skip
def test_other_formats_are_never_tried(data: bytes) -> None:
    with pytest.raises(BadPicture, match="no picture of the formats png, jpeg, webp"):
        READER(data)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _bomb(side: int) -> bytes:
    """A tiny PNG that promises a huge picture."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels)


@pytest.mark.parametrize("side", [1001, 16384, 100_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(BadPicture, match=r"pixels; up to 1000000|broken or incomplete"):
        READER(_bomb(side))


def test_a_ribbon_and_a_long_file_are_refused() -> None:
    with pytest.raises(BadPicture, match="sides of 16384"):
        READER(encoded(Image.new("L", (16385, 1)), "PNG"))
    with pytest.raises(BadPicture, match="up to 1048576 are allowed"):
        READER(encoded(photo(), "PNG") + bytes(1 << 20))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_the_bytes_the_answer_is_a_picture_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(encoded(photo(), data.draw(st.sampled_from(FORMATS))))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = READER(bytes(whole))
    except BadPicture:
        return
    assert picture.width * picture.height <= 1_000_000
    Image.open(io.BytesIO(picture.png)).load()


def test_only_the_formats_that_are_set_are_read() -> None:
    reader = PictureReader(1 << 20, 1_000_000, ("jpeg",))
    with pytest.raises(BadPicture, match="of the formats jpeg;"):
        reader(encoded(photo(), "PNG"))
    with pytest.raises(ValueError, match="'gif'"):
        PictureReader(1, 1, ("gif",))


def test_the_clear_parts_of_a_picture_are_white_in_a_mask() -> None:
    picture = photo().convert("RGBA")
    opaque = READER(encoded(picture, "PNG"))
    picture.paste((0, 0, 0, 0), (0, 0, 30, 40))
    mask = READER.clear_parts(READER(encoded(picture, "PNG")))
    assert mask is not None
    pixels = np.asarray(Image.open(io.BytesIO(mask.png)))
    assert (pixels.shape, pixels[:, :30].min(), pixels[:, 30:].max()) == ((40, 60), 255, 0)
    assert READER.clear_parts(opaque) is None
    assert READER.clear_parts(READER(encoded(photo(), "PNG"))) is None
