"""How validation chooses settings: one walk along each setting's short list, the best of each kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

S = TypeVar("S")

PEOPLE = 1_500  # how many people validation asks while settings are chosen; the noise of NDCG@10 is then about ± .005

CELLS = 20_000_000  # scores of one ranking up to which more people than PEOPLE are asked


def asked_at_once(items: int) -> int:
    """How many people validation asks: more where catalogues are small, which costs nothing and tells more."""
    return max(PEOPLE, CELLS // max(items, 1))


def climb(
    start: S, grid: Mapping[str, Sequence[Any]], value: Callable[[S], float], *, rounds: int = 1
) -> tuple[S, float]:
    """The settings after a walk: each field of `grid` in turn takes its best value while the others stand.

    Ties keep what stood before, so the walk is one for ever. **Cost** Σ lengths of the lists × rounds calls of `value`.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Hill:
    ...     x: float = 0.0
    ...     y: float = 0.0
    >>> climb(Hill(), {"x": (0.0, 1.0, 2.0), "y": (0.0, 3.0)}, lambda h: 5 - abs(h.x - 1) - abs(h.y - 3))
    (Hill(x=1.0, y=3.0), 5.0)
    """
    best, height = start, value(start)
    for _ in range(rounds):
        before = best
        for name, options in grid.items():
            standing = best
            for option in options:
                if option == getattr(standing, name):
                    continue
                candidate = replace(standing, **{name: option})  # type: ignore[type-var]
                reached = value(candidate)
                if reached > height:
                    best, height = candidate, reached
        if best == before:
            break
    return best, height
