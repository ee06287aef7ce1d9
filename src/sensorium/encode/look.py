"""Look: how a picture looks, beside what it shows. What the last layer forgets (colour, pattern, cut, where it is) stands out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.content import IMAGE, LOOK, Content
from sensorium.encode import efficientnet
from sensorium.encode.image import BATCH, EfficientNetEncoder, Pixels, pictures
from sensorium.encode.pool import decoders
from sensorium.encode.session import weights_digest
from sensorium.encode.streams import encoded_contents, encoded_files
from sensorium.errors import MediaError

GRID = 3  # cells a side
EDGES = np.linspace(0, efficientnet.MIDDLE_SIDE, GRID + 1).round().astype(int)


@dataclass(frozen=True)
class LookEncoder:
    """**Shapes** a picture → (1008,): the 112 channels of EfficientNet-Lite0 two thirds up, their means over 3 × 3 cells.

    Takes the pictures that `sees` takes. Where both are asked for, one pass of the network gives both: see `Both`.
    """

    sees: EfficientNetEncoder = field(default_factory=EfficientNetEncoder)
    modality: ClassVar[str] = LOOK
    reads: ClassVar[str] = IMAGE  # the modality of the catalogue that it encodes
    size: ClassVar[int] = efficientnet.MIDDLE * GRID * GRID

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"look/efficientnet-lite0 block 10, 3 × 3/1:{weights_digest(self.sees.weights)}"

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        found = pictures(contents, efficientnet.SIDE, decoders(self.sees.limits))
        return encoded_files(found, lambda pixels: self.both(pixels)[:, self.sees.size :], BATCH)

    def both(self, pixels: Sequence[Pixels]) -> Floats:
        """Decoded pictures (224, 224, 3) → (B, 1280 + 1008): what they show, and how they look."""
        features, middle = self.sees.run(pixels, "features", efficientnet.MIDDLE_OUTPUT)
        return np.concatenate([features, in_cells(middle)], axis=1)


@dataclass(frozen=True)
class Both:
    """A picture encoder and its second view, as one encoder: their vectors side by side, from one pass."""

    look: LookEncoder
    modality: ClassVar[str] = IMAGE

    @property
    def parts(self) -> tuple[EfficientNetEncoder, LookEncoder]:
        """Whose vectors they are, in order."""
        return self.look.sees, self.look

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def fingerprint(self) -> str:
        return " | ".join(part.fingerprint for part in self.parts)

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vectors of each content, in order."""
        found = pictures(contents, efficientnet.SIDE, decoders(self.look.sees.limits))
        return encoded_files(found, self.look.both, BATCH)


def in_cells(maps: Floats) -> Floats:
    """The means over a grid of cells. **Shapes** (B, C, S, S) → (B, cells · C), row by row."""
    rows = [maps[:, :, top:end].mean(2) for top, end in itertools.pairwise(EDGES)]
    cells = [row[:, :, left:end].mean(2) for row in rows for left, end in itertools.pairwise(EDGES)]
    return np.concatenate(cells, axis=1)
