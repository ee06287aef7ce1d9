"""The methods of rating by name: the only place where a name becomes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sensorium.errors import RecipeError
from sensorium.models.ratings.baseline import Baseline
from sensorium.models.ratings.bayes import Bayes
from sensorium.models.ratings.coclustering import CoClustering
from sensorium.models.ratings.factors import Nmf, Svd, Svdpp
from sensorium.models.ratings.neighbours import Neighbours
from sensorium.models.ratings.normal import Normal
from sensorium.models.ratings.slopeone import SlopeOne
from sensorium.settings import nearest, read_settings

METHODS: Mapping[str, type[Any]] = {
    "normal": Normal,
    "baseline": Baseline,
    "neighbours": Neighbours,
    "svd": Svd,
    "svdpp": Svdpp,
    "nmf": Nmf,
    "slopeone": SlopeOne,
    "coclustering": CoClustering,
    "bayes": Bayes,
}


def method_of(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Settings of a method by its name. **Raises** RecipeError for an unknown name or setting, with the nearest one.

    >>> method_of("svd", {"size": 20}).size
    20
    """
    if name not in METHODS:
        raise RecipeError(f"ratings: {name!r} is no method; {nearest(name, METHODS)}")
    return read_settings(METHODS[name], settings or {}, where=f"ratings {name}")
