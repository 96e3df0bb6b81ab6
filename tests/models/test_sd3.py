"""The small transformer's training, for a moment, on made-up pictures."""

from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from hidiffusion.methods import registry
from models.sd3.config import TRANSFORMER, Sd3Config
from models.sd3.data import Sampler
from models.sd3.export import export
from models.sd3.report import beyond, report
from models.sd3.training import Denoiser, flow_loss, logit_normal, run_name, train
from models.train.config import StageConfig
from models.train.trainings.latents import tokenize
from service.domain.models.catalog import Model
from service.worker.weights.loading import load_pipeline

PROMPT = "a red apple"


class Ticks:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Sd3Config:
    """A run of three steps on two nouns of 64x64 pixels."""
    folder = tmp_path_factory.mktemp("sd3")
    torch.manual_seed(0)
    layers = torch.randint(0, 256, (2, 4, 64, 64), dtype=torch.uint8)
    (folder / "cache").mkdir()
    torch.save((layers, [["cat", "a cat"], ["apple", PROMPT]]), folder / "cache" / "nouns.pt")
    return Sd3Config(
        cache=folder / "cache",
        model=folder / "model",
        images=folder / "images",
        size=64,
        variants=2,
        transformer={**TRANSFORMER, "num_layers": 2},
        batch_size=2,
        stage=StageConfig(3 / 60, 1e-3, warmup_steps=1),
        steps=2,
        judged=1,
        sides=(128,),
        shown_sides=(),
    )


@pytest.fixture(scope="module")
def pipe(config: Sd3Config) -> Any:
    """The pipeline that three steps of training ship, loaded as users load it."""
    torch.set_num_threads(1)
    train(config, Ticks())
    export(config)
    load: Any = StableDiffusion3Pipeline.from_pretrained
    pipe = load(config.model, text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.usefixtures("pipe")
def test_training_ends_with_its_budget_and_ships_its_own_weights_only(config: Sd3Config) -> None:
    file = config.cache / "checkpoints" / f"{run_name(config)}.pt"
    assert torch.load(file, weights_only=True)["step"] == 3
    own = [one for one in config.model.rglob("*") if one.is_file() and not one.is_symlink()]
    assert {one.parent.name for one in own if one.suffix == ".safetensors"} == {
        "transformer",
        "text_encoder",
    }


def test_the_network_learns_on_what_the_pipeline_gives_it(config: Sd3Config, pipe: Any) -> None:
    calls: list[dict[str, Any]] = []
    denoiser = Denoiser(config, pipe.tokenizer)
    denoiser.transformer, denoiser.text_encoder = pipe.transformer, pipe.text_encoder
    hook = pipe.transformer.register_forward_pre_hook(
        lambda _module, _args, given: calls.append(given), with_kwargs=True
    )
    pipe(PROMPT, num_inference_steps=1, guidance_scale=1.0, output_type="latent")
    drawn = calls[0]
    with torch.no_grad():
        denoiser(drawn["hidden_states"], drawn["timestep"], tokenize(pipe.tokenizer, [PROMPT]))
    hook.remove()
    for name in ("encoder_hidden_states", "pooled_projections"):
        torch.testing.assert_close(calls[1][name], drawn[name])


def test_the_whole_network_is_trained(config: Sd3Config, pipe: Any) -> None:
    fresh = Denoiser(config, pipe.tokenizer)
    torch.autograd.backward(flow_loss(fresh, *Sampler(config).batch(2)))
    assert [name for name, one in fresh.named_parameters() if one.grad is None] == []


def test_the_weights_that_ship_stay_below_six_megabytes(pipe: Any) -> None:
    parts = Denoiser(Sd3Config(), pipe.tokenizer)
    halves, floats = (
        sum(tensor.numel() for tensor in part.state_dict().values())
        for part in (parts.transformer, parts.text_encoder)
    )
    assert 2 * halves + 4 * floats < 6e6


def test_noise_shares_are_logit_normal() -> None:
    logits = torch.logit(logit_normal(10_000).double())
    assert logits.mean().item() == pytest.approx(0, abs=0.01)
    assert logits.std().item() == pytest.approx(1, abs=0.01)


def test_a_velocity_that_is_known_has_no_loss() -> None:
    class Straight(torch.nn.Module):
        """Knows that the data are noughts: the noise is what it sees over its share."""

        def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, _: Any) -> torch.Tensor:
            return noisy / (timesteps / 1000).view(-1, 1, 1, 1)

    loss = flow_loss(Straight(), torch.zeros(4, 4, 8, 8), torch.zeros(4, 77))
    assert loss.item() < 1e-10


def test_the_pipeline_draws_at_native_size_and_beyond(pipe: Any) -> None:
    assert pipe(PROMPT, num_inference_steps=2).images[0].size == (64, 64)
    large = registry.get("refine").generate(
        pipe, width=128, height=128, seed=7, prompt=PROMPT, num_inference_steps=4
    )
    assert large.images[0].size == (128, 128)


@pytest.mark.usefixtures("pipe")
def test_the_card_says_what_was_measured(config: Sd3Config) -> None:
    report(config)
    beyond(config)
    text = (config.model / "README.md").read_text()
    assert "| steps | 3 of 2 latents |" in text
    assert "of 2 (" in text
    assert [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| 128x128")] == [
        "direct",
        "positions",
        "token-windows",
        "refine",
    ]
    assert {file.name for file in config.images.iterdir()} == {
        "sd3-contact-sheet.png",
        "sd3-beyond-native.png",
    }
    assert "its own files" in text


def test_the_service_loads_what_was_saved_without_its_third_encoder(
    config: Sd3Config, pipe: Any
) -> None:
    entry = Model.model_validate(
        {
            "name": "sd3",
            "title": "SD3-shaped",
            "source": str(config.model),
            "native_size": 64,
            "size_multiple": 16,
            "default_size": 128,
            "default_scheduler": "FlowMatchEulerDiscreteScheduler",
            "default_method": "refine",
            "schedulers": ["FlowMatchEulerDiscreteScheduler"],
            "methods": ["refine", "direct"],
            "prompt_weighting": False,
        }
    )
    loaded = load_pipeline(entry, torch.float32)
    assert type(loaded) is type(pipe)
    assert loaded.text_encoder_3 is None
