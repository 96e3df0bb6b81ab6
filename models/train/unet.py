"""Training of the denoiser and its text encoder on cached latents."""

from __future__ import annotations

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
from models.train.config import TrainConfig
from models.train.dataset import emoji_names, load_nouns, pack_pictures, to_tensor
from models.train.loop import Trainer, averaged_weights
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
        latents: One picture per noun, shape (nouns, 4, h, w).
        tokenizer: Encodes the prompts once, up front.
    """

    def __init__(self, config: TrainConfig, latents: Tensor, tokenizer: CLIPTokenizer) -> None:
        self.latents, self.dropout = latents, config.unet.prompt_dropout
        self.prompts = [tokenize(tokenizer, noun.prompts()) for noun in load_nouns(config.paths)]
        self.empty = tokenize(tokenizer, [""])[0]

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Returns latents of shape (count, 4, h, w) and tokens of shape (count, 77)."""
        chosen = torch.randint(len(self.latents), (count,))
        tokens = [self._prompt(int(noun)) for noun in chosen]
        return self.latents[chosen], torch.stack(tokens)

    def _prompt(self, noun: int) -> Tensor:
        if torch.rand(()) < self.dropout:
            return self.empty
        prompts = self.prompts[noun]
        return prompts[int(torch.randint(len(prompts), ()))]


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Returns padded tokens of shape (prompts, 77)."""
    encoded = tokenizer(
        prompts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids


def build_tokenizer(config: TrainConfig) -> CLIPTokenizer:
    """Trains the vocabulary on the prompts, and on the names of every emoji to grow into."""
    corpus = [prompt for noun in load_nouns(config.paths) for prompt in noun.prompts()]
    corpus += [name for names in emoji_names(config.paths).values() for name in names]
    return train_tokenizer(corpus, config.unet.vocabulary)


def finished_vae(config: TrainConfig) -> AutoencoderKL:
    """Returns the trained autoencoder with normalised latents and the newest decoder.

    Trains it first if need be; the encoder never changes after that.
    """
    folder = config.paths.cache / "vae"
    if not folder.exists():
        vae = train_vae(config)
        normalise_latents(vae, encode(vae, noun_pictures(config)))
        vae.save_pretrained(folder)
    vae = AutoencoderKL.from_pretrained(folder).eval()
    load_decoder(config, vae)
    return vae


def noun_pictures(config: TrainConfig) -> Tensor:
    """Returns the pictures of the nouns in order, shape (nouns, 3, h, w), in -1..1."""
    pictures, codes = pack_pictures(config.paths, config.size)
    return to_tensor(pictures[[codes.index(noun.code) for noun in load_nouns(config.paths)]])


def cached_latents(config: TrainConfig) -> Tensor:
    """Returns the latents of every noun in order, shape (nouns, 4, h, w)."""
    file = config.paths.cache / "latents.pt"
    if not file.exists():
        torch.save(encode(finished_vae(config), noun_pictures(config)), file)
    return torch.load(file, weights_only=True)


def stratified_timesteps(count: int, total: int) -> Tensor:
    """Returns one random timestep from each of `count` equal parts of the schedule."""
    return ((torch.arange(count) + torch.rand(count)) / count * total).long()


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
    denoiser = Denoiser(config, tokenizer).to(memory_format=torch.channels_last)
    # On a CPU the backward pass of fused attention is far slower than plain matrix products.
    denoiser.unet.set_attn_processor(AttnProcessor())
    sampler = LatentSampler(config, latents, tokenizer)

    def loss() -> Tensor:
        clean, tokens = sampler.batch(config.unet.batch_size)
        noise = torch.randn_like(clean)
        timesteps = stratified_timesteps(len(clean), scheduler.config.num_train_timesteps)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = denoiser(noisy, timesteps, tokens).float()
        return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))

    trainer = Trainer("unet", denoiser, loss, config.unet.stage, config.paths.checkpoints)
    return trainer.run().eval()


def load_denoiser(config: TrainConfig, tokenizer: CLIPTokenizer) -> Denoiser:
    """Returns the averaged weights of the latest checkpoint, finished or not."""
    denoiser = Denoiser(config, tokenizer)
    denoiser.load_state_dict(averaged_weights(config.paths.checkpoints / "unet.pt"))
    return denoiser.eval()
