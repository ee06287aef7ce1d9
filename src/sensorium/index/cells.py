"""Cells of alike items, by which the best of one history are found in a large catalogue without scoring all of it.

A model that scores an item by vectors of the item (`Pulls`) is asked first about cells, as if each were one item, then about
the items of the best cells, exactly. A blend also needs the mean and the deviation of each member's scores over all
items; the cells give them in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows, slices
from sensorium.models.model import Pull

BLOCK = 65_536  # rows of which distances are held at once
TURNS = 6  # of k-means
SAMPLE = 64  # vectors a cell by which the cells are found
LEAST, SHARE = 2000, 0.015  # items that are scored: at least so many, and this share of all


@dataclass(frozen=True, eq=False)
class Table:
    """One table of item vectors, and what its cells say of it.

    **Shapes** values (I, D); present (I,) or None: all; centres (G, D): means of the cells; around (D, D): the covariance
    of an item about its cell's mean, `spread` (G,) times which is that of one cell; total (D,), square (D, D): Σ v and
    Σ v vᵀ over all items.
    """

    values: Floats
    present: NDArray[np.bool_] | None
    centres: Floats
    around: Floats
    spread: Floats
    total: Floats
    square: Floats


@dataclass(frozen=True, eq=False)
class Found:
    """Scored rows (C,), none twice; `scales`: mean and 1 ÷ deviation of each pull; `all`: whether no allowed item is missing."""

    rows: Rows
    scores: Floats
    scales: tuple[tuple[float, float], ...]
    all: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """**Shapes** cell (I,): of each row; start (G + 1,), rows (I,): those of cell g are `rows[start[g]:start[g + 1]]`, ascending."""

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

        **Shapes** own: the rows of the history; keep (I,). Cells are visited, the best first, until `most` allowed items are
        found: a filter that keeps little is searched far, one that keeps fewer than that completely. **Cost** (G + most) · N · D operations.
        """
        from sensorium.index.cells_kernels import gathered

        own = np.unique(own)
        inside = (np.diff(self.start) - np.bincount(self.cell[own], minlength=len(self.start) - 1)).astype(np.float32)
        worth, scales = np.zeros(len(inside), np.float32), []
        for pull, table in zip(pulls, self.tables, strict=True):
            scores, centre, spread = _over_cells(pull, table, own, inside)
            scales.append((centre, spread))
            worth += scores if pull.share is None else np.float32(pull.share * spread) * (scores - np.float32(centre))
        rows, complete = gathered(np.argsort(-worth, kind="stable"), self.start, self.rows, keep, most)
        total = np.zeros(len(rows), np.float32)
        for pull, table, (centre, spread) in zip(pulls, self.tables, scales, strict=True):
            scores = _of_items(pull, table, rows)
            total += scores if pull.share is None else np.float32(pull.share * spread) * (scores - np.float32(centre))
        return Found(rows, total, tuple(scales), complete)

    def extended(self, tables: Sequence[Floats]) -> Cells:
        """The same cells for a catalogue that has grown: a new item goes to the cell whose mean is nearest."""
        known = len(self)
        weights = [_weight(table.values) for table in self.tables]
        centres = np.concatenate([w * t.centres for w, t in zip(weights, self.tables, strict=True)], axis=1)
        fresh = np.concatenate([w * t[known:] for w, t in zip(weights, tables, strict=True)], axis=1)
        cell = np.concatenate([self.cell, _nearest(fresh, centres)])
        return _cells(tables, cell, len(self.start) - 1)


