"""`hidiffusion models add | list | check | remove`, on models as people have them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from service.catalog.check import installed_schedulers
from service.catalog.file import read_catalog
from service.catalog.inspect import Found
from service.catalog.presets import PRESETS, preset_for
from service.cli.app import app
from service.worker.weights.loading import load_pipeline


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the catalogue is to be; nothing is there yet."""
    path = tmp_path / "volume" / "catalog.json"
    monkeypatch.setenv("HIDIFFUSION_CATALOG", str(path))
    monkeypatch.setenv("HIDIFFUSION_API__HTTP_PORT", "1")  # nothing runs there
    return path


def _models(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "200"})


def _entry(path: Path, name: str) -> dict[str, Any]:
    entries = json.loads(path.read_text())["models"]
    return next(entry for entry in entries if entry["name"] == name)


def test_a_single_file_becomes_a_model_that_draws(path: Path, forms: Path) -> None:
    added = _models(
        "add", forms / "single.safetensors", "--name", "mine", "--config", forms / "tiny"
    )

    assert added.exit_code == 0, added.output
    model = read_catalog(path).models[0]
    assert (model.family, model.default_steps, model.default_size) == ("sd15", 30, 1024)
    assert "DPMSolverMultistepScheduler" in model.schedulers
    pipe = load_pipeline(model, torch.float32)
    original: Any = DiffusionPipeline.from_pretrained(forms / "half", variant="fp16")
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(pipe, part).state_dict(), getattr(original, part).state_dict()
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name].to(tensor.dtype), msg=f"{part} {name}")


def test_a_folder_of_half_precision_alone_is_read(path: Path, forms: Path) -> None:
    assert _models("add", forms / "half", "--alias", "dall-e-3").exit_code == 0

    model = read_catalog(path).models[0]
    assert (model.name, model.variant, model.aliases) == ("half", "fp16", ("dall-e-3",))
    assert model.native_size == 64  # as its U-Net says
    load_pipeline(model, torch.float32)
    load_pipeline(model.model_copy(update={"variant": None}), torch.float32)  # as people write


def test_a_folder_with_a_broken_part_is_refused_by_its_name(
    path: Path, forms: Path, tmp_path: Path
) -> None:
    shutil.copytree(forms / "tiny", tmp_path / "broken")
    weights = next((tmp_path / "broken" / "vae").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])

    cut = _models("add", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "vae")
    gone = _models("add", tmp_path / "broken")

    assert cut.exit_code == gone.exit_code == 1
    assert "vae" in cut.output
    assert "cut off; download it again" in cut.output
    assert "the part 'vae'" in gone.output
    assert not path.exists()


@pytest.mark.usefixtures("path")
def test_what_is_no_model_is_told_what_it_is(tmp_path: Path) -> None:
    lora = tmp_path / "ink.safetensors"
    save_file({"lora_unet_mid_block.alpha": torch.zeros(1)}, lora)

    added = _models("add", lora)

    assert added.exit_code == 1
    assert "it is a LoRA; add it with --lora FILE --for MODEL" in added.output


def test_additions_are_offered_and_dropped_loras_too(
    path: Path, forms: Path, tmp_path: Path
) -> None:
    _models("add", forms / "tiny", "--name", "tiny")
    lora = tmp_path / "Ink Wash.safetensors"
    save_file({"lora_unet_mid_block.alpha": torch.zeros(1)}, lora)
    assert _models("add", "--lora", lora, "--for", "tiny", "--name", "ink").exit_code == 0
    assert _models("add", "--embedding", lora, "--for", "tiny", "--name", "<ink>").exit_code == 0
    (tmp_path / "edges").mkdir()
    (tmp_path / "edges" / "config.json").write_text("{}")
    assert _models("add", "--controlnet", tmp_path / "edges", "--for", "tiny").exit_code == 0
    assert _models("add", "--ip-adapter", lora, "--for", "tiny").exit_code == 0
    shutil.copy(lora, path.parent / "loras" / "tiny" / "Dropped One.safetensors")

    model = read_catalog(path).models[0]
    nobody = _models("add", "--lora", lora, "--for", "nobody")

    assert [each.name for each in model.loras] == ["ink", "dropped-one"]
    assert [each.token for each in model.embeddings] == ["<ink>"]
    assert [each.name for each in model.controls] == ["edges"]
    assert model.ip_adapter is not None
    assert model.ip_adapter.file == "Ink Wash.safetensors"
    assert "has no model 'nobody'" in nobody.output


