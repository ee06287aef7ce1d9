"""Group commit: many writers, one sync to disk. Whoever appends waits for that sync, and shares it with all who wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from sensorium.errors import SnapshotError
from sensorium.feedback.store import Entry, Store, Unsettled

MOST = 20_000  # entries of one transaction; a longer queue is written in several


class Committer:
    """Appends to a store from any number of threads; each call's entries are stored all or none.

    While one transaction is on its way to the disk, the batches of others gather, and the next transaction takes them
    together. So the cost of a sync is shared by as many as happen to write at once, and nobody waits for a timer.

    `told` hears of every transaction: its entries, the seconds it took with its sync, whether it is stored.
    """

    def __init__(self, store: Store, *, told: Callable[[int, float, bool], None] | None = None) -> None:
        self._store, self._told = store, told or _silent
        self._waiting: deque[tuple[Sequence[Entry], Future[list[int]]]] = deque()
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
        with self._there:
            if self._closed:
                raise SnapshotError("the store is closed; nothing was written")
            self._waiting.append((entries, answer))
            self._there.notify()
        return answer

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
                taken: list[tuple[Sequence[Entry], Future[list[int]]]] = []
                count = 0
                while self._waiting and (not taken or count + len(self._waiting[0][0]) <= MOST):
                    one = self._waiting.popleft()
                    if one[1].set_running_or_notify_cancel():  # who hung up before it was begun is left out
                        taken.append(one)
                        count += len(one[0])
            if taken:
                self._write(taken)

    def _write(self, taken: Sequence[tuple[Sequence[Entry], Future[list[int]]]]) -> None:
        begin, gathered = time.perf_counter(), [entry for entries, _ in taken for entry in entries]
        try:
            positions = self._store.append(gathered)
        except Exception as error:
            self._told(len(gathered), time.perf_counter() - begin, False)
            if len(taken) == 1 or isinstance(error, Unsettled):  # what may be stored is not written a second time
                for _, answer in taken:
                    answer.set_exception(error)
            else:  # one bad batch must not fail the others
                for one in taken:
                    self._write([one])
            return
        self._told(len(gathered), time.perf_counter() - begin, True)
        place = 0
        for entries, answer in taken:
            answer.set_result(positions[place : place + len(entries)])
            place += len(entries)


def _silent(events: int, seconds: float, stored: bool) -> None:
    """Nobody listens."""
