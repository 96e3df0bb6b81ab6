"""The bench of the hooks compares calls that compute the same."""

import pytest

from benchmarks.network import hook_overhead


@pytest.mark.parametrize("family", hook_overhead.FAMILIES)
@pytest.mark.parametrize("scale", [1, 2])
def test_patched_and_unpatched_compute_the_same(family: str, scale: int) -> None:
    row = hook_overhead.measure(family, scale, rounds=1)
    assert row["same"]
    assert row["unpatched_ms"] > 0
    assert f"| {family} |" in hook_overhead.table({"now": [row], "before": [row]})
