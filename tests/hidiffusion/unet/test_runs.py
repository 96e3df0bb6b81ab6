"""Which step of which run a call is, whoever runs the U-Net, and who is not touched."""

import gc
import threading
import warnings
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLAutoBlocks,
)
from packaging.version import Version

from hidiffusion import (
    ConcurrentCallError,
    HiDiffusionConfig,
    UnannouncedRunWarning,
    UnknownTimestepError,
    UnsupportedModelError,
    apply_hidiffusion,
    is_applied,
    remove_hidiffusion,
)
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import Sides, picture
from tests.hidiffusion.pipelines.test_pipelines_schedulers import build_scheduler
from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.models import generate

#: Six of ten steps are drawn, of which 40 % shrink: two. PNDM repeats its second timestep.
EDIT = {"strength": 0.6, "num_inference_steps": 10}
SHRUNK = (1, 1, 2, 2, 2, 2)

second_is_named = pytest.warns(UnannouncedRunWarning, match=r"apply_hidiffusion\(second\)")


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(pipe: Any, seed: int = 1, **changes: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    arguments = EDIT | {"generator": generator, "output_type": "latent"} | changes
    return pipe("abc", picture(), **arguments).images


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
@pytest.mark.parametrize("own", [False, True], ids=["shared scheduler", "its own"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_pipeline_made_from_a_patched_one_shrinks_when_it_should(name: str, own: bool) -> None:
    pipe = tiny_models.sd_pipeline()
    pipe.scheduler = build_scheduler(name)
    apply_hidiffusion(pipe)
    second = quiet(StableDiffusionImg2ImgPipeline.from_pipe(pipe))
    if own:
        second.scheduler = build_scheduler(name)
    generate(pipe, 16, 16, num_inference_steps=3)
    with second_is_named, Sides(pipe.unet) as sides:
        edit(second)
    assert sides.seen == SHRUNK
    apply_hidiffusion(second)
    with Sides(pipe.unet) as sides:
        edit(second)
    assert sides.seen == SHRUNK


def test_a_pipeline_that_was_applied_to_has_its_own_seeds() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    second = apply_hidiffusion(quiet(StableDiffusionImg2ImgPipeline.from_pipe(pipe)))
    alone = apply_hidiffusion(
        quiet(StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False))
    )
    expected = edit(alone, seed=5)
    generate(pipe, 16, 16, seed=9)
    assert torch.equal(edit(second, seed=5), expected)


def test_pipelines_may_take_turns_on_one_unet() -> None:
    """Each keeps its run, though the other's calls come between its own."""
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    second = apply_hidiffusion(quiet(StableDiffusionImg2ImgPipeline.from_pipe(pipe)))
    second.scheduler = tiny_models.scheduler()
    alone = generate(pipe, 16, 16)

    def between(_pipe: Any, step: int, _timestep: Any, kwargs: Any) -> Any:
        if step == 2:
            edit(second)
        return kwargs

    assert torch.equal(generate(pipe, 16, 16, callback_on_step_end=between), alone)


def test_the_method_follows_a_pipeline_to_another_unet() -> None:
    pipe, other = apply_hidiffusion(tiny_models.sd_pipeline()), tiny_models.unet(seed=7)
    first = pipe.unet
    expected = generate(
        apply_hidiffusion(tiny_models.sd_pipeline(tiny_models.unet(seed=7))), 16, 16
    )
    pipe.unet = other
    assert torch.equal(generate(pipe, 16, 16), expected)
    assert (is_applied(first), is_applied(pipe)) == (None, is_applied(other))
    remove_hidiffusion(pipe)
    assert is_applied(other) is None


@pytest.mark.skipif(
    Version(diffusers.__version__) < Version("0.37"), reason="takes no modules that it did not load"
)
def test_a_modular_pipeline_shrinks_and_has_the_seed_it_is_given() -> None:
    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    parts = tiny_models.sdxl_components()
    pipe.update_components(**parts)
    quiet(pipe)
    call = {"prompt": "abc", "height": 128, "width": 128, "num_inference_steps": 5}

    def run(seed: int = 0) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return pipe(**call, generator=generator, output_type="latent", output="images")

    apply_hidiffusion(pipe, seed=3)
    with Sides(parts["unet"]) as sides:
        first = run()
    # Its guider calls the U-Net twice a step, without and with the prompt.
    assert sides.seen == (2,) * 4 + (4,) * 6
    apply_hidiffusion(pipe, seed=4)
    assert not torch.equal(run(), first)
    apply_hidiffusion(pipe)
    with pytest.warns(UnannouncedRunWarning, match="seed"):
        run()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_inference_mode_changes_nothing(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    pipe.scheduler = build_scheduler(name)
    apply_hidiffusion(pipe)
    expected = generate(pipe, 16, 16)
    with torch.inference_mode():
        drawn = generate(pipe, 16, 16)
    assert torch.equal(drawn, expected)


@torch.no_grad()
def test_a_timestep_that_no_table_has_is_refused() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    pipe.scheduler.set_timesteps(5)
    inputs = tiny_models.unet_inputs(pipe.unet, 16, 16)
    with pytest.raises(UnknownTimestepError, match=r"500.*apply_hidiffusion\(second\)"):
        pipe.unet(timestep=500, **inputs)


def shared_controlnet() -> tuple[Any, Any, Any]:
    """Two pipelines with U-Nets of their own and one ControlNet, and how to call them."""
    cell = next(each for each in CELLS if (each.kind, each.family) == ("ControlNet", "SD 1.5"))
    first, second = cell.build(), cell.build()
    second.controlnet = first.controlnet
    return first, second, cell.call


@pytest.mark.parametrize("end", ["none", "remove the U-Net", "remove the pipeline", "collect"])
def test_a_controlnet_is_patched_for_its_pipeline_alone(end: str) -> None:
    first, second, call = shared_controlnet()
    direct = call(second)
    apply_hidiffusion(first)
    patched = call(first)
    net = second.controlnet
    if end == "remove the U-Net":
        remove_hidiffusion(first.unet)
    elif end == "remove the pipeline":
        remove_hidiffusion(first)
    elif end == "collect":
        del first
        gc.collect()
    assert torch.equal(call(second), direct)
    if end == "none":
        assert torch.equal(call(first), patched)
    else:
        assert not net._forward_pre_hooks
        assert "forward" not in vars(net)


def test_a_controlnet_given_to_a_pipeline_later_is_told_of() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    net = tiny_models.controlnet(pipe.unet)
    second = quiet(StableDiffusionControlNetPipeline.from_pipe(pipe, controlnet=net))
    with second_is_named:
        generate(second, 16, 16, image=picture())
    calls: list[int] = []
    net.mid_block.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[-1]))
    apply_hidiffusion(second)
    generate(second, 16, 16, image=picture())
    assert calls == [1, 1, 1]


def test_the_method_leaves_with_the_last_pipeline() -> None:
    pipe = tiny_models.sd_pipeline()
    parts, direct = pipe.components, generate(pipe, 16, 16, num_inference_steps=2)
    apply_hidiffusion(pipe)
    del pipe
    gc.collect()
    other = quiet(diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False))
    assert is_applied(other) is None
    with second_is_named:
        assert torch.equal(generate(other, 16, 16, num_inference_steps=2), direct)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnannouncedRunWarning)
        generate(other, 16, 16, num_inference_steps=1)


