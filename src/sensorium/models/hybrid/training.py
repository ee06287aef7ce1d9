"""How hybrid factorisation walks through its samples: epochs, strata, blocks and threads.

Threads never race. People and items are dealt at random into as many groups as there are threads; in each of that many
rounds a thread has one group of people and one of items to itself, and draws what to compare with from its own items.
Rows that several entities share are copied for each thread and their changes summed, in order, after each block. So the
same seed and the same number of threads give the same bytes, whatever the machine does. Where too few samples are there
to share out, one thread does it all, for it is faster.

**Source** R. Gemulla et al., "Large-scale matrix factorization with distributed stochastic gradient descent" (2011).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.arrays import Floats, slices
from sensorium.models.hybrid.tables import BETA1, BETA2, OPTIMIZERS, Entities, Table

if TYPE_CHECKING:
    from sensorium.models.hybrid.hybrid import Hybrid

BITS = 1 << 28  # bytes that a table of who had what may take; beyond it rows are searched
SHARE = 16_384  # samples of a slice for each thread where rows are not shared; below that one thread is faster
SLICES = 16  # of a pass, at least, for threads to be worth their strata; fewer cost accuracy


@dataclass(frozen=True, eq=False)
class Samples:
    """Who, what, how it was meant (above 0: liked) and what it weighs: columns (E,) int32 or float32."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    target: Floats
    weight: Floats

    def take(self, rows: NDArray[Any]) -> Samples:
        return Samples(self.user[rows], self.item[rows], self.target[rows], self.weight[rows])


@dataclass(eq=False)
class Learner:
    """One side while it is trained: its tables change in place."""

    entities: Entities
    table: Table
    projection: Table
    l2: float
    optimizer: str
    rate: float
    rho: float
    epsilon: float

    def __post_init__(self) -> None:
        self.own, self.weight, shared = self.entities.split()
        self.columns, place = np.unique(shared.indices, return_inverse=True)
        self.shared = (shared.indptr, place.astype(np.int32), shared.data)
        self.blocked = len(self.columns) > 0 or self.entities.dense.shape[1] > 0 or self.l2 > 0
        # Whether every entity is its own row, by its number, and nothing else.
        self.alone = not len(self.columns) and not self.has_dense
        self.alone &= np.array_equal(self.own, np.arange(len(self.own))) and bool((self.weight == 1).all())
        self.state: Floats = np.zeros((0, 0, 0), np.float32)
        self.before, self.copies = self.state, [self.state]
        self.base: Floats = np.zeros((0, 0), np.float32)
        self.slope: Floats = self.base
        self.sums: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self.summed = 0

    def begin(self) -> None:
        """Rows laid out as the kernels want them."""
        self.state = self.table.packed(self.optimizer)
        shape = (len(self.entities) if self.has_dense else 0, self.state.shape[2])
        self.base, self.slope = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def count(self) -> None:
        """This epoch's rows are among those that are averaged."""
        now = self.state[:, 0].astype(np.float64), self.projection.value.astype(np.float64)
        self.sums = now if self.sums is None else (self.sums[0] + now[0], self.sums[1] + now[1])
        self.summed += 1

    def end(self) -> None:
        """And back into the table: the mean of the epochs that were counted, or the last."""
        if self.sums is not None:
            self.state[:, 0] = self.sums[0] / self.summed
            self.projection.value[:] = self.sums[1] / self.summed
        self.table = self.table.unpacked(self.state)

    @property
    def has_dense(self) -> bool:
        return self.entities.dense.shape[1] > 0

    def sides(self, count: int) -> list[Any]:
        """This side for each of `count` threads: own rows in common, shared rows copied. Begins a block."""
        from sensorium.models.hybrid.kernels import Side

        width = self.table.value.shape[1]
        if self.has_dense:
            self.base[:, :width] = self.entities.dense @ self.projection.value
            self.slope[:] = 0
        self.before = self.state[self.columns]
        self.copies = [self.before.copy() for _ in range(count)]
        own, weight = (None, None) if self.alone else (self.own, self.weight)
        base, slope = (self.base, self.slope) if self.has_dense else (None, None)
        starts, columns, data = self.shared if len(self.columns) else (None, None, None)
        shared = self.copies if len(self.columns) else [None] * count
        return [Side(own, weight, starts, columns, data, self.state, rows, base, slope) for rows in shared]

    def close(self, lengths: float) -> None:
        """Ends a block: the threads' changes of shared rows are summed, the dense part moves, the penalty shrinks."""
        if len(self.columns):
            change = np.sum([copy - self.before for copy in self.copies], axis=0)
            # Sums of squares add up; means, and the powers they are mended by, are averaged.
            change[:, 2 if self.optimizer == "adagrad" else 1 :] /= np.float32(len(self.copies))
            self.state[self.columns] += change
        if self.has_dense:
            step_whole(self.projection, self.entities.dense.T @ self.slope[:, : self.table.value.shape[1]], self)
        if self.l2:
            shrink = np.float32(np.exp(-self.l2 * lengths))
            self.state[:, 0] *= shrink
            self.projection.value[:] *= shrink


