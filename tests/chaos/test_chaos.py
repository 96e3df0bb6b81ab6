"""The short form of the chaos suite: a few faults, each at a random moment; the seed is fixed."""

import pytest

from tests.chaos.faults import QUICK
from tests.chaos.run import Chaos
from tests.chaos.stack import running_stack


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_is_lost_doubled_or_left_behind() -> None:
    with running_stack(workers=1) as stack:
        chaos = Chaos(stack, seed=1)
        chaos.prepare()
        for inject in QUICK:
            told = chaos.one_round(inject)
            assert told.broken == [], told
        assert chaos.left_after_retention() == []
