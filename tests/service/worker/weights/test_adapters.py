"""LoRAs, learned words and weighted prompts on warm pipelines, against diffusers run by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from service.domain.models.adapters import LoraChoice
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.failures import ModelUnavailable
from service.worker.result.recipe import recipe_of, recipe_text
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline
from tests.hidiffusion.pipelines import pipeline_kinds
from tests.hidiffusion.tiny import models as tiny_models

FAMILIES = ["sd", "sdxl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of two models with two good LoRAs, a bad one and a learned word each."""
    folder = tmp_path_factory.mktemp("adapters")
    models = []
    for family in FAMILIES:
        pipe = getattr(tiny_models, f"{family}_pipeline")()
        pipe.save_pretrained(folder / family)
        ink = pipeline_kinds.lora_weights(pipe.unet)
        save_file(ink, folder / f"{family}-ink.safetensors")
        save_file(
            {name: -0.5 * weight for name, weight in ink.items()},
            folder / f"{family}-oil.safetensors",
        )
        torn = {name: weight[..., :1].contiguous() for name, weight in ink.items()}
        save_file(torn, folder / f"{family}-torn.safetensors")
        models.append(_model(family))
    width = tiny_models.PROMPT_CHANNELS
    word, other = torch.randn(2, 2, width, generator=torch.Generator().manual_seed(3))
    save_file({"emb_params": word}, folder / "sd-word.safetensors")
    save_file({"clip_l": word, "clip_g": other}, folder / "sdxl-word.safetensors")
    models.append(_model("sdxl") | {"name": "misfit"})
    models[-1]["embeddings"] = [{"token": "<w>", "source": "sd-word.safetensors"}]
    (folder / "catalog.json").write_text(json.dumps({"models": models}))
    return folder


def _model(family: str) -> dict[str, Any]:
    return {
        "name": family,
        "title": family,
        "source": family,
        "native_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "default_method": "direct",
        "schedulers": ["DDIMScheduler"],
        "methods": ["direct", "hidiffusion"],
        "loras": [
            {"name": name, "source": f"{family}-{name}.safetensors"}
            for name in ("ink", "oil", "torn")
        ],
        "embeddings": [{"token": "<w>", "source": f"{family}-word.safetensors"}],
    }


@pytest.fixture(scope="module")
def pipelines(folder: Path) -> Pipelines:
    settings = Settings(catalog=folder / "catalog.json", worker=WorkerSettings(device="cpu"))
    return Pipelines(settings)


@pytest.fixture(params=FAMILIES)
def warm(pipelines: Pipelines, request: pytest.FixtureRequest) -> WarmPipeline:
    return pipelines.get(request.param)


@pytest.fixture
def by_hand(folder: Path, warm: WarmPipeline) -> Callable[..., torch.Tensor]:
    """Latents of a fresh pipeline that a function has prepared."""

    def draw(prepare: Callable[[Any], object] = lambda _: None, **call: Any) -> torch.Tensor:
        pipe = DiffusionPipeline.from_pretrained(folder / warm.model.name)
        pipe.set_progress_bar_config(disable=True)
        for module in (pipe.unet, pipe.text_encoder):
            module.requires_grad_(False)
        prepare(pipe)
        arguments = {"prompt": "a fox", "width": 64, "height": 64} | call
        images: torch.Tensor = pipe(
            **arguments,
            num_inference_steps=2,
            guidance_scale=5.0,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        ).images
        return images

    return draw


def _draw(warm: WarmPipeline, **changes: Any) -> torch.Tensor:
    return denoise(warm, _request(warm.model.name, **changes), lambda *_, **__: None)


def _request(model: str, side: int = 64, **changes: Any) -> ResolvedRequest:
    request = {
        "prompt": "a fox",
        "negative_prompt": "",
        "model": model,
        "width": side,
        "height": side,
        "num_inference_steps": 2,
        "guidance_scale": 5.0,
        "seed": 7,
        "scheduler": "DDIMScheduler",
        "method": "direct",
        "output_format": "png",
    }
    return ResolvedRequest(**(request | changes))


