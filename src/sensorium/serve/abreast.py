"""What other processes of a run did, seen by the next request: a version they made current, items they put, hid or dropped.

Events need nothing of this, for every answer reads them from the store.
"""

from __future__ import annotations

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
        self._change = 0
        self._mark: tuple[int, int] | None = None
        self._turn = threading.Lock()

    def look(self) -> None:
        """Takes up what is new. One request does it; the others meanwhile are answered with what there is."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._version()
            while changes := self._service.store.changed(ITEMS, self._change, MOST):
                self._items(changes)
        finally:
            self._turn.release()

    def _version(self) -> None:
        folder = self._service.engine.folder
        if folder is None:
            return
        stat = (folder / "current").stat()
        mark = (stat.st_mtime_ns, stat.st_ino)  # it is replaced in one move, so it is another file
        if mark != self._mark:
            if self._service.engine.follow():
                self._service.renewed()
            self._mark = mark

    def _items(self, changes: list[Document]) -> None:
        """Who is hidden is hidden now; who is new is encoded off the request's path."""
        self._service.settle({one.id: one.body or {"hidden": True} for one in changes})
        self._change = changes[-1].changed
        self._service.wake()
