"""What was shown and what came of it: notes of the journal, joined into outcomes once their time is over."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sensorium.adapt.definition import Tried
from sensorium.feedback.store import Note

JOURNAL = "exposures"
OPEN = 200_000  # answers that may wait for their outcome; beyond, the oldest are settled early


@dataclass(frozen=True)
class Exposure:
    """One shown answer. `chosen`: by experiment or bandit, the arm and the chance with which it was drawn.

    `unit` is who or what was assigned: the person, or, for somebody unknown, the answer itself.
    """

    id: str
    time: float
    user: str | None
    items: tuple[str, ...]
    chosen: Mapping[str, tuple[str, float]]
    context: tuple[float, ...] = ()
    version: str = ""
    position: int = 0

    @property
    def unit(self) -> str:
        """Who was assigned."""
        return self.user if self.user is not None else f"\0{self.id}"

    def note(self) -> Note:
        """The line of the journal; it carries the person, so that it is erased with them."""
        body = {
            "id": self.id, "items": self.items, "chosen": self.chosen, "context": self.context, "version": self.version,
        }  # fmt: skip
        return Note(self.time, body, self.user)


@dataclass(frozen=True)
class Act:
    """What somebody did with an item, perhaps saying with which answer (`id`)."""

    time: float
    user: str
    item: str
    kind: str
    id: str | None = None

    def note(self) -> Note:
        """The line of the journal."""
        return Note(self.time, {"item": self.item, "kind": self.kind, "to": self.id}, self.user)


def read(note: Note) -> Exposure | Act:
    """What a line of the journal tells. Ids are interned: the same items are shown again and again."""
    body = note.body
    if "chosen" not in body:
        return Act(note.time, note.user or "", sys.intern(body["item"]), sys.intern(body["kind"]), body.get("to"))
    return Exposure(
        body["id"], note.time, note.user, tuple(map(sys.intern, body["items"])),
        {sys.intern(name): (sys.intern(arm), p) for name, (arm, p) in body["chosen"].items()},
        tuple(body["context"]), sys.intern(body["version"]), note.position,
    )  # fmt: skip


@dataclass
class Outcome:
    """An answer with what was done with its items within its window: (item, kind) → when first. `due` is when the longest
    window of whatever was tried with it is over, `left` how many windows are open.
    """

    exposure: Exposure
    due: float
    acts: dict[tuple[str, str], float] = field(default_factory=dict)
    left: int = 1

    def reward(self, tried: Tried) -> float:
        """In [0, 1], by the goal and the window of whoever asks; the same event twice counts once."""
        if not self.acts:
            return 0.0
        until = self.exposure.time + tried.window_seconds
        best: dict[str, float] = {}
        for (item, kind), time in self.acts.items():
            if time <= until:
                best[item] = max(best.get(item, 0.0), tried.goal.get(kind, 0.0))
        return min(sum(best.values()), 1.0)


class Window:
    """Answers whose outcome is still open. An act belongs to the answer it names, else to the newest open one that
    showed this person this item."""

    def __init__(self) -> None:
        self.open: dict[str, Outcome] = {}
        self.of_user: dict[str, list[str]] = {}
        self._due: list[tuple[float, int, str, str]] = []  # when, the answer's position and id, for which experiment

    def __len__(self) -> int:
        return len(self.open)

    def show(self, exposure: Exposure, windows: Mapping[str, float]) -> bool:
        """Whether this is one more answer; an id that is open already is the same answer. `windows`: the seconds of each
        experiment or bandit that it is to be settled for, each at its own time.
        """
        if exposure.id in self.open or not windows:
            return False
        longest = exposure.time + max(windows.values())
        self.open[exposure.id] = Outcome(exposure, longest, left=len(windows))
        for name, seconds in windows.items():
            heapq.heappush(self._due, (exposure.time + seconds, exposure.position, exposure.id, name))
        if exposure.user is not None:
            self.of_user.setdefault(exposure.user, []).append(exposure.id)
        return True

    def act(self, act: Act) -> bool:
        """Whether the act belongs to an open answer; it is noted there if it came within its window."""
        found = self.open.get(act.id) if act.id is not None else self._newest(act)
        if found is None or act.item not in found.exposure.items:
            return False
        if found.exposure.user not in (None, act.user):  # an answer to somebody else
            return False
        if found.exposure.time - 5.0 <= act.time <= found.due:  # clocks may differ a little
            found.acts.setdefault((act.item, act.kind), act.time)
            return True
        return False

    def settled(self, until: float) -> Iterator[tuple[str, float, Outcome]]:
        """Those whose time was over at `until`, in the order in which it ended: for which experiment, when, and what."""
        while self._due and (self._due[0][0] <= until or len(self.open) > OPEN):
            due, _, id, name = heapq.heappop(self._due)
            done = self.open[id]
            done.left -= 1
            if not done.left:
                self._close(id, done)
            yield name, due, done

    def _close(self, id: str, done: Outcome) -> None:
        del self.open[id]
        if (user := done.exposure.user) is not None:
            theirs = self.of_user[user]
            theirs.remove(id)
            if not theirs:
                del self.of_user[user]

    def forget(self, user: str) -> None:
        """Answers to a person are open no longer."""
        for name in self.of_user.pop(user, ()):
            del self.open[name]
        self._due = [one for one in self._due if one[2] in self.open]
        heapq.heapify(self._due)

    def oldest(self) -> int | None:
        """The journal's position of the oldest open answer."""
        return min((one.exposure.position for one in self.open.values()), default=None)

    def _newest(self, act: Act) -> Outcome | None:
        for name in reversed(self.of_user.get(act.user, ())):
            found = self.open[name]
            if act.item in found.exposure.items and found.exposure.time - 5.0 <= act.time <= found.due:
                return found
        return None


def outcomes(notes: Iterable[Note], tried: Tried, until: float) -> Iterator[Outcome]:
    """The settled outcomes of one experiment or bandit, read off the journal."""
    window = Window()
    for note in notes:
        seen = read(note)
        if isinstance(seen, Act):
            window.act(seen)
        elif tried.name in seen.chosen:
            window.show(seen, {tried.name: tried.window_seconds})
            if len(window) % 1024 == 0:
                for _, _, outcome in window.settled(seen.time - 60.0):  # notes may stand a little out of order
                    yield outcome
    for _, _, outcome in window.settled(until):
        yield outcome
