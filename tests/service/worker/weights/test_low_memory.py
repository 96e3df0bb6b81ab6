"""Models that are loaded into less memory: quantized ones draw, and what cannot be is refused.

Where torchao is not installed, its tests are skipped: `make extras` runs them where it is.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from hidiffusion.methods import registry
from service.domain.models.catalog import Model
from service.domain.models.low_memory import Offload
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.job.failures import ModelUnavailable
from service.worker.job.snapshot import Snapshot
from service.worker.weights.devices import place
from service.worker.weights.loading import load_pipeline
from service.worker.weights.memory import Profile, Profiles, dtype_name, profile_path
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline, stored_bytes
from tests.hidiffusion.tiny.models import sd_pipeline
from tests.hidiffusion.tiny.transformer_pipelines import pipeline
from tests.service.worker.transformer_models import chroma_catalog

#: diffusers warns of a name that its own Chroma uses.
pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed. is deprecated:FutureWarning")

_INT8 = "torchao-int8"
torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed: make extras"
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chroma_catalog(tmp_path_factory.mktemp("models"))


@pytest.fixture
def entry(catalog: Path) -> Iterator[Callable[..., Pipelines]]:
    """Give pipelines of the catalogue with changes to its entry."""
    text = catalog.read_text()

    def changed(dtype: str = "auto", **changes: Any) -> Pipelines:
        (model,) = json.loads(text)["models"]
        catalog.write_text(json.dumps({"models": [model | changes]}))
        worker = WorkerSettings(device="cpu", dtype=dtype)
        return Pipelines(Settings(catalog=catalog, worker=worker))

    yield changed
    catalog.write_text(text)


def request(method: str, **changes: Any) -> ResolvedRequest:
    return ResolvedRequest(
        prompt="a fox",
        negative_prompt="",
        model="chroma",
        width=256,
        height=192,
        num_inference_steps=3,
        guidance_scale=3.0,
        seed=7,
        scheduler="FlowMatchEulerDiscreteScheduler",
        method=method,
        output_format="png",
        **changes,
    )


def unheard(
    step: int, total: int, latents: torch.Tensor, snapshot: Snapshot | None, *, left: float
) -> None:
    """Hears of steps and does nothing."""


def dequantized(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that a quantized module computes with."""
    weights = module.state_dict()
    return {
        name: w.dequantize()
        if hasattr(w, "dequantize")
        and w.dtype.is_floating_point
        and hasattr(w, "__tensor_flatten__")
        else w
        for name, w in weights.items()
    }


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"offload": "model"}, "offload is 'model', which keeps weights in the machine's memory"),
        ({"offload": "group"}, "computes on the processor: leave it out"),
        ({"quantization": "bnb-4bit"}, "bitsandbytes"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_when_the_model_is_loaded(
    entry: Callable[..., Pipelines], changes: dict[str, Any], sentence: str
) -> None:
    if "quantization" in changes and importlib.util.find_spec("bitsandbytes") is not None:
        sentence = "which diffusers does on a GPU alone"
    with pytest.raises(ModelUnavailable) as refused:
        entry(**changes).get("chroma")
    assert sentence in str(refused.value)
    assert "or change its entry in the catalogue" in str(refused.value)


@pytest.mark.parametrize(
    ("worker", "changes", "dtype"),
    [
        ("float16", {}, torch.bfloat16),
        ("float16", {"bfloat16": False}, torch.float16),
        ("float32", {}, torch.float32),
    ],
)
def test_half_precision_is_bfloat16_where_float16_would_overflow(
    entry: Callable[..., Pipelines], worker: str, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    pipelines = entry(worker, **changes)
    assert pipelines.get("chroma").pipe.transformer.dtype is dtype
    assert pipelines.computes("chroma") == {"device": "cpu", "dtype": dtype_name(dtype)}


def test_settings_that_do_not_go_together_are_refused_by_the_catalogue(
    entry: Callable[..., Pipelines],
) -> None:
    with pytest.raises(ValueError, match="use offload 'model', or one of the two"):
        entry(quantization=_INT8, offload="group")
    with pytest.raises(ValueError, match="'bnb-4bit', 'bnb-8bit' or 'torchao-int8'"):
        entry(quantization="int3")


def test_a_profile_is_of_the_way_of_loading_that_it_was_measured_with(
    entry: Callable[..., Pipelines], catalog: Path
) -> None:
    path = profile_path(catalog, "chroma")
    path.parent.mkdir()
    profiles = Profiles()
    for loading, weights in (("", 400), (_INT8, 100), (f"{_INT8} model", 10)):
        made = Profile(
            device="cpu", dtype="float32", loading=loading, weights=weights, fixed=0, per_pixel=0
        )
        profiles = profiles.replacing(made)
    path.write_text(profiles.model_dump_json())
    assert entry().memory.weights("chroma") == 400
    assert entry(quantization=_INT8).memory.weights("chroma") == 100
    assert entry(quantization=_INT8, offload="model").memory.weights("chroma") == 10
    path.unlink()


@pytest.mark.parametrize("offload", ["model", "group"])
def test_offloading_changes_no_bit(entry: Callable[..., Pipelines], offload: Offload) -> None:
    """With the processor in the place of a GPU."""
    warm = entry().get("chroma")
    whole = denoise(warm, request("refine"), unheard)
    place(warm.pipe, torch.device("cpu"), offload)
    assert torch.equal(denoise(warm, request("refine"), unheard), whole)


@pytest.fixture(scope="module")
def loras(catalog: Path) -> list[dict[str, str]]:
    """One for the model, as its entry names it."""
    lora = catalog.parent / "ink.safetensors"
    adapted = pipeline("chroma")
    adapted.transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    torch.manual_seed(3)
    weights = get_peft_model_state_dict(adapted.transformer)
    save_file({f"transformer.{k}": torch.randn_like(v) * 0.3 for k, v in weights.items()}, lora)
    return [{"name": "ink", "title": "Ink", "source": lora.name}]


@pytest.fixture
def quantized(entry: Callable[..., Pipelines]) -> WarmPipeline:
    return entry(quantization=_INT8).get("chroma")


@torchao
@pytest.mark.parametrize("method", ["direct", "positions", "token-windows", "refine"])
def test_a_quantized_model_draws_what_its_weights_say(
    quantized: WarmPipeline, entry: Callable[..., Pipelines], method: str
) -> None:
    plain = entry().get("chroma")
    whole = denoise(plain, request(method), unheard)
    for part in ("transformer", "text_encoder"):
        getattr(plain.pipe, part).load_state_dict(dequantized(getattr(quantized.pipe, part)))

    drawn = denoise(quantized, request(method), unheard)

    assert distance(drawn, denoise(plain, request(method), unheard)) < 1e-3
    assert 1e-3 < distance(drawn, whole) < 0.5
    assert quantized.weights < 0.6 * plain.weights


@pytest.mark.parametrize("quantization", [None, pytest.param(_INT8, marks=torchao)])
def test_loras_act_and_leave_no_trace(
    entry: Callable[..., Pipelines], loras: list[dict[str, str]], quantization: str | None
) -> None:
    warm = entry(quantization=quantization, loras=loras).get("chroma")
    plain = denoise(warm, request("token-windows"), unheard)
    with_lora = request("token-windows", loras=[{"name": "ink", "weight": 1.0}])
    assert distance(denoise(warm, with_lora, unheard), plain) > 0.01
    assert torch.equal(denoise(warm, request("token-windows"), unheard), plain)


@torchao
def test_hidiffusion_draws_with_a_quantized_u_net(tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path / "tiny")
    model = Model(
        name="tiny", title="tiny", source=str(tmp_path / "tiny"), native_size=64, default_size=128,
        default_scheduler="DDIMScheduler", schedulers=("DDIMScheduler",),
        methods=("direct", "hidiffusion"),
    )  # fmt: skip
    plain = load_pipeline(model, torch.float32)
    int8 = load_pipeline(model.model_copy(update={"quantization": _INT8}), torch.float32)
    for pipe in (plain, int8):
        pipe.set_progress_bar_config(disable=True)
    sizes = [sum(map(stored_bytes, pipe.unet.parameters())) for pipe in (plain, int8)]
    assert sizes[1] < sizes[0]
    plain.unet.load_state_dict(dequantized(int8.unet))

    def draw(pipe: Any) -> torch.Tensor:
        made = registry.get("hidiffusion").generate(
            pipe, width=128, height=128, seed=1, prompt="a fox", num_inference_steps=3,
            output_type="latent",
        )  # fmt: skip
        latents: torch.Tensor = made.images
        return latents

    assert distance(draw(int8), draw(plain)) < 1e-3
