"""What a service holds to try things: it says how to answer, notes what was shown and done, and learns from it.

A request costs a few hashes and an append to a queue; nothing at all where nothing is tried. A thread writes the queue
to the journal a few times a second, in one sync, then reads the journal on, its own lines and those of other processes
alike, and learns from answers whose time is over. So what it knows follows from the journal, and a restart knows it
again: from a checkpoint, and what came after. A kill loses at most the lines of the last quarter of a second.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sensorium.adapt.bandit import CONTEXT, Bandit, Learnt
from sensorium.adapt.definition import Tried
from sensorium.adapt.experiment import Experiment, Measured, Shares
from sensorium.adapt.exposure import JOURNAL, Act, Exposure, Window, read
from sensorium.adapt.policy import Logged
from sensorium.adapt.written import KINDS, described, restored
from sensorium.errors import DataError, RecipeError, UnknownId
from sensorium.feedback.store import Note, Store

T = TypeVar("T")
PAUSE_SECONDS = 0.25  # between two writes of the journal
GRACE_SECONDS = 5.0  # that a line may come late
CHECKPOINT_SECONDS = 60.0
STATE = "adaptive"  # the kind of document of the checkpoint
WAITING = 100_000  # lines that may wait for the disk; beyond, what is shown is not noted, and counted in `lost`
BREAKS = 3  # answers in a row that an arm may break before it is retired
PAGE = 5_000


@dataclass
class Plan:
    """How one request is answered: the wishes of its arms, which arms, and with what chance each."""

    wishes: dict[str, Any]
    chosen: dict[str, tuple[str, float]]
    context: tuple[float, ...]


@dataclass
class Known:
    """All that is tried now, replaced as a whole."""

    experiments: dict[str, Measured] = field(default_factory=dict)
    bandits: dict[str, Learnt] = field(default_factory=dict)


class Adaptive:
    """Experiments and bandits over one store. `seed` makes draws repeatable, `clock` tells seconds since 1970."""

    def __init__(self, store: Store, *, seed: int | None = None, clock: Callable[[], float] = time.time) -> None:
        self.store, self.clock = store, clock
        self.lost = 0
        self.problem = ""  # why the last turn failed
        self._known = Known()
        self._active: tuple[Tried, ...] = ()  # what changes answers now
        self._windows: dict[str, float] = {}  # of all that is known, what has ended too
        self._recent: tuple[set[str], set[str]] = (set(), set())  # who was shown something, not yet read in the journal
        self._random = random.Random(seed)
        self._queue: deque[Note] = deque()
        self._window = Window()
        self._breaks: dict[tuple[str, str], int] = {}
        self._read = 0  # up to which position of the journal
        self._settled = 0.0  # up to which time outcomes are learnt
        self._changed: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._saved: tuple[float, float] = (clock(), 0.0)  # when, and up to which time
        self._turning = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # --- on the path of a request: no disk, no lock -----------------------------------------------------------------

    def plan(self, asked: Mapping[str, Any]) -> Plan | None:
        """How to answer these wishes; None where nothing is tried. **Cost** ten microseconds an experiment."""
        if not self._active:
            return None
        user = asked.get("user")
        # An arm's own randomness for somebody unknown; it is drawn for all alike, so that draws repeat.
        drawn = self._random.random()
        plan = Plan({}, {}, tuple(float(bool(asked.get(name))) for name in ("user", "like", "rules")))
        for tried in self._active:
            if any(_said(wish, asked.get(wish)) for wish in tried.touched):
                continue  # who asks has said it themselves
            if isinstance(tried, Experiment):
                if tried.ended is not None:
                    plan.wishes.update(tried.arm(tried.kept or tried.control).wishes)
                    continue
                found = tried.choose(user if user is not None else f"\0{drawn}")
                if found is None:
                    continue
            else:
                learnt = self._known.bandits.get(tried.name)
                if learnt is None:
                    continue
                found = _drawn(learnt, plan.context, self._random.random())
            plan.chosen[tried.name] = found
            plan.wishes.update(tried.arm(found[0]).wishes)
        return plan

    def answered(self, answer: Callable[..., T], plan: Plan, **asked: Any) -> T:
        """The answer as planned; where an arm breaks it, the plain one, and an arm that goes on breaking is retired."""
        try:
            found = answer(**{**asked, **plan.wishes})
        except Exception as error:
            found = answer(**asked)  # where this fails too, it was not the arm
            if plan.wishes:
                self._broke(plan, error)
            return found
        if self._breaks:
            for name, (arm, _) in plan.chosen.items():
                self._breaks.pop((name, arm), None)
        return found

    def shown(self, id: str, plan: Plan, user: str | None, items: Iterable[str], version: str = "") -> None:
        """Notes what was shown; it is on the disk within a second."""
        if plan.chosen:
            if user is not None:
                self._recent[1].add(user)
            self._put(Exposure(id, self.clock(), user, tuple(items), plan.chosen, plan.context, version).note())

    @property
    def tries(self) -> bool:
        """Whether anything is, or was, tried, so that what happens must be noted."""
        return bool(self._windows)

    def happened(self, user: str, item: str, kind: str, when: float, to: str | None = None) -> None:
        """Notes what somebody did, where it may follow an answer: the one named `to`, or one this person got."""
        if self._windows and (to is not None or any(user in those for those in (self._window.of_user, *self._recent))):
            self._put(Act(when, user, item, kind, to).note())

    def _put(self, note: Note) -> None:
        if len(self._queue) >= WAITING:
            self.lost += 1
        else:
            self._queue.append(note)

    def _broke(self, plan: Plan, error: Exception) -> None:
        for name, (arm, _) in plan.chosen.items():
            tried = next((one for one in self._active if one.name == name), None)
            if tried is None or not tried.arm(arm).wishes:
                continue
            self._breaks[name, arm] = self._breaks.get((name, arm), 0) + 1
            if self._breaks[name, arm] >= BREAKS:
                self._breaks.pop((name, arm))
                threading.Thread(target=self._retire, args=[name, arm, str(error)], daemon=True).start()
        plan.chosen.clear()  # what is shown is nobody's arm

    # --- the thread ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Know again what was known, then learn on in a thread; a second call does nothing."""
        if self._thread is not None:
            return
        with self._turning:
            self._restore()
            self.turn()
        self._thread = threading.Thread(target=self._run, name="adapt", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Know what the store tells up to now, and change nothing."""
        with self._turning:
            self._restore()
            self._follow()

    def close(self) -> None:
        """Write what waits, and a checkpoint."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            self.turn()
            self._checkpoint()

    def turn(self) -> None:
        """Hear of changed definitions, write the queue, read the journal on, learn what is settled, and decide."""
        with self._turning:
            self._hear()
            self._recent = (self._recent[1], set())
            self._write([self._queue.popleft() for _ in range(len(self._queue))])
            if not self._windows:
                return
            self._follow()
            self._decide()
            if self.clock() - self._saved[0] >= CHECKPOINT_SECONDS and self._settled > self._saved[1]:
                self._checkpoint()

    def _write(self, lines: Sequence[Note]) -> None:
        """Lines to the journal, in one sync; what cannot be written now waits, what never can is counted and left."""
        if not lines:
            return
        try:
            self.store.note(JOURNAL, lines)
        except DataError:
            if len(lines) == 1:
                self.lost += 1
                return
            half = len(lines) // 2
            self._queue.extendleft(reversed(lines[half:]))  # should the first half have to wait, these wait behind it
            self._write(lines[:half])
            self._write([self._queue.popleft() for _ in range(len(lines) - half)])
        except BaseException:
            self._queue.extendleft(reversed(lines))
            raise

    def _follow(self) -> None:
        """Reads the journal on, and learns what is settled."""
        now = self.clock() - GRACE_SECONDS
        while page := self.store.notes(JOURNAL, self._read, PAGE):
            latest = max((self._absorb(note) for note in page), default=0.0)
            self._read = page[-1].position
            if len(page) == PAGE:  # far behind: what is settled must not wait in memory until the end is reached
                self._settle(min(latest - 60.0, now))
        self._settle(now)
        for measured in self._known.experiments.values():
            measured.look()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                self.turn()
                self.problem = ""
            except Exception as error:  # a full disk must not end learning for ever; nothing was dropped
                self.problem = " ".join(str(error).split())

    def forget(self, user: str) -> None:
        """Lines of a person that wait or are open are dropped; the store erases the journal's. Sums stay, nameless."""
        with self._turning:
            kept = [note for note in (self._queue.popleft() for _ in range(len(self._queue))) if note.user != user]
            self._queue.extendleft(reversed(kept))
            self._window.forget(user)
            for measured in self._known.experiments.values():
                measured.forget(user)

    def _absorb(self, note: Note) -> float:
        """Takes a line in; returns when something was shown, 0 for what was done: its time is the client's to say."""
        seen = read(note)
        if isinstance(seen, Act):
            self._window.act(seen)
            return 0.0
        windows = {name: self._windows[name] for name in seen.chosen if name in self._windows}
        open_still = {name: seconds for name, seconds in windows.items() if seen.time + seconds > self._settled}
        if self._window.show(seen, open_still):
            for name in open_still:
                if (measured := self._known.experiments.get(name)) is not None:
                    measured.shown(seen)
        return seen.time

    def _settle(self, until: float) -> None:
        told = set()
        for name, due, outcome in self._window.settled(until):
            exposure = outcome.exposure
            arm, _ = exposure.chosen[name]
            if (learnt := self._known.bandits.get(name)) is not None:
                names = [one.name for one in learnt.bandit.arms]
                if arm in names:
                    told.add(name)
                    learnt.update(names.index(arm), outcome.reward(learnt.bandit), due, exposure.context)
            elif (measured := self._known.experiments.get(name)) is not None and arm in measured.counted:
                measured.add(outcome)
        for name in told:
            self._known.bandits[name].draw()
        for measured in self._known.experiments.values():
            tried = measured.experiment  # whose answers are settled up to its own window, however long others' are
            measured.close(until - tried.window_seconds - tried.horizon_seconds)
        self._settled = max(self._settled, until)

    def _decide(self) -> None:
        for name, measured in list(self._known.experiments.items()):
            experiment = measured.experiment
            if experiment.ended is not None or not experiment.stops:
                continue
            found = measured.verdict()
            if found is not None and found[0] != "mismatch":
                self.stop(name, why=found[0] + (f": {found[1]}" if found[0] == "winner" else ""))
                continue
            now = experiment.shares[-1]
            harmful = [arm for arm, high in measured.upper.items() if high < 0 and now.of[arm]]
            if harmful and found is None:  # others go on; the control keeps its share, so pairs stay as they were
                self.reshare(
                    name, {arm: 0.0 if arm in harmful else share for arm, share in now.of.items()}, now.traffic
                )

    # --- definitions ----------------------------------------------------------------------------------------------

    def define(self, tried: Tried) -> None:
        """Begins to try something. **Raises** RecipeError where the name is taken by something else."""
        kind = "experiments" if isinstance(tried, Experiment) else "bandits"
        other = "bandits" if kind == "experiments" else "experiments"
        with self._turning:
            if self.store.get(other, tried.name) is not None or (
                kind == "experiments" and self.store.get(kind, tried.name) is not None
            ):
                raise RecipeError(f"{tried.name!r} is there already; choose another name")
            self._keep(tried)

    def stop(self, name: str, *, keep: str | None = None, why: str = "stopped") -> Experiment:
        """Ends an experiment; from now on everybody gets the arm `keep`, or what the recipe says."""
        experiment = self.experiment(name).experiment
        if keep is not None:
            experiment.arm(keep)
        why = experiment.why if experiment.ended is not None else why
        self._keep(replace(experiment, ended=experiment.ended or self.clock(), why=why, kept=keep))
        return self.experiment(name).experiment

    def reshare(self, name: str, of: Mapping[str, float], traffic: float = 1.0) -> Experiment:
        """Other shares from now on; nobody moves but to an arm that has grown."""
        experiment = self.experiment(name).experiment
        if experiment.ended is not None:
            raise RecipeError(f"{name!r} has ended")
        self._keep(replace(experiment, shares=(*experiment.shares, Shares(self.clock(), dict(of), traffic))))
        return self.experiment(name).experiment

    def remove(self, name: str, kind: str) -> None:
        """A bandit or an experiment that is not tried any longer; the journal keeps what it showed."""
        if not self.store.delete(kind, name):
            raise UnknownId(f"no {kind[:-1]} {name!r}")
        with self._turning:
            self._hear()

    def experiment(self, name: str) -> Measured:
        """What an experiment found. **Raises** UnknownId."""
        if name not in self._known.experiments:
            raise UnknownId(f"no experiment {name!r}")
        return self._known.experiments[name]

    def bandit(self, name: str) -> Learnt:
        """What a bandit knows. **Raises** UnknownId."""
        if name not in self._known.bandits:
            raise UnknownId(f"no bandit {name!r}")
        return self._known.bandits[name]

    @property
    def experiments(self) -> Sequence[Measured]:
        """All of them, by name."""
        return [one for _, one in sorted(self._known.experiments.items())]

    @property
    def bandits(self) -> Sequence[Learnt]:
        """All of them, by name."""
        return [one for _, one in sorted(self._known.bandits.items())]

    def _retire(self, name: str, arm: str, why: str) -> None:
        """Takes an arm out: of a bandit for ever; an experiment whose arm breaks ends."""
        with self._turning:
            if name in self._known.experiments:
                self.stop(name, why=f"arm {arm} broke: {' '.join(why.split())[:200]}")
            elif name in self._known.bandits:
                bandit = self._known.bandits[name].bandit
                if arm not in bandit.retired and len(bandit.working) > 1:
                    self._keep(replace(bandit, retired=(*bandit.retired, arm)))
                elif arm not in bandit.retired:
                    self.remove(name, "bandits")

    def _keep(self, tried: Tried) -> None:
        kind = "experiments" if isinstance(tried, Experiment) else "bandits"
        self.store.put(kind, {tried.name: described(tried)})
        with self._turning:
            self._hear()

    def _hear(self) -> None:
        """Definitions as they stand in the store; what is known of them stays."""
        experiments, bandits = dict(self._known.experiments), dict(self._known.bandits)
        before = self._changed.copy()
        for kind in KINDS:
            while changes := self.store.changed(kind, self._changed[kind], 100):
                for one in changes:
                    if one.body is None:
                        (experiments if kind == "experiments" else bandits).pop(one.id, None)
                        continue
                    tried = restored(kind, one.body)
                    if isinstance(tried, Experiment):
                        known = experiments.get(one.id)
                        if known is None:
                            experiments[one.id] = Measured(tried)
                        else:
                            known.experiment = tried
                    elif isinstance(tried, Bandit):
                        learnt = bandits.get(one.id)
                        bandits[one.id] = Learnt(tried) if learnt is None else Learnt(tried).restored(learnt.saved())
                        bandits[one.id].draw()
                self._changed[kind] = changes[-1].changed
        if self._changed != before:
            self._known = Known(experiments, bandits)
            learning = [one.bandit for _, one in sorted(bandits.items())]
            trying = [one.experiment for _, one in sorted(experiments.items())]
            self._windows = {one.name: one.window_seconds for one in (*learning, *trying)}
            trying = [one for one in trying if one.ended is None or one.kept is not None]
            self._active = (*learning, *trying)  # an experiment has the last word

    # --- knowing again, estimating --------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        """One document: what is known, up to which time, and from where the journal must be read again."""
        oldest = self._window.oldest()
        body = {
            "settled": self._settled, "after": self._read if oldest is None else oldest - 1,
            "experiments": {name: one.saved() for name, one in self._known.experiments.items()},
            "bandits": {name: one.saved() for name, one in self._known.bandits.items()},
        }  # fmt: skip
        self.store.put(STATE, {"state": body})
        self._saved = (self.clock(), self._settled)

    def _restore(self) -> None:
        self._hear()
        state = self.store.get(STATE, "state")
        if state is None:
            return
        for name, body in state["experiments"].items():
            if name in self._known.experiments:
                self._known.experiments[name] = Measured.restored(self._known.experiments[name].experiment, body)
        for name, body in state["bandits"].items():
            if name in self._known.bandits:
                self._known.bandits[name] = self._known.bandits[name].restored(body)
                self._known.bandits[name].draw()
        self._settled, self._read = float(state["settled"]), int(state["after"])

    def logged(self, name: str) -> tuple[Logged, list[str]]:
        """The settled decisions of an experiment or bandit, and its arms. **Raises** UnknownId. **Cost** all the journal."""
        from sensorium.adapt.written import logged

        known: Tried = (
            self._known.bandits[name].bandit if name in self._known.bandits else self.experiment(name).experiment
        )
        return logged(self._lines(), known, self.clock() - GRACE_SECONDS)

    def _lines(self) -> Iterable[Note]:
        after = 0
        while page := self.store.notes(JOURNAL, after, PAGE):
            yield from page
            after = page[-1].position


def _said(wish: str, value: Any) -> bool:
    """Whether a request states a wish; an exploration of 0 is what nobody wrote."""
    return value is not None and value not in ([], (), {}) and not (wish == "exploration" and value == 0)


def _drawn(learnt: Learnt, context: tuple[float, ...], at: float) -> tuple[str, float]:
    """An arm by its chance; `at` is uniform in [0, 1)."""
    assert len(context) == len(CONTEXT)
    chances = learnt.chances(context).tolist()
    names = [arm.name for arm in learnt.bandit.arms]
    whole = at * sum(chances)
    last = 0
    for place, chance in enumerate(chances):
        if chance > 0:
            last, whole = place, whole - chance
            if whole < 0:
                break
    return names[last], float(chances[last])
