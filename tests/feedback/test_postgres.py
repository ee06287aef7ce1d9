"""What only a server can do wrong: it goes away, its promises are off, its tables are somebody else's."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.commit import Committer
from sensorium.feedback.log import Log
from sensorium.feedback.open import opened
from sensorium.feedback.store import Document, Entry, Note, Unsettled

psycopg = pytest.importorskip("psycopg")
from sensorium.feedback.postgres import VERSION, PostgresStore  # noqa: E402


def entry(user="ann", item="a", time=1.0, **more):
    return Entry(user, item, more.pop("kind", "view"), time, **more)


@pytest.fixture
def store(database):
    with PostgresStore(database, wait_seconds=5.0) as store:
        yield store


def test_a_newer_version_and_other_tables_are_refused_in_one_line(database):
    opened(database).close()
    with psycopg.connect(database) as base:
        base.execute("UPDATE sensorium.counters SET last = 9 WHERE name = 'version'")
    with pytest.raises(SnapshotError, match=f"version 9 of the tables, this program reads up to {VERSION}") as told:
        opened(database)
    assert "\n" not in str(told.value)
    for table in ("counters (a int)", "something (last int)"):
        with psycopg.connect(database) as base:
            base.execute(f"DROP SCHEMA sensorium CASCADE; CREATE SCHEMA sensorium; CREATE TABLE sensorium.{table}")
        with pytest.raises(SnapshotError, match="another program"):
            opened(database)


def test_what_cannot_be_reached_is_told_without_the_password():
    for dsn in ("postgresql://ann:secret-word@127.0.0.1:1/x", "postgresql://ann:secret-word@[bad/x"):
        with pytest.raises(SnapshotError) as told:
            opened(dsn)
        assert "secret-word" not in str(told.value)
        assert "\n" not in str(told.value)
    with pytest.raises(SnapshotError, match="'mysql' is not known"):
        opened("mysql://x")


def test_a_server_that_promises_nothing_is_refused_and_asynchronous_commits_are_not_used(server, database):
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as base:
        base.execute("ALTER DATABASE " + database.split("/")[3].split("?")[0] + " SET synchronous_commit = off")
        with PostgresStore(database) as store:
            assert store._one("SHOW synchronous_commit") == "on"
        base.execute("ALTER SYSTEM SET fsync = off")
        base.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)
        try:
            with pytest.raises(SnapshotError, match="fsync is off"):
                PostgresStore(database)
        finally:
            base.execute("ALTER SYSTEM RESET fsync")
            base.execute("SELECT pg_reload_conf()")
            time.sleep(0.3)


def test_positions_become_readable_in_their_order(database):
    """A transaction that is slow to commit holds back later numbers, so that no reader steps over it."""
    with PostgresStore(database) as slow, PostgresStore(database) as fast, PostgresStore(database) as reader:
        gate, commit = threading.Event(), slow._commit
        slow._commit = lambda cursor: (gate.wait(10), commit(cursor))  # type: ignore[method-assign]
        threads = [
            threading.Thread(target=one.append, args=[[entry(item=name)]]) for one, name in ((slow, "a"), (fast, "b"))
        ]
        threads[0].start()
        time.sleep(0.3)
        threads[1].start()
        time.sleep(0.3)
        assert (reader.read(), reader.end) == ([], 0)
        gate.set()
        for thread in threads:
            thread.join()
        assert [(e.position, e.item) for e in reader.read()] == [(1, "a"), (2, "b")]


def broken_commit(store: PostgresStore, *, before: bool):
    """The connection breaks once, before or after the server has heard of the commit."""
    commit = store._commit

    def breaking(cursor):
        store._commit = commit  # type: ignore[method-assign]
        if not before:
            commit(cursor)
        cursor.connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    store._commit = breaking  # type: ignore[method-assign]


def test_a_connection_that_breaks_in_the_commit_is_asked_what_became_of_it(store):
    broken_commit(store, before=False)
    assert store.append([entry()]) == [1]
    broken_commit(store, before=True)
    with pytest.raises(SnapshotError, match="closed the connection"):
        store.append([entry()])
    assert store.append([entry()]) == [2]
    assert [e.position for e in store.read()] == [1, 2]


def test_what_nobody_can_say_is_not_written_twice(server, store):
    """Through the group commit, which otherwise tries each batch alone."""
    gate, append = threading.Event(), store.append
    calls: list[int] = []

    def unsettled(entries):
        gate.wait(5)
        calls.append(len(append(entries)))
        raise Unsettled("the server went away")

    store.append = unsettled
    committer = Committer(store)
    answers = [committer.submit([entry(item=str(n))]) for n in range(6)]
    gate.set()
    for answer in answers:
        with pytest.raises(Unsettled):
            answer.result(10)
    committer.close()
    assert sum(calls) == len(store.read()) == 6


def test_a_server_that_is_killed_loses_nothing_and_is_found_again(server, store):
    promised: dict[int, str] = {}
    told = []

    def write(name: str) -> None:
        for n in range(400):
            try:
                promised[committer.append([entry(item=f"{name}-{n}")])[0]] = f"{name}-{n}"
            except SnapshotError as error:
                told.append(error)
                time.sleep(0.05)

    committer = Committer(store)
    threads = [threading.Thread(target=write, args=[f"w{n}"]) for n in range(8)]
    for thread in threads:
        thread.start()
    while len(promised) < 200:
        time.sleep(0.01)
    server.kill()
    server.start()
    for thread in threads:
        thread.join()
    committer.close()
    stored = {e.position: e.item for e in store.read()}
    assert len(set(stored.values())) == len(stored)
    assert promised.items() <= stored.items()
    assert max(promised) > 400


def test_an_erased_person_is_in_no_file_of_the_tables(server, store):
    secret = "Zanzibar-secret"
    for n in range(20):
        store.append([entry(f"u{n}", text="x" * 3000), entry(secret, text=secret * 400, key=f"{secret}{n}")])
    store.put("users", {secret: {"a": secret}, "bo": {"b": 1}})
    store.note("shown", [Note(1.0, {"who": secret}, secret), Note(2.0, {"who": "bo"}, "bo")])

    def files() -> bytes:
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as base:
            base.execute("CHECKPOINT")
        return b"".join(path.read_bytes() for path in (server.folder / "data" / "base").rglob("*") if path.is_file())

    assert secret.encode() in files()
    assert store.erase(secret) == 20
    assert secret.encode() not in files()
    assert (len(store), [n.user for n in store.notes("shown")]) == (20, ["bo"])
    assert store._one("SELECT last FROM counters WHERE name = 'erased'") == 0


def test_erasing_says_when_an_old_transaction_still_sees_the_rows(database):
    with PostgresStore(database, wait_seconds=0.3) as store, psycopg.connect(database) as reader:
        store.append([entry("ann"), entry("bo")])
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1").fetchone()
        with pytest.raises(SnapshotError, match="old transaction"):
            store.erase("ann")
        assert [e.user for e in store.read()] == ["bo"]
        reader.rollback()
        assert store.erase("ann") == 0  # this time the rows are overwritten
        assert store._one("SELECT last FROM counters WHERE name = 'erased'") == 0


def test_a_process_that_hangs_in_a_transaction_does_not_hold_up_the_others_for_long(database):
    with PostgresStore(database, wait_seconds=1.0) as hung, PostgresStore(database, wait_seconds=20) as other:
        with contextlib.suppress(SnapshotError), hung._writing("events") as turn:
            turn.last += 1
            began = time.monotonic()
            assert other.append([entry()]) == [1]
            assert time.monotonic() - began < 10
        assert hung.append([entry()]) == [2]


def test_a_backup_is_an_embedded_store_with_the_same_positions(store, tmp_path):
    store.append([entry(), entry("bo", text="好\\n\t'", key="k"), entry("cy", value=0.1)])
    store.erase("ann")
    store.put("items", {"a": {"n": [1, 2.5, None]}, "b": {}})
    store.delete("items", "b")
    store.note("shown", [Note(5.0, {"x": 1}, "bo")])
    store.backup(tmp_path / "copy.db")
    with Log(tmp_path / "copy.db") as copy:
        assert copy.read() == store.read()
        assert copy.changed("items") == store.changed("items") == [
            Document("a", {"n": [1, 2.5, None]}, 1), Document("b", None, 3),
        ]  # fmt: skip
        assert copy.notes("shown") == store.notes("shown")
        assert copy.end == store.end == 3
        assert copy.append([entry()]) == [4]
        assert copy.put("items", {"c": {}}) == store.put("items", {"c": {}})
    with pytest.raises(SnapshotError, match="not empty"):
        store.backup(tmp_path / "copy.db")


@pytest.mark.parametrize("wrong", [{"item": "a\0"}, {"text": "\0"}, {"key": "k" * 9000}])
def test_what_the_server_cannot_hold_is_told_and_nothing_is_stored(store, wrong):
    import random

    if "key" in wrong:  # random: the server compresses what repeats
        wrong = {"key": "".join(random.Random(0).choices("abcdefghijklmnop", k=9000))}
    with pytest.raises(DataError) as told:
        store.append([entry(), entry(**wrong)])
    assert "\n" not in str(told.value)
    assert store.append([entry()]) == [1]


def test_a_closed_store_says_so(database):
    store = PostgresStore(database)
    store.close()
    for work in (store.read, lambda: store.append([entry()])):
        with pytest.raises(SnapshotError, match="closed"):
            work()
