"""How a sequence model is trained: windows of histories, batches by length, one descent a batch. Imports torch at its top."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, confidence
from sensorium.data.vectors import Vectors
from sensorium.models.model import Features
from sensorium.models.sequence.net import Histories as Network
from sensorium.models.sequence.net import Items
from sensorium.models.sequence.tokens import Tokens, tokens, usual_weights
from sensorium.train.augment import drop_events, windows
from sensorium.train.loop import Descent, weights_of
from sensorium.train.losses import softmax_loss
from sensorium.train.negatives import Negatives, drawn, everything

if TYPE_CHECKING:
    from sensorium.models.sequence.sequence import Sequence, SequenceModel


class Training:
    """One run of training; `epoch()` takes it a pass further, `model()` is what it has learnt so far."""

    def __init__(self, settings: Sequence, events: Events, features: Features, rng: np.random.Generator) -> None:
        self.settings, self.rng, self.kinds, self.usual = settings, rng, events.kinds, usual_weights(events)
        self.histories = events.histories(
            np.flatnonzero(np.bincount(events.user, minlength=events.users)), features.people
        )
        self.answers = confidence(self.histories, 0.0) > 0
        counts = np.bincount(self.histories.item[self.answers], minlength=len(features.items))
        self.known = np.flatnonzero(np.bincount(events.item, minlength=len(features.items)))
        self.targets = np.flatnonzero(counts)
        self.chance = (counts / max(counts.sum(), 1)).astype(np.float32)
        self.centre, self.basis = reduced(features, settings.content_size)
        self.content = (features.items.values - self.centre) @ self.basis * features.items.present[:, None]
        self.present = features.items.present
        profile = 0 if self.histories.profile is None else self.histories.profile.shape[1]
        self.reviews = read(features.reviews, events, settings.review_size)
        self.items = Items(len(features.items), self.basis.shape[1], settings.size)
        self.network = Network(settings, len(self.kinds) + 1, profile, self.reviews.shape[1])
        self.both = nn.ModuleList([self.items, self.network])
        steps = max(1, len(self.histories.item) // settings.tokens)
        self.descent = Descent(
            self.both, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
            warmup=min(100, 2 * steps), average=min(max(1 - 1 / steps, 0.9), 0.999),
        )  # fmt: skip
        self.epochs = settings.affordable(events, features)

    def epoch(self) -> None:
        """One pass over all events, cut into windows and thinned anew."""
        if not len(self.targets):
            return
        self.both.train()
        s = self.settings
        histories = drop_events(self.histories, s.event_dropout, self.rng)
        flat = tokens(histories, self.kinds, self.usual)
        positive = (confidence(histories, 0.0) > 0) & ~again(histories.row, flat.item)
        begin, end = windows(histories.start, s.length, self.rng)
        for part in batches(end - begin, s.tokens, self.rng):
            self._step(flat, positive, histories.start, begin[part], end[part], histories.profile)

    def _step(
        self, flat: Tokens, positive: np.ndarray, start: Rows, begin: Rows, end: Rows, profile: Floats | None
    ) -> None:
        s = self.settings
        owner = np.searchsorted(start, begin, "right") - 1
        place = begin[:, None] + np.arange((end - begin).max())  # (B, T): the event that each position must name
        inside = place < end[:, None]
        targets, shares = self._answers(
            flat, positive, place[inside], np.broadcast_to(start[owner + 1][:, None], place.shape)[inside]
        )
        useful = shares.sum(axis=1) > 0
        if not useful.any():
            return
        negatives = self._negatives(targets[useful, 0])
        inputs = np.where(inside, flat.item[np.minimum(place, len(flat.item) - 1)], self.known[0])[:, :-1]
        rows = (
            self.known
            if len(self.known) <= s.exact
            else np.unique(np.concatenate([inputs.ravel(), targets[useful].ravel(), negatives.rows]))
        )
        table = self._table(rows)

        def look(wanted: np.ndarray) -> torch.Tensor:
            return functional.embedding(torch.from_numpy(np.searchsorted(rows, wanted)), table)

        before = np.minimum(place[:, :-1], len(flat.item) - 1)
        person = None if profile is None else torch.from_numpy(profile[owner])
        hidden = self.network(
            look(inputs), torch.from_numpy(flat.kind[before]), torch.from_numpy(flat.gap[before]),
            torch.from_numpy(flat.weight[before]), person,
            torch.from_numpy(self.reviews[flat.review[before]]) if self.reviews.shape[1] else None,
        )  # fmt: skip
        at = torch.from_numpy(np.flatnonzero(inside.ravel())[useful])
        loss = softmax_loss(
            hidden.reshape(-1, s.size)[at], look(negatives.rows), look(targets[useful]),
            torch.from_numpy(targets[useful]), torch.from_numpy(shares[useful]), torch.from_numpy(negatives.rows),
            None if negatives.all else torch.from_numpy(negatives.log_chance),
        )  # fmt: skip
        self.descent.step(loss)

    def _answers(self, flat: Tokens, positive: np.ndarray, place: Rows, end: Rows) -> tuple[Rows, Floats]:
        """What each position must name, (N, A), and the shares, which sum to one where there is any answer."""
        ahead = self.settings.ahead
        ways = 1 if ahead <= 0 else min(4, 1 + int(np.log(0.02) / np.log(min(ahead, 0.9))))
        at = place[:, None] + np.arange(ways)
        real = at < end[:, None]
        at = np.minimum(at, len(flat.item) - 1)
        shares = np.where(
            real & positive[at], np.float32(max(ahead, 1e-9)) ** np.arange(ways, dtype=np.float32), np.float32(0)
        )
        shares[shares[:, 0] == 0] = 0  # a position stands for its next event; where that is no answer it is passed over
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), np.float32(1e-9))
        return np.where(shares > 0, flat.item[at], flat.item[place][:, None]), shares.astype(np.float32)

    def _negatives(self, targets: Rows) -> Negatives:
        if len(self.targets) <= self.settings.exact:
            return everything(self.targets)
        return drawn(targets, self.targets, self.chance, self.settings.negatives, self.rng)

    def _table(self, rows: Rows) -> torch.Tensor:
        """Item vectors of a step. An id is left out only where content can speak, and content only where the id does."""
        s, present = self.settings, self.present[rows]
        keep = ~present | (self.rng.random(len(rows)) >= s.id_dropout)
        speaks = present & (~keep | (self.rng.random(len(rows)) >= s.content_dropout))
        table = self.items(
            torch.from_numpy(rows), torch.from_numpy(self.content[rows]), torch.from_numpy(speaks),
            torch.from_numpy(keep.astype(np.float32)),
        )  # fmt: skip
        return functional.dropout(table, 0.0)

    def model(self) -> SequenceModel:
        """The averaged weights as a model; items that training never met are their content alone."""
        from sensorium.models.sequence.sequence import SequenceModel

        known = np.zeros(len(self.present), np.float32)
        known[self.known] = 1
        with self.descent.averaged(), torch.inference_mode():
            vectors = self.items(
                torch.arange(len(known)),
                torch.from_numpy(self.content),
                torch.from_numpy(self.present),
                torch.from_numpy(known),
            )
            return SequenceModel(
                settings=self.settings, items=vectors.numpy().copy(), weights=weights_of(self.network),
                centre=self.centre, basis=self.basis, projection=self.items.content.weight.detach().numpy().T.copy(),
                missing=self.items.missing.detach().numpy().copy(), kinds=self.kinds, usual=self.usual,
                reviews=self.reviews,
                profile=0 if self.histories.profile is None else int(self.histories.profile.shape[1]),
            )  # fmt: skip


def again(row: Rows, item: Rows) -> np.ndarray:
    """Whether an event repeats an item its history already holds: nobody needs to be told of what they have."""
    order = np.lexsort((np.arange(len(item)), item, row))
    repeated = np.zeros(len(item), bool)
    repeated[order[1:]] = (row[order[1:]] == row[order[:-1]]) & (item[order[1:]] == item[order[:-1]])
    return repeated


def batches(lengths: Rows, tokens: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Windows of like length together, at most about `tokens` places a batch, in random order."""
    order = np.argsort(lengths + rng.random(len(lengths)), kind="stable")
    cuts, begin = [0], 0
    for place, length in enumerate(lengths[order].tolist()):
        if place > begin and (place - begin + 1) * length > tokens:
            cuts.append(place)
            begin = place
    cuts.append(len(order))
    parts = [order[a:b] for a, b in pairwise(cuts) if b > a]
    for turn in rng.permutation(len(parts)):
        yield parts[turn]


