"""Arms stick, come in their shares, are independent between experiments, and move nobody without need."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2_contingency, chisquare

from sensorium.adapt.assign import assigned, chance

PEOPLE = [f"person {n}" for n in range(20_000)]


def dealt(shares: dict[str, float], salt: str = "s", traffic: float = 1.0) -> list[str | None]:
    return [assigned(one, shares, salt, traffic) for one in PEOPLE]


def test_shares_come_true_and_stay() -> None:
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    arms = dealt(shares)
    assert arms == dealt(shares)
    seen = [arms.count(name) for name in shares]
    assert chisquare(seen, [20_000 * share for share in shares.values()]).pvalue > 0.001


def test_experiments_are_independent_and_traffic_too() -> None:
    first, second = dealt({"a": 1, "b": 1}, "one"), dealt({"a": 1, "b": 1}, "two")
    table = np.array([[sum(x == p and y == q for x, y in zip(first, second)) for q in "ab"] for p in "ab"])
    assert chi2_contingency(table).pvalue > 0.001
    few = dealt({"a": 1, "b": 1}, "one", traffic=0.3)
    inside = [arm for arm in few if arm is not None]
    assert abs(len(inside) / len(PEOPLE) - 0.3) < 0.015
    assert all(arm in (None, before) for arm, before in zip(few, first))  # more traffic only adds
    assert abs(inside.count("a") / len(inside) - 0.5) < 0.03


def test_nobody_moves_but_to_an_arm_that_grew() -> None:
    before, after = dealt({"a": 0.5, "b": 0.5}), dealt({"a": 0.4, "b": 0.6})
    moves = {(x, y) for x, y in zip(before, after) if x != y}
    assert moves == {("a", "b")}
    moved = sum(x != y for x, y in zip(before, after)) / len(PEOPLE)
    assert abs(moved - 0.1) < 0.01
    third = dealt({"a": 0.5, "b": 0.5, "new": 0.5})
    assert {y for x, y in zip(before, third) if x != y} == {"new"}


def test_a_chance_is_uniform_and_needs_the_salt() -> None:
    drawn = np.array([chance(one, "salt") for one in PEOPLE])
    assert chisquare(np.histogram(drawn, 20, (0, 1))[0]).pvalue > 0.001
    assert abs(np.corrcoef(drawn, [chance(one, "other") for one in PEOPLE])[0, 1]) < 0.03
