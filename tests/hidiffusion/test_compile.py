"""torch.compile: one graph a stage, whatever the shifts, and the same numbers."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.testing import CompileCounter

from hidiffusion import apply_hidiffusion, remove_hidiffusion
from tests.hidiffusion.tiny import models as tiny_models

STEPS = 10

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def small(config: dict[str, Any]) -> UNet2DConditionModel:
    """Build a U-Net with as few layers as every stage can act on: tracing is slow."""
    levels = len(config["block_out_channels"])
    return tiny_models.unet(
        config,
        layers_per_block=1,
        transformer_layers_per_block=1,
        block_out_channels=(8,) * levels,
    )


@torch.no_grad()
def run(call: Any, unet: UNet2DConditionModel, scheduler: Any, side: int) -> list[torch.Tensor]:
    """Call a U-Net once at every timestep of a run."""
    inputs = tiny_models.unet_inputs(unet, side, side)
    return [call(timestep=time, **inputs).sample for time in scheduler.timesteps]


@pytest.mark.long
def test_a_run_makes_one_full_graph_a_stage() -> None:
    torch._dynamo.reset()
    unet, scheduler = small(tiny_models.SDXL), tiny_models.scheduler()
    scheduler.set_timesteps(STEPS)
    expected = run(apply_hidiffusion(unet, scheduler=scheduler), unet, scheduler, 16)
    remove_hidiffusion(unet)
    counter = CompileCounter()
    call = torch.compile(unet, backend=counter, fullgraph=True, dynamic=False)
    apply_hidiffusion(call, scheduler=scheduler)
    compiled = run(call, unet, scheduler, 16)
    assert counter.frame_count == 3
    for ours, eager in zip(compiled, expected, strict=True):
        torch.testing.assert_close(ours, eager)


@pytest.mark.slow
@pytest.mark.parametrize("config", [tiny_models.SD15, tiny_models.SDXL], ids=["sd", "sdxl"])
def test_blocks_compiled_one_by_one_share_their_graphs(config: dict[str, Any]) -> None:
    """As many graphs as without the method, and at most one more for each of its stages."""
    stages = 2 if config is tiny_models.SD15 else 3
    counts = []
    for applied in (False, True):
        torch._dynamo.reset()
        unet, scheduler = small(config), tiny_models.scheduler()
        scheduler.set_timesteps(STEPS)
        if applied:
            expected = run(apply_hidiffusion(unet, scheduler=scheduler), unet, scheduler, 16)
        counter = CompileCounter()
        unet.compile_repeated_blocks(backend=counter, fullgraph=True)
        compiled = run(unet, unet, scheduler, 16)
        counts.append(counter.frame_count)
    assert counts[0] < counts[1] <= counts[0] + stages
    if config is tiny_models.SDXL:
        assert counts == [2, 3]  # as docs/library.md says
    for ours, eager in zip(compiled, expected, strict=True):
        torch.testing.assert_close(ours, eager)


@pytest.mark.long
@torch.no_grad()
def test_a_compiled_unet_sees_what_is_applied_and_removed() -> None:
    torch._dynamo.reset()
    torch._dynamo.config.skip_nnmodule_hook_guards = True  # as a fresh process has it
    unet, scheduler = small(tiny_models.SDXL), tiny_models.scheduler()
    scheduler.set_timesteps(STEPS)
    inputs = tiny_models.unet_inputs(unet, 16, 16)

    def call() -> torch.Tensor:
        sample: torch.Tensor = unet(timestep=scheduler.timesteps[0], **inputs).sample
        return sample

    direct = call()
    apply_hidiffusion(unet, scheduler=scheduler)
    patched = call()
    remove_hidiffusion(unet)
    assert not torch.equal(patched, direct)
    counter = CompileCounter()
    unet.compile(backend=counter, fullgraph=True, dynamic=False)
    torch._dynamo.config.skip_nnmodule_hook_guards = True
    torch.testing.assert_close(call(), direct)
    graphs = []
    for _ in range(2):
        apply_hidiffusion(unet, scheduler=scheduler)
        torch.testing.assert_close(call(), patched)
        remove_hidiffusion(unet)
        torch.testing.assert_close(call(), direct)
        graphs.append(counter.frame_count)
    assert graphs[0] == graphs[1]  # each of the two is compiled once and found again
