"""How words learn what they are worth: a softmax over each person's items, each told by the others. Imports torch at its top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from sensorium.arrays import Rows, slices
from sensorium.data.events import Events, confidence
from sensorium.models.model import Features
from sensorium.models.taught import LEAST, bags, numbers
from sensorium.train.loop import Descent

if TYPE_CHECKING:
    from sensorium.models.taught import Taught, TaughtModel


class Reader(nn.Module):
    """From tokens and content to a vector and its fame."""

    def __init__(self, settings: Taught, rarity: np.ndarray, size: int) -> None:
        super().__init__()
        self.words = nn.Parameter(0.05 * torch.randn(len(rarity), settings.size))
        self.rarity = nn.Parameter(torch.from_numpy(rarity))  # how loud a word speaks
        self.famous = nn.Parameter(torch.zeros(len(rarity), 1))
        self.content = nn.Linear(size, settings.size)
        self.fame = nn.Linear(size, 1)
        nn.init.zeros_(self.fame.weight)
        nn.init.zeros_(self.fame.bias)
        self.sharpness = nn.Parameter(torch.tensor(settings.sharpness))
        self.temper = nn.Parameter(torch.tensor(1.0))


class Training:
    """One run; `epoch()` takes it a pass further, `model()` is what it has learnt so far."""

    def __init__(self, settings: Taught, events: Events, features: Features, rng: np.random.Generator) -> None:
        self.settings, self.features, self.rng = settings, features, rng
        liked = events.take(confidence(events, 0.0) > 0)
        self.choices = liked.matrix()
        counts = np.asarray((self.choices > 0).sum(0)).ravel()
        self.warm = np.flatnonzero(counts > 0).astype(np.int64)
        self.many = np.flatnonzero(np.diff(self.choices.indptr) >= 2)
        given = numbers(features)[self.warm]
        found, often = np.unique(given[given > 0], return_counts=True)
        kept = np.argsort(-often, kind="stable")[: settings.most]
        kept = np.sort(kept[often[kept] >= settings.least])
        self.known = found[kept]
        rarity = np.log(max(len(self.warm), 2) / often[kept]).astype(np.float32) + np.float32(0.01)
        self.bags = bags(features, self.known)
        self.values = torch.from_numpy(features.items.values)
        self.reader = Reader(
            settings, rarity / max(float(rarity.mean()) if len(rarity) else 1.0, 1e-6), features.items.size
        )
        steps = max(1, -(-len(self.many) // settings.batch))
        self.descent = Descent(
            self.reader, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, warmup=min(50, steps),
            average=min(max(1 - 1 / steps, 0.9), 0.99),
        )  # fmt: skip
        able = len(self.many) and len(self.warm) > 2
        self.epochs = min(settings.epochs, max(1, int(settings.work / self._work()))) if able and settings.epochs else 0

    def _work(self) -> float:
        """10¹² multiply-adds of one epoch with gradients."""
        s = self.settings
        read = self.choices.nnz + len(self.many) / s.batch * s.negatives
        return max(3e-12 * s.size * (read * (self.values.shape[1] + 64) + self.choices.nnz * s.negatives), 1e-12)

    def epoch(self) -> None:
        """One pass over all people with two items or more."""
        order = self.rng.permutation(self.many)
        for part in slices(len(order), self.settings.batch):
            self.descent.step(self._loss(np.sort(order[part])))

    def _loss(self, people: Rows) -> Tensor:
        s, r = self.settings, self.reader
        row, item = self._items(people)
        negative = np.sort(self.rng.choice(self.warm, min(s.negatives, len(self.warm)), replace=False))
        vectors, fame = self._read(np.concatenate([item, negative]))
        own, other, loud = vectors[: len(item)], vectors[len(item) :], fame[len(item) :]
        rows = torch.from_numpy(row)
        # Every item of a person is asked for in turn, and told by the others: the sum over all of them less its own share.
        near = torch.exp(r.sharpness * (own @ other.T - 1))
        every = torch.zeros((len(people), len(negative))).index_add(0, rows, near)
        rivals = r.temper * torch.log((every[rows] - near).clamp_min(LEAST)) + loud
        theirs = torch.from_numpy(self.choices[people][:, negative].toarray() > 0)
        rivals = rivals.masked_fill(theirs[rows], float("-inf"))
        one, two = (torch.from_numpy(side) for side in pairs(row))
        close = torch.exp(r.sharpness * ((own[one] * own[two]).sum(1) - 1))
        told = torch.zeros(len(item)).index_add(0, two, close)
        right = r.temper * torch.log(told + LEAST) + fame[: len(item)]
        return (torch.logaddexp(rivals.logsumexp(1), right) - right).mean()

    def _items(self, people: Rows) -> tuple[Rows, Rows]:
        """Who chose what, at most `longest` items a person, by chance."""
        some = self.choices[people]
        row = np.repeat(np.arange(len(people)), np.diff(some.indptr))
        order = np.lexsort((self.rng.random(len(row)), row))
        place = np.arange(len(row)) - np.repeat(some.indptr[:-1], np.diff(some.indptr))
        kept = np.sort(order[place < self.settings.longest])
        return row[kept].astype(np.int64), some.indices[kept].astype(np.int64)

    def _read(self, items: Rows) -> tuple[Tensor, Tensor]:
        """Vectors and fame of items, of whose tokens and columns some are hidden."""
        s, r = self.settings, self.reader
        bag = self.bags[items]
        heard = self.rng.random(bag.nnz) >= s.dropout
        row = np.repeat(np.arange(len(items)), np.diff(bag.indptr))[heard]
        left = np.bincount(row, minlength=len(items))
        start = torch.from_numpy(np.concatenate([[0], np.cumsum(left)[:-1]]))
        column = torch.from_numpy(bag.indices[heard].astype(np.int64))
        weight = torch.from_numpy((1 / np.sqrt(np.maximum(left, 1)))[row].astype(np.float32))
        values = self.values[items]
        shown = self.rng.random(values.shape, np.float32) >= s.dropout  # ten times as fast as torch's
        vectors = r.content(values * torch.from_numpy(shown) / (1 - s.dropout))
        fame = r.fame(values)
        if len(column):
            vectors = vectors + functional.embedding_bag(
                column, r.words, start, mode="sum", per_sample_weights=r.rarity[column] * weight
            )
            fame = fame + functional.embedding_bag(column, r.famous, start, mode="sum", per_sample_weights=weight)
        return functional.normalize(vectors, dim=1), fame[:, 0]

    def model(self) -> TaughtModel:
        """The averaged weights as a model."""
        from dataclasses import replace

        from sensorium.models.taught import TaughtModel

        r = self.reader
        with self.descent.averaged(), torch.inference_mode():
            table = torch.cat([r.words * r.rarity[:, None], r.famous], dim=1)
            map_ = torch.cat([r.content.weight, r.fame.weight]).T
            centre = torch.cat([r.content.bias, r.fame.bias])
            size = self.settings.size
            model = TaughtModel(
                known=self.known, table=_array(table), map=_array(map_), centre=_array(centre),
                vectors=np.zeros((0, size), np.float32), fame=np.zeros(0, np.float32),
                sharpness=float(r.sharpness), temper=float(r.temper),
            )  # fmt: skip
        vectors, fame = model.read(self.features)
        return replace(model, vectors=vectors, fame=fame)


def pairs(row: Rows) -> tuple[Rows, Rows]:
    """All ordered pairs of different places with the same row; `row` ascends.

    >>> [side.tolist() for side in pairs(np.array([0, 0, 3]))]
    [[1, 0], [0, 1]]
    """
    same = sparse.csr_array((np.ones(len(row), np.int8), row, np.arange(len(row) + 1)))
    found = sparse.coo_array(same @ same.T)
    off = found.row != found.col
    first, second = found.row[off].astype(np.int64), found.col[off].astype(np.int64)
    order = np.lexsort((first, second))
    return first[order], second[order]


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().numpy(), np.float32).copy()
