"""What a durable store must do: events in order, documents by id, journals. One conformance suite runs over all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from sensorium.errors import DataError, SnapshotError


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did, in outside ids. `time` in seconds since 1970.

    `key` makes an append repeatable: a second entry with the same key is not stored. `position` is given by the log.
    """

    user: str
    item: str
    kind: str
    time: float
    value: float | None = None
    text: str | None = None
    key: str | None = None
    position: int = 0

    def __post_init__(self) -> None:
        if self._plain():
            return
        for name in ("user", "item", "kind", "text", "key"):
            word = getattr(self, name)
            optional = name in ("text", "key")
            if not isinstance(word, str) and not (optional and word is None):
                raise DataError(f"event of user {self.user!r}: {name} is {word!r}, it must be text")
            if word == "" and not optional:
                raise DataError(f"event of user {self.user!r} for item {self.item!r}: {name} is empty; give it a name")
            if word is not None and not _encodes(word):
                raise DataError(f"event: {name} {word!r} is not valid Unicode; decode it as UTF-8 first")
        if not _finite(self.time):
            raise DataError(f"event of user {self.user!r}: time {self.time!r} must be seconds since 1970")
        if self.value is not None and not _finite(self.value):
            raise DataError(f"event of user {self.user!r}: value {self.value!r} must be a finite number, or None")

    def _plain(self) -> bool:
        """Whether it is one of those that most are, in which nothing can be wrong: told in a microsecond."""
        user, item, kind, value, key = self.user, self.item, self.kind, self.value, self.key
        return (
            type(user) is type(item) is type(kind) is str
            and type(self.time) is float
            and isfinite(self.time)
            and self.text is None
            and (value is None or (type(value) is float and isfinite(value)))
            and (key is None or (type(key) is str and key.isascii()))
            and bool(user and item and kind)
            and user.isascii()
            and item.isascii()
            and kind.isascii()
        )


@dataclass(frozen=True)
class Document:
    """What is known of one thing by its id; `body` is None where it was deleted. `changed` ascends over all documents."""

    id: str
    body: dict[str, Any] | None
    changed: int


@dataclass(frozen=True)
class Note:
    """One line of a journal: what was shown, decided, measured. `user` is whose it is, so that it is erased with them."""

    time: float
    body: Mapping[str, Any]
    user: str | None = None
    position: int = 0


class Unsettled(SnapshotError):
    """Whether a change is on the disk cannot be told: it may be, so it is not written again without keys."""


class Taken(DataError):
    """A key that another event has. `places` tells which of the entries of the call those are, from 0."""

    def __init__(self, line: str, places: Sequence[int]) -> None:
        super().__init__(line)
        self.places = tuple(places)


Known = tuple[int, str, str, str]  # of an entry with a key: its position, user, item and kind


def numbered(entries: Sequence[Entry], known: dict[str, Known], last: int) -> tuple[list[int], list[tuple[Any, ...]]]:
    """The positions of entries after `last`, and the rows of those that are new: user, item, kind, time, value, text, key,
    position. `known` are the keys that are stored; those of the entries are added. **Raises** Taken.
    """
    positions: list[int] = []
    rows: list[tuple[Any, ...]] = []
    others: list[int] = []
    for place, entry in enumerate(entries):
        if entry.key is not None:
            before = known.get(entry.key)
            if before is not None:
                positions.append(before[0])
                if before[1:] != (entry.user, entry.item, entry.kind):
                    others.append(place)
                continue
            known[entry.key] = (last + 1, entry.user, entry.item, entry.kind)
        last += 1
        positions.append(last)
        rows.append((entry.user, entry.item, entry.kind, entry.time, entry.value, entry.text, entry.key, last))
    if others:
        key = (entries[others[0]].key or "")[:60]
        raise Taken(f"key {key!r}: an event of another user, item or kind has it; give each event its own", others)
    return positions, rows


class Store(Protocol):
    """A call that changes something returns once that is on the disk, and changed all of it or nothing.

    Positions of events ascend and are never given twice, not even after an erasure; a key makes an append repeatable.
    They become readable in their order: whoever has read up to a position has missed nothing before it. The same
    holds for `changed` of documents. **Raises** Taken for a key that another event has, SnapshotError where the store cannot be reached, is damaged, or was
    written by a newer version, Unsettled (one of those) where it broke in the middle of a commit, and DataError for
    what it cannot hold.
    """

    @property
    def place(self) -> str: ...
    @property
    def end(self) -> int: ...
    @property
    def identity(self) -> str: ...
    def __len__(self) -> int: ...
    def append(self, entries: Sequence[Entry]) -> list[int]: ...
    def read(
        self, after: int = 0, *, user: str | None = None, item: str | None = None, most: int | None = None
    ) -> list[Entry]: ...
    def remove(self, user: str, item: str, kind: str | None = None, *, before: int | None = None) -> int: ...
    def erase(self, user: str) -> int: ...
    def put(self, kind: str, documents: Mapping[str, Mapping[str, Any]]) -> int: ...
    def get(self, kind: str, name: str) -> dict[str, Any] | None: ...
    def page(self, kind: str, after: str = "", most: int = 100) -> list[Document]: ...
    @property
    def last_change(self) -> int: ...
    def changed(self, kind: str, after: int = 0, most: int = 10_000) -> list[Document]: ...
    def delete(self, kind: str, name: str) -> bool: ...
    def note(self, name: str, notes: Sequence[Note]) -> list[int]: ...
    def notes(self, name: str, after: int = 0, most: int | None = None) -> list[Note]: ...
    def backup(self, path: Path | str) -> None: ...
    def fill(
        self, events: Iterable[Sequence[Any]], documents: Iterable[Sequence[Any]], journal: Iterable[Sequence[Any]],
        counters: Mapping[str, int],
    ) -> None: ...  # fmt: skip
    def close(self) -> None: ...


def written(body: Mapping[str, Any]) -> str:
    """A body as JSON text. **Raises** DataError for what is no plain value."""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        raise DataError("a document holds text that is not valid Unicode; decode it as UTF-8 first") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"a document must be plain JSON ({error})") from None
    return text


def _encodes(word: str) -> bool:
    try:
        return word.isascii() or bool(word.encode())
    except UnicodeEncodeError:
        return False


def _finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= sys.float_info.max
