"""Positions and windows on whole models: what they leave alone, and what they change."""

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from hidiffusion import transformer
from hidiffusion.errors import (
    AlreadyAppliedError,
    InvalidConfigError,
    MissingSchedulerError,
    UnannouncedRunWarning,
    UnknownTimestepError,
    UnsupportedModelError,
    UnsupportedPipelineError,
)
from hidiffusion.methods import registry
from hidiffusion.transformer import TransformerConfig
from tests.hidiffusion.tiny.transformer_pipelines import pipeline, prompt
from tests.hidiffusion.tiny.transformers import FAMILIES, NATIVE, TEXT, Tiny, output

WINDOWS = TransformerConfig(full_share=0)
POSITIONS = TransformerConfig(window_grid=1)

#: Families whose blocks are given the rotary embedding of image and text.
ROTARY = ["flux", "chroma", "flux2", "qwen"]


@pytest.mark.parametrize("size", [(NATIVE, NATIVE), (4, 16), (5, 7)])
def test_native_size_is_bit_equal(
    model: Any, tiny: Tiny, scheduler: Any, size: tuple[int, int]
) -> None:
    if max(size) > model.config.get("pos_embed_max_size", 99):
        size = (size[0], 12)
    arguments = tiny.arguments(*size, batch=2)
    before = output(model, arguments)
    with transformer.patched(model, WINDOWS, scheduler=scheduler):
        assert torch.equal(output(model, arguments), before)
    assert torch.equal(output(model, arguments), before)


@pytest.mark.parametrize("config", [WINDOWS, POSITIONS], ids=["windows", "positions"])
def test_leaves_the_model_as_it_was(
    family: str, model: Any, tiny: Tiny, scheduler: Any, config: TransformerConfig
) -> None:
    """Beyond native size too, after a call that worked and after one that raised."""
    rows = 12 if family == "sd3" else 16
    arguments = tiny.arguments(rows, rows)
    before = output(model, arguments)
    tables = getattr(model, "rope_embedder", None) and model.rope_embedder.freqs_cis
    with transformer.patched(model, config, scheduler=scheduler):
        assert not torch.equal(output(model, arguments), before)
        last = (model.layers if family == "z-image" else model.transformer_blocks)[-1]
        handle = last.register_forward_pre_hook(_raise)
        with pytest.raises(RuntimeError, match="stop here"):
            output(model, arguments)
        handle.remove()
        assert not torch.equal(output(model, arguments), before)
    assert torch.equal(output(model, arguments), before)
    if family == "z-image":
        assert model.rope_embedder.freqs_cis is tables
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


def _raise(*_: object) -> None:
    raise RuntimeError("stop here")


def test_positions_scale_each_axis_by_its_length(family: str, model: Any, tiny: Tiny) -> None:
    """A picture that is long along one axis only: joint scaling changes the other axis too."""
    arguments = tiny.arguments(NATIVE, 12)
    own, joint = (
        _under(model, arguments, TransformerConfig(window_grid=1, axes=axes))
        for axes in ("each", "joint")
    )
    assert not torch.equal(own, joint)
    rotary = _rotary(family, model, arguments, POSITIONS)
    if rotary is not None:
        plain = _rotary(family, model, arguments, None)
        rows = slice(2, 4 if family == "flux2" else 5)
        assert torch.allclose(rotary[..., rows], plain[..., rows], atol=1e-6)
        assert not torch.allclose(rotary, plain, atol=1e-3)


def _rotary(
    family: str, model: Any, arguments: dict[str, Any], config: TransformerConfig | None
) -> Any:
    """Return the image's rotary embedding [N, dim / 2] as complex numbers, of a call."""
    if family in {"sd3", "z-image"}:
        return None
    seen: list[Any] = []
    handle = model.transformer_blocks[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["image_rotary_emb"]), with_kwargs=True
    )
    if config is None:
        output(model, arguments)
    else:
        _under(model, arguments, config)
    handle.remove()
    if family == "qwen":
        return seen[0][0]
    cosines, sines = seen[0]
    return torch.complex(cosines, sines)[TEXT:, ::2]


def _under(model: Any, arguments: dict[str, Any], config: TransformerConfig, **more: Any) -> Tensor:
    with transformer.patched(model, config, **more):
        return output(model, arguments)


