"""What a column of a new item is for: what the run's own table took it for, whoever came with the item."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.data.catalog import Catalog
from sensorium.data.columns import NOTHING, Taken
from sensorium.data.content import Media, Ready, Text
from sensorium.data.readers import read
from sensorium.engine import Engine
from sensorium.feedback.store import Document
from sensorium.intake import items_of, taken_by
from sensorium.recipe import Recipe, recipe_of
from sensorium.serve.documents import Places, told
from sensorium.serve.service import PROBLEMS, Service
from sensorium.serve.shelf import document

CAST = ("Ann|Bo", "Cy", "Downey, Jr.|Bo", "Ann")
FORMS = ("song", "film", "postcard")
LOST = "taste: no vector of finite numbers, as long as those of other items"


def rows() -> list[dict[str, Any]]:
    """A table by whose columns nearly every kind is guessed; `code`, `shelf` and `blank` are of no use."""
    return [
        {
            "item_id": f"i{n}", "title": f"Journey {n}", "cast": CAST[n % 4], "mood": FORMS[n % 3], "price": n / 4,
            "launch": f"2024-03-{n % 28 + 1:02d}T10:{n:02d}:00", "opened": f"2023-05-{n % 28 + 1:02d}",
            "remarks": f"A long remark of a visitor, the one of number {n}, about the sea and the hills",
            "code": f"{n:03d}-x{n}", "shelf": "A", "blank": "", "taste": [n % 5 + 0.5, 1.0, -n / 7],
        }
        for n in range(60)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    events = "".join(f"u{n % 7},i{(n * n) % 60},{n}\n" for n in range(100))
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + events)
    recipe = recipe_of(items="items.jsonl", events="events.csv", recommender="popularity", folder=folder)
    Engine.train(recipe, folder / "run", cache=folder / "cache").close()
    return folder


@pytest.fixture
def service(trained: Path, tmp_path: Path) -> Iterator[Service]:
    shutil.copytree(trained / "run", tmp_path / "run")
    one = Service(tmp_path / "run", cache=trained / "cache")
    yield one
    one.close()


def put(service: Service, *bodies: Mapping[str, Any]) -> None:
    service.store.put("items", {body["item_id"]: dict(body) for body in bodies})
    service.catch_up()


def problems(service: Service) -> dict[str, str]:
    return {one.id: one.body["why"] for one in service.store.page(PROBLEMS, "", 1000) if one.body is not None}


def content(catalog: Catalog, item: str) -> dict[str, Any]:
    """What a catalogue holds of an item, by modality."""
    row = catalog.ids.row(item)
    found = {name: column[row] for name, column in catalog.content.items() if column[row] is not None}
    plain = {name: one.values.tolist() if isinstance(one, Ready) else one for name, one in found.items()}
    return plain | {"title": catalog.titles[row] if catalog.titles else ""}


def known(service: Service, item: str) -> dict[str, Any]:
    """What a run holds of an item; its vectors stand in the views."""
    snapshot = service.engine.snapshot
    view, row = snapshot.views["vector:taste"], snapshot.catalog.ids.row(item)
    taste = view.values[row].tolist() if view.present[row] else None
    return {**content(snapshot.catalog, item), "vector:taste": taste}


def read_of(bodies: Sequence[Mapping[str, Any]], recipe: Recipe, taken: Taken, places: Places) -> dict[str, Any]:
    """What is made of each item, and what is told of it."""
    documents = [Document(body["item_id"], dict(body), place) for place, body in enumerate(bodies, 1)]
    items, _, failed = told(documents, recipe, places, taken)
    return {
        body["item_id"]: (content(items, body["item_id"]) if body["item_id"] in items.ids else None, failed.get(body["item_id"]))
        for body in bodies
    }  # fmt: skip


def test_items_of_one_value_have_it(service: Service) -> None:
    put(service, *({"item_id": f"n{n}", "title": f"New {n}", "mood": "song", "price": 3.0} for n in range(10)))
    column = service.engine.live.lookup.columns["mood"]
    ids = service.engine.snapshot.catalog.ids
    assert {ids.row(f"n{n}") for n in range(10)} <= set(column.words["song"].tolist())
    assert not problems(service)


@pytest.mark.parametrize("before", [False, True], ids=["now", "trained before columns were noted"])
def test_an_item_is_read_alone_as_in_company_and_as_the_table_was(service: Service, before: bool) -> None:
    table = [{**row, "code": "", "shelf": ""} if before else row for row in rows()]  # which no snapshot then knew
    held = service.engine._held
    if before:
        held.swap(replace(held.snapshot, taken=None), keep=False)
        assert taken_by(held.snapshot).undivided["cast"] == ","
    put(service, *({**row, "item_id": f"all{n}"} for n, row in enumerate(table)))
    alone = (0, 1, 2, 7, 30, 59)
    for n in alone:
        put(service, {**table[n], "item_id": f"one{n}"})
    for n in range(60):
        assert known(service, f"all{n}") == known(service, f"i{n}")
    for n in alone:
        assert known(service, f"one{n}") == known(service, f"i{n}")
    assert before == (not problems(service))


WRONG: list[Any] = [
    [1.0], [1.0, 2.0, 3.0, 4.0], [1.0, "x", 2.0], "no vector", ["a", "b", "c"], f"[1{'0' * 400}, 1, 1]", {"a": 1}, 7,
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_vector_of_another_length_is_told_of_each(service: Service, wrong: Any) -> None:
    before = known(service, "i3")
    put(service, {"item_id": "one", "title": "One", "taste": wrong})
    put(service, *({"item_id": f"n{n}", "title": f"New {n}", "taste": wrong} for n in range(3)))
    put(service, {"item_id": "i3", "taste": wrong})
    assert problems(service) == dict.fromkeys(("one", "n0", "n1", "n2", "i3"), LOST)
    assert known(service, "one")["vector:taste"] is None
    assert known(service, "i3") == before
    put(
        service, {"item_id": "bad", "title": "B", "taste": wrong}, {"item_id": "good", "title": "G", "taste": [1, 2, 3]}
    )
    assert known(service, "good")["vector:taste"] == [1.0, 2.0, 3.0]
    assert problems(service)["bad"] == LOST
    put(service, {"item_id": "one", "title": "One", "taste": [3.0, 2.0, 1.0]})
    assert "one" not in problems(service)
    assert known(service, "one")["vector:taste"] == [3.0, 2.0, 1.0]


def test_what_the_run_made_nothing_of_is_told(service: Service) -> None:
    put(service, {"item_id": "n", "title": "New", "code": "7", "shelf": "B", "style": [1.0, 2.0], "blank": "x"})
    assert problems(service)["n"] == (
        "code: not used, in the run's table nearly every row has its own value (60 of 60); "
        "shelf: not used, in the run's table all rows have the same value; style: not used, the run has no such vectors"
    )
    assert known(service, "n")["attributes"].values == {"blank": "x"}


def test_what_columns_are_for_is_kept_by_every_later_version(service: Service) -> None:
    taken = service.engine.snapshot.taken
    assert taken is not None
    assert taken.roles["launch"] == "attribute: date"
    assert taken.undivided == {"cast": ","}
    service.engine.observe([{"user": "u1", "item": "i2"}])
    service.engine.refresh()
    assert service.engine.snapshot.taken == taken
    service.engine.forget("u1")
    assert service.engine.snapshot.taken == taken
    with_sizes = taken_by(service.engine.snapshot)
    assert with_sizes.sizes == {"taste": 3}


def test_items_of_gorse_fill_the_columns_of_the_table(service: Service) -> None:
    item = {
        "ItemId": "g", "IsHidden": False, "Categories": ["film"], "Timestamp": "", "Comment": "A night by the sea",
        "Labels": {"mood": "song", "cast": ["Ann", "Cy"], "price": 3, "launch": "2024-05-01T10:00:00", "taste": [1, 2, 3]},
    }  # fmt: skip
    body = document(item, service.engine.live)
    put(service, body, *({**body, "item_id": f"g{n}"} for n in range(3)))
    assert not problems(service)
    assert known(service, "g") == known(service, "g2")
    assert known(service, "g")["attributes"].values == {
        "mood": "song", "cast": ("Ann", "Cy"), "price": 3.0, "launch": 1714557600.0, "categories": ("film",),
    }  # fmt: skip
    assert known(service, "g")["text"] == Text((("title", "A night by the sea"),))


def test_a_table_that_is_added_is_read_as_the_runs_own(service: Service, tmp_path: Path) -> None:
    snapshot = service.engine.snapshot
    lines = [
        {
            "item_id": f"n{n}",
            "title": "New",
            "cast": "Gore, Sr.",
            "mood": "song",
            "shelf": "A",
            "price": "7",
            "taste": [1.0],
        }
        for n in range(5)
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    more, report = items_of(tmp_path / "more.jsonl", service.engine.recipe, taken_by(snapshot))
    facts = {"cast": ("Gore, Sr.",), "mood": "song", "price": 7.0}
    assert [one.values for one in more.content["attributes"]] == [facts] * 5  # type: ignore[union-attr]
    assert "vector:taste" not in more.content
    (note,) = report.notes
    assert note.endswith("column 'taste': vectors that are not 3 finite numbers are left out, first in line 1")


def test_items_that_are_added_to_a_run_are_read_as_its_own(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    lines = [{"item_id": f"more{n}", "title": f"A train {n}", "mood": "song"} for n in range(5)]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    engine = Engine.open(tmp_path / "run", cache=trained / "cache")
    assert engine.add(tmp_path / "more.jsonl") == 5
    facts = [content(engine.snapshot.catalog, f"more{n}")["attributes"].values for n in range(5)]
    assert facts == [{"mood": "song"}] * 5
    engine.close()


def test_kinds_that_a_recipe_leaves_open_are_those_of_the_table(tmp_path: Path) -> None:
    table = [
        {"item_id": f"i{n}", "name": f"N {n}", "year": f"{1990 + n % 9}", "tone": "a" if n % 2 else "b|c"}
        for n in range(30)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    recipe = recipe_of(items="items.jsonl", folder=tmp_path)
    recipe = replace(recipe, items=replace(recipe.items, attributes={"year": "auto", "tone": "auto"}))
    trained = read(recipe)
    assert trained.taken.roles["tone"] == "attribute: list"
    new = [{"item_id": "x", "name": "X", "tone": "a", "year": 2001}, {"item_id": "y", "title": "Y", "year": "soon"}]
    found = read_of(new, recipe, trained.taken, Places(tmp_path))
    items = {name: made for name, (made, _) in found.items()}
    assert items["x"]["attributes"].values == {"tone": ("a",), "year": 2001.0}
    assert (items["x"]["title"], items["y"]["title"]) == ("X", "Y")
    assert [why for _, why in found.values()] == [None, "year: 'soon' is no number"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table that names files, as CSV, and the files."""
    folder = tmp_path_factory.mktemp("shown")
    (folder / "files").mkdir()
    for name in ("a.png", "b.png", "c d.png"):
        (folder / "files" / name).write_bytes(b"picture")
    (folder / "secret.png").write_bytes(b"secret")
    lines = [
        {"item_id": f"i{n}", "name": f"No. {n}", "poster_path": ("a.png", "", "b.png|a.png", "c d.png")[n % 4],
         "film": ("yes", "no")[n % 2], "genre": ("Drama", "Drama, Crime", "Crime")[n % 3], "year": 1990 + n}
        for n in range(24)
    ]  # fmt: skip
    with (folder / "files" / "items.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        table.writerows(lines)
    return folder


def test_files_are_read_as_the_tables_were(shown: Path) -> None:
    recipe = recipe_of(items="items.csv", folder=shown / "files")
    trained = read(recipe)
    with (shown / "files" / "items.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    places = Places(shown / "uploads", shown / "files")
    together = read_of(table, recipe, trained.taken, places)
    for body in table:
        expected = (content(trained.catalog, body["item_id"]), None)
        assert together[body["item_id"]] == expected
        assert read_of([body], recipe, trained.taken, places)[body["item_id"]] == expected
    several = {"item_id": "n", "poster_path": ["a.png", "b.png"]}
    assert read_of([several], recipe, trained.taken, places)["n"][0]["image"] == Media(
        (shown / "files" / "a.png", shown / "files" / "b.png")
    )


@pytest.mark.parametrize(
    "body",
    [{"poster_path": "../secret.png"}, {"poster_path": "a.png|../secret.png"}, {"Cover": "../secret.png"},
     {"Poster": "SECRET"}, {"poster_path": "a.png|SECRET"}, {"poster_path": "a.png|.\u200b./secret.png"},
     {"poster_path": '["../secret.png"]'}, {"photo_file": ["SECRET", "a.png"]}],
)  # fmt: skip
@pytest.mark.parametrize("known_run", [True, False])
def test_no_file_is_read_that_lies_elsewhere(shown: Path, body: dict[str, Any], known_run: bool) -> None:
    recipe = recipe_of(items="items.csv", folder=shown / "files")
    secret = json.loads(json.dumps(body).replace("SECRET", str(shown / "secret.png")))
    taken = read(recipe).taken if known_run else NOTHING
    (made, why), *_ = read_of(
        [{"item_id": "n", "name": "N", **secret}], recipe, taken, Places(shown / "u", shown / "files")
    ).values()
    media = () if made is None else [one for one in made.values() if isinstance(one, Media)]
    assert not [path for one in media for path in one.paths if "secret" in path.name]
    assert why


CELLS = st.one_of(
    st.sampled_from(["song", "Ann|Bo", "Downey, Jr.", "a, b", "a;b", "12", "7.0", "2024-02-24", "1700000000000", "20240131",
                     "2024-02-24T10:00:00", "true", "soon", " ", "", "A long line of words that says a lot, or nothing at all"]),
    st.sampled_from([None, 0, 3, 2.5, 7.0, 1e300, 20240131, 1_700_000_000, True, False, [], ["a"], ["a", "b, c"], [1, 2, 3],
                     [1.0, 2.0], {"kg": 1}, [[1], [2], [3]]]),
)  # fmt: skip
NAMES = ("title", "name", "cast", "mood", "price", "launch", "opened", "remarks", "code", "shelf", "blank", "taste",
         "tags", "colour", "weight", "seen", "released", "plot", "headline", "x")  # fmt: skip


@pytest.fixture(scope="module")
def takings(trained: Path) -> dict[str, Taken]:
    engine = Engine.open(trained / "run", cache=trained / "cache")
    engine.close()
    snapshot = engine.snapshot
    return {
        "a run's": taken_by(snapshot), "an older run's": taken_by(replace(snapshot, taken=None)), "no table's": NOTHING,
        "a recipe's": Taken(sizes={"taste": 3}),
    }  # fmt: skip


@pytest.mark.parametrize("which", ["a run's", "an older run's", "no table's", "a recipe's"])
@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), CELLS, max_size=8), min_size=2, max_size=6), st.randoms())
def test_whatever_it_holds_an_item_is_read_alone_as_in_any_company(
    takings: dict[str, Taken], which: str, some: list[dict[str, Any]], chance: random.Random
) -> None:
    recipe = recipe_of(items="items.jsonl")
    if which == "a recipe's":
        open_kinds: Any = {"mood": "auto", "cast": "list", "launch": "date", "price": "number", "x": "auto"}
        recipe = replace(
            recipe, items=replace(recipe.items, attributes=open_kinds, text=("remarks",), vectors={"taste": "taste"})
        )
    known = takings[which]
    bodies = [{"item_id": name, **body} for name, body in zip(("a", "7.0", "8.0", "d", "e", "f"), some)]
    places = Places(Path("nowhere"))
    alone = {body["item_id"]: read_of([body], recipe, known, places)[body["item_id"]] for body in bodies}
    assert read_of(bodies, recipe, known, places) == alone
    chance.shuffle(bodies)
    assert read_of(bodies[1:], recipe, known, places) == {
        body["item_id"]: alone[body["item_id"]] for body in bodies[1:]
    }


