"""What other processes of a run did, seen by the next request: a version they made current, items they put, hid or dropped.

Events need nothing of this, for every answer reads them from the store.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from sensorium.feedback.store import Document

if TYPE_CHECKING:
    from sensorium.serve.service import Service

ITEMS = "items"
MOST = 10_000  # documents of one look


class Abreast:
    """A look at the run's folder and its store before an answer; where nothing changed it costs some microseconds."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._change, self._told, self._ruled = service.engine.snapshot.documents, -1, -1
        folder = service.engine.folder
        self._current = None if folder is None else str(folder / "current")
        self._mark: tuple[int, int] | None = None
        self._following, self._taking = threading.Lock(), threading.Lock()

    def due(self) -> bool:
        """Whether there is something new that nobody takes up yet. To follow another version may take long: it waits behind who
        writes one, and is nothing for the loop."""
        newer = self._marked() != self._mark and not self._following.locked()
        return newer or self._service.store.last_change != self._told

    def look(self) -> None:
        """Takes up what is new. What documents tell holds for every answer at once; another version is taken up by one request, the
        others meanwhile being answered by the one that is there; one of a large catalogue in the background."""
        change = self._service.store.last_change
        if change != self._told:
            self.rules()
            with self._taking:
                while changes := self._service.store.changed(ITEMS, self._change, MOST):
                    self._items(changes)
            self._told = change
        mark = self._marked()
        if mark != self._mark and self._following.acquire(blocking=False):
            if self._service.engine.live.searched:  # its tables take seconds, which no request should wait for
                self._service.soon(partial(self._version, mark))
            else:
                self._version(mark)

    def rules(self) -> None:
        """Takes up the standing rules alone, which waits for nobody."""
        change = self._service.store.last_change
        if change != self._ruled:
            self._service.standing.now()
            self._ruled = change

    def _marked(self) -> tuple[int, int] | None:
        """By what a version that was made current is told from the one before; None for a run in memory."""
        if self._current is None:
            return None
        stat = os.stat(self._current)  # a string, for a Path is made into one each time
        return (stat.st_mtime_ns, stat.st_ino)  # it is replaced in one move, so it is another file

    def _version(self, mark: tuple[int, int] | None) -> None:
        try:
            if self._service.engine.follow():
                self._service.renewed()
            self._mark = mark
        finally:
            self._following.release()

    def _items(self, changes: list[Document]) -> None:
        """Who is hidden is hidden now; who is new is encoded off the request's path."""
        self._change = changes[-1].changed
        self._service.settle({one.id: one.body or {"hidden": True} for one in changes}, self._change)
        self._service.wake()
