"""How an item the crowd hardly knows borrows from those it knows: a regression from content to the crowd's columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.linalg import solve

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events
from sensorium.models.model import Features
from sensorium.settings import INF, within

WARMTHS = (0.0, 2.0, 8.0, 30.0)  # that validation tries


@dataclass(frozen=True)
class Kin:
    """An item with n events is n/(n + warmth) itself, and for the rest what its content says it should be.

    With `warmth` 0 only items without events borrow. `l2` is the penalty of the regression from content, whose vectors
    have length one; the mean is not penalised, so content that says nothing gives the average item.

    **Cost** K · D² operations, D · K floats. **Source** Z. Gantner et al., "Learning attribute-to-feature mappings for
    cold-start recommendations" (2010), the linear mapping, here to whole columns instead of factors.
    """

    l2: float = 3.0
    warmth: float = 0.0

    def __post_init__(self) -> None:
        within(self, l2=(1e-6, INF), warmth=(0, INF))

    def lift(self, events: Events, features: Features, known: Rows) -> Lift:
        """**Shapes** known (I,): the crowd's column of an item, −1 where it has none."""
        counts = np.bincount(events.item, minlength=len(known))[: len(known)]
        rows = np.flatnonzero(known >= 0)
        rows = rows[np.argsort(known[rows], kind="stable")]
        own = np.where(known >= 0, counts / np.maximum(counts + self.warmth, 1e-9), 0).astype(np.float32)
        nothing = Lift(known, np.where(known >= 0, 1, 0).astype(np.float32), np.full(len(known), -1),
                       np.zeros((0, 0), np.float32), np.zeros((0, len(rows)), np.float32),
                       np.zeros(len(rows), np.float32), features.edges())  # fmt: skip
        if not features.items.present[rows].any():
            return nothing
        given = features.items.values[rows]
        # An item that few chose says little of where its content belongs; one without content says nothing.
        weight = (counts[rows] / (counts[rows] + 1.0) * features.items.present[rows]).astype(np.float32)
        mean = weight / weight.sum()
        gram = given.T @ (weight[:, None] * given)
        gram[np.diag_indices(len(gram))] += np.float32(self.l2)
        map_ = solve(gram, (weight[:, None] * given).T, assume_a="pos").astype(np.float32)
        map_ -= np.outer(map_.sum(1), mean)
        return replace(nothing, own=own, map=map_, mean=mean).over(features)


@dataclass(frozen=True, eq=False)
class Lift:
    """Each item as a mixture of the crowd's K columns: own · its column + (1 − own) · (content · map + mean).

    **Shapes** known (I,): its column or −1; own (I,); place (I,): its row of `content` or −1 where it borrows nothing;
    content (S, D); map (D, K); mean (K,). An item without content and without a column is nothing at all.
    """

    known: Rows
    own: Floats
    place: Rows
    content: Floats
    map: Floats
    mean: Floats
    edges: tuple[tuple[str, int, int], ...]

    def over(self, features: Features) -> Lift:
        """The same lift for a catalogue that has grown, or was not looked at yet: new items borrow all they are."""
        more = len(features.items) - len(self.known)
        known = np.concatenate([self.known, np.full(more, -1, self.known.dtype)])
        own = np.concatenate([self.own, np.zeros(more, np.float32)])
        if not len(self.map):
            return replace(self, known=known, own=own, place=np.full(len(known), -1))
        own = np.where((known >= 0) & ~features.items.present, 1, own).astype(np.float32)
        borrows = np.flatnonzero((own < 1) & features.items.present)
        place = np.full(len(known), -1)
        place[borrows] = np.arange(len(borrows))
        return replace(self, known=known, own=own, place=place, content=features.items.values[borrows])

    def unlike(self, before: Lift) -> Rows:
        """The rows that are new, or mixtures of something else than in the lift that this one is put `over` more features of."""
        count = len(before.known)
        place, old = self.place[:count], before.place
        same = (self.own[:count] == before.own) & ((place >= 0) == (old >= 0))
        both = np.flatnonzero(same & (place >= 0))
        if np.array_equal(place, old):  # as a rule, and then nothing is picked
            equal = (self.content[: len(before.content)] == before.content).all(axis=1)
            same[both] = equal[place[both]]
        else:
            same[both] = (self.content[place[both]] == before.content[old[both]]).all(axis=1)
        return np.concatenate([np.flatnonzero(~same), np.arange(count, len(self.known))])

    def history(self, history: sparse.csr_array) -> tuple[sparse.csr_array, sparse.csr_array | None]:
        """What a batch of histories (B, I) says in the crowd's columns (B, K), and through content (B, S), if at all."""
        item = history.indices
        there = self.known[item] >= 0
        row = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
        own = sparse.csr_array(
            (history.data[there] * self.own[item[there]], (row[there], self.known[item[there]])),
            shape=(history.shape[0], len(self.mean)),
        )
        lent = self.place[item] >= 0
        if not lent.any():
            return own, None
        values = history.data[lent] * (1 - self.own[item[lent]])
        return own, sparse.csr_array(
            (values, (row[lent], self.place[item[lent]])), shape=(history.shape[0], len(self.content))
        )

    def scores(self, near: Floats, items: Rows) -> Floats:
        """Scores of `items` (B, C) from those of the columns (B, K); `near` itself where the two are the same."""
        out = self.owned(near, items)
        if (self.place[items] >= 0).any():
            out = out + self.borrowed(near @ self.map.T, items)
        return out

    def owned(self, near: Floats, items: Rows) -> Floats:
        """The scores (B, C) without what content says: by an item's own column, and the mean where it borrows."""
        there = self.known[items] >= 0
        columns = self.known[items[there]]
        if there.all() and np.array_equal(columns, np.arange(near.shape[1])):
            out = near  # wide scores are neither copied nor picked column by column
        else:
            out = np.zeros((len(near), len(items)), np.float32)
            out[:, there] = near[:, columns]
        own = np.where(there, self.own[items], 0)
        if (own[there] != 1).any():
            out = out * own
        lent = self.place[items] >= 0
        if lent.any():
            out = out.copy() if out is near else out
            out[:, lent] += (near @ self.mean)[:, None] * (1 - self.own[items[lent]])
        return out

    def borrowed(self, lent: Floats, items: Rows, columns: slice = slice(None)) -> Floats:
        """The scores (B, C) that content brings, by some of its columns alone, from `near` · mapᵀ (B, D)."""
        out = np.zeros((len(lent), len(items)), np.float32)
        some = np.flatnonzero(self.place[items] >= 0)
        content = self.content[self.place[items[some]], columns]
        out[:, some] = (lent[:, columns] @ content.T) * (1 - self.own[items[some]])
        return out


def warmest(start: Kin, value: Callable[[Kin], float], height: float, features: Features) -> tuple[Kin, float]:
    """The warmth with the best value on validation, `height` being what `start` reaches; without content, `start`."""
    best = start
    for warmth in WARMTHS if features.items.present.any() else ():
        if warmth != start.warmth:
            reached = value(replace(start, warmth=warmth))
            if reached > height:
                best, height = replace(start, warmth=warmth), reached
    return best, height
