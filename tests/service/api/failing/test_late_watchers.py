"""Who watches after the events have ended is told how it ended, over both front ends."""

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from tests.service.api.stack import Stack


def _events(stack: Stack, generation_id: str, last: str | None = None) -> tuple[int, list[str]]:
    headers = {} if last is None else {"last-event-id": last}
    answer = stack.http.get(f"/v1/generations/{generation_id}/events", headers=headers)
    lines = answer.text.splitlines()
    return answer.status_code, [line for line in lines if line.startswith(("event:", "id:"))]


def test_the_record_tells_the_end(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    status, told = _events(stack, generation_id)
    seen = told[-1].removeprefix("id: ")
    stack.records.redis.delete(f"hidiffusion:events:{generation_id}")

    status, late = _events(stack, generation_id)
    assert (status, [line for line in late if line.startswith("event")]) == (
        200,
        ["event: succeeded"],
    )
    assert _events(stack, generation_id, late[-1].removeprefix("id: "))[0] == 204
    assert _events(stack, generation_id, seen)[0] == 204
    assert "event: succeeded" in _events(stack, generation_id, "1-0")[1]

    watched = stack.stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation_id), timeout=20)
    assert [each.event.WhichOneof("event") for each in watched] == ["succeeded"]


def test_events_end_before_their_record(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    lives = [
        stack.records.redis.ttl(f"hidiffusion:{kind}:{generation_id}")
        for kind in ("events", "generation")
    ]
    assert 0 < lives[0] <= 4 * 3600 < lives[1]
