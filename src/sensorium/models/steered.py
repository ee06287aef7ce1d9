"""A fitted model whose sense of content counts some modalities more, others less, for one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sensorium.arrays import Floats, Rows, slices
from sensorium.data.events import Histories
from sensorium.models.blend import BlendModel
from sensorium.models.content import CHUNK, ContentModel, carried
from sensorium.models.model import Features, Model, Parts


def steered(model: Model, weights: Mapping[str, float]) -> tuple[Model, str]:
    """The model with its content weighed so, and a line where it could not be done in full ("" where it was).

    Content nearness can be steered where fusion keeps modalities in columns of their own, alone or as a member of a blend;
    what the crowd did has no modality.
    """
    weights = {modality: weight for modality, weight in weights.items() if weight != 1}
    if not weights:
        return model, ""
    named = ", ".join(sorted(weights))
    if isinstance(model, ContentModel) and model.blocks:
        lacking = sorted(set(weights) - {name for name, _, _ in model.blocks})
        return Steered(model, weights), f"no item has {', '.join(lacking)} to weigh" if lacking else ""
    if isinstance(model, BlendModel):
        turned = {name: steered(member, weights) for name, member in model.members.items()}
        told = [line for name, (member, line) in turned.items() if isinstance(member, Steered)]
        if told:
            return replace(model, members={name: member for name, (member, _) in turned.items()}), told[0]
        return model, f"the weights of {named} change nothing: no member of this blend compares content by modality"
    return model, f"the weights of {named} change nothing: {type(model).__name__} does not compare content by modality"


@dataclass(frozen=True, eq=False)
class Steered:
    """Content nearness with √weight on the columns of each modality, and rows of length one again.

    The catalogue's vectors are not copied: the weights go on the history's side, and each row's length under them (I,)
    is worked out from the squares of its blocks. **Cost** that of ContentModel, and O(I · D) once.
    """

    content: ContentModel
    weights: Mapping[str, float]
    lengths: Floats = field(init=False)

    def __post_init__(self) -> None:
        squares = np.zeros(len(self.content.values), np.float32)
        for name, begin, end in self.content.blocks:
            block = self.content.values[:, begin:end]
            squares += np.float32(self.weights.get(name, 1.0)) * np.einsum("id,id->i", block, block)
        object.__setattr__(self, "lengths", np.sqrt(squares))

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). An item that has none of the modalities that count scores 0."""
        own = self.content
        history = histories.matrix(len(own.values), decay=own.decay, strength=own.strength)
        used = np.unique(history.indices)
        used = used[self.lengths[used] > 1e-6]
        by_item = history.tocsc()
        columns = np.arange(len(own.values)) if candidates is None else candidates
        there = self.lengths[columns] > 1e-6
        right = (own.values if candidates is None else own.values[columns]).T
        scale = np.float32(own.sharpness) / np.where(there, self.lengths[columns], 1)
        out = np.zeros((len(histories), len(columns)), np.float32)
        for part in slices(len(used), CHUNK):
            kernel = self._left(used[part]) @ right
            kernel *= scale
            kernel -= np.float32(own.sharpness)
            np.exp(kernel, out=kernel)
            out += by_item[:, used[part]] @ kernel
        out[:, ~there] = 0
        return out

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """As of ContentModel: exact by event and modality."""
        own = self.content
        weight = np.where(self.lengths[history.item] > 1e-6, carried(history, own.decay, own.strength), 0)
        left, right = self._left(history.item.astype(np.int64)), own.values[candidates]
        there = self.lengths[candidates] > 1e-6
        right = np.divide(right, np.where(there, self.lengths[candidates], 1)[:, None], dtype=np.float32)
        cosines = np.stack([right[:, b:e] @ left[:, b:e].T for _, b, e in own.blocks], axis=2)
        total, floor = cosines.sum(2), np.exp(-own.sharpness)
        near = np.abs(total) < 1e-4
        rise = np.exp(own.sharpness * (total - 1)) - floor
        slope = np.where(near, own.sharpness * floor, rise / np.where(near, 1, total))
        values = np.where(there[:, None, None], (slope * weight)[:, :, None] * cosines, 0)
        base = np.where(there, floor * weight.sum(), 0)
        return Parts(values.astype(np.float32), base.astype(np.float32), tuple(name for name, _, _ in own.blocks))

    def extended(self, features: Features) -> Steered:
        """The same over a catalogue that has grown."""
        return Steered(self.content.extended(features), self.weights)

    def _left(self, rows: Rows) -> Floats:
        """Vectors (N, D) of history items, each modality weighed, divided by their length under the weights."""
        left = self.content.values[rows].copy()
        for name, begin, end in self.content.blocks:
            left[:, begin:end] *= np.float32(self.weights.get(name, 1.0))
        lengths = self.lengths[rows]
        return np.divide(left, np.where(lengths > 1e-6, lengths, 1)[:, None], dtype=np.float32)