def step_whole(table: Table, slope: Floats, how: Learner) -> None:
    """Every row of a table moved against its gradient (F, W), in place; squares are counted before the step, not after."""
    rho, rate, epsilon = np.float32(how.rho), np.float32(how.rate), np.float32(how.epsilon)
    if how.optimizer == "adagrad":
        table.second[:] += slope * slope
        table.value[:] -= rate * slope / np.sqrt(table.second)
    elif how.optimizer == "adadelta":
        table.second[:] = rho * table.second + (1 - rho) * slope * slope
        change = np.sqrt(table.first + epsilon) / np.sqrt(table.second + epsilon) * slope
        table.first[:] = rho * table.first + (1 - rho) * change * change
        table.value[:] -= change
    else:
        table.power[:] *= np.array([BETA1, BETA2], np.float32)
        table.first[:] = np.float32(BETA1) * table.first + np.float32(1 - BETA1) * slope
        table.second[:] = np.float32(BETA2) * table.second + np.float32(1 - BETA2) * slope * slope
        mean, square = table.first / (1 - table.power[:, :1]), table.second / (1 - table.power[:, 1:])
        table.value[:] -= rate * mean / (np.sqrt(square) + epsilon)


def seen_of(samples: Samples, users: int, items: int) -> Any:
    """Who had what, for the kernels to ask."""
    from sensorium.models.hybrid.kernels import Seen

    if users * (items // 8 + 1) <= BITS:
        bits = np.zeros((users, items // 8 + 1), np.uint8)
        np.bitwise_or.at(bits, (samples.user, samples.item >> 3), np.left_shift(1, samples.item & 7).astype(np.uint8))
        return Seen(bits, np.zeros(1, np.int64), np.zeros(0, np.int32))
    matrix = sparse.csr_array((np.ones(len(samples.user), np.int8), (samples.user, samples.item)), shape=(users, items))
    matrix.sum_duplicates()
    return Seen(np.zeros((0, 0), np.uint8), matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))


def train(
    samples: Samples, people: Learner, things: Learner, settings: Hybrid, epochs: int, rng: np.random.Generator
) -> None:
    """`epochs` passes over the samples; the learners' tables change in place.

    **Cost** a pass of WARP takes E · size · (3 + draws) operations; see benchmarks/results/lightfm_parity.json.
    """
    from sensorium.models.hybrid.kernels import Step

    people.begin()
    things.begin()
    rate, rho, epsilon = (np.float32(v) for v in (settings.learning_rate, settings.rho, settings.epsilon))
    decays = settings.user_l2 > 0 or settings.item_l2 > 0
    how = OPTIMIZERS.index(settings.optimizer)
    step = Step(how, rate, rho, epsilon, np.float32(BETA1), np.float32(BETA2), decays)
    call = _caller(samples, people, things, settings, step)
    liked = samples if settings.loss == "logistic" else samples.take(np.flatnonzero(samples.target > 0))
    blocked = people.blocked or things.blocked
    groups = settings.threads
    if not (blocked or settings.hogwild) and len(liked.user) < SLICES * SHARE * groups:
        groups = 1  # too little to share out: dealing and handing over would take longer than learning
    counts = tuple(
        np.bincount(column, minlength=len(side.entities))
        for column, side in ((liked.user, people), (liked.item, things))
    )
    # A slice must be short, for its people meet only the items of one group, and long enough to be worth its dealing.
    length = max((settings.block if blocked else SHARE) * groups, sum(map(len, counts)) // 2)
    if (groups == 1 or settings.hogwild) and not blocked:
        length = max(len(liked.user), 1)
    with ThreadPoolExecutor(groups) as threads:
        for epoch in range(epochs):
            order = rng.permutation(len(liked.user))
            for part in slices(len(order), length):
                mixed = liked.take(order[part])
                deal = apart if settings.hogwild else strata
                for parts in deal(mixed, counts, groups, rng):
                    sides = people.sides(groups), things.sides(groups)
                    seeds = rng.integers(1, 2**63, groups)
                    work = list(zip(parts, *sides, map(int, seeds), strict=True))
                    done = [call(*work[0])] if groups == 1 else list(threads.map(lambda job: call(*job), work))
                    people.close(float(sum(lengths[0] for lengths in done)))
                    things.close(float(sum(lengths[1] for lengths in done)))
            if epochs - epoch <= settings.averaged * epochs:
                people.count()
                things.count()
    people.end()
    things.end()


Part = tuple[Samples, NDArray[np.int32], NDArray[Any]]  # samples; items of all samples of the group; items of the group
Counts = tuple[NDArray[Any], ...]  # samples of each person (U,) and of each item (I,)


def apart(mixed: Samples, counts: Counts, groups: int, rng: np.random.Generator) -> list[list[Part]]:
    """Samples shared out in turn, for threads that write over one another (hogwild)."""
    everything = np.arange(len(counts[1]), dtype=np.int32)
    return [[(mixed.take(np.arange(t, len(mixed.user), groups)), mixed.item, everything) for t in range(groups)]]


def strata(mixed: Samples, counts: Counts, groups: int, rng: np.random.Generator) -> list[list[Part]]:
    """Rounds of parts that share neither a person nor an item: each sample stands in exactly one part."""
    if groups == 1:
        return apart(mixed, counts, groups, rng)
    of_user, of_item = (dealt(count, groups, rng) for count in counts)
    mine = of_item[mixed.item]
    key = (of_user[mixed.user] * groups + mine).astype(np.int16)
    order = np.argsort(key, kind="stable")
    edges = np.searchsorted(key[order], np.arange(groups * groups + 1))
    pools = [(mixed.item[mine == g], np.flatnonzero(of_item == g).astype(np.int32)) for g in range(groups)]
    rounds: list[list[Part]] = []
    for turn in range(groups):
        row: list[Part] = []
        for person in range(groups):
            group = (person + turn) % groups
            bucket = person * groups + group
            row.append((mixed.take(order[edges[bucket] : edges[bucket + 1]]), *pools[group]))
        rounds.append(row)
    return rounds


def dealt(counts: NDArray[Any], groups: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random group for each entity (N,), so that groups hold about as many samples each."""
    order = rng.permutation(len(counts))
    before = np.cumsum(counts[order]) - counts[order] / 2
    out = np.empty(len(counts), np.int64)
    # An entity without samples is dealt by its place, or none of them would ever be drawn in the first groups.
    whole = before + np.arange(len(counts)) * 1e-6
    out[order] = np.minimum(whole * groups / max(float(whole[-1]) + 1e-9, 1e-9), groups - 1).astype(np.int64)
    return out


def _caller(
    samples: Samples, people: Learner, things: Learner, settings: Hybrid, step: Any
) -> Callable[..., Sequence[float]]:
    """The kernel of the loss with everything bound that stays the same: called with one part and both sides."""
    from sensorium.models.hybrid import kernels

    count = len(things.entities)
    seen = seen_of(samples, len(people.entities), count)
    draws = np.maximum(np.arange(settings.max_sampled + 1), 1)
    gains = np.log(np.maximum((count - 1) // draws, 1)).astype(np.float32)
    often = np.bincount(samples.item, minlength=count) if settings.popular else np.ones(count)
    expected = settings.max_sampled * np.maximum(often, 1e-9) / max(float(often.sum()), 1)
    shift = -np.log(expected).astype(np.float32)

    def call(given: Part, one: Any, other: Any, seed: int) -> Sequence[float]:
        part, drawn, group = given
        if not len(part.user) or not len(group):
            return 0.0, 0.0
        columns = (part.user, part.item)
        match settings.loss:
            case "logistic":
                return tuple(kernels.logistic(*columns, part.target, part.weight, one, other, step))
            case "bpr":
                return tuple(kernels.bpr(*columns, part.weight, drawn, seen, one, other, step, seed))
            case "warp" | "warp-kos":
                draws = settings.n if settings.loss == "warp-kos" else 0
                start = order = np.zeros(1, np.int64)
                if draws:  # by person, each as often in a pass as they have items
                    items = part.item[np.argsort(part.user, kind="stable")]
                    users, start, sizes = np.unique(np.sort(part.user), return_index=True, return_counts=True)
                    columns, start = (users, items), np.concatenate([start, [len(items)]])
                    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(users)), sizes))
                return tuple(
                    kernels.warp(
                        *columns,
                        start,
                        order,
                        part.weight,
                        settings.k,
                        draws,
                        group,
                        gains,
                        seen,
                        one,
                        other,
                        step,
                        seed,
                    )
                )
            case _:
                pool = drawn if settings.popular else group
                return tuple(
                    kernels.softmax(*columns, part.weight, pool, shift, settings.max_sampled, one, other, step, seed)
                )

    return call