def test_two_threads_on_one_unet_do_not_disturb_each_other() -> None:
    """The second is refused with the reason, the first gets its own picture."""
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    expected = generate(pipe, 16, 16)
    inputs = tiny_models.unet_inputs(pipe.unet, 16, 16)
    refused: list[BaseException] = []

    def intrude() -> None:
        try:
            pipe.unet(timestep=981, **inputs)
        except ConcurrentCallError as error:
            refused.append(error)

    def from_another_thread(*_: object) -> None:
        if not refused:
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()

    handle = pipe.unet.mid_block.register_forward_pre_hook(from_another_thread)
    assert torch.equal(generate(pipe, 16, 16), expected)
    handle.remove()
    assert "one U-Net serves one call at a time" in str(refused[0])


def test_a_call_that_was_broken_off_does_not_bar_the_next() -> None:
    pipe = apply_hidiffusion(tiny_models.sd_pipeline())
    expected = generate(pipe, 16, 16)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handle = pipe.unet.mid_block.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(pipe, 16, 16)
    handle.remove()
    assert torch.equal(generate(pipe, 16, 16), expected)


def test_gradient_checkpointing_is_refused_by_name() -> None:
    config = HiDiffusionConfig(timesteps=(900.0, 500.0, 100.0))
    unet = apply_hidiffusion(tiny_models.unet(), config=config).train()
    unet.enable_gradient_checkpointing()
    inputs = tiny_models.unet_inputs(unet, 16, 16)
    with pytest.raises(UnsupportedModelError, match="disable_gradient_checkpointing"):
        unet(timestep=900, **inputs)
    unet.disable_gradient_checkpointing()
    unet(timestep=900, **inputs).sample.sum().backward()
