"""Time one variant of a U-Net in this process; started by unet.py, never by hand.

It runs in two environments: the project's, and the authors' package's with its older diffusers.
So it imports only what both share, and finds `hidiffusion` wherever its interpreter has it. The
job comes as JSON on standard input; the answer is JSON on standard output.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel

sys.path.insert(0, str(Path(__file__).parent))
import models

STEPS = 50
#: A name by which the authors' package knows each family.
NAMES = {
    "sd15": "runwayml/stable-diffusion-v1-5",
    "sd21": "stabilityai/stable-diffusion-2-1-base",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}


class UNetPipeline(DiffusionPipeline):
    """A U-Net and its scheduler, which is all that the method needs."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)


def build(job: dict[str, Any]) -> UNetPipeline:
    """Build the model with seeded weights, so that every variant has the same ones."""
    torch.manual_seed(0)
    with torch.device(job["device"]):
        unet = models.build(job["family"], job["width"]).to(getattr(torch, job["dtype"]))
    pipe = UNetPipeline(unet, DDIMScheduler())
    pipe.register_to_config(_name_or_path=NAMES[job["family"]])
    pipe.scheduler.set_timesteps(STEPS)
    pipe._num_timesteps = STEPS
    return pipe


def apply(pipe: UNetPipeline, variant: str) -> Callable[[int], None]:
    """Apply the variant; return what must be done before a call at a given step."""
    if variant == "direct":
        return lambda _step: None
    from hidiffusion import apply_hidiffusion

    apply_hidiffusion(pipe)
    if variant == "compiled":
        pipe.unet.compile(fullgraph=True, dynamic=False)
    if variant != "authors":
        return lambda _step: None
    # The authors count steps in every patched module; setting the count saves running up to it.
    counters = [module for module in pipe.unet.modules() if hasattr(module, "max_timestep")]

    def set_counters(step: int) -> None:
        for module in counters:
            module.timestep = step

    return set_counters


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(call: Callable[[], object], job: dict[str, Any]) -> list[float]:
    """Return the milliseconds of each repeated call, warm-up left out.

    On a CPU they are processor time of all threads, so that other processes do not count.
    """
    clock = time.process_time if job["device"] == "cpu" else time.perf_counter
    milliseconds = []
    for _ in range(job["warmup"] + job["repeats"]):
        synchronize(job["device"])
        started = clock()
        call()
        synchronize(job["device"])
        milliseconds.append(1e3 * (clock() - started))
    return milliseconds[job["warmup"] :]


def unet_call(
    pipe: UNetPipeline, job: dict[str, Any], step: int, before: Callable[[int], None]
) -> Callable[[], object]:
    """Return the U-Net call of one step."""
    arguments = models.arguments(pipe.unet, job["height"], job["pixel_width"], job["batch"])
    # A copy is no view of the table, so any step of the run may be called by itself.
    sample, timestep = arguments.pop("sample"), pipe.scheduler.timesteps[step].clone()

    def call() -> None:
        before(step)
        # By place: the authors' package cannot find a sample that is given by name.
        pipe.unet(sample, timestep, **arguments)

    return call


def permutations(call: Callable[[], object]) -> Callable[[], object]:
    """Return what repeats every token permutation of a U-Net call, and nothing else of it."""
    from hidiffusion.unet import windows

    calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
    functions = {name: getattr(windows, name) for name in ("partition", "merge")}

    def recorder(function: Callable[..., object]) -> Callable[..., object]:
        def record(*arguments: Any) -> object:
            calls.append((function, arguments))
            return function(*arguments)

        return record

    for name, function in functions.items():
        setattr(windows, name, recorder(function))
    call()
    for name, function in functions.items():
        setattr(windows, name, function)

    def replay() -> None:
        for function, arguments in calls:
            function(*arguments)

    return replay


def peak_bytes(device: str) -> int:
    """Return the most memory used: allocated on a GPU, resident on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    pipe = build(job)
    weights = sum(parameter.double().abs().sum().item() for parameter in pipe.unet.parameters())
    before = apply(pipe, job["variant"])
    with torch.no_grad():
        calls = {step: unet_call(pipe, job, step, before) for step in job["steps"]}
        times = {step: timed(call, job) for step, call in calls.items()}
        peak = peak_bytes(job["device"])
        permuting = {}
        if job["variant"] == "ours":
            permuting = {step: timed(permutations(call), job) for step, call in calls.items()}
    answer = {
        "variant": job["variant"],
        "weights": weights,
        "milliseconds": {step: statistics.median(values) for step, values in times.items()},
        "permuting": {step: statistics.median(values) for step, values in permuting.items()},
        "peak_bytes": peak,
        "versions": {name: version(name) for name in ("torch", "diffusers")},
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
