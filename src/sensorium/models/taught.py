"""Texts read as people would have it: what a word is worth is learnt from who chose what, and holds for items nobody has met."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows, unit
from sensorium.data.content import TOKENS
from sensorium.data.events import Events, Histories
from sensorium.errors import ShapeError
from sensorium.models.model import Features
from sensorium.settings import INF, within

LEAST = 1e-9  # of a sum of kernels, before its logarithm


@dataclass(frozen=True)
class Taught:
    """score(i) = temper · log Σ over the history of exp(sharpness · (cos(i, event's item) − 1)) + the fame of i's content.

    An item's vector (`size`) is a bag of learnt vectors of its tokens plus a linear map of its fused content, scaled to
    length one; its fame likewise. Nothing belongs to an item itself, so one that nobody has met has all of it. Learnt are
    both, and sharpness and temper, by a softmax: each item of a person must be told by the person's others from `negatives`
    items drawn evenly, for that is how new items are met. A rare token would be an item's name: a share `dropout` of the
    tokens and columns is hidden in each step, and a token must stand in `least` items that people chose.

    **Cost** of an epoch 6 · (E + U/batch · negatives) · size · (D + negatives) multiply-adds; with 0 epochs nothing is learnt.
    **Source** Y. Wei et al., "Contrastive learning for cold-start recommendation" (2021); the kernel is that of `Content`.
    """

    size: int = 128
    epochs: int = 4
    dropout: float = 0.6
    learning_rate: float = 0.003
    weight_decay: float = 0.001
    sharpness: float = 6.0
    negatives: int = 1024
    batch: int = 128
    longest: int = 20
    least: int = 2
    most: int = 50_000
    work: float = 20.0

    def __post_init__(self) -> None:
        within(
            self, size=(1, 4096), epochs=(0, INF), dropout=(0, 0.99), sharpness=(0, 64), negatives=(1, INF), batch=(1, INF),
            longest=(2, INF), least=(1, INF), most=(1, INF), work=(0, INF),
        )  # fmt: skip

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> TaughtModel:
        from sensorium.models.taught_training import Training
        from sensorium.train.loop import reproducible

        with reproducible(rng):
            training = Training(self, events, features, rng)
            for _ in range(training.epochs):
                training.epoch()
            return training.model()


@dataclass(frozen=True, eq=False)
class TaughtModel:
    """**Shapes** known (V,) ascending numbers of tokens; table (V, S + 1): a token's vector, its fame the last column;
    map (D, S + 1) and centre (S + 1,): the same for fused content; vectors (I, S) of length one, or zeros; fame (I,).
    """

    known: Rows
    table: Floats
    map: Floats
    centre: Floats
    vectors: Floats
    fame: Floats
    sharpness: float
    temper: float

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). An item without content is as near to everything as one at right angles, and of middling fame."""
        history = histories.matrix(len(self.vectors))
        history.data = np.maximum(history.data, 0)
        used = np.unique(history.indices)
        vectors, fame = self.vectors, self.fame
        if candidates is not None:
            vectors, fame = vectors[candidates], fame[candidates]
        kernel = self.vectors[used] @ vectors.T
        kernel -= 1
        kernel *= np.float32(self.sharpness)
        np.exp(kernel, out=kernel)
        total = np.asarray(history[:, used] @ kernel, np.float32)
        return np.asarray(np.float32(self.temper) * np.log(total + np.float32(LEAST)) + fame, np.float32)

    def extended(self, features: Features) -> TaughtModel:
        """New items are read as the known ones were."""
        rows = np.arange(len(self.vectors), len(features.items))
        if not len(rows):
            return self
        vectors, fame = self.read(features.take(rows))
        return replace(self, vectors=np.concatenate([self.vectors, vectors]), fame=np.concatenate([self.fame, fame]))

    def read(self, features: Features) -> tuple[Floats, Floats]:
        """Vectors (I, S) and fame (I,) of items by what they say. **Raises** ShapeError where content has another size."""
        bag = bags(features, self.known)
        if features.items.present.any() and features.items.size != len(self.map):
            raise ShapeError(
                f"taught: new items have content of size {features.items.size}, the model was trained on {len(self.map)}; "
                "train again"
            )
        placed = np.asarray(bag @ self.table, np.float32)
        placed += (
            self.centre if features.items.size != len(self.map) else features.items.values @ self.map + self.centre
        )
        there = (np.diff(bag.indptr) > 0) | features.items.present
        vectors = np.where(there[:, None], unit(placed[:, :-1]), 0).astype(np.float32)
        return vectors, np.where(there, placed[:, -1], self.centre[-1]).astype(np.float32)


def numbers(features: Features) -> Rows:
    """The numbers of every item's tokens, 0 where it has fewer. **Shapes** (I, L), L = 0 where nobody wrote them down."""
    view = features.views.get(TOKENS)
    if view is None:
        return np.zeros((len(features.items), 0), np.int64)
    return np.where(view.present[:, None], view.values, 0).astype(np.int64)


def bags(features: Features, known: Rows) -> sparse.csr_array:
    """Which known tokens an item has, divided by the √ of their number. **Shapes** (I, V)."""
    given = numbers(features)
    place = np.minimum(np.searchsorted(known, given), max(len(known) - 1, 0))
    there = (given > 0) & (known[place] == given) if len(known) else np.zeros(given.shape, bool)
    count = there.sum(1)
    values = np.repeat(1 / np.sqrt(np.maximum(count, 1)), count).astype(np.float32)
    return sparse.csr_array(
        (values, place[there], np.concatenate([[0], np.cumsum(count)])), shape=(len(given), len(known))
    )