@pytest.mark.parametrize("family", ROTARY)
@pytest.mark.parametrize("rule", ["interpolation", "ntk", "yarn"])
def test_text_keeps_its_positions(family: str, model: Any, tiny: Tiny, rule: str) -> None:
    """Only YaRN's temperature reaches text, as a factor of the dimensions of rows and columns."""
    arguments = tiny.arguments(16, 16)
    plain = _text(family, model, arguments, None)
    scaled = _text(family, model, arguments, TransformerConfig(window_grid=1, positions=rule))
    factor = 1 + 0.1 * torch.tensor(2.0).log() if rule == "yarn" else torch.tensor(1.0)
    spatial = slice(4, 12) if family == "flux2" else slice(4, 16)
    assert torch.allclose(scaled[:, spatial], plain[:, spatial] * factor, atol=1e-6)
    assert torch.equal(scaled[:, :4], plain[:, :4])


def _text(
    family: str, model: Any, arguments: dict[str, Any], config: TransformerConfig | None
) -> Tensor:
    seen: list[Any] = []
    handle = model.transformer_blocks[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["image_rotary_emb"]), with_kwargs=True
    )
    if config is None:
        output(model, arguments)
    else:
        _under(model, arguments, config)
    handle.remove()
    if family == "qwen":
        return torch.view_as_real(seen[0][1]).flatten(1)
    return seen[0][0][:TEXT]


@pytest.mark.parametrize("family", ROTARY)
def test_entropy_scales_the_logits(family: str, model: Any, tiny: Tiny) -> None:
    """The factor of the rotary embedding is that of the softmax."""
    config = TransformerConfig(window_grid=1, positions="none", temperature="entropy")
    arguments = tiny.arguments(16, 16)
    plain = _rotary(family, model, arguments, None)
    scaled = _rotary(family, model, arguments, config)
    keys, native = torch.tensor([256.0 + TEXT, 64 + TEXT]).log()
    assert torch.allclose(scaled, plain * (keys / native) ** 0.25, atol=1e-6)


def test_z_image_reaches_beyond_its_tables() -> None:
    """The model's own tables end at 32 tokens a side."""
    tiny = FAMILIES["z-image"]
    model = tiny.build()
    arguments = tiny.arguments(4, 40)
    with pytest.raises(IndexError):
        output(model, arguments)
    for config in (POSITIONS, TransformerConfig(window_grid=1, positions="none")):
        assert _under(model, arguments, config).isfinite().all()


def test_sd3_resamples_its_table() -> None:
    model = FAMILIES["sd3"].build()
    arguments = FAMILIES["sd3"].arguments(16, 24)
    with pytest.raises(ValueError, match="pos_embed_max_size"):
        output(model, arguments)
    with pytest.raises(InvalidConfigError, match="ends at 12"):
        _under(model, arguments, TransformerConfig(window_grid=1, positions="none"))
    seen: list[Tensor] = []
    embed = model.pos_embed
    own = embed.cropped_pos_embed(16, 16).view(8, 8, -1)
    handle = embed.register_forward_hook(
        lambda *_: seen.append(embed.cropped_pos_embed(32, 48).view(16, 24, -1))
    )
    _under(model, arguments, POSITIONS)
    handle.remove()
    table = seen[0]
    # The middle of four enlarged values lies near the mean of the four native ones around it.
    assert table.mean() == pytest.approx(own.mean().item(), abs=0.02)
    assert torch.allclose(table[0, 0], own[0, 0], atol=0.25)
    assert torch.allclose(table[-1, -1], own[-1, -1], atol=0.25)


def test_full_attention_in_the_first_share_of_the_steps(model: Any, tiny: Tiny) -> None:
    arguments = tiny.arguments(16, 16)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    full = _under(model, arguments, POSITIONS)
    config = TransformerConfig(full_share=0.5)
    sample = torch.zeros(1, 1, 1, 1)
    with transformer.patched(model, config, scheduler=scheduler):
        for step, timestep in enumerate(scheduler.timesteps):
            assert torch.equal(output(model, arguments), full) == (step < 2)
            scheduler.step(sample, timestep, sample)


