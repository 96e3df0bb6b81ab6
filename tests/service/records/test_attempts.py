"""Leases, losses and reports in a real Redis."""

import time

import pytest

from service.application.ports import WorkerInfo
from service.domain.generations.events import Cancelled, Failed, Queued
from service.domain.generations.generation import Status
from service.records.attempts import Attempts, Wanted
from tests.generations import make_generation, now


@pytest.fixture
def running(records):
    generation = records.accept(make_generation(), None)
    return records.begin_attempt(generation.id, "w1", now())


def test_a_sign_of_life_is_answered_with_what_is_wanted(records, attempts, running):
    assert attempts.touch(running.id, 1) is Wanted.CONTINUE
    assert attempts.touch(running.id, 2) is Wanted.LOST
    records.request_cancel(running.id, now())
    assert attempts.touch(running.id, 1) is Wanted.CANCEL
    records.record(running.id, Cancelled(attempt=1, at=now()))
    assert attempts.touch(running.id, 1) is Wanted.LOST
    assert attempts.touch("unknown", 1) is Wanted.LOST


def test_only_what_shows_no_sign_of_life_is_silent(records, attempts, running):
    other = records.accept(make_generation(), None)
    records.begin_attempt(other.id, "w2", now())
    time.sleep(2.0)
    attempts.touch(other.id, 1)
    assert attempts.silent(1.9) == [running.id]
    assert attempts.silent(60) == []
    records.record(running.id, Cancelled(attempt=1, at=now()))
    assert attempts.silent(0) == [other.id]


def test_a_stranger_renews_no_lease(attempts, running):
    time.sleep(0.3)
    attempts.touch(running.id, 2)
    assert attempts.silent(0.25) == [running.id]


def test_losses_queue_it_again_until_there_are_too_many(records, attempts):
    generation = records.accept(make_generation(), None)
    for number in (1, 2):
        begun = records.begin_attempt(generation.id, "w1", now())
        lost = attempts.lose(generation.id, begun.attempt, f"reason {number}", now())
        assert isinstance(lost, Queued)
        assert lost.reason == f"reason {number}"
        assert records.get(generation.id).status is Status.QUEUED
    records.begin_attempt(generation.id, "w1", now())
    assert isinstance(attempts.lose(generation.id, 3, "reason 3", now()), Failed)
    error = records.get(generation.id).error
    assert "3 attempts" in error.detail
    assert "attempt 1: reason 1; attempt 2: reason 2; attempt 3: reason 3" in error.detail
    assert not error.retryable


def test_a_loss_counts_once_whoever_notices_it(records, attempts, running):
    assert isinstance(attempts.lose(running.id, 1, "noticed", now()), Queued)
    assert attempts.lose(running.id, 1, "noticed again", now()) is None
    records.begin_attempt(running.id, "w2", now())
    assert attempts.lose(running.id, 1, "noticed late", now()) is None
    assert isinstance(attempts.lose(running.id, 2, "second", now()), Queued)


def test_what_was_to_be_cancelled_is_not_tried_again(records, attempts, running):
    records.request_cancel(running.id, now())
    assert isinstance(attempts.lose(running.id, 1, "died", now()), Cancelled)
    assert records.get(running.id).status is Status.CANCELLED


def test_a_single_attempt_is_a_limit_too(records, running):
    once = Attempts(records, max_losses=1)
    assert isinstance(once.lose(running.id, 1, "died", now()), Failed)


def test_reports_are_seen_until_they_expire_or_are_taken_back(records, attempts):
    info = WorkerInfo("w1", "idle", ("fox", "owl"), ("fox",), 2)
    other = WorkerInfo("w0", "busy", ("fox",), (), 0)
    attempts.report(info, 60)
    attempts.report(other, 2.0)
    assert records.workers() == (other, info)
    time.sleep(2.1)
    assert records.workers() == (info,)
    attempts.leave("w1")
    assert records.workers() == ()
