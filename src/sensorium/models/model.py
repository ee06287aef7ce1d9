"""What a recommender is. Settings are fitted into a model; a model scores histories; nothing else is needed to take part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, Fold, Histories
from sensorium.data.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Features:
    """What a model may know of items and people besides the events.

    `items` (I, D) is the fused space; `views` the encoders' vectors by modality (I, D_m), of which fused is made;
    `people` (U, P) what people say of themselves. `blocks` names the columns of `items` that one modality filled,
    where fusion keeps them apart (concatenation does), so that a dot product splits exactly into modalities.
    `reviews` (R, D_t) are the vectors of what people wrote, a row a text; an event names its row (Events.review).
    """

    items: Vectors
    views: Mapping[str, Vectors] = field(default_factory=dict)
    people: Vectors | None = None
    blocks: Mapping[str, slice] = field(default_factory=dict)
    reviews: Vectors | None = None

    def without_content(self) -> Features:
        """The same world seen by ids alone."""
        return Features(Vectors.absent(len(self.items), 1, "none"))

    def edges(self) -> tuple[tuple[str, int, int], ...]:
        """The blocks as plain numbers, (modality, first column, end) each, in the order of their columns."""
        return tuple(sorted(((m, int(b.start), int(b.stop)) for m, b in self.blocks.items()), key=lambda edge: edge[1]))

    def take(self, rows: Rows) -> Features:
        """The features of some items."""
        views = {modality: view.take(rows) for modality, view in self.views.items()}
        return replace(self, items=self.items.take(rows), views=views)


@dataclass(frozen=True, eq=False)
class Parts:
    """A score taken apart: `values.sum((1, 2)) + base` is the score.

    **Shapes** values (C, N, S): for each candidate, by event of the history and by source (`crowd`, or a modality);
    base (C,): what no event carried (popularity, the profile).
    """

    values: Floats
    base: Floats
    sources: tuple[str, ...]


class Model(Protocol):
    """Learned state. Every field is an array, a number, a string, a tuple or another model: so it can be saved."""

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C), C = all items the model knows where `candidates` is None. Higher is better; always finite."""
        ...

    def extended(self, features: Features) -> Model:
        """The same model for a catalogue that has grown: `features` covers old rows and, after them, new ones."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A model that can take its score apart exactly; the others are explained by leaving events out."""

    def parts(self, history: Histories, candidates: Rows) -> Parts: ...


@runtime_checkable
class Embeds(Protocol):
    """A model whose score is a dot product, so that an index can find its candidates."""

    def item_vectors(self) -> Floats: ...

    def user_vectors(self, histories: Histories) -> Floats: ...


@dataclass(frozen=True, eq=False)
class Pull:
    """What one history asks of an item by its vector v: Σ weight · exp(sharpness · (vector · v − 1)); with `sharpness` 0
    Σ weight · vector · v.

    **Shapes** vectors (N, D), weights (N,). An item whose vector is zero has none, and is worth 0. `share`: what it counts
    in a blend, where scores stand on the scale of all items; None where the score is taken as it is.
    """

    vectors: Floats
    weights: Floats
    sharpness: float = 0.0
    share: float | None = None

    def scores(self, items: Floats) -> Floats:
        """**Shapes** items (C, D) → (C,)."""
        if not self.sharpness:
            return items @ (self.weights @ self.vectors)
        near = items @ (np.float32(self.sharpness) * self.vectors).T
        near -= np.float32(self.sharpness)
        np.exp(near, out=near)
        return near @ self.weights


@runtime_checkable
class Pulls(Protocol):
    """A model that scores an item by vectors of the item alone, so that cells of alike items find its best (index/cells.py)."""

    def tables(self) -> tuple[Floats, ...] | None:
        """The items' vectors (I, D), a table for each pull; None where this model is not of that kind."""
        ...

    def pulls(self, history: Histories) -> tuple[Pull, ...]:
        """What one history (B = 1) asks of each table."""
        ...


class Recommender(Protocol):
    """Settings: a frozen dataclass. The same events, features and `rng` seed give the same bytes."""

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Model: ...


@runtime_checkable
class Tunes(Protocol):
    """Settings that validation can choose: returns settings of the same class, fitted to nothing."""

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Recommender: ...


@runtime_checkable
class Updates(Protocol):
    """A model that goes on learning from where it stands, cheaper than fitting anew; `events` is all that is known now."""

    def updated(self, events: Events, features: Features) -> Model: ...
