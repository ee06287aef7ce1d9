"""From names to the matrices that factors are fitted on: people, items, and their features, each name a column for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from sensorium.data.ids import Ids
from sensorium.errors import UnknownId

Described = Iterable[str] | Mapping[str, float]  # features of one entity, weighing 1 or what is said


@dataclass(frozen=True)
class Vocabulary:
    """Ids of people and items, and the columns of their features. A name's row or column never changes.

    With `identity` every person and item has a column of its own besides, named by its id.

    >>> words = Vocabulary().extended(users=["ann"], items=["a", "b"], item_features=["red"])
    >>> words.item_matrix({"b": ["red"]}).toarray().tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    >>> words.extended(items=["c"]).item_matrix({"b": ["red"]}, normalized=False).toarray().tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """

    users: Ids = field(default_factory=Ids)
    items: Ids = field(default_factory=Ids)
    user_columns: Ids = field(default_factory=Ids)
    item_columns: Ids = field(default_factory=Ids)
    identity: bool = True

    def extended(
        self, *, users: Iterable[str] = (), items: Iterable[str] = (), user_features: Iterable[str] = (),
        item_features: Iterable[str] = (),
    ) -> Vocabulary:  # fmt: skip
        """This vocabulary and, behind it, what is new."""
        users, items = list(users), list(items)
        return Vocabulary(
            self.users.extended(users), self.items.extended(items),
            self.user_columns.extended([*(map(_own, users) if self.identity else ()), *user_features]),
            self.item_columns.extended([*(map(_own, items) if self.identity else ()), *item_features]), self.identity,
        )  # fmt: skip

    def interactions(
        self, rows: Iterable[tuple[str, str] | tuple[str, str, float]]
    ) -> tuple[sparse.coo_array, sparse.coo_array]:
        """(person, item) or (person, item, weight) → ones, and weights, with the same pairs in the same order (U, I).

        **Raises** UnknownId for a name that was not given to `extended`.
        """
        table = list(rows)
        user = np.array([self.users.row(row[0], what="user") for row in table], np.int32)
        item = np.array([self.items.row(row[1]) for row in table], np.int32)
        weight = np.array([row[2] if len(row) > 2 else 1.0 for row in table], np.float32)
        shape = (len(self.users), len(self.items))
        return (
            sparse.coo_array((np.ones(len(table), np.float32), (user, item)), shape=shape),
            sparse.coo_array((weight, (user, item)), shape=shape),
        )

    def user_matrix(self, described: Mapping[str, Described], *, normalized: bool = True) -> sparse.csr_array:
        """Features of all people (U, F), zero for whom nothing is said; `normalized` rows sum to one."""
        return _matrix(self.users, self.user_columns, described, self.identity, normalized, "user")

    def item_matrix(self, described: Mapping[str, Described], *, normalized: bool = True) -> sparse.csr_array:
        """Features of all items (I, G), zero for which nothing is said; `normalized` rows sum to one."""
        return _matrix(self.items, self.item_columns, described, self.identity, normalized, "item")


def _own(name: str) -> str:
    """The name of an entity's own column, which no feature can have."""
    return "\0" + name


def _matrix(
    ids: Ids, columns: Ids, described: Mapping[str, Described], identity: bool, normalized: bool, what: str
) -> sparse.csr_array:
    row, column, value = [], [], []
    for name, features in described.items():
        place = ids.row(name, what=what)
        pairs = features.items() if isinstance(features, Mapping) else ((feature, 1.0) for feature in features)
        for feature, weight in pairs:
            if feature not in columns:
                raise UnknownId(f"no {what} feature {feature!r}; name it first with extended({what}_features=…)")
            row.append(place)
            column.append(columns.row(feature))
            value.append(float(weight))
    if identity:
        row += range(len(ids))
        column += (columns.row(_own(name)) for name in ids)
        value += [1.0] * len(ids)
    matrix = sparse.csr_array((np.array(value, np.float32), (row, column)), shape=(len(ids), len(columns)))
    if normalized:
        whole = np.asarray(matrix.sum(1)).ravel()
        matrix.data /= np.repeat(np.where(whole == 0, 1, whole), np.diff(matrix.indptr))
    return sparse.csr_array(matrix, dtype=np.float32)
