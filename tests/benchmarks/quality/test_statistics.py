"""Estimates and distances of the quality bench."""

import numpy as np
import pytest

from benchmarks.quality import statistics


def test_an_interval_covers_the_mean_and_shrinks_with_the_data() -> None:
    widths = []
    for count in (20, 320):
        values = 5 + np.linspace(-2, 2, count)
        draws = statistics.resamples([str(row) for row in range(count)])
        estimate = statistics.mean(values, draws)
        assert estimate.low < 5 < estimate.high
        assert estimate.value == pytest.approx(values.mean())
        widths.append(estimate.high - estimate.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)


def test_groups_are_drawn_whole() -> None:
    groups = ["a", "a", "b", "c", "c", "c"]
    for rows in statistics.resamples(groups, repeats=20):
        drawn = [groups[row] for row in rows]
        assert drawn.count("a") % 2 == 0
        assert drawn.count("c") % 3 == 0


def test_copies_of_a_prompt_do_not_narrow_the_interval() -> None:
    values = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    single = statistics.mean(values, statistics.resamples(list("abcde")))
    copied = statistics.mean(
        np.repeat(values, 9), statistics.resamples(list(np.repeat(list("abcde"), 9)))
    )
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))


def test_ratio_of_sums() -> None:
    above, below = np.array([2.0, 4.0]), np.array([1.0, 2.0])
    estimate = statistics.ratio(above, below, statistics.resamples(["a", "b"]))
    assert (estimate.low, estimate.value, estimate.high) == (2, 2, 2)


def test_frechet_distance_of_known_gaussians() -> None:
    random = np.random.default_rng(0)
    first = random.normal(0, 1, (20000, 4))
    assert statistics.frechet(first, first) == pytest.approx(0, abs=1e-6)
    assert statistics.frechet(first, first + 3) == pytest.approx(4 * 9)
    # Deviations 1 and 3: (1 - 3)^2 for each of four dimensions.
    assert statistics.frechet(first, 3 * first) == pytest.approx(4 * 4, rel=0.05)
