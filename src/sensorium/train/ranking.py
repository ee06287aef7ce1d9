"""Where the held-out targets land in a full ranking: the one loop that tuning and evaluation both stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, slices
from sensorium.data.events import Fold, Histories, confidence
from sensorium.data.vectors import Vectors
from sensorium.errors import ShapeError

FEW = 8  # targets of one person up to which a pass for each is quicker than a sort
Score = Callable[[Histories], Floats]  # (B, I) for a batch of histories


@dataclass(frozen=True, eq=False)
class Asked:
    """One batch of people who are asked: their histories, what they have seen, and what must be found.

    **Shapes** users (B,); targets: (row in the batch, item) pairs (T,), without those already seen.
    """

    users: Rows
    histories: Histories
    seen: tuple[Rows, Rows]
    targets: tuple[Rows, Rows]


@dataclass(frozen=True, eq=False)
class Ranks:
    """The place of every target in its person's full ranking, 0 is the top. **Shapes** all (T,), sorted by person.

    Ties count half of the tied candidates before the target, so a constant score earns what chance earns.
    """

    user: Rows
    item: Rows
    rank: NDArray[np.float64]

    def ndcg(self, k: int = 10) -> float:
        """Mean NDCG@k over people: what tuning maximises."""
        if not len(self.user):
            return 0.0
        _, row, counts = np.unique(self.user, return_inverse=True, return_counts=True)
        gain = np.where(self.rank < k, 1 / np.log2(self.rank + 2), 0)
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.minimum(counts, k) - 1]
        return float(np.mean(np.bincount(row, gain) / ideal))

    def recall(self, k: int = 10) -> float:
        """Mean share of a person's targets found among the best k."""
        if not len(self.user):
            return 0.0
        _, row, counts = np.unique(self.user, return_inverse=True, return_counts=True)
        return float(np.mean(np.bincount(row, self.rank < k) / counts))


def asked(
    fold: Fold, people: Vectors | None = None, *, batch: int = 512, most: int | None = None, seed: int = 0
) -> Iterator[Asked]:
    """The people of a fold in batches. Targets of a negative kind, and targets seen in training, are not asked for.

    `most` asks a fixed random sample of that many people (for tuning).
    """
    positive = confidence(fold.held_out, 0.0) > 0
    users, items = fold.held_out.user[positive].astype(np.int64), fold.held_out.item[positive].astype(np.int64)
    pairs = np.unique(users * fold.train.items + items)
    train_pairs = fold.train.user.astype(np.int64) * fold.train.items + fold.train.item
    pairs = pairs[~np.isin(pairs, train_pairs)]
    if fold.candidates is not None:
        pairs = pairs[np.isin(pairs % fold.train.items, fold.candidates)]
    users, items = pairs // fold.train.items, pairs % fold.train.items
    everyone = np.unique(users)
    if most is not None and len(everyone) > most:
        everyone = np.sort(np.random.default_rng(seed).choice(everyone, most, replace=False))
    for part in slices(len(everyone), batch):
        these = everyone[part]
        histories = fold.train.histories(these, people)
        begin, end = np.searchsorted(users, these, "left"), np.searchsorted(users, these, "right")
        row = np.repeat(np.arange(len(these)), end - begin)
        place = np.concatenate([np.arange(b, e) for b, e in zip(begin, end, strict=True)]) if len(these) else begin
        yield Asked(these, histories, (histories.row, histories.item.astype(np.int64)), (row, items[place]))


def hide(scores: Floats, batch: Asked, candidates: Rows | None) -> Floats:
    """A copy of the scores (B, I) with −inf for what was seen and for what is not a candidate."""
    scores = scores.astype(np.float32, copy=True)
    if not np.isfinite(scores).all():
        raise ShapeError("a model's scores are not finite: its settings are out of all proportion to the data")
    if candidates is not None:
        outside = np.ones(scores.shape[1], bool)
        outside[candidates] = False
        scores[:, outside] = -np.inf
    scores[batch.seen] = -np.inf
    return scores


def ranks_of(scores: Floats, batch: Asked) -> NDArray[np.float64]:
    """The rank of each target of a batch among hidden scores (B, I) → (T,). Other targets of the person stand in the list.

    **Cost** one pass over a row for each of its targets, or one sort of it where there are many.
    """
    row, item = batch.targets
    out = np.empty(len(row))
    values = scores[row, item]
    order = np.argsort(row, kind="stable")
    count = np.bincount(row, minlength=len(scores))
    start = np.cumsum(count) - count
    for turn in range(min(int(count.max(initial=0)), FEW)):
        rows = np.flatnonzero((count > turn) & (count <= FEW))
        if len(rows):
            mine = order[start[rows] + turn]
            lines, mark = scores[rows], values[mine, None]
            above, level = (lines > mark).sum(axis=1), (lines == mark).sum(axis=1) - 1
            out[mine] = above + level / 2
    for b in np.flatnonzero(count > FEW):
        mine = order[start[b] : start[b] + count[b]]
        line = np.sort(scores[b])
        above = len(line) - np.searchsorted(line, values[mine], "right")
        level = np.searchsorted(line, values[mine], "right") - np.searchsorted(line, values[mine], "left") - 1
        out[mine] = above + level / 2
    return out


def rank_targets(
    score: Score, fold: Fold, people: Vectors | None = None, *, batch: int = 512, most: int | None = None, seed: int = 0
) -> Ranks:
    """Every target's rank in the full ranking over `fold.candidates`, seen items removed."""
    users: list[Rows] = []
    items: list[Rows] = []
    places: list[NDArray[np.float64]] = []
    for part in asked(fold, people, batch=batch, most=most, seed=seed):
        hidden = hide(score(part.histories), part, fold.candidates)
        users.append(part.users[part.targets[0]])
        items.append(part.targets[1])
        places.append(ranks_of(hidden, part))
    if not users:
        return Ranks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Ranks(np.concatenate(users), np.concatenate(items), np.concatenate(places))
