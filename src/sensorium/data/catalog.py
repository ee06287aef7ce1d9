"""The catalogue: rows of things with content by modality. People are a catalogue too: a bio, an avatar, an age."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sensorium.data.content import Content
from sensorium.data.ids import Ids
from sensorium.errors import ShapeError

T = TypeVar("T")


class Laid(Sequence[T], Generic[T]):
    """A column of `count` rows: what is laid over some of them, else what lies `below`, else `absent`. Nothing is copied.

    >>> column = Laid("ab", {1: "x", 3: "y"}, 4, "-")
    >>> list(column), column[-1], list(Laid(column, {0: "z"}, 4, "-"))
    (['a', 'x', '-', 'y'], 'y', ['z', 'x', '-', 'y'])
    """

    def __init__(self, below: Sequence[T], own: Mapping[int, T], count: int, absent: T) -> None:
        self.below: Sequence[T] = below.below if isinstance(below, Laid) else below
        self.own: Mapping[int, T] = {**below.own, **own} if isinstance(below, Laid) else own
        self.length, self.absent = count, absent

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[T]:
        for row, value in zip(range(self.length), self.below, strict=False):
            yield self.own.get(row, value)
        for row in range(len(self.below), self.length):
            yield self.own.get(row, self.absent)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(self.length))]
        if not -self.length <= row < self.length:
            raise IndexError(row)
        row %= self.length
        if row in self.own:
            return self.own[row]
        return self.below[row] if row < len(self.below) else self.absent

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Catalog:
    """Ids and, for each modality, one content or None a row.

    `titles` is what a report or a terminal prints for a row: never a feature.
    """

    ids: Ids
    content: Mapping[str, Sequence[Content | None]]
    titles: Sequence[str] = ()

    def __post_init__(self) -> None:
        for modality, column in self.content.items():
            if len(column) != len(self.ids):
                raise ShapeError(f"{modality}: {len(column)} contents for {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.ids)

    def title(self, row: int) -> str:
        """The name to print for a row: its title, or its id."""
        try:
            return self.titles[row] or self.ids[row]
        except IndexError:  # there are none, or fewer than items
            return self.ids[row]

    def extended(self, more: Catalog) -> Catalog:
        """This catalogue, then the rows of `more` whose ids are new; a modality only one side has is None elsewhere."""
        ids = self.ids.extended(more.ids)
        if len(ids) == len(self) and all(modality in self.content for modality in more.content):
            return self
        fresh = [(row, place) for place, row in enumerate(ids.rows(more.ids).tolist()) if row >= len(self)]
        content = {m: {row: column[place] for row, place in fresh} for m, column in more.content.items()}
        return self.over(ids, content, {row: more.titles[place] for row, place in fresh if place < len(more.titles)})

    def over(self, ids: Ids, content: Mapping[str, Mapping[int, Content | None]], titles: Mapping[int, str]) -> Catalog:
        """The catalogue of `ids`, which begin with these, with other contents and titles in some rows. **Cost** theirs alone."""
        columns = {
            modality: Laid[Content | None](self.content.get(modality, ()), content.get(modality, {}), len(ids), None)
            for modality in dict.fromkeys([*self.content, *content])
        }
        return Catalog(ids, columns, Laid(self.titles, titles, len(ids), ""))

    @property
    def laid(self) -> set[int]:
        """The rows that something is laid over, or that come after what lies below."""
        columns = [_parted(column) for column in (*self.content.values(), self.titles)]
        return {row for _, own in columns for row in own}

    def changed(self, before: Catalog) -> set[int] | None:
        """The rows that are new or may differ from another catalogue's, where both lie upon the same columns; else None."""
        rows = set(range(len(before), len(self)))
        for modality in {*self.content, *before.content}:
            mine, other = (_parted(one.content.get(modality)) for one in (self, before))
            if mine[0] is not other[0]:
                return None
            moved = mine[1].keys() | other[1].keys()  # None may be laid over something
            rows |= {row for row in moved if mine[1].get(row, moved) is not other[1].get(row, moved)}
        return rows if self.ids.begins(before.ids) else None


def _parted(column: Sequence[Any] | None) -> tuple[Sequence[Any] | None, Mapping[int, Any]]:
    """What a column lies upon, and what is laid over it."""
    if isinstance(column, Laid):
        return (column.below if len(column.below) else None), column.own
    return column, {}
