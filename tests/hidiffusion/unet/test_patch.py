"""Applying, applying again, and taking back without a trace."""

import copy
import pickle
import tomllib
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionImg2ImgPipeline
from torch import nn

import hidiffusion
from hidiffusion import (
    AlreadyAppliedError,
    HiDiffusionConfig,
    HiDiffusionError,
    InvalidConfigError,
    MissingSchedulerError,
    Settings,
    UnplannedCallError,
    UnsupportedModelError,
    apply_hidiffusion,
    is_applied,
    patched,
    remove_hidiffusion,
)
from tests.hidiffusion.pipelines.pipeline_kinds import Sides
from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.models import generate

BUILDERS = [tiny_models.sd_pipeline, tiny_models.sdxl_pipeline]
families = pytest.mark.parametrize("build", BUILDERS, ids=["sd", "sdxl"])


def hooks(model: nn.Module) -> int:
    """Count the hooks in a model."""
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()
    )


@families
def test_native_size_is_bit_equal(build) -> None:
    pipe = build()
    before = generate(pipe, 8, 8, num_inference_steps=2)
    assert torch.equal(generate(apply_hidiffusion(pipe), 8, 8, num_inference_steps=2), before)


@families
def test_removing_leaves_no_trace(build) -> None:
    pipe = build()
    before = generate(pipe, 16, 16, num_inference_steps=3)
    attributes = (set(vars(pipe)), set(vars(pipe.unet)))
    apply_hidiffusion(pipe)
    assert hooks(pipe.unet) > 0
    assert not torch.equal(generate(pipe, 16, 16, num_inference_steps=3), before)
    assert remove_hidiffusion(pipe) is pipe
    assert hooks(pipe.unet) == 0
    assert (set(vars(pipe)), set(vars(pipe.unet))) == attributes
    assert torch.equal(generate(pipe, 16, 16, num_inference_steps=3), before)


def test_nothing_switched_on_is_the_unpatched_model() -> None:
    pipe = tiny_models.sd_pipeline()
    before = generate(pipe, 16, 16, num_inference_steps=2)
    apply_hidiffusion(pipe, raunet=False, window_attention=False)
    assert torch.equal(generate(pipe, 16, 16, num_inference_steps=2), before)


def test_one_window_without_shrinking_is_the_unpatched_model() -> None:
    pipe = tiny_models.sd_pipeline()
    before = generate(pipe, 16, 16, num_inference_steps=2)
    config = HiDiffusionConfig(window_grid=1, shifts=lambda **_: 0, t1_ratio=0, t2_ratio=0)
    apply_hidiffusion(pipe, config=config)
    torch.testing.assert_close(generate(pipe, 16, 16, num_inference_steps=2), before)


def test_applying_the_same_again_changes_nothing() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline(), seed=4)
    count = hooks(pipe.unet)
    apply_hidiffusion(pipe, config=HiDiffusionConfig(seed=4))
    assert hooks(pipe.unet) == count


def test_applying_again_replaces_the_settings() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline(), seed=4)
    count = hooks(pipe.unet)
    apply_hidiffusion(pipe, seed=5)
    assert hooks(pipe.unet) == count
    assert is_applied(pipe).config.seed == 5
    again = generate(pipe, 16, 16, num_inference_steps=2)
    fresh = apply_hidiffusion(tiny_models.sd_pipeline(), seed=5)
    assert torch.equal(again, generate(fresh, 16, 16, num_inference_steps=2))
    with pytest.raises(InvalidConfigError):
        apply_hidiffusion(pipe, config=HiDiffusionConfig(family="magic"))
    assert is_applied(pipe).config.seed == 5


def test_the_authors_arguments_are_understood() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline(), True, False)
    assert is_applied(pipe) == Settings(raunet=True, window_attention=False)
    apply_hidiffusion(pipe, apply_raunet=False, apply_window_attn=True)
    assert is_applied(pipe.unet) == Settings(raunet=False)
    assert is_applied(remove_hidiffusion(pipe)) is None