def test_a_run_that_was_left_does_not_reach_the_next() -> None:
    tiny, model = FAMILIES["flux"], FAMILIES["flux"].build()
    arguments = tiny.arguments(16, 16)
    scheduler = FlowMatchEulerDiscreteScheduler()
    full = _under(model, arguments, POSITIONS)
    sample = torch.zeros(1, 1, 1, 1)
    with transformer.patched(model, TransformerConfig(full_share=0.5), scheduler=scheduler):
        for begin in (0, 0, 2):  # the first is left after two of four steps, the last begins there
            scheduler.set_timesteps(4)
            scheduler.set_begin_index(begin)
            for step, timestep in enumerate(scheduler.timesteps[begin:][:2]):
                acts = (begin + step) * (begin > 0) >= 3
                assert torch.equal(output(model, arguments), full) != acts
                scheduler.step(sample, timestep, sample)


def test_refuses_a_scheduler_that_does_not_tell_its_step() -> None:
    tiny, model = FAMILIES["flux"], FAMILIES["flux"].build()
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(4)
    with pytest.raises(UnknownTimestepError, match="DDIMScheduler does not tell"):
        _under(model, tiny.arguments(16, 16), WINDOWS, scheduler=scheduler)


def test_shifts_follow_the_seed(model: Any, tiny: Tiny, scheduler: Any) -> None:
    arguments = tiny.arguments(16, 16)

    def drawn(seed: int | tuple[int, ...], **changes: Any) -> Tensor:
        config = TransformerConfig(full_share=0, seed=seed)
        return _under(model, arguments | changes, config, scheduler=scheduler)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_each_sample_has_its_seed(scheduler: Any) -> None:
    """And the halves of guidance share it."""
    tiny, model = FAMILIES["flux"], FAMILIES["flux"].build()
    one = tiny.arguments(16, 16)
    four = {
        key: value.repeat(4, *[1] * (value.dim() - 1))
        if isinstance(value, Tensor) and "ids" not in key
        else value
        for key, value in one.items()
    }
    pair = TransformerConfig(full_share=0, seed=(1, 2))
    drawn = _under(model, four, pair, scheduler=scheduler)
    assert torch.equal(drawn[:2], drawn[2:])
    for sample, seed in enumerate((1, 2)):
        alone = _under(model, one, TransformerConfig(full_share=0, seed=seed), scheduler=scheduler)
        assert torch.allclose(drawn[sample], alone[0], atol=1e-5)
    three = TransformerConfig(full_share=0, seed=(1, 2, 3))
    with pytest.raises(InvalidConfigError, match="3 seeds for a batch of 4"):
        _under(model, four, three, scheduler=scheduler)


def test_two_models_share_nothing(tiny: Tiny, scheduler: Any) -> None:
    first, second = tiny.build(), tiny.build()
    arguments = tiny.arguments(12, 12)
    plain = output(second, arguments)
    with transformer.patched(first, WINDOWS, scheduler=scheduler):
        changed = output(first, arguments)
        assert torch.equal(output(second, arguments), plain)
        assert torch.equal(output(first, arguments), changed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tiny: Tiny, scheduler: Any, dtype: torch.dtype) -> None:
    model = tiny.build(dtype)
    arguments = {key: _cast(value, dtype) for key, value in tiny.arguments(12, 16).items()}
    for config in (WINDOWS, POSITIONS):
        drawn = _under(model, arguments, config, scheduler=scheduler)
        assert drawn.dtype == dtype
        assert drawn.isfinite().all()


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, list):
        return [_cast(each, dtype) for each in value]
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def test_leaves_with_the_last_pipeline_it_was_applied_to() -> None:
    first = pipeline("flux")
    second = FluxPipeline.from_pipe(first)
    model = first.transformer
    arguments = FAMILIES["flux"].arguments(16, 16)
    before, scheduler = output(model, arguments), first.scheduler
    transformer.apply(first, POSITIONS)
    transformer.apply(second, POSITIONS)
    assert "set_timesteps" in vars(scheduler)
    del first
    gc.collect()
    assert not torch.equal(output(model, arguments), before)
    del second
    gc.collect()
    with pytest.warns(UnannouncedRunWarning, match=r"transformer\.apply\(second\)"):
        assert torch.equal(output(model, arguments), before)
    assert torch.equal(output(model, arguments), before)  # once is enough
    assert "set_timesteps" not in vars(scheduler)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_what_was_applied_to_the_model_itself_stays() -> None:
    pipe = pipeline("flux")
    model = pipe.transformer
    arguments = FAMILIES["flux"].arguments(16, 16)
    transformer.apply(model, POSITIONS)
    transformer.apply(pipe, POSITIONS)
    changed = output(model, arguments)
    del pipe
    gc.collect()
    assert torch.equal(output(model, arguments), changed)


