"""One rule for masks, from the file a client sends to the pixels a worker draws by."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.settings import StoreSettings
from service.storage.pictures import PictureReader
from service.storage.store import open_store
from service.worker.weights.inputs import load_picture

READER = PictureReader(1 << 20, 1_000_000, ("png", "jpeg", "webp"))


def _drawn(tmp_path: Path, mask: Image.Image, name: str = "PNG") -> tuple[Any, tuple[int, int]]:
    """How far each pixel is drawn anew, 0 to 255, and what is known of the mask at acceptance."""
    stream = io.BytesIO()
    mask.save(stream, name, **({"quality": 100, "subsampling": 0} if name == "JPEG" else {}))
    picture = READER(stream.getvalue())
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    store.put("uploads/-/mask/one.png", picture.png, "image/png")
    generation: Any = SimpleNamespace(inputs={"mask": "uploads/-/mask/one.png"})
    return np.asarray(load_picture(store, generation, "mask", "L")), picture.mask_range


def _stroke(mode: str) -> Image.Image:
    """White in the left half; on the right what keeps, which is transparent where a mode can."""
    grey = Image.new("L", (16, 8), 0)
    grey.paste(255, (0, 0, 8, 8))
    match mode:
        case "LA" | "RGBA" | "PA":
            whole = Image.new("LA", grey.size, (255, 255))
            whole.putalpha(grey)
            return whole.convert("RGBA").convert("P") if mode == "PA" else whole.convert(mode)
        case "P":
            return grey.convert("P")
        case "I;16":
            return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        case _:
            return grey.convert(mode)


PNG_MODES = ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "I;16"]
JPEG_MODES = ["L", "RGB", "CMYK", "YCbCr"]


@pytest.mark.parametrize(
    ("mode", "name"),
    [(mode, "PNG") for mode in PNG_MODES]
    + [(mode, "JPEG") for mode in JPEG_MODES]
    + [(mode, "WEBP") for mode in ("RGB", "RGBA")],
)
def test_white_is_drawn_and_black_or_transparent_stays(
    tmp_path: Path, mode: str, name: str
) -> None:
    drawn, (least, most) = _drawn(tmp_path, _stroke(mode), name)
    assert drawn[:, 2:6].min() >= 250
    black = 40 if mode == "CMYK" else 5  # the black of ink is none of a screen
    assert drawn[:, 10:14].max() <= black
    assert least <= black
    assert most >= 250


def test_a_palette_with_a_transparent_entry_keeps_it(tmp_path: Path) -> None:
    mask = Image.new("P", (16, 8), 1)
    mask.putpalette([255, 255, 255, 255, 255, 255])
    mask.paste(0, (8, 0, 16, 8))
    mask.info["transparency"] = 0
    drawn, _ = _drawn(tmp_path, mask)
    assert drawn[0, 0] == 255
    assert drawn[0, 15] == 0


@pytest.mark.parametrize(("luminance", "alpha"), [(128, 255), (255, 128), (128, 128), (255, 0)])
def test_it_is_luminance_times_alpha(tmp_path: Path, luminance: int, alpha: int) -> None:
    mask = Image.new("LA", (4, 4), (luminance, alpha))
    drawn, known = _drawn(tmp_path, mask)
    expected = luminance * alpha / 255
    assert abs(int(drawn[0, 0]) - expected) <= 1
    assert max(abs(each - expected) for each in known) <= 1


@pytest.mark.parametrize(
    ("mask", "known"),
    [
        (Image.new("RGBA", (4, 4), (0, 0, 0, 255)), (0, 0)),
        (Image.new("RGBA", (4, 4), (255, 255, 255, 0)), (0, 0)),
        (Image.new("RGB", (4, 4), "white"), (255, 255)),
    ],
)
def test_what_keeps_all_or_nothing_is_known(
    tmp_path: Path, mask: Image.Image, known: tuple[int, int]
) -> None:
    assert _drawn(tmp_path, mask)[1] == known
