"""Training of the denoiser and its text encoder on cached latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from models.train.architecture import build_scheduler, build_text_encoder, build_unet
from models.train.config import TrainConfig
from models.train.data.dataset import emoji_names, load_nouns, pack_pictures, to_tensor
from models.train.data.scenes import caption_corpus
from models.train.trainings.latents import LatentSampler, cached_close_ups, cached_scenes
from models.train.trainings.loop import Trainer, averaged_weights, mixed_precision
from models.train.trainings.together import first_alone, rank
from models.train.trainings.tokenizer import train_tokenizer
from models.train.trainings.vae import encode, load_decoder, load_vae, normalise_latents, train_vae


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

    def start_from(self, folder: Path) -> None:
        """Takes the weights of a pipeline of the same shape."""
        for name, kind in (("unet", UNet2DConditionModel), ("text_encoder", CLIPTextModel)):
            load: Any = kind.from_pretrained
            weights = load(folder, subfolder=name, torch_dtype=torch.float32).state_dict()
            getattr(self, name).load_state_dict(weights)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicts the velocity of (n, 4, h, w) latents from (n, 77) tokens."""
        states = self.text_encoder(tokens).last_hidden_state
        predicted: Tensor = self.unet(noisy, timesteps, states).sample
        return predicted


def build_tokenizer(config: TrainConfig) -> CLIPTokenizer:
    """Trains the vocabulary on the captions, and on the names of every emoji to grow into.

    A run that goes on from a pipeline keeps that pipeline's vocabulary.
    """
    if config.unet.start is not None:
        load: Any = CLIPTokenizer.from_pretrained
        kept: CLIPTokenizer = load(config.unet.start, subfolder="tokenizer")
        return kept
    staging = config.unet.staging
    corpus = [text for noun in load_nouns(config.paths) for text in caption_corpus(noun, staging)]
    corpus += [name for names in emoji_names(config.paths).values() for name in names]
    return train_tokenizer(corpus, config.unet.vocabulary)


def finished_vae(config: TrainConfig) -> Any:
    """Returns the trained autoencoder with normalised latents and the newest decoder.

    Trains it first if need be; the encoder never changes after that. A run that goes on from a
    pipeline keeps that pipeline's autoencoder.
    """
    load: Any = AutoencoderKL.from_pretrained
    if config.unet.start is not None:
        started = load_vae(config.unet.start, config.device)
        load_decoder(config, started)
        return started
    folder = config.paths.cache / "vae"
    if not folder.exists():
        vae = train_vae(config)
        normalise_latents(vae, encode(vae, noun_pictures(config)))
        vae.save_pretrained(folder)
    vae = load(folder).to(config.device).eval()
    load_decoder(config, vae)
    return vae


def noun_pictures(config: TrainConfig) -> Tensor:
    """Returns the pictures of the nouns in order, shape (nouns, 3, h, w), in -1..1."""
    pictures, codes = pack_pictures(config.paths, config.size)
    return to_tensor(pictures[[codes.index(noun.code) for noun in load_nouns(config.paths)]])


def stratified_timesteps(
    count: int, total: int, device: str = "cpu", exponent: float = 1.0
) -> Tensor:
    """Returns one random timestep from each of `count` equally likely parts of the schedule.

    Args:
        count: How many.
        total: Timesteps of the schedule.
        device: Where they are made.
        exponent: 1 draws all equally often, less more of the noisy ones.
    """
    places = torch.arange(count, device=device) + torch.rand(count, device=device)
    return ((places / count) ** exponent * total).long()


def train_unet(config: TrainConfig) -> Denoiser:
    """Trains U-Net and text encoder, or finishes their training.

    Args:
        config: The run's configuration.

    Returns:
        Both networks with averaged weights.
    """
    vae = finished_vae(config)
    with first_alone():
        scenes, close_ups = cached_scenes(config, vae), cached_close_ups(config, vae)
    torch.manual_seed(config.seed)
    tokenizer, scheduler = build_tokenizer(config), build_scheduler()
    denoiser = Denoiser(config, tokenizer)
    if config.unet.start is not None:
        denoiser.start_from(config.unet.start)
    denoiser.to(config.device)
    if config.device == "cpu":
        # The backward pass of fused attention is far slower there than plain matrix products.
        denoiser.unet.set_attn_processor(AttnProcessor())
    else:
        denoiser.unet.to(memory_format=torch.channels_last)
    sampler = LatentSampler(config, scenes, tokenizer, close_ups)

    def loss() -> Tensor:
        total = scheduler.config.num_train_timesteps
        count, exponent = config.unet.batch_size, config.unet.timestep_exponent
        timesteps = stratified_timesteps(count, total, config.device, exponent)
        clean, tokens = sampler.batch(timesteps)
        noise = torch.randn_like(clean)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with mixed_precision(config.device):
            predicted = denoiser(noisy, timesteps, tokens).float()
        return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))

    trainer = Trainer("unet", denoiser, loss, config.unet.stage, config.paths.checkpoints)
    # Other batches in each process, and other ones after a stop.
    torch.manual_seed(config.seed + 1000 * trainer.step + rank())
    trainer.run()
    return load_denoiser(config, tokenizer)


def load_denoiser(config: TrainConfig, tokenizer: CLIPTokenizer) -> Denoiser:
    """Returns the averaged weights of the latest checkpoint, finished or not."""
    denoiser = Denoiser(config, tokenizer)
    denoiser.load_state_dict(averaged_weights(config.paths.checkpoints / "unet.pt"))
    return denoiser.eval()
