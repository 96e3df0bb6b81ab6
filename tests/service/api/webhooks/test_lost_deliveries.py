"""Webhooks whose delivery is broken off: by a kill, by a slow receiver, by a stop."""

import contextlib
import signal
import socket
import threading
import time

import pytest

from service.api.webhooks.delivery import Courier, DeliveryFailed, Envelope
from service.api.webhooks.worker import AT_ONCE_TO_HOST
from service.domain.webhooks import Targets
from service.events.connection import connect
from service.records.queue.outbox import RedisWebhooks
from tests.service.api.webhooks.receiver import receiving
from tests.service.api.webhooks.test_delivery import SECRET
from tests.service.api.webhooks.test_worker import finish
from tests.service.supervisor.waiting import wait_until


def test_a_killed_worker_loses_no_webhook(stack, receiver, deliverers, outbox, shared_redis):
    """Killed between the final state and the delivery, and again in the middle of one."""
    generation_id = finish(stack, receiver)
    (waiting,) = outbox.undelivered()
    assert (waiting.id, waiting.state, waiting.attempts) == (generation_id, "due", 0)

    receiver.hold.clear()
    first = deliverers.start()
    assert receiver.came.wait(30)
    first.kill()
    first.wait()
    receiver.hold.set()

    (left,) = outbox.undelivered()
    assert (left.id, left.state, left.attempts) == (generation_id, "due", 1)
    _end_leases(shared_redis.url)
    deliverers.start()
    wait_until(lambda: not outbox.undelivered(), "the delivery")
    assert [each["data"]["id"] for each in receiver.documents] == [generation_id] * 2


def test_a_delivery_taken_and_lost_is_due_again(stack, receiver, deliverers, outbox, shared_redis):
    """As if killed between taking it out of RQ's queue and beginning: only the lease tells."""
    finish(stack, receiver)
    outbox.relay(60.0)
    assert outbox.take(1.0)
    assert outbox.take(0.1) is None
    _end_leases(shared_redis.url)
    deliverers.start()
    wait_until(lambda: not outbox.undelivered(), "the delivery")
    assert len(receiver.deliveries) == 1


def test_a_slow_receiver_is_given_up(stack, receiver, deliverers, outbox):
    receiver.hold.clear()
    finish(stack, receiver)
    deliverers.start(timeout_seconds=1, max_attempts=1)
    wait_until(lambda: [each.state for each in outbox.undelivered()] == ["dead"], "its death")


def test_a_receiver_that_trickles_is_given_up_too():
    """Each piece comes in time, and the whole never does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            end, _ = listener.accept()
            with end, contextlib.suppress(OSError):
                end.sendall(b"HTTP/1.1 204 No")
                while True:
                    end.sendall(b"x")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        courier = Courier(Targets.parse(["127.0.0.1"]), 0.5)
        with pytest.raises(DeliveryFailed, match="ReadTimeout"):
            courier.deliver(Envelope("msg_1", url, b"{}"), [SECRET])


def test_slow_receivers_keep_no_other_waiting(stack, receiver, deliverers, outbox):
    receiver.hold.clear()
    for _ in range(12):
        finish(stack, receiver)
    deliverers.start(timeout_seconds=20)
    assert receiver.came.wait(30)
    with receiving("127.0.0.2") as other:
        finish(stack, other)
        assert other.came.wait(15), "it waited for the slow ones"
    assert len(receiver.deliveries) <= AT_ONCE_TO_HOST
    receiver.hold.set()
    wait_until(lambda: not outbox.undelivered(), "all deliveries")
    assert len(receiver.deliveries) == 12


def test_the_oldest_ages_from_its_final_state_on(stack, receiver, outbox, shared_redis):
    figures = RedisWebhooks(connect(shared_redis.url)).figures
    generation_id = finish(stack, receiver)
    unclaimed = figures()
    outbox.relay(60.0)
    claimed = figures()
    assert outbox.begin(generation_id, 60.0)
    outbox.again(generation_id, 3600.0, "the receiver answered 503")
    tried = figures()
    outbox.done(generation_id)
    done = figures()

    ages = [each.oldest_seconds for each in (unclaimed, claimed, tried)]
    assert 0 < ages[0] <= ages[1] <= ages[2] < 600
    assert [each.waiting for each in (unclaimed, claimed, tried, done)] == [1, 1, 1, 0]
    assert (done.delivered, done.failed_attempts, done.oldest_seconds) == (1, 1, 0)


def test_neither_secrets_nor_urls_are_logged(stack, receiver, deliverers, outbox):
    receiver.answers.append(500)
    finish(stack, receiver)
    process = deliverers.start()
    wait_until(lambda: not outbox.undelivered(), "the delivery")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0

    log = deliverers.log.read_text()
    assert "answered 500" in log
    assert deliverers.secret.removeprefix("whsec_") not in log
    assert "to=me" not in log


def _end_leases(url):
    """What a test need not wait for: the time of every lease passes."""
    with connect(url) as client:
        for each in client.zrange("hidiffusion:webhooks:due", 0, -1):
            client.zadd("hidiffusion:webhooks:due", {each: 0})