def cells_of(tables: Sequence[Floats], *, count: int = 0, seed: int = 0) -> Cells:
    """Cells for items by all their tables (I, D_m) together, each table counting the same; 4 √I of them where not said.

    k-means in two steps: groups, then cells within each group. The same tables and seed give the same cells.
    **Cost** 4 · TURNS · I^¼ · 2 · I · Σ D operations at most; less where a sample finds the cells.
    """
    items = len(tables[0])
    count = count or max(1, min(int(4 * np.sqrt(items)), items // 8 or 1))
    rng = np.random.default_rng(seed)
    weights = [_weight(table) for table in tables]
    chosen = np.sort(rng.permutation(items)[: SAMPLE * count])

    def joint(rows: Rows | slice) -> Floats:
        return np.concatenate([w * table[rows] for w, table in zip(weights, tables, strict=True)], axis=1)

    sample = joint(chosen)
    groups = _means(sample, max(1, round(np.sqrt(count))), rng)
    member = _nearest(sample, groups)
    sizes = np.bincount(member, minlength=len(groups))
    many = np.maximum(1, np.round(count * sizes / max(sizes.sum(), 1))).astype(np.int64)
    within = [_means(sample[member == g], int(many[g]), rng) for g in range(len(groups))]
    first = np.concatenate([[0], np.cumsum([len(one) for one in within])])
    cell = np.empty(items, np.int32)
    for part in slices(items, BLOCK):
        block = joint(part)
        group = _nearest(block, groups)
        for g in np.unique(group):
            cell[part][group == g] = first[g] + _nearest(block[group == g], within[g])
    return _cells(tables, cell, int(first[-1]))


def _cells(tables: Sequence[Floats], cell: NDArray[np.int32], count: int) -> Cells:
    rows = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=count)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Cells(tuple(_table(values, rows, start) for values in tables), cell, start, rows)


def _table(values: Floats, rows: Rows, start: Rows) -> Table:
    """What the cells say of one table, summed cell by cell."""
    sizes = np.diff(start)
    size = values.shape[1]
    centres, spread = np.zeros((len(sizes), size), np.float32), np.zeros(len(sizes), np.float32)
    around, square = np.zeros((size, size)), np.zeros((size, size))
    present = np.ones(len(values), bool)
    for g in np.flatnonzero(sizes):
        here = values[rows[start[g] : start[g + 1]]]
        present[rows[start[g] : start[g + 1]]] = here.any(axis=1)
        centres[g] = here.mean(axis=0)
        off = here - centres[g]
        about = off.T @ off
        around += about
        square += about + sizes[g] * np.outer(centres[g], centres[g])
        spread[g] = np.trace(about) / sizes[g]
    around /= max(len(values), 1)
    spread /= max(float(np.trace(around)), 1e-30)
    total = (sizes @ centres.astype(np.float64)).astype(np.float32)
    return Table(
        values, None if present.all() else present, centres, around.astype(np.float32), spread, total,
        square.astype(np.float32),
    )  # fmt: skip


def _over_cells(pull: Pull, table: Table, own: Rows, inside: Floats) -> tuple[Floats, float, float]:
    """The mean score of each cell's items (G,), and the mean and 1 ÷ deviation of the scores of all items but `own`.

    Of a product the two are exact. Of nearness they take an item to lie about its cell's mean as a Gaussian does, for
    which E exp(s·y·v) = exp(s·y·c + s²/2 · yᵀAy), and E of two such factors is the product of theirs times exp(s² · yᵀAz).
    """
    count = max(float(inside.sum()), 1.0)
    if not pull.sharpness:
        person = pull.weights @ pull.vectors
        mine = (table.values[own] @ person).astype(np.float64)
        mean = (float(table.total @ person) - mine.sum()) / count
        square = float(person @ table.square @ person) - mine @ mine
        scores = table.centres @ person
    else:
        s = np.float32(pull.sharpness)
        turned = pull.vectors @ table.around
        pairs = s * s * (turned @ pull.vectors.T)
        near = table.centres @ (s * pull.vectors).T
        near += np.outer(table.spread, np.float32(0.5) * pairs.diagonal())
        near -= s
        np.exp(near, out=near)
        near *= pull.weights
        scores = near.sum(axis=1)
        mean = float(inside @ scores) / count
        square = float(inside @ np.einsum("gn,gn->g", near @ np.exp(np.minimum(pairs, 20)), near))
    deviation = np.sqrt(max(square / count - mean * mean, 0.0))
    alive = deviation > 1e-6 * max(float(np.abs(scores).max(initial=0)), 1e-30)
    return scores, mean, float(1 / deviation) if alive else 0.0


def _of_items(pull: Pull, table: Table, rows: Rows) -> Floats:
    scores = pull.scores(table.values.take(rows, axis=0))
    if pull.sharpness and table.present is not None:
        scores[~table.present[rows]] = 0
    return scores


def _weight(table: Floats) -> np.float32:
    """What makes the mean squared length of a table's rows 1."""
    return np.float32(1 / max(float(np.sqrt(np.einsum("ij,ij->", table, table, dtype=np.float64) / max(len(table), 1))), 1e-12))


def _nearest(vectors: Floats, centres: Floats) -> NDArray[np.int32]:
    """The nearest centre of each vector; ties keep the lower."""
    half = np.float32(0.5) * np.einsum("ij,ij->i", centres, centres)
    out = np.empty(len(vectors), np.int32)
    for part in slices(len(vectors), max(1, BLOCK * 64 // max(len(centres), 1))):
        out[part] = (vectors[part] @ centres.T - half).argmax(axis=1)
    return out


def _means(vectors: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Centres of k-means; one that loses all its vectors stays where it was."""
    count = min(count, len(vectors))
    centres = vectors[np.sort(rng.permutation(len(vectors))[:count])].copy()
    for _ in range(TURNS if count > 1 else 1):
        near = _nearest(vectors, centres)
        order = np.argsort(near, kind="stable")
        there, first = np.unique(near[order], return_index=True)
        sums = np.add.reduceat(vectors[order], first, axis=0)
        centres[there] = sums / np.diff(np.append(first, len(order)))[:, None]
    return centres
