"""A run whose events are in another log: told in one line, and no event counts twice, whatever comes back."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from sensorium.data.catalog import Catalog
from sensorium.data.ids import Ids
from sensorium.engine import Engine
from sensorium.errors import SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry


def lived(world: Path, run: Path, user: str, number: int, *, store: Path | None = None, refresh: bool = True) -> int:
    """Somebody does something, the run learns from it; returns how many events it then has."""
    engine = Engine.open(run, cache=world / "cache", store=store)
    engine.observe([Entry(user, f"i{n}", "view", 1.0 + n) for n in range(number)])
    if refresh:
        engine.refresh()
    known = len(engine.snapshot.events)
    engine.close()
    return known


def told(caplog) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return lines


def test_events_of_a_log_that_comes_back_count_once(world, run, tmp_path, caplog):
    first = lived(world, run, "ann", 5)
    assert not told(caplog)
    assert lived(world, run, "bob", 3, store=tmp_path / "other.sqlite") == first + 3
    (line,) = told(caplog)
    assert "another log" in line
    assert "it is empty" in line
    assert "\n" not in line
    assert lived(world, run, "cy", 2) == first + 5
    (line,) = told(caplog)
    assert "where it was left (5)" in line
    assert lived(world, run, "dee", 1, store=tmp_path / "other.sqlite") == first + 6
    assert "where it was left (3)" in told(caplog)[0]
    engine = Engine.open(run, cache=world / "cache", store=tmp_path / "other.sqlite")
    assert not told(caplog)
    assert engine.versions().versions[-2].why == "another log"
    engine.rollback("000006")  # made from the first log, when three of the other had been read
    assert [entry.user for entry in engine._held.entries()] == ["dee"]
    engine.close()


def test_a_longer_log_of_other_events_counts_from_its_beginning(world, run, tmp_path, caplog):
    first = lived(world, run, "ann", 2)
    with Log(tmp_path / "other.sqlite") as log:
        log.append([Entry("bob", f"i{n}", "view", 1.0 + n) for n in range(4)])
    assert lived(world, run, "cy", 1, store=tmp_path / "other.sqlite") == first + 5
    assert "its beginning (0)" in told(caplog)[0]


def test_a_log_that_was_moved_away_is_told_and_an_older_copy_refused(world, run, tmp_path, caplog):
    lived(world, run, "ann", 1, refresh=False)
    shutil.copy(run / "log.sqlite", tmp_path / "older.sqlite")
    first = lived(world, run, "ann", 3)
    with pytest.raises(SnapshotError, match="an older copy"):
        Engine.open(run, cache=world / "cache", store=tmp_path / "older.sqlite")
    for path in run.glob("log.sqlite*"):
        path.unlink()
    assert not told(caplog)
    assert lived(world, run, "bob", 2) == first + 2
    assert len(told(caplog)) == 1


def test_a_copy_of_a_log_is_the_same_log(tmp_path):
    with Log(tmp_path / "one") as one, Log(tmp_path / "filled") as filled, Log(tmp_path / "two") as two:
        one.append([Entry("ann", "i1", "view", 1.0)])
        one.backup(tmp_path / "copy")
        filled.fill(*(one.rows(table) for table in ("events", "documents", "journal")), one.counters())
        with Log(tmp_path / "copy") as copy:
            assert one.identity == copy.identity == filled.identity != two.identity


def test_items_of_another_log_are_taken_in_from_its_beginning(world, run, tmp_path):
    engine = Engine.open(run, cache=world / "cache")
    engine.take_in(Catalog(Ids([]), {}), hidden={}, documents=7)
    engine.refresh()
    assert engine.snapshot.documents == 7
    engine.close()
    other = Engine.open(run, cache=world / "cache", store=tmp_path / "other.sqlite")
    assert other.snapshot.documents == 0
    other.close()
