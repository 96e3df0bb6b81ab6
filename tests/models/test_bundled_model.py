"""The bundled model: what is in its folder, that it loads cleanly, and that it draws."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parents[2] / "models" / "fluent-emoji-256"
DATA = Path(__file__).with_name("data")


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    """The model as a user loads it; a warning is an error here as everywhere in the suite."""
    pipe = StableDiffusionPipeline.from_pretrained(FOLDER, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: StableDiffusionPipeline, prompt: str, seed: int = 0) -> NDArray[np.float32]:
    generator = torch.Generator().manual_seed(seed)
    result = pipe(prompt, num_inference_steps=8, generator=generator, output_type="np")
    return result.images[0]


@pytest.mark.parametrize(
    ("folder", "max_bytes"),
    [(FOLDER, 60_000_000), (FOLDER.with_name("fluent-emoji-x4"), 3_100_000)],
    ids=["model", "upscaler"],
)
def test_folder_holds_safetensors_only_and_stays_small(folder: Path, max_bytes: int) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".safetensors", ".json", ".md"}
    assert sum(file.stat().st_size for file in files) < max_bytes


def test_networks_have_the_shape_of_stable_diffusion(pipeline: StableDiffusionPipeline) -> None:
    unet, vae = pipeline.unet.config, pipeline.vae.config
    assert unet.down_block_types == [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"]
    assert unet.up_block_types == ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]
    assert (unet.sample_size, unet.layers_per_block, unet.in_channels) == (32, 2, 4)
    assert (vae.latent_channels, pipeline.vae_scale_factor) == (4, 8)
    assert pipeline.tokenizer.model_max_length == 77


def test_all_parts_load_in_one_type(pipeline: StableDiffusionPipeline) -> None:
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}


def test_every_noun_is_in_the_vocabulary(pipeline: StableDiffusionPipeline) -> None:
    nouns = json.loads((FOLDER / "nouns.json").read_text())
    assert {"guitar", "frog", "tree"} <= set(nouns)
    words = {word for noun in nouns for word in noun.split()}
    assert all(pipeline.tokenizer.tokenize(word) == [f"{word}</w>"] for word in words)


def test_any_text_can_be_tokenized(pipeline: StableDiffusionPipeline) -> None:
    tokens = pipeline.tokenizer("Zürich 東京 🎸!").input_ids
    unknown = pipeline.tokenizer.unk_token_id
    assert unknown not in tokens[1:-1]


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler]
)
# diffusers 0.42 hands tensors to numpy 2 in these two schedulers.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_draws_an_object_on_white(pipeline: StableDiffusionPipeline, scheduler: type) -> None:
    other = StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    other.scheduler = scheduler.from_config(pipeline.scheduler.config)
    picture = draw(other, "a red apple")
    assert picture.shape == (256, 256, 3)
    assert np.isfinite(picture).all()
    border = np.concatenate([picture[:8].reshape(-1, 3), picture[-8:].reshape(-1, 3)])
    coloured = np.ptp(picture, axis=2) > 0.25
    assert np.median(border) > 0.9
    assert 0.05 < coloured.mean() < 0.8


def test_prompt_decides_what_is_drawn(pipeline: StableDiffusionPipeline) -> None:
    apple, tree = draw(pipeline, "a red apple"), draw(pipeline, "a tree")
    red, green = (picture[..., 0] - picture[..., 1] for picture in (apple, tree))
    assert red[96:160, 96:160].mean() > green[96:160, 96:160].mean() + 0.2


def test_same_seed_gives_the_same_picture(pipeline: StableDiffusionPipeline) -> None:
    first, second, other = (draw(pipeline, "a frog", seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_seed_decides_where_it_stands(pipeline: StableDiffusionPipeline) -> None:
    places = []
    for seed in range(3):
        shown = draw(pipeline, "a red apple", seed).min(axis=2) < 0.8
        places.append([place.mean() for place in shown.nonzero()])
    assert np.ptp(places, axis=0).max() > 12


@pytest.mark.parametrize("name", ["apple", "guitar"])
def test_autoencoder_reconstructs(pipeline: StableDiffusionPipeline, name: str) -> None:
    picture = Image.open(DATA / f"{name}.webp").convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    pixels = pipeline.image_processor.preprocess(white.convert("RGB"))
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels).latent_dist.mean
        output = pipeline.vae.decode(latents).sample.clamp(-1, 1)
    error = (output - pixels).div(2).square().mean()
    assert -10 * error.log10() > 20
