"""The durable log of what people did since the last training: an embedded store that survives a kill, and can forget."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sensorium.errors import DataError, SnapshotError

VERSION = 1  # of the table below; a file of a newer version is refused
MARK = 0x53454E53  # "SENS": tells this file from any other SQLite file

_TABLE = """
CREATE TABLE events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, not even after an erasure
  user TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL,
  value REAL, time REAL NOT NULL, text TEXT,
  key TEXT UNIQUE
);
CREATE INDEX events_of_user ON events (user, position);
"""
_COLUMNS = "user, item, kind, time, value, text, key, position"


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did, in outside ids. `time` in seconds since 1970.

    `key` makes an append repeatable: a second entry with the same key is not stored. `position` is given by the log.
    """

    user: str
    item: str
    kind: str
    time: float
    value: float | None = None
    text: str | None = None
    key: str | None = None
    position: int = 0

    def __post_init__(self) -> None:
        for name in ("user", "item", "kind", "text", "key"):
            word = getattr(self, name)
            optional = name in ("text", "key")
            if not isinstance(word, str) and not (optional and word is None):
                raise DataError(f"event of user {self.user!r}: {name} is {word!r}, it must be text")
            if word == "" and not optional:
                raise DataError(f"event of user {self.user!r} for item {self.item!r}: {name} is empty; give it a name")
            if word is not None and any("\ud800" <= letter <= "\udfff" for letter in word):
                raise DataError(f"event: {name} {word!r} is not valid Unicode; decode it as UTF-8 first")
        if not _finite(self.time):
            raise DataError(f"event of user {self.user!r}: time {self.time!r} must be seconds since 1970")
        if self.value is not None and not _finite(self.value):
            raise DataError(f"event of user {self.user!r}: value {self.value!r} must be a finite number, or None")


class Log:
    """Entries in the order in which they were appended; one file, many readers, writers one after the other.

    **Raises** SnapshotError where the file is damaged, is something else, or was written by a newer version.
    """

    def __init__(self, path: Path | str, *, wait_seconds: float = 30.0) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, timeout=wait_seconds, isolation_level=None, check_same_thread=False)
        try:
            with self._told():
                self._prepare()
        except BaseException:
            self._base.close()
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._told():
            return int(self._one("SELECT COUNT(*) FROM events"))

    @property
    def end(self) -> int:
        """The position of the newest entry ever appended; 0 before the first."""
        with self._told():
            return int(self._one("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events'"))

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Stores entries, all or none, and returns their positions once they are on the disk.

        An entry whose key is already stored, or stands earlier in the batch, is not stored again; its position is
        that of the first. **Cost** one transaction, one sync to disk.
        """
        if not entries:
            return []
        with self._told(), self._writing():
            known = self._known([e.key for e in entries if e.key is not None])
            position = self.end
            positions: list[int] = []
            rows: list[tuple] = []
            for entry in entries:
                if entry.key is not None and entry.key in known:
                    positions.append(known[entry.key])
                    continue
                position += 1
                if entry.key is not None:
                    known[entry.key] = position
                positions.append(position)
                rows.append(
                    (entry.user, entry.item, entry.kind, entry.time, entry.value, entry.text, entry.key, position)
                )
            self._base.executemany(f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return positions

    def read(self, after: int = 0, *, user: str | None = None, most: int | None = None) -> list[Entry]:
        """The entries after a position, oldest first: all, those of one person, or at most `most`."""
        where: str = "position > ?"
        values: list[int | str] = [after]
        if user is not None:
            where, values = "user = ? AND position > ?", [user, after]
        with self._told():
            rows = self._base.execute(
                f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY position LIMIT ?",
                [*values, -1 if most is None else most],
            ).fetchall()
        return [Entry(*row) for row in rows]

    def erase(self, user: str) -> int:
        """Removes every entry of a person from the file, physically, and returns how many there were.

        Deleted cells are overwritten, the file is rewritten without them, and the write-ahead log is emptied: no byte
        of the entries is left in the files. Positions of others do not change. **Cost** O(size of the file).
        """
        with self._told():
            with self._writing():
                count = self._base.execute("DELETE FROM events WHERE user = ?", [user]).rowcount
            if count:
                self._base.execute("VACUUM")
            busy = self._one("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise SnapshotError(
                f"{self.path}: the entries of {user!r} are deleted, but another reader keeps the old pages open; "
                "close it and erase again"
            )
        return count

    def close(self) -> None:
        """Closes the file; what was appended is safe without it."""
        with self._lock:
            self._base.close()

    def _prepare(self) -> None:
        """Opens or creates the table, and settles how much is promised: full sync, overwritten deletions."""
        version, mark = int(self._one("PRAGMA user_version")), int(self._one("PRAGMA application_id"))
        tables = int(self._one("SELECT COUNT(*) FROM sqlite_master"))
        if (mark, version) != (0, 0) or tables:
            if mark != MARK:
                raise SnapshotError(
                    f"{self.path} is a database of another program, not a feedback log; name another file"
                )
            if version > VERSION:
                raise SnapshotError(
                    f"{self.path}: version {version} of the feedback log, this program reads up to {VERSION}; update it"
                )
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = FULL")
        self._base.execute("PRAGMA secure_delete = ON")
        with self._writing():  # a second process that opens at the same moment waits, and finds the table
            if not int(self._one("SELECT COUNT(*) FROM sqlite_master WHERE name = 'events'")):
                for statement in _TABLE.split(";"):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA application_id = {MARK}")
                self._base.execute(f"PRAGMA user_version = {VERSION}")

    def _one(self, question: str) -> int:
        return self._base.execute(question).fetchone()[0]

    def _known(self, keys: list[str]) -> dict[str, int]:
        """The positions of those keys that are stored."""
        found: dict[str, int] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ", ".join("?" * len(part))
            found.update(self._base.execute(f"SELECT key, position FROM events WHERE key IN ({marks})", part))
        return found

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that holds the write lock from its first statement, so that positions are its own."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """One thread at a time; what goes wrong in the store is told in one line."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                raise SnapshotError(
                    f"{self.path}: the feedback log cannot be used ({error}); check the disk, the rights and other writers"
                ) from None
            except sqlite3.ProgrammingError as error:
                raise SnapshotError(f"{self.path}: {error}; open the feedback log again") from None
            except sqlite3.DatabaseError as error:
                raise SnapshotError(
                    f"{self.path}: the feedback log is damaged ({error}); restore a copy, or move the file away to "
                    "start an empty log"
                ) from None
            except OSError as error:
                raise SnapshotError(f"{self.path}: the feedback log cannot be opened ({error.strerror})") from None


def _finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
