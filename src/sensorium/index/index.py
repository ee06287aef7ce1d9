"""What an index is, and which one a catalogue gets: exact up to 50,000 items, an inverted file beyond."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.index.approximate import Ivf
from sensorium.index.exact import Exact

EXACT_UP_TO = 50_000


class Index(Protocol):
    """Finds the vectors of greatest inner product. It holds nothing that its vectors do not: it can be rebuilt."""

    @property
    def vectors(self) -> Floats: ...

    def __len__(self) -> int: ...

    def search(self, queries: Floats, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[Rows, Floats]:
        """**Shapes** queries (B, D), allowed (I,) → rows (B, K), scores (B, K); −1 and −inf where nothing is left."""
        ...


def index_of(vectors: Floats, present: NDArray[np.bool_] | None = None, *, seed: int = 0) -> Index:
    """The index for these vectors (I, D): exact up to 50,000 rows, approximate beyond."""
    if len(vectors) <= EXACT_UP_TO:
        return Exact(vectors, present)
    return Ivf().build(vectors, present, seed=seed)
