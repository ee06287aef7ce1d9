"""How sure a number is: bootstrap intervals over people, and paired tests between two models asked the same people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sensorium.arrays import slices
from sensorium.errors import ShapeError
from sensorium.evaluate.metrics import Numbers, Scores

CELLS = 4_000_000  # resampled weights held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of what other draws of people would have given."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """By how much the first model is better than the second, over the same people.

    `p` is two-sided, from flipping the sign of each person's difference: how often chance alone would show as much.
    """

    difference: float
    low: float
    high: float
    p: float
    people: int


def intervals(
    values: Mapping[str, Numbers], *, rounds: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of the means, people drawn with replacement, the same draws for every metric.

    A NaN (a person of whom the metric cannot be said) is left out of the mean of every draw. A metric that nobody has
    gets no interval. **Cost** O(rounds × people) draws and one matrix product. **Source** Efron & Tibshirani 1993.
    """
    names = [name for name, column in values.items() if np.isfinite(column).any()]
    if not names:
        return {}
    table = np.stack([values[name] for name in names], axis=1)
    known = np.isfinite(table)
    filled = np.where(known, table, 0)
    draws = _resampled(filled, known, rounds, seed)
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: Interval(float(low[i]), float(high[i])) for i, name in enumerate(names)}


def _resampled(filled: Numbers, known: np.ndarray, rounds: int, seed: int) -> Numbers:
    """Means of resampled people (rounds, M)."""
    people = len(filled)
    rng = np.random.default_rng(seed)
    out = np.empty((rounds, filled.shape[1]))
    whole = bool(known.all())
    for part in slices(rounds, max(CELLS // max(people, 1), 1)):
        chosen = rng.integers(0, people, size=(part.stop - part.start, people))
        offset = np.arange(len(chosen))[:, None] * people
        weights = np.bincount((chosen + offset).ravel(), minlength=chosen.size).reshape(chosen.shape).astype(np.float64)
        divisor = people if whole else weights @ known
        with np.errstate(invalid="ignore", divide="ignore"):
            out[part] = weights @ filled / divisor
    return out


def paired(first: Numbers, second: Numbers, *, rounds: int = 1000, seed: int = 0) -> Difference:
    """Compares one metric of two models over the same people (N,), (N,); people with a NaN on either side are left out.

    **Raises** ShapeError where the two do not line up.
    """
    if first.shape != second.shape:
        raise ShapeError(f"a paired comparison needs the same people: {len(first)} and {len(second)}")
    gap = (first - second)[np.isfinite(first) & np.isfinite(second)]
    if not len(gap):
        return Difference(float("nan"), float("nan"), float("nan"), 1.0, 0)
    found = intervals({"gap": gap}, rounds=rounds, seed=seed)["gap"]
    mean = float(gap.mean())
    moved = gap[gap != 0]
    if not len(moved):
        return Difference(0.0, 0.0, 0.0, 1.0, len(gap))
    rng = np.random.default_rng(seed + 1)
    extreme = 0
    for part in slices(rounds, max(CELLS // len(moved), 1)):
        signs = rng.integers(0, 2, size=(part.stop - part.start, len(moved)), dtype=np.int8) * np.int8(2) - np.int8(1)
        extreme += int(np.count_nonzero(np.abs(signs @ moved) >= abs(moved.sum()) * (1 - 1e-12)))
    return Difference(mean, found.low, found.high, (extreme + 1) / (rounds + 1), len(gap))


def compared(first: Scores, second: Scores, *, rounds: int = 1000, seed: int = 0) -> dict[str, Difference]:
    """All metrics that both have by person. **Raises** ShapeError where the people are not the same."""
    if not np.array_equal(first.users, second.users):
        raise ShapeError("a paired comparison needs two models that were asked the same people")
    shared = [name for name in first.by_person if name in second.by_person]
    return {
        name: paired(first.by_person[name], second.by_person[name], rounds=rounds, seed=seed)
        for name in shared
    }  # fmt: skip
