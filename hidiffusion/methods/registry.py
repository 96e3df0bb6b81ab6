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

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, Protocol

from hidiffusion.config import HiDiffusionConfig
from hidiffusion.errors import InvalidConfigError
from hidiffusion.knobs import schema
from hidiffusion.methods import diffuse_high, guided, refresh, upsample_guidance
from hidiffusion.methods.denoisers import MECHANISMS
from hidiffusion.methods.passes import (
    OnProgress,
    Order,
    Pass,
    whole,
)
from hidiffusion.methods.session import Session
from hidiffusion.patch import patched


class Apply(Protocol):
    """Applies a method to a pipeline inside a `with` block and takes it back at its end."""

    def __call__(self, pipe: Any, config: Any) -> AbstractContextManager[Any]:
        """Return the `with` block for a pipeline and an instance of the method's config type."""


#: Returns the passes of a generation; raises where the method cannot make the picture.
Planner = Callable[[Any, Order, Any], list[Pass]]
#: Draws a picture and returns the output of the last pass.
Generate = Callable[[Any, Order, Any], Any]


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """Settings of the direct method: the unpatched model has none but the seed it ignores."""

    seed: int | tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table.

    Attributes:
        name: what clients ask for.
        summary: one line for people.
        config_type: frozen dataclass of its options, all with defaults, one of them `seed`.
        plan: says which passes a generation has.
        run: draws a picture.
        apply: applies a method of one pass inside a `with` block; None if it has several passes.
        min_scale: least side of a picture, in native sides, for which the method is made.
        min_steps: least number of steps of the schedule.
        starts_from_pictures: whether the pipeline must start from a picture, or have a sibling
            that does.
    """

    name: str
    summary: str
    config_type: type[Any]
    plan: Planner
    run: Generate
    apply: Apply | None = None
    min_scale: float = 0.0
    min_steps: int = 1
    starts_from_pictures: bool = False

    @property
    def one_pass(self) -> bool:
        """Whether it is one run over one schedule of the pipeline's own scheduler.

        Such a run can be left between two steps and taken up there.
        """
        return self.apply is not None

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the options that a client may set."""
        return schema(self.config_type)

    def configure(self, **options: Any) -> Any:
        """Build the method's configuration.

        Raises:
            InvalidConfigError: an option is unknown or its value is not allowed.
        """
        known = [field.name for field in fields(self.config_type)]
        for option, value in options.items():
            if option not in known:
                raise InvalidConfigError(
                    f"method {self.name} has no option {option!r} (given {value!r}); it has: "
                    + ", ".join(known)
                )
        return self.config_type(**options)

    def patched(
        self, pipe: Any, *, seed: int | tuple[int, ...] | None = None, **options: Any
    ) -> AbstractContextManager[Any]:
        """Apply a method of a single pass inside a `with` block.

        Args:
            pipe: a diffusers pipeline.
            seed: the request's seed, or one for each sample; None takes the generator's.
            **options: fields of `config_type`.

        Returns:
            A context manager that yields the pipeline and leaves it as it was found.

        Raises:
            InvalidConfigError: an option is unknown or its value is not allowed, or the method
                runs the pipeline more than once.
        """
        if self.apply is None:
            raise InvalidConfigError(
                f"method {self.name} runs the pipeline more than once, so it cannot be applied to "
                "one call; use generate"
            )
        return self.apply(pipe, self.configure(seed=seed, **options))

    def generate(
        self,
        pipe: Any,
        *,
        width: int,
        height: int,
        seed: int | tuple[int, ...],
        options: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        alive: Callable[[], None] = lambda: None,
        **call: Any,
    ) -> Any:
        """Draw a picture; equal arguments give equal pictures.

        Args:
            pipe: a diffusers pipeline; left as it was found.
            width: of the picture in pixels.
            height: of the picture in pixels.
            seed: decides all noise; one for each sample of the batch if a tuple. The pipeline's
                generators are made from it, so `generator` must not be given.
            options: fields of `config_type`.
            on_progress: hears of each step over all passes; an exception ends the generation.
            alive: called more often, between tiles of the autoencoder; may raise likewise.
            **call: arguments of the pipeline.

        Returns:
            The output of the last pass's pipeline: its `images` are pictures, or latents with
            `output_type="latent"`.

        Raises:
            InvalidConfigError: an option or the size is not allowed.
            UnsupportedModelError: the method does not know the model.
            UnsupportedPipelineError: the method cannot run this kind of pipeline.
        """
        config = self.configure(seed=seed, **(options or {}))
        _refuse_generator(call)
        order = Order(
            width=width, height=height, seed=seed, call=call, on_progress=on_progress, alive=alive
        )
        return self.run(pipe, order, config)

    def passes(
        self,
        pipe: Any,
        *,
        width: int,
        height: int,
        options: Mapping[str, Any] | None = None,
        **call: Any,
    ) -> list[Pass]:
        """Return what a generation would run, without running it; see `hidiffusion.methods.cost`.

        Args:
            pipe: a diffusers pipeline.
            width: of the picture in pixels.
            height: of the picture in pixels.
            options: fields of `config_type`.
            **call: arguments of the pipeline.

        Raises:
            InvalidConfigError: an option or the size is not allowed.
        """
        order = Order(width=width, height=height, seed=0, call=call)
        return self.plan(pipe, order, self.configure(seed=0, **(options or {})))


def _refuse_generator(call: Mapping[str, Any]) -> None:
    if call.get("generator") is not None:
        raise InvalidConfigError(
            f"generator is {call['generator']!r}; generators are made from the seed: give seed= "
            "alone"
        )


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
