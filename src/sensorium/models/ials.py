"""Implicit alternating least squares: people and items as vectors, an unknown person folded in by one small solve."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np

from sensorium.arrays import Floats, Rows, one_blas_thread
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import MissingExtra
from sensorium.models.choose import PEOPLE, climb
from sensorium.models.kin import Kin, Lift, warmest
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets


@dataclass(frozen=True)
class Ials:
    """Matrix factorisation with confidence `alpha` for what was chosen and 1 for all else.

    Items without events get the vector that their content predicts (`kin`).
    **Cost** epochs · (nnz · size² + (U + I) · size³). **Source** Y. Hu, Y. Koren, C. Volinsky, "Collaborative filtering
    for implicit feedback datasets" (2008); S. Rendle et al., "Revisiting the performance of iALS" (2022).
    """

    size: int = 64
    l2: float = 0.1
    alpha: float = 10.0
    epochs: int = 15
    decay: float = 1.0
    strength: float = 0.0
    kin: Kin = field(default_factory=Kin)

    def __post_init__(self) -> None:
        within(self, size=(1, 4096), l2=(0, INF), alpha=(0, INF), epochs=(1, INF), decay=(0, 1))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> IalsModel:
        """**Raises** MissingExtra where `implicit` is not installed."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise MissingExtra("implicit", "all") from None
        rows, known = crowd_known(events, events.items)
        lift = self.kin.lift(events, features, known)
        seed = int(rng.integers(2**31))
        matrix = events.matrix(self.strength)[:, rows]
        if not matrix.nnz:
            return IalsModel(np.zeros((0, 1), np.float32), lift, self.l2, self.alpha, self.decay, self.strength)
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
        return IalsModel(factors, lift, self.l2, self.alpha, self.decay, self.strength)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Ials:
        """Penalty, confidence and size, and then how far items borrow, by NDCG@10 on validation."""

        def value(settings: Ials) -> float:
            model = settings.fit(fold.train, features, rng=np.random.default_rng(0))
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        grid = {"l2": (0.1, 1.0, 10.0), "alpha": (3.0, 10.0, 30.0), "size": (32, 64, 128)}
        best, height = climb(self, grid, value)
        if not features.items.present.any():
            return best
        model = best.fit(fold.train, features, rng=np.random.default_rng(0))
        _, known = crowd_known(fold.train, fold.train.items)

        def borrowed(kin: Kin) -> float:
            lent = replace(model, lift=kin.lift(fold.train, features, known))
            return rank_targets(lent.score, fold, features.people, most=PEOPLE).ndcg()

        return replace(best, kin=warmest(best.kin, borrowed, height, features)[0])


@dataclass(frozen=True, eq=False)
class IalsModel:
    """**Shapes** factors (K, F) of the items that have events."""

    factors: Floats
    lift: Lift
    l2: float
    alpha: float
    decay: float
    strength: float

    def item_vectors(self) -> Floats:
        """**Shapes** (I, F)."""
        return self._placed

    @functools.cached_property
    def _placed(self) -> Floats:
        return self.lift.scores(np.ascontiguousarray(self.factors.T), np.arange(len(self.lift.known))).T.copy()

    def user_vectors(self, histories: Histories) -> Floats:
        """Each history folded in: the exact least-squares person for these items. **Shapes** (B, F)."""
        items = self.item_vectors()
        matrix = histories.matrix(len(items), decay=self.decay, strength=self.strength)
        size = items.shape[1]
        whole = self.factors.T @ self.factors + np.float32(self.l2) * np.eye(size, dtype=np.float32)
        left = np.repeat(whole[None], len(histories), 0)
        right = np.zeros((len(histories), size), np.float32)
        for b in range(len(histories)):
            span = slice(matrix.indptr[b], matrix.indptr[b + 1])
            chosen = items[matrix.indices[span]]
            confident = np.float32(self.alpha) * matrix.data[span]
            liked = np.maximum(confident, 0)
            left[b] += (chosen * np.maximum(np.abs(confident) - 1, 0)[:, None]).T @ chosen
            right[b] = liked @ chosen
        return np.linalg.solve(left, right[:, :, None])[:, :, 0].astype(np.float32)

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = self.item_vectors()
        return self.user_vectors(histories) @ (items if candidates is None else items[candidates]).T

    def extended(self, features: Features) -> IalsModel:
        """Items that nobody chose get the vector their content predicts."""
        return replace(self, lift=self.lift.over(features))
