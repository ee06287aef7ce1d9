"""Cells of alike items, by which the best of one history are found in a large catalogue without scoring all of it.

A model that scores an item by vectors of the item (`Pulls`) is asked first about cells, as if each were one item, then about
the items of the best cells, exactly. A blend also needs the mean and the deviation of each member's scores over all
items; the cells give them in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Bits, Floats, Rows, slices
from sensorium.errors import ShapeError
from sensorium.models.model import Pull

Doubles = NDArray[np.float64]
Means = tuple[Floats, Doubles]  # of the items of each cell: their mean (G, D), and that of their squared lengths (G,)

BLOCK = 65_536  # rows of which distances are held at once
TURNS, LAST_TURNS = 6, 2  # of k-means, within groups and then over all cells
SAMPLE = 32  # vectors a cell by which the cells are found
CLOSE_BYTES = 128 * 1024 * 1024  # of a table that is held a second time, cell by cell
FEW = 0.05  # the share of items up to which cells grow by what is new or changed; beyond, all are looked at
COMPARED = 2 * 1024 * 1024  # numbers that are compared at once
HEAVY, LOOKED = 16, 512  # cells next to a history whose items are looked at, and how many items at the most
LEAST, SHARE = 700, 0.008  # items that are scored: at least so many, and this share of all


@dataclass(frozen=True, eq=False)
class Table:
    """One table of item vectors, and what its cells say of it.

    **Shapes** values (I, D), and `close` the same cell by cell, unless that would be too much to hold; present (I,), None
    where all are; centres (D, G): means of the cells; spread (G,): the mean squared distance of an item from its cell's mean,
    in the usual one; around (D, D): the covariance of an item about its cell's mean; total (D,), square (D, D): Σ v and
    Σ v vᵀ over all items. What growing starts from, in double precision: lengths (G,): the mean squared length of a cell's
    items, unrounded (D, D): `square` before it is rounded.
    """

    values: Floats
    close: Floats | None
    present: NDArray[np.bool_] | None
    centres: Floats
    spread: Floats
    around: Floats
    total: Floats
    square: Floats
    lengths: Doubles
    unrounded: Doubles

    @classmethod
    def of(cls, values: Floats, rows: Rows, start: Rows) -> Table:
        """What one look at the vectors says of the cells that `Cells.rows` and `Cells.start` tell."""
        size, count = values.shape[1], len(start) - 1
        close = np.empty_like(values) if values.nbytes <= CLOSE_BYTES else None
        present = np.ones(len(values), bool)
        centres, lengths, square = np.zeros((count, size), np.float32), np.zeros(count), np.zeros((size, size))
        for part in _whole(start):
            own = start[part.start : part.stop + 1]
            here = values[rows[own[0] : own[-1]]]
            if close is not None:
                close[own[0] : own[-1]] = here
            centres[part], lengths[part], squares = _means_of(here, own - own[0])
            present[rows[own[0] : own[-1]]] = squares > 0
            square += here.T @ here
        return cls._told(values, close, present, centres, lengths, square, np.diff(start))

    @classmethod
    def _told(
        cls, values: Floats, close: Floats | None, present: NDArray[np.bool_] | None,
        centres: Floats, lengths: Doubles, square: Doubles, sizes: Rows,
    ) -> Table:  # fmt: skip
        """What follows from the centres (G, D), the mean squared lengths (G,) and Σ v vᵀ."""
        exact = centres.astype(np.float64)
        around = (square - (exact.T * sizes) @ exact) / max(len(values), 1)
        usual = max(float(np.trace(around)), 1e-30)
        spread = np.maximum(lengths - np.einsum("ij,ij->i", exact, exact), 0) / usual
        return cls(
            values, close, None if present is None or present.all() else present, np.ascontiguousarray(centres.T),
            spread.astype(np.float32), around.astype(np.float32), (sizes @ exact).astype(np.float32),
            square.astype(np.float32), lengths, square,
        )  # fmt: skip

    def grown(self, values: Floats, changed: Rows, means: Means, rows: Rows, start: Rows) -> Table:
        """Itself for other `values`, which differ in the rows `changed` and have more; `means`: of all the cells now."""
        known = len(self.values)
        if len(values) == known and not len(changed):
            return replace(self, values=values)
        looked = np.concatenate([changed, np.arange(known, len(values))])
        now, before = values[looked].astype(np.float64), self.values[changed].astype(np.float64)
        there = np.einsum("ij,ij->i", values[looked], values[looked]) > 0
        present = None
        if self.present is not None or not there.all():
            present = np.ones(len(values), bool)
            present[:known] = True if self.present is None else self.present
            present[looked] = there
        close = None
        if values.nbytes <= CLOSE_BYTES:
            close = np.empty_like(values)
            if self.close is None:
                np.take(values, rows, axis=0, out=close, mode="clip")  # "raise", the usual mode, takes a copy more
            else:  # along memory, which takes half as long as row by row
                other = rows >= known
                np.take(self.close, np.cumsum(~other) - 1, axis=0, out=close, mode="clip")
                other |= np.isin(rows, changed, kind="table")
                close[other] = values[rows[other]]
        square = self.unrounded + now.T @ now - before.T @ before
        return self._told(values, close, present, *means, square, np.diff(start))


@dataclass(frozen=True, eq=False)
class Asker:
    """What one history asks: its pulls, a table each; `own` rows; which items it may get, a bit each, in the order of
    `Cells.rows`; and how many should be looked at."""

    pulls: Sequence[Pull]
    own: Rows
    keep: Bits
    most: int


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

    @cached_property
    def sizes(self) -> Floats:
        """How many items each cell holds (G,)."""
        return np.diff(self.start).astype(np.float32)

    @property
    def most(self) -> int:
        """How many items a search should score."""
        return max(LEAST, int(SHARE * len(self)))

    def search(self, askers: Sequence[Asker]) -> list[Found]:
        """For each asker the allowed items of the best cells, with exact scores on a scale that is nearly exact.

        Cells are visited, the best first, until `most` allowed items are found: a filter that keeps little is searched far,
        one that keeps fewer than twice as many completely. All askers ask the same model. **Cost** (G + most) · N · D
        operations each; those that ask together take fewer and larger steps, without the interpreter's lock.
        """
        from sensorium.index.cells_kernels import gathered

        own = [np.array(sorted({*asker.own.tolist()}), np.int64) for asker in askers]
        first = _begins(own)
        every = np.concatenate(own)
        inside = np.repeat(self.sizes[None], len(askers), axis=0)
        np.subtract.at(inside, (np.repeat(np.arange(len(askers)), np.diff(first)), self.cell[every]), 1)
        sides = [
            (_Near if pulls[0].sharpness else _Along)(pulls, table)
            for *pulls, table in zip(*(asker.pulls for asker in askers), self.tables, strict=True)
        ]
        worth = _together(sides, [side.of_cells(self, inside, every, first) for side in sides])
        keep, most = np.stack([asker.keep for asker in askers]), np.array([asker.most for asker in askers])
        allowed = np.bitwise_count(keep.view(np.uint64)).sum(axis=1, dtype=np.int64)
        # Cells are of all items: of few that a filter keeps they say little.
        rows, places, found = gathered(worth, self.start, self.rows, keep, allowed, most)
        total = _together(sides, [side.of_items(rows, places, found) for side in sides], np.diff(found))
        return [
            Found(
                rows[begin:end], total[begin:end], tuple((side.scales[b, 0], side.scales[b, 1]) for side in sides),
                bool(allowed[b] <= 2 * most[b]),
            )
            for b, (begin, end) in enumerate(pairwise(found.tolist()))
        ]  # fmt: skip

    def grown(self, tables: Sequence[Floats]) -> Cells:
        """The cells for tables that have more rows, or other vectors in some of those known: what `cells_by` gives for the
        known cells, without a look at what stayed. Itself stays as it is; a table that begins in the memory of the one
        before is taken to begin with the same rows.

        **Shapes** tables[m] (I', D_m), I' ≥ I. **Raises** ShapeError for others. **Cost** a comparison of the known rows
        and a copy of the tables; a look at the cells that changed. As `cells_by` where more than FEW of the items are new or changed.
        """
        known, items = len(self), len(tables[0]) if tables else 0
        wanted, given = [one.values.shape[1] for one in self.tables], [table.shape for table in tables]
        if items < known or given != [(items, size) for size in wanted]:
            raise ShapeError(f"cells of {known:,} items by vectors of {wanted} cannot grow to {given}; find them anew")
        most = int(FEW * known)
        changed = [_changed(one.values, table, most) for one, table in zip(self.tables, tables, strict=True)]
        if items - known > most or any(rows is None for rows in changed):
            return cells_by(tables, self.cell)
        fresh, others = [table[known:] for table in tables], [rows for rows in changed if rows is not None]
        means = [
            _again((np.ascontiguousarray(one.centres.T), one.lengths), table, self.cell[rows], self.rows, self.start)
            for one, table, rows in zip(self.tables, tables, others, strict=True)
        ]
        cell, rows, start = self.cell, self.rows, self.start
        if items > known:
            new = _fitting(means, np.diff(start), fresh)
            cell = np.concatenate([cell, new])
            rows = np.insert(rows, start[new + 1], np.arange(known, items))  # behind those that their cells hold
            start = start + _bounds(np.bincount(new, minlength=len(start) - 1))
            means = [_again(own, table, new, rows, start) for own, table in zip(means, tables, strict=True)]
        told = zip(self.tables, tables, others, means, strict=True)
        return Cells(tuple(one.grown(table, at, own, rows, start) for one, table, at, own in told), cell, start, rows)


def _begins(lines: Sequence[Sized]) -> Rows:
    """Where each of some lines begins when they stand one after the other, and where the last ends."""
    return np.cumsum([0, *map(len, lines)], dtype=np.int64)


def _together(sides: Sequence[_Near | _Along], scores: Sequence[Floats], counts: Rows | None = None) -> Floats:
    """The scores of all pulls, each on its scale: by asker (B, G), or in one line, `counts` of each."""
    total = np.zeros(scores[0].shape, np.float32)
    for side, own in zip(sides, scores, strict=True):
        if side.shares is None:
            total += own
            continue
        factor, centre = (side.shares * side.scales[:, 1]).astype(np.float32), side.scales[:, 0].astype(np.float32)
        if counts is None:
            total += factor[:, None] * (own - centre[:, None])
        else:
            total += np.repeat(factor, counts) * (own - np.repeat(centre, counts))
    return total


def _shares(pulls: Sequence[Pull]) -> NDArray[np.float64] | None:
    """What the pulls of each asker count (B,); None where scores are taken as they are."""
    return None if pulls[0].share is None else np.array([pull.share for pull in pulls])


class _Along:
    """Products with one vector each, for which mean and deviation of the scores of all items but their own are exact."""

    def __init__(self, pulls: Sequence[Pull], table: Table) -> None:
        self.shares, self.table = _shares(pulls), table
        self.persons: Floats = np.stack([pull.weights @ pull.vectors for pull in pulls])

    def of_cells(self, cells: Cells, inside: Floats, own: Rows, first: Rows) -> Floats:
        """Scores of the cells (B, G), and the `scales` (B, 2). **Shapes** inside (B, G): how many items of a cell a history lacks."""
        from sensorium.index.cells_kernels import along_cells

        table = self.table
        scores, self.scales = along_cells(
            table.centres, table.total, table.square, table.values, own, first, self.persons
        )
        return scores

    def of_items(self, rows: Rows, places: Rows, found: Rows) -> Floats:
        """Scores of some items, those of asker b being `found[b] : found[b + 1]`."""
        from sensorium.index.cells_kernels import along_items

        table = self.table
        values, at = (table.values, rows) if table.close is None else (table.close, places)
        return along_items(values, at, found, self.persons)


class _Near:
    """A nearness. Its mean and deviation take an item to lie about its cell's mean as a Gaussian does, for which
    E exp(s·y·v) = exp(s·y·c + s²/2 · yᵀAy), and E of two such factors is the product of theirs times exp(s² · yᵀAz); but for
    the few cells that matter most.
    """

    def __init__(self, pulls: Sequence[Pull], table: Table) -> None:
        self.shares, self.table, self.sharpness = _shares(pulls), table, float(pulls[0].sharpness)
        self.asked = np.concatenate([pull.vectors for pull in pulls]) * np.float32(self.sharpness)
        self.weights = np.concatenate([pull.weights for pull in pulls])
        self.begin = _begins([pull.weights for pull in pulls])

    def of_cells(self, cells: Cells, inside: Floats, own: Rows, first: Rows) -> Floats:
        """Scores of the cells (B, G), and the `scales` (B, 2). **Shapes** inside (B, G): how many items of a cell a history lacks."""
        from sensorium.index.cells_kernels import near_scaled

        table = self.table
        close = table.close is not None
        scores, self.scales = near_scaled(
            table.centres, table.spread, table.around, inside, self.asked, self.weights, self.begin, self.sharpness,
            cells.start, cells.rows, own, first, table.values if table.close is None else table.close, close, (HEAVY, LOOKED),
        )  # fmt: skip
        return scores

    def of_items(self, rows: Rows, places: Rows, found: Rows) -> Floats:
        """Scores of some items, those of asker b being `found[b] : found[b + 1]`."""
        from sensorium.index.cells_kernels import near_items

        table = self.table
        values, at = (table.values, rows) if table.close is None else (table.close, places)
        scores = near_items(values, at, found, self.asked, self.weights, self.begin, self.sharpness)
        if table.present is not None:
            scores[~table.present[rows]] = 0
        return scores


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
    sizes = np.bincount(cell)
    start = _bounds(sizes)
    told = tuple(Table.of(table, rows, start) for table in known)
    if len(cell) < items:
        means = [(np.ascontiguousarray(one.centres.T), one.lengths) for one in told]
        return cells_by(
            tables, np.concatenate([cell, _fitting(means, sizes, [table[len(cell) :] for table in tables])])
        )
    return Cells(told, cell, start, rows)


def _bounds(sizes: Rows) -> Rows:
    """Where each cell begins, and where the last ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _whole(start: Rows, most: int = BLOCK) -> Iterator[slice]:
    """Some whole cells at a time: as many as hold `most` items together, at least one."""
    begin = 0
    while begin < len(start) - 1:
        end = max(begin + 1, int(np.searchsorted(start, start[begin] + most, "right")) - 1)
        yield slice(begin, end)
        begin = end


def _means_of(here: Floats, start: Rows) -> tuple[Floats, Doubles, Floats]:
    """The means of some cells by their items' vectors, zeros where one is empty; and the squared length of each vector."""
    sizes = np.diff(start)
    centres, lengths = np.zeros((len(sizes), here.shape[1]), np.float32), np.zeros(len(sizes))
    squares = np.einsum("ij,ij->i", here, here)
    filled = np.flatnonzero(sizes)
    if len(filled):
        centres[filled] = np.add.reduceat(here, start[filled]) / sizes[filled][:, None]
        lengths[filled] = np.add.reduceat(squares, start[filled]) / sizes[filled]
    return centres, lengths, squares


def _again(means: Means, values: Floats, cells: NDArray[np.int32], rows: Rows, start: Rows) -> Means:
    """The means after a new look at the items of some cells."""
    if not len(cells):
        return means
    cells, centres, lengths = np.unique(cells), means[0].copy(), means[1].copy()
    sizes = start[cells + 1] - start[cells]
    first = _bounds(sizes)
    places = np.repeat(start[cells] - first[:-1], sizes) + np.arange(first[-1])
    for part in _whole(first, BLOCK // 16):  # reduceat keeps the interpreter's lock: not for long
        own = first[part.start : part.stop + 1]
        here = values[rows[places[own[0] : own[-1]]]]
        centres[cells[part]], lengths[cells[part]], _ = _means_of(here, own - own[0])
    return centres, lengths


def _fitting(means: Sequence[Means], sizes: Rows, fresh: Sequence[Floats]) -> NDArray[np.int32]:
    """The cells next to some new items, by all tables together, each counting the same."""
    weights = [_scale(float(sizes @ lengths) / max(int(sizes.sum()), 1)) for _, lengths in means]
    centres = np.concatenate([w * own for w, (own, _) in zip(weights, means, strict=True)], axis=1)
    return _nearest(np.concatenate([w * own for w, own in zip(weights, fresh, strict=True)], axis=1), centres)


def _changed(before: Floats, now: Floats, most: int) -> Rows | None:
    """The rows of a table that are others in a later one, which has at least as many; None where they are more than `most`."""
    if _address(before) == _address(now):
        return np.zeros(0, np.int64)
    found: list[Rows] = [np.zeros(0, np.int64)]
    for part in slices(len(before), max(1, COMPARED // max(before.shape[1], 1))):
        other = before[part] != now[part]
        if other.any():
            found.append(part.start + np.flatnonzero(other.any(axis=1)))
            most -= len(found[-1])
            if most < 0:
                return None
    return np.concatenate(found)


def _address(table: Floats) -> tuple[int, tuple[int, ...]]:
    """Where a table lies in memory, and how."""
    return table.__array_interface__["data"][0], table.strides


def _weight(table: Floats) -> np.float32:
    """What makes the mean squared length of a table's rows 1."""
    return _scale(float(np.einsum("ij,ij->", table, table, dtype=np.float64)) / max(len(table), 1))


def _scale(square: float) -> np.float32:
    """What makes a mean squared length 1."""
    return np.float32(1 / max(float(np.sqrt(square)), 1e-12))


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
