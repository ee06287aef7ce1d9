"""Outside ids and inside rows: the only place where one becomes the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sensorium.arrays import Rows
from sensorium.errors import DataError, UnknownId
from sensorium.settings import nearest


class Ids:
    """An append-only list of distinct ids; the place of an id is its row, for ever.

    >>> ids = Ids(["b", "a"])
    >>> ids.row("a"), ids.rows(["a", "z"]).tolist(), ids[0]
    (1, [1, -1], 'b')
    >>> list(ids.extended(["a", "c"]))
    ['b', 'a', 'c']
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids: tuple[str, ...] = tuple(ids)
        self._rows: dict[str, int] = {name: row for row, name in enumerate(self._ids)}
        if len(self._rows) != len(self._ids):
            raise DataError("ids must be distinct")

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, row: int) -> str:
        return self._ids[row]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ids) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)

    def row(self, name: str, *, what: str = "item") -> int:
        """The row of one id. **Raises** UnknownId, with the nearest known id."""
        try:
            return self._rows[name]
        except KeyError:
            near = nearest(name, self._ids) if len(self._ids) <= 20_000 else "check the spelling"
            near = near if near.startswith("did") else "check the spelling"
            raise UnknownId(f"no {what} {name!r} in this run; {near}") from None

    def rows(self, names: Iterable[str]) -> Rows:
        """The rows of many ids, −1 where unknown."""
        return np.fromiter((self._rows.get(name, -1) for name in names), dtype=np.int64)

    def names(self, rows: Sequence[int] | Rows) -> list[str]:
        """The ids of some rows."""
        return [self._ids[row] for row in rows]

    def begins(self, other: Ids) -> bool:
        """Whether the first of these are those of another list."""
        return self._ids is other._ids or self._ids[: len(other)] == other._ids

    def extended(self, names: Iterable[str]) -> Ids:
        """These ids and, after them, those of `names` that are new; no row changes."""
        fresh = tuple(name for name in dict.fromkeys(names) if name not in self._rows)
        return Ids(self._ids + fresh) if fresh else self
