"""A sequence model: self-attention (or an LSTM) over typed, timed events, trained to foretell each next one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sensorium.arrays import Floats, Rows, slices
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import RecipeError, ShapeError
from sensorium.models.model import Features
from sensorium.models.sequence.tokens import tokens
from sensorium.settings import INF, within
from sensorium.train.loop import best_epoch, reproducible

if TYPE_CHECKING:
    from sensorium.models.sequence.net import Histories as Network


@dataclass(frozen=True)
class Sequence:
    """Settings of the sequence model; fitted to events, it becomes a SequenceModel.

    An item is its content, projected, plus a vector of its own that is left out for a share `id_dropout` of items in
    every step, so that content learns to stand alone and a new item is served by it. The loss is a softmax over all
    items with events where there are at most `exact` of them, else over `negatives` sampled ones with the logQ
    correction; after every event the model must name the next item and, with shares falling by `ahead`, the ones after it.

    Training is bounded by `work`, in 10¹² multiply-adds estimated from the sizes of the data, not by a clock: the same
    data must give the same model on a slow machine. One core does about 0.015 of these a second.

    **Cost** epochs · 3 · E · (layers · (12 · size² + 2 · size · length) + W · size) multiply-adds for a softmax over W items,
    and in every step the table of items (`epoch_work`).
    **Source** Kang & McAuley 2018 (SASRec); Klenitskiy & Vasilev 2023 (its softmax); Tikhonovich et al. 2025 (eSASRec).
    """

    size: int = 64
    layers: int = 2
    heads: int = 2
    length: int = 50
    epochs: int = 30
    encoder: Literal["attention", "lstm"] = "attention"
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    dropout: float = 0.2
    id_dropout: float = 0.1
    content_dropout: float = 0.1
    event_dropout: float = 0.1
    ahead: float = 0.3
    content_size: int = 128
    review_size: int = 64
    exact: int = 5_000
    negatives: int = 1_024
    tokens: int = 1_024
    work: float = 6.0

    def __post_init__(self) -> None:
        within(self, heads=(1, INF))
        if self.size % self.heads:
            raise RecipeError(f"sequence: size {self.size} is not a multiple of heads {self.heads}; change one of them")
        within(
            self, size=(1, INF), layers=(1, INF), length=(1, INF), epochs=(1, INF), content_size=(1, INF),
            review_size=(1, INF), negatives=(1, INF), tokens=(1, INF), exact=(0, INF), learning_rate=(0, INF),
            weight_decay=(0, INF), dropout=(0, 0.99), id_dropout=(0, 1), content_dropout=(0, 1), event_dropout=(0, 1),
            ahead=(0, 1), work=(0, INF),
        )  # fmt: skip

    def epoch_work(self, events: Events, features: Features) -> float:
        """10¹² multiply-adds of one epoch, with gradients: the network and the softmax for every event, the item table."""
        count, known = len(events), int(np.count_nonzero(np.bincount(events.item, minlength=events.items)))
        network = self.layers * (12 * self.size**2 + 2 * self.size * self.length)
        wide = known if known <= self.exact else self.negatives
        table = min(known, wide + 2 * self.tokens) * min(features.items.size, self.content_size) * self.size
        steps = 1 + count / self.tokens
        return 3e-12 * (count * (network + wide * self.size) + steps * (table + 4 * events.items * self.size))

    def affordable(self, events: Events, features: Features) -> int:
        """The most epochs that `work` allows, at least one and at most `epochs`."""
        return min(self.epochs, max(1, int(self.work / max(self.epoch_work(events, features), 1e-12))))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> SequenceModel:
        """Trains for `epochs`, or for what `work` allows, and keeps the averaged weights."""
        from sensorium.models.sequence.training import Training

        with reproducible(rng):
            training = Training(self, events, features, rng)
            for _ in range(training.epochs):
                training.epoch()
            return training.model()

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Sequence:
        """The same settings with the number of epochs that foretells the fold's targets best (NDCG@10)."""
        return self.learnt(fold, features, rng=rng)[0]

    def learnt(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> tuple[Sequence, SequenceModel]:
        """`tuned`, and the model of the fold's training part after that many epochs, which the search holds already.

        See `best_epoch` for when it looks and when it ends: what a few hundred people say of one epoch is noisy.
        """
        from sensorium.models.sequence.training import Training
        from sensorium.train.ranking import rank_targets

        with reproducible(rng):
            chosen, model, _ = best_epoch(
                Training(self, fold.train, features, rng),
                lambda model: rank_targets(model.score, fold, features.people, most=3_000).ndcg(10),
            )
        return replace(self, epochs=chosen), model


@dataclass(frozen=True)
class Lstm(Sequence):
    """The sequence model with a recurrent encoder instead of attention: the line-up's `lstm`."""

    encoder: Literal["attention", "lstm"] = "lstm"


@dataclass(frozen=True, eq=False)
class SequenceModel:
    """A fitted sequence model. A score is a dot product of a person's vector with an item's.

    **Shapes** items (I, S): finished item vectors, of which new items' are made by content alone; weights: the history
    network's parameters by name; basis (D, C) and centre (D,): from the fused space to what `projection` (C, S) takes;
    missing (S,): the vector of an item without content; usual: what an event of each of `kinds` weighed in training;
    reviews (R + 1, C): what was written, by the row that an event names, the last row nothing.
    """

    settings: Sequence
    items: Floats
    weights: dict[str, Floats]
    centre: Floats
    basis: Floats
    projection: Floats
    missing: Floats
    kinds: tuple[str, ...]
    usual: Floats
    profile: int
    reviews: Floats

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). **Cost** one pass of the network over each history's newest `length` events."""
        items = self.items if candidates is None else self.items[candidates]
        return self.user_vectors(histories) @ items.T

    def item_vectors(self) -> Floats:
        """**Shapes** (I, S)."""
        return self.items

    def user_vectors(self, histories: Histories) -> Floats:
        """**Shapes** (B, S): where each history points after its newest event; the start token's answer if it is empty."""
        import torch

        out = np.zeros((len(histories), self.items.shape[1]), np.float32)
        order = np.argsort(np.diff(histories.start), kind="stable")  # like lengths together: little is filled up
        table = torch.from_numpy(self.items.copy())  # what a snapshot holds is read-only
        with torch.inference_mode():
            for part in slices(len(order), 256):
                given = {
                    name: torch.from_numpy(column) for name, column in self.inputs(histories.take(order[part])).items()
                }
                length = given.pop("length")
                hidden = self.network(table[given.pop("item")], **given)
                out[order[part]] = hidden[torch.arange(len(hidden)), length].numpy()
        return out

    def inputs(self, histories: Histories) -> dict[str, np.ndarray]:
        """What the network takes: item, kind, gap, weight (B, T) of each history's newest events, filled up at the end;
        length (B,): how many of them are real; where the model knows people, profile (B, P); where it read reviews,
        review (B, T, C), those that it met in training: what was written since is read after the next.
        """
        flat, end = tokens(histories, self.kinds, self.usual), histories.start[1:]
        begin = np.maximum(histories.start[:-1], end - self.settings.length)
        length = (end - begin).astype(np.int64)
        place = begin[:, None] + np.arange(int(length.max(initial=0)))
        place = np.where(place < end[:, None], place, 0) if len(flat.item) else place[:, :0]
        out = {name: getattr(flat, name)[place] for name in ("item", "kind", "gap", "weight")} | {"length": length}
        if self.profile:
            given = histories.profile
            out["profile"] = np.zeros((len(histories), self.profile), np.float32) if given is None else given
        if self.reviews.shape[1]:
            out["review"] = self.reviews[flat.review[place]]
        return out

    def export(self, path: Path) -> Path:
        """Writes the model as one ONNX file, for any runtime and without torch, and returns its place.

        Its inputs are those of `inputs`, its output `scores` (B, I); batch and length are free. With onnxruntime:
        `InferenceSession(path).run(["scores"], model.inputs(histories))`. **Raises** MissingExtra without `onnx`.
        """
        from sensorium.models.sequence.export import written

        return written(self, path)

    @cached_property
    def network(self) -> Network:
        """The history network, built from its weights when first asked."""
        import torch

        from sensorium.models.sequence.net import Histories as Network

        # Building draws random weights, which are then overwritten. What is built while scoring must stay exportable.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            network = Network(self.settings, len(self.kinds) + 1, self.profile, self.reviews.shape[1])
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.weights.items()})
        return network.eval()

    def extended(self, features: Features) -> SequenceModel:
        """New items by their content alone: the vector they would have had with the id left out."""
        fresh = features.items.take(np.arange(len(self.items), len(features.items)))
        if not len(fresh):
            return self
        if fresh.size != len(self.centre):
            raise ShapeError(
                f"sequence: new items have content of size {fresh.size}, the model was trained on {len(self.centre)}; train again"
            )
        spoken = (fresh.values - self.centre) @ self.basis @ self.projection
        vectors = np.where(fresh.present[:, None], spoken, self.missing).astype(np.float32)
        return replace(self, items=np.concatenate([self.items, vectors]))
