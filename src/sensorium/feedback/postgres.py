"""The store on a PostgreSQL server, for several machines. What it must do, store.py says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.errors import DataError, MissingExtra, SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Document, Entry, Known, Note, Unsettled, numbered, written

MARK = 0x53454E53  # the advisory lock of whoever brings the tables up to date

# What brings the tables from one version to the next, in order. Never change a step that was released: add one.
# Text is compared by its bytes (COLLATE "C"), as the embedded store does. Numbers are given by a row of `counters`, not
# by a sequence: the row is locked until the commit, so that numbers become readable in their order and none is skipped.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE counters (name text PRIMARY KEY, last bigint NOT NULL)",
        """INSERT INTO counters VALUES ('version', 0), ('events', 0), ('documents', 0), ('journal', 0),
          ('erased', 0)  -- the transaction of an erasure whose old rows are still to be overwritten; 0: none""",
        """CREATE TABLE events (
          position bigint PRIMARY KEY,
          "user" text COLLATE "C" NOT NULL, item text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL,
          value double precision, time double precision NOT NULL, text text COLLATE "C", key text COLLATE "C" UNIQUE
        )""",
        'CREATE INDEX events_of_user ON events ("user", position)',
        "CREATE INDEX events_of_item ON events (item, position)",
        """CREATE TABLE documents (
          kind text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,
          body json,  -- NULL where the document was deleted, so that other processes hear of it
          changed bigint NOT NULL,
          PRIMARY KEY (kind, id)
        )""",
        "CREATE INDEX documents_changed ON documents (kind, changed)",
        """CREATE TABLE journal (
          position bigint PRIMARY KEY, name text COLLATE "C" NOT NULL, "user" text COLLATE "C",
          time double precision NOT NULL, body json NOT NULL
        )""",
        "CREATE INDEX journal_of_name ON journal (name, position)",
        'CREATE INDEX journal_of_user ON journal ("user")',
        # What people wrote is not copied into the planner's statistics.
        "ALTER TABLE events ALTER COLUMN text SET STATISTICS 0, ALTER COLUMN key SET STATISTICS 0",
    ),
    ("INSERT INTO counters VALUES ('identity', floor(random() * 9e18)::bigint)",),  # which log this is
)
VERSION = len(STEPS)
_COLUMNS = '"user", item, kind, time, value, text, key, position'


@dataclass
class _Turn:
    """A transaction whose turn it is to give numbers: `last` is the newest one, and is kept with the commit."""

    cursor: Any
    last: int
    xid: str


class PostgresStore:
    """Entries, documents and journals in one schema of a database; any number of processes and machines.

    Two connections, opened again where the server went away: what reads does not wait for what writes. A transaction
    whose connection broke in its commit is asked for by its number, so that an acknowledgement is never a guess.

    **Raises** SnapshotError where the server cannot be reached, would not keep its promises (`fsync = off`), or holds
    something else; MissingExtra without psycopg.
    """

    def __init__(self, dsn: str, *, schema: str = "sensorium", wait_seconds: float = 30.0) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtra("psycopg", "postgres") from None
        self._psycopg = psycopg
        self._dsn, self._schema, self._wait_seconds = dsn, schema, wait_seconds
        self._lock, self._look = threading.RLock(), threading.RLock()
        self._closed = False
        try:
            self._named = psycopg.conninfo.conninfo_to_dict(dsn)
        except psycopg.Error:
            raise SnapshotError("the DSN cannot be read; write it as postgresql://user@host:port/database") from None
        host, port = self._named.get("host", "localhost"), self._named.get("port", 5432)
        # What errors call the store: never the DSN, which may hold a password.
        self.place = f"postgresql://{host}:{port}/{self._named.get('dbname', '')}"
        with self._told():
            self._base = self._connected()
            try:
                self._prepare()
                self._reader = self._connected()
            except BaseException:
                self._base.close()
                raise

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._found("SELECT count(*) FROM events")[0][0])

    @property
    def end(self) -> int:
        """The position of the newest entry ever appended; 0 before the first."""
        return int(self._found("SELECT last FROM counters WHERE name = 'events'")[0][0])

    @property
    def identity(self) -> str:
        """Which log this is: drawn when it was made, the same in its copies."""
        return format(self._found("SELECT last FROM counters WHERE name = 'identity'")[0][0], "016x")

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Stores entries, all or none, and returns their positions once they are on the server's disk.

        An entry whose key is already stored, or stands earlier in the batch, is not stored again; its position is
        that of the first. **Raises** Taken where that is another event. **Cost** one transaction; those of other processes wait for it.
        """
        if not entries:
            return []
        with self._writing("events") as turn:
            keys = [entry.key for entry in entries if entry.key is not None]
            known: dict[str, Known] = {}
            if keys:
                asked = 'SELECT key, position, "user", item, kind FROM events WHERE key = ANY(%s)'
                known = {key: (place, *words) for key, place, *words in turn.cursor.execute(asked, [keys])}
            positions, rows = numbered(entries, known, turn.last)
            turn.last += len(rows)
            with turn.cursor.copy(f"COPY events ({_COLUMNS}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        return positions

    def read(
        self, after: int = 0, *, user: str | None = None, item: str | None = None, most: int | None = None
    ) -> list[Entry]:
        """The entries after a position, oldest first: all, those of one person or of one item, or at most `most`."""
        where: str = "position > %s"
        values: list[int | str | None] = [after]
        for column, name in (('"user"', user), ("item", item)):
            if name is not None:
                where, values = f"{column} = %s AND {where}", [name, *values]
        rows = self._found(f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY position LIMIT %s", [*values, most])
        return [Entry(*row) for row in rows]

    def erase(self, user: str) -> int:
        """Removes every entry of a person, their document and their notes, and returns how many entries there were.

        The tables are then rewritten without them. What the server keeps outside of its tables (its write-ahead log
        until it is recycled, archives, replicas, dumps) is for whoever runs the server. **Cost** O(size of the
        tables), during which others wait. **Raises** SnapshotError where an old transaction of somebody else can
        still see the rows: they are deleted, and gone from the files once that has ended and `erase` is called again.
        """
        with self._lock:
            with self._writing("erased") as turn:
                count = turn.cursor.execute('DELETE FROM events WHERE "user" = %s', [user]).rowcount
                others = turn.cursor.execute('DELETE FROM journal WHERE "user" = %s', [user]).rowcount
                command = "DELETE FROM documents WHERE kind = 'users' AND id = %s"
                others += turn.cursor.execute(command, [user]).rowcount
                if count or others:
                    turn.last = int(turn.xid)
            if turn.last:
                self._overwrite(turn.last)
        return count

    def remove(self, user: str, item: str, kind: str | None = None, *, before: int | None = None) -> int:
        """Takes back what a person did with an item (of one kind, or all; before a position, or ever); returns how many
        entries that were."""
        where: str = '"user" = %s AND item = %s'
        values: list[int | str] = [user, item]
        for condition, value in (("kind = %s", kind), ("position < %s", before)):
            if value is not None:
                where, values = f"{where} AND {condition}", [*values, value]
        with self._writing("events") as turn:
            return turn.cursor.execute(f"DELETE FROM events WHERE {where}", values).rowcount

    # --- documents ------------------------------------------------------------------------------------------------

    def put(self, kind: str, documents: Mapping[str, Mapping[str, Any]]) -> int:
        """Stores documents by id, new or in place of old ones, all or none; returns the number of the last change."""
        bodies = {name: written(document) for name, document in documents.items()}
        command = """INSERT INTO documents (kind, id, body, changed)
            SELECT %s, id, body::json, %s + place FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (id, body, place)
            ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, changed = excluded.changed"""
        with self._writing("documents") as turn:
            turn.cursor.execute(command, [kind, turn.last, list(bodies), list(bodies.values())])
            turn.last += len(bodies)
        return turn.last

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """The document of an id, None where there is none."""
        rows = self._found("SELECT body::text FROM documents WHERE kind = %s AND id = %s", [kind, name])
        return json.loads(rows[0][0]) if rows and rows[0][0] is not None else None

    def page(self, kind: str, after: str = "", most: int = 100) -> list[Document]:
        """At most `most` documents by ascending id, those after one."""
        rows = self._found(
            """SELECT id, body::text, changed FROM documents
            WHERE kind = %s AND id > %s AND body IS NOT NULL ORDER BY id LIMIT %s""",
            [kind, after, most],
        )
        return [Document(name, json.loads(body), changed) for name, body, changed in rows]

    @property
    def last_change(self) -> int:
        """The number of the newest change of documents; 0 before the first."""
        return int(self._found("SELECT last FROM counters WHERE name = 'documents'")[0][0])

    def changed(self, kind: str, after: int = 0, most: int = 10_000) -> list[Document]:
        """What was put or deleted after a change, oldest first; the body of a deleted document is None."""
        rows = self._found(
            "SELECT id, body::text, changed FROM documents WHERE kind = %s AND changed > %s ORDER BY changed LIMIT %s",
            [kind, after, most],
        )
        return [Document(name, body and json.loads(body), changed) for name, body, changed in rows]

    def delete(self, kind: str, name: str) -> bool:
        """Deletes a document, whether there was one; that it is gone is told by `changed`."""
        with self._writing("documents") as turn:
            turn.last += 1
            command = "UPDATE documents SET body = NULL, changed = %s WHERE kind = %s AND id = %s AND body IS NOT NULL"
            return turn.cursor.execute(command, [turn.last, kind, name]).rowcount > 0

    # --- the journal ----------------------------------------------------------------------------------------------

    def note(self, name: str, notes: Sequence[Note]) -> list[int]:
        """Appends to a journal, all or none; returns the positions."""
        bodies = [written(one.body) for one in notes]
        with self._writing("journal") as turn:
            first = turn.last + 1
            with turn.cursor.copy('COPY journal (position, name, "user", time, body) FROM STDIN') as copy:
                for one, body in zip(notes, bodies, strict=True):
                    turn.last += 1
                    copy.write_row((turn.last, name, one.user, one.time, body))
        return list(range(first, turn.last + 1))

    def notes(self, name: str, after: int = 0, most: int | None = None) -> list[Note]:
        """What stands in a journal after a position, oldest first."""
        rows = self._found(
            """SELECT time, body::text, "user", position FROM journal
            WHERE name = %s AND position > %s ORDER BY position LIMIT %s""",
            [name, after, most],
        )
        return [Note(time, json.loads(body), user, position) for time, body, user, position in rows]

    def backup(self, path: Path | str) -> None:
        """An embedded store with everything as it stands, positions and all, while others go on writing."""
        questions = {
            "events": f"SELECT {_COLUMNS} FROM events",
            "documents": "SELECT kind, id, body::text, changed FROM documents",
            "journal": 'SELECT position, name, "user", time, body::text FROM journal',
        }
        with self._told(), contextlib.ExitStack() as stack:
            base = stack.enter_context(contextlib.closing(self._connected()))
            copy = stack.enter_context(Log(path))
            base.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            counters = dict(base.execute("SELECT name, last FROM counters").fetchall())
            rows = {  # a few at a time
                table: stack.enter_context(base.cursor(name=table)).execute(question)
                for table, question in questions.items()
            }
            copy.fill(**rows, counters=counters)

    def fill(
        self, events: Iterable[Sequence[Any]], documents: Iterable[Sequence[Any]], journal: Iterable[Sequence[Any]],
        counters: Mapping[str, int],
    ) -> None:  # fmt: skip
        """The rows of another store as they stand there, into an empty one; as `Log.fill`."""
        tables = {
            f"events ({_COLUMNS})": events, "documents (kind, id, body, changed)": documents,
            'journal (position, name, "user", time, body)': journal,
        }  # fmt: skip
        with self._told(self._lock), self._base.transaction():
            names = ["events", "documents", "journal"]
            held = "SELECT name, last FROM counters WHERE name = ANY(%s) FOR UPDATE"
            if any(last for _, last in self._base.execute(held, [names])):
                raise SnapshotError(f"{self.place}: the schema {self._schema!r} is not empty; name another one")
            for table, rows in tables.items():
                with self._base.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
            for name in (*names, "identity"):
                self._base.execute("UPDATE counters SET last = %s WHERE name = %s", [counters[name], name])

    def close(self) -> None:
        """Closes the connections; what was appended is safe without it."""
        with self._lock, self._look:
            self._closed = True
            self._reader.close()
            self._base.close()

    # --- the server -----------------------------------------------------------------------------------------------

    def _connected(self) -> Any:
        """A connection that keeps the promises. It does not hold others up for long, should this process hang."""
        seconds = self._named.get("connect_timeout", 10)
        base = self._psycopg.connect(self._dsn, autocommit=True, client_encoding="utf8", connect_timeout=seconds)
        try:
            wait = f"{max(int(self._wait_seconds * 1000), 1)}ms"
            for name, value in (
                ("search_path", '"' + self._schema.replace('"', '""') + '"'),
                ("lock_timeout", wait), ("idle_in_transaction_session_timeout", wait),
            ):  # fmt: skip
                base.execute("SELECT set_config(%s, %s, false)", [name, value])
            if base.execute("SHOW synchronous_commit").fetchone() == ("off",):
                base.execute("SET synchronous_commit = on")
            for name, right, why in (
                ("fsync", "on", "nothing it acknowledges would survive a power cut"),
                ("server_encoding", "UTF8", "it cannot hold every text"),
            ):
                ((value,),) = base.execute(f"SHOW {name}").fetchall()
                if value != right:
                    raise SnapshotError(f"{self.place}: {name} is {value}, so {why}; set it to {right}")
        except BaseException:
            base.close()
            raise
        return base

    def _prepare(self) -> None:
        """Makes the tables, or brings them up to date; whoever opens at the same moment waits, and finds them."""
        with self._base.transaction():
            self._base.execute("SELECT pg_advisory_xact_lock(%s)", [MARK])
            if self._one("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [self._schema]) == 0:
                name = self._psycopg.sql.Identifier(self._schema)
                self._base.execute(self._psycopg.sql.SQL("CREATE SCHEMA {}").format(name))
            version = 0
            if self._one("SELECT to_regclass('counters') IS NOT NULL"):
                columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'counters'::regclass AND attname = 'last'"
                if self._one(columns):
                    version = self._one("SELECT COALESCE(MAX(last), 0) FROM counters WHERE name = 'version'")
            tables = (
                "SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)"
            )
            if version == 0 and self._one(tables, [self._schema]):
                raise SnapshotError(
                    f"{self.place}: the schema {self._schema!r} holds tables of another program; name another database"
                )
            if version > VERSION:
                raise SnapshotError(
                    f"{self.place}: version {version} of the tables, this program reads up to {VERSION}; update it"
                )
            for step in STEPS[version:]:
                for statement in step:
                    self._base.execute(statement)
            if version < VERSION:
                self._base.execute("UPDATE counters SET last = %s WHERE name = 'version'", [VERSION])

    def _one(self, question: str, values: Sequence[Any] = ()) -> Any:
        return self._base.execute(question, values or None).fetchone()[0]

    def _found(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a question finds, without waiting for writers; asked again where the server had gone away."""
        with self._told(self._look):
            for again in (True, False):
                if self._reader.closed and not self._closed:
                    self._reader = self._connected()
                try:
                    return self._reader.execute(question, values or None).fetchall()
                except self._psycopg.OperationalError:
                    if not (again and self._reader.closed and not self._closed):
                        raise
        raise AssertionError

    @contextlib.contextmanager
    def _writing(self, counter: str) -> Iterator[_Turn]:
        """One transaction that holds a counter from its first statement, so that its numbers are its own."""
        with self._told(self._lock):
            self._begin()
            cursor = self._base.cursor()
            try:
                question = "SELECT last, pg_current_xact_id()::text FROM counters WHERE name = %s FOR UPDATE"
                last, xid = cursor.execute(question, [counter]).fetchone()
                turn = _Turn(cursor, last, xid)
                yield turn
                if turn.last != last:
                    cursor.execute("UPDATE counters SET last = %s WHERE name = %s", [turn.last, counter])
            except BaseException:
                with contextlib.suppress(self._psycopg.Error):
                    cursor.execute("ROLLBACK")
                raise
            try:
                self._commit(cursor)
            except self._psycopg.OperationalError as error:
                self._settle(xid, error)

    def _begin(self) -> None:
        for again in (True, False):
            if self._base.closed and not self._closed:
                self._base = self._connected()
            try:
                self._base.execute("BEGIN")
                return
            except self._psycopg.OperationalError:
                if not (again and self._base.closed and not self._closed):
                    raise

    def _commit(self, cursor: Any) -> None:
        cursor.execute("COMMIT")

    def _settle(self, xid: str, error: Exception) -> None:
        """Asks what became of a transaction whose commit was not answered. **Raises** the error where it was undone,
        Unsettled where nobody can say."""
        until = time.monotonic() + self._wait_seconds
        status: str | None = "in progress"
        while status == "in progress" and time.monotonic() < until:
            try:
                if self._base.closed:
                    self._base = self._connected()
                status = self._one("SELECT pg_xact_status(%s::xid8)", [xid])
            except self._psycopg.Error:
                status = "in progress"
            if status == "in progress":
                time.sleep(0.05)
        if status == "aborted":
            raise error
        if status != "committed":
            raise Unsettled(f"{self.place}: the server went away in the middle of a commit; send the same keys again")

    def _overwrite(self, xid: int) -> None:
        """Rewrites the tables without deleted rows, once nobody's transaction can see what this one deleted."""
        seeing = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND age(backend_xmin) >= age(%s::xid8::xid)"""
        until = time.monotonic() + self._wait_seconds
        try:
            with self._told():
                while self._one(seeing, [str(xid)]):
                    if time.monotonic() > until:
                        raise SnapshotError("an old transaction still sees them")
                    time.sleep(0.05)
                self._base.execute("VACUUM (FULL) events, documents, journal")
                self._base.execute("UPDATE counters SET last = 0 WHERE name = 'erased' AND last = %s", [xid])
        except SnapshotError as error:
            raise SnapshotError(
                f"{self.place}: the entries are deleted, but not yet overwritten ({error}); erase again"
            ) from None

    @contextlib.contextmanager
    def _told(self, lock: threading.RLock | None = None) -> Iterator[None]:
        """One thread at a time on a connection; what goes wrong is told in one line, without what people wrote."""
        wrong = self._psycopg
        with lock or contextlib.nullcontext():
            try:
                yield
            except wrong.errors.ProgramLimitExceeded:
                raise DataError(f"{self.place}: an id or a key is too long; give it at most 2,000 bytes") from None
            except (wrong.DataError, UnicodeEncodeError) as error:
                raise DataError(f"{self.place}: it cannot hold this ({_line(error)})") from None
            except wrong.OperationalError as error:
                if self._closed:
                    raise SnapshotError(f"{self.place}: the store is closed; open it again") from None
                raise SnapshotError(
                    f"{self.place}: the store cannot be used ({_line(error)}); check the server, its disk and the rights"
                ) from None
            except wrong.Error as error:
                raise SnapshotError(f"{self.place}: {_line(error)}") from None


def _line(error: Exception) -> str:
    """What a server or its driver says, without the details, which quote rows."""
    told = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return told.strip().split("\n")[0]
