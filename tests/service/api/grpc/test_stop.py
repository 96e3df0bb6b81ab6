"""A server that stops waits for its streams to be closed, also those that nobody reads."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.api.grpc.server import GrpcServer
from service.application.generations.watch import WatchGeneration
from service.application.requests.parse import parse_request
from service.domain.generations.events import Queued, StoredEvent
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.stack import use_cases


class _Flood:
    """Events without end, and a clean-up that takes its time, as that of a busy Redis does."""

    def __init__(self) -> None:
        self.closed = False

    async def follow(
        self, generation_id: str, after: str | None, idle_seconds: float
    ) -> AsyncIterator[StoredEvent | None]:
        del generation_id, after, idle_seconds
        try:
            while True:
                yield StoredEvent("1-0", Queued(attempt=0, at=datetime.now(UTC)))
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0.3)
            self.closed = True


@pytest.mark.parametrize("left", [False, True], ids=["client stays", "client leaves"])
async def test_streams_are_closed_before_the_server_is(
    redis_url: str, tmp_path: Path, *, left: bool
) -> None:
    cases, records = use_cases(redis_url, open_store(StoreSettings(url=tmp_path.as_uri())))
    flood = _Flood()
    watch = WatchGeneration(records, flood)
    server = GrpcServer(
        replace(cases, watch=watch), ApiSettings(grpc_port=0, http_port=0), asyncio.Event()
    )
    await server.start()
    generation = cases.submit(parse_request({"prompt": "a fox"}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = stubs.GenerationServiceStub(channel)
        call = stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation.id))
        await call.read()
        await asyncio.sleep(0.5)  # until the server waits for somebody to read
        if left:
            call.cancel()
        await server.stop(0)

    assert flood.closed
