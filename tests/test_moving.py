"""What is exported is all that a run knows, once, without secrets; importing it again and again adds it once."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from sensorium.engine import Engine
from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.open import opened
from sensorium.feedback.store import Entry, Note
from sensorium.moving import exported, imported
from sensorium.recipe import recipe_of


@pytest.fixture
def engine(world, tmp_path):
    shutil.copytree(world / "run", tmp_path / "run")
    engine = Engine.open(tmp_path / "run", cache=world / "cache")
    known = engine.snapshot.catalog.ids[0]
    engine.observe([
        Entry("ann", known, "buy", 5.0, value=4.5, text='said "so",\nand left', key="order-1"),
        Entry("ann", known, "view", 6.0), Entry("ann", known, "view", 6.0),
    ])  # fmt: skip
    engine.store.put("items", {
        "new": {"item_id": "new", "title": "A train", "genres": ["a", "b"], "hidden": False},
        known: {"item_id": known, "hidden": True},
    })  # fmt: skip
    engine.store.put("users", {"ann": {"user_id": "ann", "town": "Ulm"}})
    engine.store.put("keys", {"shop": {"digest": "5ec7e7" * 10, "role": "write", "made": 1.0}})
    engine.store.note("shown", [Note(1.0, {"items": ["a"]}, "ann")])
    yield engine
    engine.close()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_everything_is_exported_once_and_no_secret(engine, tmp_path):
    counts = exported(engine.folder, engine.store, tmp_path / "out")
    learnt = len(engine.snapshot.events)
    assert counts["events"] == learnt + 3
    assert counts["items"] == len(engine.snapshot.catalog) + 1
    assert lines(tmp_path / "out" / "events.jsonl")[learnt]["text"] == 'said "so",\nand left'
    items = {one["item_id"]: one for one in lines(tmp_path / "out" / "items.jsonl")}
    known = engine.snapshot.catalog.ids[0]
    assert items["new"]["title"] == "A train"
    assert items[known]["hidden"] is True
    assert items[known]["title"] == engine.snapshot.catalog.title(0)
    assert {"user_id": "ann", "town": "Ulm"} in lines(tmp_path / "out" / "users.jsonl")
    assert lines(tmp_path / "out" / "keys.jsonl") == [{"name": "shop", "role": "write", "made": 1.0}]
    assert not any("5ec7e7" in path.read_text() for path in (tmp_path / "out").iterdir())
    with pytest.raises(SnapshotError, match="something already"):
        exported(engine.folder, engine.store, tmp_path / "out")


def test_after_a_refresh_the_events_of_the_log_are_still_there_once(engine, tmp_path):
    before = exported(engine.folder, engine.store, tmp_path / "one")
    engine.refresh()
    assert exported(engine.folder, engine.store, tmp_path / "two")["events"] == before["events"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_what_is_imported_is_there_once_however_often(engine, tmp_path, where, form):
    counts = exported(engine.folder, engine.store, tmp_path / "out", form=form)
    store = opened(where)
    for time in range(2):
        told = imported(tmp_path / "out", store)
        again = {"known already": counts["events"]} if time else {}
        assert told == {name: count for name, count in counts.items() if name != "keys"} | again
        assert len(store) == counts["events"]
        assert store.notes("shown") == engine.store.notes("shown")
    mine = store.read(user="ann")
    assert [(e.kind, e.time, e.value, e.text) for e in mine if e.key == "order-1"] == [
        ("buy", 5.0, 4.5, 'said "so",\nand left')
    ]
    assert sum(e.kind == "view" and e.time == 6.0 for e in mine) == 2
    assert store.get("items", "new")["title"] == "A train"
    assert store.get("items", engine.snapshot.catalog.ids[0])["hidden"] is True
    assert store.get("users", "ann") == {"user_id": "ann", "town": "Ulm"}
    assert store.page("keys") == []
    store.close()


def test_a_csv_is_a_table_that_can_be_trained_on(engine, tmp_path):
    exported(engine.folder, engine.store, tmp_path / "out", form="csv")
    with (tmp_path / "out" / "items.csv").open(newline="") as file:
        new = next(row for row in csv.DictReader(file) if row["item_id"] == "new")
    assert new["genres"] == "a|b"
    from sensorium.data.readers import read

    dataset = read(
        recipe_of(items=[str(tmp_path / "out" / "items.csv")], events=[str(tmp_path / "out" / "events.csv")])
    )
    assert len(dataset.events) == len(engine.snapshot.events) + 2  # an exact copy counts once in a table


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_adds_nothing_to_its_own_run_nor_to_one_trained_on_it(engine, tmp_path, form):
    log = engine.store
    exported(engine.folder, log, tmp_path / "out", form=form)
    before = len(log)
    for turn in range(2):
        told = imported(tmp_path / "out", log, engine.snapshot)
        assert told["known already"] == told["events"]
        assert len(log) == before
        if not turn:
            engine.refresh()  # what was in the log is now in the version, too
    items, events = ([str(tmp_path / "out" / f"{name}.{form}")] for name in ("items", "events"))
    with closing(
        Engine.train(recipe_of(items=items, events=events), tmp_path / "other", cache=tmp_path / "cache")
    ) as other:
        told = imported(tmp_path / "out", other.store, other.snapshot)
        assert told["known already"] == told["events"]
        assert len(other.store) == 0
        known = other.snapshot.catalog.ids[0]
        rows = [
            {"user": "ann", "item": known, "kind": "buy", "time": 5.0, "value": 4.5},  # other words
            {"user": "ann", "item": known, "kind": "view", "time": 7.0, "key": "order-2"},
            {"user": "ann", "item": known, "kind": "view", "time": 7.0, "key": "order-3"},
        ]
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert imported(tmp_path / "more", other.store, other.snapshot) == {"events": 3}
        assert imported(tmp_path / "more", other.store, other.snapshot)["known already"] == 3
        assert len(other.store) == 3


def test_a_wrong_row_is_named_though_more_follow(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "events.csv").write_text("who,item\n" + "a,b\n" * 3000)
    (tmp_path / "in" / "users.csv").write_text("user_id,town\na,Ulm\n")
    with opened(tmp_path / "log.db") as store, pytest.raises(DataError, match="row 1: user is missing"):
        imported(tmp_path / "in", store)


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("events.jsonl", '{"user": "a", "item": "b"}\n{"user": "a"}\n', "row 2: item is missing"),
        ("events.jsonl", '{"user": "a", "item": "b", "time": "soon"}\n', "row 1: could not"),
        ("events.jsonl", '{"user": 1, "item": "b"}\n', "must be text"), ("events.jsonl", "[1]\n", "no JSON object"),
        ("events.jsonl", '{"user": "a", "item": "\\ud800"}\n', "not valid Unicode"),
        ("events.jsonl", '{"user": "a", "item": "b", "time": 1e999}\n', "must be seconds"),
        ("events.jsonl", "[" * 100_000 + "\n", "recursion"), ("items.jsonl", '{"title": "x"}\n', "item_id is missing"),
        ("items.jsonl", '{"item_id": "x", "price": NaN}\n', "plain JSON"), ("events.csv", "user,item\na,b,c\n", "more cells"),
        ("events.jsonl", '{"text": "' + "x" * 2_000_000 + '"}\n', "longer than"),
        ("documents.jsonl", '{"kind": "keys", "id": "me", "body": {"role": "admin"}}\n', "not taken"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, name, body, why):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(body)
    with opened(tmp_path / "log.db") as store, pytest.raises(DataError, match=why) as told:
        imported(tmp_path / "in", store)
    assert "\n" not in str(told.value)
