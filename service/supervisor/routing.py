"""Which of the waiting generations an idle worker takes: a pure function of what it can see.

The order is that of `service.domain.generations.queueing`. A worker departs from it for one reason:
loading another model takes longer than most pictures.

1. What it would have to load is passed over for what it has loaded, for `overtake_seconds` from
   when it first was; then it is taken before all that comes after it.
2. What it would have to load is left alone for its first `cold_delay_seconds` where another idle
   worker has it loaded already.
"""

from collections.abc import Collection, Iterable, MutableMapping
from dataclasses import dataclass

from service.domain.generations.queueing import Waiting


@dataclass(frozen=True)
class Rule:
    """The limits of the rule, in seconds; see the module's text."""

    overtake_seconds: float
    cold_delay_seconds: float


def choose(
    order: Iterable[Waiting],
    *,
    warm: Collection[str],
    warm_elsewhere: Collection[str],
    now: float,
    rule: Rule,
    passed_over: MutableMapping[str, float],
) -> Waiting | None:
    """What an idle worker takes now.

    Args:
        order: what waits and fits its device, in the order of service.
        warm: models it has loaded.
        warm_elsewhere: models that other idle workers have loaded.
        now: seconds.
        rule: the limits.
        passed_over: when the worker first met what it would have to load, by id; is added to.

    Returns:
        One of `order`, or None to wait for more.
    """
    first: Waiting | None = None
    for one in order:
        if one.model in warm:
            return one
        met = passed_over.setdefault(one.id, now)
        if now - met >= rule.overtake_seconds:
            return first or one
        held = one.model in warm_elsewhere and now - met < rule.cold_delay_seconds
        first = first or (None if held else one)
    return first
