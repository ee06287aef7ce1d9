"""What other processes of a run did, seen by the next request: a version they made current, items they put, hid or dropped.

Events need nothing of this, for every answer reads them from the store.
"""

from __future__ import annotations

import os
import threading
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
        self._change, self._ruled = 0, -1
        folder = service.engine.folder
        self._current = None if folder is None else str(folder / "current")
        self._mark: tuple[int, int] | None = None
        self._seen: object = None  # what a look saw that took up all there was
        self._turn = threading.Lock()

    def due(self) -> bool:
        """Whether there is something new that nobody takes up yet. To do so may take as long as a training, behind which it waits:
        it is nothing for the loop."""
        return (self._marked(), self._service.store.last_change) != self._seen and not self._turn.locked()

    def look(self) -> None:
        """Takes up what is new. One request does it; the others meanwhile are answered with what there is, but for the
        standing rules, which hold for every answer at once."""
        mark = self._marked()
        seen = (mark, self._service.store.last_change)
        if seen == self._seen:
            return
        self.rules()
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._version(mark)
            while changes := self._service.store.changed(ITEMS, self._change, MOST):
                self._items(changes)
            self._seen = seen
        finally:
            self._turn.release()

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
        if mark != self._mark:
            if self._service.engine.follow():
                self._service.renewed()
            self._mark = mark

    def _items(self, changes: list[Document]) -> None:
        """Who is hidden is hidden now; who is new is encoded off the request's path."""
        self._service.settle({one.id: one.body or {"hidden": True} for one in changes})
        self._change = changes[-1].changed
        self._service.wake()
