"""One side of a Bayesian factor model: the prior of its rows, sampled, and the rows given the other side."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from sensorium.models.ratings.ratings import Doubles, Lists
from sensorium.models.ratings.threads import spread

DENSE = 30_000_000  # cells of features up to which the whole decomposition is taken: 240 MB


class Side:
    """Rows (X, K) with the prior N(mean + features · link, precision⁻¹); all of it is drawn anew each sweep.

    The link is kept in the space of the features' singular vectors, where its posterior is independent by direction; what
    lies outside that space no row can tell, so its mean is zero.
    """

    def __init__(self, features: sparse.csr_array, size: int, rank: int, rng: np.random.Generator) -> None:
        self.size = size
        left, self.singular, self.right = _decomposed(features, rank)
        self.scaled = left * self.singular  # (X, R)
        self.left = left
        self.mean, self.precision = np.zeros(size), 5.0 * np.eye(size)
        self.link = np.zeros((len(self.singular), size))
        self.penalty = 1.0 + 0.05 * len(self.singular)
        self.rows = 0.1 * rng.normal(size=(features.shape[0], size))
        self.rows[:, 0] = 0
        self.expected = np.zeros((features.shape[0], size))

    @classmethod
    def held(cls, expected: Doubles, precision: Doubles) -> Side:
        """A side of which only the prior is known."""
        side = cls.__new__(cls)
        side.expected, side.precision, side.size = (
            np.asarray(expected, np.float64),
            np.asarray(precision, np.float64),
            len(precision),
        )
        return side

    def prior(self, rng: np.random.Generator) -> None:
        """Mean, precision, link and the link's penalty, drawn given the rows (normal–Wishart, then ridge with noise)."""
        size, count, directions = self.size, len(self.rows), len(self.singular)
        left = self.rows - self.scaled @ self.link
        centre = left.mean(0)
        scatter = (left - centre).T @ (left - centre) + count * 2 / (count + 2) * np.outer(centre, centre)
        scatter += 0.1 * (size + 1) * np.eye(size) + self.penalty * self.link.T @ self.link
        self.precision = _wishart(scatter, size + 1 + count + directions, rng)
        turned = np.linalg.cholesky(self.precision).T
        self.mean = count * centre / (count + 2) + np.linalg.solve(turned, rng.normal(size=size)) / np.sqrt(count + 2)
        if directions:
            sure = self.singular**2 + self.penalty
            goal = self.singular[:, None] * (self.left.T @ (self.rows - self.mean)) / sure[:, None]
            self.link = goal + np.linalg.solve(turned, rng.normal(size=(size, directions))).T / np.sqrt(sure)[:, None]
            much = float(np.einsum("rk,kl,rl->", self.link, self.precision, self.link))
            self.penalty = float(rng.gamma(0.5 * (2 + directions * size)) / (0.5 * (much + 2)))
        self.expected = self.mean + self.scaled @ self.link

    def learnt(self) -> tuple[Doubles, Doubles, Doubles]:
        """Mean (K,), precision (K, K), and the link from the features themselves (P, K)."""
        return self.mean, self.precision, self.right.T @ self.link


def _decomposed(features: sparse.csr_array, rank: int) -> tuple[Doubles, Doubles, Doubles]:
    """Singular vectors and values, at most `rank`, without those of value zero. **Shapes** (X, R), (R,), (R, P)."""
    least = min(features.shape)
    if not features.nnz:
        return np.zeros((features.shape[0], 0)), np.zeros(0), np.zeros((0, features.shape[1]))
    if features.shape[0] * features.shape[1] <= DENSE:
        left, singular, right = np.linalg.svd(features.toarray(), full_matrices=False)
    else:
        from scipy.sparse.linalg import svds

        start = np.ones(least)
        left, singular, right = svds(features, k=min(rank, least - 1), v0=start)
        order = np.argsort(-singular)
        left, singular, right = left[:, order], singular[order], right[order]
    kept = np.flatnonzero(singular > 1e-6 * singular.max())[:rank]
    return left[:, kept], singular[kept], right[kept]


def _wishart(scatter: Doubles, freedom: int, rng: np.random.Generator) -> Doubles:
    """A precision from Wishart(scatter⁻¹, freedom), by Bartlett's decomposition."""
    size = len(scatter)
    root = np.linalg.cholesky(np.linalg.inv(scatter))
    lower = np.tril(rng.normal(size=(size, size)), -1)
    lower[np.diag_indices(size)] = np.sqrt(rng.chisquare(freedom - np.arange(size)))
    half = root @ lower
    return np.asarray(half @ half.T, np.float64)


def rows_drawn(
    lists: Lists, left: Doubles, other: Doubles, side: Side, noise: float, rng: np.random.Generator | None = None
) -> Doubles:
    """The rows of a side given the other's (Y, K) and what is left of each rating (N,) in the order of the lists.

    Without `rng` the posterior's mean. **Shapes** (X, K).
    """
    from sensorium.models.ratings.gibbs import draw_rows

    design = np.concatenate([np.ones((len(other), 1)), other[:, 1:]], axis=1)
    chance = np.zeros((len(lists), side.size)) if rng is None else rng.normal(size=(len(lists), side.size))
    out = np.zeros((len(lists), side.size))
    target = left - other[lists.other, 0]
    spread(
        draw_rows,
        len(lists),
        lists.start,
        lists.other,
        target,
        design,
        side.precision,
        side.expected,
        noise,
        chance,
        out,
    )
    return out
