"""What is loaded, what is shared, and what makes room: ControlNets beside pipelines."""

import gc
import importlib.util
import json
import weakref
from pathlib import Path

import pytest
import torch

from service.worker.job.failures import ModelUnavailable, UnsupportedRequest
from service.worker.weights.garbage import set_loaded_aside
from service.worker.weights.pipelines import Pipelines
from tests.service.worker.control_models import open_pipelines, write_catalog
from tests.upscaler_models import write_upscaler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("controls"))


@pytest.fixture
def own(folder: Path) -> Pipelines:
    return open_pipelines(folder)


def test_each_is_loaded_once_for_all_models_that_have_it(own: Pipelines) -> None:
    for model in ("sd", "second", "sd"):
        own.get(model, 0, ["canny"])
    assert own.loads == 3
    assert own.names == ("second", "sd")
    first, second = (own.get(model, 0, ["canny"]).controlnets for model in ("sd", "second"))
    assert first[0] is second[0]
    assert own.get("sd").controlnets == ()


def test_the_one_not_used_for_longest_makes_room(folder: Path, own: Pipelines) -> None:
    model = own.get("sd").weights
    net = own.get("sd", 0, ["canny"]).controlnets[0]
    control = sum(weight.nbytes for weight in net.parameters())
    tight = open_pipelines(folder, memory_bytes=model + control + control // 2)
    tight.get("sd", 0, ["canny"])
    assert (tight.loads, tight.evictions) == (2, 0)
    tight.get("sd", 0, ["depth"])
    assert (tight.loads, tight.evictions) == (3, 1)
    tight.get("sd", 0, ["depth"])
    assert (tight.loads, tight.evictions) == (3, 1)
    tight.get("sd", 0, ["canny"])
    assert (tight.loads, tight.evictions) == (4, 2)
    assert tight.names == ("sd",)


def test_short_of_memory_a_run_keeps_its_own(own: Pipelines) -> None:
    own.get("sdxl")
    own.get("sd", 0, ["canny", "depth"])
    own.keep_only("sd", ["depth"])
    assert own.evictions == 2
    own.get("sd", 0, ["depth"])
    assert own.loads == 4


def test_what_is_dropped_is_gone_though_the_collector_passes_over_what_is_loaded(
    own: Pipelines,
) -> None:
    _with_a_hook(own.get("sd").pipe.unet)
    network = weakref.ref(own.get("sd").pipe.unet)
    set_loaded_aside()
    try:
        own.forget("sd")
        assert network() is None
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def _with_a_hook(network: torch.nn.Module) -> None:
    """Hooks know their module, so it refers to itself."""
    network.register_forward_hook(lambda *_: network.zero_grad())


def test_what_cannot_guide_is_named_and_harms_nothing(own: Pipelines) -> None:
    with pytest.raises(ModelUnavailable, match=r"'misfit' cannot be loaded .* another model"):
        own.get("sd", 0, ["misfit"])
    with pytest.raises(ModelUnavailable, match=r"'missing' cannot be loaded from 'nowhere/at-all'"):
        own.get("sd", 0, ["missing"])
    with pytest.raises(UnsupportedRequest, match=r"no ControlNet 'pose' .* canny, depth"):
        own.get("sd", 0, ["pose"])
    assert own.get("sd", 0, ["canny"]).controlnets


@pytest.mark.skipif(importlib.util.find_spec("spandrel") is not None, reason="spandrel is here")
def test_what_an_extra_reads_is_refused_by_the_extras_name(tmp_path: Path) -> None:
    entry = write_upscaler(tmp_path, "large") | {
        "engine": "spandrel",
        "scales": [4],
        "default_steps": 1,
    }
    (tmp_path / "catalog.json").write_text(json.dumps({"models": [entry]}))
    with pytest.raises(ModelUnavailable, match=r"install hidiffusion\[upscalers\]"):
        open_pipelines(tmp_path).get("large")
