"""Stable Diffusion's safety checker, from a folder that the catalogue names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from service.catalog.file import read_catalog
from service.settings import WorkerSettings
from service.worker.job.checking import ContentFiltered, Pass, Picture, look_at
from service.worker.job.safety import chosen_checker
from tests.service.api.stack import CATALOG

SIDE = 32
CPU = torch.device("cpu")
CHECKERS = "tests.service.worker.checkers"


def _catalog(folder: Path, checker: str | None) -> Path:
    document = CATALOG.model_dump(mode="json", exclude_none=True)
    document |= {} if checker is None else {"safety_checker": checker}
    path = folder / "catalog.json"
    path.write_text(json.dumps(document))
    return path


def _write_checker(folder: Path, threshold: float) -> None:
    """A tiny one: above -1, a threshold of cosines is passed by everything; above 1, by nothing."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = {**size, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16}
    network = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    network.concept_embeds_weights.data.fill_(threshold)
    network.save_pretrained(folder)
    sides = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=sides).save_pretrained(folder)


def _picture() -> Picture:
    pixels = np.full((48, 64, 3), 99, np.uint8)
    return Picture(pixels, pixels, "a fox", "", "emoji")


def test_it_blocks_what_is_near_a_concept_and_lets_the_rest_pass(tmp_path: Path) -> None:
    for name, threshold in (("strict", -2.0), ("mild", 2.0)):
        _write_checker(tmp_path / name, threshold)
        catalog = read_catalog(_catalog(tmp_path, name))
        checker = chosen_checker(WorkerSettings(), catalog, CPU)
        assert checker is not None
        picture = _picture()
        if name == "mild":
            assert look_at(checker, picture) == Pass()
        else:
            with pytest.raises(ContentFiltered, match="the safety checker takes it for unsafe"):
                look_at(checker, picture)
        assert (picture.pixels == 99).all()


def test_none_is_set_unless_named_and_the_operators_own_comes_first(tmp_path: Path) -> None:
    assert chosen_checker(WorkerSettings(), read_catalog(_catalog(tmp_path, None)), CPU) is None
    (tmp_path / "empty").mkdir()
    catalog = read_catalog(_catalog(tmp_path, "empty"))
    own = WorkerSettings(checker=f"{CHECKERS}:ByPrompt")
    assert chosen_checker(own, catalog, CPU) is not None
    with pytest.raises(ValueError, match=r"safety_checker '.*empty' of the catalogue"):
        chosen_checker(WorkerSettings(), catalog, CPU)
