"""Approximate nearest vectors for large catalogues: an inverted file (faiss), and exact scores for what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, threads
from sensorium.errors import MissingExtra
from sensorium.index.exact import Exact, both, checked, padded, score_rows

SCAN_BELOW = (
    0.05  # share of rows that a filter keeps, below which gathering and scoring all of them is cheaper and exact
)
FLAT_BYTES = (
    256 * 1024 * 1024
)  # above this, the lists hold one byte a number; exact scores come from the vectors anyway


@dataclass(frozen=True)
class Ivf:
    """How an inverted file is built and searched; 0 chooses lists by the number of vectors, and probes by trying.

    `lists` cells of k-means, of which a search visits `probes`; `sample` vectors a cell are used to find the cells;
    `spare` times k candidates are scored exactly.
    """

    lists: int = 0
    probes: int = 0
    sample: int = 64
    spare: int = 4

    def build(self, vectors: Floats, present: NDArray[np.bool_] | None = None, *, seed: int = 0) -> Approximate:
        """An index over the rows that are present; the same vectors and seed give the same index.

        **Cost** k-means over lists·sample vectors, then one assignment a vector. **Source** Jégou, Douze and Schmid
        2011 (inverted file); Bachrach et al. 2014 (inner product as distance).
        """
        faiss = _faiss()
        vectors = np.ascontiguousarray(vectors, np.float32)
        rows = np.flatnonzero(present) if present is not None else np.arange(len(vectors))
        kept = level(vectors[rows])
        count, size = kept.shape
        lists = self.lists or max(1, min(int(4 * np.sqrt(count)), count // 32 or 1))
        coarse = faiss.IndexFlatL2(size)
        if count * size * 4 > FLAT_BYTES:
            cells = faiss.IndexIVFScalarQuantizer(coarse, size, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2)
        else:
            cells = faiss.IndexIVFFlat(coarse, size, lists, faiss.METRIC_L2)
        cells.cp.seed = seed
        cells.cp.niter = 10
        cells.cp.max_points_per_centroid = self.sample
        cells.cp.min_points_per_centroid = 1
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # sums of k-means in one order, so that every machine finds the same cells
        try:
            chosen = np.random.default_rng(seed).permutation(count)[: max(lists * self.sample, 1)]
            cells.train(kept[np.sort(chosen)])
            faiss.omp_set_num_threads(threads())
            cells.add_with_ids(kept, rows)
        finally:
            faiss.omp_set_num_threads(before)
        index = Approximate(vectors, present, self, min(lists, self.probes or max(16, lists // 32)), cells)
        return index if self.probes else _probing_enough(index, rows, seed)


@dataclass(frozen=True, eq=False)
class Approximate:
    """A built inverted file beside the vectors it was built from. It is rebuilt from them, never read from a disk."""

    vectors: Floats
    present: NDArray[np.bool_] | None
    settings: Ivf
    probes: int
    cells: Any = field(repr=False)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Floats, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[Rows, Floats]:
        """As Exact.search, with scores that are exact and rows that may miss a few of the best.

        A filter that keeps less than a twentieth of the rows is answered exactly; one that keeps less than all visits
        more cells, up to four times as many.
        """
        queries = checked(queries, self.vectors)
        k = min(k, len(self.vectors))
        mask = both(self.present, allowed)
        share = 1.0 if mask is None else float(mask.mean())
        if share < SCAN_BELOW:
            return Exact(self.vectors).search(queries, k, mask)
        faiss = _faiss()
        wide = np.pad(queries, ((0, 0), (0, self.cells.d - queries.shape[1])))
        asked = min(len(self.vectors), self.settings.spare * k + 32)
        probes = min(self.cells.nlist, int(self.probes * min(4.0, 1 / share)))
        options: dict[str, Any] = {"nprobe": probes}
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)  # keeps a pointer: `bits` must live until the search ends
        _, found = self.cells.search(wide, asked, params=faiss.SearchParametersIVF(**options))
        return padded(*score_rows(queries, self.vectors, found.astype(np.int64), k), k, None)


def level(vectors: Floats) -> Floats:
    """The vectors, with one more number each where their lengths differ, so that all come to the same length.

    Then the nearest by distance is the greatest by inner product, and k-means cells serve both.

    >>> level(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)).tolist()
    [[3.0, 4.0, 0.0], [0.0, 0.0, 5.0]]
    """
    squares = np.einsum("id,id->i", vectors, vectors)
    most = squares.max() if len(squares) else np.float32(0)
    if not len(squares) or squares.min() > 0.999 * most:
        return vectors
    return np.concatenate([vectors, np.sqrt(np.maximum(most - squares, 0))[:, None]], axis=1)


def _probing_enough(index: Approximate, rows: Rows, seed: int) -> Approximate:
    """The index with the fewest probes (doubled from few) that find 97 % of the ten best of 100 trial queries.

    A trial leans from one vector to another: harder than asking for a stored vector, and much like a history.
    """
    rng = np.random.default_rng(seed)
    vectors = index.vectors
    trials = vectors[rng.choice(rows, 100)] + np.float32(0.5) * vectors[rng.choice(rows, 100)]
    wanted, _ = Exact(vectors, index.present).search(trials, 10)
    while index.probes < index.cells.nlist:
        found, _ = index.search(trials, 10)
        kept = (wanted[:, :, None] == found[:, None, :]).any(axis=2)
        if kept[wanted >= 0].mean() >= 0.97:
            break
        index = replace(index, probes=min(index.cells.nlist, 2 * index.probes))
    return index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtra("faiss", "index") from None
    return faiss
