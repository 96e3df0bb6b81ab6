"""What is drawn comes to its end beside the next one, with a scripted pipeline process."""

import signal

import pytest

from service.domain.generations.generation import Status
from tests.service.supervisor.test_supervisor import WHOLE_STORY, Desk


@pytest.fixture
def desk(redis_url):
    return Desk(redis_url)


def _times(desk, generation_id, attempt=1):
    """When an attempt began, and when it ended."""
    events = [event for event in desk.events(generation_id) if event.attempt == attempt]
    return next(event.at for event in events if event.type == "started"), events[-1].at


def test_the_next_one_runs_while_the_last_one_is_encoded(desk, start_worker):
    first, second = desk.submit("develop"), desk.submit("paint")
    worker = start_worker()
    for generation_id in (first, second):
        assert desk.wait_for_end(generation_id).status is Status.SUCCEEDED
        assert desk.story(generation_id) == WHOLE_STORY
    assert _times(desk, second)[0] < _times(desk, first)[1]
    desk.wait_for_state("idle")
    assert len(worker.children) == 1


def test_what_comes_later_runs_beside_it_too(desk, start_worker):
    first = desk.submit("develop")
    start_worker()
    desk.wait_for_steps(first)
    desk.wait_for_state("busy")
    assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
    assert desk.wait_for_end(first).attempt == 1


def test_a_third_one_waits(desk, start_worker):
    drawn, running, third = (desk.submit(prompt) for prompt in ("develop", "slow", "paint"))
    start_worker()
    desk.wait_for_steps(running)
    statuses = [desk.get(each).status for each in (drawn, running, third)]
    assert statuses == [Status.RUNNING, Status.RUNNING, Status.QUEUED]
    desk.cancel(running)
    assert desk.wait_for_end(running).status is Status.CANCELLED
    assert desk.wait_for_end(third).status is Status.SUCCEEDED


def test_either_is_cancelled_for_itself(desk, start_worker):
    drawn, running = desk.submit("develop"), desk.submit("slow")
    worker = start_worker()
    desk.wait_for_steps(running)
    desk.cancel(running)
    assert desk.wait_for_end(running).status is Status.CANCELLED
    assert desk.wait_for_end(drawn).status is Status.SUCCEEDED

    drawn = desk.submit("develop")
    desk.wait_for_steps(drawn)
    desk.cancel(drawn)
    assert desk.wait_for_end(drawn).status is Status.CANCELLED
    assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
    assert len(worker.children) == 1


def test_one_that_does_not_stop_in_time_costs_the_next_one_nothing(desk, start_worker):
    drawn, running = desk.submit("fix"), desk.submit("slow")
    worker = start_worker()
    desk.wait_for_steps(running)
    desk.cancel(drawn)
    assert desk.wait_for_end(drawn).status is Status.CANCELLED
    assert desk.get(running).status is Status.RUNNING
    desk.cancel(running)  # then the other one succeeds, too late
    assert desk.wait_for_end(running).status is Status.CANCELLED
    assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
    assert desk.story(drawn)[-1] == ("cancelled", 1)
    assert len(worker.children) == 1


def test_alone_it_is_not_waited_for_for_ever(desk, start_worker):
    drawn = desk.submit("fix")
    worker = start_worker()
    desk.wait_for_steps(drawn)
    desk.cancel(drawn)
    assert desk.wait_for_end(drawn).status is Status.CANCELLED
    assert desk.wait_for_end_of("paint").status is Status.SUCCEEDED
    assert len(worker.children) == 2


def test_what_dies_with_it_is_tried_again_and_then_each_runs_alone(desk, start_worker):
    drawn, other = desk.submit("develop"), desk.submit("stumble")
    start_worker()
    for generation_id in (drawn, other):
        ended = desk.wait_for_end(generation_id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
    (first_began, first_ended), (next_began, _) = sorted(
        _times(desk, each, attempt=2) for each in (drawn, other)
    )
    assert first_began < first_ended <= next_began


def test_one_that_always_crashes_takes_another_down_once(desk, start_worker):
    drawn, doomed = desk.submit("develop"), desk.submit("doom")
    start_worker()
    failed = desk.wait_for_end(doomed)
    assert (failed.attempt, failed.error.reason) == (3, "ATTEMPTS_LOST")
    ended = desk.wait_for_end(drawn)
    assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)


def test_a_worker_that_shuts_down_brings_it_to_its_end(desk, start_worker):
    worker = start_worker()
    drawn = desk.submit("dry")
    desk.wait_for_steps(drawn)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert desk.story(drawn) == WHOLE_STORY
