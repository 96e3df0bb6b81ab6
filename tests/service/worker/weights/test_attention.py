"""Workers whose networks attend by a backend that the operator chose."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.generations.events import Succeeded
from service.domain.generations.generation import Generation
from service.worker.job.failures import ModelUnavailable
from tests.service.worker.conftest import Child
from tests.service.worker.control_models import open_pipelines, write_catalog
from tests.upscaler_models import write_upscaler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("attention"))


def test_pictures_are_made_by_the_backend_and_their_recipes_name_it(
    start_child: Callable[..., Child], new_generation: Callable[..., Generation]
) -> None:
    child = start_child(attention="_native_math")
    child.hear()
    ended = child.run(new_generation())[-1]
    assert isinstance(ended, Succeeded), ended
    assert ended.manifest.recipe["attention"] == "_native_math"


def test_a_u_net_attends_by_the_backend(folder: Path) -> None:
    unet = open_pipelines(folder, attention="_native_math").get("sd").pipe.unet
    try:
        chosen = {each._attention_backend.value for each in unet.attn_processors.values()}
    finally:
        unet.reset_attention_backend()
    assert chosen == {"_native_math"}


def test_a_backend_that_nobody_knows_is_refused_at_the_start(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'sagge' is no attention backend .* sage"):
        open_pipelines(folder, attention="sagge")


def test_a_backend_whose_package_is_missing_is_named(folder: Path) -> None:
    pipelines = open_pipelines(folder, attention="sage")
    with pytest.raises(ModelUnavailable, match="sageattention"):
        pipelines.get("sd")


def test_a_recipe_names_no_backend_where_none_is_chosen(tmp_path: Path) -> None:
    catalog = {"models": [write_upscaler(tmp_path, "larger")]}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    pipelines = open_pipelines(tmp_path, attention="_native_math")
    assert "attention" not in pipelines.computes("larger")
