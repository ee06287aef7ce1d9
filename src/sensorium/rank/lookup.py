"""What answering looks up, built once a snapshot: events by person and by item, popularity, attributes in columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, compress, pairwise

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, Attribute, Attributes, Content
from sensorium.data.events import RATED, Events
from sensorium.rank.crowd import Crowd, crowd_of, padded

Facts = tuple[list[int], list[Attribute]]  # rows, ascending, and what each says
Index = Mapping[str, NDArray[np.int32]]  # word → rows that have it, ascending
NOTHING: Facts = ([], [])
NUMBER = (int, float)


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

    **Shapes** numbers (I,); stated (I,); words: lower-case word → rows that have it; spellings: the same by the word as
    the catalogue writes it.
    """

    numbers: NDArray[np.float64]
    stated: NDArray[np.bool_]
    words: Index
    spellings: Index

    @cached_property
    def spelled(self) -> tuple[str, ...]:
        """Words as the catalogue writes them, for hints: by the first row that has them, then by the alphabet."""
        return tuple(sorted(self.spellings, key=lambda word: (int(self.spellings[word][0]), word)))

    def over(self, items: int, was: Facts, now: Facts) -> Column:
        """With what some rows said taken out, what they say put in, and rows after its own that say nothing."""
        if items == len(self.stated) and not was[0] and not now[0]:
            return self
        stated = padded(self.stated, items)
        stated[was[0]] = False
        stated[now[0]] = True
        counted = [isinstance(value, NUMBER) for value in now[1]]
        numbers = np.broadcast_to(np.nan, items)  # takes no room; an attribute of words has no numbers
        if any(counted) or not np.isnan(self.numbers).all():
            numbers = padded(self.numbers, items, np.nan)
            numbers[was[0]] = np.nan
            numbers[list(compress(now[0], counted))] = [*map(float, compress(now[1], counted))]  # type: ignore[arg-type]
        gone, come = _indexed(was), _indexed(now)
        words = _moved(self.words, _folded(gone), _folded(come))
        return Column(numbers, stated, words, _moved(self.spellings, gone, come))


@dataclass(frozen=True, eq=False)
class Lookup:
    """Read-only tables beside a snapshot; nothing in it is learnt, all of it follows from catalogue and events."""

    events: Events
    by_user: Places
    crowd: Crowd  # as of the snapshot
    new: Rows  # rows that nobody has touched, the latest added first
    columns: Mapping[str, Column]
    scale: float  # half the width of the rating scale
    contents: Sequence[Content | None]  # what the columns are made of

    @cached_property
    def by_item(self) -> Places:
        """The places of events by item: asked for by models without vectors alone."""
        return places(self.events.item, self.events.items)

    def over(self, catalog: Catalog, events: Events, rows: Rows) -> Lookup:
        """The tables where there are more items, or some say something else: all such `rows`, ascending. The events are
        the same. **Cost** a copy of what is kept an item and a word; only `rows` are read, and the first of an attribute.
        """
        known, items, contents = len(self.crowd.long.counts), len(catalog), _contents(catalog)
        was: list[tuple[int, Mapping[str, Attribute]]] = []
        now: list[tuple[int, Mapping[str, Attribute]]] = []
        for row in rows.tolist():
            old, new = _stated(self.contents, row) if row < known else {}, _stated(contents, row)
            was.append((row, {name: value for name, value in old.items() if name not in new or new[name] != value}))
            now.append((row, {name: value for name, value in new.items() if name not in old or old[name] != value}))
        out = Lookup(
            events=events, by_user=self.by_user, crowd=self.crowd.grown(items),
            new=np.concatenate([np.arange(items - 1, known - 1, -1), self.new]),
            columns=_over(self.columns, contents, items, _gathered(was), _gathered(now)), scale=self.scale,
            contents=contents,
        )  # fmt: skip
        if (by := self.__dict__.get("by_item")) is not None:
            out.__dict__["by_item"] = Places(by.order, padded(by.start, events.items + 1, by.start[-1]))
        return out