def test_another_pipeline_of_the_unet_does_not_change_the_settings() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline(), seed=4)
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    with pytest.raises(AlreadyAppliedError) as refused:
        apply_hidiffusion(other, seed=5)
    assert "config.seed is 4 there, asked was 5; call remove_hidiffusion" in str(refused.value)
    assert "t1_ratio" not in str(refused.value)
    assert apply_hidiffusion(other, seed=4) is other


def test_patched_leaves_the_model_as_it_was_found() -> None:
    pipe = tiny_models.sd_pipeline()
    with patched(pipe) as inside:
        assert inside is pipe
        assert hooks(pipe.unet) > 0
        with patched(pipe):
            pass
        assert hooks(pipe.unet) > 0
    assert hooks(pipe.unet) == 0
    with pytest.raises(RuntimeError, match="mine"), patched(pipe):
        raise RuntimeError("mine")
    assert hooks(pipe.unet) == 0


def test_a_bare_unet_reads_its_place_from_the_table_it_is_given() -> None:
    unet, scheduler = apply_hidiffusion(tiny_models.unet()), tiny_models.scheduler()
    scheduler.set_timesteps(5)
    inputs = tiny_models.unet_inputs(unet, 16, 16)
    with torch.no_grad(), Sides(unet) as sides:
        for timestep in scheduler.timesteps:
            unet(timestep=timestep, **inputs)
        with pytest.raises(MissingSchedulerError, match="the U-Net has no scheduler"):
            unet(timestep=500, **inputs)
    assert sides.seen == (1, 1, 2, 2, 2)


def test_every_error_is_one_kind() -> None:
    with pytest.raises(HiDiffusionError):
        apply_hidiffusion(nn.Linear(1, 1))
    with pytest.raises(UnsupportedModelError):
        remove_hidiffusion(object())


def test_a_block_called_by_itself_is_refused() -> None:
    unet = apply_hidiffusion(tiny_models.unet(), raunet=False)
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    with pytest.raises(UnplannedCallError, match="remove_hidiffusion"):
        attention(torch.zeros(1, 64, 8))


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_works_and_is_independent(copied) -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    expected = generate(pipe, 16, 16, num_inference_steps=3)
    twin = copied(pipe)
    remove_hidiffusion(pipe)
    assert torch.equal(generate(twin, 16, 16, num_inference_steps=3), expected)
    remove_hidiffusion(twin)
    assert hooks(twin.unet) == 0
    assert torch.equal(
        generate(twin, 16, 16, num_inference_steps=3), generate(pipe, 16, 16, num_inference_steps=3)
    )


def test_a_pickled_unet_does_not_carry_its_pipeline() -> None:
    pipe = tiny_models.sd_pipeline()
    plain = len(pickle.dumps(pipe.unet))
    apply_hidiffusion(pipe)
    generate(pipe, 16, 16, num_inference_steps=1)
    assert len(pickle.dumps(pipe.unet)) < plain + 100_000 < len(pickle.dumps(pipe))


def test_a_second_pipeline_on_the_same_unet() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    apply_hidiffusion(other)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))

    def edit() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return other(
            "abc",
            image,
            strength=0.6,
            num_inference_steps=5,
            generator=generator,
            output_type="latent",
        ).images

    alone = edit()
    generate(pipe, 16, 24, seed=9)
    assert torch.equal(edit(), alone)
    remove_hidiffusion(pipe)
    assert not torch.equal(edit(), alone)


def test_removing_through_the_unet_frees_the_controlnet_as_well() -> None:
    parts = tiny_models.sd_components()
    control = tiny_models.controlnet(parts["unet"])
    pipe = StableDiffusionControlNetPipeline(
        **parts, controlnet=control, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    before = generate(pipe, 16, 16, image=image, num_inference_steps=2)
    apply_hidiffusion(pipe)
    assert not torch.equal(generate(pipe, 16, 16, image=image, num_inference_steps=2), before)
    remove_hidiffusion(pipe.unet)
    assert torch.equal(generate(pipe, 16, 16, image=image, num_inference_steps=2), before)
    assert hooks(control) == 0


def test_the_public_names() -> None:
    assert all(hasattr(hidiffusion, name) for name in hidiffusion.__all__)
    assert {"apply_hidiffusion", "remove_hidiffusion", "patched"} <= set(hidiffusion.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert hidiffusion.__version__ == project["version"]
