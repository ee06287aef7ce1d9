"""Arms that are tried in proportion to the chance that they are best: Thompson sampling, with counts that fade.

**Source** Thompson 1933, "On the likelihood that one unknown probability exceeds another"; Chapelle & Li 2011, "An
empirical evaluation of Thompson sampling" (batches and delay); Raj & Kalyani 2017, "Taming non-stationary bandits"
(discounted counts); Agrawal & Goyal 2013 (the linear form).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.adapt.definition import Arm, Tried
from sensorium.errors import RecipeError
from sensorium.settings import within

DRAWS = 4096  # from the posterior: the chance of an arm is known to about 0.008
CONTEXT = ("person", "session", "filtered")  # what a request says, 0 or 1 each; a constant goes before them
QUICK_DRAWS = 512  # kept between two updates, for contexts that are met one by one


@dataclass(frozen=True)
class Bandit(Tried):
    """Which arm answers is learnt from what people do with the answers.

    `linear` learns one weight a feature of CONTEXT and arm, `beta` one rate an arm. A settled outcome counts half after
    `half_life_days`. Every arm that works is shown with a chance of at least `least`, so that what it is worth can
    always be estimated. `retired`: arms that broke, or that somebody took out.
    """

    kind: Literal["beta", "linear"] = "beta"
    half_life_days: float = 30.0
    least: float = 0.02
    seed: int = 0
    retired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, half_life_days=(1e-6, 1e6), least=(0.0, 1 / len(self.arms)))
        if not self.working:
            raise RecipeError(f"bandit {self.name!r}: every arm is retired; leave one")

    @property
    def working(self) -> list[Arm]:
        """The arms that are still tried."""
        return [arm for arm in self.arms if arm.name not in self.retired]


@dataclass
class Learnt:
    """What a bandit knows: by arm, the decayed sums of what was seen; the prior is not decayed.

    **Shapes** weight (A,): outcomes; rewards (A,): their rewards; for `linear` also gram (A, D, D) and moment (A, D).
    """

    bandit: Bandit
    weight: NDArray[np.float64] = field(init=False)
    rewards: NDArray[np.float64] = field(init=False)
    gram: NDArray[np.float64] = field(init=False)
    moment: NDArray[np.float64] = field(init=False)
    shown: NDArray[np.int64] = field(init=False)
    time: float = 0.0
    _ready: NDArray[np.float64] | None = None  # chances (A,), or of `linear` draws (S, A, D)

    def __post_init__(self) -> None:
        arms, size = len(self.bandit.arms), 1 + len(CONTEXT)
        self.weight, self.rewards, self.shown = np.zeros(arms), np.zeros(arms), np.zeros(arms, np.int64)
        self.gram, self.moment = np.zeros((arms, size, size)), np.zeros((arms, size))

    def update(self, arm: int, reward: float, time: float, context: Sequence[float] = ()) -> None:
        """One outcome in [0, 1] of an arm; all that was known before fades by the time that passed."""
        if time > self.time:
            keep = 0.5 ** ((time - self.time) / (86400 * self.bandit.half_life_days)) if self.time else 1.0
            for table in (self.weight, self.rewards, self.gram, self.moment):
                table *= keep
            self.time = time
        self.weight[arm] += 1
        self.rewards[arm] += reward
        if self.bandit.kind == "linear":
            x = features(context)
            self.gram[arm] += np.outer(x, x)
            self.moment[arm] += reward * x
        self.shown[arm] += 1

    def chances(self, context: Sequence[float] = ()) -> NDArray[np.float64]:
        """With which chance each arm is shown (A,): that it is best, by draws from the posterior; 0 for retired ones.

        These are the very numbers the arm is drawn by, so they are true propensities. They are of the last `draw`.
        **Cost** nothing (`beta`) or 20 µs (`linear`).
        """
        table = self._ready
        if table is None:
            table = self.draw()
        return table if self.bandit.kind == "beta" else self._floored(np.argmax(table @ features(context), axis=1))

    def draw(self) -> NDArray[np.float64]:
        """Takes what was learnt into the chances, in one write. **Cost** a millisecond; the thread that learns pays."""
        self._ready = self._drawn()
        return self._ready

    def means(self) -> NDArray[np.float64]:
        """The expected reward of each arm (A,), the prior of one success and one failure included."""
        return (self.rewards + 1) / (self.weight + 2)

    def _drawn(self) -> NDArray[np.float64]:
        rng = np.random.default_rng([self.bandit.seed, int(self.shown.sum())])
        out = [place for place, arm in enumerate(self.bandit.arms) if arm.name in self.bandit.retired]
        if self.bandit.kind == "beta":
            lost = np.maximum(self.weight - self.rewards, 0)
            drawn = rng.beta(self.rewards + 1, lost + 1, (DRAWS, len(self.weight)))
            drawn[:, out] = -np.inf
            return self._floored(np.argmax(drawn, axis=1))
        noise = 0.25  # the largest variance that a reward in [0, 1] can have
        precision = np.eye(self.moment.shape[1]) + self.gram / noise
        mean = np.linalg.solve(precision, self.moment[:, :, None] / noise)[:, :, 0]
        root = np.linalg.cholesky(np.linalg.inv(precision))
        draws = mean + np.einsum("sad,aed->sae", rng.standard_normal((QUICK_DRAWS, *mean.shape)), root)
        draws[:, out] = 0
        draws[:, out, 0] = -1e9
        return draws

    def _floored(self, best: NDArray[np.intp]) -> NDArray[np.float64]:
        """Shares of the draws, none of a working arm below the least."""
        chances = np.bincount(best, minlength=len(self.weight)) / len(best)
        works = np.array([arm.name not in self.bandit.retired for arm in self.bandit.arms])
        least = self.bandit.least
        return np.where(works, least + (1 - least * works.sum()) * chances, 0.0)

    def saved(self) -> dict[str, Any]:
        """Plain values, from which `restored` makes the same again."""
        tables = ("weight", "rewards", "gram", "moment", "shown")
        names = [arm.name for arm in self.bandit.arms]
        return {name: getattr(self, name).tolist() for name in tables} | {"time": self.time, "arms": names}

    def restored(self, state: Mapping[str, Any]) -> Learnt:
        """What was saved, for this bandit; an arm that was not there is new."""
        fresh = Learnt(self.bandit)
        names = state["arms"]
        for place, arm in enumerate(self.bandit.arms):
            if arm.name in names:
                for table in ("weight", "rewards", "gram", "moment", "shown"):
                    getattr(fresh, table)[place] = state[table][names.index(arm.name)]
        fresh.time = float(state["time"])
        return fresh


def features(context: Sequence[float]) -> NDArray[np.float64]:
    """A constant, then what the request says (D,)."""
    return np.array([1.0, *context, *([0.0] * (len(CONTEXT) - len(context)))])
