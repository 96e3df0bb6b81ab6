"""A method: what a row of the registry says, and the one way to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from hidiffusion.errors import InvalidConfigError
from hidiffusion.methods.generation.call import Around, Call, OnProgress
from hidiffusion.methods.generation.check import check, nothing_more
from hidiffusion.methods.generation.generation import Generation, parameters
from hidiffusion.methods.generation.passes import Pass, native_pixels, native_sides, whole
from hidiffusion.options import nearest

#: Least side of a picture, in native sides, for which one of native size has something else to say
#: and positions reach far beyond those that were trained.
BEYOND_NATIVE = 1.25

#: Applies a method of one pass to a pipeline, under its configuration, inside a `with` block.
Apply = Callable[[Any, Any], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table.

    Attributes:
        name: what clients ask for.
        summary: one line for people.
        config_type: frozen dataclass of its options, all with defaults, among them `seed` and
            `native_size`.
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
            on_progress: told of each step over all passes; an exception ends the generation.
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
        return self.planned(pipe, call, self.configure(**call.options))

    def planned(self, pipe: Any, call: Call, config: Any) -> list[Pass]:
        """Return the passes of a call.

        Raises:
            InvalidConfigError: the picture is too small for the method, or the steps are too few.
        """
        native = native_pixels(pipe, config.native_size)
        sides = native_sides(call, native)
        if sides < self.min_scale:
            raise InvalidConfigError(
                f"{call.width}x{call.height} is {sides:.2f} times the native {native}x{native}; "
                f"{self.name} needs {self.min_scale:g} times or more: ask for a larger picture, or "
                "use the method direct"
            )
        return self.plan(pipe, call, config)

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


def one_pass(
    apply: Apply, draws: Callable[[Any], str], costs: Callable[[Pass, Any], Pass], **row: Any
) -> Method:
    """Return the row of a method that runs the pipeline once, as it is applied.

    Args:
        apply: applies the method.
        draws: `Pass.draws` of a configuration.
        costs: adds to the pass what else it computes under a configuration.
        **row: the other fields of `Method`.
    """

    def plan(pipe: Any, call: Call, config: Any) -> list[Pass]:
        native = native_pixels(pipe, config.native_size)
        only = whole(pipe, call, call.width, call.height, draws=draws(config), native=native)
        return [costs(only, config)]

    def draw(generation: Generation, config: Any, before: Tensor | None) -> Any:
        del before
        return generation.draw(lambda pipe: apply(pipe, config))

    return Method(plan=plan, draw=draw, apply=apply, **row)
