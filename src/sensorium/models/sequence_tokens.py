"""What a sequence model sees of an event: the item, its kind, the time since the one before, and how strong it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.data.events import KINDS, Histories

GAPS = 32  # buckets of time between two events: powers of two of seconds; the last holds 2^30 s = 34 years and more


@dataclass(frozen=True, eq=False)
class Tokens:
    """Columns by event (N,): item; kind, 0 one that training did not know; gap, 0 unknown or first; weight in −2..2."""

    item: Rows
    kind: Rows
    gap: Rows
    weight: Floats


def tokens(histories: Histories, kinds: tuple[str, ...]) -> Tokens:
    """The events of histories as a network trained on `kinds` reads them."""
    places = np.array([kinds.index(kind) + 1 if kind in kinds else 0 for kind in histories.kinds] or [0], np.int64)
    usual = np.array([KINDS.get(kind, 1.0) for kind in histories.kinds] or [1.0], np.float32)
    weight = np.clip(histories.weight - usual[histories.kind], -2, 2).astype(np.float32)
    return Tokens(histories.item.astype(np.int64), places[histories.kind], gaps(histories), weight)


def gaps(histories: Histories) -> NDArray[np.int64]:
    """Bucket of the time since the event before (N,): 1 + ⌊log₂(seconds + 1)⌋; 0 where there is none or no clock."""
    out = np.zeros(len(histories.item), np.int64)
    if not histories.timed or len(out) < 2:
        return out
    seconds = np.maximum(np.diff(histories.time), 0)
    out[1:] = 1 + np.floor(np.log2(seconds + 1)).astype(np.int64)
    out[histories.start[:-1][np.diff(histories.start) > 0]] = 0
    return np.minimum(out, GAPS)
