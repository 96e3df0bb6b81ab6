"""Compatible generations that one worker runs as a batch, with a scripted pipeline process."""

import pytest

from service.domain.generations.generation import Status
from tests.generations import make_generation
from tests.service.supervisor.test_supervisor import Desk
from tests.service.supervisor.waiting import wait_until


@pytest.fixture
def desk(redis_url):
    return Desk(redis_url)


def _running(desk, ids) -> int:
    return sum(desk.get(each).status is Status.RUNNING for each in ids)


def test_what_goes_together_runs_together_and_ends_by_itself(desk, start_worker):
    slow, *paints = (desk.submit(prompt) for prompt in ("slow", "paint", "paint"))
    larger = desk.records.accept(make_generation(size=128), None).id
    worker = start_worker(max_batch=4)
    wait_until(lambda: _running(desk, (slow, *paints)) == 3, "three at once")
    assert desk.get(larger).status is Status.QUEUED

    desk.cancel(slow)
    assert desk.wait_for_end(slow).status is Status.CANCELLED
    for generation_id in (*paints, larger):
        assert desk.wait_for_end(generation_id).status is Status.SUCCEEDED
        assert desk.story(generation_id) == [
            ("queued", 0),
            ("started", 1),
            ("step", 1),
            ("succeeded", 1),
        ]
    assert len(worker.children) == 1


@pytest.mark.parametrize(("settings", "most"), [({"max_batch": 2}, 2), ({}, 1)])
def test_no_more_than_the_setting_run_together(desk, start_worker, settings, most):
    ids = [desk.submit("slow") for _ in range(3)]
    start_worker(**settings)
    desk.wait_for_steps(ids[0])
    assert _running(desk, ids) == most
    for generation_id in ids:
        desk.cancel(generation_id)
        assert desk.wait_for_end(generation_id).status is Status.CANCELLED


def test_no_more_than_there_is_memory_for_run_together(desk, start_worker):
    ids = [desk.submit("slow") for _ in range(3)]
    start_worker(max_batch=3, capacity=2 * 64 * 64)
    desk.wait_for_steps(ids[0])
    assert _running(desk, ids) == 2
    for generation_id in ids:
        desk.cancel(generation_id)
        desk.wait_for_end(generation_id)


def test_one_that_always_crashes_takes_its_mates_down_once(desk, start_worker):
    doomed, *mates = (desk.submit(prompt) for prompt in ("doom", "paint", "paint"))
    start_worker(max_batch=3)
    assert desk.wait_for_end(doomed).error.reason == "ATTEMPTS_LOST"
    for generation_id in mates:
        ended = desk.wait_for_end(generation_id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 2)
