"""Cells of alike items, by which the best of one history are found in a large catalogue without scoring all of it.

A model that scores an item by vectors of the item (`Pulls`) is asked first about cells, as if each were one item, then about
the items of the best cells, exactly. A blend also needs the mean and the deviation of each member's scores over all
items; the cells give them in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, slices
from sensorium.errors import ShapeError
from sensorium.models.model import Pull

BLOCK = 65_536  # rows of which distances are held at once
TURNS, LAST_TURNS = 6, 2  # of k-means, within groups and then over all cells
SAMPLE = 32  # vectors a cell by which the cells are found
CLOSE_BYTES = 128 * 1024 * 1024  # of a table that is held a second time, cell by cell
HEAVY = 16  # cells next to a history whose items are looked at, twice as many items as are usual at the most
FIRST = 200  # cells that are looked at before the others are put in order
LEAST, SHARE = 1000, 0.01  # items that are scored: at least so many, and this share of all


@dataclass(frozen=True, eq=False)
class Table:
    """One table of item vectors, and what its cells say of it.

    **Shapes** values (I, D), and `close` the same cell by cell, unless that would be too much to hold; present (I,), None
    where all are; centres (G, D): means of the cells; around (D, D): the covariance of an item about its cell's mean;
    wide (D + 2, G): the centres, what `around` is to be multiplied with for each cell, and 1; total (D,), square (D, D):
    Σ v and Σ v vᵀ over all items.
    """

    values: Floats
    close: Floats | None
    present: NDArray[np.bool_] | None
    centres: Floats
    around: Floats
    wide: Floats
    total: Floats
    square: Floats


@dataclass(frozen=True, eq=False)
class Found:
    """Scored rows (C,), none twice; `scales`: mean and 1 ÷ deviation of each pull; `all`: no allowed item is missing."""

    rows: Rows
    scores: Floats
    scales: tuple[tuple[float, float], ...]
    all: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """**Shapes** cell (I,): of each row; start (G + 1,), rows (I,): those of cell g are `rows[start[g] : start[g + 1]]`."""

    tables: tuple[Table, ...]
    cell: NDArray[np.int32]
    start: Rows
    rows: Rows

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def most(self) -> int:
        """How many items a search should score."""
        return max(LEAST, int(SHARE * len(self)))

    def search(self, pulls: Sequence[Pull], own: Rows, keep: NDArray[np.bool_], most: int) -> Found:
        """The allowed items of the best cells, with exact scores on a scale that is nearly exact.

        **Shapes** own: the rows of the history; keep (I,), in the order of `rows`. Cells are visited, the best first, until
        `most` allowed items are found: a filter that keeps little is searched far, one that keeps fewer than twice as
        many completely. **Cost** (G + most) · N · D operations.
        """
        own = np.unique(own)
        inside = (np.diff(self.start) - np.bincount(self.cell[own], minlength=len(self.start) - 1)).astype(np.float32)
        worth, scales = np.zeros(len(inside), np.float32), []
        for pull, table in zip(pulls, self.tables, strict=True):
            scores, centre, spread = _over_cells(self, pull, table, own, inside)
            scales.append((centre, spread))
            worth += scores if pull.share is None else np.float32(pull.share * spread) * (scores - np.float32(centre))
        rows, places, complete = self._visited(worth, keep, most)
        total = np.zeros(len(rows), np.float32)
        for pull, table, (centre, spread) in zip(pulls, self.tables, scales, strict=True):
            scores = _of_items(pull, table, rows, places)
            total += scores if pull.share is None else np.float32(pull.share * spread) * (scores - np.float32(centre))
        return Found(rows, total, tuple(scales), complete)

    def _visited(self, worth: Floats, keep: NDArray[np.bool_], most: int) -> tuple[Rows, Rows, bool]:
        """The allowed rows of the worthiest cells, `most` or somewhat more; their places; and whether these are all."""
        from sensorium.index.cells_kernels import gathered

        if np.count_nonzero(keep) <= 2 * most:  # cells are of all items: of few that a filter keeps they say little
            places = np.flatnonzero(keep)
            return self.rows[places], places, True
        for first in (FIRST, len(worth)):  # few cells nearly always do, and to sort all takes as long as to score them
            order = np.argpartition(-worth, first)[:first] if first < len(worth) else np.arange(len(worth))
            rows, places = gathered(order[np.argsort(-worth[order])], self.start, self.rows, keep, most)
            if len(rows) >= most:
                break
        return rows, places, False


def cells_of(tables: Sequence[Floats], *, count: int = 0, seed: int = 0) -> Cells:
    """Cells for items by all their tables (I, D_m) together, each counting the same; 8 √I where not said, 4,000 at most.

    k-means over a sample: begun in groups, then over all its cells. The same tables and seed give the same cells.
    **Cost** 2 · count · Σ D operations an item, and as many for each of a sample (SAMPLE · count) in each of LAST_TURNS.
    """
    items = len(tables[0])
    count = count or max(1, min(int(8 * np.sqrt(items)), items // 8, 4000))
    rng = np.random.default_rng(seed)
    weights = [_weight(table) for table in tables]

    def joint(rows: Rows | slice) -> Floats:
        return np.concatenate([w * table[rows] for w, table in zip(weights, tables, strict=True)], axis=1)

    sample = joint(rng.permutation(items)[: SAMPLE * count])  # in no order: its first vectors are a start
    groups = _means(sample, sample[: _root(count)], TURNS)
    member = _nearest(sample, groups)
    many = np.maximum(1, np.round(count * np.bincount(member, minlength=len(groups)) / len(sample))).astype(np.int64)
    begun = [_means(own := sample[member == g], own[: many[g]], TURNS) for g in range(len(groups))]
    centres = _means(sample, np.concatenate(begun), LAST_TURNS)
    cell = np.concatenate([_nearest(joint(part), centres) for part in slices(items, BLOCK)])
    return cells_by(tables, cell)


def cells_by(tables: Sequence[Floats], cell: NDArray[np.int32]) -> Cells:
    """The cells for a known cell of each item, as `Cells.cell` tells it; items after the last of them go where they fit.

    **Cost** one look at every vector. **Raises** ShapeError where that cannot be the cell of each item.
    """
    items = len(tables[0])
    if not 0 < len(cell) <= items or cell.min() < 0 or cell.max() >= items:
        raise ShapeError(f"cells of {len(cell):,} items in a catalogue of {items:,}; train the run again")
    known = [table[: len(cell)] for table in tables]
    rows = np.argsort(cell, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(cell))]).astype(np.int64)
    if len(cell) == items:
        return Cells(tuple(_table(values, rows, start) for values in tables), cell, start, rows)
    weights = [_weight(table) for table in known]
    centres = np.concatenate([w * _table(t, rows, start).centres for w, t in zip(weights, known, strict=True)], axis=1)
    fresh = np.concatenate([w * table[len(cell) :] for w, table in zip(weights, tables, strict=True)], axis=1)
    return cells_by(tables, np.concatenate([cell, _nearest(fresh, centres)]))


def _table(values: Floats, rows: Rows, start: Rows) -> Table:
    """What the cells say of one table."""
    size, sizes = values.shape[1], np.diff(start)
    close = np.empty_like(values) if values.nbytes <= CLOSE_BYTES else None
    present = np.ones(len(values), bool)
    centres, lengths = np.zeros((len(sizes), size), np.float32), np.zeros(len(sizes))
    square = np.zeros((size, size))
    begin = 0
    while begin < len(sizes):  # some whole cells at a time
        end = max(begin + 1, int(np.searchsorted(start, start[begin] + BLOCK, "right")) - 1)
        here = values[rows[start[begin] : start[end]]]
        if close is not None:
            close[start[begin] : start[end]] = here
        squares = np.einsum("ij,ij->i", here, here)
        present[rows[start[begin] : start[end]]] = squares > 0
        square += here.T @ here
        filled = begin + np.flatnonzero(sizes[begin:end])
        if len(filled):
            centres[filled] = np.add.reduceat(here, start[filled] - start[begin]) / sizes[filled][:, None]
            lengths[filled] = np.add.reduceat(squares, start[filled] - start[begin]) / sizes[filled]
        begin = end
    between = (centres.T * sizes) @ centres.astype(np.float64)
    around = (square - between) / max(len(values), 1)
    spread = np.maximum(lengths - np.einsum("ij,ij->i", centres, centres), 0) / max(float(np.trace(around)), 1e-30)
    return Table(
        values, close, None if present.all() else present, centres, around.astype(np.float32),
        np.vstack([centres.T, spread.astype(np.float32), np.ones(len(sizes), np.float32)]),
        (sizes @ centres.astype(np.float64)).astype(np.float32), square.astype(np.float32),
    )  # fmt: skip


def _over_cells(cells: Cells, pull: Pull, table: Table, own: Rows, inside: Floats) -> tuple[Floats, float, float]:
    """The mean score of each cell's items (G,), and the mean and 1 ÷ deviation of the scores of all items but `own`.

    Of a product the two are exact. Of nearness they take an item to lie about its cell's mean as a Gaussian does, for
    which E exp(s·y·v) = exp(s·y·c + s²/2 · yᵀAy), and E of two such factors is the product of theirs times exp(s² · yᵀAz);
    but for the few cells that matter most.
    """
    count = max(float(inside.sum()), 1.0)
    if not pull.sharpness:
        person = pull.weights @ pull.vectors
        mine = (table.values[own] @ person).astype(np.float64)
        mean = (float(table.total @ person) - float(mine.sum())) / count
        square = float(person @ table.square @ person) - float(mine @ mine)
        scores = table.centres @ person
    else:
        s = np.float32(pull.sharpness)
        turned = pull.vectors @ table.around
        pairs = s * s * (turned @ pull.vectors.T)
        asked = np.empty((len(pairs), pull.vectors.shape[1] + 2), np.float32)
        np.multiply(pull.vectors, s, out=asked[:, :-2])
        asked[:, -2], asked[:, -1] = np.float32(0.5) * pairs.diagonal(), -s
        near = asked @ table.wide
        np.exp(near, out=near)
        scores = pull.weights @ near
        both = np.outer(pull.weights, pull.weights) * np.exp(np.minimum(pairs, 20))
        squares = np.einsum("ng,ng->g", both @ near, near) * inside
        sums = scores * inside
        # Most of the deviation lies in a few cells next to the history, where no Gaussian will do: they are looked at.
        sizes = np.diff(cells.start)
        heavy = np.argpartition(-squares, HEAVY)[:HEAVY] if len(squares) > HEAVY else np.arange(len(squares))
        heavy = heavy[np.cumsum(sizes[heavy]) <= 2 * HEAVY * max(len(cells) // len(sizes), 16)]
        places = np.repeat(cells.start[heavy] - np.cumsum(sizes[heavy]) + sizes[heavy], sizes[heavy])
        places += np.arange(len(places))
        rows = cells.rows[places]
        seen = _of_items(pull, table, rows, places).astype(np.float64)
        seen[np.isin(rows, own)] = 0
        mean = (float(sums.sum()) - float(sums[heavy].sum()) + float(seen.sum())) / count
        square = float(squares.sum()) - float(squares[heavy].sum()) + float(seen @ seen)
    deviation = np.sqrt(max(square / count - mean * mean, 0.0))
    alive = deviation > 1e-6 * max(float(np.abs(scores).max(initial=0)), 1e-30)
    return scores, mean, float(1 / deviation) if alive else 0.0


def _of_items(pull: Pull, table: Table, rows: Rows, places: Rows) -> Floats:
    items = table.values.take(rows, axis=0) if table.close is None else table.close.take(places, axis=0)
    scores = pull.scores(items)
    if pull.sharpness and table.present is not None:
        scores[~table.present[rows]] = 0
    return scores


def _weight(table: Floats) -> np.float32:
    """What makes the mean squared length of a table's rows 1."""
    return np.float32(
        1 / max(float(np.sqrt(np.einsum("ij,ij->", table, table, dtype=np.float64) / max(len(table), 1))), 1e-12)
    )


def _nearest(vectors: Floats, centres: Floats) -> NDArray[np.int32]:
    """The nearest centre of each vector; ties keep the lower."""
    half = np.float32(0.5) * np.einsum("ij,ij->i", centres, centres)
    out = np.empty(len(vectors), np.int32)
    for part in slices(len(vectors), max(1, BLOCK * 64 // max(len(centres), 1))):
        out[part] = (vectors[part] @ centres.T - half).argmax(axis=1)
    return out


def _means(vectors: Floats, centres: Floats, turns: int) -> Floats:
    """Centres of k-means after some turns; one that loses all its vectors stays where it was."""
    centres = centres.copy()
    for _ in range(turns):
        near = _nearest(vectors, centres)
        order = np.argsort(near, kind="stable")
        there, first = np.unique(near[order], return_index=True)
        sums = np.add.reduceat(vectors[order], first, axis=0)
        centres[there] = sums / np.diff(np.append(first, len(order)))[:, None]
    return centres


def _root(count: int) -> int:
    return max(1, round(float(np.sqrt(count))))
