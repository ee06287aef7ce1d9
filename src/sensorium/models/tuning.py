"""How EASE and its directed twin are tuned: a walk in which a matrix is solved once and serves all that stands on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sensorium.data.events import Fold
from sensorium.models.choose import asked_at_once, climb
from sensorium.models.kin import Kin, warmest
from sensorium.models.kinds import walked
from sensorium.models.linear import LinearModel, crowd_known
from sensorium.models.model import Features
from sensorium.train.ranking import rank_targets

SCORED = ("decay", "heard", "conversion", "kin")  # settings that the matrix does not depend on
Grid = Mapping[str, Sequence[Any]]


def tuned_linear(settings: Any, fold: Fold, features: Features, *grids: Grid) -> Any:
    """The settings after a walk along each of `grids` by NDCG@10 on validation, then along what kinds of events count and
    how far items borrow.

    Two of the last matrices are kept, so settings of scoring alone (`SCORED`) cost a ranking. **Cost** Σ lengths of the
    lists fits at the most.
    """
    most = asked_at_once(fold.train.items)
    _, known = crowd_known(fold.train, fold.train.items)
    lift = settings.kin.lift(fold.train, features, known)

    wanted: dict[str, Any] = {}  # settings that hold tables cannot be keys; how they are written can

    @lru_cache(maxsize=2)
    def fitted(key: str) -> LinearModel:
        return wanted[key].over(fold.train, features, lift)

    def made(one: Any) -> LinearModel:
        plain = replace(one, **{name: getattr(settings, name) for name in SCORED})
        wanted[repr(plain)] = plain
        return replace(fitted(repr(plain)), decay=one.decay, heard=dict(one.heard)).leaning(fold.train, one.conversion)

    def height(model: LinearModel) -> float:
        return rank_targets(model.score, fold, features.people, most=most).ndcg()

    def value(one: Any) -> float:
        return height(made(one))

    best, reached = settings, -1.0
    for grid in grids:
        best, reached = climb(best, grid, value)
    best, reached = walked(best, reached, fold, value)
    model = made(best)

    def borrowing(kin: Kin) -> float:
        return height(replace(model, lift=kin.lift(fold.train, features, known)))

    return replace(best, kin=warmest(best.kin, borrowing, reached, features)[0])
