"""Hybrid factorisation: gradients against their definition, tiny worlds with a known answer, growth, threads, saving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import approx_fprime, minimize

from sensorium.checks.tiny import newcomer
from sensorium.errors import DataError, RecipeError, ShapeError, UnknownId
from sensorium.evaluate.metrics import accuracy
from sensorium.models.hybrid import LOSSES, OPTIMIZERS, Hybrid
from sensorium.models.hybrid.factors import Factors, Given
from sensorium.models.hybrid.ranks import auc, random_split
from sensorium.models.hybrid.tables import Table
from sensorium.models.hybrid.training import Samples, strata
from sensorium.models.hybrid.vocabulary import Vocabulary

RNG = np.random.default_rng
SIZE = 3


def stripes(users: int = 20, items: int = 12) -> tuple[sparse.coo_array, sparse.coo_array]:
    """Even people like even items; each misses one of their own, which is the test."""
    user, item, missed = [], [], []
    for u in range(users):
        own = np.arange(u % 2, items, 2)
        missed.append(own[u // 2 % len(own)])
        for i in own[own != missed[-1]]:
            user.append(u)
            item.append(i)
    train = sparse.coo_array((np.ones(len(user), np.float32), (user, item)), shape=(users, items))
    return train, sparse.coo_array((np.ones(users, np.float32), (np.arange(users), missed)), shape=(users, items))


def reversed_rows(table: Table) -> Table:
    return Table(*(part[::-1].copy() for part in (table.value, table.second, table.first, table.power)))


def before_and_after(settings: Hybrid, matrix: sparse.coo_array, given: Given | None = None, seed: int = 0):
    """Factors with the same beginning, without and with training."""
    return (settings.factors(matrix, given, epochs=n, rng=RNG(seed)) for n in (0, settings.epochs))


def slope_of(loss: Callable[[np.ndarray, np.ndarray], float], start: Factors) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of a loss of both tables, by finite differences."""
    p, q = (table.value.astype(np.float64) for table in (start.user_table, start.item_table))
    flat = approx_fprime(
        np.concatenate([p.ravel(), q.ravel()]),
        lambda x: loss(x[: p.size].reshape(p.shape), x[p.size :].reshape(q.shape)), 1e-6,
    )  # fmt: skip
    return flat[: p.size].reshape(p.shape), flat[p.size :].reshape(q.shape)


