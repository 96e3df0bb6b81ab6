"""Whole runs with the authors' numbers: here a step works on what the steps before it made.

The authors count steps in their modules, we derive the step from the timestep; over a whole run
both must give the same schedule. ControlNet's part of the method is visible only in a pipeline.
"""

import pytest
import torch

from tests.hidiffusion.reference import cases, models
from tests.hidiffusion.test_parity import TOLERANCE, Golden, apply, difference, marked

#: diffusers advises another offset of the timesteps; the reference ran with its default.
pytestmark = pytest.mark.filterwarnings("ignore:The configuration file of this scheduler")


@pytest.mark.parametrize("case", marked(cases.RUNS))
def test_a_whole_run_equals_the_authors(case: cases.Case) -> None:
    golden = Golden(case)
    pipe, arguments = models.run(case)
    apply(pipe, case)
    outputs: list[torch.Tensor] = []
    sizes: list[tuple[int, ...]] = []
    pipe.unet.register_forward_hook(
        lambda _module, _arguments, output: outputs.append(models.keep(output[0]))
    )
    pipe.unet.mid_block.register_forward_pre_hook(
        lambda _module, arguments: sizes.append(tuple(arguments[0].shape[-2:]))
    )
    latents = models.keep(pipe(**arguments).images)
    for step in case.steps:
        assert sizes[step] == golden.mid_block[f"step {step}"], step
        assert difference(outputs[step], golden.tensors[f"step {step}"]) <= TOLERANCE, step
    assert difference(latents, golden.tensors["latents"]) <= TOLERANCE
