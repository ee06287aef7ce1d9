"""Implicit alternating least squares: people and items as vectors, an unknown person folded in by one small solve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sensorium.arrays import Floats, Rows, one_blas_thread
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import MissingExtra
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.model import Features
from sensorium.train.ranking import rank_targets


@dataclass(frozen=True)
class Ials:
    """Matrix factorisation with confidence `alpha` for what was chosen and 1 for all else.

    Items without events get the vector that a ridge regression from their content predicts, damped by `content`.
    **Cost** epochs · (nnz · size² + (U + I) · size³). **Source** Y. Hu, Y. Koren, C. Volinsky, "Collaborative filtering
    for implicit feedback datasets" (2008); S. Rendle et al., "Revisiting the performance of iALS" (2022).
    """

    size: int = 64
    l2: float = 0.1
    alpha: float = 10.0
    epochs: int = 15
    decay: float = 1.0
    strength: float = 0.0
    content: float = 1.0

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> IalsModel:
        """**Raises** MissingExtra where `implicit` is not installed."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise MissingExtra("implicit", "all") from None
        counts = np.bincount(events.item, minlength=events.items)
        seed = int(rng.integers(2**31))
        matrix = events.matrix(self.strength)
        if not matrix.nnz:
            return IalsModel(np.zeros((events.items, 1), np.float32), counts > 0, self.l2, self.alpha, self.decay,
                             self.strength, self.content, np.zeros((0, 0), np.float32))  # fmt: skip
        size = min(self.size, max(1, min(matrix.shape) - 1))
        with one_blas_thread():
            model = AlternatingLeastSquares(
                factors=size, regularization=self.l2, alpha=self.alpha, iterations=self.epochs,
                use_native=True, use_cg=True, random_state=seed, num_threads=1, dtype=np.float32,
            )  # fmt: skip
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from scipy.sparse import csr_matrix

                model.fit(csr_matrix(matrix), show_progress=False)
        factors = np.asarray(model.item_factors, np.float32).copy()
        factors[counts == 0] = 0
        bare = IalsModel(
            factors, counts > 0, self.l2, self.alpha, self.decay, self.strength, self.content,
            _content_map(factors, counts, features),
        )  # fmt: skip
        return bare.extended(features)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Ials:
        """Penalty, confidence and size by NDCG@10 on validation."""

        def value(settings: Ials) -> float:
            model = settings.fit(fold.train, features, rng=np.random.default_rng(0))
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        return climb(self, {"l2": (0.1, 1.0, 10.0), "alpha": (3.0, 10.0, 30.0), "size": (32, 64, 128)}, value)[0]


@dataclass(frozen=True, eq=False)
class IalsModel:
    """**Shapes** factors (I, F); known (I,): had events; map (D, F): content to factors, or (0, 0)."""

    factors: Floats
    known: np.ndarray
    l2: float
    alpha: float
    decay: float
    strength: float
    content: float
    map: Floats

    def item_vectors(self) -> Floats:
        """**Shapes** (I, F)."""
        return self.factors

    def user_vectors(self, histories: Histories) -> Floats:
        """Each history folded in: the exact least-squares person for these items. **Shapes** (B, F)."""
        matrix = histories.matrix(len(self.factors), decay=self.decay, strength=self.strength)
        size = self.factors.shape[1]
        whole = self.factors[self.known].T @ self.factors[self.known] + np.float32(self.l2) * np.eye(
            size, dtype=np.float32
        )
        left = np.repeat(whole[None], len(histories), 0)
        right = np.zeros((len(histories), size), np.float32)
        for b in range(len(histories)):
            span = slice(matrix.indptr[b], matrix.indptr[b + 1])
            chosen = self.factors[matrix.indices[span]]
            confident = np.float32(self.alpha) * matrix.data[span]
            liked = np.maximum(confident, 0)
            left[b] += (chosen * np.maximum(np.abs(confident) - 1, 0)[:, None]).T @ chosen
            right[b] = liked @ chosen
        return np.linalg.solve(left, right[:, :, None])[:, :, 0].astype(np.float32)

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = self.factors if candidates is None else self.factors[candidates]
        return self.user_vectors(histories) @ items.T

    def extended(self, features: Features) -> IalsModel:
        """Items that nobody chose get the vector their content predicts."""
        items = len(features.items)
        factors = np.zeros((items, self.factors.shape[1]), np.float32)
        factors[: len(self.factors)] = self.factors
        known = np.concatenate([self.known, np.zeros(items - len(self.known), bool)])
        if len(self.map):
            predicted = features.items.values @ self.map[:-1] + self.map[-1]
            strange = ~known & features.items.present
            factors[strange] = np.float32(self.content) * predicted[strange]
        return replace(self, factors=factors, known=known)


def _content_map(factors: Floats, counts: np.ndarray, features: Features) -> Floats:
    """Ridge from content (D) and a constant to factors, items weighted by √events. **Shapes** (D + 1, F)."""
    rows = np.flatnonzero((counts > 0) & features.items.present)
    if len(rows) < 2:
        return np.zeros((0, 0), np.float32)
    values = np.hstack([features.items.values[rows], np.ones((len(rows), 1), np.float32)])
    weight = np.sqrt(counts[rows]).astype(np.float32)[:, None]
    gram = values.T @ (values * weight)
    gram[np.diag_indices(len(gram) - 1)] += np.float32(0.1 * weight.sum() / max(values.shape[1], 1))
    gram[-1, -1] += np.float32(1e-6)
    return np.linalg.solve(gram, values.T @ (factors[rows] * weight)).astype(np.float32)
