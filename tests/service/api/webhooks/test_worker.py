"""Webhooks from a request to a receiver, through Redis and a process that delivers."""

import re
import time

import pytest
import redis
from standardwebhooks import Webhook

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from tests.service.api.webhooks.conftest import PUBLIC_URL
from tests.service.supervisor.waiting import wait_until

pytestmark = pytest.mark.usefixtures("steady")


def finish(stack, receiver, **webhook):
    generation_id = stack.submit(
        webhook={"url": receiver.url, **webhook}, client_metadata={"href": "mine"}
    )
    stack.worker.run(generation_id)
    return generation_id


def test_a_final_state_is_delivered_and_verifies(stack, receiver, steady, outbox):
    generation_id = finish(stack, receiver)
    wait_until(lambda: not outbox.undelivered(), "the delivery")

    ((headers, body),) = receiver.deliveries
    event = Webhook(steady.secret).verify(body, headers)
    assert headers["webhook-id"] == f"msg_{generation_id}"
    assert event["type"] == "generation.succeeded"
    record = stack.http.get(f"/v1/generations/{generation_id}").json()
    assert event["timestamp"] == record["finished_at"]
    data = event["data"]
    assert data["links"]["image"] == f"{PUBLIC_URL}{record['links']['image']}"
    assert data["result"]["pyramid"]["href"] == f"{PUBLIC_URL}{record['links']['tiles']}"
    assert data["client_metadata"] == {"href": "mine"}


def test_each_final_state_has_its_event(stack, receiver, outbox):
    failed = stack.submit(webhook={"url": receiver.url})
    stack.worker.fail(stack.worker.start(failed))
    cancelled = stack.submit(webhook={"url": receiver.url})
    stack.http.delete(f"/v1/generations/{cancelled}")
    quiet = finish(stack, receiver, events=["generation.failed"])
    wait_until(lambda: not outbox.undelivered(), "the deliveries")

    events = {each["data"]["id"]: each["type"] for each in receiver.documents}
    assert events == {failed: "generation.failed", cancelled: "generation.cancelled"}
    assert quiet not in events


def test_failures_are_tried_again_with_the_same_id_and_body(stack, receiver, outbox):
    receiver.answers += [503, 503]
    finish(stack, receiver)
    wait_until(lambda: not outbox.undelivered(), "the delivery")

    ids = {headers["webhook-id"] for headers, _ in receiver.deliveries}
    bodies = {body for _, body in receiver.deliveries}
    assert (len(receiver.deliveries), len(ids), len(bodies)) == (3, 1, 1)


def test_the_dead_are_listed_and_can_be_revived(stack, receiver, outbox):
    receiver.answers += [500, 500, 500]
    generation_id = finish(stack, receiver)
    wait_until(lambda: [each.state for each in outbox.undelivered()] == ["dead"], "its death")

    (dead,) = outbox.undelivered()
    assert (dead.id, dead.attempts) == (generation_id, 3)
    assert "500" in dead.error
    assert outbox.revive(generation_id)
    wait_until(lambda: not outbox.undelivered(), "the delivery")
    assert len(receiver.deliveries) == 4
    assert not outbox.revive(generation_id)


def test_a_receiver_that_wants_no_more_is_left_alone(stack, receiver, outbox):
    receiver.answers.append(410)
    finish(stack, receiver)
    wait_until(lambda: [each.state for each in outbox.undelivered()] == ["dead"], "its death")
    assert len(receiver.deliveries) == 1


def test_every_front_end_tells_how_deliveries_stand(stack, receiver, outbox):
    receiver.answers += [503, 410]
    finish(stack, receiver)
    wait_until(lambda: [each.state for each in outbox.undelivered()] == ["dead"], "its death")
    finish(stack, receiver)
    finish(stack, receiver, events=["generation.failed"])
    wait_until(lambda: len(outbox.undelivered()) == 1, "the deliveries")

    assert _figures(stack) == {
        'attempts_total{outcome="delivered"}': 1,
        'attempts_total{outcome="failed"}': 2,
        'deliveries_total{outcome="delivered"}': 1,
        'deliveries_total{outcome="dead"}': 1,
        "s_waiting": 0,
        "s_dead": 1,
        "oldest_seconds": 0,
    }


def _figures(stack):
    lines = re.findall(
        r"^hidiffusion_webhook_?(\S+) (\S+)$", stack.http.get("/metrics").text, re.MULTILINE
    )
    return {name: float(value) for name, value in lines}


def test_grpc_asks_for_the_same(stack, receiver):
    request = rpc.CreateGenerationRequest(prompt="a fox")
    request.webhook.url = receiver.url
    request.webhook.events.append("generation.failed")
    made = stack.stub.CreateGeneration(request).generation
    assert made.webhook == request.webhook
    record = stack.http.get(f"/v1/generations/{made.id}").json()
    assert record["webhook"] == {"url": receiver.url, "events": ["generation.failed"]}


def test_generations_without_a_webhook_leave_nothing(stack, outbox):
    stack.worker.run(stack.submit())
    assert outbox.undelivered() == []


def test_it_goes_on_once_redis_takes_writes_again(stack, receiver, steady, shared_redis):
    """RQ cannot deregister it meanwhile, and would then refuse its name for eight minutes."""
    with redis.Redis.from_url(shared_redis.url) as client:
        seen = steady.log.read_text().count("unhandled exception")
        client.config_set("maxmemory", 1)
        try:
            wait_until(
                lambda: steady.log.read_text().count("unhandled exception") > seen, "it to fail"
            )
            time.sleep(0.3)
        finally:
            client.config_set("maxmemory", 0)
    finish(stack, receiver)
    assert receiver.came.wait(30)
