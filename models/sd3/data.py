"""Latents of moved nouns and tokens of their captions, drawn on the device that trains."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from tqdm import trange
from transformers import CLIPTokenizer

from models.dimr.export import encoder_hash
from models.sd3.config import Sd3Config
from models.train.augment import move_layers
from models.train.data.dataset import load_nouns, noun_layers
from models.train.trainings.latents import tokenize
from models.train.trainings.vae import load_vae


def bundled_tokenizer(config: Sd3Config) -> CLIPTokenizer:
    """Returns the tokenizer of the bundled model."""
    load: Any = CLIPTokenizer.from_pretrained
    tokenizer: CLIPTokenizer = load(config.data.model, subfolder="tokenizer")
    return tokenizer


def fingerprint(config: Sd3Config) -> str:
    """Returns what the networks depend on of the bundled model: SHA-256 of encoder and vocabulary.

    Weights that were trained with others are of no use, so files of a training carry its start.
    """
    digest = hashlib.sha256(encoder_hash(config.data.model / "vae").encode())
    digest.update((config.data.model / "tokenizer" / "tokenizer.json").read_bytes())
    return digest.hexdigest()


def pictures(config: Sd3Config) -> tuple[Tensor, list[list[str]]]:
    """Returns the nouns' pictures with alpha, (nouns, 4, h, w) in bytes, and captions of each.

    Fetched once; all that a machine without a network needs is this one file of some 6 MB.
    """
    file = config.cache / "nouns.pt"
    if not file.exists():
        config.cache.mkdir(parents=True, exist_ok=True)
        layers = noun_layers(config.data, config.size).mul(255).round().byte()
        torch.save((layers, [noun.prompts() for noun in load_nouns(config.data)]), file)
    found: tuple[Tensor, list[list[str]]] = torch.load(file, weights_only=True)
    return found


def latents(config: Sd3Config) -> Tensor:
    """Returns latents of every noun, moved anew for each variant: (variants, nouns, 4, h, w)."""
    file = config.cache / f"latents-{fingerprint(config)[:8]}-{config.variants}.pt"
    if not file.exists():
        torch.save(encode(config), file)
    result: Tensor = torch.load(file, weights_only=True)
    return result


@torch.no_grad()
def encode(config: Sd3Config) -> Tensor:
    """Moves and encodes every noun; shape (variants, nouns, 4, h, w)."""
    torch.manual_seed(config.seed)
    layers, vae = (
        pictures(config)[0].to(config.device).float() / 255,
        load_vae(config.data.model, config.device),
    )
    variants = [
        vae.encode(on_white(layers, config)).latent_dist.mean.cpu()
        for _ in trange(config.variants, desc="encoding")
    ]
    return torch.stack(variants)


def on_white(layers: Tensor, config: Sd3Config) -> Tensor:
    """Returns moved pictures (n, 3, size, size) in -1..1 of layers (n, 4, h, w) in 0..1."""
    moved = move_layers(layers, config.motion, config.size)
    return (moved[:, :3] + 1 - moved[:, 3:]) * 2 - 1


class Sampler:
    """Draws latents, each with a caption of its noun or with the empty one.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: Sd3Config) -> None:
        device, tokenizer = config.device, bundled_tokenizer(config)
        captions = pictures(config)[1]
        counts = torch.tensor([len(each) for each in captions], device=device)
        self.counts, self.starts = counts, counts.cumsum(0) - counts
        every = [text for each in captions for text in each]
        self.tokens = tokenize(tokenizer, every).to(device)
        self.empty = tokenize(tokenizer, [""]).to(device)
        self.latents = latents(config).to(device)
        self.dropout = config.prompt_dropout

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Returns latents of shape (count, 4, h, w) and tokens of shape (count, 77)."""
        device, (variants, nouns) = self.latents.device, self.latents.shape[:2]
        variant = torch.randint(variants, (count,), device=device)
        noun = torch.randint(nouns, (count,), device=device)
        place = (torch.rand(count, device=device) * self.counts[noun]).long()
        tokens = self.tokens[self.starts[noun] + place]
        dropped = torch.rand(count, 1, device=device) < self.dropout
        return self.latents[variant, noun], torch.where(dropped, self.empty, tokens)
