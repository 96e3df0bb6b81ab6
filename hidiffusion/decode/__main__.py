"""Fit a model's preview factors: `python -m hidiffusion.decode MODEL PICTURE...`.

MODEL is a folder in diffusers layout with a `vae/`; the factors go to its `preview.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from hidiffusion.decode.encode import encode_tiles
from hidiffusion.decode.preview import fit_preview, scale

#: Pictures are fitted at this size, a multiple of every published scale factor.
_SIZE = 256


def main(arguments: list[str] | None = None) -> None:
    """Encode pictures, fit the map to what they decode to, and store it beside the model."""
    parser = argparse.ArgumentParser(prog="python -m hidiffusion.decode", description=__doc__)
    parser.add_argument("model", type=Path, help="model folder in diffusers layout")
    parser.add_argument("pictures", type=Path, nargs="+", help="typical pictures of the model")
    options = parser.parse_args(arguments)
    loader: Any = AutoencoderKL
    vae = loader.from_pretrained(options.model / "vae")
    pictures = [Image.open(path).convert("RGB") for path in options.pictures]
    pixels = VaeImageProcessor().preprocess(pictures, height=_SIZE, width=_SIZE)
    latents = torch.cat([encode_tiles(vae, picture[None]).mean for picture in pixels])
    fit_preview(vae, scale(vae, latents)).save(options.model / "preview.json")


if __name__ == "__main__":
    main()
