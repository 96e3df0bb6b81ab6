"""What a windowed self-attention is given inside a real U-Net."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from hidiffusion import (
    HiDiffusionConfig,
    HiDiffusionError,
    MissingSchedulerError,
    apply_hidiffusion,
    set_attention_backend,
)
from hidiffusion.unet import attention
from tests.hidiffusion.tiny import models as tiny_models


class Recorder(AttnProcessor2_0):
    """The usual processor, which notes the batch and the tokens it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, attn, hidden_states, *args, **kwargs) -> torch.Tensor:
        self.shapes.append(tuple(hidden_states.shape[:2]))
        return super().__call__(attn, hidden_states, *args, **kwargs)


@torch.no_grad()
def record(config: dict, height: int, width: int, *, step: int = 9, **options: object) -> dict:
    """Call a patched U-Net once; return what each self-attention was given, by name."""
    unet, scheduler = tiny_models.unet(config), tiny_models.scheduler()
    scheduler.set_timesteps(10)
    apply_hidiffusion(unet, config=HiDiffusionConfig(**options), scheduler=scheduler)
    recorders = {name: Recorder() for name in unet.attn_processors}
    unet.set_attn_processor(dict(recorders))
    unet(timestep=scheduler.timesteps[step].item(), **tiny_models.unet_inputs(unet, height, width))
    return {
        name.partition(".attentions")[0]: recorder.shapes[0]
        for name, recorder in recorders.items()
        if "attn1" in name
    }


def test_the_top_level_works_in_four_windows() -> None:
    given = record(tiny_models.SD15, 16, 24)
    assert given["down_blocks.0"] == given["up_blocks.3"] == (4, 8 * 12)
    assert given["down_blocks.1"] == (1, 8 * 12)
    assert given["mid_block"] == (1, 2 * 3)


def test_windows_of_odd_maps_are_equal() -> None:
    assert record(tiny_models.SD15, 17, 19)["down_blocks.0"] == (4, 9 * 10)


def test_pooled_maps_have_smaller_windows() -> None:
    """Of the level's attentions the last ones recorded: down, pooled; up, at full size."""
    given = record(tiny_models.SDXL, 32, 32, step=3)
    assert given["down_blocks.1"] == (4, 4 * 4)
    assert given["up_blocks.1"] == (4, 8 * 8)


@pytest.mark.parametrize(("side", "windows"), [(12, 4), (16, 4), (32, 16)])
def test_the_native_grid_keeps_windows_within_the_map_in_training(side: int, windows: int) -> None:
    given = record(tiny_models.SD15, side, side, window_grid="native")
    assert given["down_blocks.0"] == (windows, side * side // windows)
    assert given["down_blocks.0"][1] <= 8 * 8


def test_further_levels_work_in_windows_when_asked() -> None:
    given = record(tiny_models.SD15, 32, 32, extra_window_levels=1)
    assert given["down_blocks.1"] == given["up_blocks.2"] == (4, 8 * 8)
    assert given["down_blocks.2"] == (1, 8 * 8)


@pytest.mark.parametrize(("step", "windows"), [(5, 1), (6, 4), (9, 4)])
def test_further_levels_can_wait_for_the_late_steps(step: int, windows: int) -> None:
    options = {"extra_window_levels": 1, "extra_window_start": 0.6}
    given = record(tiny_models.SD15, 32, 32, step=step, **options)
    assert given["down_blocks.0"][0] == 4
    assert given["down_blocks.1"][0] == given["up_blocks.2"][0] == windows


@torch.no_grad()
def test_windows_that_wait_need_to_know_the_step() -> None:
    unet = tiny_models.unet()
    config = HiDiffusionConfig(extra_window_levels=1, extra_window_start=0.6)
    apply_hidiffusion(unet, raunet=False, config=config)
    with pytest.raises(MissingSchedulerError, match="give scheduler="):
        unet(timestep=0, **tiny_models.unet_inputs(unet, 16, 16))


def test_a_map_that_another_patch_shrinks_is_refused() -> None:
    unet = tiny_models.unet()
    first = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    first.register_forward_pre_hook(lambda _, args: (args[0][:, ::2],))
    apply_hidiffusion(unet, raunet=False)
    with pytest.raises(HiDiffusionError, match="another patch changes the size"):
        unet(timestep=0, **tiny_models.unet_inputs(unet, 16, 16))


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends that attention is computed by, one after the other."""
    seen: list[str] = []
    dispatch = attention.dispatch_attention_fn

    def spy(*args: torch.Tensor, backend: object) -> torch.Tensor:
        seen.append(getattr(backend, "value", backend))
        return dispatch(*args, backend=backend)

    monkeypatch.setattr(attention, "dispatch_attention_fn", spy)
    return seen


@torch.no_grad()
@pytest.mark.parametrize("first", [True, False])
def test_a_backend_computes_the_attention_of_a_u_net(dispatched: list[str], *, first: bool) -> None:
    unet, scheduler = tiny_models.unet(tiny_models.SDXL), tiny_models.scheduler()
    scheduler.set_timesteps(10)
    inputs = tiny_models.unet_inputs(unet, 32, 32) | {"timestep": scheduler.timesteps[3].item()}
    if first:
        set_attention_backend(unet, "_native_math")
    apply_hidiffusion(unet, config=HiDiffusionConfig(seed=7), scheduler=scheduler)
    if not first:
        set_attention_backend(unet, "_native_math")
    by_backend = unet(**inputs).sample
    assert set(dispatched) == {"_native_math"}
    assert len(dispatched) == len(unet.attn_processors)
    unet.reset_attention_backend()
    stock = unet(**inputs).sample
    assert len(dispatched) == len(unet.attn_processors)
    assert torch.allclose(by_backend, stock, atol=1e-5)


@torch.no_grad()
def test_a_mask_stays_with_torch_and_own_processors_stay(dispatched: list[str]) -> None:
    unet = tiny_models.unet(tiny_models.SD15)
    name = next(iter(unet.attn_processors))
    own = Recorder()
    unet.set_attn_processor(unet.attn_processors | {name: own})
    set_attention_backend(unet, "_native_math")
    assert unet.attn_processors[name] is own
    inputs = tiny_models.unet_inputs(unet, 8, 8)
    tokens = inputs["encoder_hidden_states"].shape[:2]
    unet(timestep=500, **inputs, encoder_attention_mask=torch.ones(tokens))
    alone = [key for key in unet.attn_processors if "attn1" in key and key != name]
    assert len(dispatched) == len(alone)
    unet.reset_attention_backend()


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="sagge"):
        set_attention_backend(tiny_models.unet(tiny_models.SD15), "sagge")
