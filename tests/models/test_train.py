"""The training code's parts, on toy sizes."""

import functools
import itertools
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from models.train.architecture import build_vae
from models.train.config import StageConfig, TrainConfig
from models.train.data.dataset import Noun, fill
from models.train.data.fetch import Package, fetch
from models.train.trainings.loop import Trainer, averaged_weights
from models.train.trainings.tokenizer import train_tokenizer
from models.train.trainings.unet import stratified_timesteps
from models.train.trainings.vae import encode, normalise_latents


def trainer(folder: Path, minutes: float) -> Trainer:
    torch.manual_seed(0)
    module = nn.Linear(2, 1)
    inputs = torch.randn(64, 2)
    wanted = inputs @ torch.tensor([[1.0], [-2.0]])

    def loss() -> torch.Tensor:
        return (module(inputs) - wanted).square().mean()

    ticks = itertools.count(0.0, 0.002)
    clock = functools.partial(next, ticks)
    return Trainer("toy", module, loss, StageConfig(minutes, 0.05), folder, clock)


def test_training_reduces_the_loss_and_averages_weights(tmp_path: Path) -> None:
    toy = trainer(tmp_path, minutes=0.02)
    before = toy.loss().item()
    toy.run()
    assert toy.step == pytest.approx(600, abs=1)
    assert toy.loss().item() < before / 10
    saved = averaged_weights(tmp_path / "toy.pt")
    assert torch.equal(saved["weight"], toy.average.module.weight)
    assert not torch.equal(saved["weight"], toy.module.weight)


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    first = trainer(tmp_path, minutes=0.01)
    first.run()
    second = trainer(tmp_path, minutes=0.01)
    assert (second.step, second.elapsed) == (first.step, first.elapsed)
    assert torch.equal(second.module.weight, first.module.weight)
    assert second.progress == 1


def test_archive_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "toy.tgz").write_bytes(b"something else")
    with pytest.raises(ValueError, match="sha256"):
        fetch(Package("toy@1", "toy.tgz", "0" * 64, "package/"), tmp_path)


def test_prompts_use_synonyms_colour_and_the_right_article() -> None:
    prompts = Noun("apple", "1f34e", "red", ("fruit",)).prompts()
    assert {"apple", "an apple", "a red apple", "an emoji of a fruit"} <= set(prompts)
    assert fill("{article} {}", "umbrella") == "an umbrella"


def test_tokenizer_keeps_known_words_whole_and_encodes_the_rest() -> None:
    tokenizer = train_tokenizer(["a red guitar", "a cat"], vocabulary=700)
    assert tokenizer.tokenize("red guitar") == ["red</w>", "guitar</w>"]
    assert tokenizer.decode(tokenizer("Łódź").input_ids, skip_special_tokens=True) == "łódź"


def test_normalised_latents_decode_to_the_same_picture() -> None:
    torch.manual_seed(0)
    vae: AutoencoderKL = build_vae(TrainConfig()).eval()
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.decode(encode(vae, pictures)).sample
        normalise_latents(vae, encode(vae, pictures))
        latents = encode(vae, pictures)
        after = vae.decode(latents).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(before, after, atol=1e-4)


def test_timesteps_cover_the_schedule_evenly() -> None:
    timesteps = stratified_timesteps(8, 1000)
    assert [int(t) // 125 for t in timesteps] == list(range(8))
    noisier = stratified_timesteps(1000, 1000, exponent=0.5).float()
    assert noisier.mean() == pytest.approx(1000 * 2 / 3, abs=2)
    assert noisier.max() < 1000