@pytest.mark.parametrize(
    ("value", "media", "why"),
    [
        ("/etc/passwd", True, "poster_path: '/etc/passwd' lies outside the media folder"),
        ("a.png|../secret.png", True, "poster_path: '../secret.png' lies outside the media folder"),
        (["a.png", "../secret.png"], True, "poster_path: '../secret.png' lies outside the media folder"),
        ("upload:../a.png", True, "poster_path: 'upload:../a.png' names no uploaded file"),
        ("a.png|upload:x", True, "poster_path: 'upload:x' names no uploaded file"),
        ("upload:x", False, "poster_path: 'upload:x' names no uploaded file"),
        ("a.png", False, "poster_path: media by path need a folder: start the service with --media FOLDER"),
        ("a\0.png", True, "poster_path: 'a\\x00.png' is no path"),
    ],
)  # fmt: skip
def test_an_item_is_read_without_the_file_that_lies_elsewhere(shown: Path, value: Any, media: bool, why: str) -> None:
    recipe = recipe_of(items="items.csv", folder=shown / "files")
    taken, places = read(recipe).taken, Places(shown / "u", shown / "files" if media else None)
    body = {"item_id": "n", "name": "N", "film": "yes", "year": 1999}
    found = read_of([{**body, "poster_path": value}, {**body, "item_id": "m"}], recipe, taken, places)
    assert found["n"] == (found["m"][0], why)
    assert found["m"][0]["attributes"].values["year"] == 1999.0


