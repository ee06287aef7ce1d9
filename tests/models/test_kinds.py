"""What kinds of events count: in the matrix, in a history, and an item's rate of the kind that is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError
from sensorium.models.directed import Directed
from sensorium.models.ease import Ease
from sensorium.models.itemknn import ItemKnn
from sensorium.models.kinds import conversion, counted, walked
from sensorium.models.model import Features
from sensorium.models.tuning import tuned_linear

RNG = np.random.default_rng


def shop() -> Events:
    """Each person views item u % 3 + 3 (noise) and buys u % 3, then the buy's partner u % 3 + 6."""
    user, item, kind = [], [], []
    for u in range(60):
        for step, (what, how) in enumerate([(3 + (u * 7 + u // 3) % 3, 0), (u % 3, 1), (6 + u % 3, 1)]):
            user.append(u)
            item.append(what)
            kind.append(how)
            del step
    return Events.of(user, item, users=60, items=9, kind=kind, kinds=("view", "buy"))


def test_kinds_count_what_they_are_said_to() -> None:
    events, features = shop(), Features(Vectors.absent(9, 1, "none"))
    buys = events.take(events.kind == 1)
    silent = Ease(l2=1, kinds={"view": 0.0}, heard={"view": 0.0}).fit(events, features, rng=RNG(0))
    alone = Ease(l2=1).fit(buys, features, rng=RNG(0))
    histories = events.histories([0, 1, 2])
    bought = [0, 1, 2, 6, 7, 8]
    scores = alone.score(buys.histories([0, 1, 2]))
    assert np.array_equal(silent.score(histories)[:, bought], scores[:, bought])
    half = counted(events, 0.0, {"view": 0.5}).matrix(1.0).toarray()
    assert half[0, 3:6].sum() == 0.5
    assert half[0, 0] == 1
    model = Ease(l2=1, heard={"view": 0.0, "buy": 2.0}).fit(events, features, rng=RNG(0))
    parts = model.parts(events.histories([0]), np.arange(9))
    np.testing.assert_allclose(parts.values.sum((1, 2)) + parts.base, model.score(events.histories([0]))[0], atol=1e-5)
    assert not parts.values[:, 0].any()  # the view is heard as nothing


def test_tuning_learns_that_views_are_noise() -> None:
    events, features = shop(), Features(Vectors.absent(9, 1, "none"))
    last = np.arange(len(events)) % 3 == 2
    noise = RNG(3).integers(0, 3, 60)  # after the first buy, a look at anything
    item = np.stack([np.arange(60) % 3, noise, 6 + np.arange(60) % 3], axis=1).ravel()
    events = replace(events, item=item.astype(events.item.dtype), kind=np.tile([1, 0, 1], 60).astype(events.kind.dtype))
    fold = Fold(events.take(~last | (events.user < 30)), events.take(last & (events.user >= 30)))
    tuned = tuned_linear(Ease(l2=1), fold, features, {"decay": (1.0, 0.8)})
    assert tuned.heard.get("view", 1.0) < 1.0 or tuned.kinds.get("view", 1.0) < 1.0


def looked_at() -> tuple[Events, Fold]:
    """Everybody looks at 0 and 2, most at 1, few at 3; 1 is bought by each fourth of a hundred people, 2 by each twentieth."""
    rows = [(u, item, 0) for u in range(200) for item in (0, 1, 2) if item != 1 or u < 150]
    rows += [(u, 3, 0) for u in range(40)]
    rows += [(u, 1, 1) for u in range(0, 100, 4)] + [(u, 2, 1) for u in range(1, 100, 20)]
    user, item, kind = (list(column) for column in zip(*rows, strict=True))
    train = Events.of(user, item, users=300, items=4, kind=kind, kinds=("view", "buy"))
    asked = list(range(200, 300))
    looks = Events.of(asked, [0] * 100, users=300, items=4, kind=[0] * 100, kinds=("view", "buy"))
    bought = Events.of(asked, [1] * 100, users=300, items=4, kind=[1] * 100, kinds=("view", "buy"))
    return train, Fold(train.merged(looks), bought)


def test_of_two_items_looked_at_alike_the_one_that_is_bought_comes_first() -> None:
    events, _ = looked_at()
    features = Features(Vectors.absent(4, 1, "none"))
    bought = conversion(events, {"buy": 1.0})
    rate = 30 / len(events)
    np.testing.assert_allclose(bought[1], (25 + 20 * rate) / (175 + 20) / rate, rtol=1e-6)  # the definition, by hand
    assert bought[1] > 1 > bought[2] > bought[0]
    np.testing.assert_allclose(conversion(events, {"buy": 0.5}), bought**0.5, rtol=1e-6)
    look = events.take((events.user == 150) & (events.item == 0)).histories([150])
    for kind in (Ease(l2=1.0), Directed(), ItemKnn(k=4, shrink=0.0)):
        plain = kind.fit(events, features, rng=RNG(0))
        leaning = replace(kind, conversion={"buy": 1.0}).fit(events, features, rng=RNG(0))
        np.testing.assert_allclose(leaning.score(look), plain.score(look) * bought, rtol=1e-5, atol=1e-7)
        parts = leaning.parts(look, np.arange(4))
        np.testing.assert_allclose(parts.values.sum((1, 2)) + parts.base, leaning.score(look)[0], atol=1e-6)


def test_tuning_brings_what_is_bought_before_what_is_looked_at() -> None:
    _, fold = looked_at()
    features = Features(Vectors.absent(4, 1, "none"))
    for kind in (Ease(l2=1.0), ItemKnn()):
        plain = kind.fit(fold.train, features, rng=RNG(0)).score(fold.train.histories([200]))
        tuned = kind.tuned(fold, features, rng=RNG(0)).fit(fold.train, features, rng=RNG(0))
        scores = tuned.score(fold.train.histories([200]))
        assert plain[0, 1] < plain[0, 2]
        assert scores[0, 1] > scores[0, 2]


def test_the_walk_over_kinds_takes_each_step_that_rises() -> None:
    _, fold = looked_at()

    def value(settings: Ease) -> float:
        """Highest where views are heard as .3, are learnt from fully, and rates count half."""
        tables = (
            (settings.heard, "view", 1.0, 0.3),
            (settings.kinds, "view", 1.0, 1.0),
            (settings.conversion, "buy", 0.0, 0.5),
        )
        return -sum(abs(table.get(kind, default) - best) for table, kind, default, best in tables)

    best, height = walked(Ease(), value(Ease()), fold, value)
    assert (best.heard, best.kinds, best.conversion) == ({"view": 0.3}, {}, {"buy": 0.5})
    assert height == 0


def test_a_kind_below_zero_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"kinds\.view = -1"):
        Ease(kinds={"view": -1.0})
