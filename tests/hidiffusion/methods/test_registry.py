"""Every method is found by name and used in one way."""

from typing import Any

import pytest
import torch

from hidiffusion import HiDiffusionConfig, InvalidConfigError
from hidiffusion.methods import registry
from hidiffusion.methods.generation.call import Progress
from tests.hidiffusion.tiny import models as tiny_models

#: Methods for U-Nets, of one pass and of several, in the table's order.
ONE_PASS = ["direct", "hidiffusion", "raunet", "msw-msa", "upsample-guidance"]
SEVERAL = ["diffuse-high", "hidiffusion-guided", "hidiffusion-refresh"]
#: Methods for transformers.
TRANSFORMERS = ["positions", "token-windows", "refine"]


def _draw(pipe: Any, name: str, **changes: Any) -> torch.Tensor:
    arguments = {"prompt": "abc", "num_inference_steps": 4, "output_type": "latent", "seed": 3}
    size = {"width": 144, "height": 96}
    return registry.get(name).generate(pipe, **(arguments | size | changes)).images


def test_the_rows() -> None:
    assert list(registry.METHODS) == ONE_PASS + SEVERAL + TRANSFORMERS
    assert all(registry.get(name).name == name for name in registry.METHODS)
    assert [name for name in registry.METHODS if registry.get(name).one_pass] == [
        *ONE_PASS,
        *TRANSFORMERS[:2],
    ]


@pytest.mark.parametrize("build", [tiny_models.sd_pipeline, tiny_models.sdxl_pipeline])
@pytest.mark.parametrize("name", ONE_PASS + SEVERAL)
def test_one_call_runs_every_method(name: str, build: Any) -> None:
    pipe = build()
    before = tiny_models.generate(pipe, 8, 8, num_inference_steps=2)
    reports: list[Progress] = []
    drawn = _draw(pipe, name, on_progress=reports.append)
    assert drawn.shape == (1, 4, 12, 18)
    assert torch.isfinite(drawn).all()
    total = len(reports)
    assert [(report.step, report.total) for report in reports] == [
        (step, total) for step in range(1, total + 1)
    ]
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == pytest.approx(1)
    assert {report.pass_index for report in reports} == set(range(reports[0].num_passes))
    assert reports[-1].latents.shape == drawn.shape
    assert torch.equal(tiny_models.generate(pipe, 8, 8, num_inference_steps=2), before)
    assert "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize("name", ONE_PASS + SEVERAL)
def test_the_seed_decides_the_picture(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    drawn = _draw(pipe, name)
    assert not torch.equal(_draw(pipe, name, seed=4), drawn)
    torch.rand(3)
    assert torch.equal(_draw(pipe, name), drawn)


@pytest.mark.parametrize("name", ["upsample-guidance", *SEVERAL])
def test_a_method_ends_when_progress_raises(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    before = tiny_models.generate(pipe, 8, 8, num_inference_steps=2)

    def stop(report: Progress) -> None:
        if report.step == report.total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _draw(pipe, name, on_progress=stop)
    assert torch.equal(tiny_models.generate(pipe, 8, 8, num_inference_steps=2), before)
    assert "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_method_of_several_passes_cannot_be_applied(name: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"method {name} runs .*use generate"):
        registry.get(name).patched(tiny_models.sd_pipeline())


@pytest.mark.parametrize("name", ["upsample-guidance", *SEVERAL])
def test_a_picture_of_native_size_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"64x64 is 1.00 times .*{name} needs 1.25"):
        _draw(tiny_models.sd_pipeline(), name, width=64, height=64)


def test_a_generator_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="give seed= alone"):
        _draw(tiny_models.sd_pipeline(), "direct", generator=torch.Generator())


@pytest.mark.parametrize("name", ONE_PASS)
def test_a_method_leaves_the_pipeline_as_it_was(name: str) -> None:
    pipe = tiny_models.sd_pipeline()
    before = tiny_models.generate(pipe, 16, 16, num_inference_steps=2)
    with registry.get(name).patched(pipe, seed=3):
        inside = tiny_models.generate(pipe, 16, 16, num_inference_steps=2)
    assert torch.equal(inside, before) == (name == "direct")
    assert torch.equal(tiny_models.generate(pipe, 16, 16, num_inference_steps=2), before)


def test_options_reach_the_configuration() -> None:
    row = registry.get("hidiffusion")
    assert row.configure(seed=3, t1_ratio=0.5) == HiDiffusionConfig(seed=3, t1_ratio=0.5)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(InvalidConfigError, match="method is 'magic'; known: direct"):
        registry.get("magic")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(InvalidConfigError, match=r"raunet has no option 't9' .*t1_ratio"):
        registry.get("raunet").configure(t9=1)


def test_a_bad_value_is_refused_before_anything_is_touched() -> None:
    pipe = tiny_models.sd_pipeline()
    with pytest.raises(InvalidConfigError, match="t1_ratio is 7; it must be between 0 and 1"):
        registry.get("raunet").patched(pipe, t1_ratio=7)