def test_of_several_files_the_missing_one_is_told_as_it_was_sent(shown: Path) -> None:
    recipe = recipe_of(items="items.csv", folder=shown / "files")
    taken, places = read(recipe).taken, Places(shown / "u", shown / "files")
    long = f"{'x' * 300}.png"
    for value in ("a.png| ./gone.png", ["a.png", "./gone.png"]):
        made, why = read_of([{"item_id": "n", "poster_path": value}], recipe, taken, places)["n"]
        assert made["image"] == Media((shown / "files" / "a.png",))
        assert why == "poster_path: no such file './gone.png'"
    for value in ("gone.png", long):
        assert (
            read_of([{"item_id": "n", "poster_path": value}], recipe, taken, places)["n"][1]
            == "poster_path: no such file"
        )
    _, why = read_of([{"item_id": "n", "poster_path": f"a.png|{long}"}], recipe, taken, places)["n"]
    assert why == f"poster_path: no such file '{'x' * 60}'"


def test_a_file_for_a_modality_that_the_run_lacks_is_told(service: Service, tmp_path: Path) -> None:
    uploads = service.places.uploads
    uploads.mkdir(exist_ok=True)
    name = "0f" * 16 + ".wav"
    (uploads / name).write_bytes(b"junk")
    put(service, {"item_id": "n", "title": "New", "audio": f"upload:{name}"}, {"item_id": "m", "title": "New"})
    put(service, {"item_id": "i3", "audio": f"upload:{name}"})
    assert problems(service) == dict.fromkeys(("n", "i3"), "audio: not used, the run made nothing of audio")
    put(service, {"item_id": "n", "title": "New", "audio": "/etc/passwd.wav"})
    assert problems(service)["n"].startswith("audio: media by path need a folder")
    assert known(service, "n")["title"] == "New"
