"""HiDiffusion under low-band guidance takes HiDiffusion's own thresholds."""

from typing import Any

import pytest
import torch

from hidiffusion import InvalidConfigError
from hidiffusion.methods import registry
from tests.hidiffusion.tiny import models as tiny_models


def _draw(pipe: Any, **options: Any) -> torch.Tensor:
    method = registry.get("hidiffusion-guided")
    call = {"prompt": "abc", "num_inference_steps": 5, "output_type": "latent"}
    return method.generate(pipe, seed=3, width=128, height=128, options=options, **call).images


def test_thresholds_are_those_of_hidiffusion() -> None:
    """At twice native size RAU-Net acts in two fifths of the steps unless told otherwise."""
    pipe = tiny_models.sd_pipeline()
    published = _draw(pipe)

    assert torch.equal(_draw(pipe, t1_ratio=0.4), published)
    assert not torch.allclose(_draw(pipe, t1_ratio=1.0), published, atol=1e-4)


def test_they_mean_nothing_to_the_model_as_it_is() -> None:
    pipe = tiny_models.sd_pipeline()

    drawn = _draw(pipe, denoiser="direct", t1_ratio=1.0, t2_ratio=0.5)

    assert torch.equal(drawn, _draw(pipe, denoiser="direct"))


def test_a_threshold_is_a_fraction() -> None:
    with pytest.raises(InvalidConfigError, match="t1_ratio is 2; it must be between 0 and 1"):
        registry.get("hidiffusion-guided").configure(t1_ratio=2)
