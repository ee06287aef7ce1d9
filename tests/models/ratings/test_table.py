"""The table of ratings, accuracy, folds, cross-validation and searches."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.data.events import Events
from sensorium.errors import DataError, RecipeError, SnapshotError
from sensorium.models.ratings import (
    Baseline,
    KFold,
    LeaveOneOut,
    Neighbours,
    PredefinedKFold,
    Predictions,
    RatingModel,
    Ratings,
    RepeatedKFold,
    ShuffleSplit,
    Svd,
    cross_validate,
    divided,
    fcp,
    grid_search,
    mae,
    mse,
    optuna_search,
    random_search,
    read_ratings,
    rescaled,
    rmse,
)


def table(count: int = 60, seed: int = 0) -> Ratings:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(12 * 10)[:count]
    return Ratings.of([f"u{p // 10}" for p in pairs], [f"i{p % 10}" for p in pairs], rng.integers(1, 6, count))


RATINGS = table()


def test_reading_a_file(tmp_path) -> None:
    path = tmp_path / "ratings.tsv"
    path.write_text("user\titem\trating\ttime\na\tx\t4\t10\nb\tx\t2.5\t20\n")
    ratings = read_ratings(path, skip=1)
    assert list(ratings.triples()) == [("a", "x", 4.0), ("b", "x", 2.5)]
    assert ratings.time is not None
    assert ratings.time.tolist() == [10, 20]
    with pytest.raises(DataError, match="no number"):
        read_ratings(path)
    with pytest.raises(DataError, match="line 2 has 4 fields"):
        read_ratings(path, columns="user item rating timestamp extra", skip=1)
    with pytest.raises(DataError, match="names no item"):
        read_ratings(path, columns="user rating")
    path.write_text("a::x::9\n")
    with pytest.raises(DataError, match="off the scale 1 to 5"):
        read_ratings(path, columns="user item rating")
    assert len(read_ratings(path, columns="user item rating", scale=(0, 10))) == 1


def test_mistakes_in_tables_are_told() -> None:
    with pytest.raises(DataError, match="2 users, 1 items"):
        Ratings.of(["a", "b"], ["x"], [1, 2])
    with pytest.raises(DataError, match="the first must be the lower"):
        Ratings.of(["a"], ["x"], [1], scale=(5, 1))
    with pytest.raises(DataError, match="rated item 'x' 2 times"):
        Ratings.of(["a", "a"], ["x", "x"], [1, 3])
    assert Ratings.of(["a", "a"], ["x", "x"], [1, 3], twice="last").value.tolist() == [3]
    assert Ratings.of(["a", "a"], ["x", "x"], [1, 3], twice="mean").value.tolist() == [2]
    with pytest.raises(DataError, match="row 1 has the value nan"):
        Ratings.of(["a"], ["x"], [float("nan")])


def test_rows_stay_when_ratings_are_joined() -> None:
    more = Ratings.of(["new", "u1"], ["i1", "other"], [2, 3])
    whole = RATINGS.joined(more)
    assert whole.users.names(range(len(RATINGS.users))) == list(RATINGS.users)
    assert set(whole.triples()) == set(RATINGS.triples()) | set(more.triples())


def test_unrated_pairs_are_the_rest() -> None:
    rest = RATINGS.unrated()
    assert len(rest) + len(RATINGS) == 12 * 10
    assert not {t[:2] for t in rest.triples()} & {t[:2] for t in RATINGS.triples()}
    assert set(rest.value.tolist()) == {RATINGS.mean}
    one = RATINGS.unrated(["u3"], fill=1.0)
    assert {user for user, _, _ in one.triples()} == {"u3"}


def test_events_become_ratings() -> None:
    events = Events.of([0, 0, 1, 0], [0, 1, 0, 0], users=2, items=3, value=[4, np.nan, 2, 5])
    ratings = Ratings.of_events(events)
    assert sorted(zip(ratings.user.tolist(), ratings.item.tolist(), ratings.value.tolist(), strict=True)) == [
        (0, 0, 5.0), (0, 1, 1.0), (1, 0, 2.0)]  # fmt: skip
    assert (ratings.low, ratings.high) == (1.0, 5.0)


def predictions(user: list[int], value: list[float], guess: list[float]) -> Predictions:
    n = len(user)
    return Predictions(
        np.array(user), np.arange(n), np.array(value), np.array(guess), np.zeros(n, bool),
        RATINGS.users, RATINGS.items,
    )  # fmt: skip


def test_accuracy_by_hand() -> None:
    found = predictions([0, 0, 1, 1], [1, 2, 3, 5], [1, 3, 4, 4])
    assert mse(found) == pytest.approx(3 / 4)
    assert rmse(found) == pytest.approx(np.sqrt(3 / 4))
    assert mae(found) == pytest.approx(3 / 4)
    assert fcp(found) == pytest.approx(1 / 2)  # user 1's two estimates are equal
    with pytest.raises(DataError, match="no predictions"):
        rmse(predictions([], [], []))
    with pytest.raises(DataError, match="no user rated two items differently"):
        fcp(predictions([0, 1], [1, 2], [1, 2]))


def test_best_items_of_each_user() -> None:
    found = predictions([0, 0, 1], [1, 2, 3], [2, 4, 3])
    best = found.best(1)
    assert best[RATINGS.users[0]] == [(RATINGS.items[1], 4.0)]
    assert next(iter(found)).estimate == 2


@pytest.mark.parametrize(
    "folds", [KFold(4, 1), RepeatedKFold(3, 2, 1), ShuffleSplit(3, 0.25, seed=1), LeaveOneOut(3, 2, 1)]
)
def test_folds_part_the_table_and_repeat(folds) -> None:
    parts = list(folds.split(RATINGS))
    whole = set(RATINGS.triples())
    for train, test in parts:
        assert not set(train.triples()) & set(test.triples())
        assert set(train.triples()) | set(test.triples()) <= whole
    for (one, _), (other, _) in zip(parts, folds.split(RATINGS), strict=True):
        assert np.array_equal(one.user, other.user)


def test_what_each_division_promises() -> None:
    tests = [test for _, test in KFold(4).split(RATINGS)]
    assert sorted(t for test in tests for t in test.triples()) == sorted(RATINGS.triples())
    assert len(list(RepeatedKFold(3, 2).split(RATINGS))) == 6
    train, test = next(ShuffleSplit(1, 10, 20).split(RATINGS))
    assert (len(train), len(test)) == (20, 10)
    train, test = next(LeaveOneOut(1, least=4).split(RATINGS))
    assert (np.bincount(test.user) <= 1).all()
    counts = np.bincount(RATINGS.user)
    assert len(test) == (counts > 4).sum()
    assert set(np.unique(train.user)) == set(np.flatnonzero(counts > 4))
    parts = divided(RATINGS, 0.5)
    assert len(list(PredefinedKFold((parts,)).split())) == 1
    for wrong in (KFold(1), KFold(1000), ShuffleSplit(1, 0.9, 0.9), ShuffleSplit(1, -1), LeaveOneOut(1, least=99)):
        with pytest.raises(DataError):
            next(wrong.split(RATINGS))
    with pytest.raises(DataError, match="no folds"):
        next(PredefinedKFold(()).split())


def test_rescaling_is_linear() -> None:
    wide = rescaled(RATINGS, 0, 10)
    assert wide.value.min() == 0
    assert wide.value.max() == 10
    assert np.allclose(rescaled(wide, 1, 5).value, RATINGS.value)


def test_cross_validation_does_not_depend_on_threads() -> None:
    one, two = (
        cross_validate(
            Svd(size=4, epochs=3), RATINGS, measures=["RMSE", "mae"], folds=KFold(3), jobs=jobs, on_train=True
        )
        for jobs in (1, 2)
    )
    assert np.array_equal(one.test["rmse"], two.test["rmse"])
    assert np.array_equal(one.train["mae"], two.train["mae"])
    assert one.mean("rmse") == pytest.approx(one.test["rmse"].mean())
    assert "RMSE" in str(one)
    with pytest.raises(DataError, match="did you mean 'rmse'"):
        cross_validate(Svd(), RATINGS, measures=["rsme"])


def test_grid_search_takes_the_best_and_reaches_inner_settings() -> None:
    grid = {"k": [1, 40], "baseline.user_l2": [1.0, 50.0]}
    found = grid_search(Neighbours(centre="baseline"), grid, RATINGS, folds=KFold(3), measures=["mae", "rmse", "fcp"])
    assert len(found.tried) == 4
    means = [result.mean("rmse") for result in found.results]
    assert found.best_score("rmse") == min(means)
    assert found.best_score("fcp") == max(result.mean("fcp") for result in found.results)
    assert found.best_method("rmse").baseline.user_l2 == found.best_settings("rmse")["baseline.user_l2"]
    assert isinstance(found.refit(RATINGS), RatingModel)
    assert set(found.table()) >= {"settings", "mean_test_rmse", "std_test_mae"}
    alone = cross_validate(found.best_method(), RATINGS, folds=KFold(3), measures=["mae"])
    assert alone.mean("mae") == found.best_score()
    with pytest.raises(RecipeError, match="no setting 'kk'"):
        grid_search(Neighbours(), {"kk": [1]}, RATINGS)
    with pytest.raises(DataError, match="nothing to vary"):
        grid_search(Neighbours(), {}, RATINGS)


@pytest.mark.parametrize("time", [[1.0], [1.0, 2.0, 3.0], [1.0, float("nan")], 5.0])
def test_times_are_one_finite_number_a_rating(time) -> None:
    with pytest.raises(DataError, match="times for 2 values"):
        Ratings.of(["a", "b"], ["x", "x"], [1, 2], time=time)


def test_random_search_draws_from_lists_and_distributions() -> None:
    from scipy.stats import uniform

    few = random_search(Baseline(), {"epochs": [1, 2]}, RATINGS, trials=10, folds=KFold(2))
    assert sorted(one["epochs"] for one in few.tried) == [1, 2]
    drawn = random_search(Baseline(), {"user_l2": uniform(1, 9)}, RATINGS, trials=3, folds=KFold(2), seed=5)
    again = random_search(Baseline(), {"user_l2": uniform(1, 9)}, RATINGS, trials=3, folds=KFold(2), seed=5, jobs=1)
    assert drawn.tried == again.tried
    assert all(1 <= one["user_l2"] <= 10 for one in drawn.tried)


def test_optuna_searches_and_repeats() -> None:
    pytest.importorskip("optuna")

    def suggest(trial):
        return {"user_l2": trial.suggest_float("user_l2", 1, 50, log=True)}

    one, two = (optuna_search(Baseline(), suggest, RATINGS, trials=3, folds=KFold(2), seed=1) for _ in range(2))
    assert one.tried == two.tried
    assert one.best_score() == two.best_score()


def test_files_that_are_no_models_are_told(tmp_path) -> None:
    path = tmp_path / "model"
    with pytest.raises(SnapshotError, match="no file"):
        RatingModel.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(SnapshotError, match="nothing that Sensorium saved"):
        RatingModel.load(path)
