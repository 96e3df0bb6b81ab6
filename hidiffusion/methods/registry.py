"""The methods by name: one row each, one way to use them all.

    result = registry.get("hidiffusion-guided").generate(
        pipe, width=4096, height=4096, seed=7, prompt="a red guitar", num_inference_steps=50
    )
    result.images

`generate` runs every method on every kind of pipeline that it supports: keyword arguments that it
does not name go to the pipeline, and what it returns is the pipeline's output, so `output_type`
and the rest mean what they mean there. `options` are the fields of the method's configuration.

Methods of a single pass can also be applied by themselves:

    with registry.get("hidiffusion").patched(pipe, seed=7, t1_ratio=0.5):
        pipe("a red guitar", height=2048, width=2048)
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from hidiffusion.errors import InvalidConfigError
from hidiffusion.methods import diffuse_high, guided, refresh, upsample_guidance
from hidiffusion.methods.denoisers import MECHANISMS
from hidiffusion.methods.method import Apply, Generate, Method, Planner
from hidiffusion.methods.passes import Order, Pass, whole
from hidiffusion.methods.session import Session
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.patch import patched


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """Settings of the direct method: the unpatched model has none but the seed it ignores."""

    seed: int | tuple[int, ...] | None = None


def _single(name: str, summary: str, config_type: type[Any], draws: str) -> Method:
    """Return the row of a method that only changes how the model computes."""

    def plan(pipe: Any, order: Order, config: Any) -> list[Pass]:
        del config
        return [whole(pipe, order, order.width, order.height, draws=draws)]

    def apply(pipe: Any, config: Any) -> AbstractContextManager[Any]:
        if draws == "direct":
            return nullcontext(pipe)
        return patched(pipe, **MECHANISMS[draws], config=config)

    return Method(
        name=name,
        summary=summary,
        config_type=config_type,
        plan=plan,
        run=_once(plan, apply),
        apply=apply,
    )


def _once(plan: Planner, apply: Apply) -> Generate:
    def run(pipe: Any, order: Order, config: Any) -> Any:
        return Session(pipe, order, plan(pipe, order, config)).draw(apply(pipe, config))

    return run


_ROWS: tuple[Method, ...] = (
    _single("direct", "the model as it is", DirectConfig, "direct"),
    _single(
        "hidiffusion",
        "smaller deep maps in the early steps, windowed attention in all",
        HiDiffusionConfig,
        "hidiffusion",
    ),
    _single("raunet", "smaller deep maps in the early steps only", HiDiffusionConfig, "raunet"),
    _single("msw-msa", "windowed attention only", HiDiffusionConfig, "windows"),
    Method(
        name="upsample-guidance",
        summary="early steps guided by the model on the pooled state",
        config_type=upsample_guidance.UpsampleGuidanceConfig,
        plan=upsample_guidance.plan,
        run=_once(upsample_guidance.plan, upsample_guidance.upsample_guided),
        apply=upsample_guidance.upsample_guided,
        min_scale=upsample_guidance.MIN_SCALE,
    ),
    Method(
        name="diffuse-high",
        summary="a native picture, enlarged and drawn again stage by stage under its wavelet band",
        config_type=diffuse_high.DiffuseHighConfig,
        plan=diffuse_high.plan,
        run=diffuse_high.generate,
        min_scale=diffuse_high.MIN_SCALE,
        starts_from_pictures=True,
    ),
    Method(
        name="hidiffusion-guided",
        summary="HiDiffusion with its low band held to a native picture",
        config_type=guided.GuidedConfig,
        plan=guided.plan,
        run=guided.generate,
        min_scale=guided.MIN_SCALE,
    ),
    Method(
        name="hidiffusion-refresh",
        summary="native size for most steps, then enlarged and finished with windowed attention",
        config_type=refresh.RefreshConfig,
        plan=refresh.plan,
        run=refresh.generate,
        min_scale=refresh.MIN_SCALE,
        min_steps=refresh.MIN_STEPS,
        starts_from_pictures=True,
    ),
)

#: Every method by its name.
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def get(name: str) -> Method:
    """Return the method of this name.

    Raises:
        InvalidConfigError: there is none.
    """
    try:
        return METHODS[name]
    except KeyError:
        known = ", ".join(METHODS)
        raise InvalidConfigError(f"method is {name!r}; known methods: {known}") from None
