"""Group commit: many writers, one sync to disk. Whoever appends waits for that sync, and shares it with all who wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import accumulate
from typing import Any

from sensorium.errors import SnapshotError
from sensorium.feedback.store import Entry, Store, Taken, Unsettled

MOST = 20_000  # entries of one transaction; a longer queue is written in several
Waiter = Future[list[int]] | asyncio.Future[list[int]]


class Committer:
    """Appends to a store from any number of threads; each call's entries are stored all or none.

    While one transaction is on its way to the disk, the batches of others gather, and the next transaction takes them
    together. So the cost of a sync is shared by as many as happen to write at once, and nobody waits for a timer.

    `told` hears of every transaction: its entries, the seconds it took with its sync, whether it is stored.
    """

    def __init__(self, store: Store, *, told: Callable[[int, float, bool], None] | None = None) -> None:
        self._store, self._told = store, told or _silent
        self._waiting: deque[tuple[Sequence[Entry], Waiter]] = deque()
        self._there = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls are queued now."""
        return len(self._waiting)

    def submit(self, entries: Sequence[Entry]) -> Future[list[int]]:
        """The positions of the entries, once they are on the disk. **Raises** SnapshotError after `close`, and through the
        future what `Store.append` raises."""
        answer: Future[list[int]] = Future()
        self._queue(entries, answer)
        return answer

    async def appended(self, entries: Sequence[Entry]) -> list[int]:
        """The same, awaited; those who wait in one event loop are woken together, which is what makes it cheap."""
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._queue(entries, answer)
        return await answer

    def _queue(self, entries: Sequence[Entry], answer: Waiter) -> None:
        with self._there:
            if self._closed:
                raise SnapshotError("the store is closed; nothing was written")
            self._waiting.append((entries, answer))
            self._there.notify()

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """The same, waiting for it."""
        return self.submit(entries).result()

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._there:
            self._closed = True
            self._there.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._there:
                while not self._waiting and not self._closed:
                    self._there.wait()
                if not self._waiting:
                    return
                taken: list[tuple[Sequence[Entry], Waiter]] = []
                count = 0
                while self._waiting and (not taken or count + len(self._waiting[0][0]) <= MOST):
                    one = self._waiting.popleft()
                    if _begun(one[1]):  # who hung up before it was begun is left out
                        taken.append(one)
                        count += len(one[0])
            if taken:
                _tell(self._written(taken))

    def _written(self, taken: Sequence[tuple[Sequence[Entry], Waiter]]) -> list[tuple[Waiter, list[int] | Exception]]:
        """What each is to be told: positions, or what went wrong."""
        begin, gathered = time.perf_counter(), [entry for entries, _ in taken for entry in entries]
        try:
            positions = self._store.append(gathered)
        except Taken as error:
            self._told(len(gathered), time.perf_counter() - begin, False)
            if len(taken) == 1:
                return [(taken[0][1], error)]
            ends = [*accumulate(len(entries) for entries, _ in taken)]
            bad = {bisect_right(ends, place) for place in error.places}
            parts = [[taken[place]] for place in sorted(bad)]  # each is told of its own, the others share their sync
            rest = [one for place, one in enumerate(taken) if place not in bad]
            return [told for part in [*([rest] if rest else []), *parts] for told in self._written(part)]
        except Exception as error:
            self._told(len(gathered), time.perf_counter() - begin, False)
            if len(taken) == 1 or isinstance(error, Unsettled):  # what may be stored is not written a second time
                return [(answer, error) for _, answer in taken]
            return [told for one in taken for told in self._written([one])]  # one bad batch must not fail the others
        self._told(len(gathered), time.perf_counter() - begin, True)
        answers: list[tuple[Waiter, list[int] | Exception]] = []
        place = 0
        for entries, answer in taken:
            answers.append((answer, positions[place : place + len(entries)]))
            place += len(entries)
        return answers


def _begun(answer: Waiter) -> bool:
    return answer.set_running_or_notify_cancel() if isinstance(answer, Future) else not answer.cancelled()


def _tell(answers: Sequence[tuple[Waiter, list[int] | Exception]]) -> None:
    """Tells every waiter, those of an event loop by one call into it."""
    of_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiter, list[int] | Exception]]] = {}
    for answer, outcome in answers:
        if isinstance(answer, Future):
            settle([(answer, outcome)])
        else:
            of_loop.setdefault(answer.get_loop(), []).append((answer, outcome))
    for loop, theirs in of_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, theirs)


def settle(answers: Iterable[tuple[Waiter | asyncio.Future[Any], Any]]) -> None:
    """Gives each that waits, but for who hung up, its outcome or its error; on their loop."""
    for answer, outcome in answers:
        if answer.done():  # who hung up meanwhile
            continue
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


def _silent(events: int, seconds: float, stored: bool) -> None:
    """Nobody listens."""
