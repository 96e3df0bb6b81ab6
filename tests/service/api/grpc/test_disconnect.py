"""Calls that end before their generation does, and connections that ask for too much."""

import time

import grpc
import pytest

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.domain.generations.generation import Status
from tests.service.api.stack import Stack

TIMEOUT = 10


def _status(stack: Stack, generation_id: str, patience: float = TIMEOUT) -> Status:
    """The generation's status once it is final, or as it stands after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (status := stack.records.get(generation_id).status).final:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return status


def test_a_cancelled_watch_takes_the_generation_with_it(stack: Stack) -> None:
    generation_id = stack.submit()
    request = rpc.WatchGenerationRequest(id=generation_id, cancel_on_disconnect=True)
    watch = stack.stub.WatchGeneration(request)
    next(watch)
    watch.cancel()

    assert _status(stack, generation_id) is Status.CANCELLED


def test_a_deadline_reaches_a_running_job(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.start(generation_id)
    request = rpc.StreamTilesRequest(id=generation_id, cancel_on_disconnect=True)
    with pytest.raises(grpc.RpcError) as caught:
        list(stack.stub.StreamTiles(request, timeout=2))

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    deadline = time.monotonic() + TIMEOUT
    while not stack.records.get(generation_id).cancel_requested:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lost_connection_takes_the_generation_with_it(stack: Stack) -> None:
    generation_id = stack.submit()
    request = rpc.WatchGenerationRequest(id=generation_id, cancel_on_disconnect=True)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(stack.endpoints.grpc_address, options=options) as channel:
        next(stubs.GenerationServiceStub(channel).WatchGeneration(request))

    assert _status(stack, generation_id) is Status.CANCELLED


def test_the_generation_goes_on_unless_asked(stack: Stack) -> None:
    generation_id = stack.submit()
    with pytest.raises(grpc.RpcError):
        list(stack.stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation_id), timeout=0.3))

    assert _status(stack, generation_id, patience=0.7) is Status.QUEUED


def test_a_watch_that_ends_by_itself_cancels_nothing(stack: Stack) -> None:
    generation_id = stack.submit()
    worker = stack.worker
    worker.succeed(worker.start(generation_id))
    request = rpc.WatchGenerationRequest(id=generation_id, cancel_on_disconnect=True)
    list(stack.stub.WatchGeneration(request, timeout=TIMEOUT))

    assert _status(stack, generation_id) is Status.SUCCEEDED


def test_a_client_that_pings_too_often_is_cut_off(stack: Stack) -> None:
    generation_id = stack.submit()
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(stack.endpoints.grpc_address, options=options) as channel:
        stub = stubs.GenerationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation_id), timeout=20))

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "too_many_pings" in (caught.value.details() or "").lower().replace(" ", "_")


def test_the_service_takes_messages_up_to_its_limit_alone(stack: Stack) -> None:
    request = rpc.CreateGenerationRequest(prompt="x" * 2**17)
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.CreateGeneration(request, timeout=TIMEOUT)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