def test_applying_again_replaces_unless_another_pipeline_has_other_settings() -> None:
    first = pipeline("flux")
    second = FluxPipeline.from_pipe(first)
    model, arguments = first.transformer, FAMILIES["flux"].arguments(16, 16)
    transformer.apply(first, TransformerConfig(window_grid=1, positions="none"))
    unscaled = output(model, arguments)
    transformer.apply(first, POSITIONS)
    scaled = output(model, arguments)
    assert not torch.equal(scaled, unscaled)
    with pytest.raises(AlreadyAppliedError) as refused:
        transformer.apply(second, TransformerConfig(window_grid=1, positions="none"))
    assert "positions is 'yarn' there, asked was 'none'" in str(refused.value)
    assert "window_grid" not in str(refused.value)
    first.scheduler.config.use_dynamic_shifting = False
    with pytest.raises(InvalidConfigError, match="time_shift"):
        transformer.apply(first, TransformerConfig(window_grid=1, time_shift="sqrt"))
    assert torch.equal(output(model, arguments), scaled)


def test_patched_leaves_what_was_there_before() -> None:
    pipe = pipeline("flux")
    model, arguments = pipe.transformer, FAMILIES["flux"].arguments(16, 16)
    transformer.apply(pipe, POSITIONS)
    before = output(model, arguments)
    with transformer.patched(pipe, TransformerConfig(window_grid=1, positions="none")):
        assert not torch.equal(output(model, arguments), before)
    assert torch.equal(output(model, arguments), before)
    del pipe
    gc.collect()
    assert not model._forward_hooks


def test_a_copy_is_independent(scheduler: Any) -> None:
    tiny, model = FAMILIES["flux"], FAMILIES["flux"].build()
    arguments = tiny.arguments(16, 16)
    plain = output(model, arguments)
    transformer.apply(model, WINDOWS, scheduler=scheduler)
    windowed, copied = output(model, arguments), copy.deepcopy(model)
    assert torch.equal(output(copied, arguments), windowed)
    transformer.remove(copied)
    assert torch.equal(output(copied, arguments), plain)
    assert torch.equal(output(model, arguments), windowed)


def test_refuses_what_it_does_not_know() -> None:
    model = FAMILIES["flux"].build()
    with pytest.raises(UnsupportedModelError, match=r"FluxTransformer2DModel \(Flux\.1\)"):
        transformer.apply(UNet2DConditionModel.__new__(UNet2DConditionModel))
    with pytest.raises(MissingSchedulerError, match="scheduler="):
        transformer.apply(model)
    with pytest.raises(InvalidConfigError, match="positions is 'stretch'"):
        TransformerConfig(positions="stretch")


def test_refuses_a_foreign_processor_by_name(scheduler: Any) -> None:
    class Foreign:
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            """Compute nothing."""

    model = FAMILIES["flux"].build()
    stock = [block.attn.processor for block in model.transformer_blocks]
    model.transformer_blocks[1].attn.set_processor(Foreign())
    with pytest.raises(UnsupportedModelError, match=r"transformer_blocks\.1\.attn is Foreign"):
        transformer.apply(model, WINDOWS, scheduler=scheduler)
    assert model.transformer_blocks[0].attn.processor is stock[0]
    transformer.apply(model, POSITIONS)
    transformer.remove(model)


def test_refuses_reference_pictures(scheduler: Any) -> None:
    tiny, model = FAMILIES["flux"], FAMILIES["flux"].build()
    arguments = tiny.arguments(16, 16)
    ids = arguments["img_ids"].clone()
    ids[128:, 0] = 1
    with pytest.raises(UnsupportedPipelineError, match="reference pictures"):
        _under(model, arguments | {"img_ids": ids}, WINDOWS, scheduler=scheduler)


def draw(pipe: Any, family: str = "flux") -> Tensor:
    """Draw at twice native size."""
    call = prompt(family) | {"height": 256, "width": 256, "num_inference_steps": 2}
    generator = torch.Generator().manual_seed(0)
    drawn: Tensor = pipe(**call, generator=generator, output_type="latent").images
    return drawn


def other_transformer(family: str = "flux") -> Any:
    """Build one with other weights."""
    model = FAMILIES[family].build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    return model