def look_up(catalog: Catalog, events: Events) -> Lookup:
    """The tables for a catalogue and its events. **Cost** O(E log E + I·attributes), once a snapshot."""
    count = np.bincount(events.item, minlength=len(catalog))
    rated = events.value[np.isfinite(events.value) & _rates(events)]
    return Lookup(
        events=events, by_user=places(events.user, events.users),
        crowd=crowd_of(events, len(catalog)), new=np.flatnonzero(count == 0)[::-1].copy(),
        columns=_columns(catalog), scale=float(np.ptp(rated)) / 2 if len(rated) else 0.0, contents=_contents(catalog),
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
    said = ((row, one.values) for row, one in enumerate(_contents(catalog)) if isinstance(one, Attributes))
    return {name: _silent(len(catalog)).over(len(catalog), NOTHING, facts) for name, facts in _gathered(said).items()}


def _over(
    columns: Mapping[str, Column], contents: Sequence[Content | None], items: int, was: Mapping[str, Facts],
    now: Mapping[str, Facts],
) -> dict[str, Column]:  # fmt: skip
    """The columns with what was said and is no more taken out, and what is said now put in; in the order of `_columns`."""
    moved = {}
    for name in dict.fromkeys([*columns, *now]):
        column = columns.get(name) or _silent(items)
        column = column.over(items, was.get(name, NOTHING), now.get(name, NOTHING))
        if column.stated.any():
            moved[name] = column
    first = sorted({int(column.stated.argmax()) for column in moved.values()})
    return {name: moved[name] for name in dict.fromkeys(name for row in first for name in _stated(contents, row))}


def _silent(items: int) -> Column:
    """A column that no item states."""
    return Column(np.broadcast_to(np.nan, items), np.zeros(items, bool), {}, {})


def _contents(catalog: Catalog) -> Sequence[Content | None]:
    return catalog.content.get(ATTRIBUTES, ())


def _stated(contents: Sequence[Content | None], row: int) -> Mapping[str, Attribute]:
    content = contents[row] if row < len(contents) else None
    return content.values if isinstance(content, Attributes) else {}


def _gathered(said: Iterable[tuple[int, Mapping[str, Attribute]]]) -> dict[str, Facts]:
    """What rows say by name, in the order in which the names first appear."""
    out: dict[str, Facts] = {}
    for row, values in said:
        for name, value in values.items():
            if name not in out:
                out[name] = ([], [])
            rows, own = out[name]
            rows.append(row)
            own.append(value)
    return out


def _indexed(facts: Facts) -> Index:
    """The rows that have each word, as it is written."""
    told = [(v,) if isinstance(v, str) else () if isinstance(v, NUMBER) else v for v in facts[1]]
    words = list(chain.from_iterable(told))
    if not words:
        return {}
    codes = {word: code for code, word in enumerate(dict.fromkeys(words))}
    # Word and row in one number, so that one sort does; a row may have a word twice.
    key = np.fromiter(map(codes.__getitem__, words), np.int64, len(words)) << 32
    key |= np.repeat(np.array(facts[0], np.int64), np.fromiter(map(len, told), np.int64, len(told)))
    key.sort()
    key = key[np.append(True, key[1:] != key[:-1])]
    rows, ends = (key & 0xFFFFFFFF).astype(np.int32), np.cumsum(np.bincount(key >> 32)).tolist()
    return {word: rows[start:end] for word, (start, end) in zip(codes, pairwise([0, *ends]), strict=True)}


def _folded(index: Index) -> Index:
    """An index without regard to case."""
    out: dict[str, NDArray[np.int32]] = {}
    for word, rows in index.items():
        known = out.setdefault(word.casefold(), rows)
        if known is not rows:
            out[word.casefold()] = np.union1d(known, rows)
    return out


def _moved(index: Index, gone: Index, come: Index) -> Index:
    """An index with some rows of some words taken out, and then some put in."""
    if not index or not (gone or come):
        return index or come
    out = dict(index)
    for word, rows in gone.items():
        out[word] = np.delete(out[word], np.searchsorted(out[word], rows))
        if not len(out[word]):
            del out[word]
    for word, rows in come.items():
        known = out.get(word)
        out[word] = rows if known is None else np.insert(known, np.searchsorted(known, rows), rows)
    return out
