"""Where the crowd would have put an item: taste directions of what people did, foretold from content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import solve
from scipy.sparse.linalg import LinearOperator, eigsh

from sensorium.arrays import Floats, Rows, best, slices, unit
from sensorium.data.events import Events, confidence
from sensorium.data.vectors import Vectors


@dataclass(frozen=True, eq=False)
class CrowdMap:
    """A linear map from content to the crowd's space, and the share of the fused vector it earned on held-out items.

    **Shapes** map (D, R).
    """

    map: Floats
    share: float

    def place(self, content: Vectors) -> Floats:
        """**Shapes** (I, D) → (I, R), unit rows, zero where there is no content."""
        return unit(content.values @ self.map)


def taste(matrix: sparse.csr_array, size: int) -> Floats:
    """Unit rows (I, R): items by the people they share, a row of zeros where nobody touched the item.

    The strongest directions of X'X, X being who × what with both sides divided by √degree, so that neither busy people
    nor famous items decide alone. **Cost** O(nonzeros × R) for a few dozen sweeps.
    """
    people = np.maximum(np.asarray(abs(matrix).sum(1)).ravel(), 1)
    items = np.maximum(np.asarray(abs(matrix).sum(0)).ravel(), 1)
    scaled = sparse.csr_array(matrix.multiply(people[:, None] ** -0.5).multiply(items[None, :] ** -0.5)).astype(float)
    turned = sparse.csr_array(scaled.T)
    size = min(size, min(matrix.shape) - 2)
    if size < 1:
        return np.zeros((matrix.shape[1], 0), np.float32)
    tall = matrix.shape[0] > matrix.shape[1]
    left, right = (turned, scaled) if tall else (scaled, turned)
    side = min(matrix.shape)
    # A start vector that is not all ones: that is nearly the first eigenvector, and Lanczos would stall on it.
    start = 1 + 0.5 * np.cos(np.arange(side))
    gram = LinearOperator((side, side), matvec=lambda v: left @ (right @ v), dtype=float)
    values, vectors = eigsh(gram, k=size, v0=start, tol=1e-6)
    order = np.argsort(-values)
    values, vectors = np.sqrt(np.maximum(values[order], 0)), vectors[:, order]
    placed = vectors * values if tall else turned @ vectors
    signs = np.sign(placed[np.argmax(np.abs(placed), axis=0), np.arange(size)])
    return unit(placed * np.where(signs == 0, 1, signs))


def crowd_map(
    content: Vectors, events: Events, *, sizes: tuple[int, ...], ridges: tuple[float, ...], shares: tuple[float, ...],
    rng: np.random.Generator,
) -> CrowdMap | None:  # fmt: skip
    """The map that finds held-out items best, or None where there are too few events to choose by.

    A tenth of the items that people touched are taken out of the events, the map is learnt from the rest, and every
    combination ranks the tenth among themselves for the people who touched them (mean cosine to their history, Recall of
    a tenth). The winner is learnt again from everything. A share above 0 must win by more than one standard error of the
    paired difference, since a map that only fits chance moves every item.

    **Source** Y. Wei et al., "Contrastive learning for cold-start recommendation" (2021) for the aim; a ridge regression
    reaches it in closed form.
    """
    matrix = _liked(events)
    touched = np.flatnonzero((np.diff(sparse.csc_array(matrix).indptr) > 0) & content.present[: matrix.shape[1]])
    if len(touched) < 50 or matrix.nnz < 200:
        return None
    trials = []
    for _ in range(2):
        hidden = rng.permutation(touched)[: max(len(touched) // 10, 10)]
        trials.append(_judge(content, matrix, np.sort(hidden), sizes, ridges, shares))
    keys = list(trials[0])
    plain = np.concatenate([trial[(0, 0.0, 0.0)] for trial in trials])
    scores = {key: np.concatenate([trial[key] for trial in trials]) for key in keys}
    winner = max(keys, key=lambda key: float(scores[key].mean()))
    gain = scores[winner] - plain
    if len(gain) < 2 or gain.mean() <= gain.std() / np.sqrt(len(gain)):
        return None
    size, ridge, share = winner
    return CrowdMap(_regress(content, matrix, taste(matrix, size), ridge)[0], share)


def _judge(
    content: Vectors, matrix: sparse.csr_array, hidden: Rows, sizes: tuple[int, ...], ridges: tuple[float, ...],
    shares: tuple[float, ...],
) -> dict[tuple[int, float, float], Floats]:  # fmt: skip
    """For each (size, ridge, share), the recall of each person asked; (0, 0, 0) is content alone."""
    out = np.zeros(matrix.shape[1], bool)
    out[hidden] = True
    known = sparse.csr_array(matrix.multiply(~out[None, :]))
    known.eliminate_zeros()
    wanted = sparse.csr_array(sparse.csc_array(matrix)[:, hidden])
    who = np.flatnonzero((np.diff(known.indptr) > 0) & (np.diff(wanted.indptr) > 0))
    if len(who) > 2000:
        who = who[:: -(-len(who) // 2000)]
    history, wanted = known[who], wanted[who]
    if len(hidden) > 2000:  # the same question, asked of fewer
        hidden, wanted = hidden[:2000], sparse.csr_array(wanted[:, :2000])
    count = np.asarray(history.sum(1)).ravel()[:, None]
    k = max(min(20, len(hidden) // 5), 1)

    def near(values: Floats) -> Floats:
        return ((history @ values) / count @ values[hidden].T).astype(np.float32)

    plain = near(content.values[: matrix.shape[1]])
    scores = {(0, 0.0, 0.0): _recall(plain, wanted, k)}
    everything = taste(known, max(sizes))
    touched = np.unique(np.concatenate([history.indices, hidden]))  # nobody asks about the others
    few, history, places = content.take(touched), history[:, touched], np.searchsorted(touched, hidden)
    for size in sizes:
        target = unit(everything[:, :size])
        for ridge, weights in zip(ridges, _regress(content, known, target, *ridges), strict=True):
            placed = CrowdMap(weights, 1.0).place(few)
            moved = ((history @ placed) / count @ placed[places].T).astype(np.float32)
            for share in shares:
                scores[(size, ridge, share)] = _recall((1 - share) * plain + share * moved, wanted, k)
    return scores


def _recall(scores: Floats, wanted: sparse.csr_array, k: int) -> Floats:
    """The share of each row's wanted columns among its best k; rows that want nothing are left out."""
    found = np.zeros(scores.shape[0])
    counts = np.diff(wanted.indptr)
    for part in slices(len(found), 512):
        columns, _ = best(scores[part], k)
        asked = wanted[part].toarray() > 0
        found[part] = np.take_along_axis(asked, columns, axis=1).sum(1)
    return found[counts > 0] / counts[counts > 0]


