"""The log: positions, repeatable appends, a kill in the middle, damage, and erasure down to the bytes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.open import opened
from sensorium.feedback.store import Entry, Taken


def entry(user="ann", item="a", time=1.0, **more):
    return Entry(user, item, more.pop("kind", "view"), time, **more)


def test_what_is_appended_is_read_back_in_order(tmp_path):
    written = [
        entry(time=5.0),
        entry("bo", "b", 3.0, kind="rating", value=4.5, text="好看 — ‘fine’\n\0x"),
        entry(item="c", time=-1.0),
    ]
    with Log(tmp_path / "sub" / "log.db") as log:
        assert (log.end, len(log), log.read()) == (0, 0, [])
        assert log.append(written) == [1, 2, 3]
        assert log.append([]) == []
    with Log(tmp_path / "sub" / "log.db") as log:
        read = log.read()
        assert [e.position for e in read] == [1, 2, 3]
        assert [(e.user, e.item, e.kind, e.time, e.value, e.text) for e in read] == [
            (e.user, e.item, e.kind, e.time, e.value, e.text) for e in written
        ]
        assert [e.position for e in log.read(1, most=1)] == [2]
        assert [e.item for e in log.read(user="ann")] == ["a", "c"]
        assert log.read(3) == []
        assert (log.end, len(log)) == (3, 3)


def test_a_key_makes_appending_repeatable(tmp_path):
    with Log(tmp_path / "log.db") as log:
        assert log.append([entry(key="k1"), entry(), entry(key="k2"), entry(key="k1")]) == [1, 2, 3, 1]
        assert log.append([entry(key="k2"), entry(key="k3")]) == [3, 4]
        assert len(log) == 4


def test_a_key_that_another_event_has_is_refused_and_nothing_is_stored(where):
    with closing(opened(where)) as log:
        log.append([Entry("ann", "a", "view", 1.0, key="k1")])
        for other in (Entry("bo", "a", "view", 1.0), Entry("ann", "b", "view", 1.0), Entry("ann", "a", "buy", 1.0)):
            batch = [Entry("cy", "a", "view", 1.0), replace(other, key="k1")]
            with pytest.raises(Taken, match="'k1': an event of another user, item or kind has it") as told:
                log.append(batch)
            assert told.value.places == (1,)
        assert log.end == len(log) == 1
        assert log.append([Entry("ann", "a", "view", 9.0, value=2.0, key="k1")]) == [1]
        many = [entry(key=f"m{n}") for n in range(1200)]
        assert log.append(many) == log.append(many)


def test_positions_are_never_given_twice(tmp_path):
    with Log(tmp_path / "log.db") as log:
        log.append([entry("ann"), entry("bo"), entry("ann")])
        assert log.erase("ann") == 2
        assert log.end == 3
        assert log.append([entry("bo")]) == [4]
        assert [e.position for e in log.read()] == [2, 4]
    with Log(tmp_path / "log.db") as log:
        assert log.erase("bo") == 2
        assert log.append([entry("cy")]) == [5]


def test_erasing_leaves_no_byte_in_any_file(tmp_path):
    secret = "Zanzibar-secret"
    with Log(tmp_path / "log.db") as log:
        for n in range(40):
            log.append(
                [entry(f"user{n}-{m}", text="x" * 200) for m in range(20)]
                + [entry(secret, f"{secret}-item{n}", text=secret * 40, key=f"{secret}{n}")]
            )
        assert any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())
        assert log.erase(secret) == 40
        assert log.erase(secret) == 0
        assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())
        assert len(log) == 800
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_erasing_says_when_another_reader_still_holds_the_pages(tmp_path):
    with Log(tmp_path / "log.db", wait_seconds=0.05) as log:
        log.append([entry("ann"), entry("bo")])
        reader = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchone()
        with pytest.raises(SnapshotError, match="another reader"):
            log.erase("ann")
        reader.execute("COMMIT")
        reader.close()
        assert log.erase("ann") == 0  # the entries are gone; this time the pages follow
        assert [e.user for e in log.read()] == ["bo"]


WRITER = """
import sys
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry
log = Log(sys.argv[1])
n = 0
while True:
    n += 1
    last = log.append([Entry("ann", f"{n}-{m}", "view", float(n)) for m in range(50)])[-1]
    print(last, flush=True)
