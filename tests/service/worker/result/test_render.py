"""Rendering latents of a tiny autoencoder into real stores."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from service.application.ports import ObjectInfo, ObjectStore
from service.application.verify import is_whole
from service.domain.artifacts import ArtifactKeys
from service.domain.errors import StoreError
from service.domain.generations.events import Event
from service.domain.generations.generation import Generation
from service.settings import StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.engines.decoding import decoded
from service.worker.job.attempt import Attempt, CancelSignal
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.render import Rendering
from tests.hidiffusion.tiny import models as tiny_models

NewGeneration = Callable[..., Generation]


class _Recorder:
    """A store that remembers the order of its writes, and can refuse one of them."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.written: list[str] = []
        self.refuse = ""

    def put(self, key: str, data: bytes, media_type: str) -> ObjectInfo:
        if self.refuse and self.refuse in key:
            raise StoreError("denied")
        self.written.append(key)
        return self._store.put(key, data, media_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def store(tmp_path: Path) -> _Recorder:
    return _Recorder(open_store(StoreSettings(url=tmp_path.as_uri())))


def _render(
    store: _Recorder,
    generation: Generation,
    *,
    latents: torch.Tensor | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    told: list[Event] | None = None,
    earlier: ArtifactKeys | None = None,
    vae: Any = None,
) -> Any:
    request = generation.request
    events = [] if told is None else told
    attempt, stopwatch = Attempt(generation, events.append, cancelled), Stopwatch()
    drawn = _latents(request.height, request.width) if latents is None else latents
    with Rendering(
        attempt,
        store=store,  # type: ignore[arg-type]
        settings=WorkerSettings(tile_size=64),
        recipe={"request": request.model_dump()},
        stopwatch=stopwatch,
        earlier=earlier,
    ) as rendering:
        rendering.draw(
            lambda missing: decoded(
                vae or tiny_models.vae(), drawn, attempt, missing=missing, stopwatch=stopwatch
            )
        )
        manifest = rendering.finish()
    assert is_whole(manifest, store)  # type: ignore[arg-type]
    return manifest


def _latents(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 4, height // 8, width // 8, generator=generator)


def test_the_picture_is_what_diffusers_would_save(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    manifest = _render(store, new_generation(width=200, height=152))
    vae, latents = tiny_models.vae(), _latents(152, 200)
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor).sample
    expected = np.asarray(VaeImageProcessor().postprocess(decoded, output_type="pil")[0])
    picture = np.asarray(Image.open(io.BytesIO(store.get(manifest.image.key))))
    assert picture.shape == (152, 200, 3)
    sizes = store.sizes("generations/")
    assert (
        manifest.stored_bytes
        == sum(sizes.values())
        - sizes[ArtifactKeys(manifest.generation_id, manifest.attempt).manifest]
    )
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_without_tiles_the_picture_is_the_same_and_alone(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    told = list[Event]()
    asked = {"width": 200, "height": 152, "metadata": False}
    tiled = _render(store, new_generation(**asked))
    alone = _render(store, new_generation(**asked, tiles=False), told=told)
    assert alone.pyramid is None
    assert told == []
    assert (alone.image.sha256, alone.thumbnail.sha256) == (
        tiled.image.sha256,
        tiled.thumbnail.sha256,
    )
    keys = ArtifactKeys(alone.generation_id, alone.attempt)
    assert {*store.sizes(keys.prefix)} == {keys.image("png"), keys.thumbnail, keys.manifest}
    assert alone.stored_bytes == alone.image.bytes + alone.thumbnail.bytes


def test_16_bits_are_rounded_from_the_decoder_and_not_from_8_bits(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    manifest = _render(store, new_generation(width=200, height=152, bit_depth=16))
    vae, latents = tiny_models.vae(), _latents(152, 200)
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor).sample[0]
    expected = (decoded / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).double().numpy() * 65535
    picture = pyvips.Image.new_from_buffer(store.get(manifest.image.key), "").numpy()
    assert picture.dtype == np.uint16
    assert np.abs(picture - expected).max() <= 2
    assert manifest.pyramid.format == "png"


@pytest.mark.parametrize(("tile_format", "lossless"), [("webp", True), ("jpeg", False)])
def test_tiles_come_in_the_format_asked_for(
    store: _Recorder, new_generation: NewGeneration, tile_format: str, lossless: bool
) -> None:
    told = list[Event]()
    generation = new_generation(width=136, height=72, tile_format=tile_format)
    manifest = _render(store, generation, told=told)
    picture = np.asarray(Image.open(io.BytesIO(store.get(manifest.image.key))))
    drawn = np.zeros_like(picture)
    last = manifest.pyramid.levels[-1].level
    for tile in (event.tile for event in told if event.type == "tile"):
        image = Image.open(io.BytesIO(store.get(tile.key)))
        assert (image.format, image.size) == (tile_format.upper(), (tile.width, tile.height))
        if tile.level == last:
            right, bottom = tile.left + tile.width, tile.top + tile.height
            drawn[tile.top : bottom, tile.left : right] = np.asarray(image.convert("RGB"))
    assert manifest.pyramid.format == tile_format
    assert np.array_equal(drawn, picture) == lossless


def test_the_manifest_is_written_last_and_names_what_exists(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    generation = new_generation(width=200, height=152)
    manifest = _render(store, generation)
    keys = ArtifactKeys(generation.id, 1)
    assert store.written[-3:] == [manifest.image.key, manifest.thumbnail.key, keys.manifest]
    tiles = [
        keys.tile(level.level, column, row, "png")
        for level in manifest.pyramid.levels
        for row in range(level.rows)
        for column in range(level.columns)
    ]
    assert sorted(store.written[:-3]) == sorted(tiles)
    for ref in (manifest.image, manifest.thumbnail):
        assert store.head(ref.key).size == ref.bytes


def test_the_thumbnail_is_a_level_of_the_pyramid(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    manifest = _render(store, new_generation(width=640, height=64))
    thumbnail = Image.open(io.BytesIO(store.get(manifest.thumbnail.key)))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (320, 32))


def test_cancelling_in_the_middle_of_the_decode_leaves_no_manifest(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    generation = new_generation(width=1024, height=576)
    with pytest.raises(CancelSignal):
        _render(store, generation, cancelled=cancelled)
    assert asked == 4
    assert ArtifactKeys(generation.id, 1).manifest not in store.written


@pytest.mark.parametrize("refused", ["tiles_files/7/", "image.png", "thumbnail", "manifest"])
def test_a_store_that_refuses_anything_gets_no_manifest(
    store: _Recorder, new_generation: NewGeneration, refused: str
) -> None:
    generation, told = new_generation(width=128, height=128), list[Event]()
    store.refuse = refused
    with pytest.raises(StoreError, match="denied"):
        _render(store, generation, told=told)
    assert ArtifactKeys(generation.id, 1).manifest not in store.written
    assert {event.tile.key for event in told if event.type == "tile"} <= set(store.written)


def test_nan_latents_write_nothing(store: _Recorder, new_generation: NewGeneration) -> None:
    latents = _latents(128, 128)
    latents[0, 0, 3, 3] = torch.nan
    with pytest.raises(ArithmeticError, match="latents"):
        _render(store, new_generation(width=128, height=128), latents=latents)
    assert store.written == []


class _Regions:
    """An autoencoder that counts the regions it decodes."""

    def __init__(self) -> None:
        self.vae = tiny_models.vae()
        self.count = 0
        self.vae.decoder.conv_out.register_forward_hook(self._seen)

    def _seen(self, *_: object) -> None:
        self.count += 1


@pytest.mark.parametrize(("tile_format", "again"), [("png", 1), ("webp", 1), ("jpeg", 3)])
def test_what_an_earlier_attempt_stored_is_not_decoded_again(
    store: _Recorder, new_generation: NewGeneration, tile_format: str, again: int
) -> None:
    generation = new_generation(width=1536, height=72, tile_format=tile_format)
    whole = _render(store, generation)
    first = generation.model_copy(update={"id": "interrupted"})
    store.refuse = "20_1"
    with pytest.raises(StoreError):
        _render(store, first)
    store.refuse = ""

    regions, told = _Regions(), list[Event]()
    second = first.model_copy(update={"attempt": 2})
    manifest = _render(
        store, second, told=told, earlier=ArtifactKeys("interrupted", 1), vae=regions.vae
    )
    assert manifest.image.sha256 == whole.image.sha256
    assert regions.count == again
    tiles = [event.tile for event in told if event.type == "tile"]
    assert len(tiles) == len(store.keys("generations/interrupted/2/tiles_files"))
    for tile in tiles:
        same = ArtifactKeys(generation.id, 1).tile(tile.level, tile.column, tile.row, tile_format)
        assert store.get(tile.key) == store.get(same)


def test_a_picture_whose_tiles_are_all_there_is_not_decoded(
    store: _Recorder, new_generation: NewGeneration
) -> None:
    generation, regions = new_generation(width=200, height=152), _Regions()
    whole = _render(store, generation)
    again = generation.model_copy(update={"attempt": 2})
    manifest = _render(store, again, earlier=ArtifactKeys(generation.id, 1), vae=regions.vae)
    assert regions.count == 0
    assert manifest.image.sha256 == whole.image.sha256