def test_check_says_what_is_wrong_and_where(path: Path, forms: Path) -> None:
    _models("add", forms / "tiny", "--name", "good")
    assert _models("check").exit_code == 0
    document = json.loads(path.read_text())
    bad = {**document["models"][0], "name": "bad", "source": "./nowhere"}
    bad["schedulers"] = [*bad["schedulers"], "EulerScheduler"]
    unfit = {**document["models"][0], "name": "unfit"}
    unfit["methods"] = [*unfit["methods"], "refine"]
    models = [*document["models"], bad, unfit]
    path.write_text(json.dumps({"models": models, "safety_checker": "./no-checker"}))

    checked = _models("check")

    assert checked.exit_code == 1
    assert "good: good" in checked.output
    assert "source './nowhere' is not there" in checked.output
    assert "no scheduler 'EulerScheduler'; did you mean" in checked.output
    assert "method 'refine' is made for diffusion transformers; use direct, hid" in checked.output
    assert "no-checker" in checked.output.partition("safety_checker:")[2]
    path.write_text('{"models": [')
    assert "Traceback" not in (broken := _models("check")).output
    assert "Invalid JSON" in broken.output


@pytest.mark.usefixtures("path")
def test_a_model_is_listed_until_it_is_removed(forms: Path) -> None:
    name = "a-name-that-is-rather-long-but-never-cut-in-the-list"
    _models("add", forms / "tiny", "--name", "first")
    _models("add", forms / "tiny", "--name", name)
    twice = _models("add", forms / "tiny", "--name", name)

    assert name in _models("list").output
    assert name in _models().output
    assert twice.exit_code == 1
    assert _models("remove", name).exit_code == 0
    assert name not in _models("list").output


@pytest.mark.parametrize(
    ("found", "name", "preset"),
    [
        (Found("sd", 512, 768, "epsilon"), "dreamshaper", "sd15"),
        (Found("sd", 768, 1024, "v_prediction"), "x", "sd21"),
        (Found("sd", 512, 1024, "epsilon"), "stable-diffusion-2-1-base", "sd21-base"),
        (Found("sdxl", 1024, 2048, "epsilon"), "stabilityai/stable-diffusion-xl-base-1.0", "sdxl"),
        (Found("sdxl", 512, 2048, "epsilon"), "renamed", "sdxl-turbo"),
        (Found("sdxl", None, 2048, None, single_file=True), "sd_xl_turbo_1.0", "sdxl-turbo"),
        (Found("sdxl", 1024, 2048, "epsilon"), "JuggernautXL_Lightning", "sdxl-lightning"),
        (Found("sdxl", 1024, 2048, "epsilon"), "playground-v2-1024px", "playground-v2"),
        (Found("sdxl", 1024, 2048, "epsilon", edm=True), "playground-v2.5", "playground-v2.5"),
        (Found("sdxl", 1024, 2048, "epsilon", small=True), "x", "ssd-1b"),
    ],
)
def test_known_models_are_known(found: Found, name: str, preset: str) -> None:
    assert preset_for(found, name).name == preset


def test_presets_name_schedulers_that_diffusers_has() -> None:
    named = {name for preset in PRESETS for name in (*preset.schedulers, preset.scheduler)}

    assert named <= installed_schedulers()
