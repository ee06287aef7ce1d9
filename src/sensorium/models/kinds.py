"""What an event of a kind counts: a view is not a buy, and by how much less is for validation to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.events import KINDS, Events, Histories, confidence
from sensorium.errors import RecipeError

T = TypeVar("T", Events, Histories)
SHARES = (0.0, 0.1, 0.3, 1.0)  # of the asked-for kind's weight, that validation tries for each other kind


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


def walked(
    start: Any, height: float, names: Sequence[str], others: Sequence[str], value: Callable[[Any], float]
) -> tuple[Any, float]:
    """The settings after a walk over what each of the `others` counts, in each of the tables `names` of the settings."""

    def with_share(settings: Any, table: str, kind: str, share: float) -> Any:
        return replace(settings, **{table: {**getattr(settings, table), kind: share}})

    best = start
    for table in names:
        for kind in others:
            for share in SHARES:
                tried = with_share(best, table, kind, share)
                if getattr(best, table).get(kind, 1.0) == share:
                    continue
                reached = value(tried)
                if reached > height:
                    best, height = tried, reached
    return best, height
