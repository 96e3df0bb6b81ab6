"""What a generation costs is known before it is run."""

import json
from pathlib import Path

import pytest

from benchmarks.network import cost
from hidiffusion.methods import registry
from hidiffusion.methods.generation.passes import Pass
from tests.hidiffusion.tiny import models as tiny_models
from tests.hidiffusion.tiny.transformer_pipelines import pipeline

COUNTED = Path(__file__).parents[2] / "benchmarks" / "results" / "flops.json"


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
    for label, method in (("direct", "direct"), ("MSW-MSA", "msw-msa"), ("both", "hidiffusion")):
        counted = sum(row["steps"] * row["flop"] for row in runs[label]) / one
        area = (scale * native) ** 2
        estimated = Pass(area, 1, 50, 50, native**2, draws=method).work
        assert estimated == pytest.approx(counted, rel=1 / 3), label


def test_the_counts_of_transformers_follow_the_power_law() -> None:
    """Progress estimates are within a third of the documented counts."""
    document = json.loads(COUNTED.with_name("transformer-flops.json").read_text())["calls"]
    for name, entry in document.items():
        native = entry["1024"]["full"]
        for side, windows in ((2048, "2x2"), (4096, "4x4")):
            for label, draws in (("full", "positions"), (windows, "token-windows")):
                if name.startswith("Flux.2") and draws == "positions":
                    continue  # three quarters of it are linear layers at native size
                counted = entry[str(side)][label] / native
                one = Pass(side, side, 1, 1, 1024**2, draws=draws).work
                assert one == pytest.approx(counted, rel=1 / 3), (name, side, label)


def test_a_tiny_transformer_is_counted_as_it_runs() -> None:
    """`refine` is its native calls and its windowed ones."""
    pipe = pipeline("flux")
    order = {"width": 256, "height": 256, "num_inference_steps": 6}
    small, large = registry.get("refine").passes(pipe, **order)
    count = cost.flop(pipe, [small, large], text=5)
    assert count == cost.flop(pipe, [small], text=5) + cost.flop(pipe, [large], text=5)
    direct = cost.flop(pipe, registry.get("direct").passes(pipe, **order), text=5)
    assert large.calls == 2
    assert cost.flop(pipe, [large], text=5) < direct / 3
