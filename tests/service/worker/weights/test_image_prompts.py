"""Pictures as prompts on warm pipelines, against diffusers run by hand."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import PIL.Image
import pytest
import torch
from diffusers import DiffusionPipeline

from service.domain.generations.events import Event, Succeeded
from service.domain.generations.generation import Generation, Status
from service.domain.models.controls import ControlChoice
from service.domain.models.image_prompts import PICTURE_FIELD, ImagePrompt
from service.settings import StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.job.failures import ModelUnavailable, UnsupportedRequest
from service.worker.run.generate import Studio
from service.worker.weights.inputs import encoding_in_tiles, load_pictures
from service.worker.weights.pipelines import Pipelines, needs_of
from tests.hidiffusion.pipelines import pipeline_kinds
from tests.hidiffusion.tiny import models as tiny_models
from tests.service.worker.adapter_models import adapter_weights, save_adapter, write_catalog
from tests.service.worker.control_models import (
    FAMILIES,
    Heard,
    draw,
    make_request,
    open_pipelines,
    photo,
)

SIDE = 128
METHODS = ["direct", "hidiffusion", "hidiffusion-guided", "hidiffusion-refresh"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue with IP-Adapters: two good ones, a torn one, one for faces, and none."""
    folder = write_catalog(tmp_path_factory.mktemp("image_prompts"))
    catalog = json.loads((folder / "catalog.json").read_text())
    first = catalog["models"][0]
    torn = adapter_weights(folder, "sd")
    torn["ip_adapter"].popitem()
    save_adapter(folder, "second", torn)
    unet = DiffusionPipeline.from_pretrained(folder / "sd").unet
    adapter = save_adapter(folder, "faces", face_weights(unet))
    catalog["models"].append({**first, "name": "faces", "ip_adapter": adapter})
    catalog["models"].append({**first, "name": "wordy", "ip_adapter": None})
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return folder


@pytest.fixture(scope="module")
def pipelines(folder: Path) -> Pipelines:
    return open_pipelines(folder)


