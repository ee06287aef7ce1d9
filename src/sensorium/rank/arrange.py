"""The list itself: which candidate stands at which place, where not score alone decides.

Places are filled one after the other. A pinned item stands where it is pinned. At any other place the greedy choice is
the one with the best score, traded for difference (`spread_out`), that no cap forbids. With exploration each place is, with
that probability, filled by a uniform draw from the candidates that might stand there instead. So the propensity of what
stands at a place, given the items above it, is known exactly: 1 − ε + ε ÷ n for the greedy choice, ε ÷ n for another
one of the n that were drawn from. Estimates of other policies divide by it (inverse propensity scoring).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, best, unit
from sensorium.rank.rerank import spread_out

POOL = 100  # candidates that a place is filled from, at least; ten times the list where that is more
PLAIN, PINNED, EXPLORED = 0, 1, 2  # how a place was filled


@dataclass(frozen=True, eq=False)
class Arranged:
    """**Shapes** place (K,) among the candidates, how (K,), propensity (K,)."""

    place: Rows
    how: NDArray[np.int8]
    propensity: NDArray[np.float64]


def arranged(
    scores: Floats, vectors: Floats | None, k: int, *, diversity: float = 0.0, pins: Mapping[int, int] | None = None,
    values: Sequence[Mapping[str, tuple[str, ...]]] | None = None, caps: Mapping[str, int] | None = None,
    exploration: float = 0.0, rng: np.random.Generator | None = None,
) -> Arranged:  # fmt: skip
    """The list of k out of C candidates.

    **Shapes** scores (C,); vectors (C, D), needed for diversity; pins: candidate → place from 0; values: for each candidate the
    values of the capped attributes. A pinned item counts for the caps and is never capped itself. Where caps leave
    nothing for a place the list ends before it, and later pins move up. **Cost** O(k · pool · D) with a pool of
    max(100, 10·k), and O(C) with caps.
    """
    pins, caps = dict(pins or {}), dict(caps or {})
    wide = max(POOL, 10 * k)
    if not pins and not caps and exploration == 0:
        first = best(scores[None, :], k if diversity == 0 else wide)[0][0]
        if diversity:
            assert vectors is not None
            first = first[spread_out(scores[first], vectors[first], k, diversity)]
        return Arranged(first, np.zeros(len(first), np.int8), np.ones(len(first)))
    order = [place for place in best(scores[None, :], len(scores))[0][0].tolist() if place not in pins]
    pool = np.array(_supply(order, values or (), caps, wide) if caps else order[:wide], np.int64)
    return _filled(_Choice.of(pool, scores, vectors, diversity), k, pins, _Caps(caps, values or ()), exploration, rng)


@dataclass(eq=False)
class _Choice:
    """What is left to choose from, best first, and how good each is at the next place."""

    pool: Rows
    relevance: NDArray[np.float64]
    vectors: Floats | None  # of all candidates, where diversity asks for them
    directions: Floats | None
    diversity: float
    alike: NDArray[np.float64]
    taken: NDArray[np.bool_]

    @classmethod
    def of(cls, pool: Rows, scores: Floats, vectors: Floats | None, diversity: float) -> _Choice:
        line = scores[pool].astype(np.float64)
        width = line[0] - line[-1] if len(line) else 0.0
        relevance = (1 - diversity) * ((line - line[-1]) / width if width > 0 else np.ones(len(line)))
        vectors = vectors if diversity else None
        directions = None if vectors is None else unit(vectors[pool])
        none = np.zeros(len(pool), bool)
        return cls(pool, relevance, vectors, directions, diversity, np.full(len(pool), -np.inf), none)

    def greedy(self, open_: NDArray[np.bool_]) -> int:
        """The best of those that are open: by relevance, less the greatest likeness to one above it."""
        gain = self.relevance if not np.isfinite(self.alike).any() else self.relevance - self.diversity * self.alike
        return int(np.argmax(np.where(open_, gain, -np.inf)))

    def take(self, chosen: int) -> None:
        self.taken[chosen] = True
        self.beside(int(self.pool[chosen]))

    def beside(self, candidate: int) -> None:
        """What follows should be unlike this one."""
        if self.vectors is not None and self.directions is not None:  # rounded as in `spread_out`, to agree with it
            one = unit(self.vectors[candidate : candidate + 1])[0]
            np.maximum(self.alike, np.round(self.directions @ one, 6), out=self.alike)


class _Caps:
    """How many items of each value stand in the list already."""

    def __init__(self, most: Mapping[str, int], values: Sequence[Mapping[str, tuple[str, ...]]]) -> None:
        self.most, self.values = most, values
        self.count: dict[tuple[str, str], int] = {}

    def forbid(self, place: int) -> bool:
        return any(
            self.count.get((name, value), 0) >= most
            for name, most in self.most.items()
            for value in self.values[place].get(name, ())
        )

    def take(self, place: int) -> None:
        for name in self.most:
            for value in self.values[place].get(name, ()):
                self.count[name, value] = self.count.get((name, value), 0) + 1


def _filled(
    choice: _Choice, k: int, pins: Mapping[int, int], caps: _Caps, exploration: float, rng: np.random.Generator | None
) -> Arranged:
    by_place = {place: candidate for candidate, place in pins.items()}
    for candidate in pins:  # whatever its place, it is there: the items above it must leave it its room
        caps.take(candidate)
    line: list[tuple[int, int, float]] = []
    for place in range(k):
        if place in by_place:
            line.append((by_place[place], PINNED, 1.0))
            choice.beside(by_place[place])
            continue
        open_ = ~choice.taken
        if caps.most:
            open_ &= ~np.fromiter((caps.forbid(candidate) for candidate in choice.pool.tolist()), bool, len(open_))
        if not open_.any():
            continue
        best_, count = choice.greedy(open_), int(open_.sum())
        chosen, drawn = best_, False
        if exploration > 0:
            assert rng is not None, "exploration needs its chance"
            if drawn := rng.random() < exploration:
                chosen = int(np.flatnonzero(open_)[rng.integers(count)])
        share = exploration / count
        candidate = int(choice.pool[chosen])
        line.append((candidate, EXPLORED if drawn else PLAIN, share + (1 - exploration) * (chosen == best_)))
        choice.take(chosen)
        caps.take(candidate)
    return Arranged(
        np.array([one[0] for one in line], np.int64), np.array([one[1] for one in line], np.int8),
        np.array([one[2] for one in line], np.float64),
    )  # fmt: skip


def _supply(
    order: Sequence[int], values: Sequence[Mapping[str, tuple[str, ...]]], caps: Mapping[str, int], wide: int
) -> list[int]:
    """The best candidates, of each capped value no more than ten times its cap: so that whatever fills the top of the
    order, there are others to fill the list with.
    """
    kept: list[int] = []
    count: dict[tuple[str, str], int] = {}
    for place in order:
        own = [(name, value) for name in caps for value in values[place].get(name, ())]
        if all(count.get(one, 0) < 10 * caps[one[0]] for one in own):
            kept.append(place)
            for one in own:
                count[one] = count.get(one, 0) + 1
            if len(kept) == wide:
                break
    return kept
