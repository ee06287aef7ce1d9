"""Thompson sampling: true chances, little regret, fading counts, contexts, the same bytes again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from sensorium.adapt.bandit import Bandit, Learnt
from sensorium.adapt.definition import Arm
from sensorium.errors import RecipeError

DAY = 86400.0


def bandit(arms: int = 2, **wanted: object) -> Learnt:
    return Learnt(Bandit("b", tuple(Arm(f"a{n}") for n in range(arms)), **wanted))  # type: ignore[arg-type]


def test_chances_are_those_of_the_posterior() -> None:
    one = bandit(least=0.0, half_life_days=1e6)
    for arm, wins, losses in ((0, 12, 30), (1, 9, 40)):
        for n in range(wins + losses):
            one.update(arm, float(n < wins), 1000.0)
    one.draw()
    x = np.linspace(0, 1, 20_001)
    better = np.trapezoid(beta.pdf(x, 13, 31) * beta.cdf(x, 10, 41), x)  # P(arm 0 > arm 1)
    assert one.chances()[0] == pytest.approx(better, abs=0.03)
    assert one.chances().sum() == pytest.approx(1)


def test_regret_is_far_below_that_of_choosing_evenly() -> None:
    rates, rng = np.array([0.05, 0.08, 0.12]), np.random.default_rng(0)
    one, regret = bandit(3, half_life_days=1e6), 0.0
    for n in range(6000):
        arm = int(rng.choice(3, p=one.chances()))
        one.update(arm, float(rng.random() < rates[arm]), 1000.0 + n)
        if n % 20 == 19:
            one.draw()
        regret += rates.max() - rates[arm]
    assert regret < 0.35 * 6000 * (rates.max() - rates.mean())
    assert one.chances()[2] > 0.9


def test_counts_fade_so_that_a_change_of_taste_is_followed() -> None:
    rng = np.random.default_rng(1)

    def last_choice(half_life: float) -> float:
        one = bandit(half_life_days=half_life)
        for n in range(4000):
            rates = (0.3, 0.1) if n < 3000 else (0.1, 0.3)
            arm = int(rng.choice(2, p=one.chances()))
            one.update(arm, float(rng.random() < rates[arm]), n * DAY / 100)
            if n % 10 == 9:
                one.draw()
        return float(one.chances()[1])

    assert last_choice(1.0) > 0.8
    assert last_choice(1e6) < 0.5


def test_a_half_life_halves() -> None:
    one = bandit(half_life_days=2.0)
    one.update(0, 1.0, 10 * DAY)
    one.update(1, 0.0, 12 * DAY)
    assert one.weight.tolist() == [0.5, 1.0]
    assert one.rewards.tolist() == [0.5, 0.0]


def test_each_context_has_its_own_best_arm() -> None:
    one, rng = bandit(kind="linear", half_life_days=1e6), np.random.default_rng(2)
    for n in range(3000):
        person = float(rng.random() < 0.5)
        arm = int(rng.random() < 0.5)
        one.update(arm, float(rng.random() < (0.6 if arm == person else 0.2)), float(n), (person, 0.0, 0.0))
    one.draw()
    assert one.chances((1.0, 0.0, 0.0))[1] > 0.9
    assert one.chances((0.0, 0.0, 0.0))[0] > 0.9


@pytest.mark.parametrize("kind", ["beta", "linear"])
def test_no_working_arm_is_starved_and_a_retired_one_is_never_shown(kind: str) -> None:
    one = bandit(3, kind=kind, least=0.05, retired=("a2",))
    for _ in range(500):
        one.update(0, 1.0, 5.0, (1.0, 0.0, 0.0))
        one.update(1, 0.0, 5.0, (1.0, 0.0, 0.0))
    one.draw()
    chances = one.chances((1.0, 0.0, 0.0))
    assert chances[1] >= 0.05
    assert chances[2] == 0
    assert chances.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["beta", "linear"])
def test_what_is_saved_is_known_again(kind: str) -> None:
    one = bandit(kind=kind)
    for n in range(50):
        one.update(n % 2, n % 3 / 2, 100.0 + n, (1.0, 0.0, 1.0))
    one.draw()
    again = Learnt(one.bandit).restored(one.saved())
    again.draw()
    assert again.chances((1.0, 0.0, 1.0)).tolist() == one.chances((1.0, 0.0, 1.0)).tolist()


@pytest.mark.parametrize(
    "wanted",
    [
        {"arms": (Arm("a"),)}, {"arms": (Arm("a"), Arm("a"))}, {"least": 0.7}, {"goal": {"buy": 2.0}}, {"goal": {"buy": 0.0}},
        {"retired": ("a", "b")}, {"half_life_days": 0.0}, {"name": "with a blank"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(wanted: dict[str, object]) -> None:
    with pytest.raises(RecipeError) as told:
        Bandit(**{"name": "b", "arms": (Arm("a"), Arm("b")), **wanted})  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
