"""Half precision: every method, kind of pipeline and output, without casting what stays."""

from typing import Any

import numpy as np
import pytest
import torch

from hidiffusion.methods import registry
from tests.hidiffusion import tiny_models
from tests.hidiffusion.pipeline_cells import CELLS
from tests.hidiffusion.pipeline_kinds import Cell

#: diffusers' own SDXL pipelines upcast by a method that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*upcast_vae.*:FutureWarning")

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


@pytest.mark.parametrize(("cell", "dtype", "name"), DRAWN, ids=str)
def test_every_method_draws(cell: Cell, dtype: torch.dtype, name: str) -> None:
    pipe = cell.build().to(dtype=dtype)
    drawn = draw(pipe, name, cell)[0]
    values = drawn.float() if isinstance(drawn, torch.Tensor) else torch.tensor(np.array(drawn))
    assert torch.isfinite(values).all()
    assert values.float().std() > 0
    assert {pipe.vae.dtype, pipe.unet.dtype} == {dtype}


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
