"""A whole training in miniature: from packages to a pipeline, a classifier and their cards."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from models.train import __main__ as command
from models.train import classifier, dataset
from models.train.architecture import build_text_encoder, build_unet, build_vae
from models.train.augment import Motion, disturb, move
from models.train.blocks import write_figures
from models.train.classifier import load_classifier
from models.train.config import (
    ClassifierConfig,
    Paths,
    StageConfig,
    TrainConfig,
    UNetConfig,
    VaeConfig,
)
from models.train.fetch import NOTO_DRAWINGS, Package
from models.train.profiles import GPU, profile
from models.train.tokenizer import train_tokenizer
from models.train.unet import LatentSampler, cached_latents

COLOURS = {"1f7e5": "red", "1f7e9": "green", "1f7e6": "blue"}
NOUNS = {"ball": "1f7e5", "leaf": "1f7e9", "drop": "1f7e6"}
SIDE = 64


def drawing(colour: str, side: int, kind: str) -> bytes:
    picture = Image.new("RGBA", (side, side))
    ImageDraw.Draw(picture).ellipse((8, 8, side - 8, side - 8), fill=colour)
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


def package(folder: Path, name: str, files: dict[str, bytes], wanted: str) -> Package:
    archive = folder / f"{name}.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Package(f"{name}@1", archive.name, digest, wanted)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A run of seconds on three discs, with packages of its own."""
    records = [
        {"unified": code.upper(), "short_names": [f"{COLOURS[code]}_disc"]} for code in COLOURS
    ]
    noto = {
        f"{NOTO_DRAWINGS}{code}.png": drawing(colour, 32, "PNG") for code, colour in COLOURS.items()
    }
    names = {"package/emoji.json": json.dumps(records).encode(), **noto}
    pictures = {
        f"package/assets/{code}.webp": drawing(colour, SIDE, "WEBP")
        for code, colour in COLOURS.items()
    }
    cache = tmp_path / "cache"
    cache.mkdir()
    named = package(cache, "names", names, "package/emoji.json")
    monkeypatch.setattr(dataset, "NAMES", named)
    monkeypatch.setattr(classifier, "NAMES", named)
    monkeypatch.setattr(dataset, "PICTURES", package(cache, "toys", pictures, "package/assets/"))
    nouns = tmp_path / "nouns.json"
    nouns.write_text(json.dumps({name: {"code": code} for name, code in NOUNS.items()}))
    moment = StageConfig(0.01, 2e-3, warmup_steps=5)
    return TrainConfig(
        size=SIDE,
        seeds=1,
        paths=Paths(cache, tmp_path / "model", tmp_path / "classifier", tmp_path / "images", nouns),
        vae=VaeConfig((8, 8, 16, 16), 1, ((32, 2), (64, 1)), stage=moment, decoder_stage=moment),
        unet=UNetConfig(
            channels=(32, 32, 32, 32),
            heads=(1, 1, 1, 1),
            text_heads=2,
            text_width=32,
            vocabulary=600,
            batch_size=4,
            variants=3,
            motion=Motion(0.7, 1.0, 0.1, 10, mirror=True),
            stage=moment,
        ),
        classifier=ClassifierConfig(nouns, batch_size=12, rounds=2, stage=moment),
    )


@pytest.mark.slow
def test_every_step_runs_and_the_cards_have_the_figures(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in command.STEPS:
        command.run(step, config)
    pipe = StableDiffusionPipeline.from_pretrained(config.paths.model, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a ball", num_inference_steps=1).images[0].size == (SIDE, SIDE)
    _, nouns = load_classifier(config.paths.classifier)
    assert nouns == list(NOUNS)
    card = (config.paths.model / "README.md").read_text()
    assert "| nouns | 3 |" in card
    assert "| samples that show their noun, of 3 |" in card
    assert "| vae |" in card
    assert "Noto" in (config.paths.classifier / "README.md").read_text()
    assert (config.paths.images / "model-loss.png").exists()
    assert '"psnr_mean_db"' in capsys.readouterr().out


def test_variants_are_moved_and_keep_their_noun(config: TrainConfig) -> None:
    latents = cached_latents(config)
    assert len(latents) == config.unet.variants * len(NOUNS)
    assert torch.equal(cached_latents(config), latents)
    first, moved = latents[: len(NOUNS)], latents[len(NOUNS) : 2 * len(NOUNS)]
    assert not torch.allclose(first, moved, atol=0.1)
    numbers = torch.arange(len(latents)).view(-1, 1, 1, 1).expand(-1, 4, 1, 1).float()
    tokenizer = train_tokenizer(list(NOUNS), vocabulary=600)
    sampler = LatentSampler(config, numbers, tokenizer)
    chosen, tokens = sampler.batch(200)
    words = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    synonyms = [f"{COLOURS[code]} disc" for code in NOUNS.values()]
    for number, text in zip(chosen[:, 0, 0, 0].long().tolist(), words, strict=True):
        place = number % len(NOUNS)
        assert text == "" or list(NOUNS)[place] in text or synonyms[place] in text
    assert 0 < words.count("") < 60


def test_figures_are_written_once(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# By hand\n")
    for body in ("one", "two"):
        write_figures(card, body)
    text = card.read_text()
    assert text.startswith("# By hand\n")
    assert "two" in text
    assert "one" not in text
    assert text.count("begin figures") == 1


def test_moved_pictures_stay_on_white() -> None:
    torch.manual_seed(0)
    pictures = torch.ones(64, 3, 32, 32)
    pictures[:, :, 8:24, 8:16] = -1
    moved = move(pictures, Motion(0.5, 0.5, 0.1), 32)
    assert torch.allclose(moved[:, :, 0], torch.ones(()))
    area = (moved < 0).float().mean((1, 2, 3))
    assert area.mean() == pytest.approx(8 * 16 / 32**2 / 4, rel=0.15)
    assert torch.equal(move(pictures, Motion(), 32), pictures)
    left = move(pictures, Motion(mirror=True), 32)[:, 0, 16, 10] < 0
    assert 10 < left.sum() < 54
    assert disturb(moved).shape == moved.shape


def test_the_gpu_profile_fits_its_folder() -> None:
    config = profile("gpu", "cpu")
    assert (config.device, GPU.device) == ("cpu", "cuda")
    with torch.device("meta"):
        unet, vae = build_unet(config), build_vae(config)
        tokenizer = train_tokenizer(["a"], vocabulary=600)
        text = build_text_encoder(config.unet, tokenizer)
    missing = (config.unet.vocabulary - len(tokenizer)) * config.unet.text_width
    numbers = [sum(p.numel() for p in part.parameters()) for part in (unet, vae, text)]
    weights = 2 * (numbers[0] + numbers[1]) + 4 * (numbers[2] + missing)
    assert weights < 59_000_000
    minutes = [config.vae.stage, config.vae.decoder_stage, config.unet.stage]
    assert sum(stage.minutes for stage in (*minutes, config.classifier.stage)) <= 25
    with pytest.raises(ValueError, match="'tpu'"):
        profile("tpu")
