"""The package DeepCache beside the method: deep features kept over some steps."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from DeepCache import DeepCacheSDHelper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network import flops, models
from hidiffusion import apply_hidiffusion, remove_hidiffusion
from tests.hidiffusion.tiny import models as tiny_models

DOCS = Path(__file__).parents[2] / "docs" / "pipelines.md"
STEPS = 6
MAKE = {"sd15": tiny_models.sd_pipeline, "sdxl": tiny_models.sdxl_pipeline}


def draw(pipe: Any, scale: int) -> torch.Tensor:
    side = scale * pipe.unet.config.sample_size
    return tiny_models.generate(pipe, side, side, num_inference_steps=STEPS)


def cached(pipe: Any, interval: int) -> DeepCacheSDHelper:
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()
    return helper


@pytest.mark.parametrize(
    ("family", "scale", "interval"),
    [("sd15", 2, 2), ("sd15", 4, 3), ("sdxl", 2, 5)],
)
def test_deep_features_are_kept_in_every_stage(family: str, scale: int, interval: int) -> None:
    pipe, calls = apply_hidiffusion(MAKE[family]()), []
    fresh = draw(pipe, scale)
    pipe.unet.mid_block.resnets[0].register_forward_hook(lambda *_: calls.append(None))
    helper = cached(pipe, interval)
    kept = draw(pipe, scale)
    helper.disable()
    assert len(calls) == -(-STEPS // interval)
    assert kept.isfinite().all()
    assert not torch.equal(kept, fresh)
    assert torch.equal(draw(pipe, scale), fresh)


def test_both_orders_give_the_same_and_either_can_be_taken_back_first() -> None:
    first, second = tiny_models.sd_pipeline(), tiny_models.sd_pipeline()
    direct = draw(first, 2)
    before = cached(first, 3)
    apply_hidiffusion(first)
    apply_hidiffusion(second)
    after = cached(second, 3)
    assert torch.equal(draw(first, 2), draw(second, 2))
    remove_hidiffusion(first)
    before.disable()
    after.disable()
    remove_hidiffusion(second)
    assert torch.equal(draw(first, 2), direct)
    assert torch.equal(draw(second, 2), direct)


@torch.no_grad()
def test_what_is_left_of_a_step_is_what_the_docs_say() -> None:
    pipe = apply_hidiffusion(flops.meta_pipeline("sdxl"), seed=0)
    helper = cached(pipe, 5)
    arguments = models.arguments(pipe.unet, 4096, 4096)
    sample = arguments.pop("sample")
    for timestep in pipe.scheduler.timesteps[:2]:
        with FlopCounterMode(display=False) as counter:
            pipe.unet(sample, timestep, **arguments)
    left = counter.get_total_flops()
    helper.disable()
    remove_hidiffusion(pipe)
    runs = json.loads(flops.RESULTS.read_text())["families"]["sdxl"]["4096x4096"]["both"]
    each = [row["flop"] for row in runs for _ in range(row["steps"])]
    kept = sum(each[::5]) + (len(each) - len(each[::5])) * left
    told = re.sub(r"\s+", " ", DOCS.read_text())
    assert f"has {left / 1e12:.1f} TFLOP instead of 35 to 205" in told
    assert f"have {kept / 1e12:.0f} instead of {sum(each) / 1e12:,.0f}" in told
