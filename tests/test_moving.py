"""What is exported is all that a run knows, once, without secrets; importing it again and again adds it once."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tests.serve.conftest import running
from typer.testing import CliRunner

from sensorium.cli import app
from sensorium.engine import Engine
from sensorium.errors import DataError, SnapshotError
from sensorium.exporting import exported
from sensorium.feedback.open import opened
from sensorium.feedback.store import Entry, Note
from sensorium.importing import imported
from sensorium.recipe import recipe_of
from sensorium.serve.documents import Places, row
from sensorium.uploaded import kept

GORSE = {
    "ItemId": "a", "IsHidden": False, "Categories": ["Film", "A|B"], "Timestamp": "2024-02-24T10:30:00.25Z",
    "Labels": {"tags": ["sea"], "maker": {"name": "Ann"}, "price": 12.5}, "Comment": "A night",
}  # fmt: skip


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
    for turn in range(2):
        told = imported(tmp_path / "out", store)
        again = {"known already": counts["events"]} if turn else {}
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
    with opened(tmp_path / "log.db") as store, pytest.raises(DataError, match="line 2: user is missing"):
        imported(tmp_path / "in", store)


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("events.jsonl", '{"user": "a", "item": "b"}\n{"user": "a"}\n', "events.jsonl, line 2: item is missing"),
        ("events.jsonl", '{"user": "a", "item": "b", "time": "soon"}\n', "line 1: could not"),
        ("events.jsonl", '{"user": 1, "item": "b"}\n', "must be text"), ("events.jsonl", "[1]\n", "no JSON object"),
        ("events.jsonl", '{"user": "a", "item": "\\ud800"}\n', "not valid Unicode"),
        ("events.jsonl", '{"user": "a", "item": "b", "time": 1e999}\n', "must be seconds"),
        ("events.jsonl", "[" * 100_000 + "\n", "recursion"), ("items.jsonl", '{"title": "x"}\n', "item_id is missing"),
        ("items.jsonl", '{"item_id": "x", "price": NaN}\n', "plain JSON"), ("events.csv", "user,item\na,b,c\n", "more cells"),
        ("events.jsonl", '{"text": "' + "x" * 2_000_000 + '"}\n', "longer than"),
        ("items.jsonl", '{"item_id": "a"}\n{"item_id" "b"}\n{"item_id": "c"}\n', r"items.jsonl, line 2: not JSON \(.*, column 12\)$"),
        ("items.jsonl", '{"item_id": "a"}\n\n{"item_id": "b"}\n{\n', "items.jsonl, line 4: not JSON .*, column 2"),
        ("items.jsonl", '{"item_id": "a"}\n{"item_id": "x", "price": NaN}\n{"item_id": "c"}\n', "line 2: a document"),
        ("events.jsonl", '{"user": "a", "item": "b", "time": 1' + "0" * 400 + "}\n", "line 1: int too large"),
        ("events.jsonl", '{"user": "a", "item": "b", "key": "k"}\n' * 2 + '{"user": "c", "item": "b", "key": "k"}\n{"user": "d", "item": "b"}\n',
         "line 3: key 'k': an event of another"),
        ("items.csv", 'item_id,title\na,"x\ny"\n\nb,z,1\nc,d\n', "items.csv, line 5: a row has more cells"),
        ("items.csv", 'item_id,title\na,b\nc,"d\ne,f\n', "items.csv, line 3: unexpected end"),
        ("journal.jsonl", '{"name": "a", "time": 1, "body": {}}\n{"name": "a", "time": 1, "body": {"x": NaN}}\n', "line 2: a doc"),
        ("items.jsonl", '{"item_id": "a"}\n{"item_id": "b", "price": 1' + "0" * 400 + "}\n", "line 2: a number has more than 64 bits"),
        ("users.jsonl", '{"user_id": "a", "labels": {"x": [18446744073709551616]}}\n', "line 1: a number has more than 64 bits"),
        ("users.jsonl", '{"user_id": "a", "x": ' + "[" * 260 + "]" * 260 + "}\n", "line 1: more than 250 trees"),
        ("items.jsonl", '{"item_id": ""}\n', "line 1: item_id has 0 characters"), ("items.csv", "item_id,title\n,b\n", "line 2: item_id is m"),
        ("items.jsonl", '{"item_id": null}\n', "line 1: item_id must be text"),
        ("users.jsonl", '{"user_id": null}\n', "line 1: user_id must be text"),
        ("users.jsonl", '{"user_id": ""}\n', "line 1: user_id has 0 characters"),
        ("users.csv", "user_id,town\na,b\n" + "x" * 513 + ",c\n", "users.csv, line 3: user_id has 513 characters"),
        ("items.jsonl", '{"item_id": "' + "x" * 513 + '"}\n', "line 1: item_id has 513 characters"),
        ("items.jsonl", '{"item_id": "a", "_gorse": 7}\n', "line 1: _gorse of 'a' is no JSON object"),
        ("items.csv", "item_id,_gorse\na,{\n", "items.csv, line 2: _gorse of 'a' is not JSON"),
        ("items.jsonl", json.dumps({"item_id": "a", "_gorse": {**GORSE, "ItemId": "b"}}), "line 1: _gorse of 'a': ItemId"),
        ("items.jsonl", json.dumps({"item_id": "a", "_gorse": {**GORSE, "Timestamp": "soon"}}), "line 1: _gorse of 'a': Timestamp"),
        ("items.jsonl", json.dumps({"item_id": "a", "_gorse": {**GORSE, "Categories": [1]}}), "line 1: _gorse of 'a': Categories"),
        ("items.jsonl", json.dumps({"item_id": "a", "_gorse": {**GORSE, "Labels": 1 << 64}}), "line 1: a number has more"),
        ("documents.jsonl", '{"kind": "keys", "id": "me", "body": {"role": "admin"}}\n', "not taken"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, name, body, why):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(body)
    with opened(tmp_path / "log.db") as store, pytest.raises(DataError, match=why) as told:
        imported(tmp_path / "in", store)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("many", [1, 1500])
def test_what_stands_before_a_wrong_line_is_stored_and_of_a_journal_nothing(tmp_path, many):
    (tmp_path / "in").mkdir()
    good = [json.dumps({"item_id": f"i{place}"}) for place in range(many)]
    for wrong in ("{", '{"item_id": "odd", "price": NaN}'):
        (tmp_path / "in" / "items.jsonl").write_text("\n".join([*good, wrong, '{"item_id": "after"}']))
        with opened(tmp_path / f"{len(wrong)}.db") as store:
            with pytest.raises(DataError, match=f"line {many + 1}: "):
                imported(tmp_path / "in", store)
            assert len(store.page("items", most=2000)) == many
    (tmp_path / "in" / "items.jsonl").unlink()
    (tmp_path / "in" / "journal.jsonl").write_text('{"name": "a", "time": 1, "body": {}}\n' * many + "{")
    with opened(tmp_path / "log.db") as store:
        with pytest.raises(DataError, match=f"line {many + 1}: "):
            imported(tmp_path / "in", store)
        assert store.notes("a") == []
        (tmp_path / "in" / "journal.jsonl").write_text('{"name": "a", "time": 1, "body": {}}\n' * many)
        assert imported(tmp_path / "in", store) == {"journal": many}
        assert len(store.notes("a")) == many


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_what_came_by_gorse_is_answered_as_it_came_after_an_import(world, tmp_path, form):
    shutil.copytree(world / "run", tmp_path / "run")
    shutil.copytree(world / "run", tmp_path / "other")
    with running(world, tmp_path / "run") as it, httpx.Client(base_url=it.url, headers={"X-API-Key": it.key}) as client:
        assert client.post("/api/item", json=GORSE).status_code == 200
        person = {"UserId": "ann", "Labels": {"town": "Ulm", "likes": ["x|y", "z"]}, "Comment": "7"}
        assert client.post("/api/user", json=person).status_code == 200
        exported(tmp_path / "run", it.service.store, tmp_path / "out", form=form)
    with (
        running(world, tmp_path / "other") as it,
        httpx.Client(base_url=it.url, headers={"X-API-Key": it.key}) as client,
    ):
        imported(tmp_path / "out", it.service.store)
        assert client.get("/api/item/a").json() == GORSE
        assert GORSE in client.get("/api/items", params={"n": 1000}).json()["Items"]
        assert client.get("/api/latest").json()[0]["Id"] == "a"
        assert client.get("/api/user/ann").json() == person
        assert client.get("/v1/items/a").status_code == 200
        for place, bad in enumerate(
            (json.dumps(GORSE), {}, {**GORSE, "Timestamp": "soon"}, {**GORSE, "Categories": 7})
        ):
            it.service.store.put("items", {f"bad{place}": {"item_id": f"bad{place}", "title": "B", "_gorse": bad}})
            assert client.get(f"/api/item/bad{place}").json()["Comment"] == "B"
            assert len(client.get("/api/items", params={"n": 1000}).json()["Items"]) > place
            assert client.get("/api/latest/Film").json()[0]["Id"] == "a"


def test_a_gorse_item_that_stands_as_text_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "items.jsonl").write_text(json.dumps({"item_id": "a", "_gorse": json.dumps(GORSE)}))
    with opened(tmp_path / "log.db") as store:
        imported(tmp_path / "in", store)
        assert store.get("items", "a")["_gorse"] == GORSE


def test_a_csv_gives_values_back_as_they_were(engine, tmp_path):
    values = {
        "year": 1961.0, "pages": 12, "title": "1984", "release": "1984", "zip": "01234", "code": "1e5", "ean": "9" * 25, "new": True, "old": "true",
        "tags": ["a", "b"], "genres": ["A|B", "C"], "topics": ["1"], "keywords": "a|b", "tree": {"a": [1, None, "x|y"]},
        "labels": {"a": "x|y"}, "taste": [0.5, 0.25], "tale": " begins so", "json": '{"a": 1}', "odd": "[no", "nan": "NaN", "comment": "7",
        "cast": ["[x", "y"], "below": -1.5, "big": (1 << 64) - 1, "colors": [" a", "b"], "several": ["a", "b"],
        "null": None, "empty": "",
    }  # fmt: skip
    engine.store.put("items", {"007": {"item_id": "007", "hidden": False, **values}})
    engine.store.put("users", {"1": {"user_id": "1", **values}})
    exported(engine.folder, engine.store, tmp_path / "out", form="csv")
    kept = {key: value for key, value in values.items() if value not in (None, "")} | {"topics": "1", "several": "a|b"}
    with (tmp_path / "out" / "items.csv").open(newline="") as file:
        cells = next(one for one in csv.DictReader(file) if one["item_id"] == "007")
    assert [cells[name] for name in ("title", "release", "year", "tags")] == ["1984", " 1984", "1961.0", "a|b"]
    with opened(tmp_path / "log.db") as store:
        imported(tmp_path / "out", store)
        assert store.get("users", "1") == {"user_id": "1", **kept}
        told = store.get("items", "007")
        assert told == {"item_id": "007", "hidden": False, **kept}
        assert [type(told[name]) for name in ("year", "pages", "new")] == [float, int, bool]
    from sensorium.data.readers import read

    files = {form: str(tmp_path / form / f"items.{form}") for form in ("csv", "jsonl")}
    shutil.move(tmp_path / "out", tmp_path / "csv")
    exported(engine.folder, engine.store, tmp_path / "jsonl")
    events = [str(tmp_path / "jsonl" / "events.jsonl")]
    attributes = {
        "year": "number",
        "zip": "category",
        "tags": "list",
        "genres": "list",
        "old": "category",
        "keywords": "list",
    }
    read_from = []
    for file in files.values():
        recipe = recipe_of(items=[file], events=events)
        items = replace(recipe.items, text=("title",), attributes=attributes)
        read_from.append(read(replace(recipe, items=items)).catalog)
    one, other = ({key: column[c.ids.row("007")] for key, column in c.content.items()} for c in read_from)
    assert one == other


# --- uploads ------------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(world) -> bytes:
    return next(iter(sorted((world / "world" / "media").glob("*.jpg")))).read_bytes()


@pytest.fixture
def mark(engine, picture) -> str:
    """That of a picture of the item "new"."""
    mark = kept(engine.folder / "media", engine.store, "new", {"image": (".jpg", picture)})["image"]
    engine.store.put("items", {"new": {**engine.store.get("items", "new"), "image": mark}})
    return mark


def name(mark: str) -> str:
    return mark.removeprefix("upload:")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_upload_lies_beside_the_tables_and_is_trained_on(engine, picture, mark, world, tmp_path, form):
    engine.store.put("problems", {"new": {"why": "none"}})
    told = exported(engine.folder, engine.store, tmp_path / "out", form=form)
    assert told["media"] == 1
    assert "media missing" not in told
    assert told["documents"] == 0
    assert (tmp_path / "out" / "media" / name(mark)).read_bytes() == picture
    assert "upload:" not in (tmp_path / "out" / f"items.{form}").read_text()
    shutil.move(tmp_path / "out", tmp_path / "moved")  # the tables name it from where they lie
    items, events = ([str(tmp_path / "moved" / f"{table}.{form}")] for table in ("items", "events"))
    recipe = recipe_of(items=items, events=events, recommender="popularity")
    with closing(Engine.train(recipe, tmp_path / "other", cache=world / "cache")) as other:
        row = other.snapshot.catalog.ids.row("new")
        assert other.snapshot.catalog.content["image"][row].paths == (tmp_path / "moved" / "media" / name(mark),)
        assert other.snapshot.views["image"].present[row]
        assert other.report.missing == ()
        exported(other.folder, other.store, tmp_path / "again")
    again = {one["item_id"]: one for one in lines(tmp_path / "again" / "items.jsonl")}
    assert again["new"]["image"] == str(tmp_path / "moved" / "media" / name(mark))  # of the table, no upload
    assert not (tmp_path / "again" / "media").exists()


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_upload_becomes_another_runs_own_however_often(engine, picture, mark, tmp_path, where, form):
    exported(engine.folder, engine.store, tmp_path / "out", form=form)
    shutil.rmtree(engine.folder / "media")
    (tmp_path / "other").mkdir()
    with closing(opened(where)) as store:
        for _ in range(2):
            assert imported(tmp_path / "out", store, run=tmp_path / "other")["media"] == 1
            assert [path.name for path in (tmp_path / "other" / "media").iterdir()] == [name(mark)]
            assert (tmp_path / "other" / "media" / name(mark)).read_bytes() == picture
            assert store.get("items", "new")["image"] == mark
            assert store.get("uploads", "new") == {"image": mark}
        assert "media" not in imported(tmp_path / "out", store)  # no run, no folder for it
        assert store.get("items", "new")["image"] == f"media/{name(mark)}"


def test_over_http_an_imported_picture_is_the_items_own(world, engine, mark, picture, tmp_path):
    exported(engine.folder, engine.store, tmp_path / "out")
    shutil.copytree(world / "run", tmp_path / "other")
    rows = [one for one in lines(tmp_path / "out" / "items.jsonl") if one["item_id"] == "new"]
    (tmp_path / "out" / "items.jsonl").write_text(json.dumps(rows[0] | {"hidden": False}) + "\n")
    with running(world, tmp_path / "other") as it:
        done = CliRunner().invoke(app, ["import", str(tmp_path / "other"), str(tmp_path / "out")])
        assert ", 1 media" in done.stdout
        with httpx.Client(base_url=it.url, headers={"X-API-Key": it.key}) as client:
            begin = time.monotonic()
            while "new" not in it.service.engine.snapshot.catalog.ids:
                assert time.monotonic() - begin < 20
                time.sleep(0.05)
            snapshot = it.service.engine.snapshot
            assert snapshot.views["image"].present[snapshot.catalog.ids.row("new")]
            told = client.get("/v1/items/new").json()
            assert told["image"] == mark
            again = client.post("/v1/items", json={"items": [{"item_id": "new", "image": mark}]})
            assert again.status_code == 200, again.text
            assert client.delete("/v1/items/new").status_code == 200
    assert list((tmp_path / "other" / "media").iterdir()) == []


def test_an_upload_that_the_version_alone_knows_goes_along(engine, mark, picture, tmp_path):
    document = engine.store.get("items", "new")
    (tmp_path / "new.jsonl").write_text(json.dumps(row(document, engine.recipe, Places(engine.folder / "media"))))
    engine.add(tmp_path / "new.jsonl")
    exported(engine.folder, engine.store, tmp_path / "both")
    engine.store.delete("items", "new")
    with opened(tmp_path / "empty.db") as empty:
        assert exported(engine.folder, empty, tmp_path / "alone")["media"] == 1
    for out in ("both", "alone"):
        told = {one["item_id"]: one for one in lines(tmp_path / out / "items.jsonl")}
        assert told["new"]["image"] == f"media/{name(mark)}"
        assert (tmp_path / out / "media" / name(mark)).read_bytes() == picture


def test_an_upload_is_named_by_its_own_column_and_not_once_more_by_its_modality(world, engine, tmp_path):
    tune = next((world / "world" / "media").glob("*.wav")).read_bytes()
    marks = kept(engine.folder / "media", engine.store, "heard", {"sound": (".wav", tune)})
    document = {"item_id": "heard", "title": "A tune", **marks}
    (tmp_path / "new.jsonl").write_text(json.dumps(row(document, engine.recipe, Places(engine.folder / "media"))))
    engine.add(tmp_path / "new.jsonl")
    newer = kept(engine.folder / "media", engine.store, "heard", {"sound": (".wav", tune + b"\0")})
    engine.store.put("items", {"heard": {**document, **newer}})
    assert exported(engine.folder, engine.store, tmp_path / "out")["media"] == 1
    told = {one["item_id"]: one for one in lines(tmp_path / "out" / "items.jsonl")}["heard"]
    assert told["sound"] == f"media/{name(newer['sound'])}"
    assert "audio" not in told


def test_an_upload_that_is_gone_is_counted_and_named_by_its_mark_and_no_link_is_followed(
    engine, mark, picture, world, tmp_path
):
    (tmp_path / "secret").write_text("secret")
    linked, pipe = f"upload:{'ab' * 16}.jpg", f"upload:{'cd' * 16}.jpg"
    (engine.folder / "media" / name(linked)).symlink_to(tmp_path / "secret")
    os.mkfifo(engine.folder / "media" / name(pipe))
    bodies = {"gone": f"upload:{'0' * 32}.png", "linked": linked, "pipe": pipe, "out": "upload:../log.sqlite"}
    engine.store.put("items", {item: {"item_id": item, "image": value} for item, value in bodies.items()})
    engine.store.put("items", {mark: {"item_id": mark, "title": "An id is no file"}})
    told = exported(engine.folder, engine.store, tmp_path / "out")
    assert (told["media"], told["media missing"]) == (1, 3)
    assert [path.name for path in (tmp_path / "out" / "media").iterdir()] == [name(mark)]
    items = {one["item_id"]: one for one in lines(tmp_path / "out" / "items.jsonl")}
    assert {item: items[item]["image"] for item in bodies} == bodies
    assert mark in items
    (tmp_path / "other").mkdir()
    with opened(tmp_path / "log.db") as store:  # a mark stays what it is, and brings nothing
        assert imported(tmp_path / "out", store, run=tmp_path / "other")["media"] == 1
        assert store.get("items", "linked")["image"] == linked
        assert store.get("uploads", "linked") is None
    done = CliRunner().invoke(app, ["export", str(engine.folder), str(tmp_path / "told")])
    assert "1 media\nmissing 3 media that came by upload; items.jsonl names them as upload:…" in done.stdout


def test_what_is_no_file_of_the_folder_is_refused_with_its_line_and_nothing_of_it_is_kept(picture, tmp_path):
    (tmp_path / "in" / "media").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    names = [f"{place:032x}.jpg" for place in range(6)]
    good, linked, empty, folder, large, lost = names
    home = tmp_path / "in" / "media"
    (home / good).write_bytes(picture)
    (home / linked).symlink_to(tmp_path / "secret")
    (home / empty).touch()
    (home / folder).mkdir()
    with (home / large).open("wb") as file:
        file.truncate((1 << 30) + 1)
    for wrong, why in (
        (linked, "a link"),
        (empty, "0 bytes"),
        (folder, "no file"),
        (large, "bytes; a file"),
        (lost, "no file"),
    ):
        rows = [
            {"item_id": "first", "image": f"media/{good}"},
            {"item_id": "odd", "image": f"media/{good}", "clip": f"media/{wrong}"},
        ]
        (tmp_path / "in" / "items.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        (tmp_path / wrong).mkdir()
        with opened(tmp_path / f"{wrong}.db") as store:
            with pytest.raises(DataError, match=f"line 2: media/{wrong} .*{why}") as told:
                imported(tmp_path / "in", store, run=tmp_path / wrong)
            assert "\n" not in str(told.value)
            assert [one.id for one in store.page("items")] == [one.id for one in store.page("uploads")] == ["first"]
            assert len(list((tmp_path / wrong / "media").iterdir())) == 1
    home.rename(tmp_path / "elsewhere")
    home.symlink_to(tmp_path / "elsewhere")
    with opened(tmp_path / "log.db") as store, pytest.raises(DataError, match="line 1: media/ is a link"):
        imported(tmp_path / "in", store, run=tmp_path / "run")
    assert not (tmp_path / "run" / "media").exists()


def test_other_paths_stay_as_they_are_and_what_is_made_again_is_passed_over(picture, tmp_path):
    (tmp_path / "in" / "media").mkdir(parents=True)
    (tmp_path / "in" / "media" / "mine.jpg").write_bytes(picture)
    paths = [
        "media/mine.jpg",
        "media/../../secret",
        f"media/../{'0' * 32}.jpg",
        "/etc/hostname",
        f"other/{'0' * 32}.jpg",
    ]
    rows = [{"item_id": str(place), "image": path} for place, path in enumerate(paths)]
    old = [
        {"kind": kind, "id": "0", "body": {"image": f"upload:{'0' * 32}.jpg"}}
        for kind in ("uploads", "problems", "rules")
    ]
    for table, written in (("items", rows), ("documents", old)):
        (tmp_path / "in" / f"{table}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in written))
    with opened(tmp_path / "log.db") as store:
        assert imported(tmp_path / "in", store, run=tmp_path / "run") == {"items": len(paths), "documents": 3}
        assert [store.get("items", str(place))["image"] for place in range(len(paths))] == paths
        assert store.get("rules", "0")
        assert store.get("uploads", "0") is None
        assert store.get("problems", "0") is None
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_told_with_its_line(engine, mark, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    exported(engine.folder, engine.store, tmp_path / "out")
    monkeypatch.setattr("sensorium.uploaded.os.replace", full)
    (tmp_path / "other").mkdir()
    with opened(tmp_path / "log.db") as store:
        with pytest.raises(DataError, match=r"line \d+: its media cannot be kept \(No space left"):
            imported(tmp_path / "out", store, run=tmp_path / "other")
        assert store.get("uploads", "new") is None
    assert list((tmp_path / "other" / "media").iterdir()) == []


def test_of_an_item_that_was_dropped_and_put_again_what_was_told_since_is_exported(world, run, tmp_path):
    with Engine.open(run, cache=world / "cache").store as store:
        known = Engine.open(run, cache=world / "cache").snapshot.catalog.ids[0]
        store.put("items", {known: {"item_id": known, "hidden": False, "anew": True, "title": "New"}})
        store.put("items", {"other": {"item_id": "other", "hidden": False, "anew": True, "title": "Other"}})
        exported(run, store, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text("utf-8").splitlines()]
    found = {row["item_id"]: row for row in rows}
    assert found[known] == {"item_id": known, "hidden": False, "title": "New"}
    assert found["other"] == {"item_id": "other", "hidden": False, "title": "Other"}
