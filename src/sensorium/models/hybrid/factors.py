"""Fitted factors of people and items, asked by row: scores, ranks, vectors; and fitted further, also to what is new."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, Rows, slices
from sensorium.errors import DataError, RecipeError, ShapeError
from sensorium.models.hybrid.tables import Entities, Table
from sensorium.models.hybrid.training import Learner, Samples, train
from sensorium.train.ranking import Ranks

if TYPE_CHECKING:
    from sensorium.models.hybrid.hybrid import Hybrid

Matrix: TypeAlias = Any  # any of scipy's sparse matrices and arrays


@dataclass(frozen=True, eq=False)
class Given:
    """What is known of people and items besides what they did, a row each.

    **Shapes** users (U, F), items (I, G): sparse weights of features, where None a feature of its own each;
    dense_users (U, D), dense_items (I, E): vectors that are projected (a picture's, a text's).
    """

    users: Matrix | None = None
    items: Matrix | None = None
    dense_users: Floats | None = None
    dense_items: Floats | None = None


@dataclass(frozen=True, eq=False)
class Factors:
    """score(u, i) = p_u · q_i + b_u + b_i, each vector and bias the weighted sum of its features' rows.

    **Shapes** users (U, W), items (I, W): vectors with the bias first, of the entities that were fitted.
    """

    settings: Hybrid
    user_table: Table
    item_table: Table
    user_projection: Table
    item_projection: Table
    users: Floats
    items: Floats

    def updated(
        self,
        interactions: Matrix,
        given: Given | None = None,
        *,
        weights: Matrix | NDArray[Any] | None = None,
        epochs: int | None = None,
        rng: np.random.Generator,
    ) -> Factors:
        """These factors fitted further; people, items and features behind those known are new and begin small.

        **Raises** ShapeError where features have too few rows, DataError where samples are not finite.
        """
        given = given or Given()
        samples = samples_of(interactions, weights)
        wide = (max(len(self.users), interactions.shape[0]), max(len(self.items), interactions.shape[1]))
        people = Entities.of(
            wide[0] if given.users is None else interactions.shape[0], given.users, given.dense_users, "user"
        )
        things = Entities.of(
            wide[1] if given.items is None else interactions.shape[1], given.items, given.dense_items, "item"
        )
        s = self.settings
        learners = []
        for entities, table, projection, l2 in (
            (people, self.user_table, self.user_projection, s.user_l2),
            (things, self.item_table, self.item_projection, s.item_l2),
        ):
            if len(projection) not in (0, entities.dense.shape[1]) and entities.dense.shape[1]:
                raise ShapeError(
                    f"dense vectors have {entities.dense.shape[1]} columns, the model holds {len(projection)}"
                )
            learners.append(
                Learner(
                    entities, table.grown(entities.sparse.shape[1], s.optimizer, rng),
                    projection.grown(entities.dense.shape[1], s.optimizer, rng), l2, s.optimizer, s.learning_rate,
                    s.rho, s.epsilon,
                )
            )  # fmt: skip
        one, other = learners
        count = s.epochs if epochs is None else epochs
        if s.whole(len(things)):
            from sensorium.models.hybrid.softmax import train_whole

            train_whole(samples, one, other, s, count, rng)
        else:
            train(samples, one, other, s, count, rng)
        out = Factors(
            s, one.table, other.table, one.projection, other.projection,
            people.represented(one.table, one.projection), things.represented(other.table, other.projection),
        )  # fmt: skip
        if not (np.isfinite(out.users).all() and np.isfinite(out.items).all()):
            raise DataError(f"hybrid: the factors are not finite any more; lower learning_rate ({s.learning_rate:g})")
        return out

    def described(self, given: Given) -> tuple[Floats, Floats]:
        """The vectors (U, W), (I, W) of other people and items, by their features; what is not given stays as fitted."""
        users, items = self.users, self.items
        if given.users is not None or given.dense_users is not None:
            entities = Entities.of(0 if given.users is not None else len(users), given.users, given.dense_users, "user")
            users = entities.represented(self.user_table, self.user_projection)
        if given.items is not None or given.dense_items is not None:
            entities = Entities.of(0 if given.items is not None else len(items), given.items, given.dense_items, "item")
            items = entities.represented(self.item_table, self.item_projection)
        return users, items

    def predict(self, users: int | NDArray[Any], items: NDArray[Any], given: Given | None = None) -> Floats:
        """Scores of pairs (N,); one person for all items may be a number. **Raises** ShapeError for unknown rows."""
        p, q = self.described(given or Given())
        rows, columns = np.broadcast_arrays(np.asarray(users, np.int64), np.asarray(items, np.int64))
        if rows.size and (rows.min() < 0 or columns.min() < 0 or rows.max() >= len(p) or columns.max() >= len(q)):
            raise ShapeError(
                f"predict: rows beyond the {len(p)} people and {len(q)} items of the model; update it first"
            )
        one, other = p[rows], q[columns]
        return np.asarray((one[..., 1:] * other[..., 1:]).sum(-1) + one[..., 0] + other[..., 0], np.float32)

    def scores(self, users: Rows | None = None, given: Given | None = None) -> Floats:
        """Scores of all items for some people (B, I), all where None."""
        p, q = self.described(given or Given())
        p = p if users is None else p[users]
        return np.asarray(p[:, 1:] @ q[:, 1:].T + p[:, :1] + q[:, 0], np.float32)

    def ranks(self, test: Matrix, train: Matrix | None = None, given: Given | None = None) -> Ranks:
        """The place of every pair of `test` (U, I), 0 the top, what `train` holds left out of the lists.

        A pair that `train` holds too is not asked for. What LightFM writes into a matrix stands here as columns, from
        which sensorium.evaluate.metrics.accuracy counts; ties take their mean place, where LightFM takes the worst.
        """
        wanted = sparse.csr_array(test).astype(np.float32)
        known = sparse.csr_array(wanted.shape, dtype=np.float32) if train is None else sparse.csr_array(train)
        p, q = self.described(given or Given())
        if wanted.shape[0] > len(p) or wanted.shape[1] > len(q) or known.shape != wanted.shape:
            raise ShapeError(
                f"ranks: test {wanted.shape} and train {known.shape} do not fit {len(p)} people × {len(q)} items"
            )
        out: list[tuple[Rows, Rows, NDArray[np.float64]]] = []
        for part in slices(wanted.shape[0], 256):
            scores = p[part, 1:] @ q[:, 1:].T + q[:, 0]
            scores[:, wanted.shape[1] :] = -np.inf
            held = known[part].tocoo()
            row, item = wanted[part].nonzero()
            keep = ~np.isin(
                row.astype(np.int64) * scores.shape[1] + item, held.row.astype(np.int64) * scores.shape[1] + held.col
            )
            row, item = row[keep], item[keep]
            scores[held.row, held.col] = -np.inf
            mark = scores[row, item]
            ordered = np.sort(scores, axis=1)
            width = scores.shape[1]
            rank = np.empty(len(row))
            for b in np.unique(row):
                mine = row == b
                right = np.searchsorted(ordered[b], mark[mine], "right")
                left = np.searchsorted(ordered[b], mark[mine], "left")
                rank[mine] = width - right + (right - left - 1) / 2
            out.append((row.astype(np.int64) + part.start, item.astype(np.int64), rank))
        columns = [np.concatenate(column) for column in zip(*out, strict=True)] if out else [np.zeros(0, np.int64)] * 3
        return Ranks(columns[0], columns[1], np.asarray(columns[2], np.float64))

    def predict_rank(self, test: Matrix, train: Matrix | None = None, given: Given | None = None) -> sparse.csr_array:
        """`ranks` as a matrix (U, I) with an entry for each pair asked; the best has a stored 0."""
        ranks = self.ranks(test, train, given)
        start = np.searchsorted(ranks.user, np.arange(test.shape[0] + 1))
        return sparse.csr_array((ranks.rank.astype(np.float32), ranks.item, start), shape=test.shape)

    def user_representations(self, given: Given | None = None) -> tuple[Floats, Floats]:
        """Biases (U,) and vectors (U, size) of people."""
        users, _ = self.described(given or Given())
        return users[:, 0], users[:, 1:]

    def item_representations(self, given: Given | None = None) -> tuple[Floats, Floats]:
        """Biases (I,) and vectors (I, size) of items."""
        _, items = self.described(given or Given())
        return items[:, 0], items[:, 1:]

    def save(self, path: Path | str) -> None:
        """All of it as one .npz file without any code in it."""
        arrays: dict[str, Any] = {"users": self.users, "items": self.items}
        for name in TABLES:
            arrays |= {f"{name}.{part.name}": getattr(getattr(self, name), part.name) for part in fields(Table)}
        with Path(path).open("wb") as file:  # to a name, numpy would add an ending that `load` does not know of
            np.savez(file, settings=np.array(json.dumps(asdict(self.settings))), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Factors:
        """What `save` wrote. **Raises** DataError for anything else."""
        from sensorium.models.hybrid.hybrid import Hybrid
        from sensorium.settings import read_settings

        try:
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                settings = read_settings(Hybrid, json.loads(str(file["settings"])), where=str(path))
                tables = [Table(*(file[f"{name}.{part.name}"] for part in fields(Table))) for name in TABLES]
                return cls(settings, tables[0], tables[1], tables[2], tables[3], file["users"], file["items"])
        except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile, zlib.error, RecipeError) as error:
            raise DataError(f"{path} holds no factors ({error}); save them with Factors.save") from None


TABLES = ("user_table", "item_table", "user_projection", "item_projection")


def samples_of(interactions: Matrix, weights: Matrix | NDArray[Any] | None) -> Samples:
    """The stored entries of a matrix (U, I) as samples, and what each weighs: a matrix of the same entries, or (E,)."""
    matrix = sparse.coo_array(interactions)
    if weights is None:
        weight = np.ones(matrix.nnz, np.float32)
    elif sparse.issparse(weights):
        other = sparse.coo_array(weights)
        if other.shape != matrix.shape or not (
            np.array_equal(other.row, matrix.row) and np.array_equal(other.col, matrix.col)
        ):
            raise ShapeError("weights and interactions must hold the same pairs in the same order")
        weight = other.data.astype(np.float32)
    else:
        weight = np.asarray(weights, np.float32)
        if weight.shape != (matrix.nnz,):
            raise ShapeError(f"{weight.shape} weights for {matrix.nnz} interactions; give one each")
    target = matrix.data.astype(np.float32)
    if not (np.isfinite(target).all() and np.isfinite(weight).all()):
        raise DataError("interactions and weights must be finite numbers; drop those that are not")
    return Samples(matrix.row.astype(np.int32), matrix.col.astype(np.int32), target, weight)
