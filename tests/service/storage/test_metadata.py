"""What pictures say of themselves, read back by Pillow and by an XML parser."""

import io
import json
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from service.domain.artifacts import OutputFormat
from service.storage.encode import encode
from service.storage.metadata import RecipeText, encode_marked, with_text

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
FORMATS: tuple[OutputFormat, ...] = ("png", "webp", "jpeg", "avif")
MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"

#: Everything that XML, JSON and EXIF escape in ways of their own, and what XML cannot hold.
PROMPT = 'a <fox> & "狐狸" 🦊\n\x01\x7f\ufffe\uffff\\ ]]>'
RECIPE = {"prompt": PROMPT, "seed": 7}
TEXT = RecipeText(parameters=f"{PROMPT}\nSteps: 3", recipe=json.dumps(RECIPE, ensure_ascii=False))


def _open(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


def _xmp(image: Any) -> ElementTree.Element:
    packet = image.info["xmp"] if "xmp" in image.info else image.info["XML:com.adobe.xmp"].encode()
    return ElementTree.fromstring(packet)


@pytest.mark.parametrize("picture_format", FORMATS)
@pytest.mark.parametrize("text", [TEXT, None], ids=["recipe", "none"])
def test_every_picture_says_that_a_model_made_it(
    picture_format: OutputFormat, text: RecipeText | None
) -> None:
    image = _open(encode_marked(PIXELS, picture_format, text))
    assert [element.text for element in _xmp(image).iter(SOURCE_TYPE)] == [MADE_BY_A_MODEL]


@pytest.mark.parametrize("picture_format", FORMATS[1:])
def test_exif_and_xmp_carry_the_recipe(picture_format: OutputFormat) -> None:
    image = _open(encode_marked(PIXELS, picture_format, TEXT))
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == TEXT.parameters
    (recipe,) = _xmp(image).iter("{urn:hidiffusion:1.0/}recipe")
    assert json.loads(recipe.text or "") == RECIPE


def test_png_carries_the_recipe_in_chunks() -> None:
    png = encode_marked(PIXELS, "png", TEXT)
    image = _open(png)
    assert image.text["parameters"] == TEXT.parameters
    assert json.loads(image.text["hidiffusion"]) == RECIPE
    assert np.array_equal(np.asarray(image), PIXELS)
    _open(png).verify()


@pytest.mark.parametrize("picture_format", FORMATS)
def test_a_recipe_that_is_left_out_is_nowhere_in_the_file(picture_format: OutputFormat) -> None:
    data = encode_marked(PIXELS, picture_format, None)
    for secret in ("Steps", "seed", "狐狸"):
        assert secret.encode() not in data
        assert secret.encode("utf-16-be") not in data
    assert not _open(data).getexif().get_ifd(0x8769).get(0x9286)


@pytest.mark.parametrize("picture_format", FORMATS)
def test_the_longest_prompts_fit(picture_format: OutputFormat) -> None:
    prompts = ["&" * 4000, "🦊" * 4000]
    text = RecipeText(parameters="\n".join(prompts), recipe=json.dumps(prompts, ensure_ascii=False))
    image = _open(encode_marked(PIXELS, picture_format, text))
    assert image.size == (60, 40)
    found = list(_xmp(image).iter("{urn:hidiffusion:1.0/}recipe"))
    assert [json.loads(element.text or "") for element in found] == [prompts] * len(found)
    assert len(found) == (0 if picture_format == "png" else 1)


def test_the_same_picture_and_recipe_give_the_same_bytes() -> None:
    assert encode_marked(PIXELS, "jpeg", TEXT) == encode_marked(PIXELS.copy(), "jpeg", TEXT)


@pytest.mark.parametrize("keyword", ["", "k" * 80])
def test_a_keyword_of_the_wrong_length_is_refused(keyword: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        with_text(encode(PIXELS, "png"), {keyword: "value"})
