"""What a ranking is worth: one number a person and metric, so that intervals and paired tests can stand on them.

Accuracy is counted from the targets' ranks in the full ranking, with ties at their expected place; everything else
from the lists of the best items. Names are lower case, `name@k`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.vectors import Vectors
from sensorium.train.ranking import Ranks

KS = (5, 10, 20, 50)
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of one model by person, and metrics that only the whole of all lists has.

    **Shapes** users (N,) ascending; each of `by_person` (N,), NaN where it cannot be said of that person.
    """

    users: Rows
    by_person: Mapping[str, Numbers]
    whole: Mapping[str, float]

    def means(self) -> dict[str, float]:
        """All metrics as numbers; one that can be said of nobody is left out."""
        out = {name: float(np.nanmean(v)) for name, v in self.by_person.items() if np.isfinite(v).any()}
        return {**out, **self.whole}

    def only(self, users: Rows) -> Scores:
        """The scores of some people; what belongs to the whole is left out."""
        keep = np.isin(self.users, users)
        return Scores(self.users[keep], {name: values[keep] for name, values in self.by_person.items()}, {})


def accuracy(ranks: Ranks, ks: Sequence[int] = KS) -> Scores:
    """Recall, precision, hit rate, NDCG, MRR and MAP of each person who has targets.

    With n targets and h of them among the first k: recall h/n, precision h/k, hit h > 0; NDCG has gain 1/log2(rank + 2)
    and the best possible order as its unit; MRR is 1/(rank + 1) of the best target, 0 beyond k; MAP is
    Σ precision at each found target ÷ min(n, k). A tied target stands at its mean rank.
    """
    users, row, counts = np.unique(ranks.user, return_inverse=True, return_counts=True)
    order = np.lexsort((ranks.rank, row))
    rank, row = ranks.rank[order], row[order]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    nth = np.arange(len(rank)) - np.repeat(starts, counts) + 1  # which of the person's targets, best first

    def total(values: NDArray) -> Numbers:
        return np.bincount(row, values, minlength=len(users)).astype(np.float64)

    out: dict[str, Numbers] = {}
    for k in ks:
        found = rank < k
        hits = total(found)
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.minimum(counts, k) - 1]
        out[f"recall@{k}"] = hits / counts
        out[f"precision@{k}"] = hits / k
        out[f"hit@{k}"] = (hits > 0).astype(np.float64)
        out[f"ndcg@{k}"] = total(np.where(found, 1 / np.log2(rank + 2), 0)) / ideal
        first = rank[starts] if len(rank) else np.zeros(0)
        out[f"mrr@{k}"] = np.where(first < k, 1 / (first + 1), 0)
        # Two tied targets share a mean rank, so the nth target can stand before place n: never more than certain.
        out[f"map@{k}"] = total(np.where(found, np.minimum(nth / (rank + 1), 1), 0)) / np.minimum(counts, k)
    return Scores(users.astype(np.int64), out, {})


@dataclass(frozen=True, eq=False)
class Background:
    """What lists are judged against besides targets.

    **Shapes** counts (I,): people who had the item in training; candidates (C,) or None for all; vectors (I, D) for
    diversity; traits (I, T): rows that sum to 1 (the genres of a film in equal parts) or are empty, for calibration.
    """

    counts: Numbers
    people: int
    candidates: Rows | None = None
    vectors: Vectors | None = None
    traits: sparse.csr_array | None = None


