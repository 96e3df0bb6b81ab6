"""Every method is found by name and used in one way."""

import pytest
import torch

from hidiffusion import HiDiffusionConfig, InvalidConfigError
from hidiffusion.methods import registry
from tests.hidiffusion import tiny_models


def test_the_rows() -> None:
    assert {"direct", "hidiffusion", "raunet", "msw-msa"} <= set(registry.METHODS)
    assert all(registry.get(name).name == name for name in registry.METHODS)


@pytest.mark.parametrize("name", ["direct", "hidiffusion", "raunet", "msw-msa"])
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
    with pytest.raises(InvalidConfigError, match="method is 'magic'; known methods: direct"):
        registry.get("magic")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(InvalidConfigError, match=r"raunet has no option 't9' .*t1_ratio"):
        registry.get("raunet").configure(t9=1)


def test_a_bad_value_is_refused_before_anything_is_touched() -> None:
    pipe = tiny_models.sd_pipeline()
    with pytest.raises(InvalidConfigError, match="t1_ratio is 7"):
        registry.get("raunet").patched(pipe, t1_ratio=7)
