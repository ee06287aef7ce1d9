"""Fitting and measuring fold by fold, on several threads; the figures do not depend on how many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sensorium.arrays import threads
from sensorium.errors import DataError
from sensorium.models.ratings.accuracy import MEASURES
from sensorium.models.ratings.fitted import Method
from sensorium.models.ratings.folds import Folds, KFold
from sensorium.models.ratings.ratings import Doubles, Ratings
from sensorium.settings import nearest

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Validated:
    """**Shapes** each measure (F,) by name, one a fold; `train` likewise where asked. **Units** seconds of wall clock."""

    test: dict[str, Doubles]
    train: dict[str, Doubles]
    fit_seconds: Doubles
    test_seconds: Doubles

    def mean(self, measure: str) -> float:
        """The mean over folds."""
        return float(self.test[measure].mean())

    def __str__(self) -> str:
        rows = [(name.upper(), values) for name, values in self.test.items()]
        rows += [(f"{name.upper()} (train)", values) for name, values in self.train.items()]
        rows += [("fit seconds", self.fit_seconds), ("test seconds", self.test_seconds)]
        width = max(len(name) for name, _ in rows)
        head = (
            " " * width + "".join(f"{f'fold {n + 1}':>9}" for n in range(len(self.fit_seconds))) + "     mean      std"
        )
        lines = [
            f"{name:<{width}}" + "".join(f"{v:9.4f}" for v in values) + f"{values.mean():9.4f}{values.std():9.4f}"
            for name, values in rows
        ]
        return "\n".join([head, *lines])


def measures_of(names: Sequence[str]) -> tuple[str, ...]:
    """The names in lower case. **Raises** DataError for one that is unknown, with the nearest."""
    for name in names:
        if name.lower() not in MEASURES:
            raise DataError(f"measure {name!r} is not known; {nearest(name, MEASURES)}")
    return tuple(name.lower() for name in names)


def cross_validate(
    method: Method, ratings: Ratings, *, measures: Sequence[str] = ("rmse", "mae"), folds: Folds | None = None,
    on_train: bool = False, jobs: int | None = None, seed: int = 0,
) -> Validated:  # fmt: skip
    """The method fitted and measured on every fold (`KFold()` unless told).

    `jobs` threads (None: all cores) work at once; every fold has chance of its own, drawn from `seed`, so their number
    changes nothing. `on_train` measures what was learnt from, too. **Raises** DataError for an unknown measure.
    """
    names = measures_of(measures)
    tasks = [
        (method, train, test, names, on_train, (seed, n))
        for n, (train, test) in enumerate((folds or KFold()).split(ratings))
    ]
    return gathered(at_once(fold_measured, tasks, jobs))


def at_once(work: Callable[[T], R], tasks: Iterable[T], jobs: int | None) -> list[R]:
    """The results in the order of the tasks."""
    tasks, jobs = list(tasks), threads() if jobs is None else jobs
    if jobs < 1:
        raise DataError(f"jobs is {jobs}; give a number from 1, or None for all cores")
    if jobs == 1 or len(tasks) < 2:
        return [work(task) for task in tasks]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, tasks))


Fold = tuple[Method, Ratings, Ratings, tuple[str, ...], bool, tuple[int, ...]]


def fold_measured(task: Fold) -> tuple[dict[str, float], dict[str, float], float, float]:
    """Measures on test and train of one fold, seconds of fitting and of testing."""
    method, train, test, names, on_train, seed = task
    if not len(train) or not len(test):
        raise DataError(
            f"a fold has {len(train)} ratings to learn from and {len(test)} to foretell; neither may be empty"
        )
    began = time.perf_counter()
    model = method.fit(train, rng=np.random.default_rng(seed))
    fitted = time.perf_counter()
    found = model.predictions(test)
    done = time.perf_counter()
    own: Any = {}
    if on_train:
        seen = model.predictions(train)
        own = {name: MEASURES[name](seen) for name in names}
    return {name: MEASURES[name](found) for name in names}, own, fitted - began, done - fitted


def gathered(results: Sequence[tuple[dict[str, float], dict[str, float], float, float]]) -> Validated:
    """The folds side by side. **Raises** DataError where there are none."""
    if not results:
        raise DataError("there are no folds")
    test, train, fit, seconds = zip(*results, strict=True)
    return Validated(
        {name: np.array([fold[name] for fold in test]) for name in test[0]},
        {name: np.array([fold[name] for fold in train]) for name in train[0]}, np.array(fit), np.array(seconds),
    )  # fmt: skip
