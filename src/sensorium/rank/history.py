"""The history that a model is asked with: what the snapshot knows, what the log added since, and what the query names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.data.events import KINDS, RATED, Events, Histories
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.rank.lookup import Lookup


class Happened(Protocol):
    """What a log entry says, in outside ids."""

    @property
    def item(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def value(self) -> float | None: ...


class Act(NamedTuple):
    """An event of one person, in rows."""

    item: int
    kind: str
    weight: float
    time: float


def acts_of(
    happened: Iterable[Happened], items: Ids, *, usual: float | None, scale: float, weights: Mapping[str, float] = KINDS
) -> tuple[list[Act], list[str]]:
    """Log entries as acts, and the ids that the catalogue lacks.

    A rating weighs 1 + (value − `usual`) ÷ `scale`, as in training; `usual` is the person's mean, None where unknown
    (then the mean of the ratings at hand).
    """
    entries = list(happened)
    rated = [e.value for e in entries if e.kind in RATED and e.value is not None]
    middle = usual if usual is not None else float(np.mean(rated)) if rated else 0.0
    acts, unknown = [], []
    for entry in entries:
        if entry.item not in items:
            unknown.append(entry.item)
            continue
        weight = weights.get(entry.kind, 1.0)
        if entry.kind in RATED and entry.value is not None and scale > 0:
            weight *= 1 + (entry.value - middle) / scale
        acts.append(Act(items.row(entry.item), entry.kind, weight, entry.time))
    return acts, unknown


def usual_rating(events: Events, lookup: Lookup, user: int) -> float | None:
    """The mean of a person's ratings in the snapshot; None where there are none."""
    if not any(kind in RATED for kind in events.kinds):
        return None
    rates = np.array([kind in RATED for kind in events.kinds])
    mine = lookup.by_user.of(user)
    values = events.value[mine[rates[events.kind[mine]]]]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def history_of(
    events: Events, lookup: Lookup, user: int, *, acts: Sequence[Act] = (), people: Vectors | None = None,
    like: Sequence[int] = (), unlike: Sequence[int] = (), now: float | None = None,
    weights: Mapping[str, float] = KINDS,
) -> Histories:  # fmt: skip
    """One history (B = 1): the snapshot's events of a row (−1: nobody), then `acts` by time, then the query's items.

    `unlike` and `like` are events of this moment, `like` the newest. `now` defaults to the newest event's time, else to
    the last of the snapshot. A kind that the snapshot does not know is added after its own. `weights` are those of the
    recipe's kinds. Cost O(own events).
    """
    mine = lookup.by_user.of(user)
    acts = sorted(acts, key=lambda act: act.time) if len(acts) > 1 else acts
    end = float(events.time[mine[-1]]) if len(mine) else float(events.time[-1]) if len(events) else 0.0
    if acts:
        end = max(end, acts[-1].time) if events.timed else end + len(acts)
    moment = end if now is None else now
    fresh = list(acts)
    if unlike:
        against, strength = _against(events, weights)
        fresh += [Act(item, against, strength, moment) for item in unlike]
    if like:
        in_favour = _in_favour(events, weights)
        fresh += [Act(item, in_favour, weights.get(in_favour, 1.0), moment) for item in like]
    kinds = (*events.kinds, *dict.fromkeys(act.kind for act in fresh if act.kind not in events.kinds))

    def column(name: str, values: Sequence[float]) -> NDArray[Any]:
        known = getattr(events, name)
        both = np.empty(len(mine) + len(fresh), known.dtype)
        known.take(mine, out=both[: len(mine)], mode="clip")  # with another mode it would be copied twice
        both[len(mine) :] = values
        return both

    time = column("time", [act.time for act in fresh])
    if not events.timed and len(acts):  # places in the file go on counting; a clock among them would mean nothing
        begin = len(mine)
        time[begin : begin + len(acts)] = end - len(acts) + 1 + np.arange(len(acts))
    order = np.argsort(time, kind="stable")
    item = column("item", [act.item for act in fresh])
    kind = column("kind", [kinds.index(act.kind) for act in fresh])
    weight = column("weight", [act.weight for act in fresh])
    review = None
    if events.review is not None:  # what was written since the last training has no row yet
        review = column("review", [-1] * len(fresh))[order]
    profile = None
    if people is not None:
        inside = 0 <= user < len(people)
        profile = people.values[user : user + 1] if inside else np.zeros((1, people.size), np.float32)
    return Histories(
        start=np.array([0, len(item)], np.int64), item=item[order], kind=kind[order],
        weight=weight[order], time=time[order], now=np.array([moment], np.float64), kinds=kinds,
        user=np.array([user], np.int64), profile=profile, timed=events.timed, review=review,
    )  # fmt: skip


def rejected(history: Histories, weights: Mapping[str, float] = KINDS) -> np.ndarray:
    """The rows of a history's items whose newest event is of a kind that speaks against them."""
    against = np.array([weights.get(kind, 1.0) < 0 for kind in history.kinds] or [False])[history.kind]
    if not against.any():
        return np.zeros(0, np.int64)
    items, newest = np.unique(history.item[::-1], return_index=True)
    return items[against[::-1][newest]].astype(np.int64)


def _against(events: Events, weights: Mapping[str, float]) -> tuple[str, float]:
    """The kind that speaks against an item, and its weight: the first in the data, else a usual one."""
    for kind in (*events.kinds, "dislike", *weights):
        if weights.get(kind, KINDS.get(kind, 1.0)) < 0:
            return kind, weights.get(kind, KINDS.get(kind, 1.0))
    return "dislike", KINDS["dislike"]


def _in_favour(events: Events, weights: Mapping[str, float]) -> str:
    """The kind that speaks for an item: of looking at it, else the first in the data, else `view`."""
    looking = [kind for kind in ("view", "click", "play") if kind in events.kinds]
    return next((kind for kind in (*looking, *events.kinds) if weights.get(kind, 1.0) > 0), "view")
