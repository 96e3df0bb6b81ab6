"""What is loaded into a pipeline does the same before and after the method is applied."""

import pytest
import torch

from hidiffusion import apply_hidiffusion, remove_hidiffusion
from tests.hidiffusion.pipelines import pipeline_kinds as kinds
from tests.hidiffusion.pipelines.pipeline_cells import CELLS
from tests.hidiffusion.pipelines.pipeline_kinds import CONFIGS, Cell

LOADED = ("IP-Adapter", "LoRA", "LoRA, fused", "LoRA, unloaded", "Textual inversion")
LOADING_CELLS = [cell for cell in CELLS if cell.kind in LOADED and cell.family != "SD 2.1"]


@pytest.mark.parametrize("cell", LOADING_CELLS, ids=str)
def test_loading_after_applying_is_loading_before(cell: Cell) -> None:
    before = cell.build()
    cell.load(before)
    direct = cell.call(before)
    apply_hidiffusion(before)
    after = cell.build()
    apply_hidiffusion(after)
    cell.load(after)
    assert torch.equal(cell.call(after), cell.call(before))
    remove_hidiffusion(after)
    assert torch.equal(cell.call(after), direct)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_lora_on_the_down_sampler_follows_it(family: str) -> None:
    """Layers beside the convolution must shrink with it: then they equal layers fused into it."""
    cell = next(cell for cell in CELLS if (cell.kind, cell.family) == ("LoRA", family))
    beside, fused = cell.build(), cell.build()
    kinds.load_lora(beside)
    kinds.load_fused_lora(fused)
    for pipe in (beside, fused):
        apply_hidiffusion(pipe)
    ours, expected = cell.call(beside), cell.call(fused)
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()
    pipe = cell.build()
    apply_hidiffusion(pipe)
    assert (cell.call(pipe) - expected).abs().max() > 1e-2 * expected.abs().max()
