"""The default fusion: every modality whitened, weighted, side by side. Nothing is learnt from people; nothing can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sensorium.arrays import digest
from sensorium.data.content import ATTRIBUTES, AUDIO, IMAGE, LOOK, TEXT, VECTOR, VIDEO, WORDS
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError, ShapeError
from sensorium.fuse.fusion import Views
from sensorium.fuse.whiten import Whitening, whitening
from sensorium.settings import nearest

MODALITIES = (ATTRIBUTES, AUDIO, IMAGE, LOOK, TEXT, VIDEO, WORDS, "reviews")


@dataclass(frozen=True)
class Concat:
    """Whitened blocks side by side.

    `size` is the most columns one modality gets, `shrinkage` how far the spreads of its axes are pulled together (see
    whiten.py), `weights` how much a modality counts in a cosine between items that both have it (1 where not named;
    0 leaves it out).
    """

    size: int = 512
    shrinkage: float = 0.1
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RecipeError(f"fusion: size {self.size} should be at least 1")
        if not 0 <= self.shrinkage <= 1:
            raise RecipeError(f"fusion: shrinkage {self.shrinkage} should lie in 0..1")
        check_weights(self.weights)

    def fit(self, views: Views, events: Events, *, rng: np.random.Generator) -> ConcatModel:
        """Reads the views alone; `events` and `rng` are not used. **Cost** about 1 s for 10,000 × 1,280."""
        row_count(views)
        wanted = [m for m in sorted(views) if views[m].present.any() and self.weights.get(m, 1.0) > 0]
        parts = {m: whitening(views[m], self.size, shrinkage=self.shrinkage) for m in wanted}
        weights = {m: float(self.weights.get(m, 1.0)) for m in wanted}
        return ConcatModel(parts, weights, "concat:" + fingerprint(parts, weights))


@dataclass(frozen=True, eq=False)
class ConcatModel:
    """Whitenings and weights by modality.

    A row is √weight × whitened unit vector for each modality it has, zeros for those it lacks, and then scaled to length
    one over what is there. So the cosine of two items is Σ weight · cosine over the modalities they *share*, divided by
    √(sum of weights of one × sum of weights of the other): with the same modalities it is their weighted mean; between
    one with text and picture and one with a picture alone it is led by the pictures, smaller than between two bare
    pictures that agree as well, for half of the one is unknown. Zero blocks keep the sum exact by modality, which a
    guessed block would not.
    """

    parts: dict[str, Whitening]
    weights: dict[str, float]
    source: str

    @property
    def size(self) -> int:
        """D, the columns of all blocks."""
        return sum(part.size for part in self.parts.values()) or 1

    @property
    def blocks(self) -> Mapping[str, slice]:
        """The columns of each modality, in the order of their names."""
        place, out = 0, {}
        for modality in sorted(self.parts):
            out[modality] = slice(place, place + self.parts[modality].size)
            place += self.parts[modality].size
        return out

    def fuse(self, views: Views) -> Vectors:
        """**Shapes** views (I, D_m) → (I, D). A modality that was not fitted is left out; one that is missing is zeros."""
        rows = row_count(views)
        values = np.zeros((rows, self.size), np.float32)
        mass = np.zeros(rows, np.float32)
        for modality, columns in self.blocks.items():
            if modality not in views:
                continue
            block = self.parts[modality].apply(views[modality], modality)
            values[:, columns] = np.float32(np.sqrt(self.weights[modality])) * block.values
            mass += np.float32(self.weights[modality]) * block.present
        present = mass > 0
        values /= np.sqrt(np.where(present, mass, 1))[:, None]
        return Vectors(values, present, self.source)


def check_weights(weights: Mapping[str, float]) -> None:
    """**Raises** RecipeError for a modality nobody knows, or a weight below zero."""
    for modality, weight in weights.items():
        if modality not in MODALITIES and not modality.startswith(VECTOR):
            raise RecipeError(f"fusion.weights: unknown modality {modality!r}; {nearest(modality, MODALITIES)}")
        if not 0 <= weight < np.inf:
            raise RecipeError(f"fusion.weights.{modality}: {weight} should be a number of at least 0")


def row_count(views: Views) -> int:
    """I, the rows all views share; 0 where there is no view. **Raises** ShapeError where they differ."""
    counts = {modality: len(view) for modality, view in views.items()}
    if len(set(counts.values())) > 1:
        raise ShapeError(f"views have different numbers of rows: {counts}; encode one catalogue for all of them")
    return next(iter(counts.values()), 0)


def fingerprint(parts: Mapping[str, Whitening], *more: object) -> str:
    """The name of what the whitenings hold, and of whatever else decides the space."""
    pieces: list[str | bytes] = [repr(m) for m in more]
    for modality in sorted(parts):
        pieces += [modality, parts[modality].centre.tobytes(), parts[modality].axes.tobytes()]
    return digest(*pieces)