@pytest.mark.parametrize("config", [WINDOWS, POSITIONS], ids=["windows", "positions"])
def test_the_method_follows_a_pipeline_to_another_transformer(
    family: str, config: TransformerConfig
) -> None:
    pipe, other = pipeline(family), other_transformer(family)
    first = pipe.transformer
    transformer.apply(pipe, config)
    unlike = draw(pipe, family)
    transformer.remove(pipe)
    pipe.transformer = other
    with transformer.patched(pipe, config):
        expected = draw(pipe, family)
    assert not torch.equal(expected, unlike)
    pipe.transformer = first
    transformer.apply(pipe, config)
    pipe.transformer = other
    assert torch.equal(draw(pipe, family), expected)
    assert not hooked(first)
    assert hooked(other)
    transformer.remove(pipe)
    assert not hooked(other)


def test_the_method_follows_inside_patched_and_leaves_with_it() -> None:
    pipe, other = pipeline("flux"), other_transformer()
    first, plain = pipe.transformer, draw(pipe)
    transformer.apply(pipe, POSITIONS)
    scaled = draw(pipe)
    with registry.get("positions").patched(pipe, positions="none"):
        pipe.transformer = other
        unscaled = draw(pipe)
    assert not hooked(first)
    assert not torch.equal(draw(pipe), unscaled)
    pipe.transformer = first
    assert torch.equal(draw(pipe), scaled)
    pipe.transformer = other  # and taken back from the one that ran, though no run followed
    transformer.remove(pipe)
    assert not hooked(first)
    assert not hooked(other)
    with transformer.patched(pipe, POSITIONS):
        pipe.transformer = first
    assert not hooked(first)
    assert not hooked(other)
    assert torch.equal(draw(pipe), plain)


def test_the_method_follows_a_pipeline_to_another_scheduler() -> None:
    """Also where pipelines of one transformer have a scheduler each."""
    pipe = pipeline("flux")
    first, own, last = (
        FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_image_seq_len=16, max_image_seq_len=64
        )
        for _ in range(3)
    )
    pipe.scheduler, config = first, TransformerConfig(full_share=0.5, seed=3)
    transformer.apply(pipe, config)
    expected = draw(pipe)
    second = transformer.apply(FluxPipeline.from_pipe(pipe), config)
    second.set_progress_bar_config(disable=True)
    second.scheduler = own
    assert torch.equal(draw(second), expected)
    assert torch.equal(draw(pipe), expected)
    pipe.scheduler = last
    assert torch.equal(draw(pipe), expected)
    transformer.remove(pipe)
    assert all("set_timesteps" not in vars(each) for each in (first, own, last))
    for name in ("encode_prompt", "prepare_latents"):
        assert name not in vars(pipe)
        assert name not in vars(second)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copied_pipeline_works_and_is_independent(copied: Callable[[Any], Any]) -> None:
    pipe = pipeline("flux")
    plain = draw(pipe)
    transformer.apply(pipe, WINDOWS)
    windowed, twin = draw(pipe), copied(pipe)
    copied(pipe)
    gc.collect()
    assert torch.equal(draw(pipe), windowed)  # a copy that is gone is no business of it
    transformer.remove(pipe)
    assert torch.equal(draw(twin), windowed)
    assert torch.equal(draw(pipe), plain)
    transformer.remove(twin)
    assert not hooked(twin.transformer)
    assert "set_timesteps" not in vars(twin.scheduler)
    assert torch.equal(draw(twin), plain)


def hooked(model: Any) -> bool:
    """Tell whether a module has hooks, or attention that is not its own."""
    hooks = (each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    processors = (getattr(each, "processor", None) for each in model.modules())
    return any(map(bool, hooks)) or any(hasattr(each, "stock") for each in processors)


@pytest.mark.parametrize("before", ["never", "once"])
def test_another_pipeline_with_a_scheduler_of_its_own_is_told_to_apply_too(before: str) -> None:
    pipe = pipeline("flux")
    transformer.apply(pipe, WINDOWS)
    if before == "once":
        draw(pipe)
    second = FluxPipeline.from_pipe(pipe)
    second.set_progress_bar_config(disable=True)
    second.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with pytest.warns(UnannouncedRunWarning, match=r"transformer\.apply\(second\)") as told:
        draw(second)
    assert len(told) == 1
    transformer.apply(second, WINDOWS)
    assert torch.equal(draw(second), draw(pipe))
