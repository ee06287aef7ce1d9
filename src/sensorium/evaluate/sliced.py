"""Slices of the targets: the cold, the rare, newcomers, and items that lack a modality others have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.data.events import Events
from sensorium.evaluate.ask import Answers
from sensorium.evaluate.compare import intervals
from sensorium.evaluate.evaluation import Part
from sensorium.evaluate.metrics import accuracy
from sensorium.fuse.fusion import Views
from sensorium.train.ranking import Ranks

FEW = 5  # events, up to which an item is called rare and a person new


@dataclass(frozen=True, eq=False)
class Slice:
    """A part of the targets by their items or their people."""

    name: str
    what: str
    items: NDArray[np.bool_] | None = None  # (I,)
    users: NDArray[np.bool_] | None = None  # (U,)

    def of(self, ranks: Ranks) -> Ranks:
        """The targets that belong to the slice."""
        keep = np.ones(len(ranks.user), bool)
        if self.items is not None:
            keep &= self.items[ranks.item]
        if self.users is not None:
            keep &= self.users[ranks.user]
        return Ranks(ranks.user[keep], ranks.item[keep], ranks.rank[keep])


def slices_of(train: Events, views: Views) -> Iterator[Slice]:
    """All slices there are, by what was known in training."""
    of_item = np.bincount(train.item, minlength=train.items)
    of_user = np.bincount(train.user, minlength=train.users)
    yield Slice("cold_items", "targets with no event in training", items=of_item == 0)
    yield Slice("rare_items", f"targets with 1 to {FEW} events in training", items=(of_item > 0) & (of_item <= FEW))
    yield Slice("warm_items", f"targets with more than {FEW} events in training", items=of_item > FEW)
    yield Slice("cold_users", "people with no event in training", users=of_user == 0)
    yield Slice("new_users", f"people with 1 to {FEW} events in training", users=(of_user > 0) & (of_user <= FEW))
    yield Slice("warm_users", f"people with more than {FEW} events in training", users=of_user > FEW)
    for modality in sorted(views):
        if views[modality].present.any():
            lacks = ~views[modality].present
            yield Slice(f"missing_{modality}", f"targets without {modality}, which others have", items=lacks)


def part_of(slice_: Slice, answers: Mapping[str, Answers], *, rounds: int, seed: int) -> Part | None:
    """Every model's accuracy on one slice; None where nobody is asked for it.

    Only the targets of the slice count; the ranking they stand in is the whole one.
    """
    metrics, bounds = {}, {}
    people = targets = 0
    for model, answer in answers.items():
        ranks = slice_.of(answer.ranks)
        if not len(ranks.user):
            return None
        scores = accuracy(ranks)
        people, targets = len(scores.users), len(ranks.user)
        metrics[model] = scores.means()
        bounds[model] = intervals(scores.by_person, rounds=rounds, seed=seed)
    return Part(people, targets, metrics, bounds, slice_.what)
