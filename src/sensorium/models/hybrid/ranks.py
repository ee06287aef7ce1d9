"""Factors judged on pairs held out at random: the split, and the area under the curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.errors import DataError
from sensorium.models.hybrid.factors import Matrix
from sensorium.train.ranking import Ranks


def auc(ranks: Ranks, items: int, train: Matrix | None = None) -> NDArray[np.float64]:
    """The chance that a target stands above an item that is neither target nor in `train`: one number a person, ascending.

    **Shapes** ranks of T targets among `items` without those of `train` (U, I) → (N,) for the N persons with targets.
    A person for whom nothing else is left has 0.5; a tie with another item counts half.

    >>> import numpy as np
    >>> auc(Ranks(np.array([0, 0]), np.array([4, 2]), np.array([0.0, 2.0])), items=4).tolist()
    [0.75]
    """
    users, row, targets = np.unique(ranks.user, return_inverse=True, return_counts=True)
    known = np.zeros(len(users)) if train is None else np.diff(sparse.csr_array(train).indptr)[users]
    others = items - targets - known
    order = np.lexsort((ranks.rank, row))
    first = np.cumsum(targets) - targets
    nth = np.arange(len(order)) - np.repeat(first, targets)
    # The targets before are no mistakes. Below zero where targets tie with one another: it is their sum that is right.
    above = ranks.rank[order] - nth
    mean = np.bincount(row[order], above, minlength=len(users)) / targets
    return np.where(others > 0, 1 - mean / np.maximum(others, 1), 0.5)


def random_split(
    interactions: Matrix, share: float = 0.2, *, rng: np.random.Generator
) -> tuple[sparse.coo_array, sparse.coo_array]:
    """Train and test (U, I): `share` of the stored pairs at random are test. **Raises** DataError for no share.

    >>> from scipy.sparse import eye_array
    >>> [part.nnz for part in random_split(eye_array(10), 0.3, rng=np.random.default_rng(0))]
    [7, 3]
    """
    if not 0 <= share <= 1:
        raise DataError(f"random_split: share is {share:g}; give one from 0 to 1")
    matrix = sparse.coo_array(interactions)
    order = rng.permutation(matrix.nnz)
    cut = round((1 - share) * len(order))

    def part(rows: NDArray[np.int64]) -> sparse.coo_array:
        return sparse.coo_array((matrix.data[rows], (matrix.row[rows], matrix.col[rows])), shape=matrix.shape)

    return part(order[:cut]), part(order[cut:])
