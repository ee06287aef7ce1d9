"""What a sequence model sees of an event: item, kind, time since the one before, strength (so a rating), and its review."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.data.events import KINDS, Events, Histories

GAPS = 32  # buckets of time between two events: powers of two of seconds; the last holds 2^30 s = 34 years and more


@dataclass(frozen=True, eq=False)
class Tokens:
    """Columns by event (N,): item; kind, 0 one that training did not know; gap, 0 unknown or first; weight in −2..2,
    how much more than is usual for its kind, as a share of that (a rating's: how far above the person's mean); review, the
    row of what was written, -1 for nothing."""

    item: Rows
    kind: Rows
    gap: Rows
    weight: Floats
    review: Rows


def usual_weights(events: Events) -> Floats:
    """What an event of each kind weighs in these events, whatever a recipe says: their mean (a rating's moves about it);
    a kind without events weighs what is usual. **Shapes** (kinds,)."""
    count = np.bincount(events.kind, minlength=len(events.kinds))
    total = np.bincount(events.kind, events.weight, minlength=len(events.kinds))
    known = np.array([KINDS.get(kind, 1.0) for kind in events.kinds])
    return np.where(count > 0, total / np.maximum(count, 1), known).astype(np.float32)


def tokens(histories: Histories, kinds: tuple[str, ...], usual: Floats) -> Tokens:
    """The events of histories as a network trained on `kinds` reads them, weights against what was `usual` then."""
    places = np.array([kinds.index(kind) + 1 if kind in kinds else 0 for kind in histories.kinds] or [0], np.int64)
    meant = [usual[kinds.index(kind)] if kind in kinds else KINDS.get(kind, 1.0) for kind in histories.kinds] or [1.0]
    middle = np.array(meant, np.float32)[histories.kind]
    unit = np.where(np.abs(middle) > 1e-6, np.abs(middle), 1)
    weight = np.clip((histories.weight - middle) / unit, -2, 2).astype(np.float32)
    review = np.full(len(weight), -1) if histories.review is None else histories.review
    return Tokens(
        histories.item.astype(np.int64), places[histories.kind], gaps(histories), weight, review.astype(np.int64)
    )


def gaps(histories: Histories) -> NDArray[np.int64]:
    """Bucket of the time since the event before (N,): 1 + ⌊log₂(seconds + 1)⌋; 0 where there is none or no clock."""
    out = np.zeros(len(histories.item), np.int64)
    if not histories.timed or len(out) < 2:
        return out
    seconds = np.maximum(np.diff(histories.time), 0)
    out[1:] = 1 + np.floor(np.log2(seconds + 1)).astype(np.int64)
    out[histories.start[:-1][np.diff(histories.start) > 0]] = 0
    return np.minimum(out, GAPS)
