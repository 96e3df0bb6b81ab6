"""A whole training in miniature: from packages to a pipeline, a classifier and their cards."""

import hashlib
import io
import json
import random
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from scipy import ndimage

from models.train import __main__ as command
from models.train.architecture import build_text_encoder, build_unet, build_vae
from models.train.augment import CloseUps, Motion, Staging, disturb, move
from models.train.blocks import write_figures
from models.train.config import (
    ClassifierConfig,
    Paths,
    StageConfig,
    TrainConfig,
    UNetConfig,
    UpscalerConfig,
    VaeConfig,
)
from models.train.data import dataset
from models.train.data.dataset import Noun
from models.train.data.fetch import NOTO_DRAWINGS, Package
from models.train.data.scenes import GROUNDS, plural, stage
from models.train.profiles import GPU, PROFILES, profile, total_minutes, within
from models.train.trainings import classifier
from models.train.trainings.classifier import load_classifier
from models.train.trainings.latents import (
    LatentSampler,
    SceneLatents,
    cached_close_ups,
    cached_scenes,
    free_cells,
)
from models.train.trainings.tokenizer import train_tokenizer

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
        paths=Paths(
            cache,
            model=tmp_path / "model",
            classifier=tmp_path / "classifier",
            upscaler=tmp_path / "upscaler",
            images=tmp_path / "images",
            nouns=nouns,
        ),
        vae=VaeConfig((8, 8, 16, 16), 1, ((32, 2), (64, 1)), stage=moment, decoder_stage=moment),
        unet=UNetConfig(
            channels=(32, 32, 32, 32),
            heads=(1, 1, 1, 1),
            text_heads=2,
            text_width=32,
            vocabulary=600,
            batch_size=4,
            variants=3,
            staging=Staging(
                Motion(0.7, 1.0, 0.1, 10, mirror=True), most=2, coloured=0.5, shaded=0.5
            ),
            reach=2,
            captions=4,
            stage=moment,
        ),
        upscaler=UpscalerConfig(layers=1, heads=4, width=128, crop=32, batch_size=2, stage=moment),
        classifier=ClassifierConfig(nouns, batch_size=12, rounds=2, stage=moment),
    )


@pytest.mark.long
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
    (told,) = (line for line in card.splitlines() if "samples that show their noun" in line)
    (missed,) = (line for line in card.splitlines() if "| missed |" in line)
    hits = int(re.fullmatch(r".*, 1 of each \| ([0-3]) of 3, .*", told).group(1))
    assert sum(noun in missed for noun in NOUNS) == 3 - hits
    assert "| vae |" in card
    assert "Noto" in (config.paths.classifier / "README.md").read_text()
    assert (config.paths.images / "model-loss.png").exists()
    assert '"psnr_mean_db"' in capsys.readouterr().out


def test_scenes_are_encoded_once_and_have_captions_that_fit(config: TrainConfig) -> None:
    torch.manual_seed(0)
    vae = build_vae(config).eval()
    scenes = cached_scenes(config, vae)
    assert len(scenes.latents) == config.unet.variants * len(NOUNS)
    assert torch.equal(cached_scenes(config, vae).latents, scenes.latents)
    first, moved = scenes.latents[: len(NOUNS)], scenes.latents[len(NOUNS) : 2 * len(NOUNS)]
    assert not torch.allclose(first, moved, atol=1e-3)
    for number, captions in enumerate(scenes.captions):
        noun = list(NOUNS)[number % len(NOUNS)]
        disc = f"{COLOURS[NOUNS[noun]]} disc"
        assert len(captions) == config.unet.captions
        assert all(noun in text or disc in text or "leaves" in text for text in captions)


def test_sampler_moves_what_is_shown_and_keeps_its_captions(config: TrainConfig) -> None:
    latents = torch.zeros(3, 4, 8, 8)
    latents[:, :, 3, 3] = torch.arange(1.0, 4.0).view(3, 1)
    room = torch.tensor([[0, 0, 0, 0], [2, 3, 2, 3], [2, 0, 0, 0]])
    captions = [[name, f"a {name}"] for name in NOUNS]
    tokenizer = train_tokenizer(list(NOUNS), vocabulary=600)
    sampler = LatentSampler(config, SceneLatents(latents, captions, room), tokenizer)
    torch.manual_seed(0)
    seen, tokens = sampler.batch(torch.arange(1000))
    words = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    places: dict[int, set[tuple[int, int]]] = {1: set(), 2: set(), 3: set()}
    for latent, text in zip(seen, words, strict=True):
        (y, x), number = divmod(int(latent[0].argmax()), 8), int(latent[0].max())
        places[number].add((y, x))
        assert text == "" or list(NOUNS)[number - 1] in text
    assert places[1] == {(3, 3)}
    assert places[2] == {(y, x) for y in range(1, 7) for x in range(1, 7)}
    assert places[3] == {(3, 1), (3, 2), (3, 3)}
    assert 50 < words.count("") < 150


