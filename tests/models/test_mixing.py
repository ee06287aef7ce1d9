"""A pool with known answers: which member the walk keeps, and that several walks tell more than one."""

from __future__ import annotations

import numpy as np

from sensorium.models.mixing import Pool

MEMBERS, CANDIDATES = 6, 30


def pool(people: int, seed: int) -> Pool:
    """Each member sees the target, column 0, through noise of its own; the last sees nothing: equal weights, but for it, are best."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(MEMBERS, people, CANDIDATES)).astype(np.float32)
    scores[:-1, :, 0] += 0.7
    everybody = np.arange(people)
    return Pool(
        scores, np.ones((people, CANDIDATES), np.float32), everybody, np.zeros(people, np.int64), np.full(people, 5)
    )


def test_a_walk_finds_the_only_member_that_knows() -> None:
    one = pool(200, 0)
    one.scores[:-2] = one.scores[-1:]
    weights = one.climbed()
    assert weights.argmax() == MEMBERS - 2
    assert weights[np.arange(MEMBERS) != MEMBERS - 2].max() <= 0.3
    assert one.bagged(0).argmax() == MEMBERS - 2


def test_the_mean_of_walks_serves_other_people_better_than_one_walk() -> None:
    others = pool(4_000, 99)
    rises = []
    for seed in range(8):
        few = pool(60, seed)
        bagged = few.bagged(0)
        np.testing.assert_array_equal(bagged, few.bagged(0))
        assert bagged.max() == 1
        assert bagged.min() >= 0
        rises.append(others.value(others.mixed(bagged)) - others.value(others.mixed(few.climbed())))
    assert np.mean(rises) > 2 * np.std(rises) / np.sqrt(len(rises))
