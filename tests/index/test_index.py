"""Indexes against a plain matrix product, and the approximate one against the exact."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.errors import ShapeError
from sensorium.index import exact
from sensorium.index.approximate import Approximate, Ivf, level
from sensorium.index.exact import Exact
from sensorium.index.index import index_of


def naive(vectors, queries, k, mask=None):
    scores = queries @ vectors.T
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture
def whole():
    """Small whole numbers: products are exact whatever the order of summing, and ties are many."""
    rng = np.random.default_rng(3)
    return rng.integers(-2, 3, (500, 6)).astype(np.float32), rng.integers(-2, 3, (7, 6)).astype(np.float32)


@pytest.mark.parametrize("block", [4, 1000, 10**9])
@pytest.mark.parametrize("share", [None, 0.01, 0.3, 0.9])
def test_exact_equals_sorting_everything(whole, block, share, monkeypatch):
    monkeypatch.setattr(exact, "BLOCK_BYTES", block)
    vectors, queries = whole
    mask = None if share is None else np.random.default_rng(1).random(500) < share
    rows, scores = Exact(vectors).search(queries, 5, mask)
    want_rows, want = naive(vectors, queries, 5, mask)
    np.testing.assert_array_equal(rows, np.where(np.isfinite(want), want_rows, -1))
    np.testing.assert_array_equal(scores, want)


def test_exact_never_finds_what_is_absent_and_fills_up_with_minus_one():
    vectors = np.eye(4, dtype=np.float32)
    index = Exact(vectors, np.array([True, False, True, True]))
    rows, scores = index.search(np.ones((1, 4), np.float32), 9, np.array([True, True, False, True]))
    assert rows.tolist() == [[0, 3, -1, -1]]
    assert np.isneginf(scores[0, 2:]).all()
    assert index.search(np.ones((1, 4), np.float32), 2, np.zeros(4, bool))[0].tolist() == [[-1, -1]]


def test_a_query_of_another_size_is_told():
    with pytest.raises(ShapeError, match=r"size 3.*size 4"):
        Exact(np.eye(4, dtype=np.float32)).search(np.ones((1, 3), np.float32), 2)


def clustered(count, size, clusters, seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, size))
    points = centres[rng.integers(clusters, size=count)] + rng.normal(size=(count, size)) * 0.6
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def large():
    """60,000 clustered unit vectors, and queries that are none of them."""
    vectors = clustered(60_200, 48, 300, seed=0)
    return vectors[:60_000], vectors[60_000:], index_of(vectors[:60_000])


def recall(found, wanted):
    return np.mean([len(np.intersect1d(f, w)) / len(w) for f, w in zip(found, wanted, strict=True)])


def test_approximate_finds_nearly_all_of_the_ten_best(large):
    vectors, queries, index = large
    assert isinstance(index, Approximate)
    rows, scores = index.search(queries, 10)
    wanted, _ = Exact(vectors).search(queries, 10)
    assert recall(rows, wanted) >= 0.95
    dots = np.einsum("bd,bkd->bk", queries, vectors[rows])
    np.testing.assert_allclose(scores, dots, rtol=1e-5, atol=1e-6)  # scores are exact even where rows are missed


@pytest.mark.parametrize("share", [0.5, 0.08])
def test_approximate_keeps_its_recall_under_a_filter(large, share):
    vectors, queries, index = large
    mask = np.random.default_rng(2).random(len(vectors)) < share
    rows, _ = index.search(queries, 10, mask)
    assert mask[rows].all()
    assert recall(rows, Exact(vectors).search(queries, 10, mask)[0]) >= 0.95


def test_a_filter_that_keeps_little_is_answered_exactly(large):
    vectors, queries, index = large
    mask = np.zeros(len(vectors), bool)
    mask[[5, 40_000, 59_999]] = True
    rows, _ = index.search(queries[:20], 5, mask)
    np.testing.assert_array_equal(rows, Exact(vectors).search(queries[:20], 5, mask)[0])
    assert (rows[:, 3:] == -1).all()


def test_lengths_matter_as_in_the_product():
    """Vectors of very different length: the nearest by angle is not the greatest product."""
    rng = np.random.default_rng(4)
    points = clustered(6100, 16, 40, seed=5)
    vectors, queries = points[:6000] * rng.gamma(2.0, size=(6000, 1)).astype(np.float32), points[6000:]
    found, _ = Ivf().build(vectors).search(queries, 10)
    assert recall(found, naive(vectors, queries, 10)[0]) >= 0.95
    np.testing.assert_allclose(np.linalg.norm(level(vectors), axis=1), np.linalg.norm(vectors, axis=1).max(), rtol=1e-5)


def test_the_same_vectors_and_seed_give_the_same_answers():
    vectors, queries = clustered(3000, 12, 20, seed=1), clustered(50, 12, 20, seed=2)
    one, other = (Ivf(probes=2).build(vectors, seed=7).search(queries, 10) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_absent_rows_are_in_no_answer_of_the_approximate_index():
    vectors = clustered(2000, 8, 10, seed=1)
    present = np.arange(2000) % 2 == 0
    rows, _ = Ivf().build(vectors, present).search(vectors[:50], 10)
    assert (rows % 2 == 0).all()


@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_approximate_index_of_very_few(count):
    vectors = np.eye(count, 8, dtype=np.float32) + 0.1
    rows, _ = Ivf().build(vectors).search(vectors, count)
    assert sorted(rows[0].tolist()) == list(range(count))
