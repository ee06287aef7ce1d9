"""A log that knows how far it had come: beside the file stands a mark, so that a lost end is not taken for the end.

SQLite takes a write-ahead file that is damaged, or cut short, for that of a process that was cut off, and goes on without what
stood there; an older copy in the file's place looks sound, too. The mark is written after each commit, without a sync: it
costs microseconds, survives a kill, and after a power cut it may tell less than there is, never more.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.errors import SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry, Note

FORM = struct.Struct("<QQQ")  # the newest position of events, change of documents, position of the journal


class MarkedLog(Log):
    """The embedded store with its mark, `NAME.mark` beside the file. **Raises** SnapshotError where its end is missing."""

    def __init__(self, path: Path | str, *, wait_seconds: float = 30.0) -> None:
        super().__init__(path, wait_seconds=wait_seconds)
        self._beside = self.path.with_name(self.path.name + ".mark")
        self._handle = -1
        try:
            ends = self._ends()
            for what, end, mark in zip(("events", "documents", "journal"), ends, _read(self._beside), strict=True):
                if end < mark:
                    raise SnapshotError(
                        f"{self.path}: its {what} end at {end}, but had come to {mark}: what was written last is missing; "
                        f"restore the newest copy, or go on without by removing {self._beside.name}"
                    )
            with self._told():
                self._handle = os.open(self._beside, os.O_RDWR | os.O_CREAT, 0o644)
            self._reached = list(ends)
            self._mark(0, ends[0])
        except BaseException:
            self.close()
            raise

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """As Log.append, and the mark moves."""
        positions = super().append(entries)
        self._mark(0, max(positions, default=0))
        return positions

    def put(self, kind: str, documents: Mapping[str, Mapping[str, Any]]) -> int:
        """As Log.put, and the mark moves."""
        change = super().put(kind, documents)
        self._mark(1, change)
        return change

    def note(self, name: str, notes: Sequence[Note]) -> list[int]:
        """As Log.note, and the mark moves."""
        positions = super().note(name, notes)
        self._mark(2, max(positions, default=0))
        return positions

    def close(self) -> None:
        """As Log.close."""
        super().close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _ends(self) -> tuple[int, int, int]:
        with self._told():
            journal = self._one("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'journal'")
            return self.end, int(self._one("SELECT last FROM counters WHERE name = 'documents'")), int(journal)

    def _mark(self, place: int, end: int) -> None:
        """A mark that cannot be written is left as it is: what it tells is still true."""
        with self._lock, contextlib.suppress(OSError):
            if self._handle >= 0:
                self._reached[place] = max(self._reached[place], end)
                body = FORM.pack(*self._reached)
                os.pwrite(self._handle, body + zlib.crc32(body).to_bytes(4, "little"), 0)


def _read(path: Path) -> tuple[int, ...]:
    """What the mark tells; nothing, where it is missing or torn."""
    with contextlib.suppress(OSError):
        raw = path.read_bytes()
        body = raw[: FORM.size]
        if len(raw) == FORM.size + 4 and zlib.crc32(body) == int.from_bytes(raw[FORM.size :], "little"):
            return FORM.unpack(body)
    return (0, 0, 0)
