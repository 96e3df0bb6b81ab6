"""The same numbers as the authors' program, in both precisions: reference/dimr/README.md."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import pytest
import torch
from torch import Tensor

from hidiffusion.dimr import (
    DiMRPipeline,
    DiMRTransformer,
    DPMSolverFastScheduler,
    TimeDependentLayerNorm,
    TimeDependentRMSNorm,
)
from hidiffusion.dimr.guidance import guidance_weight
from tests.hidiffusion.dimr import references
from tests.hidiffusion.dimr.references import INDEX, difference
from tests.hidiffusion.dimr.tiny import tiny_vae
from tests.hidiffusion.tiny.float32 import assert_meets

NETWORK, GUIDED, RUN, NORM = 6e-6, 2e-5, 5e-4, 3e-6


Result = TypeVar("Result")


def in_both(compute: Callable[[torch.dtype], Result]) -> tuple[Result, Result]:
    """Compute in float64 and in float32."""
    return compute(torch.float64), compute(torch.float32)


def pipeline(model: DiMRTransformer) -> DiMRPipeline:
    """Return a pipeline around a network, with the authors' solver."""
    pipe = DiMRPipeline(model, tiny_vae(), DPMSolverFastScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def evaluate(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the noise and maps of every stage under the reference's names."""
    case = references.tensors(name, dtype)
    model = references.network(INDEX[name]["weights"], dtype)
    result = model(case["in.x"], case["in.t"], case["in.y"])
    torch.testing.assert_close(result.sample, result.stages[-1], rtol=0, atol=0)
    condition = case["in.y"]
    ours = {}
    for number, stage in enumerate(model.stages):
        prefix = f"out.stage{number}."
        ours[f"out.eps.stage{number}"] = result.stages[number]
        ours[prefix + "embed"] = stage.embed(case["in.x"])
        if number:
            ours[prefix + "lowres_in"] = torch.cat(condition, dim=-1)
            ours[prefix + "upsampled"] = stage.cascade(condition, case["in.t"])
        output = stage(case["in.x"], case["in.t"], condition)
        ours[prefix + "out_norm"] = output.normed
        condition = output.features
        for block, features in enumerate(condition[1:]):
            ours[f"{prefix}block{block}"] = features
    return ours


@pytest.mark.parametrize("name", references.names("network_evaluation"))
def test_every_stage_gives_the_reference_noise_and_maps(name: str) -> None:
    case = references.tensors(name)
    exact, rounded = in_both(lambda dtype: evaluate(name, dtype))
    compared = [key for key in case if key.startswith("out.")]
    assert compared
    for key in compared:
        theirs = case[key]
        if key.startswith("out.stage0.block"):  # Token 0 is the class.
            theirs = theirs[:, 1:].unflatten(1, exact[key].shape[1:3])
        assert_meets(theirs, exact[key], rounded[key], NETWORK, key)


@pytest.mark.parametrize("name", references.names("cfg_call"))
@torch.no_grad()
def test_guidance_gives_the_reference_noise(name: str) -> None:
    case, settings = references.tensors(name), INDEX[name]
    constant = settings["cfg_power"] < 0
    scale = settings["cfg_scale"] + constant  # The authors' 0.4 is 1.4 here.
    power = None if constant else settings["cfg_power"]
    weight = guidance_weight(settings["t"], scale, power)
    assert weight == pytest.approx(case["out.effective_weight"].item(), abs=1e-6)

    def guided(dtype: torch.dtype) -> Tensor:
        given = references.tensors(name, dtype)
        pipe = pipeline(references.network(settings["weights"], dtype))
        timestep = torch.tensor(settings["t"] - 1)
        return pipe.predict_noise(given["in.x"], timestep, given["in.y"], scale, power)

    assert_meets(case["out.guided"], *in_both(guided), GUIDED)


class Run(NamedTuple):
    """A run of the solver: latents and label of every evaluation, and what it ends with."""

    latents: list[Tensor]
    labels: list[Tensor]
    end: Tensor


def run(name: str, dtype: torch.dtype) -> Run:
    """Draw what the reference drew."""
    case, settings = references.tensors(name, dtype), INDEX[name]
    pipe = pipeline(references.network(settings["weights"], dtype))
    latents, labels = [case["in.z"]], []

    def follow(_pipe: object, _step: int, timestep: Tensor, now: dict[str, Tensor]):  # type: ignore[no-untyped-def]
        labels.append(timestep + 1)
        latents.append(now["latents"])

    end = pipe(
        case["in.y"].tolist(),
        guidance_scale=1 + settings["cfg_scale"],
        num_inference_steps=settings["steps"],
        latents=case["in.z"],
        output_type="latent",
        callback_on_step_end=follow,
    ).images
    return Run(latents, labels, end)


@pytest.mark.parametrize("name", references.names("dpm_solver_sampling"))
def test_a_run_passes_through_the_reference_latents(name: str) -> None:
    case, settings = references.tensors(name), INDEX[name]
    exact, rounded = in_both(lambda dtype: run(name, dtype))
    assert len(exact.labels) == settings["evaluations"]
    for number, label in enumerate(exact.labels):
        theirs = case["out.eval_x"][number]
        assert_meets(theirs, exact.latents[number], rounded.latents[number], RUN, str(number))
        labels = label.expand(len(case["in.y"]))
        assert difference(labels, case["out.eval_t"][number]) <= 1e-3, number
    assert_meets(case["out.z"], exact.end, rounded.end, RUN)


@torch.no_grad()
def normalise(kind: str, width: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return what a norm makes of the reference's inputs, under the reference's names."""
    case = references.norm(kind, width, dtype)
    norm = {"rms": TimeDependentRMSNorm, "ln": TimeDependentLayerNorm}[kind](width).to(dtype)
    norm.load_state_dict(
        {key[6:]: value for key, value in case.items() if key.startswith("param.")}
    )
    ours = {"out.mixed_t": norm(case["in.x"], case["in.t"])}
    for number, time in enumerate(case["in.t"]):
        ours[f"out.t{number}"] = norm(case["in.x"][:2], time)
    for name, vector in norm.named_children():
        ours[f"out.value.{name}"] = vector(case["in.t"])
    return ours


@pytest.mark.parametrize("width", INDEX["norm_units"]["dims"])
@pytest.mark.parametrize("kind", ["rms", "ln"])
def test_a_norm_alone_gives_the_reference(kind: str, width: int) -> None:
    case = references.norm(kind, width)
    exact, rounded = in_both(lambda dtype: normalise(kind, width, dtype))
    for key, ours in exact.items():
        assert_meets(case[key], ours, rounded[key], NORM, key)
