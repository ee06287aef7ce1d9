"""What tuning content nearness stands on: the cosines by modality, made once, of which every setting is a cheap mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Fold, Histories
from sensorium.models.choose import PEOPLE
from sensorium.models.model import Features
from sensorium.train.ranking import Score, asked, rank_targets

MEMORY = 5 << 29  # bytes of cosines held at once; fewer people are asked where they would take more


@dataclass(frozen=True, eq=False)
class Cosines:
    """Dot products of the items that some people touched with all items, by modality.

    **Shapes** used (N,); dots: (N, I) each; squares: (I,) each, the squared length of a modality's block. With weights w
    the cosine of two items is Σ w·dot ÷ √(Σ w·square · Σ w·square), which is what reweighting the vectors gives.
    """

    used: Rows
    dots: Mapping[str, Floats]
    squares: Mapping[str, Floats]
    present: np.ndarray
    fold: Fold
    features: Features
    people: int

    @classmethod
    def of(cls, fold: Fold, features: Features, *, memory: int = MEMORY) -> Cosines:
        """For as many of the people of validation as memory allows, `PEOPLE` at the most.

        **Cost** N · I · D multiplications, N · I · 4 bytes a modality.
        """
        values, present = features.items.values, features.items.present
        blocks = dict(features.blocks) or {"content": slice(0, values.shape[1])}
        most = max(memory // (4 * len(values) * len(blocks)), 1)
        people = PEOPLE
        while True:
            batches = asked(fold, features.people, most=people)
            used = np.unique(np.concatenate([batch.histories.item for batch in batches] or [np.zeros(0, np.int64)]))
            used = used[present[used]]
            if len(used) <= most or people <= 50:
                break
            people = max(min(people * most // len(used), people - 1), 50)
        return cls(
            used, {name: values[used, columns] @ values[:, columns].T for name, columns in blocks.items()},
            {name: np.einsum("ij,ij->i", values[:, columns], values[:, columns]) for name, columns in blocks.items()},
            present, fold, features, people,
        )  # fmt: skip

    def ndcg(self, sharpness: float, decay: float, strength: float, weights: Mapping[str, float]) -> float:
        """NDCG@10 on validation of `Content` with these settings."""
        score = self.score(sharpness, decay, strength, weights)
        return rank_targets(score, self.fold, self.features.people, most=self.people).ndcg()

    def score(self, sharpness: float, decay: float, strength: float, weights: Mapping[str, float]) -> Score:
        """The scores that a fitted `ContentModel` gives to histories of these people."""
        length = np.sqrt(sum(np.float32(weights.get(name, 1.0)) * square for name, square in self.squares.items()))
        there = self.present & (length > 0)
        scale = np.divide(1, length, out=np.zeros_like(length), where=there)
        kernel = np.zeros((len(self.used), len(length)), np.float32)
        for name, dot in self.dots.items():
            if weights.get(name, 1.0):
                kernel += np.float32(weights.get(name, 1.0)) * dot
        kernel *= np.float32(sharpness) * scale[self.used][:, None]
        kernel *= scale[None, :]
        kernel -= np.float32(sharpness)
        np.exp(kernel, out=kernel)
        kernel[~there[self.used]] = 0
        kernel[:, ~there] = 0

        def scored(histories: Histories) -> Floats:
            history = histories.matrix(len(length), decay=decay, strength=strength)
            return np.asarray(history[:, self.used] @ kernel, np.float32)

        return scored
