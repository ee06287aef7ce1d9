"""ConSE: a picture or a sound put into the space of words by the names of the classes it is taken for. The baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Floats, unit
from sensorium.data.content import Text
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Encoder, Names
from sensorium.errors import ShapeError


@dataclass(frozen=True)
class Conse:
    """Convex combination of semantic embeddings: the vectors of the `k` likeliest class names, weighted by probability.

    Nothing is learnt from the catalogue: it needs a classifier (`Names`) and a text encoder, no pairs.
    **Source** M. Norouzi et al., "Zero-shot learning by convex combination of semantic embeddings" (2014).
    """

    k: int = 10

    def fit(self, names: Names, text: Encoder) -> ConseModel:
        """Encodes the names of all classes once."""
        vectors = text.encode([Text((("class", name.replace("_", " ")),)) for name in names.classes])
        return ConseModel(unit(vectors), self.k, "conse:" + text.fingerprint)


@dataclass(frozen=True, eq=False)
class ConseModel:
    """**Shapes** names (K, D): the class names in the text encoder's space, unit rows."""

    names: Floats
    k: int
    source: str

    def place(self, probabilities: Floats) -> Floats:
        """**Shapes** class probabilities (B, K) → (B, D), unit rows in the text encoder's space.

        **Raises** ShapeError where K is not the number of names.

        >>> model = ConseModel(np.eye(3, dtype=np.float32), 2, "toy")
        >>> model.place(np.array([[0.6, 0.3, 0.1]], dtype=np.float32)).round(2).tolist()
        [[0.8899999856948853, 0.44999998807907104, 0.0]]
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self.names):
            raise ShapeError(
                f"probabilities {probabilities.shape} do not fit {len(self.names)} class names; use one classifier for both"
            )
        kept = probabilities.copy()
        if self.k < kept.shape[1]:
            edge = np.partition(kept, -self.k, axis=1)[:, -self.k][:, None]
            kept[kept < edge] = 0
        kept /= np.maximum(kept.sum(1, keepdims=True), 1e-12)
        return unit(kept @ self.names)

    def put(self, names: Names, contents: Sequence[object]) -> Vectors:
        """The contents of one modality (B of them) in the text encoder's space; text itself stays where its encoder puts it."""
        values = self.place(names.probabilities(list(contents)))  # type: ignore[arg-type]
        return Vectors(values, np.any(values != 0, axis=1), self.source)
