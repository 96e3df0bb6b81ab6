"""Pictures on white and the prompts that describe them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from models.train.config import Paths
from models.train.data.fetch import NAMES, PICTURES, fetch

TEMPLATES = (
    "{}",
    "{}",
    "{article} {}",
    "{article} {}",
    "an emoji of {article} {}",
    "{} emoji",
    "3d icon of {article} {}",
    "a 3d render of {article} {}",
    "a picture of {article} {}",
    "{article} cute {}",
    "{article} {} on a white background",
)


@dataclass(frozen=True)
class Noun:
    """One thing that the model learns to draw.

    Args:
        name: How prompts call it.
        code: Code points of the emoji, which name its picture file.
        colour: Its natural colour where it has one.
        synonyms: Other names, from the emoji data.
    """

    name: str
    code: str
    colour: str | None
    synonyms: tuple[str, ...]

    def prompts(self) -> list[str]:
        """Returns the prompts of training, more frequent ones repeated."""
        phrases = [self.name] * 2 + list(self.synonyms)
        if self.colour:
            phrases += [f"{self.colour} {self.name}"] * 2
        return [fill(template, phrase) for phrase in phrases for template in TEMPLATES]


def fill(template: str, phrase: str) -> str:
    """Returns the template with the phrase and its indefinite article."""
    return template.format(phrase, article="an" if phrase[0] in "aeiou" else "a")


def load_nouns(paths: Paths) -> list[Noun]:
    """Reads the noun list and adds synonyms from the emoji data."""
    wanted: dict[str, dict[str, str]] = json.loads(paths.nouns.read_text())
    synonyms = emoji_names(paths)
    taken = set(wanted)
    return [
        Noun(
            name,
            entry["code"],
            entry.get("colour"),
            tuple(w for w in synonyms.get(entry["code"], ()) if w not in taken),
        )
        for name, entry in wanted.items()
    ]


def emoji_names(paths: Paths) -> dict[str, tuple[str, ...]]:
    """Returns the short names of every emoji that has a picture, by picture code."""
    pictures = {p.stem for p in picture_folder(paths).glob("*.webp")}
    records = json.loads(fetch(NAMES, paths.cache).read_text())
    named = ((_picture_code(record, pictures), record) for record in records)
    return {code: _words(record) for code, record in named if code}


def picture_folder(paths: Paths) -> Path:
    """Fetches the pictures if need be and returns their folder."""
    return fetch(PICTURES, paths.cache)


def _picture_code(record: dict[str, Any], pictures: set[str]) -> str | None:
    unified = record["unified"].lower()
    plain = (record.get("non_qualified") or "").lower()
    spellings = (unified, plain, unified.replace("-fe0f", ""), f"{unified}-fe0f")
    return next((code for code in spellings if code in pictures), None)


def _words(record: dict[str, Any]) -> tuple[str, ...]:
    names = (name.replace("_", " ").replace("-", " ") for name in record["short_names"])
    return tuple(dict.fromkeys(name for name in names if name.strip().isascii()))


def pack_pictures(paths: Paths, size: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Composites every picture on white, once, and memory-maps the result.

    Args:
        paths: Folders; the packed array goes to the cache.
        size: Picture side in pixels.

    Returns:
        An array of shape (pictures, size, size, 3) and the code of each picture.
    """
    array, index = paths.cache / f"pictures-{size}.npy", paths.cache / f"pictures-{size}.json"
    if not index.exists():
        files = sorted(picture_folder(paths).glob("*.webp"))
        packed = np.stack([on_white(f, size) for f in tqdm(files, desc="packing pictures")])
        np.save(array, packed)
        index.write_text(json.dumps([f.stem for f in files]))
    return np.load(array, mmap_mode="r"), json.loads(index.read_text())


def on_white(file: Path, size: int) -> NDArray[np.uint8]:
    """Reads one picture and composites it on white; shape (size, size, 3)."""
    picture = Image.open(file).convert("RGBA")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(ground, picture).convert("RGB"))


def noun_layers(paths: Paths, size: int) -> Tensor:
    """Reads the nouns' pictures in order, with alpha.

    Returns:
        Shape (nouns, 4, size, size), in 0..1: red, green and blue multiplied by alpha, then alpha.
    """
    layers = []
    for noun in load_nouns(paths):
        picture = Image.open(picture_folder(paths) / f"{noun.code}.webp").convert("RGBA")
        # Multiplied before it is scaled, else the colours of what cannot be seen bleed in.
        sized = picture.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
        layers.append(torch.from_numpy(np.array(sized)).permute(2, 0, 1).float() / 255)
    return torch.stack(layers)


def to_tensor(pictures: NDArray[np.uint8] | Tensor) -> Tensor:
    """Turns (n, h, w, 3) bytes into an (n, 3, h, w) tensor in -1..1, on their device."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
