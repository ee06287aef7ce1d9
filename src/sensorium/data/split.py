"""What may be learnt from and what must be foretold: splits by time, by person, by item, at random, or as given.

Every split has the same three parts. `validation` is all that tuning may see; `test` is asked once, at the end, by a model
that has learnt from `train` (which holds the validation events too). A held-out event is never in the training part of
its own fold, and nothing of the test part is in either part of the validation fold. Not even in the weights: where
`split` is told what the kinds weigh, each training part's ratings are centred and scaled by that part's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.events import RATED, Events, Fold, confidence
from sensorium.data.prepare import weighed
from sensorium.errors import DataError, RecipeError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SplitSettings:
    """How to hold out. `test` and `validation` are shares: of events (time, random) or of items (items).

    - ``leave-last-out``: of every person the last new item is the test, the one before it the validation
    - ``time``: one moment for all; what comes after it is the test
    - ``random``: of every person a share of their items
    - ``items``: a share of the items is never seen in training
    - ``given``: files say it; the validation is carved out of train where no file is given
    """

    by: Literal["leave-last-out", "time", "given", "random", "items"] = "leave-last-out"
    test: float = 0.1
    validation: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.test < 1 and 0 < self.validation < 1 and self.test + self.validation < 1):
            raise RecipeError(
                f"split: test {self.test} and validation {self.validation} should be shares above 0 that leave some "
                f"for training"
            )


@dataclass(frozen=True, eq=False)
class Split:
    """`train` is what the final model learns from (validation included); it is `test.train`."""

    train: Events
    validation: Fold
    test: Fold
    by: str

    def mixed(self) -> Fold:
        """The test asked over all items, where the split by item asks only among the cold ones."""
        return replace(self.test, candidates=None)


def split(
    events: Events, settings: SplitSettings, *, seed: int = 0, given: Mapping[str, Events] | None = None,
    kinds: Mapping[str, float] | None = None,
) -> Split:  # fmt: skip
    """The parts of `events` as `settings` want them; the same seed gives the same parts.

    `given` holds `train`, `test` and perhaps `valid`, whose rows count in the same ids as `events` (which is not read
    then). `kinds` are the recipe's weights (`Recipe.kind_weights`), with which what is learnt from is weighed anew; None
    leaves the weights as they are, ratings against a mean to which those held out contributed.
    **Raises** DataError where nothing would be left to learn from or to ask.
    """
    rng = np.random.default_rng(seed)
    if settings.by == "given":
        if given is None or "train" not in given or "test" not in given:
            raise DataError("split: by = 'given' needs the files train and test (and may have valid)")
        parts = _given(given["train"], given.get("valid"), given["test"], settings, rng)
    elif settings.by == "items":
        parts = _by_items(events, settings, rng)
    else:
        place = {"leave-last-out": _last_out, "time": _by_time, "random": _at_random}[settings.by]
        parts = _parts(events, *place(events, settings, rng), by=settings.by)
    if not len(parts.test.held_out):
        raise DataError(f"split: {settings.by} of {len(events):,} events holds nothing out; give more events")
    if not _positive(parts.test.held_out).any():
        raise DataError(
            f"split: {settings.by} holds out only events that speak against their items (skip, dislike …), so there is "
            "nothing to foretell; give events that speak for items"
        )
    if not len(parts.validation.train):
        raise DataError(
            f"split: {settings.by} of {len(events):,} events leaves nothing to learn from; give more events"
        )
    return parts if kinds is None else _weighed_apart(parts, kinds)


def _weighed_apart(parts: Split, kinds: Mapping[str, float]) -> Split:
    """Each training part weighed by itself. Held-out events keep their weights: which are asked for is in their kinds."""
    if not any(kind in RATED for kind in parts.train.kinds):
        return parts  # only a rating's weight depends on other events
    train, inner = weighed(parts.train, kinds), weighed(parts.validation.train, kinds)
    validation, test = replace(parts.validation, train=inner), replace(parts.test, train=train)
    return replace(parts, train=train, validation=validation, test=test)


def _parts(events: Events, validation: Mask, test: Mask, *, by: str) -> Split:
    train = events.take(~test)
    inner = Fold(events.take(~test & ~validation), events.take(validation))
    return Split(train, inner, Fold(train, events.take(test)), by)


def _last_out(events: Events, settings: SplitSettings, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """From the first event of a person's last new item on, all is test; from that of the item before on, validation.

    Things done again to an item had before are no targets, so a person is asked for something new always. A person with
    two items is only tested; one with a single item is only learnt from.
    """
    _, first = _pairs(events)
    fresh = first & _positive(events)  # an item first met by a skip is nothing to foretell
    row = events.user.astype(np.int64)
    place = np.arange(len(events))
    counts = np.bincount(row[first], minlength=events.users)
    test_cut = np.full(events.users, len(events))
    np.maximum.at(marks := np.full(events.users, -1), row[fresh], place[fresh])
    can = (marks >= 0) & (counts >= 2)
    test_cut[can] = marks[can]
    earlier = fresh & (place < test_cut[row])
    np.maximum.at(marks := np.full(events.users, -1), row[earlier], place[earlier])
    can &= (marks >= 0) & (counts >= 3)
    validation_cut = np.where(can, marks, test_cut)
    test = place >= test_cut[row]
    return (place >= validation_cut[row]) & ~test, test


def _by_time(events: Events, settings: SplitSettings, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """The latest share of all events; events of one moment stay together, in the earlier part where there is a choice."""

    def after(share: float) -> Mask:
        edge = events.time[max(min(int(np.ceil(len(events) * (1 - share))), len(events)) - 1, 0)]
        later = events.time > edge
        return later if later.any() else events.time >= edge

    if not len(events):
        return np.zeros(0, bool), np.zeros(0, bool)
    test = after(settings.test)
    return after(settings.test + settings.validation) & ~test, test


def _at_random(events: Events, settings: SplitSettings, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Of each person's items the shares, at least one each for people with three items or more; all events of an item go along."""
    pair, first = _pairs(events)
    fresh = np.flatnonzero(first & _positive(events))
    test = _drawn(events.user[fresh], events.users, settings.test, rng, least=3)
    rest = fresh[~test]
    validation = _drawn(events.user[rest], events.users, settings.validation / (1 - settings.test), rng, least=2)
    return np.isin(pair, pair[rest[validation]]), np.isin(pair, pair[fresh[test]])


