"""What answering looks up, built once a snapshot: events by person and by item, popularity, attributes in columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, Attributes
from sensorium.data.events import RATED, Events
from sensorium.rank.crowd import Crowd, crowd_of


@dataclass(frozen=True, eq=False)
class Places:
    """The places of events by owner: those of owner r are `order[start[r]:start[r + 1]]`, oldest first."""

    order: NDArray[np.uint32]
    start: Rows

    def of(self, owner: int) -> NDArray[np.uint32]:
        """The places of one owner's events; empty for a row that has none."""
        if not 0 <= owner < len(self.start) - 1:
            return self.order[:0]
        return self.order[self.start[owner] : self.start[owner + 1]]


@dataclass(frozen=True, eq=False)
class Column:
    """One attribute of all items. A number is NaN, a word list empty, where an item does not state it.

    **Shapes** numbers (I,); stated (I,); words: lower-case word → rows that have it.
    """

    numbers: NDArray[np.float64]
    stated: NDArray[np.bool_]
    words: Mapping[str, NDArray[np.int32]]
    spelled: tuple[str, ...]  # words as the catalogue writes them, for hints


@dataclass(frozen=True, eq=False)
class Lookup:
    """Read-only tables beside a snapshot; nothing in it is learnt, all of it follows from catalogue and events."""

    events: Events
    by_user: Places
    crowd: Crowd  # as of the snapshot
    new: Rows  # rows that nobody has touched, the latest added first
    columns: Mapping[str, Column]
    scale: float  # half the width of the rating scale

    @cached_property
    def by_item(self) -> Places:
        """The places of events by item: asked for by models without vectors alone."""
        return places(self.events.item, self.events.items)


def look_up(catalog: Catalog, events: Events) -> Lookup:
    """The tables for a catalogue and its events. **Cost** O(E log E + I·attributes), once a snapshot."""
    count = np.bincount(events.item, minlength=len(catalog))
    rated = events.value[np.isfinite(events.value) & _rates(events)]
    return Lookup(
        events=events, by_user=places(events.user, events.users),
        crowd=crowd_of(events, len(catalog)), new=np.flatnonzero(count == 0)[::-1].copy(),
        columns=_columns(catalog), scale=float(np.ptp(rated)) / 2 if len(rated) else 0.0,
    )  # fmt: skip


def places(owner: NDArray[np.integer], owners: int) -> Places:
    """Places of events by owner.

    >>> by = places(np.array([1, 0, 1]), 3)
    >>> by.of(1).tolist(), by.of(2).tolist(), by.of(-1).tolist()
    ([0, 2], [], [])
    """
    counts = np.bincount(owner, minlength=owners) if len(owner) else np.zeros(owners, np.int64)
    # Owner and place in one number: a plain sort of it is stable, and four times as fast as a stable one.
    key = owner.astype(np.int64) << 32
    key |= np.arange(len(owner))
    key.sort()
    key &= 0xFFFFFFFF
    return Places(key.astype(np.uint32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _rates(events: Events) -> NDArray[np.bool_]:
    """Which events are ratings, whatever the file calls them."""
    return np.array([kind in RATED for kind in events.kinds] or [False])[events.kind]


def _columns(catalog: Catalog) -> dict[str, Column]:
    """Attributes of the catalogue as one column a name, in the order in which the names first appear."""
    numbers: dict[str, list[tuple[int, float]]] = {}
    words: dict[str, dict[str, list[int]]] = {}
    spelled: dict[str, dict[str, None]] = {}
    stated: dict[str, list[int]] = {}
    for row, content in enumerate(catalog.content.get(ATTRIBUTES, ())):
        for name, value in content.values.items() if isinstance(content, Attributes) else ():
            stated.setdefault(name, []).append(row)
            if isinstance(value, int | float):
                numbers.setdefault(name, []).append((row, float(value)))
                continue
            for word in dict.fromkeys((value,) if isinstance(value, str) else value):
                words.setdefault(name, {}).setdefault(word.casefold(), []).append(row)
                spelled.setdefault(name, {})[word] = None
    columns = {}
    for name, rows in stated.items():
        line = np.broadcast_to(np.nan, len(catalog))  # takes no room; an attribute of words has no numbers
        if name in numbers:
            line = line.copy()
            line[[row for row, _ in numbers[name]]] = [number for _, number in numbers[name]]
        mask = np.zeros(len(catalog), bool)
        mask[rows] = True
        index = {word: np.array(where, np.int32) for word, where in words.get(name, {}).items()}
        columns[name] = Column(line, mask, index, tuple(spelled.get(name, ())))
    return columns