def face_weights(unet: torch.nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Random weights of an adapter for faces, with the LoRA of the first layer."""
    parts, size = pipeline_kinds.ip_adapter_weights(unet), tiny_models.PROMPT_CHANNELS
    width = unet.config.cross_attention_dim
    parts["image_proj"] = {
        "proj.0.weight": torch.ones(2 * size, size),
        "proj.0.bias": torch.zeros(2 * size),
        "proj.2.weight": torch.ones(4 * width, 2 * size),
        "proj.2.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    inner = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.inner_dim
    for name in ("k", "q", "v", "out"):
        parts["ip_adapter"][f"0.to_{name}_lora.down.weight"] = torch.ones(2, inner)
        parts["ip_adapter"][f"0.to_{name}_lora.up.weight"] = torch.ones(inner, 2)
    return parts


def _prompted(scale: float = 0.7) -> dict[str, Any]:
    return {"image_prompt": ImagePrompt(image="img_1", scale=scale)}


def _looking_at(turns: int = 0, **more: PIL.Image.Image) -> dict[str, PIL.Image.Image]:
    return {PICTURE_FIELD: photo(turns), **more}


@pytest.fixture
def by_hand(folder: Path) -> Callable[..., torch.Tensor]:
    """Latents of a fresh pipeline with the IP-Adapter."""

    def run(family: str, kind: str, scale: float, **call: Any) -> torch.Tensor:
        base = DiffusionPipeline.from_pretrained(folder / family)
        pipe = getattr(diffusers, f"{FAMILIES[family]}{kind}Pipeline")(**base.components)
        pipe.set_progress_bar_config(disable=True)
        pipe.load_ip_adapter(
            str(folder / "adapters"), subfolder="", weight_name=f"{family}.safetensors"
        )
        pipe.set_ip_adapter_scale(scale)
        for module in (pipe.unet, pipe.text_encoder, pipe.vae, pipe.image_encoder):
            module.requires_grad_(False)
        with encoding_in_tiles(pipe.vae, lambda: None):
            images: torch.Tensor = pipe(
                prompt="a fox",
                ip_adapter_image=photo(),
                width=SIDE,
                height=SIDE,
                num_inference_steps=4,
                guidance_scale=5.0,
                generator=torch.Generator().manual_seed(7),
                output_type="latent",
                **call,
            ).images
        return images

    return run


@pytest.mark.parametrize("kind", ["", "Img2Img"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_acts_as_diffusers_has_it_and_leaves_no_trace(
    pipelines: Pipelines, by_hand: Callable[..., torch.Tensor], family: str, kind: str
) -> None:
    start = {"image": photo(3)} if kind else {}
    strength = {"strength": 0.7} if kind else {}
    never = make_request(family, **strength)
    plain = draw(pipelines, never, **start)
    request = make_request(family, **strength, **_prompted())
    drawn = draw(pipelines, request, **start, **_looking_at())
    assert torch.equal(drawn, by_hand(family, kind, 0.7, **start, **strength))
    assert not torch.equal(drawn, plain)
    assert torch.equal(draw(pipelines, never, **start), plain)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_takes_it_and_goes_on_after_a_break(pipelines: Pipelines, method: str) -> None:
    plain = draw(pipelines, make_request("sd", method=method))
    request, heard = make_request("sd", method=method, **_prompted()), Heard()
    whole = draw(pipelines, request, heard, **_looking_at())
    other = draw(pipelines, request, **_looking_at(1))
    nothing = draw(pipelines, make_request("sd", method=method, **_prompted(0.0)), **_looking_at())
    assert not torch.equal(whole, other)
    assert torch.allclose(nothing, plain, atol=1e-5)
    middle = heard.snapshots[len(heard.snapshots) // 2]
    assert torch.equal(draw(pipelines, request, begin=middle, **_looking_at()), whole)
    assert torch.equal(draw(pipelines, make_request("sd", method=method)), plain)


def test_the_picture_comes_whole_from_the_store(pipelines: Pipelines, tmp_path: Path) -> None:
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    results = []
    for turns in (0, 1):
        file = io.BytesIO()
        photo(turns).resize((200, 100)).save(file, "png")
        store.put("uploads/fox.png", file.getvalue(), "image/png")
        generation = Generation(
            id=f"generation-{turns}",
            status=Status.RUNNING,
            request=make_request("sd", method="hidiffusion", **_prompted()),
            inputs={"img_1": "uploads/fox.png"},
            attempt=1,
            created_at=datetime.now(UTC),
        )
        assert load_pictures(store, generation)[PICTURE_FIELD].size == (200, 100)
        told: list[Event] = []
        attempt = Attempt(generation, told.append, lambda: False)
        Studio(pipelines, store, WorkerSettings(tile_size=64)).run([attempt])
        assert isinstance(told[-1], Succeeded), told[-1]
        results.append(told[-1].manifest.image.sha256)
    assert results[0] != results[1]


def test_it_goes_with_controls(pipelines: Pipelines) -> None:
    edges = ControlChoice(name="canny", image="img_2")
    both = make_request("sdxl", edges, method="hidiffusion", **_prompted())
    first, again = (draw(pipelines, both, **_looking_at()) for _ in range(2))
    alone = draw(pipelines, make_request("sdxl", edges, method="hidiffusion"))
    assert torch.equal(first, again)
    assert not torch.equal(first, alone)


def test_it_is_loaded_once_and_counts_in_memory(folder: Path) -> None:
    roomy = open_pipelines(folder)
    warm = roomy.get("sd", 0, image_prompt=True)
    assert roomy.get("sd", 0, image_prompt=True).ip_adapter is warm.ip_adapter is not None
    assert roomy.get("sd").ip_adapter is None
    assert roomy.loads == 2
    tight = open_pipelines(folder, memory_bytes=warm.weights + warm.ip_adapter.weights)
    tight.get("sd", 0, image_prompt=True)
    assert tight.evictions == 0
    tight.get("sd", 0, ["canny"])
    assert tight.evictions == 1
    tight.get("sd", 0, **needs_of(make_request("sd", **_prompted())))
    assert (tight.loads, tight.evictions) == (4, 2)


def test_what_cannot_be_loaded_is_named_and_harms_nothing(pipelines: Pipelines) -> None:
    plain = draw(pipelines, make_request("second"))
    with pytest.raises(ModelUnavailable, match="the IP-Adapter of model 'second' cannot be loaded"):
        pipelines.get("second", 0, image_prompt=True)
    assert torch.equal(draw(pipelines, make_request("second")), plain)
    plain = draw(pipelines, make_request("faces"))
    with pytest.raises(ModelUnavailable, match="embeddings of faces"):
        pipelines.get("faces", 0, image_prompt=True)
    assert pipelines.get("faces").pipe.get_list_adapters() == {}
    assert torch.equal(draw(pipelines, make_request("faces")), plain)
    with pytest.raises(UnsupportedRequest, match="'wordy' has no ip_adapter"):
        pipelines.get("wordy", 0, image_prompt=True)


def test_self_attention_keeps_the_chosen_backend_beside_it(folder: Path) -> None:
    warm = open_pipelines(folder, attention="_native_math").get("sd", image_prompt=True)
    unet = warm.pipe.unet
    assert warm.ip_adapter is not None
    try:
        with warm.ip_adapter.worn(warm.pipe, 1.0):
            chosen = {
                each._attention_backend.value
                for name, each in unet.attn_processors.items()
                if "attn1" in name
            }
    finally:
        unet.reset_attention_backend()
    assert chosen == {"_native_math"}
