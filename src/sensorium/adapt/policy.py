"""What another way of choosing would have earned, estimated from what was shown with known chances.

**Source** Horvitz & Thompson 1952 (IPS), Swaminathan & Joachims 2015 (self-normalised), Dudík, Langford & Li 2011 (doubly
robust), Ionides 2008 (truncated weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.errors import DataError

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Logged:
    """Decisions with their chances. **Shapes** action (N,) in 0…A−1; chance (N,) > 0; reward (N,); features (N, D);
    owner (N,): rows of one owner may depend on each other (−1: on nobody)."""

    action: Rows
    chance: Numbers
    reward: Numbers
    features: Numbers
    owner: Rows
    arms: int

    def __post_init__(self) -> None:
        if len(self.chance) and not (self.chance > 0).all():
            raise DataError("a decision was logged with a chance of 0; it cannot have been made")


@dataclass(frozen=True)
class Estimate:
    """The mean reward of a policy, with an interval."""

    value: float
    lower: float
    upper: float
    error: float  # standard

    def plain(self) -> dict[str, float]:
        """For a table."""
        return vars(self)


@dataclass(frozen=True)
class Worth:
    """What a policy is worth by each estimator. `effective`: how many decisions of its own the log is worth, by Kish;
    `clipped`: the share of weights that were cut; `shown`: decisions that it could have made."""

    by: Mapping[str, Estimate]
    decisions: int
    shown: int
    effective: float
    largest: float
    clipped: float


def worth(logged: Logged, target: Numbers, *, clip: float = 0.0, confidence: float = 0.95) -> Worth:
    """Estimates for the policy that takes each arm with the chances `target` (N, A) or (A,).

    `ips`: Σ w·r ÷ N, without bias. `snips`: Σ w·r ÷ Σ w, a little biased, far steadier. `dr`: a ridge regression of
    rewards on features, an arm at a time, and IPS of what it leaves; each decision is judged by the regression of the
    other half of the owners. `clip` cuts weights there (0: nowhere), which trades variance for a bias downwards.
    Intervals are normal, by owner. **Raises** DataError where nothing was logged. **Cost** O(N·A·D²).
    """
    n = len(logged.action)
    if not n:
        raise DataError("no settled decision is in the log; wait until windows are over")
    target = np.broadcast_to(np.asarray(target, np.float64), (n, logged.arms))
    taken = target[np.arange(n), logged.action]
    weight = taken / logged.chance
    cut = weight > clip if clip else np.zeros(n, bool)
    weight = np.minimum(weight, clip) if clip else weight
    reward = logged.reward.astype(np.float64)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    total = weight.sum()
    snips = float(weight @ reward / total) if total else 0.0
    model = foretold(logged)
    direct = (target * model).sum(axis=1)
    corrected = direct + weight * (reward - model[np.arange(n), logged.action])
    plain = weight * reward
    influence = weight * (reward - snips) * (n / total if total else 0.0)
    by = {
        "ips": _interval(float(plain.mean()), plain - plain.mean(), logged.owner, z),
        "snips": _interval(snips, influence, logged.owner, z),
        "dr": _interval(float(corrected.mean()), corrected - corrected.mean(), logged.owner, z),
    }
    square = float((weight**2).sum())
    effective = float(total**2 / square) if square else 0.0
    return Worth(by, n, int((taken > 0).sum()), effective, float(weight.max()), float(cut.mean()))


def foretold(logged: Logged, l2: float = 1.0) -> Numbers:
    """The expected reward of every arm at every decision (N, A), each by the half of the owners it is not in."""
    n = len(logged.action)
    x = np.column_stack([np.ones(n), logged.features])
    # Rows of nobody are their own owners; multiplying by an odd number mixes neighbouring ones.
    owner = np.where(logged.owner >= 0, logged.owner, np.arange(n) + logged.owner.max(initial=-1) + 1)
    half = (owner.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(63)
    out = np.zeros((n, logged.arms))
    for side in (0, 1):
        learn, judge = half != side, half == side
        usual = float(logged.reward[learn].mean()) if learn.any() else 0.0
        for arm in range(logged.arms):
            rows = learn & (logged.action == arm)
            a, b = x[rows], logged.reward[rows] - usual
            solved = np.linalg.solve(a.T @ a + l2 * np.eye(x.shape[1]), a.T @ b)
            out[judge, arm] = usual + x[judge] @ solved
    return out


def _interval(value: float, influence: Numbers, owner: Rows, z: float) -> Estimate:
    """A normal interval; what one owner's rows say is summed before it is squared."""
    n = len(influence)
    known = owner >= 0
    sums = np.bincount(owner[known], influence[known]) if known.any() else np.zeros(0)
    groups = len(np.unique(owner[known])) + int((~known).sum())
    square = float((sums**2).sum() + (influence[~known] ** 2).sum()) * groups / max(groups - 1, 1)
    error = float(np.sqrt(square) / n)
    return Estimate(value, value - z * error, value + z * error, error)
