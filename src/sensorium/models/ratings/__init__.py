"""Ratings: every method that foretells what somebody would rate, with new users and items folded in.

>>> from sensorium.models.ratings import Baseline, Ratings
>>> ratings = Ratings.of(["ann", "ann", "bob"], ["film", "book", "film"], [5, 3, 4])
>>> round(Baseline().fit(ratings).predict("bob", "book").estimate, 2)
3.9
"""

from sensorium.models.ratings.accuracy import fcp, mae, mse, rmse
from sensorium.models.ratings.baseline import Baseline
from sensorium.models.ratings.bayes import Bayes, Sides
from sensorium.models.ratings.coclustering import CoClustering
from sensorium.models.ratings.factors import Nmf, Svd, Svdpp
from sensorium.models.ratings.fitted import Prediction, Predictions, RatingModel
from sensorium.models.ratings.folds import (
    KFold,
    LeaveOneOut,
    PredefinedKFold,
    RepeatedKFold,
    ShuffleSplit,
    divided,
    rescaled,
)
from sensorium.models.ratings.names import METHODS, method_of
from sensorium.models.ratings.neighbours import Neighbours
from sensorium.models.ratings.normal import Normal
from sensorium.models.ratings.ratings import Ratings, read_ratings
from sensorium.models.ratings.search import Search, grid_search, optuna_search, random_search
from sensorium.models.ratings.slopeone import SlopeOne
from sensorium.models.ratings.validate import Validated, cross_validate

__all__ = [
    "METHODS", "Baseline", "Bayes", "CoClustering", "KFold", "LeaveOneOut", "Neighbours", "Nmf", "Normal", "PredefinedKFold",
    "Prediction", "Predictions", "RatingModel", "Ratings", "RepeatedKFold", "Search", "ShuffleSplit", "Sides", "SlopeOne", "Svd",
    "Svdpp", "Validated", "cross_validate", "divided", "fcp", "grid_search", "mae", "method_of", "mse", "optuna_search",
    "random_search", "read_ratings", "rescaled", "rmse",
]  # fmt: skip
