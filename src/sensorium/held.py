"""A run as it is held open: the version that answers, where its events are, and the lock behind which writers queue.

Readers take no lock: they hold one version. Writers queue: those who learn all anew for as long as that takes, for a
refresh begun before a forget would bring the person back; the others for their turn alone. Who hides an item waits for none.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.errors import SnapshotError
from sensorium.feedback.store import Entry, Store
from sensorium.live import Live, celled
from sensorium.rank.crowd import Crowd
from sensorium.refresh import based, carried, upon
from sensorium.snapshot import Snapshot

LOG = logging.getLogger("sensorium.log")
CLOCKS_SECONDS = 5.0  # by which the clocks of those who send events may go before ours
PIECE = 20_000  # entries that are read of the log at once


class Held:
    """One run: in a folder with a store beside it, or in memory alone, where `folder` and `log` are None."""

    def __init__(self, live: Live, folder: Path | None = None) -> None:
        self._live = live
        self.folder = folder
        self.log: Store | None = None
        self.unsaved: list[Entry] = []  # events of a run in memory
        self.writing, self._training = threading.RLock(), threading.RLock()
        self._said: dict[str, tuple[int, bool]] = {}  # by item: the newest change that tells whether it is hidden
        self._placing = threading.Lock()

    @property
    def live(self) -> Live:
        """The version that answers now. One that takes its place hides what was said to be meanwhile."""
        return self._live

    @live.setter
    def live(self, live: Live) -> None:
        with self._placing:
            self._live = live.hiding(self._newer(live))

    def settle(self, hidden: Mapping[str, bool], documents: int) -> None:
        """Which items are hidden, as documents tell up to a change of them: from the next answer on, and in whatever version
        comes, unless that has taken in a newer change. Waits for no turn."""
        with self._placing:
            ids, rows = self._live.snapshot.catalog.ids, self._live.hidden
            for name, state in hidden.items():
                known = (
                    state or name in self._said or (name in ids and ids.row(name) in rows)
                )  # of most is nothing to say
                if known and documents >= self._said.get(name, (0, False))[0]:
                    self._said[name] = documents, state
            self._live = self._live.hiding(self._newer(self._live, hidden))

    def _newer(self, live: Live, among: Collection[str] | None = None) -> dict[str, bool]:
        """What was said of items, or some `among` them, after what the version has taken in."""
        names = self._said if among is None else [name for name in among if name in self._said]
        said = {name: self._said[name] for name in names}
        return {name: hidden for name, (change, hidden) in said.items() if change > live.snapshot.documents}

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
        """Takes the log for its own. **Raises** SnapshotError for an older copy, that ends before what the snapshot has read.

        Another log, also a `fresh` one where there was none (it was moved away), is gone on with, which a warning and the
        history tell: its events count from where the snapshot had read it to, if ever. So none counts twice.
        """
        self.log = log
        try:
            identity, known = log.identity, self.snapshot.log
            if known in ("", identity) and log.end < self.snapshot.position and not fresh:
                raise SnapshotError(
                    f"{log.place}: it ends at {log.end}, the snapshot has read up to {self.snapshot.position}: an older copy; "
                    "restore the newest, or move it away to start an empty log"
                )
            if known == "" and log.end >= self.snapshot.position:
                self.live = Live(self.upon(self.snapshot), self.live.name)
            elif known != identity:
                with self.turn():
                    if self.snapshot.log == known:  # no other process has
                        self._turn_to(log)
        except BaseException:
            log.close()
            raise

    def _turn_to(self, log: Store) -> None:
        """Another log than the one that the snapshot has read: within a turn."""
        before = self.snapshot
        after = based(before, log.identity, before.logs.get(log.identity, 0))
        seen = log.identity in before.logs
        what = f"its events count from {'where it was left' if seen else 'its beginning'} ({after.position})"
        LOG.warning(
            f"{log.place}: another log than the one that the run has learnt from up to {before.position}; "
            f"{what if log.end else 'it is empty'}, and what was learnt stays"
        )
        self.swap(after, why="another log")

    def upon(self, snapshot: Snapshot) -> Snapshot:
        """A version upon the log of this run."""
        return snapshot if self.log is None else upon(snapshot, self.log.identity)

    def entries(self, after: int | None = None, user: str | None = None) -> list[Entry]:
        """The events since the snapshot, or `after` a position; all, or one person's."""
        after = self.snapshot.position if after is None else after
        if self.log is not None:
            return self.log.read(after, user=user)
        return [e for e in self.unsaved if e.position > after and user in (None, e.user)]

    def _happened(self, after: int, item: str) -> list[Entry]:
        """The events of an item after a position."""
        if self.log is not None:
            return self.log.read(after, item=item)
        return [entry for entry in self.unsaved if entry.item == item and entry.position > after]

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
    def training(self) -> Iterator[None]:
        """One at a time, in any process, learns all anew or goes back; what is told of items has its turns meanwhile."""
        with self._training, contextlib.ExitStack() as held:
            if self.folder is not None:
                held.enter_context(runs.locked(self.folder, "training"))
            yield

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
                    version = carried(self.upon(snapshots.read(newest)), self.live.snapshot, newer=False)
                    self.live = self.made_ready(self.live, version).named(newest.name)
                yield

    def swap(
        self, snapshot: Snapshot, *, only: bool = False, keep: bool = True, why: str = "", of: str = ""
    ) -> None:  # fmt: skip
        """The snapshot answers from now on; with `keep` it is written too. Within a turn."""
        live = self.made_ready(self.live, snapshot)
        if self.folder is not None and keep:
            live = live.named(runs.keep(live.snapshot, self.folder, only=only, why=why, of=of))
        self.live = live

    def made_ready(self, live: Live, snapshot: Snapshot) -> Live:
        """Another snapshot with the tables of a version that are of both, and with all of them if that has them."""
        after = live.over(snapshot, partial(self._happened, live.snapshot.position))
        after = after.over(celled(after))
        if live.warm and not after.warm:  # whoever asks must not wait for tables
            after.warmed()
            self.crowd(after)
        return after
