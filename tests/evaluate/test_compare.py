"""Intervals and paired tests against theory, and against the plainest resampling."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.errors import ShapeError
from sensorium.evaluate.compare import compared, intervals, paired
from sensorium.evaluate.metrics import Scores


def test_an_interval_is_about_two_standard_errors_each_way() -> None:
    values = np.random.default_rng(0).standard_normal(2000) + 3
    found = intervals({"x": values}, rounds=2000)["x"]
    error = values.std() / np.sqrt(len(values))
    assert abs(found.low - (values.mean() - 1.96 * error)) < 0.2 * error
    assert abs(found.high - (values.mean() + 1.96 * error)) < 0.2 * error


def test_resampling_equals_a_loop_over_the_same_draws() -> None:
    values = np.random.default_rng(1).random(50)
    found = intervals({"x": values}, rounds=200, seed=9)["x"]
    rng = np.random.default_rng(9)
    means = [values[row].mean() for row in rng.integers(0, 50, size=(200, 50))]
    assert np.allclose([found.low, found.high], np.quantile(means, [0.025, 0.975]))


def test_people_of_whom_it_cannot_be_said_are_left_out() -> None:
    values = np.array([1.0, np.nan, 1.0, 1.0, np.nan])
    found = intervals({"x": values, "nobody": np.full(5, np.nan)})
    assert list(found) == ["x"]
    assert found["x"].low == found["x"].high == 1.0


def test_the_same_twice_is_no_difference() -> None:
    values = np.random.default_rng(2).random(30)
    same = paired(values, values)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_a_clear_difference_is_clear_and_chance_is_chance() -> None:
    rng = np.random.default_rng(3)
    base = rng.random(300)
    better = paired(base + 0.1 + 0.1 * rng.standard_normal(300), base)
    assert better.low > 0.05
    assert better.p < 0.01
    same = [paired(base + 0.1 * rng.standard_normal(300), base, rounds=200, seed=s).p for s in range(60)]
    assert 0.3 < np.mean(same) < 0.7  # p is uniform where nothing differs


def test_comparisons_need_the_same_people() -> None:
    a = Scores(np.array([0, 1]), {"x": np.array([0.0, 1.0])}, {})
    b = Scores(np.array([0, 2]), {"x": np.array([0.0, 1.0])}, {})
    with pytest.raises(ShapeError, match="same people"):
        compared(a, b)
    assert compared(a, a)["x"].difference == 0.0
