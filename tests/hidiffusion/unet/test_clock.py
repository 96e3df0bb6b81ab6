"""Nothing depends on what ran before, and the same seed gives the same picture."""

import threading

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

from hidiffusion import HiDiffusionConfig, InvalidConfigError, apply_hidiffusion
from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.models import generate, sd_pipeline, sdxl_pipeline, unet_inputs


@pytest.fixture(scope="module")
def fresh() -> torch.Tensor:
    """What a pipeline makes that has made nothing before."""
    return generate(apply_hidiffusion(sd_pipeline()), 16, 16)


def test_a_run_cancelled_at_any_step_does_not_reach_the_next(fresh: torch.Tensor) -> None:
    pipe = apply_hidiffusion(sd_pipeline())

    def interrupt(pipe, _step, _timestep, kwargs):
        pipe._interrupt = True
        return kwargs

    def fail(_pipe, step, _timestep, kwargs):
        if step == 1:
            raise KeyboardInterrupt
        return kwargs

    generate(pipe, 16, 16, seed=1, callback_on_step_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(pipe, 16, 24, seed=2, num_inference_steps=7, callback_on_step_end=fail)
    assert torch.equal(generate(pipe, 16, 16), fresh)


@pytest.mark.parametrize(
    "place", ["down_blocks.0.downsamplers.0.conv", "mid_block", "up_blocks.3.attentions.1"]
)
def test_an_exception_inside_the_model_leaves_nothing(place: str, fresh: torch.Tensor) -> None:
    pipe = apply_hidiffusion(sd_pipeline())

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    handle = pipe.unet.get_submodule(place).register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(pipe, 16, 16)
    handle.remove()
    assert torch.equal(generate(pipe, 16, 16), fresh)


def test_sizes_and_lengths_may_change_between_runs(fresh: torch.Tensor) -> None:
    pipe = apply_hidiffusion(sd_pipeline())
    for height, width, steps in ((32, 32, 3), (8, 8, 2), (9, 17, 4)):
        generate(pipe, height, width, num_inference_steps=steps)
    assert torch.equal(generate(pipe, 16, 16), fresh)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_scheduler_may_be_exchanged(fresh: torch.Tensor) -> None:
    pipe = apply_hidiffusion(sd_pipeline())
    old = pipe.scheduler
    for kind in (HeunDiscreteScheduler, DPMSolverMultistepScheduler):
        pipe.scheduler = kind.from_config(old.config)
        generate(pipe, 16, 16)
    pipe.scheduler = old
    assert torch.equal(generate(pipe, 16, 16), fresh)


def test_two_pipelines_in_two_threads(fresh: torch.Tensor) -> None:
    pipes = [apply_hidiffusion(build()) for build in (sd_pipeline, sdxl_pipeline)]
    expected = [fresh, generate(apply_hidiffusion(sdxl_pipeline()), 16, 24)]
    results: list[torch.Tensor | None] = [None, None]

    def work(index: int, width: int) -> None:
        results[index] = generate(pipes[index], 16, width)

    threads = [threading.Thread(target=work, args=case) for case in ((0, 16), (1, 24))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(made, wanted) for made, wanted in zip(results, expected, strict=True))


def test_the_global_generator_does_not_matter_and_is_not_used(fresh: torch.Tensor) -> None:
    pipe = apply_hidiffusion(sd_pipeline())
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(generate(pipe, 16, 16), fresh)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_of_the_generator_draws_the_shifts() -> None:
    """Same latents, other seed: only the windows can differ."""
    pipe = apply_hidiffusion(sd_pipeline(), raunet=False)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    first, second = (generate(pipe, 16, 16, seed=seed, latents=latents) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(generate(pipe, 16, 16, seed=0, latents=latents), first)


def test_an_explicit_seed_wins_over_the_generator() -> None:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    pipe = apply_hidiffusion(sd_pipeline(), seed=7)
    first, second = (generate(pipe, 16, 16, seed=seed, latents=latents) for seed in (0, 1))
    assert torch.equal(first, second)


def test_the_place_in_a_batch_does_not_matter() -> None:
    pipe = apply_hidiffusion(sd_pipeline())
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4, 5)]
    together = generate(pipe, 16, 16, prompt=["abc"] * 3, generator=generators)
    for sample, seed in zip(together, (3, 4, 5), strict=True):
        alone = generate(pipe, 16, 16, seed=seed)[0]
        torch.testing.assert_close(sample, alone, rtol=1e-4, atol=1e-4)


def test_seeds_must_fit_the_batch() -> None:
    unet = apply_hidiffusion(tiny_models.unet(), raunet=False, seed=(1, 2, 3))
    with pytest.raises(InvalidConfigError, match="3 seeds for a batch of 4"):
        unet(timestep=0, **unet_inputs(unet, 16, 16, batch=4))


@torch.no_grad()
def test_the_position_is_the_same_however_the_timestep_is_given() -> None:
    unet, scheduler = tiny_models.unet(), tiny_models.scheduler()
    scheduler.set_timesteps(10)
    apply_hidiffusion(unet, scheduler=scheduler)
    inputs = unet_inputs(unet, 16, 16, batch=2)
    for index, entry in enumerate(scheduler.timesteps):
        if index not in {0, 3, 4, 9}:
            continue
        forms = (int(entry), float(entry), entry.clone(), entry.repeat(2))
        views = (entry, entry.expand(2)) if index == 0 else ()
        outputs = [unet(timestep=form, **inputs).sample for form in (*forms, *views)]
        assert all(torch.equal(output, outputs[0]) for output in outputs[1:])


@torch.no_grad()
def test_arguments_may_be_positional() -> None:
    unet = apply_hidiffusion(tiny_models.unet(), scheduler=tiny_models.scheduler())
    inputs = unet_inputs(unet, 16, 16)
    named = unet(timestep=500, **inputs).sample
    assert torch.equal(unet(inputs["sample"], 500, inputs["encoder_hidden_states"]).sample, named)


@torch.no_grad()
def test_a_table_of_its_own_tells_a_bare_unet_where_it_stands() -> None:
    table = (900.0, 700.0, 500.0, 300.0, 100.0)
    unet = apply_hidiffusion(tiny_models.unet(), config=HiDiffusionConfig(timesteps=table))
    sides = []
    unet.mid_block.register_forward_pre_hook(lambda _, args: sides.append(args[0].shape[-1]))
    for timestep in table:
        unet(timestep=timestep, **unet_inputs(unet, 16, 16))
    assert sides == [1, 1, 2, 2, 2]


@torch.no_grad()
def test_shifts_are_those_that_were_asked_for() -> None:
    asked = []

    def shifts(*, seed: int, block: int, step: int, timestep: float) -> int:
        asked.append((seed, block, step, timestep))
        return 0

    unet, scheduler = tiny_models.unet(), tiny_models.scheduler()
    scheduler.set_timesteps(4)
    config = HiDiffusionConfig(shifts=shifts, seed=(8, 9))
    apply_hidiffusion(unet, config=config, scheduler=scheduler)
    unet(timestep=int(scheduler.timesteps[2]), **unet_inputs(unet, 16, 16, batch=4))
    time = float(scheduler.timesteps[2])
    assert asked == [(seed, block, 2, time) for block in range(5) for seed in (8, 9)]
