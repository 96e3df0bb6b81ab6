"""Training of transformer and text encoder by rectified flow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from models.sd3.config import ABSENT_TOKENS, Sd3Config
from models.sd3.data import Sampler, bundled_tokenizer, fingerprint
from models.train.architecture import text_config
from models.train.trainings.loop import Trainer, averaged_weights, mixed_precision


class Denoiser(nn.Module):
    """The two networks that learn together.

    Args:
        config: The run's configuration.
        tokenizer: The vocabulary of the text encoder.
    """

    def __init__(self, config: Sd3Config, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.transformer = build_transformer(config)
        self.text_encoder = build_text_encoder(config, tokenizer)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicts the velocity of (n, 4, h, w) latents from (n, 77) tokens.

        The text is what `StableDiffusion3Pipeline.encode_prompt` makes of one encoder in both its
        places and none in the third.
        """
        read = self.text_encoder(tokens, output_hidden_states=True)
        states, pooled = read.hidden_states[-2], read.text_embeds
        states = F.pad(torch.cat([states, states], -1), (0, 0, 0, ABSENT_TOKENS))
        predicted: Tensor = self.transformer(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=states,
            pooled_projections=torch.cat([pooled, pooled], -1),
        ).sample
        return predicted


def build_transformer(config: Sd3Config) -> Any:
    """Returns an untrained transformer whose blocks change nothing yet.

    Modulations and the last layer start at nought (adaLN-Zero of DiT, arXiv 2212.09748), and so
    does the bias of the text's first layer, so that tokens of an absent encoder say nothing.
    """
    build: Any = SD3Transformer2DModel
    transformer = build(
        sample_size=config.size // 8,
        in_channels=4,
        out_channels=4,
        joint_attention_dim=2 * config.text.width,
        pooled_projection_dim=2 * config.text.width,
        **config.transformer,
    )
    modulations = [transformer.norm_out.linear]
    for block in transformer.transformer_blocks:
        modulations += [block.norm1.linear, block.norm1_context.linear]
    for layer in (*modulations, transformer.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(transformer.context_embedder.bias)
    return transformer


def build_text_encoder(config: Sd3Config, tokenizer: CLIPTokenizer) -> Any:
    """Returns an untrained CLIP text encoder for the tokenizer's vocabulary."""
    text = config.text
    shape = text_config(tokenizer, width=text.width, layers=text.layers, heads=text.heads)
    return CLIPTextModelWithProjection(shape)


def logit_normal(count: int, device: str = "cpu") -> Tensor:
    """Returns shares of noise in 0..1, one from each of `count` equally likely parts.

    Their logits are normal with mean 0 and deviation 1: Esser et al., arXiv 2403.03206, section
    3.1, which found these times the best.
    """
    places = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    shares: Tensor = torch.special.ndtri(places).sigmoid()
    return shares


def flow_loss(denoiser: nn.Module, clean: Tensor, tokens: Tensor) -> Tensor:
    """Returns the squared error of the velocity, noise less data, on the straight line between.

    Args:
        denoiser: Predicts it from noisy latents, timesteps in 0..1000 and tokens.
        clean: Latents of shape (n, 4, h, w).
        tokens: Shape (n, 77).
    """
    noise = torch.randn_like(clean)
    shares = logit_normal(len(clean), str(clean.device))
    noisy = torch.lerp(clean, noise, shares.view(-1, 1, 1, 1))
    with mixed_precision(clean.device.type):
        predicted = denoiser(noisy, 1000 * shares, tokens)
    return F.mse_loss(predicted.float(), noise - clean)


def train(config: Sd3Config, clock: Callable[[], float] = time.monotonic) -> None:
    """Trains transformer and text encoder, or finishes their training.

    Args:
        config: The run's configuration.
        clock: Tells the seconds that the budget is counted in.
    """
    sampler = Sampler(config)
    torch.manual_seed(config.seed)
    denoiser = Denoiser(config, bundled_tokenizer(config)).to(config.device)

    def loss() -> Tensor:
        return flow_loss(denoiser, *sampler.batch(config.batch_size))

    folder = config.cache / "checkpoints"
    trainer = Trainer(run_name(config), denoiser, loss, config.stage, folder, clock)
    gpu = config.device.startswith("cuda")
    facts = {
        "device": torch.cuda.get_device_name(config.device) if gpu else "processor",
        "batch_size": config.batch_size,
        "variants": config.variants,
    }
    (folder / f"{run_name(config)}.json").write_text(json.dumps(facts, indent=2) + "\n")
    trainer.run()


def trained(config: Sd3Config) -> Denoiser:
    """Returns the averaged weights of the newest checkpoint, finished or not, on the CPU.

    Raises:
        FileNotFoundError: There is none for the bundled model as it is now.
    """
    file = config.cache / "checkpoints" / f"{run_name(config)}.pt"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing; train with python -m models.sd3 train")
    denoiser = Denoiser(config, bundled_tokenizer(config))
    denoiser.load_state_dict(averaged_weights(file))
    return denoiser.eval()


def run_name(config: Sd3Config) -> str:
    """Returns the name of the training's files, another one for another bundled model."""
    return f"sd3-{fingerprint(config)[:8]}"
