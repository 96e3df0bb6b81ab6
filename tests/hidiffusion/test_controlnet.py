"""A ControlNet beside the method: how long it takes part, and what it costs when it does not."""

import copy
import pickle
from dataclasses import replace

import accelerate
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from hidiffusion import HiDiffusionConfig, apply_hidiffusion, remove_hidiffusion
from hidiffusion.upstream import controlnets
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import Cell, Sides

#: SD 2.1 has the structure of SD 1.5.
CONTROLLED = [cell for cell in CELLS if "ControlNet" in cell.kind and cell.family != "SD 2.1"]
SDXL = {cell.kind: cell for cell in CONTROLLED if cell.family == "SDXL"}
PLAIN = SDXL["ControlNet"]


class Calls:
    """Counts how often each ControlNet of a pipeline does its work, inside a `with` block."""

    def __init__(self, pipe: object) -> None:
        self.nets = list(controlnets(pipe))

    def __enter__(self) -> list[int]:
        counts = [0] * len(self.nets)

        def count(index: int) -> None:
            counts[index] += 1

        self.handles = [
            net.mid_block.register_forward_hook(lambda *_, index=index: count(index))
            for index, net in enumerate(self.nets)
        ]
        return counts

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


@pytest.mark.parametrize("cell", CONTROLLED, ids=str)
def test_a_controlnet_works_only_while_it_takes_part(cell: Cell) -> None:
    """Three of five steps; the authors leave the rest out too."""
    pipe = apply_hidiffusion(cell.build())
    with Calls(pipe) as counts:
        cell.call(pipe)
    assert counts == [3] * len(counts)
    remove_hidiffusion(pipe)
    with Calls(pipe) as counts:
        cell.call(pipe)
    assert counts == [5] * len(counts)
    assert all("forward" not in vars(net) for net in controlnets(pipe))


@pytest.mark.parametrize(("ratio", "calls"), [(0.0, 0), (0.2, 1), (1.0, 5)])
def test_the_part_of_the_run_can_be_set(ratio: float, calls: int) -> None:
    pipe = PLAIN.build()
    apply_hidiffusion(pipe, config=HiDiffusionConfig(control_ratio=ratio))
    with Calls(pipe) as counts:
        PLAIN.call(pipe)
    assert counts == [calls]


def test_without_raunet_a_controlnet_is_left_alone() -> None:
    pipe = apply_hidiffusion(PLAIN.build(), raunet=False)
    with Calls(pipe) as counts:
        PLAIN.call(pipe)
    assert counts == [5]


@pytest.mark.parametrize(
    ("kind", "shrunk"),
    [("ControlNet", 5), ("ControlNet, image to image", 4), ("ControlNet, inpainting", 4)],
)
def test_sdxl_shrinks_longer_only_where_control_is_all_it_starts_from(
    kind: str, shrunk: int
) -> None:
    """Half of the steps instead of 40 %, without an initial image (authors' code)."""
    ten_steps = replace(SDXL[kind], arguments=SDXL[kind].arguments | {"num_inference_steps": 10})
    pipe = apply_hidiffusion(ten_steps.build())
    with Sides(pipe.unet) as seen:
        ten_steps.call(pipe)
    assert seen.seen == (2,) * shrunk + (4,) * (10 - shrunk)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_is_independent(copied) -> None:
    cell = next(cell for cell in CONTROLLED if cell.family == "SD 1.5")
    pipe = apply_hidiffusion(cell.build())
    expected = cell.call(pipe)
    twin = copied(pipe)
    remove_hidiffusion(pipe)
    with Calls(twin) as counts, Calls(pipe) as others:
        assert torch.equal(cell.call(twin), expected)
    assert (counts, others) == ([3], [0])
    remove_hidiffusion(twin)
    assert torch.equal(cell.call(twin), cell.call(pipe))


def test_offloading_may_come_before_or_after() -> None:
    cpu = torch.device("cpu")
    before, after = PLAIN.build(), apply_hidiffusion(PLAIN.build())
    direct, expected = PLAIN.call(before), PLAIN.call(after)
    accelerate.cpu_offload_with_hook(before.controlnet, cpu)
    accelerate.cpu_offload_with_hook(after.controlnet, cpu)
    apply_hidiffusion(before)
    for pipe in (before, after):
        with Calls(pipe) as counts:
            assert torch.equal(PLAIN.call(pipe), expected)
        assert counts == [3]
        remove_hidiffusion(pipe)
        assert torch.equal(PLAIN.call(pipe), direct)
        accelerate.hooks.remove_hook_from_module(pipe.controlnet, recurse=True)
        assert torch.equal(PLAIN.call(pipe), direct)


def test_one_controlnet_for_two_unets_follows_the_one_that_runs() -> None:
    first, second = PLAIN.build(), PLAIN.build()
    second.controlnet = first.controlnet
    apply_hidiffusion(first)
    apply_hidiffusion(second, config=HiDiffusionConfig(control_ratio=0.2))
    for pipe, calls in ((first, 3), (second, 1), (first, 3)):
        with Calls(pipe) as counts:
            PLAIN.call(pipe)
        assert counts == [calls]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_controlnet_is_one_graph_and_its_empty_answer_another() -> None:
    torch._dynamo.reset()
    pipe = apply_hidiffusion(PLAIN.build())
    expected = PLAIN.call(pipe)
    counter = CompileCounter()
    pipe.controlnet.compile(backend=counter, fullgraph=True, dynamic=False)
    torch.testing.assert_close(PLAIN.call(pipe), expected)
    assert counter.frame_count == 2
