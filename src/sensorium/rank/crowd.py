"""What the crowd chooses: decayed counts by item, as of a snapshot and moved on by every event since."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.data.events import Events, confidence
from sensorium.data.ids import Ids

HALF_LIFE_SECONDS = 90 * 86400.0  # after which an event counts half for popularity
TREND_SECONDS = 86400.0  # after which it counts half for trends
TRENDS = 2.0**-10  # of an event, which an item must have left to be among the trends
FAR = 64.0  # half-lives by which counts may outgrow their time before they are brought up to date
GONE = 2048.0  # half-lives after which a number of events is nothing
Numbers = NDArray[np.float64]
S = TypeVar("S", bound=np.generic)


class Stored(Protocol):
    """What a log entry says of an item."""

    @property
    def item(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def position(self) -> int: ...


@dataclass(frozen=True)
class Tally:
    """Σ 2^((t − since) ÷ half-life) of each item's events: an event is added, and none that is there needs decaying.

    **Shapes** counts (I,). `since` is None where no event has a time yet.
    """

    counts: Numbers
    half_life: float
    since: float | None = None

    def extended(self, rows: Rows, times: Numbers) -> Tally:
        """With some more events, which may be older than those before. **Cost** O(I), nothing where there are none."""
        if not len(rows):
            return self
        newest = float(times.max())
        since, counts = newest if self.since is None else self.since, self.counts.copy()
        past = (newest - since) / self.half_life
        if past > GONE:
            counts, since = np.zeros_like(counts), newest
        elif past > FAR:  # whole half-lives, so nothing is rounded
            counts, since = np.ldexp(counts, -math.floor(past)), since + math.floor(past) * self.half_life
        np.add.at(counts, rows, np.exp2((times - since) / self.half_life))
        return Tally(counts, self.half_life, since)

    def grown(self, items: int) -> Tally:
        """With more items, of which there are no events."""
        return replace(self, counts=padded(self.counts, items))

    def at(self, moment: float | None) -> Floats:
        """The decayed counts (I,) at a moment."""
        past = 0.0 if moment is None or self.since is None else (moment - self.since) / self.half_life
        return (self.counts * 2.0**-past).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Crowd:
    """How often each item was chosen, decayed to the newest event (`end`), by the long half-life and by the short one."""

    long: Tally
    short: Tally
    end: float | None
    before: Crowd | None = None  # whose orders need only the `touched` rows placed anew
    touched: Rows = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def popularity(self) -> Floats:
        """(I,), an event halving every ninety days."""
        return self.long.at(self.end)

    @cached_property
    def trend(self) -> Floats:
        """(I,), an event halving every day."""
        return self.short.at(self.end)

    @cached_property
    def popular(self) -> Rows:
        """Rows by falling popularity, those with any."""
        return self._order("popular", self.long.counts)

    @cached_property
    def trending(self) -> Rows:
        """Rows by falling trend, those of which something is left."""
        order = self._order("_trending", self.short.counts)
        return order[self.trend[order] >= TRENDS]

    @cached_property
    def _trending(self) -> Rows:
        return self._order("_trending", self.short.counts)

    def dated(self, end: float) -> Crowd:
        """With all that is counted put at a moment."""
        return replace(self, long=replace(self.long, since=end), short=replace(self.short, since=end), end=end)

    def grown(self, items: int) -> Crowd:
        """With more items, of which there are no events; what was worked out is kept."""
        if items == len(self.long.counts):
            return self
        before = None if self.before is None else self.before.grown(items)
        out = replace(self, long=self.long.grown(items), short=self.short.grown(items), before=before)
        known = dict(self.__dict__)
        out.__dict__.update({name: padded(known[name], items) for name in ("popularity", "trend") if name in known})
        out.__dict__.update({name: known[name] for name in ("popular", "trending", "_trending") if name in known})
        return out

    def _order(self, name: str, counts: Numbers) -> Rows:
        """Rows with any by falling counts; where most stand as before, in O(I)."""
        if self.before is None:
            order = np.argsort(-counts, kind="stable")
            return order[counts[order] > 0]
        order = getattr(self.before, name)
        moved = np.zeros(len(counts), bool)
        moved[self.touched] = True
        rest, own = order[~moved[order]], self.touched[counts[self.touched] > 0]
        own = own[np.argsort(-counts[own], kind="stable")]
        return np.insert(rest, np.searchsorted(-counts[rest], -counts[own], side="right"), own)


def padded(values: NDArray[S], count: int, by: Any = 0) -> NDArray[S]:
    """A copy that is `count` long.

    >>> padded(np.array([3, 4]), 3).tolist()
    [3, 4, 0]
    """
    out = np.full(count, by, values.dtype)
    out[: len(values)] = values
    return out


def crowd_of(events: Events, items: int) -> Crowd:
    """What a snapshot's events say. Events without times count one each and are no trend."""
    chosen = confidence(events, 0.0) > 0
    rows, nothing = events.item[chosen].astype(np.int64), np.zeros(items)
    if not events.timed or not len(events):
        counts = np.bincount(rows, minlength=items).astype(np.float64)
        return Crowd(Tally(counts, HALF_LIFE_SECONDS), Tally(nothing, TREND_SECONDS), None)
    end, times = float(events.time[-1]), events.time[chosen]
    long, short = (Tally(nothing, half, end).extended(rows, times) for half in (HALF_LIFE_SECONDS, TREND_SECONDS))
    return Crowd(long, short, end)


