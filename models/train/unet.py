"""Training of the denoiser and its text encoder on cached latents."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from models.train.architecture import (
    MAX_TOKENS,
    build_scheduler,
    build_text_encoder,
    build_unet,
)
from models.train.augment import move
from models.train.config import TrainConfig
from models.train.dataset import emoji_names, load_nouns, pack_pictures, to_tensor
from models.train.loop import Trainer, averaged_weights, mixed_precision
from models.train.tokenizer import train_tokenizer
from models.train.vae import encode, load_decoder, normalise_latents, train_vae


class Denoiser(nn.Module):
    """The two networks that learn together.

    Args:
        config: The run's configuration.
        tokenizer: The vocabulary of the text encoder.
    """

    def __init__(self, config: TrainConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = build_unet(config)
        self.text_encoder = build_text_encoder(config.unet, tokenizer)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicts the velocity of (n, 4, h, w) latents from (n, 77) tokens."""
        states = self.text_encoder(tokens).last_hidden_state
        predicted: Tensor = self.unet(noisy, timesteps, states).sample
        return predicted


class LatentSampler:
    """Draws latents with a matching prompt each.

    Args:
        config: The run's configuration.
        latents: All nouns in order, as often as there are variants, shape (n, 4, h, w).
        tokenizer: Encodes the prompts once, up front.
    """

    def __init__(self, config: TrainConfig, latents: Tensor, tokenizer: CLIPTokenizer) -> None:
        device = config.device
        self.latents, self.dropout = latents.to(device), config.unet.prompt_dropout
        prompts = [tokenize(tokenizer, noun.prompts()) for noun in load_nouns(config.paths)]
        self.counts = torch.tensor([len(tokens) for tokens in prompts], device=device)
        self.starts = self.counts.cumsum(0) - self.counts
        self.tokens = torch.cat(prompts).to(device)
        self.empty = tokenize(tokenizer, [""]).to(device)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Returns latents of shape (count, 4, h, w) and tokens of shape (count, 77)."""
        device = self.latents.device
        chosen = torch.randint(len(self.latents), (count,), device=device)
        noun = chosen % len(self.counts)
        place = (torch.rand(count, device=device) * self.counts[noun]).long()
        tokens = self.tokens[self.starts[noun] + place]
        dropped = torch.rand(count, 1, device=device) < self.dropout
        return self.latents[chosen], torch.where(dropped, self.empty, tokens)


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Returns padded tokens of shape (prompts, 77)."""
    encoded = tokenizer(
        prompts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    tokens: Tensor = encoded.input_ids
    return tokens


def build_tokenizer(config: TrainConfig) -> CLIPTokenizer:
    """Trains the vocabulary on the prompts, and on the names of every emoji to grow into."""
    corpus = [prompt for noun in load_nouns(config.paths) for prompt in noun.prompts()]
    corpus += [name for names in emoji_names(config.paths).values() for name in names]
    return train_tokenizer(corpus, config.unet.vocabulary)


def finished_vae(config: TrainConfig) -> Any:
    """Returns the trained autoencoder with normalised latents and the newest decoder.

    Trains it first if need be; the encoder never changes after that.
    """
    folder = config.paths.cache / "vae"
    if not folder.exists():
        vae = train_vae(config)
        normalise_latents(vae, encode(vae, noun_pictures(config)))
        vae.save_pretrained(folder)
    load: Any = AutoencoderKL.from_pretrained
    vae = load(folder).to(config.device).eval()
    load_decoder(config, vae)
    return vae


def noun_pictures(config: TrainConfig) -> Tensor:
    """Returns the pictures of the nouns in order, shape (nouns, 3, h, w), in -1..1."""
    pictures, codes = pack_pictures(config.paths, config.size)
    return to_tensor(pictures[[codes.index(noun.code) for noun in load_nouns(config.paths)]])


def cached_latents(config: TrainConfig) -> Tensor:
    """Returns the latents of every noun in order, once a variant, shape (n, 4, h, w)."""
    file = config.paths.cache / "latents.pt"
    if not file.exists():
        torch.manual_seed(config.seed)
        vae, pictures = finished_vae(config), noun_pictures(config)
        moved = (
            move(pictures, config.unet.motion, config.size) for _ in range(1, config.unet.variants)
        )
        torch.save(torch.cat([encode(vae, seen) for seen in (pictures, *moved)]), file)
    latents: Tensor = torch.load(file, weights_only=True)
    return latents


def stratified_timesteps(count: int, total: int, device: str = "cpu") -> Tensor:
    """Returns one random timestep from each of `count` equal parts of the schedule."""
    places = torch.arange(count, device=device) + torch.rand(count, device=device)
    return (places / count * total).long()


def train_unet(config: TrainConfig) -> Denoiser:
    """Trains U-Net and text encoder, or finishes their training.

    Args:
        config: The run's configuration.

    Returns:
        Both networks with averaged weights.
    """
    latents = cached_latents(config)
    torch.manual_seed(config.seed)
    tokenizer, scheduler = build_tokenizer(config), build_scheduler()
    denoiser = Denoiser(config, tokenizer).to(config.device)
    denoiser.unet.to(memory_format=torch.channels_last)
    if config.device == "cpu":
        # The backward pass of fused attention is far slower there than plain matrix products.
        denoiser.unet.set_attn_processor(AttnProcessor())
    sampler = LatentSampler(config, latents, tokenizer)

    def loss() -> Tensor:
        clean, tokens = sampler.batch(config.unet.batch_size)
        noise = torch.randn_like(clean)
        total = scheduler.config.num_train_timesteps
        timesteps = stratified_timesteps(len(clean), total, config.device)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with mixed_precision(config.device):
            predicted = denoiser(noisy, timesteps, tokens).float()
        return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))

    trainer = Trainer("unet", denoiser, loss, config.unet.stage, config.paths.checkpoints)
    trainer.run()
    return load_denoiser(config, tokenizer)


def load_denoiser(config: TrainConfig, tokenizer: CLIPTokenizer) -> Denoiser:
    """Returns the averaged weights of the latest checkpoint, finished or not."""
    denoiser = Denoiser(config, tokenizer)
    denoiser.load_state_dict(averaged_weights(config.paths.checkpoints / "unet.pt"))
    return denoiser.eval()
