"""Networks of two architectures that spandrel knows, tiny and random, in a catalogue."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from service.settings import StoreSettings
from service.storage.store import open_store
from tests.hidiffusion.tiny import models as tiny_models
from tests.service.worker.conftest import Child, children, new_generation

__all__ = ["new_generation"]

PICTURE_KEY = "uploads/picture.png"


def picture() -> np.ndarray:
    """Smooth shapes and noise, wider than a tile and not its multiple."""
    noise = np.random.default_rng(0).integers(0, 256, (150, 300, 3), np.uint8)
    smooth = Image.fromarray(noise[:10, :20]).resize((300, 150), Image.Resampling.BICUBIC)
    return np.asarray(Image.blend(smooth, Image.fromarray(noise), 0.2))


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Upscalers "esrgan" (a .pth file) and "swinir" (.safetensors), and "tiny", which draws."""
    folder = tmp_path_factory.mktemp("upscalers")
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    torch.manual_seed(0)
    torch.save(RRDBNet(num_filters=8, num_blocks=2, scale=4).state_dict(), folder / "esrgan.pth")
    swin = SwinIR(
        img_size=64,
        depths=[2],
        num_heads=[2],
        embed_dim=16,
        window_size=8,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffle",
        resi_connection="1conv",
    )
    # Larger than it was born: windows then matter, as they do in a trained one.
    with torch.no_grad():
        for weight in swin.parameters():
            weight.mul_(3)
    save_file(swin.state_dict(), folder / "swinir.safetensors")
    save_file({"nothing": torch.zeros(1)}, folder / "nothing.safetensors")
    tiny_models.sd_pipeline().save_pretrained(folder / "tiny")
    models = [
        _upscaler("esrgan", "esrgan.pth", 4),
        _upscaler("swinir", "swinir.safetensors", 2),
        _upscaler("wrong-scale", "esrgan.pth", 2),
        _upscaler("unknown", "nothing.safetensors", 2),
        {
            "name": "tiny",
            "title": "tiny",
            "source": "tiny",
            "native_size": 64,
            "default_size": 64,
            "default_scheduler": "DDIMScheduler",
            "schedulers": ["DDIMScheduler"],
            "default_method": "direct",
            "methods": ["direct"],
        },
    ]
    path = folder / "catalog.json"
    path.write_text(json.dumps({"models": models}))
    return path


def _upscaler(name: str, source: str, scale: int) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "source": source,
        "kind": "upscaler",
        "engine": "spandrel",
        "scales": [scale],
        "native_size": 256,
        "min_size": 8,
        "default_size": 1024,
        "default_steps": 1,
        "default_scheduler": "OnePass",
        "schedulers": ["OnePass"],
        "default_method": "direct",
        "methods": ["direct"],
    }


@pytest.fixture(scope="session")
def start(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Child]]:
    """Starts pipeline processes on one store, which holds the picture."""
    store = StoreSettings(url=tmp_path_factory.mktemp("store").as_uri())
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "png")
    open_store(store).put(PICTURE_KEY, file.getvalue(), "image/png")
    with children(catalog, tmp_path_factory) as begin:

        def start() -> Child:
            child = begin(store, models=("esrgan", "tiny"))
            child.hear()
            return child

        yield start


@pytest.fixture(scope="session")
def child(start: Callable[[], Child]) -> Child:
    return start()