def of_lists(
    lists: Rows, histories: tuple[Rows, Rows] | None, background: Background, ks: Sequence[int] = KS
) -> dict[str, Numbers]:
    """Novelty, diversity, popularity and calibration of each person's list.

    **Shapes** lists (N, K) items best first, −1 where the list is shorter; histories: (row, item) of what each person had.

    - `novelty`: mean of −log2 of the share of people who had the item (one added to each count), in bits
    - `diversity`: mean of 1 − cosine over the pairs of the list that have content
    - `popularity`: mean number of people who had the item (average recommendation popularity)
    - `calibration`: Kullback–Leibler divergence, in nats, of the list's traits from the history's, the list's smoothed
      with 1 % of the history's; 0 is a list with the person's own proportions. **Source** Steck, RecSys 2018.
    """
    there = lists >= 0
    items = np.where(there, lists, 0)
    share = (background.counts + 1) / (background.people + 1)
    rarity = np.where(there, -np.log2(share)[items], 0)
    common = np.where(there, background.counts[items], 0)
    out: dict[str, Numbers] = {}
    for k in ks:
        size = there[:, :k].sum(1)
        none = size == 0
        divisor = np.where(none, 1, size)
        out[f"novelty@{k}"] = np.where(none, np.nan, rarity[:, :k].sum(1) / divisor)
        out[f"popularity@{k}"] = np.where(none, np.nan, common[:, :k].sum(1) / divisor)
        if background.vectors is not None:
            out[f"diversity@{k}"] = _diversity(items[:, :k], there[:, :k], background.vectors)
        if background.traits is not None and histories is not None:
            out[f"calibration@{k}"] = _calibration(items[:, :k], there[:, :k], histories, background.traits)
    return out


def of_all(lists: Rows, background: Background, ks: Sequence[int] = KS) -> dict[str, float]:
    """What only all lists together have.

    - `coverage`: share of the candidates that stand in somebody's list
    - `gini`: Gini index of how often each candidate is shown; 0 is equal exposure, 1 all of it on one item
    """
    everything = len(background.counts) if background.candidates is None else len(background.candidates)
    out: dict[str, float] = {}
    for k in ks:
        shown = np.bincount(lists[:, :k][lists[:, :k] >= 0], minlength=len(background.counts))
        shown = shown if background.candidates is None else shown[background.candidates]
        out[f"coverage@{k}"] = float(np.count_nonzero(shown) / max(everything, 1))
        ordered = np.sort(shown).astype(np.float64)
        places = np.arange(1, len(ordered) + 1)
        mass = ordered.sum()
        out[f"gini@{k}"] = float((2 * places - len(ordered) - 1) @ ordered / (len(ordered) * mass)) if mass else 0.0
    return out


def _diversity(items: Rows, there: NDArray[np.bool_], vectors: Vectors) -> Numbers:
    """Over n unit vectors the pairs' cosines sum to (‖Σv‖² − n) ÷ 2, so no pair is ever visited."""
    known = there & vectors.present[items]
    n = known.sum(1)
    total = np.zeros((len(items), vectors.size))
    for place in range(items.shape[1]):  # K steps of (N, D) instead of one (N, K, D)
        v = vectors.values[items[:, place]].astype(np.float64)
        length = np.linalg.norm(v, axis=1, keepdims=True)
        total += np.where(known[:, place : place + 1] & (length > 0), v / np.where(length > 0, length, 1), 0)
    pairs = n * (n - 1)
    cosines = (np.einsum("nd,nd->n", total, total) - n) / np.where(pairs > 0, pairs, 1)
    return np.where(pairs > 0, 1 - cosines, np.nan)


def _calibration(
    items: Rows, there: NDArray[np.bool_], histories: tuple[Rows, Rows], traits: sparse.csr_array
) -> Numbers:
    def shares(row: Rows, item: Rows) -> Numbers:
        members = sparse.csr_array((np.ones(len(row)), (row, item)), shape=(len(items), traits.shape[0]))
        mass = np.asarray((members @ traits).todense(), dtype=np.float64)
        whole = mass.sum(1, keepdims=True)
        return np.divide(mass, whole, out=np.zeros_like(mass), where=whole > 0)

    past = shares(*histories)
    row, _ = np.nonzero(there)
    shown = shares(row, items[there])
    mixed = 0.99 * shown + 0.01 * past
    ratio = np.divide(past, mixed, out=np.ones_like(past), where=past > 0)
    divergence = (past * np.log(ratio)).sum(1)
    return np.where((past.sum(1) > 0) & (shown.sum(1) > 0), divergence, np.nan)


def popularity_counts(user: NDArray[np.integer], item: NDArray[np.integer], items: int) -> Numbers:
    """How many people had each item, each person once (I,)."""
    pair = np.unique(user.astype(np.int64) * items + item)
    return np.bincount(pair % max(items, 1), minlength=items).astype(np.float64)


def joined(parts: Sequence[Mapping[str, Floats | Numbers]]) -> dict[str, Numbers]:
    """Metrics of batches of people, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}