def _loras(**weights: float) -> dict[str, Any]:
    return {"loras": [LoraChoice(name=name, weight=weight) for name, weight in weights.items()]}


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_loras_act_as_diffusers_has_them_and_leave_no_trace(
    warm: WarmPipeline, folder: Path, by_hand: Callable[..., torch.Tensor]
) -> None:
    def add(pipe: Any, **weights: float) -> None:
        for name in weights:
            file = folder / f"{warm.model.name}-{name}.safetensors"
            pipe.load_lora_weights(str(file), adapter_name=name)
        pipe.set_adapters([*weights], [*weights.values()])

    plain = _draw(warm)
    assert torch.equal(plain, by_hand())
    for weights in ({"ink": 0.5}, {"oil": 1.0}, {"ink": 0.7, "oil": -0.4}, {"ink": 0.5}):
        drawn = _draw(warm, **_loras(**weights))
        assert torch.equal(drawn, by_hand(lambda pipe, weights=weights: add(pipe, **weights)))
        assert not torch.equal(drawn, plain)
    assert torch.equal(_draw(warm), plain)


def test_loras_go_with_hidiffusion(warm: WarmPipeline) -> None:
    request = {"side": 128, "method": "hidiffusion"}
    plain = _draw(warm, **request)
    drawn = _draw(warm, **request, **_loras(ink=1.0))
    assert not torch.equal(drawn, plain)
    assert torch.equal(_draw(warm, **request, **_loras(ink=1.0)), drawn)
    assert torch.equal(_draw(warm, **request), plain)


def test_a_lora_of_another_model_is_named_and_harms_nothing(warm: WarmPipeline) -> None:
    plain, inked = _draw(warm), _draw(warm, **_loras(ink=1.0))
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match=r"LoRA 'torn' of model .* cannot be loaded"):
            _draw(warm, **_loras(ink=1.0, torn=1.0))
    assert torch.equal(_draw(warm, **_loras(ink=1.0)), inked)
    assert torch.equal(_draw(warm), plain)


def test_a_learned_word_acts_where_it_is_written(
    warm: WarmPipeline, by_hand: Callable[..., torch.Tensor]
) -> None:
    assert torch.equal(_draw(warm), by_hand())
    written = _draw(warm, prompt="a <w>")
    assert not torch.equal(written, by_hand(prompt="a <w>"))
    assert torch.equal(_draw(warm, prompt="a <w>", prompt_weighting=True), written)


def test_a_word_for_one_encoder_is_not_one_for_two(pipelines: Pipelines) -> None:
    with pytest.raises(ModelUnavailable, match=r"'<w>' cannot be loaded .* clip_l with clip_g"):
        pipelines.get("misfit")


@pytest.mark.parametrize("negative", ["", "a dog"])
def test_prompts_without_weights_mean_what_they_always_did(
    warm: WarmPipeline, negative: str
) -> None:
    plain = _draw(warm, negative_prompt=negative)
    assert torch.equal(_draw(warm, negative_prompt=negative, prompt_weighting=True), plain)


def test_weights_act_where_they_are_asked_for(warm: WarmPipeline) -> None:
    weighted = _draw(warm, prompt="a (fox)1.4", prompt_weighting=True)
    assert not torch.equal(weighted, _draw(warm, prompt="a (fox)0.6", prompt_weighting=True))
    assert not torch.equal(weighted, _draw(warm, prompt="a (fox)1.4"))


def test_long_prompts_are_read_whole_where_weights_are(warm: WarmPipeline) -> None:
    long = "a fox " * 20
    ends = [long + "in snow", long + "at sea"]
    assert torch.equal(*(_draw(warm, prompt=prompt) for prompt in ends))
    whole = [_draw(warm, prompt=prompt, prompt_weighting=True) for prompt in ends]
    assert not torch.equal(*whole)
    assert whole[0].isfinite().all()


def test_the_file_names_loras_as_other_tools_do(pipelines: Pipelines) -> None:
    recipe = recipe_of(_request("sd", **_loras(ink=0.5, oil=-1)), pipelines)
    assert recipe_text(recipe).parameters.startswith("a fox <lora:ink:0.5> <lora:oil:-1>\n")
