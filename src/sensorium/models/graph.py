"""Graph filters: what a graph network over people and items comes to when nothing is trained, in closed form on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows, leading
from sensorium.data.events import Events, Fold, Histories
from sensorium.models.choose import climb
from sensorium.models.content import carried
from sensorium.models.model import Features, Parts
from sensorium.models.neighbours import neighbours
from sensorium.settings import INF, within
from sensorium.train.ranking import rank_targets

CELLS = 60_000_000  # scores that one look at validation may cost: so many people are asked, within ASKED
ASKED = (1_500, 6_000)
RANKS, LARGE_RANKS = (32, 64, 128, 256, 512), (64, 128, 256, 512, 1_024)  # that validation tries, the larger ones
LARGE = 15_000  # beyond so many items


@dataclass(frozen=True)
class Graph:
    """score = history · (near + smooth · low-pass), two filters of one graph of people and items.

    With X = Dᵤ^(−degree/2) R, R being who chose what and D the degrees: *near* is two steps over the graph,
    Dᵢ^−give (XᵀX) Dᵢ^−fame without its diagonal, `keep` entries a column; *low-pass* projects on the `rank` smoothest
    directions, Dᵢ^−damp V Vᵀ Dᵢ^damp, V the leading right singular vectors of X Dᵢ^−damp. Both are scaled to a
    deviation of 1 over people, so that `smooth` is a share.

    Content joins as a frozen graph of the `nearest` items by each modality: `hop` of the score walks on from an item to
    its look-alikes, `alike` steps to them directly, and an item that nobody chose is the mean of its look-alikes.

    **Cost** one sparse product XᵀX, `rank` singular vectors, K² · D for the content graph; keeps K · (keep + 2 rank) floats.
    **Source** Y. Shen et al., "How powerful is graph convolution for recommendation?" (2021, GF-CF); J. Fu et al.,
    "Revisiting neighborhood-based link prediction for collaborative filtering" (2022, LinkProp: free exponents);
    J. Choi et al. (2023, BSPM); content graph: X. Zhou, Z. Shen, "A tale of two graphs" (2023, FREEDOM).
    """

    degree: float = 0.5
    give: float = 0.4
    fame: float = 0.3
    damp: float = 0.5
    rank: int = 64
    smooth: float = 1.0
    keep: int = 1_000
    hop: float = 0.3
    alike: float = 0.1
    nearest: int = 10
    decay: float = 1.0
    strength: float = 0.0

    def __post_init__(self) -> None:
        within(
            self, degree=(0, 2), give=(-1, 2), fame=(-1, 2), damp=(0, 1), rank=(1, INF), smooth=(0, INF), keep=(1, INF),
            hop=(0, INF), alike=(0, INF), nearest=(1, INF), decay=(0, 1), strength=(0, INF),
        )  # fmt: skip

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> GraphModel:
        return _Parts(events, features, self.strength).model(self)

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Graph:
        """By NDCG@20 on validation: the walk's exponents alone, then the low-pass beside it, then content, then the decay."""
        parts = _Parts(fold.train, features, self.strength)
        large = fold.train.items > LARGE
        ranks = LARGE_RANKS if large else RANKS
        parts.widest = max(*ranks, self.rank)
        most = int(np.clip(CELLS // max(fold.train.items, 1), *ASKED))

        def value(settings: Graph) -> float:
            return rank_targets(parts.model(settings).score, fold, features.people, most=most).ndcg(20)

        def near(middle: float, *steps: float) -> tuple[float, ...]:
            return tuple(round(middle + step, 4) for step in steps)

        found = replace(self, smooth=0.0, hop=0.0, alike=0.0)
        grid = {"fame": (0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.8), "give": (0.3, 0.4, 0.6, 0.7), "degree": (0.25, 0.75, 1.0)}
        found, _ = climb(found, grid, value)
        # Rank and share together: a low-pass too narrow for the catalogue is refused at any share.
        both = [replace(found, smooth=smooth, rank=rank) for rank in ranks for smooth in (0.5, 1.0)]
        found = max([found, *both], key=value)
        if found.smooth:
            grid = {
                "smooth": tuple(round(found.smooth * share, 4) for share in (0.5, 0.7, 1.4, 2.0, 3.0)),
                "damp": () if large else (0.3, 0.5),  # each a decomposition of its own
                "fame": near(found.fame, -0.2, -0.1, 0.1, 0.2), "give": near(found.give, -0.1, 0.1),
            }  # fmt: skip
            found, _ = climb(found, grid, value)
        if parts.there:
            found, _ = climb(found, {"hop": (0.1, 0.3, 1.0, 2.0), "alike": (0.03, 0.1, 0.3, 1.0)}, value)
        return climb(found, {"decay": (1.0, 0.9, 0.8, 0.7)}, value)[0]


@dataclass(frozen=True, eq=False)
class GraphModel:
    """base = h · weights + (h · left) · rightᵀ, h being the history after `lend`; score = base + base · walk + history · step.

    **Shapes** weights, walk, lend, step (I, I) sparse, row = what gives, column = what gets; left, right (I, F).
    `walk` goes on from an item to its look-alikes, `lend` lets items without events speak through theirs, `step` leads to
    look-alikes directly. content (I, D), known (I,) (who has events), edges (the modalities) place new items.
    """

    weights: sparse.csr_array
    left: Floats
    right: Floats
    walk: sparse.csr_array
    lend: sparse.csr_array
    step: sparse.csr_array
    content: Floats
    known: NDArray[np.bool_]
    edges: tuple[tuple[str, int, int], ...]
    nearest: int
    alike: float
    decay: float
    strength: float

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). **Cost** events · keep + 2 I · F multiplications a history, and `nearest` · I with content."""
        history = histories.matrix(len(self.left), decay=self.decay, strength=self.strength)
        out = self._walked(history)
        if self.step.nnz:
            _add(out, history, self.step)
        return out if candidates is None else out[:, candidates]

    def _walked(self, history: sparse.csr_array) -> Floats:
        """All but the direct steps to look-alikes: (B, I) → (B, I), linear."""
        lent = history + history @ self.lend if self.lend.nnz else history
        out = np.asarray((lent @ self.left) @ self.right.T, np.float32)
        _add(out, lent, self.weights)
        if self.walk.nnz:
            out += out @ self.walk
        return out

    def parts(self, history: Histories, candidates: Rows) -> Parts:
        """Each event's share: the crowd's by the walk and the low-pass, content's by the direct step to look-alikes."""
        count = len(history.item)
        carry = carried(history, self.decay, self.strength)
        shape = (count, len(self.left))
        alone = sparse.csr_array((carry, (np.arange(count), history.item)), shape=shape, dtype=np.float32)
        values = [self._walked(alone)[:, candidates].T]
        if self.step.nnz:
            near = np.zeros(shape, np.float32)
            _add(near, alone, self.step)
            values.append(near[:, candidates].T)
        base = np.zeros(len(candidates), np.float32)
        return Parts(np.stack(values, axis=2), base, ("crowd", "content")[: len(values)])

    def extended(self, features: Features) -> GraphModel:
        """New items are the mean of those old ones they look like, as givers and as candidates."""
        more = len(features.items) - len(self.left)
        if not more:
            return self
        square = {
            name: resized(getattr(self, name), len(features.items)) for name in ("weights", "walk", "lend", "step")
        }
        grown = replace(
            self, left=np.pad(self.left, ((0, more), (0, 0))), right=np.pad(self.right, ((0, more), (0, 0))),
            known=np.pad(self.known, (0, more)), content=features.items.values, **square,
        )  # fmt: skip
        return grown.adopting(np.arange(len(self.left), len(features.items)))

    def adopting(self, rows: Rows) -> GraphModel:
        """`rows`, which have no events, made the mean of their look-alikes, both as givers and as candidates."""
        graph = neighbours(self.content, self.edges, np.flatnonzero(self.known), rows, self.nearest)
        if not graph.nnz:
            return self
        back = graph.T.tocsr()
        step = self.step + np.float32(self.alike) * (graph + back)
        return replace(self, walk=self.walk + graph, lend=self.lend + back, step=step.tocsr())


class _Parts:
    """What filters are made of, each made once: tuning asks for many mixtures of the same few."""

    def __init__(self, events: Events, features: Features, strength: float) -> None:
        matrix = events.matrix(strength)
        matrix.data = np.maximum(matrix.data, 0)  # who skipped an item is no neighbour through it
        matrix.eliminate_zeros()
        self.matrix, self.features = matrix, features
        self.known = np.bincount(matrix.indices, minlength=events.items) > 0
        self.people = np.maximum(np.asarray(matrix.sum(1)).ravel(), 1e-9)
        self.items = np.maximum(np.asarray(matrix.sum(0)).ravel(), 1e-9)
        self.there = bool(features.items.present.any())
        some = np.flatnonzero(np.diff(matrix.indptr) > 0)
        self.some = matrix[some[:: max(len(some) // 500, 1)]]  # a few people, to bring filters to one scale
        self.widest = 0  # vectors made at once, so that smaller ranks are the first of them
        self.walked = lru_cache(maxsize=2)(self._walked)
        self.smoothest = lru_cache(maxsize=2)(self._smoothest)
        self.near = lru_cache(maxsize=1)(self._near)
        self.look_alikes = lru_cache(maxsize=1)(self._look_alikes)

    def model(self, settings: Graph) -> GraphModel:
        s, items = settings, len(self.known)
        weights = self.near(s.degree, s.give, s.fame, s.keep)
        left, right = self._low_pass(s) if s.smooth > 0 else (np.zeros((items, 1), np.float32),) * 2
        content = self.features.items.values
        edges = self.features.edges() or (("content", 0, content.shape[1]),)
        nobody = sparse.csr_array((items, items), dtype=np.float32)
        graph = self.look_alikes(s.nearest) if self.there else nobody
        alike = s.alike / (_deviation((self.some @ graph).toarray()[:, self.known]) or 1.0)
        model = GraphModel(
            weights, left, right, graph * np.float32(s.hop), nobody, graph * np.float32(alike), content, self.known, edges,
            s.nearest, alike, s.decay, s.strength,
        )  # fmt: skip
        return model.adopting(np.flatnonzero(~self.known)) if self.there else model

    def _walked(self, degree: float) -> sparse.csr_array:
        """XᵀX without its diagonal (I, I)."""
        scaled = sparse.diags_array((self.people ** (-degree / 2)).astype(np.float32)) @ self.matrix
        product = (scaled.T @ scaled).tocsr()
        product.setdiag(0)
        product.eliminate_zeros()
        return product

    def _near(self, degree: float, give: float, fame: float, keep: int) -> sparse.csr_array:
        product = self.walked(degree)
        row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
        give_, fame_ = (self.items**-give).astype(np.float32), (self.items**-fame).astype(np.float32)
        scaled = sparse.csr_array(
            (product.data * give_[row] * fame_[product.indices], product.indices, product.indptr), shape=product.shape
        )
        return self._scaled(strongest_of(scaled, keep))

    def _scaled(self, weights: sparse.csr_array) -> sparse.csr_array:
        """The same filter with a deviation of 1 over items, in the mean over people."""
        spread = _deviation((self.some @ weights).toarray()[:, self.known])
        return weights * np.float32(1 / spread) if spread > 0 else weights

    def _smoothest(self, degree: float, damp: float, rank: int) -> Floats:
        """The leading right singular vectors of Dᵤ^(−degree/2) R Dᵢ^−damp, (I, F), the smoothest first."""
        scaled = sparse.diags_array((self.people ** (-degree / 2)).astype(np.float32)) @ self.matrix
        return leading((scaled @ sparse.diags_array((self.items**-damp).astype(np.float32))).tocsr(), rank)

    def _low_pass(self, settings: Graph) -> tuple[Floats, Floats]:
        axes = self.smoothest(settings.degree, settings.damp, max(settings.rank, self.widest))[:, : settings.rank]
        scale = np.where(self.known, self.items, 1)[:, None] ** np.float32(settings.damp)
        left, right = (axes / scale).astype(np.float32), (axes * scale).astype(np.float32)
        spread = _deviation((self.some @ left) @ right[self.known].T)
        return left, right * np.float32(settings.smooth / spread if spread > 0 else 0)

    def _look_alikes(self, nearest: int) -> sparse.csr_array:
        vectors = self.features.items
        edges = self.features.edges() or (("content", 0, vectors.size),)
        rows = np.flatnonzero(self.known & vectors.present)
        return neighbours(vectors.values, edges, rows, rows, nearest)


def strongest_of(weights: sparse.csr_array, keep: int) -> sparse.csr_array:
    """The `keep` largest entries of every column of a sparse matrix; of equal ones the first rows."""
    columns = weights.tocsc()
    columns.sort_indices()
    count = np.diff(columns.indptr)
    if count.max(initial=0) <= keep:
        return weights.tocsr()
    kept = np.ones(columns.nnz, bool)
    for one in np.flatnonzero(count > keep):
        span = slice(columns.indptr[one], columns.indptr[one + 1])
        values = columns.data[span]
        edge = np.partition(values, -keep)[-keep]
        chosen = values > edge
        chosen[np.flatnonzero(values == edge)[: keep - int(chosen.sum())]] = True
        kept[span] = chosen
    column = np.repeat(np.arange(len(count)), count)[kept]
    out = sparse.csr_array((columns.data[kept], (columns.indices[kept], column)), shape=weights.shape)
    out.sort_indices()
    return out


def resized(weights: sparse.csr_array, items: int) -> sparse.csr_array:
    """The same matrix with empty rows and columns for new items."""
    indptr = np.pad(weights.indptr, (0, items - weights.shape[0]), mode="edge")
    return sparse.csr_array((weights.data, weights.indices, indptr), shape=(items, items))


def _add(out: Floats, history: sparse.csr_array, weights: sparse.csr_array) -> None:
    """out (B, I) += history · weights."""
    from sensorium.models.graph_kernel import add_product

    given = (history.indptr, history.indices, history.data)
    add_product(*given, weights.indptr, weights.indices, weights.data, out)


def _deviation(scores: Floats) -> float:
    """The standard deviation of a row of scores, in the mean over rows."""
    return float(scores.std(1).mean()) if scores.size else 0.0
