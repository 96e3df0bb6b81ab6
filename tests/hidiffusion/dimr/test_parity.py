"""The same numbers as the authors' program, in both precisions: reference/dimr/README.md."""

from types import SimpleNamespace

import pytest
import torch

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

NETWORK, GUIDED, RUN, NORM = 6e-6, 2e-5, 5e-4, 3e-6


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both precisions in which the reference can be met."""
    result: torch.dtype = request.param
    return result


def pipeline(model: DiMRTransformer) -> DiMRPipeline:
    """Return a pipeline around a network, with the authors' solver."""
    pipe = DiMRPipeline(model, tiny_vae(), DPMSolverFastScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", references.names("network_evaluation"))
@torch.no_grad()
def test_every_stage_gives_the_reference_noise_and_maps(name: str, dtype: torch.dtype) -> None:
    case = references.tensors(name, dtype)
    model = references.network(INDEX[name]["weights"], dtype)
    result = model(case["in.x"], case["in.t"], case["in.y"])
    torch.testing.assert_close(result.sample, result.stages[-1], rtol=0, atol=0)
    condition = case["in.y"]
    for number, stage in enumerate(model.stages):
        prefix = f"out.stage{number}."
        ours = {f"out.eps.stage{number}": result.stages[number]}
        ours[prefix + "embed"] = stage.embed(case["in.x"])
        if number:
            ours[prefix + "lowres_in"] = torch.cat(condition, dim=-1)
            ours[prefix + "upsampled"] = stage.cascade(condition, case["in.t"])
        output = stage(case["in.x"], case["in.t"], condition)
        ours[prefix + "out_norm"] = output.normed
        condition = output.features
        for block, features in enumerate(condition[1:]):
            ours[f"{prefix}block{block}"] = features
        for key in ours.keys() & case.keys():
            theirs = case[key]
            if number == 0 and ".block" in key:  # Token 0 is the class.
                theirs = theirs[:, 1:].unflatten(1, ours[key].shape[1:3])
            assert difference(ours[key], theirs) <= NETWORK, key


@pytest.mark.parametrize("name", references.names("cfg_call"))
@torch.no_grad()
def test_guidance_gives_the_reference_noise(name: str, dtype: torch.dtype) -> None:
    case, settings = references.tensors(name, dtype), INDEX[name]
    constant = settings["cfg_power"] < 0
    scale = settings["cfg_scale"] + constant  # The authors' 0.4 is 1.4 here.
    power = None if constant else settings["cfg_power"]
    weight = guidance_weight(settings["t"], scale, power)
    assert weight == pytest.approx(case["out.effective_weight"].item(), abs=1e-6)
    timestep = torch.tensor(settings["t"] - 1)
    pipe = pipeline(references.network(settings["weights"], dtype))
    guided = pipe.predict_noise(case["in.x"], timestep, case["in.y"], scale, power)
    assert difference(guided, case["out.guided"]) <= GUIDED


@pytest.mark.parametrize("name", references.names("dpm_solver_sampling"))
def test_a_run_passes_through_the_reference_latents(name: str, dtype: torch.dtype) -> None:
    case, settings = references.tensors(name, dtype), INDEX[name]
    pipe = pipeline(references.network(settings["weights"], dtype))
    seen = [SimpleNamespace(latents=case["in.z"], label=None)]

    def follow(_pipe: object, _step: int, timestep: torch.Tensor, now: dict[str, torch.Tensor]):  # type: ignore[no-untyped-def]
        seen[-1].label = timestep + 1
        seen.append(SimpleNamespace(latents=now["latents"], label=None))

    end = pipe(
        case["in.y"].tolist(),
        guidance_scale=1 + settings["cfg_scale"],
        num_inference_steps=settings["steps"],
        latents=case["in.z"],
        output_type="latent",
        callback_on_step_end=follow,
    ).images
    assert len(seen) - 1 == settings["evaluations"]
    for number, point in enumerate(seen[:-1]):
        assert difference(point.latents, case["out.eval_x"][number]) <= RUN, number
        labels = point.label.expand(len(case["in.y"]))
        assert difference(labels, case["out.eval_t"][number]) <= 1e-3, number
    assert end.dtype == dtype
    assert difference(end, case["out.z"]) <= RUN


@pytest.mark.parametrize("width", INDEX["norm_units"]["dims"])
@pytest.mark.parametrize("kind", ["rms", "ln"])
@torch.no_grad()
def test_a_norm_alone_gives_the_reference(kind: str, width: int, dtype: torch.dtype) -> None:
    case = references.tensors("norm_units", dtype)
    case = {
        key.removeprefix(f"{kind}{width}."): value
        for key, value in case.items()
        if key.startswith(f"{kind}{width}.")
    }
    norm = {"rms": TimeDependentRMSNorm, "ln": TimeDependentLayerNorm}[kind](width).to(dtype)
    norm.load_state_dict(
        {key[6:]: value for key, value in case.items() if key.startswith("param.")}
    )
    assert difference(norm(case["in.x"], case["in.t"]), case["out.mixed_t"]) <= NORM
    for number, time in enumerate(case["in.t"]):
        assert difference(norm(case["in.x"][:2], time), case[f"out.t{number}"]) <= NORM
    for name, vector in norm.named_children():
        assert difference(vector(case["in.t"]), case[f"out.value.{name}"]) <= NORM
