"""How a blend's weights are learnt: members' scores on one scale, for a pool of people and candidates, and a walk over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Fold, Histories
from sensorium.models.model import Features, Model
from sensorium.train.ranking import asked, hide

STEPS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)  # factors that are tried on each weight
STARTS = (0.1, 0.3)  # and shares of the largest weight, so that a weight of zero can come back
GAIN = 1.0005  # a step must raise the value by this factor: smaller rises are chance
LEAST = 150  # people that a group must have in the pool to get weights of its own
GROUPS = 3
WALKS, SHARE = 8, 0.7  # walks whose mean the weights are, and the share of the people whom each one follows
FAINT = 0.01  # of the largest weight: below it a member is not worth its training
TARGETS = 8  # of one person that are looked at: who has many would cost most of the time and say little more


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidates of some people with every member's standardised score.

    **Shapes** scores (M, P, C); count (P, C): how many candidates one stands for, 0 for padding; targets as
    row (T,) and column (T,) pairs; length (P,): how many events each person's history has.
    """

    scores: Floats
    count: Floats
    row: Rows
    column: Rows
    length: Rows

    @classmethod
    def drawn(
        cls,
        models: Mapping[str, Model],
        fold: Fold,
        features: Features,
        *,
        people: int,
        uniform: int,
        top: int,
        seed: int,
    ) -> Pool:
        """The pool of a fold: a person's targets, the `top` of each member, and `uniform` of the others at random."""
        rng = np.random.default_rng(seed)
        # (M, C) scores, (C,) counts, how many targets stand in front, how long the history is
        tables: list[tuple[Floats, Floats, int, int]] = []
        for batch in asked(fold, features.people, batch=128, most=people, seed=seed):
            standard = np.stack(
                [standardised(model.score(batch.histories), batch.histories) for model in models.values()]
            )
            open_ = np.isfinite(hide(standard[0], batch, fold.candidates))
            for b in range(len(batch.users)):
                targets = batch.targets[1][batch.targets[0] == b]
                allowed = np.setdiff1d(np.flatnonzero(open_[b]), targets, assume_unique=True)
                if len(targets) > TARGETS:
                    targets = np.sort(rng.choice(targets, TARGETS, replace=False))
                line = standard[:, b]
                if len(allowed) > uniform + top:
                    high = np.argpartition(-line[:, allowed], top - 1, axis=1)[:, :top]
                    chosen = allowed[np.unique(high)]
                    rest = np.setdiff1d(allowed, chosen, assume_unique=True)
                    some = np.sort(rng.choice(rest, min(uniform, len(rest)), replace=False))
                    others = np.concatenate([chosen, some])
                    count = np.ones(len(others), np.float32)
                    count[len(chosen) :] = len(rest) / max(len(some), 1)
                else:
                    others, count = allowed, np.ones(len(allowed), np.float32)
                picked = np.concatenate([targets, others])
                counts = np.concatenate([np.ones(len(targets), np.float32), count])
                span = batch.histories.start[b + 1] - batch.histories.start[b]
                tables.append((line[:, picked], counts, len(targets), int(span)))
        width = max((len(count) for _, count, _, _ in tables), default=0)
        scores = np.zeros((len(models), len(tables), width), np.float32)
        counts_ = np.zeros((len(tables), width), np.float32)
        for p, (line, count, _, _) in enumerate(tables):
            scores[:, p, : len(count)], counts_[p, : len(count)] = line, count
        row = np.repeat(np.arange(len(tables)), [n for _, _, n, _ in tables]).astype(np.int64)
        column = np.concatenate([np.arange(n) for _, _, n, _ in tables] or [np.zeros(0, np.int64)])
        return cls(scores, counts_, row, column, np.array([length for *_, length in tables], np.int64))

    def of(self, people: Rows) -> Pool:
        """The pool of some of the people (ascending)."""
        place = np.full(len(self.length), -1)
        place[people] = np.arange(len(people))
        mine = place[self.row] >= 0
        return Pool(
            self.scores[:, people], self.count[people], place[self.row[mine]], self.column[mine], self.length[people]
        )

    def gains(self, mixed: Floats) -> NDArray[np.float64]:
        """Each person's gain (P,) under mixed scores (P, C), 1 where all targets stand in front; ties count half."""
        gain = 1 / np.log2(self.ranks(mixed) + 2)
        people = np.bincount(self.row, minlength=len(mixed))
        ideal = np.cumsum(1 / np.log2(np.arange(2, people.max(initial=0) + 2)))
        return np.bincount(self.row, gain, minlength=len(mixed)) / ideal[np.maximum(people, 1) - 1]

    def value(self, mixed: Floats) -> float:
        """The mean gain over people."""
        return float(self.gains(mixed).mean())

    def mixed(self, weights: NDArray[np.float64]) -> Floats:
        """**Shapes** (M,) → (P, C)."""
        return np.tensordot(weights.astype(np.float32), self.scores, 1)

    def ranks(self, mixed: Floats) -> NDArray[np.float64]:
        """The place of each target (T,), 0 is the top."""
        from sensorium.models.mixing_kernel import places

        return places(mixed, self.count, self.row, self.column)

    def climbed(self, start: NDArray[np.float64] | None = None, rounds: int = 4) -> NDArray[np.float64]:
        """Weights (M,), the largest 1, at the end of the walk from `start` (equal ones where it is None)."""
        members = len(self.scores)
        weights = np.full(members, 0.3) if start is None else start.astype(np.float64)
        mixed = self.mixed(weights)
        height = self.value(mixed)
        for _ in range(rounds):
            moved = False
            for m in range(members):
                others = mixed - np.float32(weights[m]) * self.scores[m]
                options = [weights[m] * step for step in STEPS] + [weights.max() * share for share in STARTS]
                best = weights[m]
                for option in options:
                    if option == 0 and not np.any(np.delete(weights, m)):
                        continue
                    reached = self.value(others + np.float32(option) * self.scores[m])
                    if reached > height * GAIN:
                        height, best, moved = reached, option, True
                weights[m] = best
                mixed = others + np.float32(best) * self.scores[m]
            if not moved:
                break
        return weights / weights.max()

    def bagged(self, seed: int) -> NDArray[np.float64]:
        """Weights (M,), the largest 1: the mean of `WALKS` walks, each over its own sample of the people, each summing to one.

        One walk ends where the chance of a few hundred people leads it, and drops members that are nearly as good as the
        ones it keeps; the mean of several keeps what they agree on.

        **Source** Breiman 1996 (bagging); samples without repetition: Bühlmann & Yu 2002.
        """
        rng, people = np.random.default_rng(seed), len(self.length)
        total = np.zeros(len(self.scores))
        for _ in range(WALKS):
            some = np.sort(rng.choice(people, max(1, round(SHARE * people)), replace=False))
            walked = self.of(some).climbed(rounds=2)
            total += walked / walked.sum()
        weights = total / total.max()
        return np.where(weights < FAINT, 0.0, weights)

    def by_length(self, common: NDArray[np.float64], seed: int) -> dict[int, NDArray[np.float64]]:
        """Weights of their own for people with short, middling and long histories, where those are better than `common`.

        The key is the least length. A group's weights are learnt on either half of it and judged on the other; they
        count where the mean gain there rises by more than a standard error. What is kept is the mean of the two.
        """
        if not len(self.length):
            return {}
        edges = np.unique(np.quantile(self.length, np.arange(GROUPS) / GROUPS, method="nearest"))
        out: dict[int, NDArray[np.float64]] = {}
        for place, least in enumerate(edges):
            below = edges[place + 1] if place + 1 < len(edges) else np.inf
            group = np.flatnonzero((self.length >= least) & (self.length < below))
            if len(edges) < 2 or len(group) < LEAST:
                continue
            out[int(least) if place else 0] = common
            order = np.random.default_rng(seed).permutation(group)
            halves = [self.of(np.sort(part)) for part in (order[: len(order) // 2], order[len(order) // 2 :])]
            learnt = [half.climbed(common, rounds=2) for half in halves]
            rise = np.concatenate(
                [
                    half.gains(half.mixed(other)) - half.gains(half.mixed(common))
                    for half, other in zip(halves, learnt[::-1], strict=True)
                ]
            )
            if rise.mean() > rise.std() / np.sqrt(len(rise)):
                out[int(least) if place else 0] = (learnt[0] + learnt[1]) / 2
        return out if any(own is not common for own in out.values()) else {}


def standardised(scores: Floats, histories: Histories) -> Floats:
    """**Shapes** (B, I) → (B, I): mean 0 and deviation 1 in each row, over what the history lacks."""
    centre, spread = scale(scores, histories)
    return (scores - centre[:, None]) * spread[:, None]


def scale(scores: Floats, histories: Histories) -> tuple[Floats, Floats]:
    """The mean (B,) of each row over items outside the history, and 1 ÷ their standard deviation (0 where all are equal).

    The history is left out because it is never recommended, and its own items often stand far above the rest.
    """
    row, item = histories.row, histories.item
    pairs = np.unique(row.astype(np.int64) * scores.shape[1] + item)
    row, item = pairs // scores.shape[1], pairs % scores.shape[1]
    count = np.maximum(scores.shape[1] - np.bincount(row, minlength=len(scores)), 1)
    own = scores[row, item].astype(np.float64)
    mean = (scores.sum(1, dtype=np.float64) - np.bincount(row, own, minlength=len(scores))) / count
    centred = scores - mean[:, None].astype(np.float32)
    square = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    square -= np.bincount(row, (own - mean[row]) ** 2, minlength=len(scores))
    deviation = np.sqrt(np.maximum(square, 0) / count)
    alive = deviation > 1e-6 * np.abs(scores).max(1, initial=0)
    spread = np.divide(1, deviation, out=np.zeros_like(deviation), where=alive & (deviation > 0))
    return mean.astype(np.float32), spread.astype(np.float32)
