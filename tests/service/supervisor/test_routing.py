"""When a worker departs from the order of service, and for how long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.generations.queueing import Waiting
from service.supervisor.routing import Rule, choose

RULE = Rule(overtake_seconds=60.0, cold_delay_seconds=2.0)


def choice(models, *, warm=("fox",), elsewhere=(), now=0.0, passed=None):
    """What is taken of one generation of each of `models`, in this order."""
    order = [Waiting(f"{n} {model}", "", model, n, 1.0) for n, model in enumerate(models)]
    met = {} if passed is None else passed
    chosen = choose(order, warm=warm, warm_elsewhere=elsewhere, now=now, rule=RULE, passed_over=met)
    return None if chosen is None else chosen.id


def test_nothing_comes_from_nothing():
    assert choice([]) is None


def test_the_first_is_taken_unless_a_later_one_needs_no_loading():
    assert choice(["fox", "fox"]) == "0 fox"
    assert choice(["owl", "fox"]) == "1 fox"
    assert choice(["owl", "cat"]) == "0 owl"


def test_it_is_passed_over_for_so_long_and_no_longer():
    passed = {}
    assert choice(["owl", "fox"], passed=passed) == "1 fox"
    assert choice(["owl", "fox"], now=59.9, passed=passed) == "1 fox"
    assert choice(["owl", "fox"], now=60.0, passed=passed) == "0 owl"


def test_an_idle_worker_that_has_it_loaded_gets_a_head_start():
    passed = {}
    assert choice(["owl"], elsewhere=("owl",), passed=passed) is None
    assert choice(["owl"], elsewhere=("owl",), now=1.9, passed=passed) is None
    assert choice(["owl"], elsewhere=("owl",), now=2.0, passed=passed) == "0 owl"
    assert choice(["owl", "cat"], elsewhere=("owl",)) == "1 cat"
    assert choice(["fox"], elsewhere=("fox",)) == "0 fox"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["fox", "owl", "cat"]), min_size=1, max_size=30))
def test_no_worker_idles_and_nobody_is_passed_over_for_longer(models):
    """A worker that needs a second for each, on a clock of its own."""
    queued = [Waiting(f"{n:02}", "", model, n, 1.0) for n, model in enumerate(models)]
    warm, passed, now = "fox", {}, 0.0
    while queued:
        taken = choose(
            queued, warm=(warm,), warm_elsewhere=(), now=now, rule=RULE, passed_over=passed
        )
        assert taken is not None
        assert all(
            now - passed.get(one.id, now) < RULE.overtake_seconds
            for one in queued[: queued.index(taken)]
        )
        queued.remove(taken)
        warm, now = taken.model, now + 1.0
