"""Run the authors' package on the cases and store its outputs beside this file.

Runs in an environment of its own (requirements.txt), never in the project's: the authors'
package needs diffusers 0.35.2. See README.md for the commands.
"""

import argparse
import itertools
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

from hidiffusion import apply_hidiffusion

sys.path.append(str(Path(__file__).parent.parent))
from reference import cases, models

FOLDER = Path(__file__).parent / "golden"


class FixedShifts:
    """Stands in for torch.rand: the next window shift of the fixed sequence.

    The authors draw once for each windowed attention, in the order of execution, and cut [0, 1]
    into quarters.
    """

    def __init__(self) -> None:
        self.step = 0
        self.block = 0

    def start(self, step: int) -> None:
        self.step, self.block = step, 0

    def __call__(self, *shape: int, **_: object) -> torch.Tensor:
        value = (cases.shift(self.step, self.block) + 0.5) / 4
        self.block += 1
        return torch.full(shape, value)


class MidBlockSide:
    """Records the height and width of the mid-block's map at the latest call."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self.size = (0, 0)
        unet.mid_block.register_forward_pre_hook(self._record)

    def _record(self, _module: torch.nn.Module, arguments: tuple) -> None:
        self.size = tuple(arguments[0].shape[-2:])


def run_unet(case: cases.Case, shifts: FixedShifts) -> tuple[dict, dict]:
    """Call the U-Net at every step in turn, as a pipeline would; keep the case's steps."""
    pipe = models.pipeline(case)
    side = MidBlockSide(pipe.unet)
    tensors, sizes = {}, {}
    with torch.no_grad():
        first = pipe.scheduler.timesteps[0]
        direct = models.inputs(case, 0)
        tensors["direct"] = models.keep(pipe.unet(timestep=first, **direct).sample)
        apply_hidiffusion(pipe, apply_raunet=case.raunet, apply_window_attn=case.windows)
        for step, timestep in enumerate(pipe.scheduler.timesteps[: max(case.steps) + 1]):
            shifts.start(step)
            arguments = models.inputs(case, step)
            output = pipe.unet(arguments.pop("sample"), timestep, **arguments).sample
            if step in case.steps:
                tensors[f"step {step}"] = models.keep(output)
                sizes[f"step {step}"] = side.size
    return tensors, sizes


def run_pipeline(case: cases.Case, shifts: FixedShifts) -> tuple[dict, dict]:
    """Run a whole pipeline; keep the U-Net's output at the case's steps and the final latents."""
    pipe, arguments = models.run(case)
    apply_hidiffusion(pipe, apply_raunet=case.raunet, apply_window_attn=case.windows)
    side = MidBlockSide(pipe.unet)
    tensors, sizes = {}, {}
    steps = itertools.count()

    def start(_module: torch.nn.Module, _arguments: tuple) -> None:
        shifts.start(next(steps))

    def record(_module: torch.nn.Module, _arguments: tuple, output: tuple) -> None:
        if shifts.step in case.steps:
            tensors[f"step {shifts.step}"] = models.keep(output[0])
            sizes[f"step {shifts.step}"] = side.size

    pipe.unet.register_forward_pre_hook(start)
    pipe.unet.register_forward_hook(record)
    tensors["latents"] = models.keep(pipe(**arguments).images)
    return tensors, sizes


def store(case: cases.Case, tensors: dict, sizes: dict, folder: Path) -> None:
    metadata = {"mid_block": json.dumps(sizes)}
    metadata |= {name: version(name) for name in ("torch", "diffusers", "hidiffusion")}
    folder.mkdir(exist_ok=True, parents=True)
    save_file(tensors, folder / f"{case.name}.safetensors", metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    torch.rand = shifts = FixedShifts()
    for produce, table in ((run_unet, cases.CASES), (run_pipeline, cases.RUNS)):
        for case in table:
            if only in case.name:
                started = time.perf_counter()
                store(case, *produce(case, shifts), FOLDER)
                seconds = time.perf_counter() - started
                sys.stdout.write(f"{case.name}: {seconds:.1f} s\n")


if __name__ == "__main__":
    main()
