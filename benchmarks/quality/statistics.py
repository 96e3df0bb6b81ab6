"""Means with bootstrap intervals, and the Fréchet distance of two sets of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REPEATS = 1000
CONFIDENCE = 95


@dataclass(frozen=True)
class Estimate:
    """A value and the interval in which 95 of 100 resampled values lie."""

    value: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> dict[str, float]:
        """Return the estimate as a document."""
        return {name: round(value, digits) for name, value in asdict(self).items()}


def resamples(groups: list[str], repeats: int = REPEATS) -> list[NDArray[np.intp]]:
    """Draw whole groups with replacement, the same ones whenever the groups are the same.

    Args:
        groups: The group of each row. Prompts about one noun are no independent prompts, so the
            bench groups by noun.
        repeats: Number of draws.

    Returns:
        The rows of each draw.
    """
    random = np.random.default_rng(0)
    labels = np.array(groups)
    rows = [np.flatnonzero(labels == group) for group in dict.fromkeys(groups)]
    draws = random.integers(0, len(rows), (repeats, len(rows)))
    return [np.concatenate([rows[group] for group in draw]) for draw in draws]


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], draws: list[NDArray[np.intp]], count: int
) -> Estimate:
    """Estimate a statistic of `count` rows and its percentile interval.

    Args:
        statistic: Takes the chosen rows.
        draws: What `resamples` returned; methods that share them are compared in pairs.
        count: Number of rows.
    """
    values = [statistic(rows) for rows in draws]
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Estimate(statistic(np.arange(count)), float(low), float(high))


def mean(values: Floats, draws: list[NDArray[np.intp]]) -> Estimate:
    """Estimate the mean of one value a row."""
    return bootstrap(lambda rows: float(values[rows].mean()), draws, len(values))


def ratio(above: Floats, below: Floats, draws: list[NDArray[np.intp]]) -> Estimate:
    """Estimate the ratio of two sums over the same rows."""

    def statistic(rows: NDArray[np.intp]) -> float:
        return float(above[rows].sum() / max(below[rows].sum(), 1e-9))

    return bootstrap(statistic, draws, len(above))


def frechet(first: Floats, second: Floats) -> float:
    """Return the Fréchet distance of the Gaussians fitted to two sets of features.

    |mean difference|^2 + trace(A + B - 2 (A B)^(1/2)) with the covariances A and B (Dowson and
    Landau, 1982). It is biased upward by small sets: compare sets of one size only.

    Args:
        first: `[n, features]`.
        second: `[m, features]`.
    """
    shift = first.mean(0) - second.mean(0)
    spread, other = np.cov(first.T, bias=True), np.cov(second.T, bias=True)
    # The product of two covariances has real eigenvalues, none below 0 but for rounding.
    roots = np.sqrt(np.linalg.eigvals(spread @ other).real.clip(0))
    return float(shift @ shift + np.trace(spread) + np.trace(other) - 2 * roots.sum())
