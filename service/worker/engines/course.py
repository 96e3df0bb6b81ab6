"""The course of one pass: what its steps leave behind, and how to take it up in the middle.

A pipeline call cannot be entered in the middle, but it can be made to hurry: given the same
request, it prepares everything as it did the first time, and then, for the steps that are done,
the model is not called and the scheduler hands the latents on as they are. At the last of them the
scheduler, the generator and the latents get the state they had. No code of a pipeline is copied,
and what is prepared before the first step (embeddings, timesteps, plans of a method) is real.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook

from hidiffusion.methods.generation.call import PassRun, Progress
from hidiffusion.transformer.latents import layout_like
from service.worker.job.snapshot import Snapshot
from service.worker.weights.compiling import uncompiled
from service.worker.weights.warm import network_of

_HOOK = "hidiffusion_service_fast_forward"


class Course:
    """Stands in front of a scheduler's `step` for one call of a pipeline.

    Args:
        run: the pass. Where it needs more of the passes before it than they left, and where it
            draws a batch, the course stands aside and has no snapshots.
        begin: where to take the pass up; None: at its beginning.
    """

    def __init__(self, run: PassRun, begin: Snapshot | None) -> None:
        self._run = run
        self._pipe = run.pipe
        self._scheduler = run.pipe.scheduler
        self._generator = run.generator
        self._resumable = run.earlier is not None and isinstance(run.generator, torch.Generator)
        self._begin = begin
        self._initial: dict[str, Any] | None = None
        self._taken = 0
        self._hurry = contextlib.ExitStack()

    @property
    def done_before(self) -> int:
        """Steps of the pass that an earlier attempt has done."""
        return 0 if self._begin is None else self._begin.stage_step

    @contextlib.contextmanager
    def watched(self) -> Iterator["Course"]:
        """Call the pipeline inside the block, once."""
        if not self._resumable:
            yield self
            return
        step = self._scheduler.step
        self._scheduler.step = functools.wraps(step)(functools.partial(self._step, step))
        if self._begin is not None:
            self._pass_over(network_of(self._pipe), _SkipDenoiser())  # type: ignore[no-untyped-call]
            if isinstance(control := getattr(self._pipe, "controlnet", None), torch.nn.Module):
                self._pass_over(control, _SkipControlNet())  # type: ignore[no-untyped-call]
            self._hurry.enter_context(uncompiled())
        try:
            yield self
        finally:
            del self._scheduler.step
            self._hurry.close()

    def snapshot(self, progress: Progress) -> Snapshot | None:
        """The state after a step, taken before the next begins; None if not resumable.

        Tensors are not copied: schedulers replace theirs and never write into them.
        """
        if self._initial is None or self._run.earlier is None:
            return None
        return Snapshot(
            step=progress.step,
            stage=progress.pass_index,
            stage_step=progress.pass_step,
            latents=progress.latents,
            scheduler=changed(self._scheduler, self._initial),
            generator=self._generator.get_state(),
            earlier=self._run.earlier,
        )

    def _pass_over(self, module: torch.nn.Module, hook: ModelHook) -> None:
        registry = HookRegistry.check_if_exists_or_initialize(module)
        registry.register_hook(hook, _HOOK)
        self._hurry.callback(registry.remove_hook, _HOOK, recurse=False)

    def _step(self, step: Any, output: Any, timestep: Any, sample: Any, **options: Any) -> Any:
        if self._initial is None:
            self._initial = dict(vars(self._scheduler))
        if self._taken == self.done_before:
            return step(output, timestep, sample, **options)
        self._taken += 1
        if self._taken < self.done_before:
            return (sample,)
        assert self._begin is not None
        self._hurry.close()
        for name, value in self._begin.scheduler.items():
            setattr(self._scheduler, name, value)
        self._generator.set_state(self._begin.generator)
        return (layout_like(self._pipe, self._begin.latents).pack(self._begin.latents),)


def changed(scheduler: Any, initial: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduler has changed in itself since its attributes were `initial`, by attribute."""
    return {
        name: [*value] if isinstance(value, list) else value
        for name, value in vars(scheduler).items()
        if name != "step" and (_is_plain(value) or value is not initial.get(name))
    }


class _SkipDenoiser(ModelHook):
    """Answers for a model whose prediction nobody will look at: with zeros of its shape."""

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Compute nothing."""
        names = ("hidden_states", "x", "sample")
        sample = args[0] if args else next(kwargs[name] for name in names if name in kwargs)
        if isinstance(sample, list):
            return ([torch.zeros_like(each) for each in sample],)
        return (torch.zeros_like(sample),)


class _SkipControlNet(ModelHook):
    """Answers for ControlNets to a U-Net that will not listen: with nothing."""

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Compute nothing."""
        return None, None


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | list | None)
