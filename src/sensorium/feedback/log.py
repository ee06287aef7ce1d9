"""The embedded store: one SQLite file that survives a kill, and can forget. What it must do, store.py says."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.store import Document, Entry, Known, Note, numbered, written

MARK = 0x53454E53  # "SENS": tells this file from any other SQLite file

# What brings a file from one version to the next, in order; a file of a newer version is refused. Never change a step that
# was released: add one.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE events (
          position INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, not even after an erasure
          user TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL,
          value REAL, time REAL NOT NULL, text TEXT,
          key TEXT UNIQUE
        )""",
        "CREATE INDEX events_of_user ON events (user, position)",
    ),
    (
        "CREATE INDEX events_of_item ON events (item, position)",
        """CREATE TABLE documents (
          kind TEXT NOT NULL, id TEXT NOT NULL,
          body TEXT,  -- NULL where the document was deleted, so that other processes hear of it
          changed INTEGER NOT NULL,  -- ascends over all documents
          PRIMARY KEY (kind, id)
        ) WITHOUT ROWID""",
        "CREATE INDEX documents_changed ON documents (kind, changed)",
        """CREATE TABLE journal (
          position INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, user TEXT, time REAL NOT NULL, body TEXT NOT NULL
        )""",
        "CREATE INDEX journal_of_name ON journal (name, position)",
        "CREATE INDEX journal_of_user ON journal (user)",
    ),
    (  # the number of a change is never given twice, not even after the newest document was erased
        "CREATE TABLE counters (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO counters SELECT 'documents', COALESCE(MAX(changed), 0) FROM documents",
    ),
    ("INSERT INTO counters VALUES ('identity', random() & 0x7fffffffffffffff)",),  # which log this is, wherever it lies
)
VERSION = len(STEPS)
# What can be wrong with a file, or with values for it.
WRONG = (sqlite3.DatabaseError, sqlite3.InterfaceError, UnicodeEncodeError, OverflowError, OSError)
_COLUMNS = "user, item, kind, time, value, text, key, position"
TABLES = {  # the columns of each table as they go from store to store, and their order
    "events": (_COLUMNS, "position"),
    "documents": ("kind, id, body, changed", "changed"),
    "journal": ("position, name, user, time, body", "position"),
}


