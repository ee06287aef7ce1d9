"""Which items are scored: all of them up to 50,000; beyond, those near, those of like-minded people, popular and new."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, best
from sensorium.data.events import Events, Histories, confidence
from sensorium.index.index import EXACT_UP_TO, Index, index_of
from sensorium.models.model import Embeds, Features, Model
from sensorium.rank.crowd import Crowd
from sensorium.rank.lookup import Lookup

NEAR, COMPANION, POPULAR, NEW = 2000, 2000, 1000, 200  # most of each source, before the union
LATEST = 20  # events of a history that are asked with
NOTHING = np.zeros(0, np.int64)
FOUND = ("all", "near", "companion", "popular", "new", "trending")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Rows to score, ascending, and for each the first source that named it (a place in FOUND)."""

    rows: Rows
    found: NDArray[np.int8]


def indexed(model: Model, features: Features) -> tuple[Floats, NDArray[np.bool_]]:
    """What an index should hold (I, D), and which rows: the model's own vectors, or the fused content."""
    if isinstance(model, Embeds):
        vectors = model.item_vectors()
        return vectors, np.ones(len(vectors), bool)
    return features.items.values, features.items.present


def candidates(
    history: Histories, model: Model, features: Features, events: Events, lookup: Lookup, index: Index | None,
    allowed: NDArray[np.bool_], k: int, *, all_up_to: int = EXACT_UP_TO,
) -> Candidates:  # fmt: skip
    """The allowed rows that are worth a score. **Cost** bounded by the constants above, not by the catalogue, beyond 50,000."""
    if len(allowed) <= all_up_to or allowed.sum() <= NEAR + COMPANION + POPULAR + NEW:
        rows = np.flatnonzero(allowed)
        return Candidates(rows, np.zeros(len(rows), np.int8))
    return _united(
        near=_near(history, model, features, index, allowed, NEAR * wide(k)),
        companion=_companions(history, events, lookup, allowed, COMPANION * wide(k)),
        popular=_first(lookup.crowd.popular, allowed, POPULAR * wide(k)),
        new=_first(lookup.new, allowed, NEW * wide(k)),
    )


def well_known(crowd: Crowd, lookup: Lookup, allowed: NDArray[np.bool_], k: int) -> Candidates:
    """The most popular allowed rows, and some new ones: for whom nothing is known of."""
    return _united(
        popular=_first(crowd.popular, allowed, POPULAR * wide(k)), new=_first(lookup.new, allowed, NEW * wide(k))
    )


def wide(k: int) -> int:
    """How many times further a query for very many results looks."""
    return max(1, -(-k // 100))


def _united(**sources: Rows) -> Candidates:
    rows, first = np.unique(np.concatenate(list(sources.values())), return_index=True)
    origin = np.repeat([FOUND.index(name) for name in sources], [len(source) for source in sources.values()])
    return Candidates(rows, origin[first].astype(np.int8))


def drawn_from(
    names: Collection[str], history: Histories, model: Model, features: Features, events: Events, lookup: Lookup,
    index: Index | None, allowed: NDArray[np.bool_], k: int, *, crowd: Crowd,
) -> Candidates:  # fmt: skip
    """The allowed rows of the named sources alone, whatever the size of the catalogue; `near` without an index is exact."""
    if not names:
        return Candidates(NOTHING, np.zeros(0, np.int8))
    wide = max(1, -(-k // 100))
    if "near" in names and index is None and features.items.present.any():
        index = index_of(features.items.values, features.items.present)
    sources = [
        _near(history, model, features, index, allowed, NEAR * wide) if "near" in names else NOTHING,
        _companions(history, events, lookup, allowed, COMPANION * wide) if "companion" in names else NOTHING,
        _first(crowd.popular, allowed, POPULAR * wide) if "popular" in names else NOTHING,
        _first(lookup.new, allowed, NEW * wide) if "new" in names else NOTHING,
        _first(crowd.trending, allowed, POPULAR * wide) if "trending" in names else NOTHING,
    ]
    rows, first = np.unique(np.concatenate(sources), return_index=True)
    origin = np.repeat(np.arange(1, 6, dtype=np.int8), [len(source) for source in sources])
    return Candidates(rows, origin[first])


def _near(
    history: Histories, model: Model, features: Features, index: Index | None, allowed: NDArray[np.bool_], most: int
) -> Rows:
    """Rows near the history: by the model's vector of it, or by the content of its latest items and their mean."""
    if index is None:
        return np.zeros(0, np.int64)
    if isinstance(model, Embeds) and not np.may_share_memory(index.vectors, features.items.values):
        queries = model.user_vectors(history)  # the index holds the model's own vectors (see `indexed`)
    else:
        good = confidence(history, 0.0) > 0
        items = history.item[good & features.items.present[history.item]][-LATEST:]
        if not len(items):
            return np.zeros(0, np.int64)
        own = features.items.values[np.unique(items)]
        queries = np.concatenate([own.mean(axis=0, keepdims=True), own])
    rows, _ = index.search(queries, -(-most // len(queries)), allowed)
    return _distinct(rows.T.ravel(), most)  # the best of every query first


def _companions(history: Histories, events: Events, lookup: Lookup, allowed: NDArray[np.bool_], most: int) -> Rows:
    """What the latest people who touched the history's latest items touched lately, the most frequent first."""
    items = np.unique(history.item[confidence(history, 0.0) > 0][-LATEST:])
    people = [events.user[lookup.by_item.of(int(item))[-50:]] for item in items]
    if not people:
        return np.zeros(0, np.int64)
    who, often = np.unique(np.concatenate(people), return_counts=True)
    who = who[np.argsort(-often, kind="stable")][:500]
    places = [lookup.by_user.of(int(person))[-LATEST:] for person in who]
    touched = events.item[np.concatenate(places)] if places else np.zeros(0, np.int32)
    rows, counts = np.unique(touched[allowed[touched]], return_counts=True)
    order, _ = best(counts[None, :].astype(np.float32), most)
    return rows[order[0]].astype(np.int64)


def _first(rows: Rows, allowed: NDArray[np.bool_], most: int) -> Rows:
    """The first allowed rows of a list; it looks only as far as it must."""
    reach = most
    while reach < len(rows) and allowed[rows[:reach]].sum() < most:
        reach *= 4
    part = rows[:reach]
    return part[allowed[part]][:most]


def _distinct(rows: Rows, most: int) -> Rows:
    _, first = np.unique(rows, return_index=True)
    kept = rows[np.sort(first)]
    return kept[kept >= 0][:most]
