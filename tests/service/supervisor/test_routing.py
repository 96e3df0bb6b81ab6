"""The routing rule, by itself and over whole simulated days of a fleet."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.request import PRIORITIES
from service.supervisor.routing import Rule, Waiting, choose

RULE = Rule(overtake_seconds=60.0, cold_delay_seconds=2.0)
NOW = 1000.0


def waiting(name, model="fox", priority="normal", age=10.0):
    return Waiting(name, model, priority, NOW - age)


def choice(*candidates, warm=("fox",), elsewhere=()):
    chosen = choose(candidates, warm=warm, warm_elsewhere=elsewhere, now=NOW, rule=RULE)
    return None if chosen is None else chosen.id


def test_nothing_comes_from_nothing():
    assert choice() is None


def test_the_more_urgent_comes_first_even_when_it_must_be_loaded():
    old = waiting("old", priority="low", age=50)
    assert choice(old, waiting("new", priority="normal", age=1)) == "new"
    assert choice(old, waiting("cold", model="owl", priority="high", age=0)) == "cold"


def test_of_equal_priority_what_is_loaded_comes_first_then_what_is_older():
    cold = waiting("cold", model="owl", age=50)
    assert choice(cold, waiting("warm", age=1)) == "warm"
    assert choice(waiting("b", age=3), waiting("a", age=5), cold) == "a"


def test_who_has_waited_long_enough_comes_before_everybody():
    starved = waiting("starved", model="owl", priority="low", age=60)
    assert choice(starved, waiting("urgent", priority="high", age=59)) == "starved"
    assert choice(starved, waiting("older", priority="high", age=61)) == "older"
    assert choice(waiting("not yet", model="owl", age=59.9), waiting("warm")) == "warm"


def test_an_idle_worker_that_has_it_loaded_gets_a_head_start():
    assert choice(waiting("owl", model="owl", age=1.9), elsewhere=("owl",)) is None
    assert choice(waiting("owl", model="owl", age=2.0), elsewhere=("owl",)) == "owl"
    assert choice(waiting("owl", model="owl", age=0.0), elsewhere=("cat",)) == "owl"
    assert choice(waiting("fox", age=0.0), elsewhere=("fox",)) == "fox"


@dataclass
class Worker:
    warm: str
    busy_until: float = 0.0


@st.composite
def days(draw):
    """Jobs as (arrival, model, priority, length), more than the workers can keep up with."""
    jobs = draw(
        st.lists(
            st.tuples(
                st.integers(0, 200),
                st.sampled_from(["fox", "owl", "cat"]),
                st.sampled_from(PRIORITIES),
                st.integers(1, 30),
            ),
            min_size=1,
            max_size=40,
        )
    )
    return jobs, draw(st.lists(st.sampled_from(["fox", "owl", "cat"]), min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(days())
def test_nobody_starves_and_no_worker_idles_while_there_is_work(day):
    jobs, fleet = day
    lengths = {f"{n:03}": job[3] for n, job in enumerate(jobs)}
    coming = [Waiting(f"{n:03}", job[1], job[2], float(job[0])) for n, job in enumerate(jobs)]
    workers = [Worker(warm) for warm in fleet]
    queued: list[Waiting] = []
    clock = 0.0
    while coming or queued:
        queued += [job for job in coming if job.accepted_at <= clock]
        coming = [job for job in coming if job.accepted_at > clock]
        for worker in workers:
            if worker.busy_until > clock:
                continue
            others = {w.warm for w in workers if w is not worker and w.busy_until <= clock}
            taken = choose(queued, warm=(worker.warm,), warm_elsewhere=others, now=clock, rule=RULE)
            check(taken, queued, clock, worker)
            if taken is not None:
                queued.remove(taken)
                worker.warm, worker.busy_until = taken.model, clock + lengths[taken.id]
        clock += 1.0


def check(taken, queued, clock, worker):
    """What the rule promises about every single choice."""
    patient = [job for job in queued if clock - job.accepted_at >= RULE.overtake_seconds]
    if taken is None:
        assert all(clock - job.accepted_at < RULE.cold_delay_seconds for job in queued)
        assert all(job.model != worker.warm for job in queued)
        return
    assert all(taken.accepted_at <= job.accepted_at for job in patient)
    if not patient:
        ready = [j for j in queued if clock - j.accepted_at >= RULE.cold_delay_seconds]
        assert all(PRIORITIES.index(taken.priority) <= PRIORITIES.index(j.priority) for j in ready)
