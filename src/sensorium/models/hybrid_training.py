"""How hybrid factorisation walks through its samples: epochs, strata, blocks and threads.

Threads never race. People and items are dealt at random into as many groups as there are threads; in each of that many
rounds a thread has one group of people and one of items to itself, and draws what to compare with from its own items.
Rows that several entities share are copied for each thread and their changes summed, in order, after each block. So the
same seed and the same number of threads give the same bytes, whatever the machine does.

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

from sensorium.arrays import Floats
from sensorium.models.hybrid_tables import BETA1, BETA2, OPTIMIZERS, Entities, Table

if TYPE_CHECKING:
    from sensorium.models.hybrid import Hybrid

BITS = 1 << 28  # bytes that a table of who had what may take; beyond it rows are searched


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
        self.state: Floats = np.zeros((0, 0, 0), np.float32)
        self.before, self.copies = self.state, [self.state]
        self.base: Floats = np.zeros((0, 0), np.float32)
        self.slope: Floats = self.base

    def begin(self) -> None:
        """Rows laid out as the kernels want them."""
        self.state = self.table.packed(self.optimizer)
        shape = (len(self.entities) if self.has_dense else 0, self.state.shape[2])
        self.base, self.slope = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def end(self) -> None:
        """And back into the table."""
        self.table = self.table.unpacked(self.state)

    @property
    def has_dense(self) -> bool:
        return self.entities.dense.shape[1] > 0

    def sides(self, count: int) -> list[Any]:
        """This side for each of `count` threads: own rows in common, shared rows copied. Begins a block."""
        from sensorium.models.hybrid_kernels import Side

        width = self.table.value.shape[1]
        if self.has_dense:
            self.base[:, :width] = self.entities.dense @ self.projection.value
            self.slope[:] = 0
        self.before = self.state[self.columns]
        self.copies = [self.before.copy() for _ in range(count)]
        return [
            Side(self.own, self.weight, *self.shared, self.state, copy, self.base, self.slope) for copy in self.copies
        ]

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
    from sensorium.models.hybrid_kernels import Seen

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
    from sensorium.models.hybrid_kernels import Step

    people.begin()
    things.begin()
    rate, rho, epsilon = (np.float32(v) for v in (settings.learning_rate, settings.rho, settings.epsilon))
    decays = settings.user_l2 > 0 or settings.item_l2 > 0
    how = OPTIMIZERS.index(settings.optimizer)
    step = Step(how, rate, rho, epsilon, np.float32(BETA1), np.float32(BETA2), decays)
    call = _caller(samples, people, things, settings, step)
    liked = samples if settings.loss == "logistic" else samples.take(np.flatnonzero(samples.target > 0))
    groups = 1 if settings.hogwild else max(settings.threads, 1)
    blocked = people.blocked or things.blocked
    with ThreadPoolExecutor(max(settings.threads, 1)) as threads:
        for _ in range(epochs):
            mixed = liked.take(rng.permutation(len(liked.user)))
            if settings.hogwild and settings.threads > 1:
                parts = [mixed.take(np.arange(t, len(mixed.user), settings.threads)) for t in range(settings.threads)]
                rounds = [[(part, mixed.item, np.arange(len(things.entities), dtype=np.int32)) for part in parts]]
            else:
                rounds = strata(mixed, len(people.entities), len(things.entities), groups, rng)
            for parts_ in rounds:
                longest = max(len(part.user) for part, _, _ in parts_)
                length = settings.block if blocked else max(longest, 1)
                for begin in range(0, longest, length):
                    jobs = zip(parts_, people.sides(len(parts_)), things.sides(len(parts_)), strict=True)
                    seeds = rng.integers(1, 2**63, len(parts_))
                    work = [
                        (_cut(part, begin, begin + length), pool, all_, one, other, int(seed))
                        for ((part, pool, all_), one, other), seed in zip(jobs, seeds, strict=True)
                    ]
                    done = [call(*work[0])] if len(work) == 1 else list(threads.map(lambda job: call(*job), work))
                    people.close(float(sum(lengths[0] for lengths in done)))
                    things.close(float(sum(lengths[1] for lengths in done)))
    people.end()
    things.end()


def _cut(part: Samples, begin: int, end: int) -> Samples:
    return part.take(np.arange(begin, min(end, len(part.user)))) if begin or end < len(part.user) else part


Part = tuple[Samples, NDArray[np.int32], NDArray[Any]]  # samples; items of all samples of the group; items of the group


def strata(mixed: Samples, users: int, items: int, groups: int, rng: np.random.Generator) -> list[list[Part]]:
    """Rounds of parts that share neither a person nor an item: each sample stands in exactly one part."""
    if groups == 1:
        return [[(mixed, mixed.item, np.arange(items, dtype=np.int32))]]
    of_user = dealt(np.bincount(mixed.user, minlength=users), groups, rng)
    of_item = dealt(np.bincount(mixed.item, minlength=items), groups, rng)
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
    from sensorium.models import hybrid_kernels as kernels

    count = len(things.entities)
    seen = seen_of(samples, len(people.entities), count)
    draws = np.maximum(np.arange(settings.max_sampled + 1), 1)
    gains = np.log(np.maximum((count - 1) // draws, 1)).astype(np.float32)
    often = np.bincount(samples.item, minlength=count) if settings.popular else np.ones(count)
    expected = settings.max_sampled * np.maximum(often, 1e-9) / max(float(often.sum()), 1)
    shift = -np.log(expected).astype(np.float32)

    def call(part: Samples, drawn: Any, group: Any, one: Any, other: Any, seed: int) -> Sequence[float]:
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
