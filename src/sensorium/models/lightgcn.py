"""LightGCN without people's own vectors: item vectors learnt so that, spread over the graph, they foretell what was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows, unit
from sensorium.data.events import Events, Fold, Histories
from sensorium.models.model import Features
from sensorium.models.neighbours import neighbours
from sensorium.settings import INF, within
from sensorium.train.loop import best_epoch, reproducible


@dataclass(frozen=True)
class LightGcn:
    """score = cosine(person, item), both means over the `layers` of a light graph convolution of the item vectors.

    A person is the sum of their items' vectors over the edges of the graph, at no time a row of a table: so a stranger's
    history is folded in by the same sum, and the answer is taken out of the question while training. A frozen graph of
    content look-alikes adds `content` of a look-alike's vector to an item, and makes the vectors of items without events.

    Each epoch a share `prune` of the edges is left out, those between busy people and popular items first, and each
    modality with probability `modality_dropout`. The loss is a softmax over all items up to `exact` of them, else over
    `negatives`, at `temperature`. Training is bounded by `work`, in 10¹² multiply-adds, as the sequence model's is.

    **Cost** epochs · 3 · size · E · (2 · layers · E ÷ batch + W) multiply-adds for E edges and a softmax over W items.
    **Source** X. He et al., "LightGCN" (2020); frozen content graph, degree-sensitive pruning: X. Zhou, Z. Shen, FREEDOM
    (2023); people as the sum of their items: as in EASE-like autoencoders, and R. Raziperchikolaei et al. (2021).
    """

    size: int = 64
    layers: int = 2
    epochs: int = 60
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    temperature: float = 0.15
    prune: float = 0.1
    content: float = 0.3
    modality_dropout: float = 0.2
    nearest: int = 10
    batch: int = 2_048
    exact: int = 2_000
    negatives: int = 1_024
    work: float = 8.0

    def __post_init__(self) -> None:
        within(
            self, size=(1, INF), layers=(1, 8), epochs=(1, INF), temperature=(1e-3, INF), prune=(0, 0.9), content=(0, INF),
            modality_dropout=(0, 1), nearest=(1, INF), batch=(1, INF), exact=(1, INF), negatives=(1, INF), work=(0, INF), learning_rate=(0, INF),
            weight_decay=(0, INF),
        )  # fmt: skip

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> LightGcnModel:
        """Trains for `epochs`, or for what `work` allows, and keeps the averaged weights."""
        from sensorium.models.lightgcn_training import Training

        with reproducible(rng):
            training = Training(self, events, features, rng)
            for _ in range(training.epochs):
                training.epoch()
            return training.model()

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator, patience: int = 3) -> LightGcn:
        """The same settings with the number of epochs that foretells validation best (NDCG@20), found in one run.

        See `best_epoch` for when it looks and when it ends.
        """
        from sensorium.models.lightgcn_training import Training
        from sensorium.train.ranking import rank_targets

        with reproducible(rng):
            training = Training(self, fold.train, features, rng)
            chosen, _, _ = best_epoch(
                training,
                lambda model: rank_targets(model.score, fold, features.people, most=3_000).ndcg(20),
                patience=patience,
            )
        return replace(self, epochs=chosen)


@dataclass(frozen=True, eq=False)
class LightGcnModel:
    """**Shapes** items (I, S) of length one; givers (I, S): what an item adds to the vector of a person who chose it.

    content (I, D), known (I,), edges, nearest: how items without events are placed among their look-alikes.
    """

    items: Floats
    givers: Floats
    content: Floats
    known: NDArray[np.bool_]
    edges: tuple[tuple[str, int, int], ...]
    nearest: int

    def item_vectors(self) -> Floats:
        """**Shapes** (I, S)."""
        return self.items

    def user_vectors(self, histories: Histories) -> Floats:
        """**Shapes** (B, S): the sum over the history, of length one."""
        return unit(histories.matrix(len(self.items)) @ self.givers)

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). **Cost** (events + C) · S multiplications a history."""
        return self.user_vectors(histories) @ (self.items if candidates is None else self.items[candidates]).T

    def extended(self, features: Features) -> LightGcnModel:
        """New items are the mean of those they look like; one that looks like nobody scores 0."""
        more = len(features.items) - len(self.items)
        if not more:
            return self
        pad = ((0, more), (0, 0))
        grown = replace(
            self, items=np.pad(self.items, pad), givers=np.pad(self.givers, pad), known=np.pad(self.known, (0, more)),
            content=features.items.values,
        )  # fmt: skip
        return grown.adopting(np.arange(len(self.items), len(features.items)))

    def adopting(self, rows: Rows) -> LightGcnModel:
        """`rows`, which have no events, as the mean of their look-alikes."""
        graph = neighbours(self.content, self.edges, np.flatnonzero(self.known), rows, self.nearest).T.tocsr()[rows]
        items, givers = self.items.copy(), self.givers.copy()
        items[rows], givers[rows] = unit(graph @ items), graph @ givers
        return replace(self, items=items, givers=givers)


def edges_of(features: Features) -> tuple[tuple[str, int, int], ...]:
    """The modalities' columns of the fused space; all of it as one where fusion does not keep them apart."""
    return features.edges() or (("content", 0, features.items.size),)


def positive(events: Events) -> sparse.csr_array:
    """Who chose what, 0/1 (U, I); what was skipped is no edge."""
    matrix = events.matrix()
    matrix.data = np.maximum(matrix.data, 0)
    matrix.eliminate_zeros()
    matrix.data[:] = 1
    return matrix
