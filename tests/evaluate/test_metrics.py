"""Metrics against an example worked by hand, and against loops that know no matrices."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from sensorium.data.vectors import Vectors
from sensorium.evaluate.metrics import Background, accuracy, of_all, of_lists, popularity_counts
from sensorium.train.ranking import Ranks


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def test_an_example_worked_by_hand() -> None:
    # Anna wants two things, at places 1 and 4 (ranks 0 and 3); Ben one, at place 7 (rank 6).
    scores = accuracy(Ranks(np.array([0, 0, 1]), np.array([5, 6, 7]), np.array([3.0, 0.0, 6.0])))
    person = scores.by_person
    assert scores.users.tolist() == [0, 1]
    assert person["recall@5"].tolist() == [1.0, 0.0]
    assert person["recall@10"].tolist() == [1.0, 1.0]
    assert person["hit@5"].tolist() == [1.0, 0.0]
    assert person["precision@5"].tolist() == [0.4, 0.0]
    assert close(person["map@5"][0], (1 / 1 + 2 / 4) / 2)
    assert close(person["map@10"][1], 1 / 7)
    assert person["mrr@5"].tolist() == [1.0, 0.0]
    assert close(person["mrr@10"][1], 1 / 7)
    ideal = 1 + 1 / math.log2(3)
    assert close(person["ndcg@5"][0], (1 + 1 / math.log2(5)) / ideal)
    assert close(person["ndcg@10"][1], 1 / math.log2(8))
    assert close(scores.means()["recall@5"], 0.5)


def test_accuracy_equals_plain_loops() -> None:
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(0, 30, 200))
    ranks = np.concatenate([rng.permutation(60)[: np.sum(users == u)] for u in np.unique(users)]).astype(float)
    scores = accuracy(Ranks(users, np.arange(200), ranks))
    for k in (5, 10, 20, 50):
        for place, user in enumerate(np.unique(users)):
            mine = sorted(ranks[users == user])
            liked = [rank in mine for rank in range(k)]
            hits = sum(liked)
            dcg = sum(1 / math.log2(p + 2) for p in range(k) if liked[p])
            best = sum(1 / math.log2(p + 2) for p in range(min(k, len(mine))))
            precisions = sum(sum(liked[: p + 1]) / (p + 1) for p in range(k) if liked[p])
            first = next((p for p in range(k) if liked[p]), None)
            got = {name: values[place] for name, values in scores.by_person.items()}
            assert close(got[f"recall@{k}"], hits / len(mine))
            assert close(got[f"precision@{k}"], hits / k)
            assert close(got[f"hit@{k}"], float(hits > 0))
            assert close(got[f"ndcg@{k}"], dcg / best)
            assert close(got[f"map@{k}"], precisions / min(k, len(mine)))
            assert close(got[f"mrr@{k}"], 0 if first is None else 1 / (first + 1))


def test_ranks_and_scores_agree_on_ndcg_and_recall() -> None:
    rng = np.random.default_rng(1)
    ranks = Ranks(np.sort(rng.integers(0, 9, 40)), np.arange(40), rng.random(40) * 30)
    means = accuracy(ranks).means()
    assert close(means["ndcg@10"], ranks.ndcg(10))
    assert close(means["recall@20"], ranks.recall(20))


def world() -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], Background]:
    rng = np.random.default_rng(4)
    lists = np.stack([rng.permutation(40)[:50] if False else rng.permutation(60)[:50] for _ in range(7)])
    lists[2, 3:] = -1
    lists[3] = -1
    counts = rng.integers(0, 9, 60).astype(float)
    values = rng.standard_normal((60, 4)).astype(np.float32)
    present = rng.random(60) < 0.8
    values[~present] = 0
    traits = np.where(rng.random((60, 5)) < 0.3, 1.0, 0.0)
    traits /= np.maximum(traits.sum(1, keepdims=True), 1)
    row, item = rng.integers(0, 6, 50), rng.integers(0, 60, 50)  # person 6 has no history
    return (
        lists,
        (row, item),
        Background(counts, 12, vectors=Vectors(values, present, "t"), traits=sparse.csr_array(traits)),
    )


def test_lists_are_judged_as_plain_loops_judge_them() -> None:
    lists, (row, item), background = world()
    assert background.vectors is not None
    assert background.traits is not None
    traits = background.traits.toarray()
    found = of_lists(lists, (row, item), background)
    for k in (5, 10, 20, 50):
        for person in range(len(lists)):
            chosen = [i for i in lists[person, :k] if i >= 0]
            got = {name: values[person] for name, values in found.items()}
            if not chosen:
                assert math.isnan(got[f"novelty@{k}"])
                assert math.isnan(got[f"diversity@{k}"])
                continue
            shares = [(background.counts[i] + 1) / 13 for i in chosen]
            assert close(got[f"novelty@{k}"], sum(-math.log2(s) for s in shares) / len(chosen))
            assert close(got[f"popularity@{k}"], sum(background.counts[i] for i in chosen) / len(chosen))
            with_content = [background.vectors.values[i].astype(float) for i in chosen if background.vectors.present[i]]
            gaps = [
                1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                for x, a in enumerate(with_content)
                for b in with_content[x + 1 :]
            ]
            assert abs(got[f"diversity@{k}"] - np.mean(gaps)) < 1e-6
            past = sum((traits[i] for r, i in zip(row, item, strict=True) if r == person), np.zeros(5))
            shown = sum((traits[i] for i in chosen), np.zeros(5))
            if past.sum() == 0 or shown.sum() == 0:
                assert math.isnan(got[f"calibration@{k}"])
                continue
            p, q = past / past.sum(), shown / shown.sum()
            kl = sum(a * math.log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True) if a > 0)
            assert abs(got[f"calibration@{k}"] - kl) < 1e-9


def test_coverage_and_gini_of_all_lists() -> None:
    lists = np.array([[0, 1], [0, 1]])
    even = of_all(lists, Background(np.zeros(2), 2), ks=(2,))
    assert even == {"coverage@2": 1.0, "gini@2": 0.0}
    one_of_four = of_all(np.array([[3], [3]]), Background(np.zeros(4), 2), ks=(1,))
    assert close(one_of_four["coverage@1"], 0.25)
    assert close(one_of_four["gini@1"], 0.75)  # (n − 1) / n: all exposure on one
    cold = of_all(np.array([[3], [3]]), Background(np.zeros(4), 2, candidates=np.array([2, 3])), ks=(1,))
    assert close(cold["coverage@1"], 0.5)


def test_a_person_counts_once_for_popularity() -> None:
    assert popularity_counts(np.array([0, 0, 1]), np.array([2, 2, 2]), 4).tolist() == [0, 0, 2, 0]
