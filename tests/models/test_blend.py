"""The weights of a blend: which members count, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError
from sensorium.models.blend import Blend, weigh
from sensorium.models.ease import Ease
from sensorium.models.model import Features

PEOPLE, ITEMS = 600, 40


@dataclass(frozen=True)
class Oracle:
    """Knows the target of people whose history is short (or long), and guesses for the others."""

    goal: np.ndarray
    short: bool

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        guess = np.random.default_rng(int(self.short)).normal(size=(PEOPLE, ITEMS)).astype(np.float32)[histories.user]
        mine = (np.diff(histories.start) < 5) == self.short
        guess[np.flatnonzero(mine), self.goal[histories.user[mine]]] = 2
        return guess if candidates is None else guess[:, candidates]


def world() -> tuple[Fold, Features, dict[str, Oracle]]:
    rng = np.random.default_rng(0)
    user, item, goal = [], [], np.zeros(PEOPLE, np.int64)
    for person in range(PEOPLE):
        several = rng.permutation(ITEMS)
        count = (2, 3, 8, 9)[person % 4]
        user += [person] * count
        item += several[:count].tolist()
        goal[person] = several[count]
    train = Events.of(user, item, users=PEOPLE, items=ITEMS)
    held_out = Events.of(np.arange(PEOPLE), goal, users=PEOPLE, items=ITEMS)
    oracles = {"ease": Oracle(goal, short=True), "directed": Oracle(goal, short=False)}
    return Fold(train, held_out), Features(Vectors.absent(ITEMS, 1, "none")), oracles


def test_people_with_short_and_long_histories_get_the_member_that_knows_them() -> None:
    fold, features, oracles = world()
    blend = Blend(use=("ease", "directed")).weighed(oracles, fold, features)
    tables = blend.tables()
    assert min(tables) == 0
    assert tables[0]["ease"] > 2 * tables[0]["directed"]
    last = tables[max(tables)]
    assert last["directed"] > 2 * last["ease"]
    # Two people, one of either kind: each row of scores is the sum with their own weights.
    histories = fold.train.histories([0, 2])
    shares = blend.of(oracles).shares(histories)
    assert shares.tolist() == [
        pytest.approx([tables[0]["ease"], tables[0]["directed"]]), pytest.approx([last["ease"], last["directed"]]),
    ]  # fmt: skip


def test_where_all_people_are_alike_no_group_gets_weights_of_its_own() -> None:
    fold, features, oracles = world()
    guess = {name: Oracle(np.roll(oracle.goal, 1), oracle.short) for name, oracle in oracles.items()}
    assert weigh(guess, fold, features)[1] == {}


def test_a_group_that_is_no_number_of_events_is_refused() -> None:
    with pytest.raises(RecipeError, match="number of events"):
        Blend(by_length={"few": {"ease": 1.0}})
    with pytest.raises(RecipeError, match="did you mean 'ease'"):
        Blend(by_length={"5": {"eas": 1.0}})


def test_every_engine_can_be_a_member() -> None:
    events = Events.of(
        [u for u in range(30) for _ in range(4)],
        [(u * 7 + n * n) % 12 for u in range(30) for n in range(4)],
        users=30,
        items=12,
    )
    vectors = Vectors(np.eye(12, dtype=np.float32), np.ones(12, bool), "eye")
    members = {"hybrid": {"size": 4, "epochs": 2}, "lightgcn": {"size": 4, "epochs": 1}, "coldaligner": {"epochs": 0}}
    blend = Blend(use=("ease", *members), **members)  # type: ignore[arg-type]
    model = blend.fit(events, Features(vectors), rng=np.random.default_rng(0))
    assert set(model.members) == {"ease", *members}
    assert np.isfinite(model.score(events.histories([0, 1]))).all()
    with pytest.raises(RecipeError, match="twice"):
        Blend(use=("ease", "ease"))


def test_written_weights_are_learnt_anew_and_written_members_kept() -> None:
    fold, features, _ = world()
    written = Blend(use=("popularity", "ease"), weights={"popularity": 7.0, "ease": 0.125}, ease=Ease(l2=123.0))
    found = written.tuned(fold, features, rng=np.random.default_rng(0))
    models = {
        name: written.member(name).fit(fold.train, features, rng=np.random.default_rng(0)) for name in written.use
    }
    assert found == written.weighed(models, fold, features)
    assert found.ease == Ease(l2=123.0)
    assert max(found.weights.values()) == 1.0  # not the seven


@pytest.mark.parametrize("settings", [Blend(use=()), Blend(use=("popularity",), weights={"popularity": 0.0})])
def test_a_blend_of_nothing_is_refused_before_it_is_asked(settings: Blend) -> None:
    events = Events.of([0, 0, 1], [0, 1, 1], users=2, items=2)
    with pytest.raises(RecipeError, match="no member has a weight above 0"):
        settings.fit(events, Features(Vectors.absent(2, 1, "none")), rng=np.random.default_rng(0))
