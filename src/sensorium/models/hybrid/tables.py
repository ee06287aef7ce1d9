"""What hybrid factorisation learns and what it learns from: a table of rows a side, and the features that point into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats
from sensorium.errors import ShapeError

WIDTH = 8  # numbers of 32 bits in one register
OPTIMIZERS = ("adagrad", "adadelta", "adam")
BETA1, BETA2 = 0.9, 0.999  # of Adam


@dataclass(frozen=True, eq=False)
class Table:
    """One row a feature, and how its optimiser stands. The first column of W = 1 + size is the bias.

    **Shapes** value, second, first (F, W): vectors, sums or means of squared gradients, means of gradients (or of
    squared changes); power (F, 2): the products of Adam's decays.
    """

    value: Floats
    second: Floats
    first: Floats
    power: Floats

    def __len__(self) -> int:
        return len(self.value)

    @classmethod
    def drawn(cls, rows: int, size: int, optimizer: str, rng: np.random.Generator) -> Table:
        """Small uniform vectors without bias; AdaGrad's sums begin at one."""
        value = np.zeros((rows, size + 1), np.float32)
        value[:, 1:] = (rng.random((rows, size), np.float32) - np.float32(0.5)) / np.float32(size)
        second = np.full_like(value, 1 if optimizer == "adagrad" else 0)
        return cls(value, second, np.zeros_like(value), np.ones((rows, 2), np.float32))

    def grown(self, rows: int, optimizer: str, rng: np.random.Generator) -> Table:
        """A copy with new rows behind the old ones, which stay as they are."""
        more = Table.drawn(max(rows - len(self), 0), self.value.shape[1] - 1, optimizer, rng)
        return Table(
            np.concatenate([self.value, more.value]), np.concatenate([self.second, more.second]),
            np.concatenate([self.first, more.first]), np.concatenate([self.power, more.power]),
        )  # fmt: skip

    def packed(self, optimizer: str) -> Floats:
        """All of a row side by side for the kernels: (F, planes, a multiple of 8); see hybrid_kernels.Side."""
        wide = self.value.shape[1] + -self.value.shape[1] % WIDTH
        state = np.zeros((len(self), 2 if optimizer == "adagrad" else 4, wide), np.float32)
        state[:, 1] = 1 if optimizer == "adagrad" else 0  # a divisor, also behind the last column
        for plane, part in enumerate((self.value, self.second, self.first)[: state.shape[1]]):
            state[:, plane, : self.value.shape[1]] = part
        if state.shape[1] == 4:
            state[:, 3, :2] = self.power
        return state

    def unpacked(self, state: Floats) -> Table:
        """The table that `packed` made into rows, after they were moved."""
        value, second = (np.ascontiguousarray(state[:, plane, : self.value.shape[1]]) for plane in (0, 1))
        if state.shape[1] == 2:
            return Table(value, second, self.first, self.power)
        first = np.ascontiguousarray(state[:, 2, : self.value.shape[1]])
        return Table(value, second, first, state[:, 3, :2].copy())


@dataclass(frozen=True, eq=False)
class Entities:
    """The features of one side. **Shapes** sparse (N, F), weights of the table's rows; dense (N, D), D may be 0."""

    sparse: sparse.csr_array
    dense: Floats

    def __len__(self) -> int:
        return int(self.sparse.shape[0])

    @classmethod
    def of(cls, count: int, features: Any, dense: Floats | None, what: str) -> Entities:
        """Features as they were given: without any, a row of its own for each of `count` entities.

        **Raises** ShapeError where rows are missing, or a weight is not finite.
        """
        if features is None:
            matrix = sparse.eye_array(count, dtype=np.float32, format="csr")
        else:
            matrix = sparse.csr_array(features).astype(np.float32)
            matrix.sum_duplicates()
        matrix = sparse.csr_array((matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)),
                                  shape=matrix.shape)  # fmt: skip
        given = np.zeros((matrix.shape[0], 0), np.float32) if dense is None else np.ascontiguousarray(dense, np.float32)
        for name, rows in (("features", matrix.shape[0]), ("dense vectors", len(given))):
            if rows < count or rows != matrix.shape[0]:
                raise ShapeError(
                    f"{what} {name} have {rows} rows, not {max(count, matrix.shape[0])}; give one row each"
                )
        if not (np.isfinite(matrix.data).all() and np.isfinite(given).all()):
            raise ShapeError(f"{what} features hold a number that is not finite; leave it out or put 0")
        return cls(matrix, given)

    def represented(self, table: Table, projection: Table) -> Floats:
        """The vectors of all entities (N, W). Columns without a row in the table count nothing."""
        known = min(self.sparse.shape[1], len(table))
        out = np.asarray(self.sparse[:, :known] @ table.value[:known], np.float32)
        if self.dense.shape[1]:
            out += self.dense @ projection.value
        return out

    def split(self) -> tuple[np.ndarray, Floats, sparse.csr_array]:
        """Each entity's row of its own (N,), −1 where it has none, its weight (N,), and the features shared with others."""
        count = np.bincount(self.sparse.indices, minlength=self.sparse.shape[1])
        row = np.repeat(np.arange(len(self)), np.diff(self.sparse.indptr))
        alone = np.flatnonzero(count[self.sparse.indices] == 1)
        _, first = np.unique(row[alone], return_index=True)
        chosen = alone[first]
        own, weight = np.full(len(self), -1, np.int32), np.zeros(len(self), np.float32)
        own[row[chosen]], weight[row[chosen]] = self.sparse.indices[chosen], self.sparse.data[chosen]
        rest = np.ones(len(row), bool)
        rest[chosen] = False
        start = np.concatenate([[0], np.cumsum(np.bincount(row[rest], minlength=len(self)))]).astype(np.int64)
        shared = (self.sparse.data[rest], self.sparse.indices[rest], start)
        return own, weight, sparse.csr_array(shared, shape=self.sparse.shape)
