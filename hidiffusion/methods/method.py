"""What a method is: its options, its passes, and one `generate` for all kinds of pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, Protocol

from torch import Tensor

from hidiffusion.errors import InvalidConfigError
from hidiffusion.knobs import schema
from hidiffusion.methods.passes import Around, OnProgress, Order, Pass


class Apply(Protocol):
    """Applies a method to a pipeline inside a `with` block and takes it back at its end."""

    def __call__(self, pipe: Any, config: Any) -> AbstractContextManager[Any]:
        """Return the `with` block for a pipeline and an instance of the method's config type."""


#: Returns the passes of a generation; raises where the method cannot make the picture.
Planner = Callable[[Any, Order, Any], list[Pass]]
#: Draws a picture and returns the output of the last pass.
Generate = Callable[[Any, Order, Any], Any]


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
        """Whether it is one run over one schedule of the pipeline's own scheduler."""
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
        around: Around = lambda _: nullcontext(),
        earlier: tuple[Tensor, ...] = (),
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
            around: gives what is entered around each pass, which it is told of; so a caller can
                put a pass aside between two steps and take it up there.
            earlier: `Run.earlier` of a pass of an equal generation, on the pipeline's device; the
                generation begins at that pass.
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
            width=width,
            height=height,
            seed=seed,
            call=call,
            on_progress=on_progress,
            alive=alive,
            around=around,
            earlier=earlier,
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