def score(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return p[:, 1:] @ q[:, 1:].T + p[:, :1] + q[:, 0]


def assert_moved_against(slopes: tuple[np.ndarray, np.ndarray], start: Factors, end: Factors, rate: float) -> None:
    """AdaGrad's first step has length one times the rate."""
    for slope, one, other in zip(
        slopes, (start.user_table, start.item_table), (end.user_table, end.item_table), strict=True
    ):
        np.testing.assert_allclose(other.value - one.value, -rate * slope, atol=1e-5)


@pytest.mark.parametrize("target", [1.0, -1.0])
def test_logistic_gradient(target: float) -> None:
    matrix = sparse.coo_array((np.array([target], np.float32), ([0], [0])), shape=(1, 1))
    start, end = before_and_after(Hybrid(size=SIZE, loss="logistic", epochs=1), matrix)
    slopes = slope_of(lambda p, q: float(np.log1p(np.exp(-target * score(p, q)[0, 0]))), start)
    assert_moved_against(slopes, start, end, 0.05)


def test_bpr_gradient() -> None:
    matrix = sparse.coo_array((np.ones(2, np.float32), ([0, 1], [0, 1])), shape=(2, 2))
    weights = np.array([1.0, 0.0], np.float32)  # the second only makes its item one to be drawn
    settings = Hybrid(size=SIZE, loss="bpr", epochs=1)
    start, end = (settings.factors(matrix, weights=weights, epochs=n, rng=RNG(0)) for n in (0, 1))
    slopes = slope_of(lambda p, q: float(np.log1p(np.exp(score(p, q)[0, 1] - score(p, q)[0, 0]))), start)
    assert_moved_against(slopes, start, end, 0.05)


@pytest.mark.parametrize("loss", ["warp", "warp-kos"])
def test_warp_gradient(loss: str) -> None:
    """Of four items the person has three: the only violator is the last, and its loss log 3 when found at once."""
    matrix = sparse.coo_array((np.ones(1, np.float32), ([0], [0])), shape=(1, 4))
    settings = Hybrid(size=SIZE, loss=loss, epochs=1, max_sampled=1)
    for seed in range(20):
        start, end = before_and_after(settings, matrix, seed=seed)
        change = end.item_table.value - start.item_table.value
        if change.any():
            bad = int(np.flatnonzero(change[1:].any(axis=1))[0]) + 1
            slopes = slope_of(lambda p, q: float(np.log(3) * (1 - score(p, q)[0, 0] + score(p, q)[0, bad])), start)  # noqa: B023
            assert_moved_against(slopes, start, end, 0.05)
            return
    raise AssertionError("no violator was ever drawn")


def test_softmax_gradient_over_all_and_over_drawn() -> None:
    matrix = sparse.coo_array((np.ones(1, np.float32), ([0], [1])), shape=(1, 4))
    start, end = before_and_after(Hybrid(size=SIZE, epochs=1), matrix)

    def loss(p: np.ndarray, q: np.ndarray) -> float:
        logits = score(p, q)[0]
        return float(np.log(np.exp(logits).sum()) - logits[1])

    slope_p, slope_q = slope_of(loss, start)
    for slope, table, after in (
        (slope_p, start.user_table, end.user_table),
        (slope_q, start.item_table, end.item_table),
    ):
        want = -0.05 * slope / np.sqrt(1 + slope**2)  # squares are counted before a step over all
        np.testing.assert_allclose(after.value - table.value, want, atol=1e-5)
    many = Hybrid(size=SIZE, epochs=1, full=0, max_sampled=40_000)
    _, end = before_and_after(many, matrix)
    np.testing.assert_allclose(end.user_table.value - start.user_table.value, -0.05 * slope_p, atol=1e-3)


@pytest.mark.parametrize("how", ["adadelta", "adam"])
def test_optimisers_against_a_plain_step(how: str) -> None:
    matrix = sparse.coo_array((np.ones(1, np.float32), ([0], [0])), shape=(1, 1))
    settings = Hybrid(size=SIZE, loss="logistic", optimizer=how, epochs=4, learning_rate=0.1)
    start, end = before_and_after(settings, matrix)
    rows = [start.user_table.value[0].astype(float), start.item_table.value[0].astype(float)]
    first, second = [np.zeros(SIZE + 1), np.zeros(SIZE + 1)], [np.zeros(SIZE + 1), np.zeros(SIZE + 1)]
    for t in range(1, 5):
        loss = 1 / (1 + np.exp(-(rows[0][1:] @ rows[1][1:] + rows[0][0] + rows[1][0]))) - 1
        slopes = [loss * np.concatenate([[1], rows[1 - side][1:]]) for side in (0, 1)]
        for side, g in enumerate(slopes):
            if how == "adam":
                first[side] = 0.9 * first[side] + 0.1 * g
                second[side] = 0.999 * second[side] + 0.001 * g**2
                mean, square = first[side] / (1 - 0.9**t), second[side] / (1 - 0.999**t)
                rows[side] = rows[side] - 0.1 * mean / (np.sqrt(square) + 1e-6)
            else:
                second[side] = 0.95 * second[side] + 0.05 * g**2
                change = np.sqrt(first[side] + 1e-6) / np.sqrt(second[side] + 1e-6) * g
                first[side] = 0.95 * first[side] + 0.05 * change**2
                rows[side] = rows[side] - change
    np.testing.assert_allclose(end.user_table.value[0], rows[0], atol=2e-4)
    np.testing.assert_allclose(end.item_table.value[0], rows[1], atol=2e-4)


def test_features_share_the_gradient_by_their_weights() -> None:
    """A feature of two items is shared, their own columns are not; each moves by its weight times the vector's gradient."""
    features = sparse.csr_array(np.array([[1, 0, 0.5], [0, 2, 0.25]], np.float32))
    dense = np.array([[1.0, 2.0], [0.5, 0.0]], np.float32)
    matrix = sparse.coo_array((np.ones(1, np.float32), ([0], [0])), shape=(1, 2))
    settings = Hybrid(size=SIZE, loss="logistic", epochs=1)
    start, end = before_and_after(settings, matrix, Given(items=features, dense_items=dense))
    vector = features.toarray() @ start.item_table.value + dense @ start.item_projection.value
    np.testing.assert_allclose(start.items, vector, atol=1e-6)
    person = start.user_table.value[0]
    loss = 1 / (1 + np.exp(-(person[1:] @ vector[0, 1:] + person[0] + vector[0, 0]))) - 1
    slope = loss * np.concatenate([[1], person[1:]])
    np.testing.assert_allclose(
        end.item_table.value - start.item_table.value, -0.05 * np.array([1, 0, 0.5])[:, None] * slope, atol=1e-5
    )
    whole = np.outer(dense[0], slope)
    np.testing.assert_allclose(
        end.item_projection.value - start.item_projection.value, -0.05 * whole / np.sqrt(1 + whole**2), atol=1e-5
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_stripes_by_every_loss(loss: str) -> None:
    train, test = stripes()
    told = train
    if loss == "logistic":  # it needs to be told what was not liked
        dense = np.where(train.toarray() > 0, 1, -1).astype(np.float32)
        dense[test.row, test.col] = 0
        told = sparse.coo_array(dense)
    factors = Hybrid(size=4, loss=loss, epochs=40, learning_rate=0.1).factors(told, rng=RNG(0))
    assert auc(factors.ranks(test, train), 12, train).mean() >= 0.95


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["warp", "softmax"])
def test_two_threads_give_the_same_bytes_and_the_answer(loss: str, optimizer: str) -> None:
    train, test = stripes(40, 16)
    colours = np.eye(2, dtype=np.float32)[np.arange(16) % 2]
    given = Given(items=sparse.hstack([sparse.eye_array(16), colours]), dense_items=colours)
    settings = Hybrid(size=4, loss=loss, optimizer=optimizer, epochs=30, threads=2, block=64, full=0, learning_rate=0.1)
    one, other = (settings.factors(train, given, rng=RNG(3)) for _ in range(2))
    for name in ("users", "items"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert accuracy(one.ranks(test, train), [1]).means()["precision@1"] >= 0.9


def test_two_threads_are_one_where_there_is_little_to_share_out() -> None:
    train, _ = stripes(40, 16)
    settings = Hybrid(size=4, loss="warp", epochs=3)
    one, two = (replace(settings, threads=threads).factors(train, rng=RNG(3)) for threads in (1, 2))
    assert one.items.tobytes() == two.items.tobytes()


def test_two_threads_share_out_what_is_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.models.hybrid.training.SHARE", 16)
    monkeypatch.setattr("sensorium.models.hybrid.training.SLICES", 1)
    train, test = stripes(40, 16)
    settings = Hybrid(size=4, loss="warp", epochs=40, threads=2, learning_rate=0.1)
    one, other = (settings.factors(train, rng=RNG(3)) for _ in range(2))
    alone = replace(settings, threads=1).factors(train, rng=RNG(3))
    assert one.items.tobytes() == other.items.tobytes() != alone.items.tobytes()
    assert auc(one.ranks(test, train), 16, train).mean() >= 0.95


@pytest.mark.parametrize("loss", LOSSES)
def test_the_kernel_without_features_does_what_the_one_with_them_does(loss: str) -> None:
    train, _ = stripes()
    settings = Hybrid(size=4, loss=loss, epochs=3, full=0, block=10_000)  # type: ignore[arg-type]
    start = settings.factors(train, epochs=0, rng=RNG(0))
    # The rows of the items' table in another order: nothing else differs, and each is looked up by its place.
    turned = replace(start, item_table=reversed_rows(start.item_table))
    features = sparse.eye_array(12, format="csr")[::-1]
    plain = start.updated(train, rng=RNG(1))
    looked_up = turned.updated(train, Given(items=features), rng=RNG(1))
    np.testing.assert_allclose(plain.items, looked_up.items, atol=1e-5)
    np.testing.assert_allclose(plain.users, looked_up.users, atol=1e-5)


def test_strata_share_no_row_and_lose_no_sample() -> None:
    rng = RNG(0)
    user, item = rng.integers(0, 30, 500).astype(np.int32), rng.integers(0, 20, 500).astype(np.int32)
    mixed = Samples(user, item, np.ones(500, np.float32), np.arange(500, dtype=np.float32))
    rounds = strata(mixed, (np.bincount(user, minlength=30), np.bincount(item, minlength=20)), 3, rng)
    assert sorted(w for parts in rounds for part, _, _ in parts for w in part.weight) == list(range(500))
    for parts in rounds:
        people = [set(part.user) for part, _, _ in parts]
        things = [set(group) for _, _, group in parts]
        assert sum(map(len, people)) == len(set().union(*people))
        assert sum(map(len, things)) == len(set().union(*things)) == 20
        assert all(set(part.item) <= set(group) and set(pool) <= set(group) for part, pool, group in parts)


def test_hogwild_learns_too() -> None:
    train, test = stripes()
    settings = Hybrid(size=4, loss="warp", epochs=40, learning_rate=0.1, threads=2, hogwild=True)
    assert auc(settings.factors(train, rng=RNG(0)).ranks(test, train), 12, train).mean() >= 0.95


def test_a_weight_of_zero_is_no_sample() -> None:
    train, _ = stripes()
    settings = Hybrid(size=4, loss="softmax", epochs=5)
    weights = np.ones(train.nnz, np.float32)
    weights[train.row == 3] = 0
    factors = settings.factors(train, weights=weights, rng=RNG(0))
    start = settings.factors(train, epochs=0, rng=RNG(0))
    np.testing.assert_array_equal(factors.users[3], start.users[3])
    assert not np.array_equal(factors.users[4], start.users[4])


def test_a_penalty_shrinks() -> None:
    train, _ = stripes()
    for loss in ("warp", "softmax"):
        free, held = (Hybrid(size=4, loss=loss, epochs=20, item_l2=l2).factors(train, rng=RNG(0)) for l2 in (0.0, 0.01))
        assert np.abs(held.items).mean() < 0.9 * np.abs(free.items).mean()


def test_fitted_further_with_new_people_items_and_features() -> None:
    words = Vocabulary().extended(users=["u0", "u1"], items=["a", "b"], item_features=["red"])
    settings = Hybrid(size=4, loss="warp", epochs=20)
    first, _ = words.interactions([("u0", "a"), ("u1", "b")])
    old = settings.factors(first, Given(items=words.item_matrix({"a": ["red"]})), rng=RNG(0))
    more = words.extended(users=["u2"], items=["c"], item_features=["blue"])
    described = more.item_matrix({"a": ["red"], "c": {"blue": 2.0}})
    later, _ = more.interactions([("u2", "c"), ("u2", "a")])
    same = old.updated(later, Given(items=described), epochs=0, rng=RNG(1))
    assert (len(same.users), len(same.items), len(same.item_table)) == (3, 3, 5)
    np.testing.assert_array_equal(same.user_table.value[:2], old.user_table.value)
    np.testing.assert_array_equal(same.item_table.value[:3], old.item_table.value)
    np.testing.assert_allclose(same.items[:2], old.items, atol=1e-7)
    new = old.updated(later, Given(items=described), epochs=40, rng=RNG(1))
    assert new.predict(2, np.array([2]))[0] > new.predict(2, np.array([1]))[0]
    plain = settings.factors(first, rng=RNG(0)).updated(later, rng=RNG(1))  # and without any features
    assert (len(plain.users), len(plain.items)) == (3, 3)


def test_updating_twice_is_training_twice() -> None:
    """fit_partial keeps the optimiser's state: two updates of one chance equal two epochs."""
    train, _ = stripes()
    settings = Hybrid(size=4, loss="warp", epochs=2)
    rng = RNG(0)
    apart = settings.factors(train, epochs=1, rng=rng).updated(train, epochs=1, rng=rng)
    np.testing.assert_allclose(apart.items, settings.factors(train, rng=RNG(0)).items, atol=1e-6)


def naive_ranks(scores: np.ndarray, test: np.ndarray, train: np.ndarray) -> dict[tuple[int, int], float]:
    out = {}
    for u, i in zip(*np.nonzero(test), strict=True):
        if not train[u, i]:
            rest = [j for j in range(scores.shape[1]) if j != i and not train[u, j]]
            out[u, i] = sum((scores[u, j] > scores[u, i]) + (scores[u, j] == scores[u, i]) / 2 for j in rest)
    return out


def test_ranks_and_auc_by_counting() -> None:
    rng = RNG(0)
    train, test = (sparse.csr_array((rng.random((9, 14)) < share).astype(np.float32)) for share in (0.2, 0.3))
    factors = Hybrid(size=4, epochs=3).factors(train, rng=rng)
    scores = factors.scores()
    ranks = factors.ranks(test, train)
    naive = naive_ranks(scores, test.toarray(), train.toarray())
    assert {(u, i): r for u, i, r in zip(ranks.user, ranks.item, ranks.rank, strict=True)} == naive
    want = []
    for u in np.unique(ranks.user):
        good = [i for (who, i) in naive if who == u]
        bad = [j for j in range(14) if j not in good and not train.toarray()[u, j]]
        want.append(np.mean([scores[u, g] > scores[u, b] for g in good for b in bad]))
    np.testing.assert_allclose(auc(ranks, 14, train), want, atol=1e-12)
    rows, columns = np.divmod(np.arange(9 * 14), 14)
    np.testing.assert_allclose(factors.predict(rows, columns).reshape(9, 14), scores, atol=1e-6)


def test_auc_counts_ties_half_also_between_targets() -> None:
    rng = RNG(0)
    settings = Hybrid(size=2, loss="bpr", epochs=0)
    blank = settings.factors(sparse.csr_array(np.ones((6, 9), np.float32)), rng=rng)
    for _ in range(20):
        items = np.zeros_like(blank.items)
        items[:, 0] = rng.integers(3, size=9)  # three values for nine items: most of them tie
        factors = replace(blank, users=np.zeros_like(blank.users), items=items)
        train, test = rng.random((6, 9)) < 0.2, rng.random((6, 9)) < 0.4
        want = []
        for u in range(6):
            good, bad = np.flatnonzero(test[u] & ~train[u]), np.flatnonzero(~test[u] & ~train[u])
            above = np.sign(items[good, 0][:, None] - items[bad, 0]).astype(float)
            want += [0.5 + above.mean() / 2 if above.size else 0.5] * bool(len(good))
        known = sparse.csr_array(train.astype(np.float32))
        ranks = factors.ranks(sparse.csr_array(test.astype(np.float32)), known)
        np.testing.assert_allclose(auc(ranks, 9, known), want, atol=1e-12)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_split_takes_a_share(share: float) -> None:
    with pytest.raises(DataError, match="share"):
        random_split(sparse.eye_array(5), share, rng=RNG(0))


def test_saved_under_any_name_and_damaged_files_are_told(tmp_path: Path) -> None:
    train, _ = stripes()
    factors = Hybrid(size=4, loss="bpr", epochs=1).factors(train, rng=RNG(0))
    factors.save(tmp_path / "factors")
    assert [path.name for path in tmp_path.iterdir()] == ["factors"]
    assert Factors.load(tmp_path / "factors").items.tobytes() == factors.items.tobytes()
    whole = (tmp_path / "factors").read_bytes()
    np.save(tmp_path / "array", np.zeros(3))
    for name, content in (
        ("cut", whole[: len(whole) // 2]), ("empty", b""), ("an array", (tmp_path / "array.npy").read_bytes()),
        ("changed", whole[:300] + bytes(byte ^ 255 for byte in whole[300:400]) + whole[400:]),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="holds no factors"):
            Factors.load(tmp_path / name)


def test_saved_and_read_back(tmp_path) -> None:
    train, _ = stripes()
    factors = Hybrid(size=4, loss="bpr", epochs=2).factors(train, rng=RNG(0))
    factors.save(tmp_path / "factors.npz")
    back = Factors.load(tmp_path / "factors.npz")
    assert back.settings == factors.settings
    one, other = (f.updated(train, rng=RNG(1)) for f in (factors, back))
    assert one.items.tobytes() == other.items.tobytes()
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="holds no factors"):
        Factors.load(tmp_path / "other.npz")


def test_a_history_is_folded_into_its_likeliest_person() -> None:
    world = newcomer()
    model = Hybrid(size=4, epochs=20).fit(world.events, world.features, rng=RNG(0))
    histories = world.histories([5])
    q, bias = model.items[model.partition, 1:].astype(float), model.items[model.partition, 0].astype(float)
    had = np.isin(model.partition, histories.item).astype(float)

    def loss(p: np.ndarray) -> float:
        logits = q @ p + bias
        return float(had.sum() * np.log(np.exp(logits).sum()) - had @ logits + model.fold_l2 / 2 * p @ p)

    best = minimize(loss, np.zeros(q.shape[1]))
    folded = model.user_vectors(histories)[0]
    assert folded[0] == 1
    assert loss(folded[1:]) - best.fun < 0.01 * (loss(np.zeros(q.shape[1])) - best.fun)


def test_vbpr_finds_a_new_item_by_its_picture() -> None:
    world = newcomer()
    model = Hybrid(size=8, loss="bpr", dense="image", epochs=30).fit(world.events, world.features, rng=RNG(0))
    assert world.holds(model) == 1
    blind = Hybrid(size=8, loss="bpr", dense="", epochs=30).fit(world.events, world.features, rng=RNG(0))
    assert world.holds(blind) < 1
    with pytest.raises(RecipeError, match="image"):
        Hybrid(dense="imgae").fit(world.events, world.features, rng=RNG(0))


def test_errors_say_what_to_do() -> None:
    train, _ = stripes()
    with pytest.raises(RecipeError, match="did you mean 'warp'"):
        Hybrid(loss="wrap")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="one row each"):
        Hybrid().factors(train, Given(items=sparse.eye_array(3)), rng=RNG(0))
    with pytest.raises(ShapeError, match="same pairs"):
        Hybrid().factors(train, weights=sparse.coo_array((20, 12)), rng=RNG(0))
    with pytest.raises(ShapeError, match="update it first"):
        Hybrid(epochs=0).factors(train, rng=RNG(0)).predict(99, np.array([0]))
    with pytest.raises(DataError, match="learning_rate"), np.errstate(all="ignore"):
        Hybrid(loss="logistic", optimizer="adam", learning_rate=1e38, epochs=3).factors(train, rng=RNG(0))
    with pytest.raises(UnknownId, match="item_features"):
        Vocabulary().extended(items=["a"]).item_matrix({"a": ["red"]})


@pytest.mark.parametrize("loss", ["bpr", "warp", "warp-kos"])
def test_searched_rows_say_what_bits_say(loss: str, monkeypatch) -> None:
    train, _ = stripes()
    settings = Hybrid(size=4, loss=loss, epochs=3)
    by_bits = settings.factors(train, rng=RNG(0))
    monkeypatch.setattr("sensorium.models.hybrid.training.BITS", 0)
    assert settings.factors(train, rng=RNG(0)).items.tobytes() == by_bits.items.tobytes()


def test_averaged_rows_are_the_mean_of_the_epochs() -> None:
    train, _ = stripes()
    ends = []
    for epochs in (3, 4):
        ends.append(Hybrid(size=4, loss="warp", epochs=epochs).factors(train, rng=RNG(0)).items)
    mean = Hybrid(size=4, loss="warp", epochs=4, averaged=0.5).factors(train, rng=RNG(0)).items
    np.testing.assert_allclose(mean, np.mean(ends, axis=0), atol=1e-6)