def _by_items(events: Events, settings: SplitSettings, rng: np.random.Generator) -> Split:
    """A share of the items that have events is never trained on, another share stands for them in validation."""
    known = np.unique(events.item[_positive(events)]).astype(np.int64)
    mixed = rng.permutation(known)
    tests = max(round(len(known) * settings.test), 1)
    validations = max(round(len(known) * settings.validation), 1)
    cold, warm = np.sort(mixed[:tests]), np.sort(mixed[tests : tests + validations])
    parts = _parts(events, np.isin(events.item, warm), np.isin(events.item, cold), by="items")
    return replace(
        parts,
        validation=replace(parts.validation, candidates=warm),
        test=replace(parts.test, candidates=cold),
    )


def _given(
    train: Events, valid: Events | None, test: Events, settings: SplitSettings, rng: np.random.Generator
) -> Split:
    """The files as they are. Without a validation file it is carved out of train in the likeness of the test.

    Likeness: if the tests come after what their people did before, so does the validation (the last items), else it is
    drawn at random; as large a share of each person as the test is; and where the test holds only some of the kinds (a
    buy, among views), only items with such an event are held out, with all their events.
    """
    users, items = max(train.users, test.users), max(train.items, test.items)
    train, test = train.resized(users, items), test.resized(users, items)
    if valid is not None:
        valid = valid.resized(users, items)
        everything = train.merged(valid)
        return Split(everything, Fold(train, valid), Fold(everything, test), "given")
    pair, first = _pairs(train)
    fresh = first & _positive(train)
    wanted = {test.kinds[kind] for kind in np.unique(test.kind)}
    alike = np.isin(train.kind, [place for place, kind in enumerate(train.kinds) if kind in wanted])
    if alike.any() and not alike.all():
        fresh &= np.isin(pair, pair[alike])
    chosen = np.flatnonzero(fresh)
    share = len(np.unique(_pairs(test)[0])) / max(len(np.unique(pair)) + len(np.unique(_pairs(test)[0])), 1)
    order = -chosen.astype(np.float64) if train.timed and test.timed and _follows(train, test) else None
    marked = _drawn(train.user[chosen], users, share, rng, least=2, order=order)
    validation = np.isin(pair, pair[chosen[marked]])
    return Split(train, Fold(train.take(~validation), train.take(validation)), Fold(train, test), "given")


def _follows(train: Events, test: Events) -> bool:
    """Whether, for most people of the test, it begins no earlier than their training ends."""
    last, begin = np.full(train.users, -np.inf), np.full(train.users, np.inf)
    np.maximum.at(last, train.user, train.time)
    np.minimum.at(begin, test.user, test.time)
    both = np.isfinite(last) & np.isfinite(begin)
    return bool(both.any() and np.mean(begin[both] >= last[both]) > 0.5)


def _drawn(
    user: NDArray[np.integer], users: int, share: float, rng: np.random.Generator, *, least: int,
    order: NDArray[np.float64] | None = None,
) -> Mask:  # fmt: skip
    """Marks about `share` of each person's rows, at least one where a person has `least` rows or more, none below that.

    The smallest in `order` are taken, at random where there is none.
    """
    counts = np.bincount(user, minlength=users)
    take = np.where(counts >= least, np.maximum(np.floor(counts * share + 0.5), 1), 0).astype(np.int64)
    draws = rng.random(len(user)) if order is None else order
    by_person = np.lexsort((draws, user))
    within = np.arange(len(user)) - np.repeat(np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    marked = np.zeros(len(user), bool)
    marked[by_person] = within < np.repeat(take, counts)
    return marked


def _pairs(events: Events) -> tuple[Rows, Mask]:
    """For each event its (person, item) as one number, and whether it is the first of it."""
    pair = events.user.astype(np.int64) * events.items + events.item
    first = np.zeros(len(events), bool)
    first[np.unique(pair, return_index=True)[1]] = True
    return pair, first


def _positive(events: Events) -> Mask:
    """Events that do not speak against the item: the same rule by which targets are asked for (train/ranking.py)."""
    return confidence(events, 0.0) > 0
