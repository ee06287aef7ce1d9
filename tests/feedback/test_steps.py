"""A log of an older version is brought up to date when it is opened, whole or not at all; a newer one is left alone."""

from __future__ import annotations

import sqlite3

import pytest

from sensorium.errors import SnapshotError
from sensorium.feedback import log as module
from sensorium.feedback.log import MARK, STEPS, VERSION, Log
from sensorium.feedback.open import opened
from sensorium.feedback.store import Document, Entry, Note

# What version 1 wrote, letter by letter: a released step must not change.
FIRST = """CREATE TABLE events (
          position INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, not even after an erasure
          user TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL,
          value REAL, time REAL NOT NULL, text TEXT,
          key TEXT UNIQUE
        );
        CREATE INDEX events_of_user ON events (user, position);
        INSERT INTO events VALUES (3, 'ann', 'a', 'view', NULL, 1.0, NULL, NULL), (7, 'bo', 'b', 'buy', 2.5, 2.0, 'x', 'k');
        DELETE FROM events WHERE position = 3;"""


def old(path, version: int, script: str) -> None:
    base = sqlite3.connect(path)
    base.executescript(
        f"PRAGMA journal_mode = WAL; {script} PRAGMA application_id = {MARK}; PRAGMA user_version = {version};"
    )
    base.close()


def tables(path) -> dict[str, str]:
    base = sqlite3.connect(path)
    found = dict(base.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"))
    base.close()
    return found


def test_a_log_of_version_1_keeps_its_entries_and_gains_what_is_new(tmp_path):
    old(tmp_path / "log.db", 1, FIRST)
    with opened(tmp_path / "log.db") as log:
        assert log.read() == [Entry("bo", "b", "buy", 2.0, 2.5, "x", "k", 7)]
        assert log.append([Entry("cy", "c", "view", 3.0), Entry("bo", "b", "buy", 2.0, key="k")]) == [8, 7]
        assert log.put("items", {"a": {"x": 1}}) == 1
        assert log.note("shown", [Note(1.0, {})]) == [1]
        assert [e.item for e in log.read(item="b")] == ["b"]
    Log(tmp_path / "new.db").close()
    assert tables(tmp_path / "log.db") == tables(tmp_path / "new.db")
    with Log(tmp_path / "log.db") as log:
        assert log._one("PRAGMA user_version") == VERSION
        assert (len(log), log.get("items", "a")) == (2, {"x": 1})


def test_a_log_of_version_2_goes_on_counting_its_changes(tmp_path):
    steps = ";".join(statement for step in STEPS[:2] for statement in step)
    old(
        tmp_path / "log.db",
        2,
        steps + "; INSERT INTO documents VALUES ('items', 'a', '{}', 41), ('keys', 'b', NULL, 42);",
    )
    with Log(tmp_path / "log.db") as log:
        assert log.put("items", {"c": {}}) == 43
        assert log.changed("items") == [Document("a", {}, 41), Document("c", {}, 43)]


def test_a_step_that_fails_leaves_the_old_version_whole(tmp_path, monkeypatch):
    old(tmp_path / "log.db", 1, FIRST)
    before = tables(tmp_path / "log.db")
    monkeypatch.setattr(module, "STEPS", (*STEPS[:2], ("CREATE TABLE half (x)", "CREATE NONSENSE")))
    with pytest.raises(SnapshotError, match="NONSENSE"):
        Log(tmp_path / "log.db")
    assert tables(tmp_path / "log.db") == before
    monkeypatch.undo()
    with Log(tmp_path / "log.db") as log:
        assert [e.position for e in log.read()] == [7]


@pytest.mark.parametrize("version", [VERSION + 1, 2**31 - 1])
def test_a_newer_version_is_refused_in_one_line_and_not_touched(tmp_path, version):
    Log(tmp_path / "log.db").close()
    base = sqlite3.connect(tmp_path / "log.db")
    base.execute(f"PRAGMA user_version = {version}")
    base.close()
    content = (tmp_path / "log.db").read_bytes()
    with pytest.raises(SnapshotError, match=f"version {version} .* reads up to {VERSION}; update") as told:
        opened(tmp_path / "log.db")
    assert "\n" not in str(told.value)
    assert (tmp_path / "log.db").read_bytes() == content
