"""What a fusion is: settings that are fitted to views and events, and a model that puts any item into one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from sensorium.data.events import Events
from sensorium.data.vectors import Vectors

Views = Mapping[str, Vectors]  # by modality; all of the same number of rows


class FusionModel(Protocol):
    """Learned state of a fusion (arrays, numbers, strings). An item with no view at all is absent from the result.

    `blocks` names the columns that one modality filled, where the fusion keeps them apart; else it is empty.
    """

    @property
    def blocks(self) -> Mapping[str, slice]: ...

    def fuse(self, views: Views) -> Vectors:
        """**Shapes** views (I, D_m) → (I, D), rows of unit length where present. Missing modalities are ordinary."""
        ...


class Fusion(Protocol):
    """Settings of a fusion. `events` may be empty: fusions that do not learn from people ignore it."""

    def fit(self, views: Views, events: Events, *, rng: np.random.Generator) -> FusionModel: ...


class Aligner(FusionModel, Protocol):
    """A fusion that also puts a single modality into the common space, so that text finds pictures, sound and video."""

    def project(self, modality: str, values: Vectors) -> Vectors:
        """**Shapes** (I, D_m) → (I, D) in the common space, unit rows."""
        ...
