"""The network: threads, graphs, half precision, sizes, and saving."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounter

from hidiffusion.dimr import DiMRTransformer
from hidiffusion.errors import InvalidConfigError
from tests.hidiffusion.dimr import references
from tests.hidiffusion.dimr.references import difference
from tests.hidiffusion.dimr.tiny import tiny_dimr

CLASSES = torch.tensor([1, 3])


@pytest.fixture(scope="module")
def model() -> DiMRTransformer:
    """A small network, not to be changed."""
    return tiny_dimr()


@torch.no_grad()
def test_threads_that_call_at_different_times_do_not_meet(model: DiMRTransformer) -> None:
    x = torch.randn(2, 4, 8, 8)
    times = [torch.tensor(float(label)) for label in range(20, 1000, 70)]
    alone = [model(x, time, CLASSES).sample for time in times]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda time: _call(model, x, time), times * 3))
    for ours, theirs in zip(together, alone * 3, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert difference(alone[0], alone[-1]) > 1e-3


@torch.no_grad()
def _call(model: DiMRTransformer, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = model(x, time, CLASSES).sample
    return result


@torch.no_grad()
def test_one_graph_for_all_times(model: DiMRTransformer) -> None:
    torch._dynamo.reset()
    graphs = CompileCounter()
    compiled = torch.compile(model, backend=graphs, fullgraph=True)
    x = torch.randn(2, 4, 8, 8)
    for label in (1000.0, 17.5, 1.0):
        time = torch.tensor(label)
        ours = compiled(x, time, CLASSES).sample
        torch.testing.assert_close(ours, model(x, time, CLASSES).sample)
    torch._dynamo.reset()
    assert graphs.frame_count == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    case = references.tensors("2r_batch3_mixed_t", torch.float32)
    model = references.network("weights_2r", dtype)
    ours = model(case["in.x"].to(dtype), case["in.t"], case["in.y"]).sample
    assert ours.dtype == dtype
    theirs = case["out.eps.stage1"]
    error = (ours.float() - theirs).square().mean().sqrt() / theirs.std()
    assert error < {torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]


@torch.no_grad()
def test_the_time_may_be_a_number_or_whole(model: DiMRTransformer) -> None:
    x = torch.randn(2, 4, 8, 8)
    wanted = model(x, torch.tensor([700.0, 700.0]), CLASSES).sample
    for time in (700, 700.0, torch.tensor(700), torch.tensor([700.0])):
        torch.testing.assert_close(model(x, time, CLASSES).sample, wanted)
    torch.testing.assert_close(model(x, 700, CLASSES, return_dict=False)[0], wanted)


@torch.no_grad()
def test_smaller_and_wide_latents_run_and_others_are_refused(model: DiMRTransformer) -> None:
    assert model.sample_size == (8, 8)
    assert model(torch.randn(2, 4, 4, 6), 5.0, CLASSES).sample.shape == (2, 4, 4, 6)
    with pytest.raises(InvalidConfigError, match="10x8 are larger than the 8x8"):
        model(torch.randn(2, 4, 10, 8), 5.0, CLASSES)
    with pytest.raises(InvalidConfigError, match="7x8 cannot be divided by 2"):
        model(torch.randn(2, 4, 7, 8), 5.0, CLASSES)


@torch.no_grad()
def test_a_saved_network_is_the_same(model: DiMRTransformer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = DiMRTransformer.from_pretrained(tmp_path)
    x = torch.randn(2, 4, 8, 8)
    assert difference(again(x, 5.0, CLASSES).sample, model(x, 5.0, CLASSES).sample) == 0