class Log:
    """Entries in the order in which they were appended; one file, many readers, writers one after the other.

    **Raises** SnapshotError where the file is damaged, is something else, or was written by a newer version.
    """

    def __init__(self, path: Path | str, *, wait_seconds: float = 30.0) -> None:
        self.path = Path(path)
        self.place = str(path)
        self._lock, self._look = threading.RLock(), threading.RLock()
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = self._opened(wait_seconds)
        try:
            with self._told():
                self._prepare()
                self._reader = self._opened(wait_seconds)  # who reads does not wait for another's sync to disk
        except BaseException:
            self._base.close()
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._found("SELECT COUNT(*) FROM events", [])[0][0])

    @property
    def end(self) -> int:
        """The position of the newest entry ever appended; 0 before the first."""
        with self._told():
            return int(self._one("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events'"))

    @property
    def identity(self) -> str:
        """Which log this is: drawn when it was made, the same in its copies."""
        with self._told():
            return format(self._one("SELECT last FROM counters WHERE name = 'identity'"), "016x")

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Stores entries, all or none, and returns their positions once they are on the disk.

        An entry whose key is already stored, or stands earlier in the batch, is not stored again; its position is
        that of the first. **Raises** Taken where that is another event. **Cost** one transaction, one sync to disk.
        """
        if not entries:
            return []
        with self._told(), self._writing():
            known = self._known([e.key for e in entries if e.key is not None])
            positions, rows = numbered(entries, known, self.end)
            self._base.executemany(f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return positions

    def read(
        self, after: int = 0, *, user: str | None = None, item: str | None = None, most: int | None = None
    ) -> list[Entry]:
        """The entries after a position, oldest first: all, those of one person or of one item, or at most `most`."""
        where: str = "position > ?"
        values: list[int | str] = [after]
        for column, name in (("user", user), ("item", item)):
            if name is not None:
                where, values = f"{column} = ? AND {where}", [name, *values]
        rows = self._found(
            f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY position LIMIT ?",
            [*values, -1 if most is None else most],
        )
        return [Entry(*row) for row in rows]

    def erase(self, user: str) -> int:
        """Removes every entry of a person from the file, physically, and returns how many there were; their document
        and their notes go too.

        Deleted cells are overwritten, the file is rewritten without them, and the write-ahead log is emptied: no byte
        of the entries is left in the files. Positions of others do not change. **Cost** O(size of the file).
        """
        with self._told():
            with self._writing():
                count = self._base.execute("DELETE FROM events WHERE user = ?", [user]).rowcount
                others = self._base.execute("DELETE FROM journal WHERE user = ?", [user]).rowcount
                others += self._base.execute("DELETE FROM documents WHERE kind = 'users' AND id = ?", [user]).rowcount
            if count or others:
                self._base.execute("VACUUM")
            busy = self._one("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise SnapshotError(
                f"{self.path}: the entries of {user!r} are deleted, but another reader keeps the old pages open; "
                "close it and erase again"
            )
        return count

    def remove(self, user: str, item: str, kind: str | None = None, *, before: int | None = None) -> int:
        """Takes back what a person did with an item (of one kind, or all; before a position, or ever); returns how many
        entries that were."""
        where: str = "user = ? AND item = ?"
        values: list[int | str] = [user, item]
        for condition, value in (("kind = ?", kind), ("position < ?", before)):
            if value is not None:
                where, values = f"{where} AND {condition}", [*values, value]
        with self._told(), self._writing():
            return self._base.execute(f"DELETE FROM events WHERE {where}", values).rowcount

    # --- documents ------------------------------------------------------------------------------------------------

    def put(self, kind: str, documents: Mapping[str, Mapping[str, Any]]) -> int:
        """Stores documents by id, new or in place of old ones, all or none; returns the number of the last change."""
        bodies = {name: written(document) for name, document in documents.items()}
        with self._told(), self._writing():
            last = self._counted(len(bodies))
            rows = [(kind, name, body, last - place) for place, (name, body) in enumerate(reversed(bodies.items()))]
            self._base.executemany(
                "INSERT OR REPLACE INTO documents (kind, id, body, changed) VALUES (?, ?, ?, ?)", rows
            )
            return last

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """The document of an id, None where there is none."""
        rows = self._found("SELECT body FROM documents WHERE kind = ? AND id = ?", [kind, name])
        return json.loads(rows[0][0]) if rows and rows[0][0] is not None else None

    def page(self, kind: str, after: str = "", most: int = 100) -> list[Document]:
        """At most `most` documents by ascending id, those after one."""
        rows = self._found(
            "SELECT id, body, changed FROM documents WHERE kind = ? AND id > ? AND body IS NOT NULL ORDER BY id LIMIT ?",
            [kind, after, most],
        )
        return [Document(name, json.loads(body), changed) for name, body, changed in rows]

    @property
    def last_change(self) -> int:
        """The number of the newest change of documents; 0 before the first. **Cost** some microseconds."""
        return int(self._found("SELECT last FROM counters WHERE name = 'documents'", [])[0][0])

    def changed(self, kind: str, after: int = 0, most: int = 10_000) -> list[Document]:
        """What was put or deleted after a change, oldest first; the body of a deleted document is None."""
        rows = self._found(
            "SELECT id, body, changed FROM documents WHERE kind = ? AND changed > ? ORDER BY changed LIMIT ?",
            [kind, after, most],
        )
        return [Document(name, body and json.loads(body), changed) for name, body, changed in rows]

    def delete(self, kind: str, name: str) -> bool:
        """Deletes a document, whether there was one; that it is gone is told by `changed`."""
        with self._told(), self._writing():
            number = self._counted(1)
            command = "UPDATE documents SET body = NULL, changed = ? WHERE kind = ? AND id = ? AND body IS NOT NULL"
            return self._base.execute(command, [number, kind, name]).rowcount > 0

    def _counted(self, more: int) -> int:
        """The number of the newest change of documents, after as many more."""
        self._base.execute("UPDATE counters SET last = last + ? WHERE name = 'documents'", [more])
        return self._one("SELECT last FROM counters WHERE name = 'documents'")

    # --- the journal ----------------------------------------------------------------------------------------------

    def note(self, name: str, notes: Sequence[Note]) -> list[int]:
        """Appends to a journal, all or none; returns the positions."""
        with self._told(), self._writing():
            first = int(self._one("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'journal'")) + 1
            rows = [(first + place, name, one.user, one.time, written(one.body)) for place, one in enumerate(notes)]
            self._base.executemany(
                "INSERT INTO journal (position, name, user, time, body) VALUES (?, ?, ?, ?, ?)", rows
            )
        return [first + place for place in range(len(notes))]

    def notes(self, name: str, after: int = 0, most: int | None = None) -> list[Note]:
        """What stands in a journal after a position, oldest first."""
        rows = self._found(
            "SELECT time, body, user, position FROM journal WHERE name = ? AND position > ? ORDER BY position LIMIT ?",
            [name, after, -1 if most is None else most],
        )
        return [Note(time, json.loads(body), user, position) for time, body, user, position in rows]

    def backup(self, path: Path | str) -> None:
        """A copy of the file as it stands, while others go on writing."""
        with (
            self._told(threading.RLock()),
            contextlib.closing(self._opened(30.0)) as source,
            contextlib.closing(sqlite3.connect(path)) as copy,
        ):
            source.backup(copy)

    def check(self) -> None:
        """Reads the whole file. **Raises** SnapshotError where it is damaged. **Cost** O(size of the file)."""
        with self._told():
            ((said, *_), *_) = self._base.execute("PRAGMA integrity_check(1)").fetchall()
        if said != "ok":
            raise SnapshotError(f"{self.path}: the feedback log is damaged ({' '.join(said.split())}); restore a copy")

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Every row of `events`, `documents` or `journal` as `fill` takes them, oldest first; for a copy at rest."""
        columns, order = TABLES[table]
        with self._told():
            yield from self._base.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")

    def counters(self) -> dict[str, int]:
        """The last number of each counter, as `fill` takes them."""
        with self._told():
            told = dict(self._base.execute("SELECT name, seq FROM sqlite_sequence"))
            last = self._one("SELECT last FROM counters WHERE name = 'documents'")
            identity = self._one("SELECT last FROM counters WHERE name = 'identity'")
        ends = {name: told.get(name, 0) for name in ("events", "journal")}
        return {**ends, "documents": last, "identity": identity}

    def fill(
        self,
        events: Iterable[Sequence[Any]],
        documents: Iterable[Sequence[Any]],
        journal: Iterable[Sequence[Any]],
        counters: Mapping[str, int],
    ) -> None:
        """The rows of another store as they stand there, into an empty one: `events` as the fields of Entry, `documents`
        as kind, id, JSON, change, `journal` as position, name, user, time, JSON; and the last number of each counter."""
        with self._told(), self._writing():
            if self.end or self._one("SELECT last FROM counters WHERE name = 'documents'"):
                raise SnapshotError(f"{self.path} is not empty; name another file")
            for table, rows in (("events", events), ("documents", documents), ("journal", journal)):
                columns, _ = TABLES[table]
                marks = ", ".join("?" * (columns.count(",") + 1))
                self._base.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
            for name in ("documents", "identity"):
                self._base.execute("UPDATE counters SET last = ? WHERE name = ?", [counters[name], name])
            for name in ("events", "journal"):
                self._base.execute("DELETE FROM sqlite_sequence WHERE name = ?", [name])
                self._base.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [name, counters[name]])

    def close(self) -> None:
        """Closes the file; what was appended is safe without it."""
        with self._lock, self._look:
            self._reader.close()
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
        with self._writing():  # a second process that opens at the same moment waits, and finds the tables
            version = int(self._one("PRAGMA user_version"))
            for step in STEPS[version:]:
                for statement in step:
                    self._base.execute(statement)
            if version < VERSION:
                self._base.execute(f"PRAGMA application_id = {MARK}")
                self._base.execute(f"PRAGMA user_version = {VERSION}")

    def _opened(self, wait_seconds: float) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=wait_seconds, isolation_level=None, check_same_thread=False)

    def _one(self, question: str, base: sqlite3.Connection | None = None) -> int:
        return (base or self._base).execute(question).fetchone()[0]

    def _found(self, question: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """What a question finds, without waiting for writers."""
        try:  # as `_told` does, whose generator takes half as long as a small question
            with self._look:
                return self._reader.execute(question, values).fetchall()
        except WRONG as error:
            raise self._line(error) from None

    def _known(self, keys: list[str]) -> dict[str, Known]:
        """What has those keys that are stored."""
        found: dict[str, Known] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ", ".join("?" * len(part))
            asked = f"SELECT key, position, user, item, kind FROM events WHERE key IN ({marks})"
            found.update({key: (place, *words) for key, place, *words in self._base.execute(asked, part)})
        return found

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that holds the write lock from its first statement, so that positions are its own."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._base.execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:  # after some errors SQLite has rolled back by itself
                self._base.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _told(self, lock: threading.RLock | None = None) -> Iterator[None]:
        """One thread at a time on a connection; what goes wrong in the store is told in one line."""
        with lock or self._lock:
            try:
                yield
            except WRONG as error:
                raise self._line(error) from None

    def _line(self, error: Exception) -> DataError | SnapshotError:
        """What went wrong, in one line."""
        match error:
            case sqlite3.OperationalError():
                return SnapshotError(
                    f"{self.path}: the feedback log cannot be used ({error}); check the disk, the rights and other writers"
                )
            case sqlite3.InterfaceError() | UnicodeEncodeError() | OverflowError():
                return DataError(f"{self.path}: the feedback log cannot hold this ({error})")
            case sqlite3.ProgrammingError():
                return SnapshotError(f"{self.path}: {error}; open the feedback log again")
            case OSError():
                return SnapshotError(f"{self.path}: the feedback log cannot be opened ({error.strerror})")
        return SnapshotError(
            f"{self.path}: the feedback log is damaged ({error}); restore a copy, or move the file away to "
            "start an empty log"
        )
