"""`hidiffusion models add | check` on folders with diffusion transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from hidiffusion.transformer.families import FAMILIES
from service.catalog import transformers
from service.catalog.fetch import wanted_files
from service.catalog.file import read_catalog
from service.catalog.inspect import Found, inspect_model
from service.catalog.presets import preset_for
from service.cli.app import app
from tests.hidiffusion.tiny.transformer_pipelines import pipeline

#: diffusers warns of a name that its own Chroma uses.
pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed. is deprecated:FutureWarning")

_FLOW = "FlowMatchEulerDiscreteScheduler"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the catalogue is to be; nothing is there yet."""
    path = tmp_path / "catalog.json"
    monkeypatch.setenv("HIDIFFUSION_CATALOG", str(path))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pipeline of each family, in bfloat16 or with a variant as people have them."""
    folder = tmp_path_factory.mktemp("families")
    for family in ("flux", "chroma", "z-image", "flux2", "sd3", "qwen"):
        pipe = pipeline(family, torch.bfloat16)
        pipe.save_pretrained(folder / family, variant="bf16" if family == "flux" else None)
    return folder


def _models(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("family", "preset"),
    [
        ("flux", "flux-schnell 4 0.0"),  # its configuration has no number for guidance
        ("chroma", "chroma 40 3.0"),
        ("z-image", "z-image-turbo 9 0.0"),
        ("flux2", "flux2-dev 28 4.0"),
        ("sd3", "sd35-medium 40 4.5"),
    ],
)
def test_a_folder_of_each_family_is_added_and_good(
    path: Path, folders: Path, family: str, preset: str
) -> None:
    added = _models("add", folders / family)
    assert added.exit_code == 0, added.output
    model = read_catalog(path).models[0]

    assert f"{model.family} {model.default_steps} {model.default_guidance_scale}" == preset
    assert (model.native_size, model.default_size, model.size_multiple) == (128, 256, 16)
    assert (model.default_scheduler, model.schedulers) == (_FLOW, (_FLOW,))
    assert model.methods == ("direct", "positions", "token-windows", "refine")
    assert model.default_method == "refine"
    assert model.variant == ("bf16" if family == "flux" else None)
    assert not model.prompt_weighting
    assert model.bfloat16
    assert (checked := _models("check")).exit_code == 0, checked.output

    entry = json.loads(path.read_text())["models"][0]
    entry |= {"native_size": 512, "size_multiple": 8, "default_method": "direct"}
    entry |= {"methods": ["direct", "hidiffusion"], "method_options": {}}
    entry |= {"controls": [{"name": "edges", "title": "Edges", "source": "."}]}
    path.write_text(json.dumps({"models": [entry]}))
    told = _models("check").output
    assert "its transformer was trained at 128" in told
    assert "sides are multiples of 16 here" in told
    assert "controls: the service has these for U-Nets alone" in told
    assert "method 'hidiffusion' is made for U-Nets; use direct, positions, token-windows" in told


@pytest.mark.usefixtures("path")
def test_what_cannot_be_drawn_with_is_refused_by_name(folders: Path, tmp_path: Path) -> None:
    qwen = _models("add", folders / "qwen")
    assert qwen.exit_code == 1
    assert "is a QwenImagePipeline, whose autoencoder cannot be decoded in exact" in qwen.output
    assert "ZImagePipeline" in qwen.output

    kolors = tmp_path / "kolors"
    kolors.mkdir()
    (kolors / "model_index.json").write_text('{"_class_name": "KolorsPipeline"}')
    assert (
        "KolorsPipeline, whose text encoder, ChatGLM, is not read" in _models("add", kolors).output
    )

    config = folders / "flux" / "transformer" / "config.json"
    whole = config.read_text()
    config.write_text(json.dumps(json.loads(whole) | {"in_channels": 32}))
    filling = _models("add", folders / "flux").output
    config.write_text(whole)
    assert "its transformer takes 32 channels, as those do that fill" in filling

    file = tmp_path / "flux1-dev.safetensors"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, file)
    assert "a diffusion transformer without its text encoders" in _models("add", file).output


def test_rows_are_those_of_the_library() -> None:
    rows = {row.model: row for row in FAMILIES}
    for row in transformers.ROWS:
        assert row.native_tokens == rows[row.model].native_tokens
        assert row.packed == (rows[row.model].latents == "packed")
    assert {*rows} - {row.model for row in transformers.ROWS} == {"QwenImageTransformer2DModel"}


@pytest.mark.parametrize(
    ("folder_name", "changes", "preset"),
    [
        ("flux/FLUX.1-dev", {"transformer": {"guidance_embeds": True}}, "flux-dev"),
        ("flux/FLUX.1-Krea-dev", {"transformer": {"guidance_embeds": True}}, "flux-krea"),
        ("z-image/my-model", {"scheduler": {"shift": 6.0}}, "z-image"),
        ("sd3/stable-diffusion-3.5-large-turbo", {}, "sd35-large-turbo"),
        ("sd3/mine", {"transformer": {"dual_attention_layers": []}}, "sd35-large"),
        ("sd3/x", {"transformer": {"dual_attention_layers": [], "qk_norm": None}}, "sd3-medium"),
    ],
)
def test_members_of_a_family_are_told_apart(
    folders: Path, tmp_path: Path, folder_name: str, changes: dict[str, Any], preset: str
) -> None:
    family, name = folder_name.split("/")
    folder = tmp_path / "model"
    folder.mkdir()
    for part in (folders / family).iterdir():
        (folder / part.name).symlink_to(part)
    for part, change in changes.items():
        files = [*(folders / family / part).iterdir()]
        (folder / part).unlink()
        (folder / part).mkdir()
        for file in files:
            if not file.name.endswith("config.json"):
                (folder / part / file.name).symlink_to(file)
                continue
            config = json.loads(file.read_text())
            (folder / part / file.name).write_text(json.dumps(config | change))

    assert preset_for(inspect_model(folder), name).name == preset


@pytest.mark.parametrize("distilled", [True, False])
def test_klein_says_itself_whether_it_is_distilled(distilled: bool) -> None:
    row = transformers.BY_PIPELINE["Flux2KleinPipeline"]
    named = row.preset({}, {}, {"is_distilled": distilled})
    found = Found("flux2", 1024, 0, None, preset=named)
    assert preset_for(found, "klein").default_method == "refine"
    assert preset_for(found, "klein").steps == (4 if distilled else 50)


def test_of_a_repository_only_a_pipelines_files_are_fetched() -> None:
    beside = ["model_index.json", "transformer/config.json", "tokenizer/spiece.model"]
    both = [
        "transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
    ]
    other = ["sd3.5_medium.safetensors", "text_encoders/t5xxl_fp8.safetensors", "README.md"]
    tokenizer = ["tokenizer/tokenizer_config.json"]

    wanted = wanted_files([*beside, *tokenizer, *both, *other])

    assert {*wanted} == {*beside, *tokenizer, both[0]}
