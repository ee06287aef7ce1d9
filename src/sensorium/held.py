"""A run as it is held open: the version that answers, where its events are, and the lock behind which writers queue.

Readers take no lock: they hold one version. Writers queue, for a refresh begun before a forget would bring the person
back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.errors import SnapshotError
from sensorium.feedback.store import Entry, Store
from sensorium.live import Live, celled
from sensorium.rank.crowd import Crowd
from sensorium.refresh import based, carried
from sensorium.snapshot import Snapshot

CLOCKS_SECONDS = 5.0  # by which the clocks of those who send events may go before ours
PIECE = 20_000  # entries that are read of the log at once


class Held:
    """One run: in a folder with a store beside it, or in memory alone, where `folder` and `log` are None."""

    def __init__(self, live: Live, folder: Path | None = None) -> None:
        self.live = live
        self.folder = folder
        self.log: Store | None = None
        self.unsaved: list[Entry] = []  # events of a run in memory
        self.writing = threading.RLock()

    @property
    def snapshot(self) -> Snapshot:
        """The version that answers now."""
        return self.live.snapshot

    @property
    def home(self) -> Path:
        """The folder. **Raises** SnapshotError where the run has none."""
        if self.folder is None:
            raise SnapshotError("this run is in memory alone and has one version; save it first")
        return self.folder

    @property
    def place(self) -> Path | None:
        """The folder of the version that answers now."""
        return self.folder / "snapshots" / self.live.name if self.folder is not None else None

    def stand_upon(self, log: Store, *, fresh: bool) -> None:
        """Takes the log for its own. **Raises** SnapshotError for one that ends before what the snapshot has read; where
        there was none (it was moved away), a `fresh` one is gone on with, which the history tells."""
        self.log = log
        try:
            if log.end < self.snapshot.position and not fresh:
                raise SnapshotError(
                    f"{log.place}: it ends at {log.end}, the snapshot has read up to {self.snapshot.position}: an older copy; "
                    "restore the newest, or move it away to start an empty log"
                )
            if log.end < self.snapshot.position:
                with self.writing, runs.locked(self.home):
                    self.swap(based(self.snapshot, 0), why="another log")
        except BaseException:
            log.close()
            raise

    def entries(self, after: int | None = None, user: str | None = None) -> list[Entry]:
        """The events since the snapshot, or `after` a position; all, or one person's."""
        after = self.snapshot.position if after is None else after
        if self.log is not None:
            return self.log.read(after, user=user)
        return [e for e in self.unsaved if e.position > after and user in (None, e.user)]

    def crowd(self, live: Live) -> Crowd:
        """What people choose by now, all that is stored counting. **Cost** a look at the log, which tells what is new."""
        read = self.entries if self.log is None else partial(self.log.read, most=PIECE)
        return live.following.upon(read, time.time() + CLOCKS_SECONDS)

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Notes events; returns their positions."""
        if self.log is not None:
            return self.log.append(entries)
        begin = self.snapshot.position + len(self.unsaved)
        fresh = [replace(entry, position=begin + place + 1) for place, entry in enumerate(entries)]
        self.unsaved += fresh
        return [entry.position for entry in fresh]

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Behind the run's locks, upon the newest snapshot: another process may have written one meanwhile."""
        with self.writing:
            if self.folder is None:
                yield
                return
            with runs.locked(self.folder):
                newest = runs.current(self.folder)
                if newest.name != self.live.name:
                    self.live = Live(carried(snapshots.read(newest), self.live.snapshot, newer=False), newest.name)
                yield

    def swap(
        self, snapshot: Snapshot, *, only: bool = False, keep: bool = True, why: str = "", of: str = ""
    ) -> None:  # fmt: skip
        """The snapshot answers from now on; with `keep` it is written too. Within a turn."""
        before, after = self.live, Live(snapshot)
        if snapshot.model is before.model:  # items were hidden or shown, nothing else
            after.__dict__.update(
                {name: before.__dict__[name] for name in ("index", "lookup") if name in before.__dict__}
            )
            if snapshot.position == before.snapshot.position and "following" in before.__dict__:
                after.__dict__["following"] = before.following
        snapshot, name = celled(after), before.name
        if self.folder is not None and keep:
            name = runs.keep(snapshot, self.folder, only=only, why=why, of=of)
        live = Live(snapshot, name)
        live.__dict__.update(after.__dict__ | {"snapshot": snapshot, "name": name})
        if before.warm:  # whoever asks must not wait for tables
            live.warmed()
            self.crowd(live)
        self.live = live
