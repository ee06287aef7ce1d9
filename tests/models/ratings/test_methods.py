"""Each method against a naive derivation, and on a world whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sensorium.errors import DataError, RecipeError, UnknownId
from sensorium.models.ratings import (
    METHODS,
    Baseline,
    CoClustering,
    Neighbours,
    Nmf,
    Normal,
    RatingModel,
    Ratings,
    SlopeOne,
    Svd,
    Svdpp,
    method_of,
    rmse,
)


def some(users: int = 30, items: int = 20, share: float = 0.5, seed: int = 0) -> Ratings:
    """Users of two tastes: one likes even items, the other odd ones; some are kinder than others."""
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(users) for i in range(items) if rng.random() < share]
    value = [3 + (1.2 if (u + i) % 2 else -1.2) + 0.2 * (u % 3 - 1) + 0.3 * rng.normal() for u, i in pairs]
    return Ratings.of(
        [f"u{u}" for u, _ in pairs], [f"i{i}" for _, i in pairs], np.clip(np.round(value), 1, 5), scale=(1, 5)
    )


RATINGS = some()
SMALL = {
    "svd": {"size": 8, "epochs": 60, "learning_rate": 0.02},
    "svdpp": {"size": 8, "epochs": 60, "learning_rate": 0.02},
}
TASTE = ("neighbours", "svd", "svdpp", "nmf", "slopeone", "coclustering", "bayes")


def fitted(name: str, ratings: Ratings = RATINGS) -> RatingModel:
    return method_of(name, SMALL.get(name)).fit(ratings, rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", METHODS)
def test_a_model_answers_every_pair_saves_and_repeats(name: str, tmp_path) -> None:
    model = fitted(name)
    found = model.predictions(RATINGS)
    assert np.isfinite(found.estimate).all()
    assert ((found.estimate >= 1) & (found.estimate <= 5)).all()
    for user, item in (("u0", "i0"), ("nobody", "i0"), ("u0", "nothing"), ("nobody", "nothing")):
        assert 1 <= model.predict(user, item).estimate <= 5
    again = fitted(name).predictions(RATINGS)
    assert np.array_equal(found.estimate, again.estimate)
    model.save(tmp_path / "model")
    back = RatingModel.load(tmp_path / "model")
    assert np.array_equal(back.predictions(RATINGS).estimate, found.estimate)
    assert back.settings == model.settings
    fitted(name).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


@pytest.mark.parametrize(
    "name", [name for name in TASTE if name in METHODS and name not in ("slopeone", "nmf", "coclustering")]
)
def test_two_tastes_are_told_apart(name: str) -> None:
    model = fitted(name)
    for user, item in itertools.product((0, 1, 4, 7), range(8)):
        assert (model.predict(f"u{user}", f"i{item}").estimate > 3) == bool((user + item) % 2), (user, item)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("normal",)])
def test_newcomers_are_folded_in_as_if_they_had_been_there(name: str) -> None:
    """A user and an item that come after the fit are understood; what was known of the others hardly moves."""
    late = (RATINGS.user == 3) | (RATINGS.item == 5)
    model = fitted(name, RATINGS.take(~late))
    assert not model.ratings.knows_user("u3")
    grown = model.extended(RATINGS.take(late))
    asked = RATINGS.take(late)
    near = grown.predictions(asked)
    if name in ("slopeone", "coclustering"):  # what they learn from a newcomer is what a whole fit would
        assert rmse(near) < rmse(fitted(name).predictions(asked)) + 0.1
    else:
        assert rmse(near) < 0.85 * rmse(model.predictions(asked)) or name == "baseline"
    stays = RATINGS.take(~late & (RATINGS.user != 3))
    moved = np.abs(grown.predictions(stays).estimate - model.predictions(stays).estimate)
    assert np.median(moved) < 0.2


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("normal", "bayes")])
def test_somebody_new_by_id_gets_what_folding_gives(name: str) -> None:
    newcomer = Ratings.of(["new"] * 4, ["i0", "i1", "i2", "i3"], [1, 5, 1, 5])
    model = fitted(name)
    given = model.ratings.joined(newcomer).by_user
    last = len(given) - 1
    from sensorium.models.ratings.factors import picked

    alone = model.folded(picked(given, np.array([last])), clip=True)[0]
    grown = model.extended(newcomer)
    there = [grown.predict("new", item).estimate for item in model.ratings.items]
    tolerance = 0.5 if name in ("neighbours", "slopeone", "coclustering", "baseline") else 0.02
    assert np.abs(alone - there).max() < tolerance


def test_baseline_solves_its_least_squares() -> None:
    """At the end of ALS no offset can be bettered: each is its mean residual, shrunk."""
    model = Baseline(epochs=200).fit(RATINGS)
    mean, user, item = model.mean, model.core.user, model.core.item
    for u in range(3):
        mine = RATINGS.user == u
        left = RATINGS.value[mine] - mean - item[RATINGS.item[mine]]
        assert user[u] == pytest.approx(left.sum() / (15 + mine.sum()), abs=1e-6)
    for i in range(3):
        its = RATINGS.item == i
        left = RATINGS.value[its] - mean - user[RATINGS.user[its]]
        assert item[i] == pytest.approx(left.sum() / (10 + its.sum()), abs=1e-6)


def naive_likeness(one: dict, other: dict, similarity: str, support: int) -> float:
    both = sorted(set(one) & set(other))
    if len(both) < support:
        return 0.0
    a, b = np.array([one[y] for y in both]), np.array([other[y] for y in both])
    if not len(both):
        return 0.0
    if similarity == "msd":
        return float(1 / (np.mean((a - b) ** 2) + 1))
    if similarity == "pearson":
        a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 1e-9 else 0.0


@pytest.mark.parametrize("by", ["user", "item"])
@pytest.mark.parametrize("similarity", ["cosine", "msd", "pearson", "pearson_baseline"])
def test_likeness_is_what_its_formula_says(by: str, similarity: str) -> None:
    settings = Neighbours(by=by, similarity=similarity, support=3)
    model = settings.fit(RATINGS)
    rows: dict[int, dict[int, float]] = {}
    base = Baseline().offsets(RATINGS).at(RATINGS.user, RATINGS.item)
    for n in range(len(RATINGS)):
        x, y = (RATINGS.user[n], RATINGS.item[n]) if by == "user" else (RATINGS.item[n], RATINGS.user[n])
        rows.setdefault(x, {})[y] = RATINGS.value[n] - (base[n] if similarity == "pearson_baseline" else 0)
    for x, z in itertools.combinations(range(6), 2):
        expected = naive_likeness(rows[x], rows[z], similarity, 3)
        if similarity == "pearson_baseline":
            n = len(set(rows[x]) & set(rows[z]))
            expected *= (n - 1) / (n - 1 + 100) if n > 1 else 0
        assert model.core.likeness[x, z] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("by", ["user", "item"])
@pytest.mark.parametrize("centre", ["none", "mean", "zscore", "baseline"])
def test_a_neighbourhood_is_a_weighted_mean(by: str, centre: str) -> None:
    settings = Neighbours(by=by, centre=centre, similarity="msd", k=3)
    model = settings.fit(RATINGS)
    value = np.full((len(RATINGS.users), len(RATINGS.items)), np.nan)
    value[RATINGS.user, RATINGS.item] = RATINGS.value
    grid = np.indices(value.shape).reshape(2, -1)
    base = Baseline().offsets(RATINGS).at(*grid).reshape(value.shape)
    if by == "item":
        value, base = value.T, base.T
    mean, spread = np.nanmean(value, 1), np.nanstd(value, 1)
    for x, y in itertools.product(range(4), range(4)):
        raters = [z for z in range(len(value)) if not np.isnan(value[z, y]) and model.core.likeness[x, z] > 0]
        raters = sorted(raters, key=lambda z: -model.core.likeness[x, z])[:3]
        weight = model.core.likeness[x, raters]
        worth = value[raters, y]
        if centre == "none":
            expected = weight @ worth / weight.sum()
        elif centre == "baseline":
            expected = base[x, y] + weight @ (worth - base[raters, y]) / weight.sum()
        elif centre == "mean":
            expected = mean[x] + weight @ (worth - mean[raters]) / weight.sum()
        else:
            expected = mean[x] + spread[x] * (weight @ ((worth - mean[raters]) / spread[raters])) / weight.sum()
        rows = (np.array([x]), np.array([y])) if by == "user" else (np.array([y]), np.array([x]))
        assert model.estimates(*rows, clip=False)[0][0] == pytest.approx(expected, abs=1e-5)


def test_too_few_neighbours_are_told() -> None:
    model = Neighbours(least=1000).fit(RATINGS)
    found = model.predict("u0", "i0")
    assert found.details["was_impossible"]
    assert found.details["reason"] == "too few neighbours"
    assert found.estimate == pytest.approx(RATINGS.mean)
    assert Neighbours(k=5).fit(RATINGS).predict("u0", "i0").details["actual_k"] == 5
    assert Neighbours().fit(RATINGS).predict("nobody", "i0").details["reason"] == "unknown user"


def test_more_neighbours_than_there_are_users_are_all_of_them() -> None:
    pairs = RATINGS.user.astype(np.int64), RATINGS.item.astype(np.int64)
    few, many = (Neighbours(k=k).fit(RATINGS).estimates(*pairs)[0] for k in (len(RATINGS.users), 10**15))
    np.testing.assert_array_equal(few, many)


def test_neighbours_are_the_most_alike() -> None:
    model = Neighbours(similarity="pearson", by="item").fit(RATINGS)
    nearest = model.neighbours("i0", 5)
    assert len(nearest) == 5
    assert {int(name[1:]) % 2 for name in nearest} == {0}
    with pytest.raises(UnknownId, match="no item 'i999'"):
        model.neighbours("i999")
    with pytest.raises(DataError, match="compares nobody"):
        fitted("svd").neighbours("i0")


def test_svdpp_is_the_slow_recurrence() -> None:
    """The one affine map a visit equals moving every implicit vector at every rating."""
    settings = Svdpp(size=3, epochs=2, learning_rate=0.05, l2=0.1)
    model = settings.fit(RATINGS, rng=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    users, items = len(RATINGS.users), len(RATINGS.items)
    p, q, y = (rng.normal(0, 0.1, (count, 3)) for count in (users, items, items))
    bu, bi, lists = np.zeros(users), np.zeros(items), RATINGS.by_user
    for _ in range(2):
        for u in range(users):
            mine = lists.other[lists.start[u] : lists.start[u + 1]]
            for i, value in zip(mine, lists.value[lists.start[u] : lists.start[u + 1]], strict=True):
                root = np.sqrt(len(mine))
                says = y[mine].sum(0) / root
                miss = value - (RATINGS.mean + bu[u] + bi[i] + q[i] @ (p[u] + says))
                bu[u] += 0.05 * (miss - 0.1 * bu[u])
                bi[i] += 0.05 * (miss - 0.1 * bi[i])
                old = q[i].copy()
                q[i] += 0.05 * (miss * (p[u] + says) - 0.1 * q[i])
                p[u] += 0.05 * (miss * old - 0.1 * p[u])
                y[mine] += 0.05 * (miss * old / root - 0.1 * y[mine])
    for mine, slow in (
        (model.core.user, p),
        (model.core.item, q),
        (model.core.implicit, y),
        (model.core.item_offset, bi),
    ):
        assert np.abs(mine - slow).max() < 1e-4


def test_svd_is_the_slow_recurrence() -> None:
    model = Svd(size=2, epochs=1, learning_rate=0.05).fit(RATINGS, rng=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    p, q = (rng.normal(0, 0.1, (count, 2)) for count in (len(RATINGS.users), len(RATINGS.items)))
    bu, bi, lists = np.zeros(len(p)), np.zeros(len(q)), RATINGS.by_user
    for u in range(len(p)):
        for n in range(lists.start[u], lists.start[u + 1]):
            i = lists.other[n]
            miss = lists.value[n] - (RATINGS.mean + bu[u] + bi[i] + p[u] @ q[i])
            bu[u] += 0.05 * (miss - 0.02 * bu[u])
            bi[i] += 0.05 * (miss - 0.02 * bi[i])
            p[u], q[i] = p[u] + 0.05 * (miss * q[i] - 0.02 * p[u]), q[i] + 0.05 * (miss * p[u] - 0.02 * q[i])
    assert np.abs(model.core.user - p).max() < 1e-5
    assert np.abs(model.core.item - q).max() < 1e-5


def test_nmf_stays_non_negative_and_learns() -> None:
    model = Nmf().fit(RATINGS, rng=np.random.default_rng(0))
    assert (model.core.user >= 0).all()
    assert (model.core.item >= 0).all()
    assert rmse(model.predictions(RATINGS)) < 0.6
    assert model.predict("nobody", "i0").details["was_impossible"]


def test_pmf_has_no_offsets() -> None:
    model = Svd(biased=False, size=8, epochs=40, learning_rate=0.02).fit(RATINGS, rng=np.random.default_rng(0))
    assert not model.core.item_offset.any()
    assert model.predict("nobody", "i0").details == {"was_impossible": True, "reason": "unknown user"}


def test_slope_one_by_hand() -> None:
    ratings = Ratings.of(["a", "a", "b", "b", "c"], ["x", "y", "x", "y", "x"], [1, 2, 2, 4, 3])
    # y is 1.5 above x on average, c's mean is 3.
    assert SlopeOne().fit(ratings).predict("c", "y").estimate == pytest.approx(4.5)


def test_co_clustering_finds_blocks() -> None:
    value = np.kron([[5, 1], [1, 5]], np.ones((4, 4)))
    users, items = np.indices(value.shape)
    ratings = Ratings.of(users.ravel(), items.ravel(), value.ravel())
    errors = [
        rmse(CoClustering(2, 2).fit(ratings, rng=np.random.default_rng(seed)).predictions(ratings)) for seed in range(4)
    ]
    assert min(errors) < 1e-9


def test_normal_draws_have_the_ratings_moments() -> None:
    model = Normal().fit(RATINGS, rng=np.random.default_rng(0))
    user, item = np.divmod(np.arange(600), 20)
    draws = model.estimates(user, item, clip=False)[0]
    assert draws.mean() == pytest.approx(RATINGS.value.mean(), abs=0.2)
    assert draws.std() == pytest.approx(RATINGS.value.std(), abs=0.2)
    assert len(np.unique(draws)) == 600


def test_mistakes_are_told() -> None:
    nothing = RATINGS.take(np.zeros(0, np.int64))
    for name in METHODS:
        with pytest.raises(DataError, match="none to learn from"):
            method_of(name).fit(nothing, rng=np.random.default_rng(0))
    with pytest.raises(RecipeError, match="did you mean 'svd'"):
        method_of("sdv")
    with pytest.raises(RecipeError, match="size"):
        Svd(size=0)
    with pytest.raises(RecipeError, match="did you mean 'item_offset'"):
        Svd(l2s={"item_ofset": 1.0})
    with pytest.raises(RecipeError, match="diverge"):
        Svd(learning_rate=5.0).fit(RATINGS, rng=np.random.default_rng(0))
