"""Vectors of one source: a row an item, zero where the item lacks the modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Vectors:
    """One vector a row, and which rows have one.

    **Shapes** values (I, D) float32, present (I,) bool. `source` names what made them (an encoder's fingerprint).
    """

    values: Floats
    present: NDArray[np.bool_]
    source: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.present.shape != self.values.shape[:1]:
            raise ShapeError(
                f"vectors of {self.source}: values {self.values.shape} and present {self.present.shape} do not line up"
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """D, the length of a vector."""
        return int(self.values.shape[1])

    @classmethod
    def absent(cls, count: int, size: int, source: str) -> Vectors:
        """Vectors of which no row is present."""
        return cls(np.zeros((count, size), np.float32), np.zeros(count, bool), source)

    def take(self, rows: Rows) -> Vectors:
        """The vectors of some rows, in that order."""
        return Vectors(self.values[rows], self.present[rows], self.source)

    def masked(self, keep: NDArray[np.bool_]) -> Vectors:
        """The same vectors with the rows outside `keep` made absent."""
        present = self.present & keep
        return Vectors(np.where(present[:, None], self.values, np.float32(0)), present, self.source)

    def over(self, rows: Rows, others: Vectors, count: int) -> Vectors:
        """`count` rows: those of `others` in some of them, these in the rest, and none in what is left."""
        values, present = np.zeros((count, self.size), np.float32), np.zeros(count, bool)
        values[: len(self)], present[: len(self)] = self.values, self.present
        values[rows], present[rows] = others.values, others.present
        return Vectors(values, present, self.source)

    def extended(self, more: Vectors) -> Vectors:
        """These rows, then `more`. **Raises** ShapeError where the sizes differ."""
        if more.size != self.size:
            raise ShapeError(f"vectors of {more.source} have size {more.size}, those of {self.source} {self.size}")
        return Vectors(
            np.concatenate([self.values, more.values]), np.concatenate([self.present, more.present]), self.source
        )
