"""The methods by name: one row each, one way to use them all.

    result = registry.get("hidiffusion-guided").generate(
        pipe, width=4096, height=4096, seed=7, prompt="a red guitar", band_end=0.5
    )
    result.images

`generate` runs every method on every kind of pipeline that it supports. Keywords that it does not
name are arguments of the pipeline, and options of the method; a word that is neither is refused.
Where a word is both, such as `guidance_scale`, it is the pipeline's, and the method's is given in
`options={...}`. What it returns is the pipeline's output, so `output_type` and the rest mean what
they mean there.

Methods of a single pass can also be applied by themselves:

    with registry.get("hidiffusion").patched(pipe, seed=7, t1_ratio=0.5):
        pipe("a red guitar", height=2048, width=2048)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from hidiffusion.errors import InvalidConfigError
from hidiffusion.methods import (
    diffuse_high,
    guided,
    refine,
    refresh,
    token_windows,
    upsample_guidance,
)
from hidiffusion.methods.check import check, nothing_more
from hidiffusion.methods.denoisers import denoiser
from hidiffusion.methods.generation import Generation, parameters
from hidiffusion.methods.passes import Around, Call, OnProgress, Pass, native_pixels, whole
from hidiffusion.options import nearest
from hidiffusion.unet.config import HiDiffusionConfig
from hidiffusion.unet.families import resolve
from hidiffusion.unet.sites import find_unet, structure

#: Applies a method of one pass to a pipeline, under its configuration, inside a `with` block.
Apply = Callable[[Any, Any], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table.

    Attributes:
        name: what clients ask for.
        summary: one line for people.
        config_type: frozen dataclass of its options, all with defaults, one of them `seed`.
        plan: returns the passes of a generation, given pipeline, `Call` and configuration; raises
            where the method cannot make the picture.
        draw: runs one pass, given the `Generation`, the configuration and what the pass before left
            (None in the first); returns what it leaves, and in the last the pipeline's output.
        check: raises for what else would fail later, given what `plan` is given.
        apply: applies a method of one pass inside a `with` block; None if it has several passes.
        min_scale: least side of a picture, in native sides, for which the method is made.
        min_steps: least number of steps of the schedule.
        starts_from_pictures: whether the pipeline must start from a picture, or have a sibling
            that does; a request's own picture has no place in it.
        models: what it draws with: "unet", "transformer" or "any".
    """

    name: str
    summary: str
    config_type: type[Any]
    plan: Callable[[Any, Call, Any], list[Pass]]
    draw: Callable[[Generation, Any, Tensor | None], Any]
    check: Callable[[Any, Call, Any], None] = nothing_more
    apply: Apply | None = None
    min_scale: float = 0.0
    min_steps: int = 1
    starts_from_pictures: bool = False
    models: str = "unet"

    @property
    def one_pass(self) -> bool:
        """Whether it is one run over one schedule of the pipeline's own scheduler."""
        return self.apply is not None

    @property
    def option_names(self) -> list[str]:
        """Names of all options, those that only Python can give included."""
        return [entry.name for entry in fields(self.config_type) if entry.name != "seed"]

    def configure(self, *, seed: int | tuple[int, ...] | None = None, **options: Any) -> Any:
        """Build the method's configuration.

        Raises:
            InvalidConfigError: an option is unknown or its value is not allowed.
        """
        for name, value in options.items():
            if name not in self.option_names:
                raise InvalidConfigError(
                    f"method {self.name} has no option {name!r} (given {value!r}); "
                    + nearest(name, self.option_names)
                )
        return self.config_type(seed=seed, **options)

    def patched(
        self,
        pipe: Any,
        *,
        seed: int | tuple[int, ...] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> AbstractContextManager[Any]:
        """Apply a method of a single pass inside a `with` block.

        Args:
            pipe: a diffusers pipeline.
            seed: the request's seed, or one for each sample; None takes the generator's.
            options: fields of `config_type`.
            **more: the same as keywords.

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
        return self.apply(pipe, self.configure(seed=seed, **{**(options or {}), **more}))

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
        around: Around = lambda _: nullcontext(),
        earlier: tuple[Tensor, ...] = (),
        **arguments: Any,
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
            around: gives what is entered around each pass, which it is told of; so a caller can
                put a pass aside between two steps and take it up there.
            earlier: `PassRun.earlier` of a pass of an equal generation, on the pipeline's device;
                the generation begins at that pass.
            **arguments: arguments of the pipeline, and options that the pipeline has no word for.

        Returns:
            The output of the last pass's pipeline: its `images` are pictures, or latents with
            `output_type="latent"`.

        Raises:
            InvalidConfigError: an argument, an option or the size is unknown or not allowed.
            UnsupportedModelError: the method does not know the model.
            UnsupportedPipelineError: the method cannot run this kind of pipeline.
            UnsupportedAutoencoderError: it goes through pictures, and the autoencoder is unknown.
            InterruptedGenerationError: the caller interrupted a pass before the last.
        """
        call = Call(
            width=width,
            height=height,
            seed=seed,
            on_progress=on_progress,
            alive=alive,
            around=around,
            earlier=earlier,
            **self._sorted(pipe, arguments, options),
        )
        generation = Generation(pipe, call, check(pipe, self, call))
        config = self.configure(seed=seed, **call.options)
        return generation.run(lambda running, before: self.draw(running, config, before))

    def passes(
        self,
        pipe: Any,
        *,
        width: int,
        height: int,
        options: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> list[Pass]:
        """Return what a generation would run, without running it.

        Args:
            pipe: a diffusers pipeline.
            width: of the picture in pixels.
            height: of the picture in pixels.
            options: fields of `config_type`.
            **arguments: as in `generate`.

        Raises:
            InvalidConfigError: an option or the size is not allowed.
        """
        given = self._sorted(pipe, arguments, options)
        call = Call(width=width, height=height, seed=0, **given)
        return self.plan(pipe, call, self.configure(**call.options))

    def _sorted(
        self, pipe: Any, arguments: Mapping[str, Any], options: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Tell the pipeline's arguments from the method's options among a caller's keywords."""
        own = set(self.option_names) - parameters(pipe)
        mine = {name: each for name, each in arguments.items() if name in own}
        both = [name for name in mine if name in (options or {})]
        if both:
            raise InvalidConfigError(f"{both[0]} is given twice, as a keyword and in options")
        theirs = {name: each for name, each in arguments.items() if name not in own}
        mine |= options or {}
        # A fraction of the run that the caller gives to a ControlNet is meant; ours is a default.
        if theirs.get("control_guidance_end") is not None and "control_ratio" in self.option_names:
            mine = {"control_ratio": 1.0} | mine
        return {"arguments": theirs, "options": mine}


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """Settings of the direct method: the unpatched model has none but the seed it ignores.

    Attributes:
        seed: ignored.
        native_size: side of the training pictures in latents; None reads the model's.
    """

    seed: int | tuple[int, ...] | None = None
    native_size: int | None = None


def _single(name: str, summary: str, config_type: type[Any], draws: str) -> Method:
    """Return the row of a method that only changes how the model computes."""

    def plan(pipe: Any, call: Call, config: Any) -> list[Pass]:
        native = native_pixels(pipe, config.native_size)
        return [whole(pipe, call, call.width, call.height, draws=draws, native=native)]

    def known(pipe: Any, call: Call, config: Any) -> None:
        del call
        if draws != "direct":
            resolve(config, structure(find_unet(pipe)))

    def apply(pipe: Any, config: Any) -> AbstractContextManager[Any]:
        return denoiser(pipe, draws, config)

    return Method(
        name=name,
        summary=summary,
        config_type=config_type,
        plan=plan,
        draw=once(apply),
        check=known,
        apply=apply,
        models="any" if draws == "direct" else "unet",
    )


def once(apply: Apply) -> Callable[[Generation, Any, Tensor | None], Any]:
    """Return the drawing of a method that runs the pipeline once, as it is applied."""

    def draw(generation: Generation, config: Any, before: Tensor | None) -> Any:
        del before
        return generation.draw(lambda pipe: apply(pipe, config))

    return draw


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
        draw=once(upsample_guidance.upsample_guided),
        check=upsample_guidance.check,
        apply=upsample_guidance.upsample_guided,
        min_scale=upsample_guidance.MIN_SCALE,
    ),
    Method(
        name="diffuse-high",
        summary="a native picture, enlarged and drawn again stage by stage under its wavelet band",
        config_type=diffuse_high.DiffuseHighConfig,
        plan=diffuse_high.plan,
        draw=diffuse_high.draw,
        check=diffuse_high.check,
        min_scale=diffuse_high.MIN_SCALE,
        starts_from_pictures=True,
    ),
    Method(
        name="hidiffusion-guided",
        summary="HiDiffusion with its low band held to a native picture",
        config_type=guided.GuidedConfig,
        plan=guided.plan,
        draw=guided.draw,
        check=guided.check,
        min_scale=guided.MIN_SCALE,
    ),
    Method(
        name="hidiffusion-refresh",
        summary="native size for most steps, then enlarged and finished with windowed attention",
        config_type=refresh.RefreshConfig,
        plan=refresh.plan,
        draw=refresh.draw,
        check=refresh.check,
        min_scale=refresh.MIN_SCALE,
        min_steps=refresh.MIN_STEPS,
        starts_from_pictures=True,
    ),
    Method(
        name="positions",
        models="transformer",
        summary="a transformer with positions brought back into the trained range",
        config_type=token_windows.PositionsConfig,
        plan=token_windows.plan_positions,
        draw=once(token_windows.apply),
        apply=token_windows.apply,
        min_scale=token_windows.MIN_SCALE,
    ),
    Method(
        name="token-windows",
        models="transformer",
        summary="a transformer with scaled positions, then attention in windows of native size",
        config_type=token_windows.TokenWindowsConfig,
        plan=token_windows.plan_windows,
        draw=once(token_windows.apply),
        apply=token_windows.apply,
        min_scale=token_windows.MIN_SCALE,
    ),
    Method(
        name="refine",
        models="transformer",
        summary="a transformer's native picture, enlarged and finished in windows under its band",
        config_type=refine.RefineConfig,
        plan=refine.plan,
        draw=refine.draw,
        check=refine.check,
        min_scale=token_windows.MIN_SCALE,
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
        hint = nearest(name, METHODS)
        raise InvalidConfigError(f"method is {name!r}; {hint}") from None
