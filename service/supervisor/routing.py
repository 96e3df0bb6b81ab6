"""Which of the waiting generations an idle worker takes: a pure function of what it can see.

1. A generation that has waited for `overtake_seconds` comes before all that have not; of several,
   the one accepted first. Neither its priority nor its model counts any more.
2. Else the most urgent priority comes first; within it, what needs no loading here; within that,
   what was accepted first.
3. What would have to be loaded here is left alone for its first `cold_delay_seconds` where
   another idle worker has it loaded already.

So nobody is overtaken any more after `overtake_seconds`, and a worker with a choice keeps to what
it has loaded until then.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from service.domain.request import PRIORITIES, Priority


@dataclass(frozen=True)
class Waiting:
    """A generation in a queue: what it needs, and when it was accepted, in Unix seconds."""

    id: str
    model: str
    priority: Priority
    accepted_at: float


@dataclass(frozen=True)
class Rule:
    """The limits of the rule, in seconds; see the module's text."""

    overtake_seconds: float
    cold_delay_seconds: float


def choose(
    waiting: Iterable[Waiting],
    *,
    warm: Collection[str],
    warm_elsewhere: Collection[str],
    now: float,
    rule: Rule,
) -> Waiting | None:
    """What an idle worker takes now.

    Args:
        waiting: candidates that fit its device; of each queue the oldest is enough.
        warm: models it has loaded.
        warm_elsewhere: models that other idle workers have loaded.
        now: Unix seconds.
        rule: the limits.

    Returns:
        One of `waiting`, or None to wait for more.
    """
    candidates = sorted(waiting, key=lambda one: (one.accepted_at, one.id))
    if candidates and now - candidates[0].accepted_at >= rule.overtake_seconds:
        return candidates[0]

    def open_to_us(one: Waiting) -> bool:
        held = one.model in warm_elsewhere and one.model not in warm
        return not held or now - one.accepted_at >= rule.cold_delay_seconds

    return min(
        filter(open_to_us, candidates),
        key=lambda one: (PRIORITIES.index(one.priority), one.model not in warm),
        default=None,
    )