class Following:
    """A snapshot's crowd moved on by what the log holds after it, whoever stored that; many threads may ask.

    An entry that is taken back after it was read goes with the next version; of an item that is not in the snapshot
    nothing is counted, until it is (`grown`). What has no times is as new as the first entry.
    """

    def __init__(self, crowd: Crowd, ids: Ids, weights: Mapping[str, float], position: int) -> None:
        self._base = self._crowd = crowd
        self._ids, self._weights = ids, weights
        self._position = position
        self._touched = np.zeros(len(crowd.long.counts), bool)
        self._later: list[tuple[float, int]] = []  # a heap: time and row of what is dated into the future
        self._passed: set[str] = set()  # items of entries that are not counted for not being known
        self._turn = threading.Lock()

    def upon(self, read: Callable[[int], Sequence[Stored]], until: float) -> Crowd:
        """The crowd upon the entries that `read` gives after a position; those dated after `until` count once it is past.

        **Cost** one read; O(I) where there is something new.
        """
        with self._turn:
            while entries := read(self._position):
                if self._crowd.end is None:
                    self._crowd = self._crowd.dated(min(entries[0].time, until))
                self._take(*self._counted(entries), until)
                self._position = entries[-1].position
            if self._later and self._later[0][0] <= until:
                self._take(np.zeros(0), np.zeros(0, np.int64), until)
            return self._crowd

    def grown(self, ids: Ids, read: Callable[[str], Sequence[Stored]]) -> Following:
        """The same for a catalogue with more items, which `ids` ends with; this one stays as it is.

        `read` gives the entries of an item after the position that the following began at: it is asked for those items
        alone of which some were passed over. **Cost** O(I).
        """
        with self._turn:
            crowd = self._crowd.grown(len(ids))
            out = Following(crowd.before or crowd, ids, self._weights, self._position)
            out._crowd, out._touched = crowd, padded(self._touched, len(ids))
            out._later, out._passed = self._later.copy(), self._passed.copy()
        for name in [name for name in out._passed if name in ids]:
            out._passed.discard(name)
            entries = [one for one in read(name) if one.position <= out._position]
            times, rows = out._counted(entries)
            out._later += zip(times.tolist(), rows.tolist(), strict=True)
        heapq.heapify(out._later)
        return out

    def _counted(self, entries: Sequence[Stored]) -> tuple[Numbers, Rows]:
        """Times and rows of the entries that count; items that would, were they known, are noted."""
        against = {kind for kind in {one.kind for one in entries} if self._weights.get(kind, 1.0) < 0}
        entries = [one for one in entries if one.kind not in against] if against else entries
        rows = self._ids.rows(one.item for one in entries)
        known = rows >= 0
        self._passed.update(entries[place].item for place in np.flatnonzero(~known).tolist())
        return np.array([one.time for one in entries], np.float64)[known], rows[known]

    def _take(self, times: Numbers, rows: Rows, until: float) -> None:
        """Counts what is due, in the order of time; the rest waits for its time."""
        due = times <= until
        for one in zip(times[~due].tolist(), rows[~due].tolist(), strict=True):
            heapq.heappush(self._later, one)
        waited = []
        while self._later and self._later[0][0] <= until:
            waited.append(heapq.heappop(self._later))
        times = np.concatenate([times[due], [time for time, _ in waited]])
        rows = np.concatenate([rows[due], np.array([row for _, row in waited], np.int64)])
        if not len(times):
            return
        order = np.lexsort((rows, times))
        times, rows = times[order], rows[order]
        self._touched[rows] = True
        now = self._crowd
        end = float(times[-1]) if now.end is None else max(now.end, float(times[-1]))
        self._crowd = Crowd(
            now.long.extended(rows, times), now.short.extended(rows, times), end, self._base,
            np.flatnonzero(self._touched),
        )  # fmt: skip
