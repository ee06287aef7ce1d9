"""Known answers in tiny worlds, and independent derivations, for the models in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError
from sensorium.models.auto import Auto, expected
from sensorium.models.blend import Blend
from sensorium.models.choose import climb
from sensorium.models.content import Content
from sensorium.models.directed import Directed, pasts_and_futures
from sensorium.models.ease import Ease
from sensorium.models.ials import Ials
from sensorium.models.itemknn import GRID, ItemKnn, _column_best
from sensorium.models.kin import WARMTHS, Kin
from sensorium.models.model import Explains, Features
from sensorium.models.popularity import Popularity
from sensorium.models.profile import Profile
from sensorium.models.ridge import ease_weights
from sensorium.models.tuning import tuned_linear
from sensorium.train.ranking import rank_targets

RNG = np.random.default_rng


def stripes(users: int = 24, items: int = 12) -> tuple[Events, Features]:
    """Even people take even items, odd ones odd items; the last two items are new and known by content alone."""
    user, item = [], []
    for u in range(users):
        for step in range(4):
            user.append(u)
            item.append((u % 2 + 2 * ((u // 2 + step) % ((items - 2) // 2))) % (items - 2))
    events = Events.of(user, item, users=users, items=items, time=[86_400.0 * n for n in range(len(user))])
    values = np.zeros((items, 4), np.float32)
    values[np.arange(items), np.arange(items) % 2] = 1
    values[:, 2] = 0.1 * np.cos(np.arange(items))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    blocks = {"image": slice(2, 4), "text": slice(0, 2)}
    return events, Features(Vectors(values, np.ones(items, bool), "toy"), blocks=blocks)


def last_of_four(events: Events) -> Fold:
    """Every fourth event held out: the last of each person in `stripes`."""
    last = np.arange(len(events)) % 4 == 3
    return Fold(events.take(~last), events.take(last))


MODELS = [
    Content(),
    Popularity(),
    Popularity(half_life_days=3, kin=Kin(warmth=2)),
    ItemKnn(),
    Ease(l2=5),
    Directed(l2=5),
    Ials(size=4),
    Profile(),
    Blend(),
]


@pytest.mark.parametrize("settings", MODELS, ids=lambda s: type(s).__name__)
def test_scores_are_finite_deterministic_and_explained(settings) -> None:
    events, features = stripes()
    model = settings.fit(events, features, rng=RNG(0))
    again = settings.fit(events, features, rng=RNG(0))
    histories = events.histories([0, 1, -1])
    scores = model.score(histories)
    assert scores.shape == (3, 12)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, again.score(histories))
    some = np.array([3, 10])
    np.testing.assert_allclose(model.score(histories, some), scores[:, some], atol=1e-5)
    if isinstance(model, Explains):
        parts = model.parts(histories.take([0]), some)
        np.testing.assert_allclose(parts.values.sum((1, 2)) + parts.base, scores[0, some], atol=1e-4)


@pytest.mark.parametrize("settings", [Content(), Ease(l2=5), Directed(l2=5), Blend()], ids=lambda s: type(s).__name__)
def test_newcomers_are_found_by_their_content(settings) -> None:
    events, features = stripes()
    scores = settings.fit(events, features, rng=RNG(0)).score(events.histories([0, 1]))
    assert scores[0, 10] > scores[0, 11]
    assert scores[1, 11] > scores[1, 10]


def test_extended_equals_a_catalogue_that_always_had_the_item() -> None:
    events, features = stripes()
    small = Features(features.items.take(np.arange(11)), blocks=features.blocks)
    grown = Ease(l2=5).fit(events.resized(events.users, 11), small, rng=RNG(0)).extended(features)
    whole = Ease(l2=5).fit(events, features, rng=RNG(0))
    histories = events.histories([0, 1])
    np.testing.assert_allclose(grown.score(histories), whole.score(histories), atol=1e-5)


def test_an_ease_column_is_a_ridge_regression_on_the_other_items() -> None:
    matrix = (RNG(1).random((40, 6)) < 0.4).astype(np.float32)
    weights = ease_weights((matrix.T @ matrix).copy(order="F"), 3.0)
    others = [0, 1, 3, 4, 5]
    left = matrix[:, others]
    ridge = np.linalg.solve(left.T @ left + 3 * np.eye(5), left.T @ matrix[:, 2])
    np.testing.assert_allclose(weights[others, 2], ridge, atol=1e-4)
    assert weights[2, 2] == 0


@pytest.mark.parametrize("settings", [Ease(), Directed(), ItemKnn(), Popularity()], ids=lambda s: type(s).__name__)
def test_a_world_without_events_is_scored_all_the_same(settings) -> None:
    events, features = Events.of([], [], users=0, items=12), stripes()[1]
    scores = settings.fit(events, features, rng=RNG(0)).score(events.histories([-1]))
    assert scores.tolist() == [[0.0] * 12]


def test_directed_knows_before_from_after() -> None:
    events = Events.of([u for u in range(8) for _ in range(2)], [0, 1] * 8, users=8, items=3)
    model = Directed(l2=0.5).fit(events, Features(Vectors.absent(3, 1, "none")), rng=RNG(0))
    histories = Events.of([0, 1], [0, 1], users=2, items=3).histories([0, 1])
    scores = model.score(histories)
    assert scores[0, 1] > 0.5
    assert abs(scores[1, 0]) < 1e-6


def test_partial_pasts_are_those_written_by_hand() -> None:
    past, future = pasts_and_futures(Events.of([0, 0, 0], [0, 1, 2], users=1, items=3), 0.5, 0.5, 0.0)
    np.testing.assert_allclose(past.toarray(), [[0, 0, 0], [1, 0, 0], [0.5, 1, 0]])
    np.testing.assert_allclose(future.toarray(), [[0, 0, 0], [0, 1, 0.5], [0, 0, 1]])


def test_popularity_sees_nothing_after_now_and_forgets() -> None:
    day = 86_400.0
    events = Events.of([0, 0, 1, 2], [0, 0, 1, 2], users=3, items=3, time=[0, 1, 30 * day, 60 * day])
    model = Popularity(half_life_days=5).fit(events, Features(Vectors.absent(3, 1, "none")), rng=RNG(0))
    scores = model.score(events.histories([1]))[0]
    assert scores[1] > scores[0] > 0
    assert scores[2] == 0


@pytest.mark.parametrize("with_content", [True, False])
def test_auto_works_in_a_tiny_world(with_content: bool) -> None:
    events, features = stripes(users=5)
    features = features if with_content else Features(Vectors.absent(12, 1, "none"))
    fold = last_of_four(events)
    auto = Auto().tuned(fold, features, rng=RNG(0))
    assert [t.name for t in auto.trials][-1] == "blend"
    assert auto.chosen is not None
    assert np.isfinite(auto.fit(events, features, rng=RNG(0)).score(events.histories([0, -1]))).all()


@pytest.mark.parametrize("content", [0.0, 2.0])
@pytest.mark.parametrize(("degree", "dropout"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.4)])
def test_few_people_get_the_same_matrix_as_many(
    content: float, degree: float, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = RNG(2).random((7, 60)) < 0.3
    user, item = np.nonzero(np.concatenate([chosen, np.zeros((1, 60), bool)]))  # one person has done nothing
    events = Events.of(user.tolist(), item.tolist(), users=8, items=60)
    features = Features(Vectors(RNG(3).normal(size=(60, 5)).astype(np.float32), np.ones(60, bool), "toy"))
    settings = Ease(l2=3.0, content=content, degree=degree, dropout=dropout)
    few = settings.fit(events, features, rng=RNG(0)).weights
    monkeypatch.setattr("sensorium.models.ease.FEW", 1_000)
    many = settings.fit(events, features, rng=RNG(0)).weights
    assert not np.array_equal(few, many)  # they are two ways indeed
    np.testing.assert_allclose(few, many, atol=1e-5)


def test_items_that_seldom_meet_get_the_same_directed_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events.of(
        [u for u in range(30) for _ in range(3)], RNG(5).integers(0, 80, 90).tolist(), users=30, items=80
    )
    features = Features(Vectors.absent(80, 1, "none"))
    monkeypatch.setattr("sensorium.models.directed.SPARSE", 1)
    few = Directed(l2=3.0).fit(events, features, rng=RNG(0)).weights
    monkeypatch.setattr("sensorium.models.directed.SPARSE", 0)
    many = Directed(l2=3.0).fit(events, features, rng=RNG(0)).weights
    assert not np.array_equal(few, many)
    np.testing.assert_allclose(few, many, atol=1e-5)


@pytest.mark.parametrize("settings", [Ease(), Directed()], ids=lambda s: type(s).__name__)
def test_tuning_keeps_what_a_fit_for_each_setting_would_keep(settings: Ease | Directed) -> None:
    events, features = stripes()
    fold = last_of_four(events)

    def value(one: Ease | Directed) -> float:
        return rank_targets(one.fit(fold.train, features, rng=RNG(0)).score, fold).ndcg()

    grid = {"decay": (1.0, 0.5), "l2": (1.0, 30.0), "dropout": (0.0, 0.5)}
    best = climb(settings, grid, value)[0]
    warm = [Kin(warmth=w) for w in WARMTHS]
    assert tuned_linear(settings, fold, features, grid) == max((replace(best, kin=kin) for kin in warm), key=value)
    assert isinstance(settings.tuned(fold, features, rng=RNG(0)), type(settings))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_best_of_each_column_are_those_of_a_sort_with_ties_by_row(k: int) -> None:
    dense = np.round(RNG(4).normal(size=(9, 7)), 1).astype(np.float32)  # rounded: there are ties, and values below zero
    dense[:, 3] = 0.5
    dense[:, 5] = 0
    kept = np.zeros_like(dense)
    for column in range(7):
        filled = np.flatnonzero(dense[:, column])
        best = sorted(filled, key=lambda row: (-dense[row, column], row))[:k]
        kept[best, column] = dense[best, column]
    assert np.array_equal(_column_best(sparse.csr_array(dense), k).toarray(), kept)


@pytest.mark.parametrize("settings", [ItemKnn(), Popularity()], ids=lambda s: type(s).__name__)
def test_what_tuning_keeps_between_settings_gives_what_fits_give(settings: ItemKnn | Popularity) -> None:
    events, features = stripes()
    fold = last_of_four(events)
    tuned = settings.tuned(fold, features, rng=RNG(0))

    def value(one: ItemKnn | Popularity) -> float:
        return rank_targets(one.fit(fold.train, features, rng=RNG(0)).score, fold).ndcg()

    grid: dict[str, tuple[object, ...]] = {"half_life_days": (0.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)}
    if isinstance(settings, ItemKnn):
        grid = dict(GRID)
    best = climb(settings, grid, value)[0]
    warm = [Kin(warmth=w) for w in WARMTHS]
    assert tuned == max((replace(best, kin=kin) for kin in warm), key=value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Ease(l2=-3), "ease: l2 = -3 should be a number of at least 0"),
        (lambda: ItemKnn(decay=1.5), "itemknn: decay = 1.5 should be a number from 0 to 1"),
        (lambda: Kin(warmth=float("nan")), "kin: warmth = nan"),
        (lambda: Auto(use=()), "leaves nothing to try"),
        (lambda: Auto(use=("eaze",)), "did you mean 'ease'"),
    ],
)
def test_settings_out_of_their_limits_are_refused_in_one_line(make, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        make()


def test_auto_skips_what_its_budget_does_not_allow_by_size_alone() -> None:
    events, features = stripes()
    allowed = Auto().allowed(events, features)
    assert {"popularity", "content", "itemknn", "ease", "directed", "ials"} <= set(allowed)
    assert "profile" not in allowed
    cost = sum(expected(name, events, features) for name in ("popularity", "sequence"))
    short, enough = (Auto(budget_seconds=cost * share, use=("popularity", "sequence")) for share in (0.9, 1.1))
    assert short.allowed(events, features) == ("popularity",)
    assert enough.allowed(events, features) == ("popularity", "sequence")
    assert Auto(use=("popularity", "lstm")).allowed(events, features) == ("popularity", "lstm")


def test_auto_says_what_it_left_out_and_why() -> None:
    events, _ = stripes(users=5)
    features = Features(Vectors.absent(12, 1, "none"))
    fold = last_of_four(events)
    budget = expected("popularity", fold.train, features) + 0.5 * expected("ials", fold.train, features)
    found = Auto(budget_seconds=budget, use=("popularity", "content", "profile", "ials")).tuned(
        fold, features, rng=RNG(0)
    )
    assert [trial.name for trial in found.trials] == ["popularity", "blend"]
    assert list(found.left_out) == ["content", "profile", "ials"]
    assert found.left_out["content"] == "no item has content"
    assert found.left_out["profile"] == "nobody says anything of themselves"
    assert f"left of the budget of {budget:g} s; raise recommender.budget_seconds" in found.left_out["ials"]
    with pytest.raises(RecipeError, match="nothing of `use` can be tried; content: no item has content"):
        Auto(use=("content",)).tuned(fold, features, rng=RNG(0))
