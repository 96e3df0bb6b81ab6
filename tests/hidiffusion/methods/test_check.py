"""What would fail later is refused before the first pass, and nothing is dropped in silence."""

from typing import Any

import diffusers
import pytest
import torch

from hidiffusion import (
    InterruptedGenerationError,
    InvalidConfigError,
    UnsupportedModelError,
    UnsupportedPipelineError,
)
from hidiffusion.decode import UnsupportedAutoencoderError
from hidiffusion.methods import registry
from hidiffusion.methods.generation.call import Progress
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import Sides
from tests.hidiffusion.tiny import models as tiny_models

FOR_TRANSFORMERS = {"positions", "token-windows", "refine"}
SEVERAL = ("diffuse-high", "hidiffusion-guided", "hidiffusion-refresh")
CALL = {
    "prompt": "abc",
    "seed": 3,
    "width": 128,
    "height": 128,
    "num_inference_steps": 5,
    "output_type": "latent",
}


def draw(pipe: Any, name: str, **changes: Any) -> torch.Tensor:
    arguments = {**CALL, **changes}
    arguments = {key: each for key, each in arguments.items() if each is not None}
    return registry.get(name).generate(pipe, **arguments).images


def refused(pipe: Any, name: str, error: type[Exception], words: str, **changes: Any) -> None:
    """Assert that a generation is refused before the model is called."""
    calls: list[None] = []
    handle = pipe.unet.register_forward_pre_hook(lambda *_: calls.append(None))
    with pytest.raises(error, match=words):
        draw(pipe, name, **changes)
    handle.remove()
    assert not calls


def test_options_are_keywords_too() -> None:
    pipe = tiny_models.sd_pipeline()
    published = draw(pipe, "hidiffusion")
    asked = draw(pipe, "hidiffusion", options={"t1_ratio": 1.0})
    assert torch.equal(draw(pipe, "hidiffusion", t1_ratio=1.0), asked)
    assert not torch.equal(asked, published)
    with registry.get("hidiffusion").patched(pipe, seed=3, options={"t1_ratio": 1.0}):
        generator = torch.Generator().manual_seed(3)
        inside = tiny_models.generate(pipe, 16, 16, generator=generator)
    assert torch.equal(inside, asked)


@pytest.mark.parametrize("name", sorted(registry.METHODS.keys() - FOR_TRANSFORMERS))
def test_an_unknown_word_is_refused_and_the_nearest_named(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    refused(pipe, name, InvalidConfigError, "did you mean 'negative_prompt'", negativ_prompt="x")


def test_an_option_of_another_word_is_refused() -> None:
    pipe = tiny_models.sd_pipeline()
    refused(pipe, "raunet", InvalidConfigError, "did you mean 't1_ratio'", t1_rato=0.5)
    refused(pipe, "raunet", InvalidConfigError, "given twice", t1_ratio=1, options={"t1_ratio": 1})


TABLE = [981, 801, 601, 401, 201, 1]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ["direct", *SEVERAL])
def test_plans_follow_the_callers_timesteps(name: str) -> None:
    pipe, reports = tiny_models.sd_pipeline(), list[Progress]()
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    changes = {"timesteps": TABLE, "num_inference_steps": None}
    draw(pipe, name, **changes, on_progress=reports.append)
    assert [report.step for report in reports] == list(range(1, reports[0].total + 1))
    plan = registry.get(name).passes(pipe, width=128, height=128, timesteps=TABLE)
    assert plan[0].calls == len(TABLE)
    assert sum(each.computed for each in plan) == len(reports)


def test_plans_follow_the_pipelines_own_number_of_steps() -> None:
    cell = next(cell for cell in CELLS if (cell.kind, cell.family) == ("LCM", "SD 1.5"))
    pipe, reports = cell.build(), list[Progress]()
    draw(pipe, "hidiffusion-guided", num_inference_steps=None, on_progress=reports.append)
    assert [(report.step, report.total) for report in reports][-1] == (8, 8)


def test_the_last_steps_of_an_lcm_pipeline_are_those_of_the_plan() -> None:
    cell = next(cell for cell in CELLS if (cell.kind, cell.family) == ("LCM", "SD 1.5"))
    pipe, reports = cell.build(), list[Progress]()
    options = {"strength": 0.5}
    draw(pipe, "hidiffusion-guided", num_inference_steps=4, options=options,
         on_progress=reports.append)  # fmt: skip
    assert [report.pass_step for report in reports] == [1, 2, 3, 4, 1, 2]


@pytest.mark.parametrize("name", ["upsample-guidance", "hidiffusion-guided"])
def test_a_zero_terminal_signal_to_noise_ratio(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    settings: dict[str, Any] = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    settings |= {"clip_sample": False, "steps_offset": 1}
    pipe.scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", **settings
    )
    assert torch.isfinite(draw(pipe, name)).all()
    pipe.scheduler.register_to_config(prediction_type="epsilon")
    refused(pipe, name, InvalidConfigError, "v_prediction")


def tiny_autoencoder() -> Any:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4,) * 4,
        decoder_block_out_channels=(4,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )


@pytest.mark.parametrize("name", SEVERAL)
def test_an_unknown_autoencoder_is_named(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    pipe.vae = tiny_autoencoder()
    refused(pipe, name, UnsupportedAutoencoderError, "'AutoencoderTiny'.* use an AutoencoderKL")


def test_an_autoencoder_that_is_not_needed_is_not_asked_about() -> None:
    pipe = tiny_models.sd_pipeline()
    expected = draw(pipe, "hidiffusion-guided", space="latents")
    pipe.vae = tiny_autoencoder()
    assert torch.equal(draw(pipe, "hidiffusion-guided", space="latents"), expected)


@pytest.mark.parametrize("name", ["diffuse-high", "hidiffusion-refresh"])
def test_a_scheduler_that_adds_no_noise_is_named(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    pipe.scheduler = diffusers.IPNDMScheduler()
    refused(pipe, name, UnsupportedPipelineError, "IPNDMScheduler cannot add noise")


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("both must be multiples of 8", {"width": 132}),
        ("output_type is 'png'; it must be one of pil", {"output_type": "png"}),
        ("give seed= alone", {"generator": torch.Generator()}),
    ],
)
def test_what_the_last_pass_would_refuse(name: str, words: str, changes: Any) -> None:
    refused(tiny_models.sd_pipeline(), name, InvalidConfigError, words, **changes)


def test_a_cut_schedule_is_refused_by_methods_that_cut_it() -> None:
    pipe = tiny_models.sdxl_pipeline()
    refused(pipe, "diffuse-high", InvalidConfigError, "denoising_end is 0.8", denoising_end=0.8)


def test_a_refresh_of_a_picture_has_a_native_step_however_few_strength_leaves() -> None:
    whole = tiny_models.sd_pipeline()
    pipe = diffusers.AutoPipelineForImage2Image.from_pipe(whole)
    given = {"image": torch.zeros(1, 3, 128, 128), "strength": 0.8, "num_inference_steps": 2}
    told: list[Progress] = []
    draw(pipe, "hidiffusion-refresh", **given, on_progress=told.append)
    assert [(each.step, each.total, each.fraction) for each in told][-1] == (2, 2, 1)
    assert len(told) == 2


@pytest.mark.parametrize("name", [*SEVERAL, "direct"])
def test_a_tuple_is_returned_where_it_is_asked_for(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    expected = draw(pipe, name)
    output = registry.get(name).generate(pipe, **CALL, return_dict=False)
    assert isinstance(output, tuple)
    assert torch.equal(output[0], expected)


@pytest.mark.parametrize("name", SEVERAL)
def test_an_interrupt_in_the_first_pass_ends_the_generation(name: str) -> None:
    pipe, sizes = tiny_models.sd_pipeline(), list[int]()
    pipe.unet.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-1]))

    def interrupt(pipe: Any, step: int, _timestep: Any, kwargs: Any) -> Any:
        pipe._interrupt = step == 1 or pipe._interrupt
        return kwargs

    with pytest.raises(InterruptedGenerationError, match="after 2 of") as ended:
        draw(pipe, name, num_inference_steps=10, callback_on_step_end=interrupt)
    assert sizes == [8, 8]
    assert ended.value.latents.shape == (1, 4, 8, 8)


def test_an_end_that_the_caller_gives_a_controlnet_is_meant() -> None:
    cell = next(each for each in CELLS if (each.kind, each.family) == ("ControlNet", "SD 1.5"))
    pipe, calls = cell.build(), list[None]()
    pipe.controlnet.mid_block.register_forward_pre_hook(lambda *_: calls.append(None))
    counts = []
    for changes in (
        {},
        {"control_guidance_end": 1.0},
        {"control_guidance_end": 1.0, "control_ratio": 0.2},
    ):
        calls.clear()
        draw(pipe, "hidiffusion", **cell.arguments, **changes)
        counts.append(len(calls))
    assert counts == [3, 5, 1]


def test_a_family_named_by_the_caller_reaches_every_method() -> None:
    """Playground has no aggressive stage: it pools from the start."""
    pipe = tiny_models.sdxl_pipeline()
    changes = {"num_inference_steps": 10, "denoiser": "hidiffusion"}
    sdxl = draw(pipe, "hidiffusion-guided", **changes)
    assert not torch.equal(draw(pipe, "hidiffusion-guided", **changes, family="playground"), sdxl)
    refused(pipe, "hidiffusion-guided", InvalidConfigError, "family is 'sd3'", family="sd3")
    refused(pipe, "hidiffusion", UnsupportedModelError, "supported: ", family="sd")


@pytest.mark.parametrize("name", ["hidiffusion", *SEVERAL])
def test_the_native_size_is_the_callers_where_given(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    passes = registry.get(name).passes(pipe, width=128, height=128, native_size=4)
    assert {each.native for each in passes} == {32 * 32}
    if len(passes) > 1:
        assert passes[0].width == 32
        with Sides(pipe.unet) as sides:
            draw(pipe, name, native_size=12, num_inference_steps=10)
        assert sides.seen[0] == 2
