"""What a request adds to the model's scores: boosts by rule, pins that may stand, values that caps count."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, Attributes
from sensorium.errors import RecipeError
from sensorium.rank.filters import allowed, fulfilled
from sensorium.rank.lookup import Column
from sensorium.rank.query import Query, Reason, Recommendation, parse_rule
from sensorium.settings import nearest


class Shown(Protocol):
    """What deciding on a pin needs of a snapshot."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def hidden(self) -> Collection[int]: ...


@dataclass(frozen=True, eq=False)
class Boosted:
    """What each rule adds to each candidate. **Shapes** amounts (R, C)."""

    rules: tuple[str, ...]
    amounts: Floats

    @property
    def sum(self) -> Floats:
        """**Shapes** (C,)."""
        return self.amounts.sum(axis=0)

    def added(self, one: Recommendation, place: int, *, explain: bool) -> Recommendation:
        """An item with its boosts in its score, and among its reasons."""
        told = [(rule, float(row[place])) for rule, row in zip(self.rules, self.amounts, strict=True) if row[place]]
        if not told:
            return one
        reasons = tuple(Reason(None, rule, "", None, "boost", amount) for rule, amount in told) if explain else ()
        return replace(one, score=one.score + sum(amount for _, amount in told), reasons=(*one.reasons, *reasons))


def boosted(boosts: Mapping[str, float], columns: Mapping[str, Column], rows: Rows, scores: Floats) -> Boosted:
    """The boosts of the candidates, in standard deviations of their scores.

    **Shapes** rows (C,), scores (C,). **Raises** RecipeError for a rule that names what no item has.
    """
    if not boosts:
        return Boosted((), np.zeros((0, len(rows)), scores.dtype))
    items = int(rows.max()) + 1 if not columns else len(next(iter(columns.values())).numbers)
    spread = float(scores.std()) or 1.0  # where all are equal, any step decides
    amounts = [fulfilled(parse_rule(rule), columns, items)[rows] * (amount * spread) for rule, amount in boosts.items()]
    return Boosted(tuple(boosts), np.array(amounts, scores.dtype))


def pinned(snapshot: Shown, query: Query, columns: Mapping[str, Column], notes: list[str]) -> dict[int, int]:
    """The rows that may stand at their pinned places: whoever pins may show what was seen, never what is hidden, excluded
    or against a rule. What may not is told in `notes`.
    """
    if not query.pins:
        return {}
    ids = snapshot.catalog.ids
    excluded = ids.rows([*query.exclude, *query.like, *query.unlike])
    barred = [*excluded[excluded >= 0].tolist(), *snapshot.hidden]
    keep = allowed(len(ids), columns, query.rules, without=barred)
    rows: dict[int, int] = {}
    for item, place in query.pins.items():
        if item not in ids:
            notes.append(f"pinned item {item!r} is not in this run")
        elif not keep[ids.row(item)]:
            notes.append(f"pinned item {item!r} is hidden, excluded or against a rule")
        else:
            rows[ids.row(item)] = place
    return rows


def values_of(
    catalog: Catalog, rows: Rows, caps: Mapping[str, int], columns: Mapping[str, Column]
) -> Sequence[Mapping[str, tuple[str, ...]]]:
    """The values of the capped attributes, for each candidate; words without regard to case. **Raises** RecipeError."""
    if not caps:
        return ()
    for name in caps:
        if name not in columns:
            raise RecipeError(f"cap of {name!r}: no item has it; {nearest(name, columns)}")
    column = catalog.content[ATTRIBUTES]
    told: list[Mapping[str, tuple[str, ...]]] = []
    for row in rows.tolist():
        content = column[row]
        own = content.values if isinstance(content, Attributes) else {}
        told.append({name: _values(own[name]) for name in caps if name in own})
    return told


def _values(value: float | str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value.casefold(),)
    if isinstance(value, int | float):
        return (repr(float(value)),)
    return tuple(dict.fromkeys(one.casefold() for one in value))
