"""Asks a fitted model the people of a fold, once: the rank of every target, and the best of every list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Rows, best
from sensorium.data.events import Fold, confidence
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Progress, silent
from sensorium.evaluate.metrics import KS, Background, Scores, accuracy, joined, of_all, of_lists
from sensorium.models.model import Model
from sensorium.train.ranking import Ranks, asked, hide, ranks_of

CELLS = 4_000_000  # scores held at once: a batch of people × all items; 16 MB in float32


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answered. **Shapes** users (N,) ascending; lists (N, K) items, best first, −1 where there are no more."""

    ranks: Ranks
    users: Rows
    lists: Rows
    scores: Scores


def ask(
    model: Model, fold: Fold, background: Background, people: Vectors | None = None, *, progress: Progress = silent
) -> Answers:
    """Full ranking over the fold's candidates, seen items removed. **Cost** people × items scores, in batches."""
    longest = max(KS)
    batch = int(np.clip(CELLS // max(fold.train.items, 1), 16, 1024))
    users: list[Rows] = []
    targets: list[tuple[Rows, Rows, np.ndarray]] = []
    lists: list[Rows] = []
    others: list[dict[str, np.ndarray]] = []
    total, done = len(np.unique(fold.held_out.user)), 0
    for part in asked(fold, people, batch=batch):
        scores = hide(model.score(part.histories), part, fold.candidates)
        targets.append((part.users[part.targets[0]], part.targets[1], ranks_of(scores, part)))
        columns, values = best(scores, longest)
        chosen = np.full((len(columns), longest), -1, np.int64)
        chosen[:, : columns.shape[1]] = np.where(np.isneginf(values), -1, columns)
        others.append(of_lists(chosen, part.seen, background))
        users.append(part.users)
        lists.append(chosen)
        done += len(part.users)
        progress("rank", done, total)
    if not users:
        empty = np.zeros(0, np.int64)
        ranks = Ranks(empty, empty, np.zeros(0))
        return Answers(ranks, empty, np.zeros((0, longest), np.int64), accuracy(ranks))
    ranks = Ranks(*(np.concatenate(column) for column in zip(*targets, strict=True)))
    everything = np.concatenate(lists)
    exact = accuracy(ranks)
    by_person = {**exact.by_person, **joined(others)}
    whole = Scores(exact.users, by_person, of_all(everything, background))
    return Answers(ranks, np.concatenate(users), everything, whole)


def dropped(fold: Fold) -> dict[str, int]:
    """Held-out events that are nobody's target, by reason; and the targets and people that remain."""
    width = fold.train.items
    pairs = fold.held_out.user.astype(np.int64) * width + fold.held_out.item
    past = fold.train.user.astype(np.int64) * width + fold.train.item
    positive = confidence(fold.held_out, 0.0) > 0
    outside = np.zeros(len(pairs), bool)
    if fold.candidates is not None:
        outside = ~np.isin(fold.held_out.item, fold.candidates)
    seen = np.isin(pairs, past)
    kept = pairs[positive & ~seen & ~outside]
    targets = np.unique(kept)
    return {
        "targets": len(targets),
        "asked": len(np.unique(targets // max(width, 1))),
        "dropped_negative": int(np.count_nonzero(~positive)),
        "dropped_seen": int(np.count_nonzero(positive & seen)),
        "dropped_not_candidates": int(np.count_nonzero(positive & ~seen & outside)),
        "dropped_repeated": len(kept) - len(targets),
    }
