"""Fair shares, priorities and places, as real scripts in a real Redis keep them."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULID

from service.domain.generations.generation import Generation
from service.domain.generations.queueing import PRIORITY_SECONDS, charge_of, rank_of, serving_order
from service.domain.requests.request import PRIORITIES
from service.records.records import RedisRecords
from tests.generations import MODEL, make_generation, now

START = datetime(2026, 1, 1, tzinfo=UTC)


def accept(
    records: RedisRecords, tenant: str = "", *, at: float = 0.0, size: int = 64, **more: object
) -> Generation:
    """Accept a generation at a moment of the played clock, in seconds."""
    made = make_generation(size=size).model_copy(
        update={"tenant": tenant, "created_at": START + timedelta(seconds=at), **more}
    )
    return records.accept(made, None)


def order(records: RedisRecords) -> list[str]:
    """Everything that waits, in the order of service."""
    return [one.id for one in serving_order(records.lines.of([MODEL]))]


def serve(records: RedisRecords) -> Generation:
    """Begin the one whose turn it is."""
    begun = records.begin_attempt(order(records)[0], "w", now())
    assert begun is not None
    return begun


def test_one_tenants_thousand_wait_behind_anothers_one(records):
    for _ in range(100):
        accept(records, "greedy")
    serve(records)
    late = accept(records, "modest", at=100)
    assert records.queue_position(late) == 1
    assert serve(records).id == late.id


def test_urgent_ones_come_first_however_old_the_others_are(records):
    for number in range(50):
        accept(records, at=float(number), priority="low")
    urgent = accept(records, at=50 + 120, priority="high")
    assert records.queue_position(urgent) == 1
    assert serve(records).id == urgent.id


def test_nobody_waits_for_ever_behind_the_urgent(records):
    old = accept(records, priority="low")
    accept(records, at=2 * PRIORITY_SECONDS + 1, priority="high")
    assert serve(records).id == old.id


def test_what_was_lost_goes_on_before_what_came_later(records, attempts):
    first, second = accept(records), accept(records, at=1)
    begun = serve(records)
    attempts.lose(begun.id, begun.attempt, "lost", now())
    assert order(records) == [first.id, second.id]


def test_who_comes_back_has_saved_up_nothing(records):
    accept(records, "idle")
    serve(records)
    for _ in range(20):
        accept(records, "busy")
    for _ in range(10):
        serve(records)
    for _ in range(20):
        accept(records, "idle")
    served = [serve(records).tenant for _ in range(10)]
    assert 4 <= served.count("idle") <= 6


def test_a_line_that_is_empty_is_gone(records):
    waits, cancelled = accept(records, "a"), accept(records, "b")
    records.request_cancel(cancelled.id, now())
    serve(records)
    client = records.redis
    assert client.keys("hidiffusion:line:*") + client.keys("hidiffusion:backlog:*") == []
    assert client.hlen("hidiffusion:charges") == 0
    assert records.queue_position(waits) is None


def test_what_is_unknown_is_dropped_and_what_waits_is_not(records):
    gone, waits = accept(records, "a"), accept(records, "b")
    records.redis.delete(f"hidiffusion:generation:{gone.id}")
    for one in serving_order(records.lines.of([MODEL])):
        records.lines.drop(one)
    assert order(records) == [waits.id]
    assert records.queue_depth(MODEL) == 1


jobs = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(PRIORITIES),
        st.integers(0, 4000),  # seconds at which it comes
        st.sampled_from([64, 128, 256]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(jobs, st.tuples(*[st.sampled_from([0.5, 1.0, 4.0])] * 3))
def test_every_promise_over_whole_days(records, day, weights):
    """On a played clock each job takes 300 s; what comes meanwhile joins the line."""
    records.redis.flushdb()
    weight = dict(zip("abc", weights, strict=True))
    coming = sorted(day, key=lambda job: job[2])
    clock, told, served = 0.0, [], defaultdict(float)
    busy_since: dict[str, tuple[float, dict[str, float]]] = {}
    largest = max(charge_of(make_generation(size=job[3]).request, weight[job[0]]) for job in day)
    while coming or told:
        while coming and (coming[0][2] <= clock or not told):
            tenant, priority, at, size = coming.pop(0)
            clock = max(clock, at)
            told.append(
                accept(
                    records, tenant, at=at, size=size, priority=priority, weight=weight[tenant],
                    id=str(ULID()),
                )
            )  # fmt: skip
            busy_since.setdefault(tenant, (clock, dict(served)))
        places = [records.queue_position(one) for one in told]
        assert sorted(places) == list(range(1, len(told) + 1))
        taken = serve(records)
        chosen = next(one for one in told if one.id == taken.id)
        assert places[told.index(chosen)] == 1, "a place that was told is the place it has"
        own = [rank_of(one.created_at, one.priority) for one in told if one.tenant == taken.tenant]
        assert rank_of(chosen.created_at, chosen.priority) == min(own)
        told.remove(chosen)
        served[taken.tenant] += charge_of(taken.request, taken.weight)
        waiting = {one.tenant for one in told}
        busy_since = {tenant: since for tenant, since in busy_since.items() if tenant in waiting}
        for one in busy_since:
            for other in busy_since:
                begin = max(busy_since[one], busy_since[other], key=lambda since: since[0])[1]
                gained = [served[tenant] - begin.get(tenant, 0.0) for tenant in (one, other)]
                assert abs(gained[0] - gained[1]) <= 2 * largest + 1e-6
        clock += 300.0
