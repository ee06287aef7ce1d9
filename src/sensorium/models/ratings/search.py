"""Choosing settings by cross-validation: every combination, some drawn by chance, or Optuna's choice."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorium.errors import DataError, MissingExtra, RecipeError
from sensorium.models.ratings.accuracy import LOWER_IS_BETTER
from sensorium.models.ratings.fitted import RatingModel
from sensorium.models.ratings.folds import Folds, KFold
from sensorium.models.ratings.ratings import Ratings
from sensorium.models.ratings.validate import Validated, at_once, cross_validate, fold_measured, gathered, measures_of
from sensorium.settings import nearest

Options = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Search:
    """What was tried, and how each fared; `method` the settings that were fitted in `results` of the same place."""

    tried: tuple[dict[str, Any], ...]
    methods: tuple[Any, ...]
    results: tuple[Validated, ...]
    measures: tuple[str, ...]

    def best_place(self, measure: str | None = None) -> int:
        """Where the best stands: lowest error, or highest fcp; the first of equals. **Raises** DataError for another measure."""
        measure = measure or self.measures[0]
        if measure not in self.measures:
            raise DataError(f"{measure!r} was not measured in this search; {nearest(measure, self.measures)}")
        means = [result.mean(measure) for result in self.results]
        return int(np.argmin(means) if measure in LOWER_IS_BETTER else np.argmax(means))

    def best_score(self, measure: str | None = None) -> float:
        """Its mean over folds."""
        return self.results[self.best_place(measure)].mean(measure or self.measures[0])

    def best_settings(self, measure: str | None = None) -> dict[str, Any]:
        """What was varied, as it was best."""
        return self.tried[self.best_place(measure)]

    def best_method(self, measure: str | None = None) -> Any:
        """The best settings, ready to fit."""
        return self.methods[self.best_place(measure)]

    def refit(self, ratings: Ratings, measure: str | None = None, *, seed: int = 0) -> RatingModel:
        """The best settings fitted to all ratings."""
        return self.best_method(measure).fit(ratings, rng=np.random.default_rng(seed))

    def table(self) -> dict[str, list[Any]]:
        """Columns for a data frame: settings, mean and deviation of each measure, seconds."""
        out: dict[str, list[Any]] = {"settings": [dict(one) for one in self.tried]}
        for name in self.measures:
            out[f"mean_test_{name}"] = [result.mean(name) for result in self.results]
            out[f"std_test_{name}"] = [float(result.test[name].std()) for result in self.results]
        out["mean_fit_seconds"] = [float(result.fit_seconds.mean()) for result in self.results]
        out["mean_test_seconds"] = [float(result.test_seconds.mean()) for result in self.results]
        return out


def varied(method: Any, settings: Mapping[str, Any]) -> Any:
    """The method with other settings; `baseline.method` names a setting of a setting. **Raises** RecipeError, with the nearest.

    >>> from sensorium.models.ratings.neighbours import Neighbours
    >>> varied(Neighbours(), {"k": 20, "baseline.epochs": 5}).baseline.epochs
    5
    """
    inner: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    known = [part.name for part in dataclasses.fields(method)]
    for name, value in settings.items():
        head, _, rest = name.partition(".")
        if head not in known:
            raise RecipeError(f"{type(method).__name__.lower()} has no setting {head!r}; {nearest(head, known)}")
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            plain[name] = value
    for head, values in inner.items():
        old = plain.get(head, getattr(method, head))
        plain[head] = {**old, **values} if isinstance(old, Mapping) else varied(old, values)
    return dataclasses.replace(method, **plain)


def grid_search(
    method: Any, grid: Mapping[str, Sequence[Any]], ratings: Ratings, *, measures: Sequence[str] = ("rmse", "mae"),
    folds: Folds | None = None, jobs: int | None = None, seed: int = 0,
) -> Search:  # fmt: skip
    """Every combination of the grid, all on the same folds and with the same chance."""
    if not grid or not all(len(options) for options in grid.values()):
        raise DataError("grid_search: there is nothing to vary; give names of settings and at least one value each")
    tried = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return _searched(method, tried, ratings, measures, folds, jobs, seed)


def random_search(
    method: Any, options: Options, ratings: Ratings, *, trials: int = 10, measures: Sequence[str] = ("rmse", "mae"),
    folds: Folds | None = None, jobs: int | None = None, seed: int = 0,
) -> Search:  # fmt: skip
    """`trials` combinations drawn by chance: from a list of values, or from anything with `rvs(random_state=…)` (scipy.stats).

    Where all options are lists and they have fewer combinations than `trials`, each is tried once.
    """
    if not options or trials < 1:
        raise DataError("random_search: give options to vary and trials from 1")
    rng = np.random.default_rng(seed)
    tried: list[dict[str, Any]]
    if all(not hasattr(values, "rvs") for values in options.values()):
        whole = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
        tried = [whole[place] for place in rng.permutation(len(whole))[:trials]]
    else:
        tried = [{name: _drawn(values, rng) for name, values in options.items()} for _ in range(trials)]
    return _searched(method, tried, ratings, measures, folds, jobs, seed)


def _drawn(values: Any, rng: np.random.Generator) -> Any:
    if hasattr(values, "rvs"):
        value = values.rvs(random_state=rng)
        return value.item() if isinstance(value, np.generic) else value
    return values[int(rng.integers(len(values)))]


def _searched(
    method: Any, tried: Sequence[dict[str, Any]], ratings: Ratings, measures: Sequence[str], folds: Folds | None,
    jobs: int | None, seed: int,
) -> Search:  # fmt: skip
    names = measures_of(measures)
    methods = [varied(method, settings) for settings in tried]
    parts = list((folds or KFold()).split(ratings))
    tasks = [
        (one, train, test, names, False, (seed, n)) for one in methods for n, (train, test) in enumerate(parts)
    ]  # every fold of every combination is a task of its own, so that no core waits
    done = at_once(fold_measured, tasks, jobs)
    each = len(parts)
    results = tuple(gathered(done[n * each : (n + 1) * each]) for n in range(len(methods)))
    return Search(tuple(dict(one) for one in tried), tuple(methods), results, names)


def optuna_search(
    method: Any, suggest: Callable[[Any], dict[str, Any]], ratings: Ratings, *, trials: int = 20,
    measures: Sequence[str] = ("rmse",), folds: Folds | None = None, jobs: int | None = None, seed: int = 0,
) -> Search:  # fmt: skip
    """Optuna's tree-structured Parzen estimator: `suggest(trial)` gives the settings to try next.

    `lambda trial: {"size": trial.suggest_int("size", 10, 200, log=True)}`. **Raises** MissingExtra without Optuna.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtra("optuna", "all") from None
    names = measures_of(measures)
    tried: list[dict[str, Any]] = []
    methods: list[Any] = []
    results: list[Validated] = []

    def value(trial: Any) -> float:
        tried.append(suggest(trial))
        methods.append(varied(method, tried[-1]))
        results.append(cross_validate(methods[-1], ratings, measures=names, folds=folds, jobs=jobs, seed=seed))
        return results[-1].mean(names[0])

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        lower = names[0] in LOWER_IS_BETTER
        study = optuna.create_study(
            direction="minimize" if lower else "maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        study.optimize(value, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(before)
    return Search(tuple(tried), tuple(methods), tuple(results), names)
