"""The methods on diffusion transformers, through the pipelines of every family."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from hidiffusion.decode.errors import UnsupportedAutoencoderError
from hidiffusion.errors import (
    InvalidConfigError,
    UnsupportedModelError,
    UnsupportedPipelineError,
)
from hidiffusion.methods import registry
from hidiffusion.methods.bands import butterworth_band
from hidiffusion.methods.generation.call import PassRun, Progress
from hidiffusion.methods.refine import Acceleration
from hidiffusion.methods.x0 import Fade, LowBandGuide, Moment, adjusted_x0
from hidiffusion.transformer.latents import Layout
from tests.hidiffusion.tiny.models import sd_pipeline
from tests.hidiffusion.tiny.transformer_pipelines import pipeline, prompt

FAMILIES = ["flux", "chroma", "z-image", "flux2", "qwen", "sd3"]
SIZE = {"width": 256, "height": 192}
STEPS = 4

_pipelines: dict[str, Any] = {}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def pipe(family: str) -> Any:
    if family not in _pipelines:
        _pipelines[family] = pipeline(family)
    return _pipelines[family]


def draw(pipe: Any, family: str, method: str, **changes: Any) -> Tensor:
    asked = {"num_inference_steps": STEPS, "seed": 3, "output_type": "latent"} | SIZE
    if method == "refine" and family == "qwen":
        asked["space"] = "latents"
    images: Tensor = registry.get(method).generate(pipe, **asked | prompt(family) | changes).images
    return images


@pytest.mark.parametrize("method", ["positions", "token-windows", "refine"])
def test_draws_and_leaves_the_pipeline_as_it_was(pipe: Any, family: str, method: str) -> None:
    processors = [type(each) for each in _processors(pipe)]
    seen: list[Progress] = []
    first = draw(pipe, family, method, on_progress=seen.append)
    assert torch.equal(draw(pipe, family, method), first)
    assert first.isfinite().all()
    assert all(progress.latents.dim() == 4 for progress in seen)
    side = 2 if family == "flux2" else 1
    assert tuple(seen[-1].latents.shape[-2:]) == (24 // side, 32 // side)
    assert (seen[-1].step, seen[-1].fraction) == (seen[-1].total, 1)
    assert [type(each) for each in _processors(pipe)] == processors
    assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()


def _processors(pipe: Any) -> list[Any]:
    return [each.processor for each in pipe.transformer.modules() if hasattr(each, "processor")]


def test_refine_goes_on_in_the_native_schedule(pipe: Any, family: str) -> None:
    """Its last steps are the last ones of the native run, whatever the size."""
    native: list[Tensor] = []

    @contextmanager
    def around(run: PassRun) -> Iterator[None]:
        yield
        native.append(run.pipe.scheduler.sigmas.clone())

    draw(pipe, family, "refine", strength=0.5, around=around)
    assert len(native[1]) == 3
    assert torch.equal(native[1], native[0][-3:])


def test_refine_goes_on_from_what_a_pass_has_left(pipe: Any, family: str) -> None:
    """As a restarted job does: the first pass is not run, the picture is the same to the bit."""
    runs: list[PassRun] = []

    @contextmanager
    def around(run: PassRun) -> Iterator[None]:
        runs.append(run)
        yield

    whole = draw(pipe, family, "refine", around=around)
    assert runs[1].earlier is not None
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert torch.equal(draw(pipe, family, "refine", earlier=runs[1].earlier), whole)


def test_the_native_picture_is_the_stock_models(pipe: Any, family: str) -> None:
    left: list[Any] = []

    @contextmanager
    def around(run: PassRun) -> Iterator[None]:
        left.append(run.earlier)
        yield

    draw(pipe, family, "refine", around=around)
    asked = prompt(family) | {"width": 144, "height": 112, "num_inference_steps": STEPS}
    generator = torch.Generator().manual_seed(3)
    own = pipe(**asked, generator=generator, output_type="latent").images
    kind = "plain" if own.dim() == 4 else "patches" if family == "flux2" else "packed"
    assert torch.equal(Layout(kind, 7, 9).unpack(own), left[1][0])


def test_options_of_refine() -> None:
    pipe = pipeline("flux")
    plain = draw(pipe, "flux", "refine", strength=0.5)
    for options in (
        {"reference": "trajectory", "acceleration": 0.5, "space": "latents"},
        {"band_weight": 0.0, "window_grid": 1},
    ):
        changed = draw(pipe, "flux", "refine", strength=0.5, **options)
        assert changed.isfinite().all()
        assert not torch.equal(changed, plain)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("flux", torch.float16),
        ("z-image", torch.bfloat16),
        ("flux2", torch.bfloat16),
        ("sd3", torch.float16),
    ],
)
def test_half_precision_to_pictures(family: str, dtype: torch.dtype) -> None:
    pipe = pipeline(family, dtype)
    asked = {"num_inference_steps": 2, "seed": 3, "output_type": "np"} | SIZE
    picture = registry.get("refine").generate(pipe, **asked | prompt(family, dtype)).images
    assert picture.shape == (1, 192, 256, 3)
    assert not numpy.isnan(picture).any()


def test_guiding_packed_latents_is_guiding_them_unpacked() -> None:
    torch.manual_seed(0)
    layout, band = Layout("packed", 6, 8), butterworth_band(0.5)
    guide = LowBandGuide(torch.randn(1, 4, 12, 16), band, Fade())
    sample, output = torch.randn(2, 1, 4, 12, 16)

    def stepped(adjust: Any, *tensors: Tensor) -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(4)
        with adjusted_x0(scheduler, adjust):
            found: Tensor = scheduler.step(tensors[0], scheduler.timesteps[0], tensors[1])[0]
        return found

    packed = stepped(layout.adjusting(guide), layout.pack(output), layout.pack(sample))
    assert torch.allclose(layout.unpack(packed), stepped(guide, output, sample), atol=1e-6)


@pytest.mark.parametrize(("weight", "carried"), [(1.0, 0.5), (0.25, 0.5), (1.0, 0.0), (0.0, 0.0)])
def test_a_stage_of_hiflow(weight: float, carried: float) -> None:
    """Against the velocities of the published code; without both terms it is Euler's method."""
    torch.manual_seed(0)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(5)
    sigmas, band = scheduler.sigmas.double(), butterworth_band(0.4)
    references, velocities = torch.randn(2, 5, 1, 4, 12, 16, dtype=torch.float64)
    start = torch.randn(1, 4, 12, 16, dtype=torch.float64)

    def reference(moment: Moment) -> Tensor:
        return references[moment.step]

    guides = [
        LowBandGuide(reference, band, Fade(weight, fade=1)),
        Acceleration(reference, Fade(carried, fade=1)),
    ]
    x = start
    with adjusted_x0(scheduler, guides[0]), adjusted_x0(scheduler, guides[1]):
        for step, timestep in enumerate(scheduler.timesteps):
            x = scheduler.step(velocities[step], timestep, x)[0]

    y, before = start, None
    for step, velocity in enumerate(velocities):
        sigma, fade = sigmas[step], (5 - step) / 5
        clean = y - sigma * velocity
        clean = clean + weight * fade * (band.down(references[step]) - band.down(clean))
        v, vr = (y - clean) / sigma, (y - references[step]) / sigma
        if before is not None:
            v = v + carried * fade * (before[0] + vr - before[1] - v)
        before = (v, vr)
        y = y + (sigmas[step + 1] - sigma) * v
    assert torch.allclose(x.double(), y, atol=1e-5)


