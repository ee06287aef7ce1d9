"""Why an item was recommended: the score taken apart by event of the history and by source, so that the parts sum to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.data.catalog import Catalog
from sensorium.data.events import Histories
from sensorium.models.blend import BlendModel
from sensorium.models.model import Explains, Features, Model, Parts
from sensorium.rank.query import Reason

Scales = tuple[tuple[float, float], ...]  # the mean of each member's scores, and 1 ÷ their deviation
OCCLUDED = 64  # distinct items of a history that are left out one at a time; older ones are part of the base
SHOWN = 6  # reasons told one by one; the rest is put together


def taken_apart(
    model: Model, history: Histories, rows: Rows, scores: Floats, features: Features, scales: Scales = ()
) -> tuple[Parts, str]:
    """The parts of each score, and by which way they were found: `exact`, or `occlusion`.

    `scales`: on which scale a blend's members stood when it was scored through cells (empty: on its own).

    **Shapes** rows (C,), scores (C,) → values (C, N, S), base (C,); `values.sum((1, 2)) + base` is the score.
    A model whose own parts do not sum to its score is explained by occlusion.
    """
    if isinstance(model, Explains):
        parts = model.parts(history, rows, scales) if isinstance(model, BlendModel) else model.parts(history, rows)
        told = parts.values.sum((1, 2), dtype=np.float64) + parts.base
        if np.allclose(told, scores, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(scores).max(initial=0)))):
            rest = scores.astype(np.float64) - parts.values.sum((1, 2), dtype=np.float64)  # rounding goes to the base
            return Parts(parts.values, rest, parts.sources), "exact"
    return occluded(model, history, rows, scores, features), "occlusion"


def occluded(model: Model, history: Histories, rows: Rows, scores: Floats, features: Features) -> Parts:
    """Parts by leaving out: what a score loses without an item of the history belongs to that item's newest event.

    All shortened histories are scored in one call. The losses are scaled to what all these items
    together add, where that is no wild stretch (a factor of a third to three); else the difference stays in the base,
    as does what older items add. **Cost** one `score` of at most 65 histories for C candidates.
    """
    items = history.item
    newest = _newest(items)[-OCCLUDED:]
    values = np.zeros((len(rows), len(items)), np.float64)
    base = scores.astype(np.float64)
    if len(newest):
        shortened = [items != items[place] for place in newest] + [~np.isin(items, items[newest])]
        without = model.score(_kept(history, np.stack(shortened)), rows).astype(np.float64)  # (N' + 1, C)
        loss = scores[None, :].astype(np.float64) - without[:-1]
        added, total = scores.astype(np.float64) - without[-1], loss.sum(axis=0)
        safe = np.where(np.abs(total) > 1e-12, total, 1.0)
        factor = np.where(np.abs(total) > 1e-12, added / safe, 1.0)
        loss *= np.where((factor >= 1 / 3) & (factor <= 3), factor, 1.0)
        values[:, newest] = loss.T
        base = scores - values.sum(axis=1)
    shares, sources = likeness_shares(items, rows, features)
    return Parts(values[:, :, None] * shares, base, sources)  # type: ignore[arg-type]  # float64, so that sums close


def likeness_shares(items: NDArray[np.int32], rows: Rows, features: Features) -> tuple[Floats, tuple[str, ...]]:
    """How much of a part each source may claim: content as far as two items are alike, the rest is the crowd's.

    **Shapes** (C, N, S), each [c, n] sums to one. Where fusion keeps modalities in columns of their own, the cosine
    splits into them; modalities that speak against are left out. Without blocks, or without content, all is `crowd`.
    """
    if not features.blocks or not len(items):
        return np.ones((len(rows), len(items), 1), np.float32), ("crowd",)
    left, right = features.items.values[rows], features.items.values[items]
    dots = [np.maximum(left[:, b] @ right[:, b].T, 0) for b in features.blocks.values()]
    content = np.stack(dots, axis=2).astype(np.float64)
    content /= np.maximum(content.sum(axis=2, keepdims=True), 1.0)  # unit vectors: at most one but for rounding
    crowd = 1 - content.sum(axis=2, keepdims=True)
    return np.concatenate([crowd, content], axis=2), ("crowd", *features.blocks)


def reasons_of(
    parts: Parts, place: int, score: float, history: Histories, catalog: Catalog, *, shown: int = SHOWN
) -> tuple[tuple[Reason, ...], float]:
    """The reasons for one candidate, greatest amount first, small ones put together by source; and the base.

    Events of one item and kind are told as one, at the time of the newest. The base takes up rounding, so that
    amounts and base sum to the score.
    """
    values = np.asarray(parts.values[place], np.float64)
    gathered: dict[tuple[int, int], list[float]] = {}
    newest: dict[int, int] = {}
    for n, s in zip(*np.nonzero(values), strict=True):
        row = int(history.item[n])
        gathered.setdefault((row, int(s)), []).append(float(values[n, s]))
        newest[row] = max(newest.get(row, -1), int(n))
    amounts = sorted(((sum(v), row, s) for (row, s), v in gathered.items()), key=lambda e: (-abs(e[0]), e[1], e[2]))
    reasons = []
    for amount, row, s in amounts[:shown]:
        n = newest[row]
        reasons.append(
            Reason(
                catalog.ids[row],
                catalog.title(row),
                history.kinds[history.kind[n]],
                float(history.time[n]) if history.timed else None,
                parts.sources[s],
                amount,
            )
        )
    rest: dict[int, tuple[float, int]] = {}
    for amount, _, s in amounts[shown:]:
        before, count = rest.get(s, (0.0, 0))
        rest[s] = (before + amount, count + 1)
    for s, (amount, count) in sorted(rest.items()):
        reasons.append(Reason(None, f"{count} smaller", "", None, parts.sources[s], amount))
    return tuple(reasons), score - sum(reason.amount for reason in reasons)


def _newest(items: NDArray[np.int32]) -> Rows:
    """The place of the newest event of each distinct item, ascending."""
    _, back = np.unique(items[::-1], return_index=True)
    return np.sort(len(items) - 1 - back)


def _kept(history: Histories, keep: NDArray[np.bool_]) -> Histories:
    """One history as a batch, each with only the events its row of `keep` (B, N) marks."""
    batch = history.take(np.zeros(len(keep), np.int64))
    return batch.only(keep.ravel())
