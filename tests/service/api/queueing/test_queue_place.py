"""Both front ends tell where a queued generation stands and how long it is likely to wait."""

from datetime import UTC, datetime, timedelta

import pytest

from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from tests.service.api.stack import Stack


def _message(stack: Stack, generation_id: str) -> pb.Generation:
    return stack.stub.GetGeneration(rpc.GetGenerationRequest(id=generation_id)).generation


def _run_for(stack: Stack, generation_id: str, seconds: float) -> None:
    """Play a worker that began this long ago and has just finished."""
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    generation = stack.records.begin_attempt(generation_id, "played", began)
    assert generation is not None
    stack.worker.succeed(generation)


def test_positions_count_from_the_next_to_run(stack: Stack) -> None:
    ids = [stack.submit() for _ in range(3)]
    stack.worker.start(ids[0])

    records = [stack.http.get(f"/v1/generations/{each}").json() for each in ids]

    unknown = {"estimated_wait_seconds": None}
    assert [record["queue"] for record in records] == [
        None,
        {"position": 1, **unknown},
        {"position": 2, **unknown},
    ]
    assert [_message(stack, each).queue.position for each in ids] == [0, 1, 2]
    assert not _message(stack, ids[1]).queue.HasField("estimated_wait")


def test_more_urgent_generations_come_first(stack: Stack) -> None:
    normal, high = stack.submit(), stack.submit(priority="high")

    places = [stack.http.get(f"/v1/generations/{each}").json()["queue"] for each in (normal, high)]

    assert [place["position"] for place in places] == [2, 1]


def test_wait_follows_from_what_the_last_ones_took_and_who_works(stack: Stack) -> None:
    for seconds in (1, 10, 500):
        _run_for(stack, stack.submit(), seconds)
    ids = [stack.submit() for _ in range(2)]
    stack.add_worker()

    waits = [
        stack.http.get(f"/v1/generations/{each}").json()["queue"]["estimated_wait_seconds"]
        for each in ids
    ]

    assert waits == [pytest.approx(5, abs=1), pytest.approx(15, abs=3)]
    wait = _message(stack, ids[1]).queue.estimated_wait.ToTimedelta()
    assert wait.total_seconds() == pytest.approx(waits[1])
