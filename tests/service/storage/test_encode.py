"""Encoded pictures, read back by Pillow."""

import io
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image

from service.domain.artifacts import BitDepth, OutputFormat
from service.storage.encode import encode

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_png_keeps_every_pixel() -> None:
    image = Image.open(io.BytesIO(encode(PIXELS, "png")))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(image), PIXELS)


def test_webp_without_a_quality_keeps_every_pixel() -> None:
    image = Image.open(io.BytesIO(encode(PIXELS, "webp")))
    assert image.format == "WEBP"
    assert np.array_equal(np.asarray(image.convert("RGB")), PIXELS)


@pytest.mark.parametrize("picture_format", ["webp", "jpeg", "avif"])
def test_lossy_formats_stay_close_and_obey_the_quality(picture_format: OutputFormat) -> None:
    smooth = np.tile(np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None], (40, 1, 3))
    image = Image.open(io.BytesIO(encode(smooth, picture_format, quality=90)))
    assert image.format == picture_format.upper()
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - smooth).mean() < 3
    sizes = [len(encode(PIXELS, picture_format, quality=quality)) for quality in (20, 95)]
    assert sizes[0] < sizes[1] / 2


def test_png_keeps_16_bits() -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 60, 3), np.uint16)
    png = encode(deep, "png", bit_depth=16)
    # The header chunk: width, height, bits per channel, colour type 2 (three channels).
    assert struct.unpack(">IIBB", png[16:26]) == (60, 40, 16, 2)
    assert np.array_equal(pyvips.Image.new_from_buffer(png, "").numpy(), deep)


@pytest.mark.parametrize("bit_depth", [10, 12])
def test_avif_keeps_more_than_8_bits(bit_depth: BitDepth) -> None:
    ramp = np.linspace(0, 65535, 512).astype(np.uint16)
    smooth = np.repeat(np.tile(ramp[None, :], (64, 1))[:, :, None], 3, axis=2)
    avif = encode(smooth, "avif", quality=95, bit_depth=bit_depth)
    image = pyvips.Image.new_from_buffer(avif, "")
    assert image.get("heif-bitdepth") == bit_depth
    assert len(np.unique(image.numpy()[..., 1])) > 300
    assert Image.open(io.BytesIO(avif)).size == (512, 64)


@pytest.mark.parametrize(
    ("picture_format", "bit_depth"), [("jpeg", 16), ("webp", 10), ("avif", 16), ("png", 12)]
)
def test_a_depth_that_the_format_does_not_hold_is_refused(
    picture_format: OutputFormat, bit_depth: BitDepth
) -> None:
    with pytest.raises(ValueError, match=f"{picture_format} does not hold {bit_depth} bits"):
        encode(PIXELS.astype(np.uint16), picture_format, bit_depth=bit_depth)


def test_a_view_into_a_larger_picture_is_encoded_as_it_looks() -> None:
    view = PIXELS[5:25, 10:40]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(view, "png")))), view)


def test_the_same_pixels_give_the_same_bytes() -> None:
    assert encode(PIXELS, "png") == encode(PIXELS.copy(), "png")


@pytest.mark.parametrize(
    "pixels", [PIXELS[0], PIXELS[:, :, :1], PIXELS.astype(np.float32)], ids=["2-d", "grey", "float"]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode(pixels, "png")
