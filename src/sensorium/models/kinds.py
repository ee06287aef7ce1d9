"""What an event of a kind counts: a view is not a buy, and by how much less is for validation to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.events import KINDS, Events, Fold, Histories, confidence
from sensorium.errors import RecipeError

T = TypeVar("T", Events, Histories)
SHARES = (0.0, 0.1, 0.3, 1.0)  # of the asked-for kind's weight, that validation tries for each other kind
POWERS = (0.5, 1.0)  # of an item's rate of the asked-for kind, that validation tries
SHRINK = 20.0  # events at the catalogue's own rate that every item is given, so that one lucky buy is no rate


def counted(events: T, strength: float, kinds: Mapping[str, float]) -> T:
    """The same events, each weighing what it is to count; those of a kind that counts 0 are left out.

    An event counts its confidence (see Events.matrix) times what `kinds` gives its kind (1 where not named). The result's
    `.matrix(strength=1)` is therefore the matrix wanted.

    >>> events = Events.of([0, 0], [0, 1], users=1, items=2, kind=[0, 1], kinds=("view", "buy"))
    >>> counted(events, 0.0, {"view": 0.25}).matrix(1.0).toarray().tolist()
    [[0.25, 1.0]]
    """
    weight = confidence(events, strength)
    if not kinds:
        return replace(events, weight=weight)
    factor = _factors(events, kinds)
    out = replace(events, weight=(weight * factor).astype(weight.dtype))
    if factor.all():
        return out
    return out.take(factor != 0) if isinstance(out, Events) else out.only(factor != 0)


def conversion(events: Events, powers: Mapping[str, float]) -> Floats:
    """What multiplies the score of each item (I,): its rate of a kind of event ÷ the catalogue's, to the power of the kind.

    Of two items that are looked at alike, the one that is bought more often per look is the likelier buy. Rates are drawn
    to the catalogue's by `SHRINK` events.

    >>> events = Events.of([0] * 40, [0] * 20 + [1] * 20, users=1, items=3, kind=[1] * 20 + [0] * 20, kinds=("view", "buy"))
    >>> conversion(events, {"buy": 1.0}).round(2).tolist()
    [1.5, 0.5, 1.0]
    """
    out = np.ones(events.items, np.float64)
    total = np.bincount(events.item, minlength=events.items)
    for kind, power in powers.items():
        if kind in events.kinds and power:
            mine = events.item[events.kind == events.kinds.index(kind)]
            rate = len(mine) / max(len(events), 1)
            if rate:
                count = np.bincount(mine, minlength=events.items)
                out *= ((count + SHRINK * rate) / (total + SHRINK) / rate) ** power
    return out.astype(np.float32)


def heard(histories: Histories, kinds: Mapping[str, float]) -> Floats:
    """Which events of the histories (N,) count at all, as a mask."""
    return _factors(histories, kinds) != 0


def _factors(events: Events | Histories, kinds: Mapping[str, float]) -> Floats:
    return np.array([kinds.get(kind, 1.0) for kind in events.kinds] or [1.0], np.float32)[events.kind]


def check_kinds(where: str, *tables: Mapping[str, float]) -> None:
    """**Raises** RecipeError for a weight that is below zero or no number: whether a kind speaks against is its own."""
    for table in tables:
        for kind, weight in table.items():
            if not 0 <= weight < float("inf"):
                raise RecipeError(f"{where}: kinds.{kind} = {weight!r} should be a number of at least 0")


def positive_kinds(events: Events) -> tuple[str, ...]:
    """The kinds that occur and speak for their items."""
    return tuple(events.kinds[k] for k in np.unique(events.kind) if KINDS.get(events.kinds[k], 1.0) > 0)


def walked(start: Any, height: float, fold: Fold, value: Callable[[Any], float]) -> tuple[Any, float]:
    """The settings after a walk over what kinds of events count, from settings of the value `height`.

    For each kind beside the one that most held-out events are of: what it counts in a history (`heard`), then where the
    matrix is learnt (`kinds`). At last, how far an item's rate of the asked-for kind counts (`conversion`).
    """
    kinds = positive_kinds(fold.train)
    if len(kinds) < 2 or not len(fold.held_out):
        return start, height
    held = np.bincount(fold.held_out.kind, minlength=len(fold.held_out.kinds))
    asked = fold.held_out.kinds[int(held.argmax())]
    others = [kind for kind in kinds if kind != asked]
    steps = [(table, kind, share) for table in ("heard", "kinds") for kind in others for share in SHARES]
    best = start
    for table, kind, share in [*steps, *(("conversion", asked, power) for power in POWERS)]:
        now = getattr(best, table)
        if now.get(kind, 0.0 if table == "conversion" else 1.0) == share:
            continue
        tried = replace(best, **{table: {**now, kind: share}})
        reached = value(tried)
        if reached > height:
            best, height = tried, reached
    return best, height
