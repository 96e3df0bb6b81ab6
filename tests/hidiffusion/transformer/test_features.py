"""What diffusers, accelerate and peft change about a transformer works in both orders."""

from collections.abc import Callable
from typing import Any

import accelerate
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import AutoPipelineForImage2Image
from peft import LoraConfig

from hidiffusion import transformer
from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError
from hidiffusion.methods import registry
from hidiffusion.transformer.config import TransformerConfig
from tests.hidiffusion.tiny.transformer_pipelines import pipeline, prompt
from tests.hidiffusion.tiny.transformers import FAMILIES, output

#: diffusers warns of a name that its own Chroma uses.
pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed. is deprecated:FutureWarning")

CPU = torch.device("cpu")
#: Windows from the first step, so that they act in a single call.
WINDOWS = TransformerConfig(full_share=0.0, seed=3)


def lora(model: Any) -> None:
    """With random weights, which act at once."""
    torch.manual_seed(3)
    names = ["to_q", "to_v", "to_qkv_mlp_proj"]
    model.add_adapter(LoraConfig(r=2, target_modules=names, init_lora_weights=False))


FEATURES: dict[str, Callable[[Any], object]] = {
    "LoRA": lora,
    "group offload": lambda model: model.enable_group_offload(CPU, CPU, offload_type="leaf_level"),
    "model offload": lambda model: accelerate.cpu_offload_with_hook(model, CPU),
    "sequential offload": lambda model: accelerate.cpu_offload(model, CPU),
}


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, name) for family in FAMILIES for name in ("LoRA", "group offload")),
        ("flux", "model offload"),
        ("flux", "sequential offload"),
    ],
)
def test_a_feature_works_in_both_orders_and_stays(family: str, name: str, scheduler: Any) -> None:
    before, after = FAMILIES[family].build(), FAMILIES[family].build()
    arguments = FAMILIES[family].arguments(12, 12)
    stock = output(after, arguments)
    plain = output(transformer.apply(after, WINDOWS, scheduler=scheduler), arguments)

    FEATURES[name](before)
    direct = output(before, arguments)
    transformer.apply(before, WINDOWS, scheduler=scheduler)
    FEATURES[name](after)

    first = output(before, arguments)
    assert torch.equal(first, output(after, arguments))
    assert torch.equal(first, plain) == (name != "LoRA")
    assert torch.equal(direct, stock) == (name != "LoRA")
    transformer.remove(after)
    assert torch.equal(output(after, arguments), direct)


@pytest.mark.parametrize("family", ["flux", "qwen", "z-image", "sd3"])
def test_starts_from_a_picture_with_a_prompt_or_embeddings_alone(family: str) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (128, 256, 3), dtype=np.uint8)
    pipe: Any = AutoPipelineForImage2Image.from_pipe(pipeline(family))
    pipe.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {
        "width": 256,
        "height": 128,
        "seed": 1,
        "num_inference_steps": 4,
        "strength": 0.5,
        "image": PIL.Image.fromarray(noise),
        "output_type": "latent",
    } | prompt(family)
    windowed = registry.get("token-windows").generate(pipe, **given, full_share=0.0).images
    positioned = registry.get("positions").generate(pipe, **given).images
    assert torch.isfinite(windowed).all()
    assert windowed.shape == positioned.shape
    assert not torch.equal(windowed, positioned)
    with pytest.raises(UnsupportedPipelineError, match="or the method token-windows"):
        registry.get("refine").generate(pipe, **given)


def test_flux_2_has_no_strength_to_start_from_a_picture_with() -> None:
    pipe = pipeline("flux2")
    with pytest.raises(InvalidConfigError, match="'strength' is no argument of Flux2Pipeline"):
        registry.get("direct").generate(
            pipe, width=128, height=128, seed=1, strength=0.5, **prompt("flux2")
        )
