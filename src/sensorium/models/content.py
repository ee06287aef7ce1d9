"""Content nearness: what looks, reads and sounds like the things a person chose. Needs no crowd, so it serves the newest item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sensorium.arrays import Floats, Rows, slices, unit
from sensorium.data.events import Events, Fold, Histories, confidence
from sensorium.data.vectors import Vectors
from sensorium.models.choose import climb
from sensorium.models.model import Features, Parts, Pull
from sensorium.models.nearness import Cosines
from sensorium.settings import INF, within

SHARPNESS = (0.5, 4.0, 8.0, 16.0)  # 0.5 ranks as the mean cosine does
CHUNK = 1024  # rows of a similarity matrix that are held at once


@dataclass(frozen=True)
class Content:
    """score(i) = Σ over the history of decay^(steps back) · exp(sharpness · (cos(i, event's item) − 1)).

    A small `sharpness` is the mean cosine of the history, a large one the single nearest event. `weights` count a modality more or
    less inside the cosine (1 where not named), where fusion keeps modalities apart.

    **Cost** fitting nothing; a batch that touches N distinct items costs N · I · D multiplications.
    **Source** a kernel density over the history: E. Parzen, "On estimation of a probability density function and mode"
    (1962); its kernel: R. Fisher, "Dispersion on a sphere" (1953).
    """

    sharpness: float = 8.0
    decay: float = 0.9
    strength: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within(self, sharpness=(0, 64), decay=(0, 1), strength=(0, INF))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> ContentModel:
        """Reads the features alone."""
        vectors = reweighted(features, self.weights)
        return ContentModel(
            vectors.values, vectors.present, features.edges(), self.sharpness, self.decay, self.strength,
            dict(self.weights),
        )  # fmt: skip

    def sees(self, features: Features) -> bool:
        """Whether any modality that is there has a weight above 0."""
        return not features.blocks or any(self.weights.get(modality, 1.0) > 0 for modality in features.blocks)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Content:
        """The sharpness, the decay and the weights of modalities with the best NDCG@10 on validation."""
        if not features.items.present.any():
            return self
        start = self
        if not self.sees(features):
            start = replace(self, weights={})  # chosen for other modalities: here they would leave nothing
        cosines = Cosines.of(fold, features)

        def value(settings: Content) -> float:
            return cosines.ndcg(settings.sharpness, settings.decay, settings.strength, settings.weights)

        chosen, height = climb(start, {"sharpness": SHARPNESS, "decay": (1.0, 0.9, 0.8, 0.6)}, value)
        if len(features.blocks) > 1:
            for modality in sorted(features.blocks):
                for weight in (0.0, 0.3, 2.0, 4.0):
                    candidate = replace(chosen, weights={**chosen.weights, modality: weight})
                    if not candidate.sees(features):
                        continue
                    reached = value(candidate)
                    if reached > height:
                        chosen, height = candidate, reached
            chosen, _ = climb(chosen, {"sharpness": SHARPNESS}, value)  # other weights, other cosines
        return chosen


@dataclass(frozen=True, eq=False)
class ContentModel:
    """**Shapes** values (I, D) unit rows, present (I,), blocks: (modality, first column, end) each."""

    values: Floats
    present: np.ndarray
    blocks: tuple[tuple[str, int, int], ...]
    sharpness: float
    decay: float
    strength: float
    weights: dict[str, float]

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). An item without content scores 0, below any that has some."""
        history = histories.matrix(len(self.values), decay=self.decay, strength=self.strength)
        used = np.unique(history.indices)
        used = used[self.present[used]]
        columns = np.arange(len(self.values)) if candidates is None else candidates
        right = self.values[columns].T * np.float32(self.sharpness)
        out = np.zeros((len(histories), len(columns)), np.float32)
        by_item = history.tocsc()
        for part in slices(len(used), CHUNK):
            kernel = self.values[used[part]] @ right
            kernel -= np.float32(self.sharpness)
            np.exp(kernel, out=kernel)
            out += by_item[:, used[part]] @ kernel
        out[:, ~self.present[columns]] = 0
        return out

    def tables(self) -> tuple[Floats, ...]:
        """**Shapes** (I, D)."""
        return (self.values,)

    def pulls(self, history: Histories) -> tuple[Pull, ...]:
        """Towards each distinct item of the history that has content."""
        weight = carried(history, self.decay, self.strength)
        used = (weight != 0) & self.present[history.item]
        return (Pull(self.values[history.item[used]], weight[used], self.sharpness),)

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """Exact by event and modality: exp(s·(cos − 1)) = exp(−s) + slope · cos, and a cosine is a sum over modalities."""
        weight = carried(history, self.decay, self.strength)
        weight = np.where(self.present[history.item], weight, 0)
        left, right = self.values[history.item], self.values[candidates]
        blocks = self.blocks or (("content", 0, left.shape[1]),)
        cosines = np.stack([right[:, b:e] @ left[:, b:e].T for _, b, e in blocks], axis=2)
        total = cosines.sum(2)
        floor = np.exp(-self.sharpness)
        near = np.abs(total) < 1e-4
        rise = np.exp(self.sharpness * (total - 1)) - floor
        slope = np.where(near, self.sharpness * floor, rise / np.where(near, 1, total))
        there = self.present[candidates][:, None]
        values = np.where(there[:, :, None], (slope * weight)[:, :, None] * cosines, 0)
        base = np.where(there[:, 0], floor * weight.sum(), 0)
        return Parts(values.astype(np.float32), base.astype(np.float32), tuple(name for name, _, _ in blocks))

    def extended(self, features: Features) -> ContentModel:
        """The same nearness over a catalogue that has grown."""
        vectors = reweighted(features, self.weights)
        return replace(self, values=vectors.values, present=vectors.present)


def reweighted(features: Features, weights: Mapping[str, float]) -> Vectors:
    """The fused vectors with the blocks of some modalities scaled by √weight, and rows of length one again."""
    values = features.items.values
    if any(weights.get(modality, 1.0) != 1.0 for modality in features.blocks):
        values = values.copy()
        for modality, columns in features.blocks.items():
            values[:, columns] *= np.float32(np.sqrt(weights.get(modality, 1.0)))
    values = unit(values)
    present = features.items.present & (np.abs(values).max(1, initial=0) > 0)
    return Vectors(values, present, features.items.source)


def carried(history: Histories, decay: float, strength: float) -> Floats:
    """What each event of one history adds to its row of `Histories.matrix` (N,): of several events for one item, the
    strongest alone counts, the others carry 0.
    """
    values = confidence(history, strength)
    if decay != 1:
        values *= np.float32(decay) ** np.arange(len(values) - 1, -1, -1, dtype=np.float32)
    if len(set(history.item.tolist())) == len(values):  # as nearly always
        return values
    order = np.lexsort((np.abs(values), history.item))
    item, last = history.item[order], np.ones(len(order), bool)
    np.not_equal(item[1:], item[:-1], out=last[:-1])
    kept = np.zeros(len(order), np.float32)
    kept[order[last]] = values[order[last]]
    return kept