def _regress(content: Vectors, matrix: sparse.csr_array, target: Floats, *ridges: float) -> list[Floats]:
    """Ridge regression from content to the crowd's space, a map (D, R) for each ridge; an item counts c/(c + 1), c its people.

    The mean of the targets is what all items share (fame): it is left out, or it would make all of them alike.
    """
    count = np.asarray((matrix != 0).sum(0)).ravel()
    rows = np.flatnonzero((count > 0) & content.present[: len(count)])
    weight = (count[rows] / (count[rows] + 1.0))[:, None]
    given, wanted = content.values[rows], target[rows].astype(float)
    mean = (weight * wanted).sum(0) / weight.sum()
    # Summed in float32: the content's columns are of one size, and the ridge stands far above the rounding.
    gram = (given.T @ (weight.astype(np.float32) * given)).astype(float)
    moment = (given.T @ (weight * (wanted - mean)).astype(np.float32)).astype(float)
    side = np.arange(len(gram))
    maps = []
    for ridge in ridges:
        gram[side, side] += ridge
        maps.append(solve(gram, moment, assume_a="pos").astype(np.float32))
        gram[side, side] -= ridge
    return maps


def _liked(events: Events) -> sparse.csr_array:
    """Who did something with what (U, I), 0/1; what was skipped or hidden is left out."""
    matrix = events.take(confidence(events, 0.0) > 0).matrix()
    return sparse.csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
