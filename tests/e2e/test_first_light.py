"""From a prompt to a tiled picture, through real sockets, processes and the shipped model."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from httpx_sse import connect_sse
from PIL import Image

from hidiffusion_api.v1 import (
    generation_service_pb2,
    generation_service_pb2_grpc,
)
from service import bootstrap
from service.cli.embedded import Embedded
from service.events.connection import connect
from service.records.records import RedisRecords

#: Enough steps for every stage of the schedule to run; the picture's quality is not the point.
STEPS = 6

#: Of the default method of the bundled model: at native size first, then at the size asked for.
PASSES = 2


@pytest.fixture
def http(service: Embedded) -> Iterator[httpx.Client]:
    """A client of the running service."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def create(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    """Submit a small request; returns the accepted record."""
    body = {"prompt": "a red guitar", "num_inference_steps": STEPS, "seed": 7, **fields}
    response = http.post("/v1/generations", json=body)
    assert response.status_code == 202, response.text
    record: dict[str, Any] = response.json()
    return record


def follow(http: httpx.Client, generation_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Every event of a generation, to the end."""
    with connect_sse(http, "GET", f"/v1/generations/{generation_id}/events") as source:
        return [(sse.event, json.loads(sse.data)) for sse in source.iter_sse() if sse.data]


def image_bytes(http: httpx.Client, generation_id: str) -> bytes:
    """The finished full-size picture."""
    response = http.get(f"/v1/generations/{generation_id}/image", follow_redirects=True)
    assert response.status_code == 200, response.text
    return response.content


class Viewer:
    """Follows a generation and draws every full-size tile the moment its event comes."""

    def __init__(self, url: str, width: int, height: int) -> None:
        self.canvas = np.full((height, width, 3), 255, dtype=np.uint8)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._url = url

    def watch(self, generation_id: str) -> None:
        """Watch and draw to the end; the picture itself is never asked for."""
        with httpx.Client(base_url=self._url, timeout=60) as http:
            path = f"/v1/generations/{generation_id}/events"
            with connect_sse(http, "GET", path) as source:
                for sse in source.iter_sse():
                    if sse.data:
                        self.events.append((sse.event, json.loads(sse.data)))
                    if sse.event == "tile":
                        self._draw(self.events[-1][1]["tile"])

    def _draw(self, tile: dict[str, Any]) -> None:
        right, bottom = tile["left"] + tile["width"], tile["top"] + tile["height"]
        # Level n is 2**n pixels along its longer side at most; the last one is the picture.
        if tile["level"] == (max(self.canvas.shape) - 1).bit_length():
            response = httpx.get(self._url + tile["href"])
            assert response.status_code == 200
            pixels = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))
            self.canvas[tile["top"] : bottom, tile["left"] : right] = pixels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height", "tile_format"),
    [
        (512, 512, "png"),
        pytest.param(1024, 1024, "png", marks=pytest.mark.long),
        (768, 512, "webp"),
    ],
)
def test_a_prompt_becomes_a_tiled_picture(
    service: Embedded, http: httpx.Client, width: int, height: int, tile_format: str
) -> None:
    generation = create(http, width=width, height=height, tile_format=tile_format)
    viewer = Viewer(service.url, width, height)
    viewer.watch(generation["id"])
    events = viewer.events

    kinds = [kind for kind, _ in events]
    assert kinds[:2] == ["queued", "started"]
    assert kinds[-1] == "succeeded"
    steps = [data["step"] for kind, data in events if kind == "step"]
    assert steps == list(range(1, PASSES * STEPS + 1))
    assert kinds.index("tile") > max(i for i, kind in enumerate(kinds) if kind == "step")
    tiles = [data for kind, data in events if kind == "tile"]
    assert [data["done"] for data in tiles] == list(range(1, tiles[0]["total"] + 1))

    image = Image.open(io.BytesIO(image_bytes(http, generation["id"])))
    assert image.size == (width, height)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(viewer.canvas, np.asarray(image))
    assert {data["tile"]["href"].rpartition(".")[2] for data in tiles} == {tile_format}
    assert "a red guitar" in image.text["parameters"]  # type: ignore[attr-defined]
    record = http.get(f"/v1/generations/{generation['id']}").json()
    assert record["result"]["recipe"]["request"]["seed"] == 7
    assert bootstrap.verify(service.settings) == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_loads_nothing(
    service: Embedded, http: httpx.Client
) -> None:
    redis = service.settings.redis
    records = RedisRecords(connect(redis.url), redis)
    pictures, loads = [], []
    for _ in range(2):
        generation = create(http, width=512, height=512)
        assert follow(http, generation["id"])[-1][0] == "succeeded"
        pictures.append(image_bytes(http, generation["id"]))
        loads.append([worker.pipeline_loads for worker in records.workers()])
    assert pictures[0] == pictures[1]
    assert loads[0] == loads[1]


@pytest.mark.slow
def test_grpc_makes_the_same_picture_as_http(service: Embedded, http: httpx.Client) -> None:
    with grpc.insecure_channel(service.grpc_address) as channel:
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        created = stub.CreateGeneration(
            generation_service_pb2.CreateGenerationRequest(
                prompt="a red guitar", num_inference_steps=STEPS, seed=7, width=512, height=512
            )
        ).generation
        watched = [
            response.event.WhichOneof("event")
            for response in stub.WatchGeneration(
                generation_service_pb2.WatchGenerationRequest(id=created.id)
            )
        ]
        parts = list(stub.StreamTiles(generation_service_pb2.StreamTilesRequest(id=created.id)))
    assert watched[0] == "queued"
    assert watched[-1] == "succeeded"
    tiles = [part.chunk for part in parts[:-1]]
    assert sum(len(tile.data) for tile in tiles) == sum(
        tile.size_bytes for tile in tiles if tile.offset == 0
    )
    twin = create(http, width=512, height=512)
    follow(http, twin["id"])
    assert image_bytes(http, created.id) == image_bytes(http, twin["id"])


@pytest.mark.slow
def test_a_cancelled_generation_stops_and_the_next_one_is_right(http: httpx.Client) -> None:
    doomed = create(http, width=512, height=512, num_inference_steps=150)
    while http.get(f"/v1/generations/{doomed['id']}").json()["progress"]["step"] < 1:
        time.sleep(0.1)
    http.delete(f"/v1/generations/{doomed['id']}")
    events = follow(http, doomed["id"])
    assert events[-1][0] == "cancelled"
    assert sum(kind == "step" for kind, _ in events) < 150

    first, second = create(http, width=512, height=512), create(http, width=512, height=512)
    for generation in (first, second):
        assert follow(http, generation["id"])[-1][0] == "succeeded"
    assert image_bytes(http, first["id"]) == image_bytes(http, second["id"])
