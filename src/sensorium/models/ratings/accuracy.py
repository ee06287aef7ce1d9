"""How far estimates are from the truth, and how often they order two items rightly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from sensorium.errors import DataError
from sensorium.models.ratings.fitted import Predictions


def rmse(predictions: Predictions) -> float:
    """The root of the mean squared error."""
    return float(np.sqrt(mse(predictions)))


def mse(predictions: Predictions) -> float:
    """The mean squared error."""
    _some(predictions)
    return float(np.mean((predictions.value - predictions.estimate) ** 2))


def mae(predictions: Predictions) -> float:
    """The mean absolute error."""
    _some(predictions)
    return float(np.mean(np.abs(predictions.value - predictions.estimate)))


def fcp(predictions: Predictions) -> float:
    """The fraction of concordant pairs: of two items one user rated differently, how often the better one is estimated higher.

    Pairs estimated equal count as discordant. **Raises** DataError where no user rated two items differently.
    **Source** Y. Koren, J. Sill, "Collaborative filtering on ordinal user feedback" (2013).
    """
    _some(predictions)
    order = np.argsort(predictions.user, kind="stable")
    user = predictions.user[order]
    edges = np.flatnonzero(np.r_[True, user[1:] != user[:-1], True])
    right = wrong = 0
    for begin, end in itertools.pairwise(edges.tolist()):
        value, guess = predictions.value[order[begin:end]], predictions.estimate[order[begin:end]]
        better = value[:, None] > value[None, :]
        higher = guess[:, None] > guess[None, :]
        right += int(np.count_nonzero(better & higher))
        wrong += int(np.count_nonzero(better & ~higher))
    if not right + wrong:
        raise DataError("fcp: no user rated two items differently in these predictions; measure rmse or mae")
    return right / (right + wrong)


def _some(predictions: Predictions) -> None:
    if not len(predictions):
        raise DataError("accuracy: there are no predictions; the test table is empty")


MEASURES: Mapping[str, Callable[[Predictions], float]] = {"rmse": rmse, "mse": mse, "mae": mae, "fcp": fcp}
LOWER_IS_BETTER = ("rmse", "mse", "mae")
