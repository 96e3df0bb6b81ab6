"""The U-Net's training data: latents of scenes, encoded once, each with captions that fit."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.train.architecture import MAX_TOKENS
from models.train.augment import Staging
from models.train.config import TrainConfig
from models.train.data.dataset import load_nouns, noun_layers
from models.train.data.scenes import stage
from models.train.trainings.vae import encode

#: Side of a latent's cell in pixels.
CELL = 8
#: Cells along the frame that stay where they are, because the autoencoder's padding shows in them.
FRAME = 1
#: Variants that are drawn together.
TOGETHER = 8
#: Darkest channel from which on, in -1..1, a pixel is ground.
GROUND = 0.9


@dataclass(frozen=True)
class SceneLatents:
    """Encoded scenes.

    Args:
        latents: Shape (n, 4, h, w).
        captions: For each some captions, all equally many.
        room: By how many cells what a scene shows can move left, right, up and down and stay in
            the frame, shape (n, 4).
    """

    latents: Tensor
    captions: list[list[str]]
    room: Tensor


def cached_scenes(config: TrainConfig, vae: Any) -> SceneLatents:
    """Returns scenes of every noun in order, once a variant; encodes them if need be.

    Args:
        config: The run's configuration.
        vae: Autoencoder with normalised latents.
    """
    return _cached("scenes", config, vae)


def cached_close_ups(config: TrainConfig, vae: Any) -> SceneLatents | None:
    """Returns close-ups of every noun like `cached_scenes`, or nothing if none are wanted."""
    close = config.unet.close
    if close is None:
        return None
    unet = replace(config.unet, staging=Staging(close.motion), variants=close.variants, reach=0)
    return _cached("close-ups", replace(config, unet=unet), vae)


def _cached(name: str, config: TrainConfig, vae: Any) -> SceneLatents:
    file = config.paths.checkpoints / f"{name}.pt"
    if not file.exists():
        scenes = encode_scenes(config, vae)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        torch.save((scenes.latents, scenes.captions, scenes.room), partial)
        partial.replace(file)
    return SceneLatents(*torch.load(file, weights_only=True))


def encode_scenes(config: TrainConfig, vae: Any) -> SceneLatents:
    """Draws and encodes `config.unet.variants` scenes of every noun."""
    torch.manual_seed(config.seed)
    chance, unet = random.Random(config.seed), config.unet
    nouns = load_nouns(config.paths)
    layers = noun_layers(config.paths, config.size).to(config.device)
    latents, captions, room = [], [], []
    for begin in range(0, unet.variants, TOGETHER):
        several = min(TOGETHER, unet.variants - begin)
        pictures, scenes = stage(
            nouns * several, layers.repeat(several, 1, 1, 1), unet.staging, config.size, chance
        )
        latents.append(encode(vae, pictures))
        captions += [chance.choices(scene.captions(), k=unet.captions) for scene in scenes]
        if unet.reach:
            room += [free_cells(picture).clamp(max=unet.reach) for picture in pictures]
        else:
            room += [torch.zeros(4, dtype=torch.long)] * len(pictures)
    return SceneLatents(torch.cat(latents), captions, torch.stack(room))


def free_cells(picture: Tensor) -> Tensor:
    """Returns how many whole cells of white lie left, right, above and below what is shown.

    Args:
        picture: Shape (3, h, w), in -1..1.

    Returns:
        Four integers, without the frame's cells; noughts where the ground is not white.
    """
    shown = picture.amin(0) < GROUND
    spans = []
    for axis in (0, 1):
        places = shown.any(axis).nonzero().flatten()
        if not len(places):
            return torch.zeros(4, dtype=torch.long)
        spans += [int(places[0]), len(shown.any(axis)) - 1 - int(places[-1])]
    return torch.tensor([max(0, span // CELL - FRAME) for span in spans])


class LatentSampler:
    """Draws latents with a matching caption each, in another place each time where there is room.

    Args:
        config: The run's configuration.
        scenes: What to draw from.
        tokenizer: Encodes the captions once, up front.
        close_ups: What to draw from beside them, where `config.unet.close` asks for some.
    """

    def __init__(
        self,
        config: TrainConfig,
        scenes: SceneLatents,
        tokenizer: CLIPTokenizer,
        close_ups: SceneLatents | None = None,
    ) -> None:
        device = config.device
        parts = [scenes] if close_ups is None else [scenes, close_ups]
        self.scenes = len(scenes.latents)
        self.latents = torch.cat([part.latents for part in parts]).to(device)
        self.room = torch.cat([part.room for part in parts]).to(device)
        self.stride = config.unet.stride
        self.dropout, self.close = config.unet.prompt_dropout, config.unet.close
        lists = [captions for part in parts for captions in part.captions]
        every = [text for captions in lists for text in captions]
        distinct = list(dict.fromkeys(every))
        rows = {text: row for row, text in enumerate(distinct)}
        chosen = torch.tensor([rows[text] for text in every], device=device)
        self.captions = chosen.view(len(lists), -1)
        self.tokens = tokenize(tokenizer, distinct).to(device)
        self.empty = tokenize(tokenizer, [""]).to(device)

    def batch(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns one sample for each timestep.

        Args:
            timesteps: Shape (n,).

        Returns:
            Latents of shape (n, 4, h, w) and tokens of shape (n, 77).
        """
        device, count = self.latents.device, len(timesteps)
        chosen = self._chosen(timesteps)
        place = torch.randint(self.captions.shape[1], (count,), device=device)
        tokens = self.tokens[self.captions[chosen, place]]
        dropped = torch.rand(count, 1, device=device) < self.dropout
        return self._shifted(chosen), torch.where(dropped, self.empty, tokens)

    def _chosen(self, timesteps: Tensor) -> Tensor:
        """Returns which scene, or which close-up behind the scenes, each timestep shows."""
        device, count = self.latents.device, len(timesteps)
        scenes = torch.randint(self.scenes, (count,), device=device)
        if self.close is None:
            return scenes
        near = torch.randint(self.scenes, len(self.latents), (count,), device=device)
        shown = torch.rand(count, device=device) < self.close.share
        return torch.where(shown & (timesteps < self.close.below), near, scenes)

    def _shifted(self, chosen: Tensor) -> Tensor:
        """Returns scenes' latents, shifted by whole cells; what is pushed out is ground."""
        latents, room = self.latents[chosen], self.room[chosen] // self.stride
        inside = slice(FRAME, -FRAME)
        inner = latents[..., inside, inside]
        for axis, before, after in ((3, 0, 1), (2, 2, 3)):
            by = self.stride * _between(-room[:, before], room[:, after])
            side = inner.shape[axis]
            places = (torch.arange(side, device=by.device) - by[:, None]) % side
            shape = [len(chosen), 1, 1, 1]
            shape[axis] = side
            inner = inner.gather(axis, places.view(shape).expand_as(inner))
        latents[..., inside, inside] = inner
        return latents


def _between(least: Tensor, most: Tensor) -> Tensor:
    """Returns whole numbers, each drawn evenly from its own range, both ends included."""
    return least + (torch.rand(least.shape, device=least.device) * (most - least + 1)).long()


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Returns padded tokens of shape (prompts, 77)."""
    encoded = tokenizer(
        prompts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    tokens: Tensor = encoded.input_ids
    return tokens
