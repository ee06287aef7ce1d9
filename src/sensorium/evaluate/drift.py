"""How far what people do now is from what a version has learnt: the population stability index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sensorium.feedback.store import Entry
from sensorium.snapshot import Snapshot

CLASSES = 10  # of items, each with as many events as the others in the version's newest events
FEW = 100  # events below which an index tells chance rather than drift
WINDOW = 10  # times as many of the version's newest events as there are new ones are compared with
SHIFTED = 0.25  # an index above says that the population is another one


def drift(snapshot: Snapshot, entries: Sequence[Entry]) -> dict[str, float]:
    """The indices of `items` (by classes of popularity, and one of items not known) and of `kinds`; 0 for few events.

    **Source** the population stability index of credit scoring, Σ (now − then) · ln(now ÷ then): below .1 nothing moved,
    above .25 much did. By chance alone it is about 10 ÷ events.
    """
    events = snapshot.events
    if len(entries) < FEW or len(events) < FEW:
        return {"items": 0.0, "kinds": 0.0}
    window = slice(max(len(events) - WINDOW * len(entries), 0), None)
    items, kinds = events.item[window], events.kind[window]
    counts = np.bincount(items, minlength=len(snapshot.catalog)).astype(np.float64)
    order = np.argsort(-counts, kind="stable")
    of = np.empty(len(counts), np.int64)
    of[order] = np.minimum((np.cumsum(counts[order]) - counts[order]) * CLASSES / max(counts.sum(), 1), CLASSES - 1)
    rows = snapshot.catalog.ids.rows([entry.item for entry in entries])
    now = np.bincount(np.where(rows >= 0, of[rows], CLASSES), minlength=CLASSES + 1)
    then = np.bincount(of[items], minlength=CLASSES + 1)
    names = list(dict.fromkeys([*events.kinds, *(entry.kind for entry in entries)]))
    kinds_now = np.bincount([names.index(entry.kind) for entry in entries], minlength=len(names))
    return {
        "items": _index(then, now),
        "kinds": _index(np.bincount(kinds, minlength=len(names)), kinds_now),
    }


def _index(then: NDArray[np.integer], now: NDArray[np.integer]) -> float:
    """Half an event is added to each class, so that an empty one does not make it infinite."""
    before, after = ((part + 0.5) / (part.sum() + 0.5 * len(part)) for part in (then, now))
    return float(((after - before) * np.log(after / before)).sum())
