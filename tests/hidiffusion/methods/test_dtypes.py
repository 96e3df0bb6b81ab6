"""Half precision: every method, kind of pipeline and output, without casting what stays.

`make test` draws a diagonal of the table, `make long` all of it.
"""

import functools
from typing import Any

import numpy as np
import pytest
import torch

from hidiffusion import HiDiffusionError
from hidiffusion.methods import registry
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import Cell
from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.transformer_pipelines import pipeline, prompt

#: diffusers' pipelines upcast and decode by methods that it deprecates, and its Euler schedulers
#: convert tensors in a way that numpy 2 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*upcast_vae.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*decode_latents.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

#: A kind of pipeline and what it is asked to return.
KINDS = {
    "Text to image": "pt",
    "Image to image": "latent",
    "Inpainting, base model": "np",
    "ControlNet": "pil",
}
#: Methods that differ in what half precision could break: the model alone, and each way of guiding.
METHODS = (
    "hidiffusion",
    "upsample-guidance",
    "diffuse-high",
    "hidiffusion-guided",
    "hidiffusion-refresh",
)


def cell_of(kind: str, family: str = "SD 1.5") -> Cell:
    return next(each for each in CELLS if (each.kind, each.family) == (kind, family))


CASES = [(cell_of(kind), torch.float16) for kind in KINDS]
CASES += [(cell_of(kind), torch.bfloat16) for kind in ("Text to image", "Image to image")]
CASES += [(cell_of("Text to image", "SDXL"), torch.float16)]


#: Those of a single pass have nothing of their own that half precision could break: one kind each.
SINGLE = ("direct", "raunet", "msw-msa")
DRAWN = [(*case, name) for case in CASES for name in METHODS]
DRAWN += [(*CASES[index], name) for index, name in enumerate(SINGLE, start=3)]


def draw(pipe: Any, name: str, cell: Cell) -> Any:
    call = {"prompt": "abc", **cell.arguments, "num_inference_steps": 3, "seed": 1}
    size = {"width": 96, "height": 96}
    return registry.get(name).generate(pipe, **size, **call, output_type=KINDS[cell.kind]).images


def assert_drawn(images: Any) -> None:
    first = images[0]
    values = first.float() if isinstance(first, torch.Tensor) else torch.tensor(np.array(first))
    assert torch.isfinite(values).all()
    assert values.float().std() > 0


@pytest.mark.parametrize(("cell", "dtype", "name"), DRAWN, ids=str)
def test_every_method_draws(cell: Cell, dtype: torch.dtype, name: str) -> None:
    pipe = cell.build().to(dtype=dtype)
    assert_drawn(draw(pipe, name, cell))
    assert {pipe.vae.dtype, pipe.unet.dtype} == {dtype}


HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
OUTPUTS = ("latent", "pt", "np", "pil")
#: A cell of every kind of pipeline, of the first family that has it, and some of SDXL.
EVERY_KIND = list({each.kind: each for each in reversed(CELLS)}.values())
EVERY_KIND += [cell_of(kind, "SDXL") for kind in ("Text to image", "Image to image", "ControlNet")]
ON_UNETS = [name for name, row in registry.METHODS.items() if row.models != "transformer"]
ON_TRANSFORMERS = [name for name, row in registry.METHODS.items() if row.models != "unet"]


@functools.lru_cache(maxsize=2)
def loaded(cell: Cell, dtype: torch.dtype) -> Any:
    pipe: Any = cell.build()
    cell.load(pipe)
    return pipe.to(dtype=dtype)


@pytest.mark.long
@HALVES
@pytest.mark.parametrize("cell", EVERY_KIND, ids=str)
@pytest.mark.parametrize("name", ON_UNETS)
def test_all_of_the_table(cell: Cell, dtype: torch.dtype, name: str) -> None:
    """What is refused in half precision is refused before the first step, as in float32."""
    size = {"width": 96, "height": 96} if "denoising_start" not in cell.arguments else {}
    call = {"width": 128, "height": 128, "prompt": "abc", "num_inference_steps": 2}
    call |= size | cell.arguments | {"seed": 1}
    if cell.options.get("family") and "family" in registry.get(name).option_names:
        call["options"] = {"family": cell.options["family"]}
    for output in OUTPUTS:
        pipe = loaded(cell, dtype)
        images, refusal = drawn(pipe, name, **call, output_type=output)
        if refusal is None:
            assert_drawn(images)
        else:
            wide = drawn(loaded(cell, torch.float32), name, **call, output_type=output)
            assert refusal == wide[1]
        assert {pipe.vae.dtype, pipe.unet.dtype} == {dtype}


def drawn(pipe: Any, name: str, **call: Any) -> tuple[Any, str | None]:
    """Draw, or return what was refused before the first step."""
    steps: list[Any] = []
    try:
        result = registry.get(name).generate(pipe, **call, on_progress=steps.append)
    except HiDiffusionError as error:
        if steps:
            raise
        return None, str(error)
    return result.images, None


@pytest.mark.long
@HALVES
@pytest.mark.parametrize("family", ["flux", "chroma", "z-image", "flux2", "qwen", "sd3"])
@pytest.mark.parametrize("name", ON_TRANSFORMERS)
def test_all_of_the_table_of_transformers(family: str, dtype: torch.dtype, name: str) -> None:
    pipe = pipeline(family, dtype)
    call: dict[str, Any] = {"width": 192, "height": 192, "num_inference_steps": 2, "seed": 1}
    call |= prompt(family, dtype)
    if name == "refine" and family == "qwen":
        call["options"] = {"space": "latents"}
    for output in OUTPUTS:
        assert_drawn(registry.get(name).generate(pipe, **call, output_type=output).images)
        assert {pipe.vae.dtype, pipe.transformer.dtype} == {dtype}


def test_an_autoencoder_that_overflows_is_upcast_once_a_decode() -> None:
    pipe = tiny_models.sd_pipeline().to(dtype=torch.float16)
    assert pipe.vae.config.force_upcast
    seen: list[torch.dtype] = []
    pipe.vae.decoder.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    casts: list[torch.dtype] = []
    cast = pipe.vae.to
    pipe.vae.to = lambda dtype: casts.append(dtype) or cast(dtype)
    draw(pipe, "hidiffusion-guided", Cell("Image to image", "SD 1.5", ""))
    assert set(seen) == {torch.float32}
    # One decode and one encode, there and back.
    assert casts == [torch.float32, torch.float16] * 2
