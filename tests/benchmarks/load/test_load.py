"""The load bench in short: a hundred watchers see every event once and in order."""

import resource

import pytest

from benchmarks.load import stage as stages
from benchmarks.load.accepting import accepting, rival
from benchmarks.load.watching import watching


@pytest.fixture(scope="module")
def stage():
    with stages.stage() as running:
        yield running


def test_every_watcher_sees_every_event_once_and_in_order(stage):
    result = watching(stage, watchers=50, generations=3, per_second=0)
    assert (result["sse"]["wrong"], result["grpc"]["wrong"]) == (0, 0)
    assert result["events_of_each_generation"] == 69


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_what_is_counted_is_what_was_accepted(stage, kind):
    result = accepting(stage, kind, clients=4, seconds=0.3)
    # The one that is read was accepted before.
    assert stage.redis.zcard("hidiffusion:index:queued") == result["count"] + 1


def test_the_rival_enqueues_what_it_counts(stage):
    result = rival(stage, 0.2)
    # One more to warm up.
    assert stage.redis.llen("rq:queue:bare") == result["count"] + 1


def test_a_limit_of_files_that_is_too_low_says_what_to_do():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine has no limit")
    with pytest.raises(SystemExit, match="fewer watchers"):
        stages.raise_file_limit(hard + 1)
