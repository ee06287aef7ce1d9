"""Vectors that came with the catalogue: passed on as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.content import Content, Ready
from sensorium.errors import DataError


@dataclass(frozen=True)
class GivenEncoder:
    """**Shapes** a ready vector → itself, (size,). **Raises** DataError where one has another size or is not finite."""

    modality: str
    size: int

    @property
    def fingerprint(self) -> str:
        return f"given/{self.modality}/{self.size}"

    @classmethod
    def fit(cls, modality: str, contents: Sequence[Content | None]) -> GivenEncoder:
        """An encoder for vectors as long as the first one."""
        for content in contents:
            if isinstance(content, Ready):
                return cls(modality, len(content.values))
        return cls(modality, 1)

    def encode(self, contents: Sequence[Content]) -> Floats:
        out = np.zeros((len(contents), self.size), np.float32)
        for row, content in enumerate(contents):
            if not isinstance(content, Ready):
                raise DataError(f"{self.modality}: a vector was expected, not {type(content).__name__.lower()}")
            if content.values.shape != (self.size,):
                shape = content.values.shape
                raise DataError(f"{self.modality}: a vector of shape {shape} among vectors of size {self.size}")
            if not np.isfinite(content.values).all():
                raise DataError(f"{self.modality}: a vector with a value that is not finite")
            out[row] = content.values
        return out
