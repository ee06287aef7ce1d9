"""How the light graph network is trained: layers of a sparse graph, a leave-one-out person, a softmax. Imports torch at its top."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.nn import functional

from sensorium.arrays import Floats, Rows, unit
from sensorium.data.events import Events
from sensorium.models.lightgcn import LightGcn, LightGcnModel, edges_of, positive
from sensorium.models.model import Features
from sensorium.models.neighbours import neighbours
from sensorium.train.loop import Descent
from sensorium.train.losses import softmax_loss
from sensorium.train.negatives import drawn, everything


class Spread(torch.autograd.Function):
    """matrix @ vectors with a constant sparse matrix, and its gradient: scipy's product, the same bytes every time."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, matrix: sparse.csr_array, back: sparse.csr_array) -> torch.Tensor:
        ctx.back = back
        return torch.from_numpy(np.asarray(matrix @ vectors.detach().numpy(), np.float32))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return torch.from_numpy(np.asarray(ctx.back @ gradients[0].numpy(), np.float32)), None, None


class Training:
    """One run of training; `epoch()` takes it a pass further, `model()` is what it has learnt so far."""

    def __init__(self, settings: LightGcn, events: Events, features: Features, rng: np.random.Generator) -> None:
        self.settings, self.rng, self.features = settings, rng, features
        self.matrix = positive(events)
        counts = np.bincount(self.matrix.indices, minlength=events.items)
        self.known = counts > 0
        self.chance = (counts / max(counts.sum(), 1)).astype(np.float32)
        self.targets = np.flatnonzero(self.known)
        self.user = np.repeat(np.arange(events.users), np.diff(self.matrix.indptr))
        self.item = self.matrix.indices.astype(np.int64)
        rows = np.flatnonzero(self.known & features.items.present)
        self.views = [
            neighbours(features.items.values, (edge,), rows, rows, settings.nearest) for edge in edges_of(features)
        ]
        self.table = nn.Embedding(events.items, settings.size)
        nn.init.normal_(self.table.weight, std=0.1)
        self.steps = max(1, len(self.item) // settings.batch)
        self.descent = Descent(
            self.table, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
            warmup=min(50, self.steps), average=min(max(1 - 1 / self.steps, 0.9), 0.99),
        )  # fmt: skip
        self.epochs = min(settings.epochs, max(1, int(settings.work / max(self._work(), 1e-12))))

    def _work(self) -> float:
        """10¹² multiply-adds of one epoch, with gradients: the layers in every step, the softmax for every edge."""
        s = self.settings
        wide = len(self.targets) if len(self.targets) <= s.exact else s.negatives
        spread = 2 * s.layers * len(self.item) + sum(view.nnz for view in self.views) + 4 * len(self.known)
        return 3e-12 * s.size * ((self.steps + 1) * spread + len(self.item) * wide)

    def epoch(self) -> None:
        """One pass over all edges, the graph thinned anew."""
        if not len(self.targets):
            return
        s = self.settings
        self.graph = normalised(thinned(self.matrix, s.prune, self.rng))
        self.back = self.graph.T.tocsr()
        heard = [self.rng.random() >= s.modality_dropout for _ in self.views]
        self.content = mean([view for view, kept in zip(self.views, heard, strict=True) if kept])
        order = self.rng.permutation(len(self.item))
        for part in np.array_split(order, self.steps):
            self._step(part)

    def _step(self, part: Rows) -> None:
        s = self.settings
        givers, items = self.layers(self.graph, self.back)
        people, place = np.unique(self.user[part], return_inverse=True)
        history = self.graph[people]
        person = Spread.apply(givers, history, history.T.tocsr())[torch.from_numpy(place)]
        answer = torch.from_numpy(self.item[part])
        share = np.asarray(self.graph[self.user[part], self.item[part]]).ravel()  # 0 where the edge was pruned
        person = person - torch.from_numpy(share)[:, None] * givers[answer]
        alive = torch.from_numpy(np.flatnonzero(np.asarray((history != 0).sum(1)).ravel()[place] > (share > 0)))
        if not len(alive):
            return
        negatives = everything(self.targets)
        if len(self.targets) > s.exact:
            negatives = drawn(self.item[part], self.targets, self.chance, s.negatives, self.rng)
        rows = torch.from_numpy(negatives.rows)
        loss = softmax_loss(
            functional.normalize(person[alive], dim=1) / s.temperature, items[rows], items[answer[alive]][:, None],
            answer[alive][:, None], torch.ones(len(alive), 1), rows,
            None if negatives.all else torch.from_numpy(negatives.log_chance),
        )  # fmt: skip
        self.descent.step(loss)

    def layers(self, graph: sparse.csr_array, back: sparse.csr_array) -> tuple[torch.Tensor, torch.Tensor]:
        """What items give to people (the mean of layers 0 … L − 1), and what they are (that of all, with content, unit)."""
        layer = self.table.weight
        below, whole = torch.zeros_like(layer), layer
        for _ in range(self.settings.layers):
            below = below + layer
            layer = Spread.apply(Spread.apply(layer, graph, back), back, graph)
            whole = whole + layer
        if self.content is not None and self.settings.content:
            added = Spread.apply(whole, self.content.T.tocsr(), self.content)
            whole = whole + self.settings.content * added
        return below / self.settings.layers, functional.normalize(whole, dim=1)

    def model(self) -> LightGcnModel:
        """The averaged weights over the whole graph; items without events are placed by their look-alikes."""
        s, content = self.settings, self.features.items.values
        graph = normalised(self.matrix)
        self.content = mean(self.views)
        with self.descent.averaged(), torch.no_grad():
            givers, items = (part.numpy().copy() for part in self.layers(graph, graph.T.tocsr()))
        popular = np.maximum(np.bincount(self.item, minlength=len(self.known)), 1)
        givers = (givers / np.sqrt(popular)[:, None] * self.known[:, None]).astype(np.float32)
        model = LightGcnModel(
            unit(items * self.known[:, None]), givers, content, self.known, edges_of(self.features), s.nearest
        )
        return model.adopting(np.flatnonzero(~self.known))


def normalised(matrix: sparse.csr_array) -> sparse.csr_array:
    """Each edge divided by the roots of its two degrees."""
    people = np.maximum(np.diff(matrix.indptr), 1) ** -0.5
    items = np.maximum(np.bincount(matrix.indices, minlength=matrix.shape[1]), 1) ** -0.5
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    data = (people[row] * items[matrix.indices]).astype(np.float32)
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def thinned(matrix: sparse.csr_array, share: float, rng: np.random.Generator) -> sparse.csr_array:
    """The graph without `share` of its edges, an edge's chance to stay being its weight 1 ÷ √(degree · degree)."""
    keep = matrix.nnz - int(share * matrix.nnz)
    if keep == matrix.nnz:
        return matrix
    keys = rng.random(matrix.nnz) ** (1 / np.maximum(normalised(matrix).data, 1e-9))  # Efraimidis and Spirakis 2006
    kept = np.zeros(matrix.nnz, bool)
    kept[np.argpartition(-keys, keep - 1)[:keep]] = True
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    thin: sparse.csr_array = sparse.csr_array(
        (matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape
    )
    return thin


def mean(views: list[sparse.csr_array]) -> sparse.csr_array | None:
    """The mean of the modalities' graphs; an item that one of them lacks counts by the others."""
    if not any(view.nnz for view in views):
        return None
    total = sum(views[1:], views[0])
    size: Floats = np.asarray(total.sum(0)).ravel()
    return (total @ sparse.diags_array((1 / np.maximum(size, 1e-9)).astype(np.float32))).tocsr()
