"""Experiments: people keep their arm, each person counts once, and whoever looks may look at any time."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sensorium.adapt.assign import assigned, mark
from sensorium.adapt.definition import Tried
from sensorium.adapt.exposure import Exposure, Outcome
from sensorium.adapt.sequential import Difference, Segment, mismatch
from sensorium.errors import RecipeError
from sensorium.settings import within

MISMATCH = math.log(1000)  # evidence against the shares from which figures are not to be trusted
TRACE = 200  # points of a plot


@dataclass(frozen=True)
class Shares:
    """Which shares held from a time on, and how many of all people took part."""

    since: float
    of: Mapping[str, float]
    traffic: float = 1.0


@dataclass(frozen=True)
class Experiment(Tried):
    """The first arm is the control; every other is compared with it. `salt` keeps it independent of other experiments.

    A person's outcome is the sum of their answers' rewards in the `horizon_seconds` after the first one, at most 1.
    `least_effect`: a difference below which an arm is not worth having (futility). `alpha` is shared among comparisons.
    It `stops` itself once something is decided; `kept` is the arm that everybody gets after the end, if any.
    """

    salt: str = ""
    shares: tuple[Shares, ...] = ()
    horizon_seconds: float = 86400.0
    alpha: float = 0.05
    least_effect: float = 0.0
    plan: int = 5_000
    most: int = 0  # people after whom it ends undecided; 0: no end
    stops: bool = True
    ended: float | None = None
    why: str = ""
    kept: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, horizon_seconds=(self.window_seconds, 365 * 86400.0), alpha=(1e-6, 0.5), least_effect=(0.0, 1.0))
        within(self, plan=(10, 1e9), most=(0, 1e12))
        names = [arm.name for arm in self.arms]
        for one in self.shares:
            if set(one.of) != set(names) or not all(0 <= s <= 1e6 for s in one.of.values()) or not one.of[names[0]]:
                raise RecipeError(f"{self.name!r}: give each arm a share of at least 0, and the control one above 0")
            if not 0 <= one.traffic <= 1:
                raise RecipeError(f"{self.name!r}: traffic is {one.traffic!r}; give 0 to 1")
        if self.kept is not None:
            self.arm(self.kept)

    @property
    def control(self) -> str:
        """What all others are compared with."""
        return self.arms[0].name

    def choose(self, unit: str) -> tuple[str, float] | None:
        """The arm of somebody and its chance; None where they take no part."""
        now = self.shares[-1]
        arm = assigned(unit, now.of, self.salt, now.traffic)
        return None if arm is None else (arm, now.of[arm] / sum(now.of.values()))

    def shares_at(self, time: float) -> Shares:
        """The shares that held."""
        return next((one for one in reversed(self.shares) if one.since <= time), self.shares[0])


@dataclass
class Measured:
    """What an experiment has found so far: by comparison a difference, by arm a mean, and who was counted."""

    experiment: Experiment
    compared: dict[str, Difference] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)  # people by arm
    sums: dict[str, float] = field(default_factory=dict)
    assigned: list[dict[str, int]] = field(default_factory=list)  # people by arm, under each of the shares
    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)
    trace: list[dict[str, Any]] = field(default_factory=list)
    pending: dict[int, int] = field(
        default_factory=dict
    )  # mark → answers whose window is open; the journal tells it again
    open: dict[int, list[Any]] = field(default_factory=dict)  # mark → [arm, share, first time, reward]
    seen: set[int] = field(default_factory=set)  # marks of people whose outcome was counted
    evidence: float = 0.0  # the most that was ever seen against the shares
    step: int = 1  # people between two points of the plot
    looked: int = 0  # at how many people the bounds are

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.experiment.arms]
        alpha = self.experiment.alpha / (len(names) - 1)
        for name in names:
            self.counted.setdefault(name, 0)
            self.sums.setdefault(name, 0.0)
        for name in names[1:]:
            self.compared.setdefault(name, Difference(alpha, self.experiment.plan))
            self.lower.setdefault(name, -1.0)
            self.upper.setdefault(name, 1.0)

    @property
    def waiting(self) -> int:
        """People who are not counted yet: within the window of an answer, or within their horizon."""
        return len(set(self.open) | (set(self.pending) - self.seen))

    def shown(self, exposure: Exposure) -> None:
        """An answer whose window is open."""
        person = mark(exposure.unit, self.experiment.salt)
        self.pending[person] = self.pending.get(person, 0) + 1

    def forget(self, user: str) -> None:
        """Open answers to a person are no longer waited for."""
        self.pending.pop(mark(user, self.experiment.salt), None)

    def add(self, outcome: Outcome) -> None:
        """A settled answer; the first of a person opens their horizon, whatever arm they are moved to later."""
        chosen, when = outcome.exposure.chosen[self.experiment.name], outcome.exposure.time
        self.close(when - self.experiment.horizon_seconds)
        person = mark(outcome.exposure.unit, self.experiment.salt)
        if self.pending.get(person, 0) > 1:
            self.pending[person] -= 1
        else:
            self.pending.pop(person, None)
        if person in self.seen:
            return
        theirs = self.open.get(person)
        if theirs is None:
            theirs = self.open[person] = [*chosen, when, 0.0]
            self._assigned(chosen[0], when)
        if when <= theirs[2] + self.experiment.horizon_seconds:
            theirs[3] = min(theirs[3] + outcome.reward(self.experiment), 1.0)

    def close(self, until: float) -> None:
        """Counts the people whose first answer came before a time; they stand in the order of their first answers."""
        while self.open:
            person = next(iter(self.open))
            arm, _, first, reward = self.open[person]
            if first >= until:
                return
            del self.open[person]
            self.seen.add(person)
            self.count(arm, reward, first)

    def count(self, arm: str, reward: float, time: float = 0.0) -> None:
        """One person's outcome in [0, 1]."""
        of = self.experiment.shares_at(time).of
        control = self.experiment.control
        self.counted[arm] += 1
        self.sums[arm] += reward
        for name, difference in self.compared.items():
            if arm in (name, control):
                difference.add(arm == name, reward, of[name] / (of[name] + of[control]))
        people = sum(self.counted.values())
        if people % self.step == 0:
            self.look()
            self.trace.append({"people": people, **{name: self.told(name) for name in self.compared}})
            if len(self.trace) >= TRACE:
                self.trace, self.step = self.trace[1::2], 2 * self.step

    def look(self) -> None:
        """Takes the bounds as they are now; a difference that was excluded once is excluded for ever."""
        people = sum(self.counted.values())
        if people == self.looked:
            return
        self.looked = people
        for name, difference in self.compared.items():
            low, high = difference.interval()
            self.lower[name], self.upper[name] = max(self.lower[name], low), min(self.upper[name], high)

    def told(self, name: str) -> dict[str, float]:
        """The figures of one comparison with the control."""
        return {"difference": self.compared[name].estimate, "lower": self.lower[name], "upper": self.upper[name]}

    def verdict(self) -> tuple[str, str | None] | None:
        """What is decided, and for which arm: winner, harm (all are worse), futility, undecided; None: nothing yet."""
        if self.evidence > MISMATCH:
            return ("mismatch", None)
        better = [name for name in self.compared if self.lower[name] > 0]
        if better:
            return ("winner", max(better, key=lambda name: (self.compared[name].estimate, name)))
        if all(high < 0 for high in self.upper.values()):
            return ("harm", self.experiment.control)
        if all(high < max(self.experiment.least_effect, 1e-12) for high in self.upper.values()):
            return ("futility", self.experiment.control)
        if self.experiment.most and sum(self.counted.values()) >= self.experiment.most:
            return ("undecided", self.experiment.control)
        return None

    def _assigned(self, arm: str, time: float) -> None:
        place = self.experiment.shares.index(self.experiment.shares_at(time))
        while len(self.assigned) <= place:
            self.assigned.append({})
        self.assigned[place][arm] = self.assigned[place].get(arm, 0) + 1
        if sum(self.assigned[place].values()) % 16 == 0:
            pairs = zip(self.assigned, self.experiment.shares, strict=False)
            self.evidence = max(self.evidence, sum(mismatch(counts, one.of) for counts, one in pairs if counts))

    def saved(self) -> dict[str, Any]:
        """Plain values; of people only marks, which nothing but the salt and a name could join."""
        seen = np.fromiter(self.seen, np.uint64, len(self.seen))
        return {
            "compared": {name: asdict(one) for name, one in self.compared.items()}, "counted": self.counted,
            "sums": self.sums, "assigned": self.assigned, "lower": self.lower, "upper": self.upper, "trace": self.trace,
            "open": [[person, *theirs] for person, theirs in self.open.items()],
            "seen": base64.b64encode(seen.tobytes()).decode(), "evidence": self.evidence, "step": self.step,
        }  # fmt: skip

    @classmethod
    def restored(cls, experiment: Experiment, state: Mapping[str, Any]) -> Measured:
        """What was saved, for this experiment."""
        compared = {
            name: Difference(**{**one, "segments": [Segment(**part) for part in one["segments"]]})
            for name, one in state["compared"].items()
        }
        seen = set(np.frombuffer(base64.b64decode(state["seen"]), np.uint64).tolist())
        rest = {
            name: state[name] for name in ("counted", "sums", "assigned", "lower", "upper", "trace", "evidence", "step")
        }
        opened = {person: theirs for person, *theirs in state["open"]}
        return cls(experiment, compared=compared, open=opened, seen=seen, **rest)