def test_says_which_method_draws() -> None:
    flux, sd3 = pipeline("flux"), pipeline("sd3")
    for method in ("hidiffusion", "diffuse-high", "hidiffusion-guided", "upsample-guidance"):
        with pytest.raises(UnsupportedModelError, match=r"this is Flux\.1; use refine"):
            draw(flux, "flux", method)
    with pytest.raises(UnsupportedModelError, match="use hidiffusion"):
        registry.get("refine").generate(sd_pipeline(), width=256, height=256, seed=1, prompt="x")
    with pytest.raises(InvalidConfigError, match=r"needs 1\.25 times or more"):
        draw(flux, "flux", "refine", width=128, height=128)
    with pytest.raises(InvalidConfigError, match="multiples of 16"):
        draw(flux, "flux", "token-windows", width=264, height=256)
    with pytest.raises(InvalidConfigError, match="end at 192 pixels a side"):
        draw(sd3, "sd3", "direct")
    with pytest.raises(InvalidConfigError, match="leave them out"):
        draw(flux, "flux", "refine", latents=torch.zeros(1))
    with pytest.raises(UnsupportedAutoencoderError, match="space='latents'"):
        draw(pipeline("qwen"), "qwen", "refine", space="pixels")


def test_refuses_to_refine_a_picture_that_is_given() -> None:
    from diffusers import FluxImg2ImgPipeline

    pipe = FluxImg2ImgPipeline(**pipeline("flux").components)
    with pytest.raises(UnsupportedPipelineError, match="text-to-image pipeline"):
        draw(pipe, "flux", "refine", image=torch.zeros(1, 3, 192, 256), strength=0.5)
