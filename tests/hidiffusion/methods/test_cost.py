"""What a generation costs is known before it is run."""

import json
from pathlib import Path

import pytest

from hidiffusion.methods import cost, registry
from hidiffusion.methods.passes import Pass
from tests.hidiffusion import tiny_models

COUNTED = Path(__file__).parents[3] / "benchmarks" / "results" / "flops.json"


def test_passes_are_those_that_run() -> None:
    pipe, calls = tiny_models.sd_pipeline(), []
    pipe.unet.register_forward_pre_hook(lambda *_: calls.append(None))
    for name, row in registry.METHODS.items():
        if row.models == "transformer":
            continue
        calls.clear()
        order = {"width": 128, "height": 128, "prompt": "abc", "num_inference_steps": 10}
        passes = registry.get(name).passes(pipe, **order)
        registry.get(name).generate(pipe, **order, seed=1, output_type="latent")
        assert len(calls) == sum(each.computed + each.pooled_calls for each in passes), name


def test_a_pass_counts_the_stages_of_its_schedule() -> None:
    pipe = tiny_models.sdxl_pipeline()
    order = {"width": 128, "height": 128, "num_inference_steps": 10}
    direct, fast, windows = (
        cost.flop(pipe, registry.get(name).passes(pipe, **order))
        for name in ("direct", "hidiffusion", "msw-msa")
    )
    assert fast < windows < direct
    one = registry.get("direct").passes(pipe, **order | {"num_inference_steps": 1})
    assert direct == 10 * cost.flop(pipe, one)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("scale", [2, 4])
def test_step_equivalents_are_near_the_counts(family: str, scale: int) -> None:
    """Within a third of every whole run that was counted."""
    native = {"sd15": 512, "sdxl": 1024}[family]
    sizes = json.loads(COUNTED.read_text())["families"][family]
    runs = sizes[f"{scale * native}x{scale * native}"]
    one = {"sd15": 0.80e12, "sdxl": 6.76e12}[family]
    for label, method in (("direct", "direct"), ("MSW-MSA", "windows"), ("both", "hidiffusion")):
        counted = sum(row["steps"] * row["flop"] for row in runs[label]) / one
        area = (scale * native) ** 2
        estimated = Pass(area, 1, 50, 50, native**2, draws=method).work
        assert estimated == pytest.approx(counted, rel=1 / 3), label
