"""What an encoder is: it turns contents of one modality into vectors of one size. Absence and caching live in `run.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from sensorium.arrays import Floats
from sensorium.data.content import Content

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total); total 0 where it is not known."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress of those who want none."""


class Encoder(Protocol):
    """**Shapes** encode: B contents → (B, size) float32, finite, no None among them; the same content gives the same vector.

    `fingerprint` changes whenever the vectors would (weights, preprocessing, size), and only then.
    A content that cannot be decoded raises MediaError for that content alone: `run.py` encodes it by itself then.
    Rounding may depend on the neighbours in a call; an encoder that streams, and batches by itself, gives the number of them
    as `together`, so that a run that was cut off goes on at the border of a batch.
    """

    @property
    def modality(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, contents: Sequence[Content]) -> Floats: ...


class Only(dict[str, Encoder]):
    """All encoders that a run has, by modality: files that none of them reads are a problem, since somebody sent them."""


@runtime_checkable
class Names(Protocol):
    """An encoder that also says which of its known classes it sees: what ConSE stands on.

    **Shapes** probabilities: B contents → (B, K) float32, rows sum to at most 1; `classes` their K English names.
    """

    classes: Sequence[str]

    def probabilities(self, contents: Sequence[Content]) -> Floats: ...