"""


def test_a_kill_loses_nothing_that_was_promised_and_keeps_no_half_batch(tmp_path):
    path = tmp_path / "log.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    promised = 0
    for _ in range(30):
        promised = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    promised = max([promised, *(int(line) for line in writer.stdout.read().split("\n")[:-1] if line)])
    writer.wait()
    writer.stdout.close()
    with Log(path) as log:
        assert len(log) >= promised >= 1500
        assert len(log) % 50 == 0
        assert [e.position for e in log.read()] == list(range(1, len(log) + 1))
        assert log.append([entry()]) == [len(log)]


def test_threads_and_a_second_connection_get_positions_of_their_own(tmp_path):
    got: list[int] = []
    with Log(tmp_path / "log.db") as one, Log(tmp_path / "log.db") as other:
        work = [
            threading.Thread(target=lambda log=log: [got.extend(log.append([entry(), entry()])) for _ in range(20)])
            for log in (one, one, other)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert sorted(got) == list(range(1, 121))
        assert len(one) == 120


def test_a_failed_batch_stores_nothing(tmp_path):
    with Log(tmp_path / "log.db") as log:
        log.append([entry()])
        broken = entry()
        object.__setattr__(broken, "item", None)
        with pytest.raises(SnapshotError, match="NOT NULL"):
            log.append([entry(), broken])
        assert len(log) == 1
        assert log.append([entry()]) == [2]


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\x07" * 5000])
def test_another_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "log.db"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=r"log\.db.*(damaged|another program|cannot be used)") as told:
        Log(path)
    assert "\n" not in str(told.value)


def test_damage_in_the_middle_is_told_when_it_is_met(tmp_path):
    path = tmp_path / "log.db"
    with Log(path) as log:
        log.append([entry(text="y" * 500) for _ in range(400)])
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xff" * (len(content) - 8192)
    path.write_bytes(bytes(content))
    with pytest.raises(SnapshotError, match="damaged"), Log(path) as log:
        log.read()


def test_other_databases_and_newer_versions_are_refused(tmp_path):
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE events (x)")
    other.close()
    with pytest.raises(SnapshotError, match="another program"):
        Log(tmp_path / "other.db")
    Log(tmp_path / "log.db").close()
    newer = sqlite3.connect(tmp_path / "log.db")
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(SnapshotError, match="version 9"):
        Log(tmp_path / "log.db")


def test_a_folder_that_cannot_be_and_a_closed_log(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SnapshotError, match="cannot be opened"):
        Log(tmp_path / "file" / "log.db")
    log = Log(tmp_path / "log.db")
    log.close()
    with pytest.raises(SnapshotError, match="closed"):
        log.read()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"user": ""}, "user is empty"),
        ({"item": 7}, "item is 7"),
        ({"time": float("nan")}, "seconds since 1970"),
        ({"time": "yesterday"}, "seconds since 1970"),
        ({"value": float("inf")}, "finite"),
        ({"text": "\ud800"}, "Unicode"),
    ],
)
def test_what_no_event_can_be(wrong, told):
    with pytest.raises(DataError, match=told):
        entry(**wrong)


def test_what_is_taken_back_may_be_bounded_by_a_position(tmp_path):
    with Log(tmp_path / "log.db") as log:
        log.append([entry("ann"), entry("ann"), entry("bo"), entry("ann")])
        item, kind = log.read()[0].item, log.read()[0].kind
        assert log.remove("ann", item, "other", before=4) == 0
        assert log.remove("ann", item, kind, before=4) == 2
        assert [(e.user, e.position) for e in log.read()] == [("bo", 3), ("ann", 4)]
        assert log.remove("ann", item) == 1