def test_places_keep_their_distance(config: TrainConfig) -> None:
    latents = torch.zeros(1, 4, 8, 8)
    latents[:, :, 3, 3] = 1
    config = replace(config, unet=replace(config.unet, stride=2))
    scenes = SceneLatents(latents, [["ball"]], torch.tensor([[2, 3, 1, 3]]))
    sampler = LatentSampler(config, scenes, train_tokenizer(list(NOUNS), vocabulary=600))
    seen, _ = sampler.batch(torch.arange(200))
    places = {divmod(int(latent[0].argmax()), 8) for latent in seen}
    assert places == {(y, x) for y in (3, 5) for x in (1, 3, 5)}


def test_close_ups_are_shown_below_their_timestep_only(config: TrainConfig) -> None:
    close = CloseUps(Motion(1.5, 1.5), variants=2, below=600, share=0.5)
    config = replace(config, unet=replace(config.unet, close=close))
    vae = build_vae(config).eval()
    scenes, near = cached_scenes(config, vae), cached_close_ups(config, vae)
    assert near is not None
    assert len(near.latents) == 2 * len(NOUNS)
    marked = [
        replace(part, latents=torch.full_like(part.latents, mark))
        for mark, part in enumerate((scenes, near))
    ]
    tokenizer = train_tokenizer(list(NOUNS), vocabulary=600)
    sampler = LatentSampler(config, marked[0], tokenizer, marked[1])
    timesteps = torch.arange(1000)
    shown = sampler.batch(timesteps)[0][:, 0, 0, 0]
    assert not shown[600:].any()
    assert 240 < shown[:600].sum() < 360


def test_free_cells_are_counted_on_white_only() -> None:
    picture = torch.ones(3, 64, 64)
    picture[:, 24:40, 16:56] = -1
    assert free_cells(picture).tolist() == [1, 0, 2, 2]
    assert free_cells(picture * 0.5).tolist() == [0, 0, 0, 0]
    assert free_cells(torch.ones(3, 64, 64)).tolist() == [0, 0, 0, 0]


def test_training_goes_on_from_a_pipeline(config: TrainConfig) -> None:
    for step in ("vae", "unet", "export"):
        command.run(step, config)
    start, cache = config.paths.model, config.paths.cache
    paths = replace(config.paths, cache=cache.parent / "more", model=start.parent / "further")
    leave = shutil.ignore_patterns("checkpoints", "vae")
    shutil.copytree(cache, paths.cache, ignore=leave)
    still = replace(config.unet.stage, learning_rate=0.0)
    further = replace(config, paths=paths, unet=replace(config.unet, start=start, stage=still))
    for step in ("unet", "export"):
        command.run(step, further)
    for part in ("unet", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        before, after = load_file(start / file), load_file(paths.model / file)
        assert all(torch.allclose(before[key], after[key], atol=1e-3) for key in before)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        files = [folder / "tokenizer" / file for folder in (start, paths.model)]
        assert files[0].read_text() == files[1].read_text()


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
    with pytest.raises(ValueError, match="'tpu'"):
        profile("tpu")


def test_a_budget_bounds_every_run() -> None:
    assert total_minutes(GPU) * 60 <= 400
    for run in PROFILES.values():
        fitted = within(run, 100)
        assert total_minutes(fitted) * 60 == pytest.approx(100)
        assert fitted.unet.stage.minutes / run.unet.stage.minutes == pytest.approx(
            fitted.vae.stage.minutes / run.vae.stage.minutes
        )
    with pytest.raises(ValueError, match="budget is 0"):
        within(GPU, 0)


def test_scenes_show_what_their_captions_say() -> None:
    layers = torch.zeros(1, 4, 64, 64)
    layers[:, 0, 16:48, 16:48] = layers[:, 3, 16:48, 16:48] = 1
    noun = Noun("box", "0", None, ())
    torch.manual_seed(0)
    chance = random.Random(0)
    staging = Staging(Motion(0.6, 0.9, 0.05), most=3, coloured=0.5, shaded=0.5)
    numbers, grounds = set(), set()
    for _ in range(40):
        pictures, (scene,) = stage([noun], layers, staging, 64, chance)
        red = (pictures[0, 0] > 0.9) & (pictures[0, 1] < -0.9)
        assert ndimage.label(red.numpy())[1] == scene.number
        corner = pictures[0, :, 0, 0].add(1).mul(127.5).round().int().tolist()
        assert corner == list(GROUNDS[scene.ground])
        numbers.add(scene.number)
        grounds.add(scene.ground)
        for text in scene.captions():
            assert ("boxes" in text) == (scene.number > 1)
            assert (scene.ground in text) or scene.ground == "white"
    assert numbers == {1, 2, 3}
    assert len(grounds) > 4


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cat", "cats"),
        ("fox", "foxes"),
        ("cherries", "cherries"),
        ("butterfly", "butterflies"),
        ("key", "keys"),
        ("dress", "dresses"),
        ("maple leaf", "maple leaves"),
        ("jellyfish", "jellyfish"),
    ],
)
def test_plural(one: str, many: str) -> None:
    assert plural(one) == many