def read(reviews: Vectors | None, events: Events, size: int) -> Floats:
    """What was written, in the leading directions of what `events` say: (R + 1, C), the last row nothing at all, as a
    review without a vector is; C is 0 where these events say nothing."""
    said = np.zeros(0, np.int64) if events.review is None else events.review.astype(np.int64)
    rows = np.unique(said[said >= 0])
    if reviews is None or not reviews.present[rows].any():
        return np.zeros((1, 0), np.float32)
    centre, basis = reduced(Features(reviews.take(rows)), size)
    table = (reviews.values - centre) @ basis * reviews.present[:, None]
    return np.concatenate([table, np.zeros((1, table.shape[1]))]).astype(np.float32)


def reduced(features: Features, size: int) -> tuple[Floats, Floats]:
    """Centre (D,) and basis (D, C): the leading directions of the content, scaled so that entries are about one.

    Where fusion keeps modalities in blocks, each lends its first columns (whitening sorts them by spread, then makes
    the spreads equal, so that principal axes of the whole would choose at random); else the principal axes.
    """
    items = features.items
    values = items.values[items.present].astype(np.float64)
    if not len(values):
        return np.zeros(items.size, np.float32), np.zeros((items.size, 1), np.float32)
    centre = values.mean(axis=0)
    values = values - centre
    if items.size <= size:
        basis = np.eye(items.size)
    elif features.blocks:
        share = max(1, size // len(features.blocks))
        columns = np.concatenate([np.arange(items.size)[block][:share] for block in features.blocks.values()])
        basis = np.eye(items.size)[:, columns]
    else:
        axes = np.linalg.eigh(values.T @ values)[1][:, ::-1][:, :size]
        basis = axes * np.where(
            axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1
        )  # one sign for ever
    spread = np.sqrt(np.mean((values @ basis) ** 2))
    return centre.astype(np.float32), (basis / max(spread, 1e-9)).astype(np.float32)
