"""The whole life of a run on a small generated world: train, answer, observe, add, refresh, hide, forget."""

from __future__ import annotations

import csv
import json
import shutil
import threading
import time
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sensorium.checks.worlds import write_demo
from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.engine import Engine, Live
from sensorium.errors import DataError, RecipeError, SnapshotError, UnknownId
from sensorium.index.cells import Cells
from sensorium.models.blend import Blend
from sensorium.models.content import Content
from sensorium.models.ials import Ials
from sensorium.models.itemknn import ItemKnn
from sensorium.rank.query import Ranking
from sensorium.recipe import Recipe, dump, read_recipe, read_recipe_text

BLEND = Blend(use=("content", "itemknn"))


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def current(run: Path) -> dict[str, bytes]:
    return folder_bytes(run / "snapshots" / (run / "current").read_text().split()[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    write_demo(folder / "world", items=36, people=40)
    return folder


@pytest.fixture(scope="module")
def recipe(world) -> Recipe:
    return replace(read_recipe(world / "world" / "demo.toml"), recommender=BLEND)


@pytest.fixture(scope="module")
def trained(world, recipe) -> Path:
    Engine.train(recipe, world / "run", cache=world / "cache").close()
    return world / "run"


@pytest.fixture
def engine(world, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    opened = Engine.open(tmp_path / "run", cache=world / "cache")
    yield opened
    opened.close()


def items(ranking) -> list[str]:
    return [entry.item for entry in ranking.items]


def test_a_known_person_a_stranger_and_a_session_are_served(engine):
    known = engine.recommend("p001", k=5, explain=True)
    assert len(known.items) == 5
    for entry in known.items:
        assert entry.base + sum(part.amount for part in entry.reasons) == pytest.approx(entry.score, abs=1e-4)
    assert len(engine.recommend("nobody ever", k=5).items) == 5
    first = engine.snapshot.catalog.ids[0]
    like = items(engine.recommend(like=[first], k=5))
    assert len(like) == 5
    assert first not in like


def test_several_are_answered_at_once_as_one_by_one_and_each_fails_alone(world, recipe, monkeypatch):
    monkeypatch.setattr("sensorium.live.EXACT_UP_TO", 10)  # so that it is searched through cells
    blend = Blend(use=("content", "ials"), ials=Ials(size=8))
    engine = Engine.train(replace(recipe, recommender=blend), cache=world / "cache")
    assert isinstance(engine.live.warmed().index, Cells)
    people = list(engine.snapshot.user_ids)[:6]
    wishes = [
        *({"user": user, "k": 5} for user in people), {"user": "nobody", "k": 3}, {"k": 4, "like": ["nothing"]},
        {"user": people[0], "k": 5, "members": {"ials": 2.0}}, {"user": people[1], "k": 5, "rules": ["no=such"]},
        {"user": people[2], "k": 5, "diversity": 0.5, "exclude": [engine.snapshot.catalog.ids[0]]},
    ]  # fmt: skip
    several = engine.answers([(wish, copy_context()) for wish in wishes])
    told_at_once = several.finished()
    assert [type(one) for one in told_at_once if isinstance(one, Exception)] == [UnknownId, RecipeError]
    for wish, told in zip(wishes, told_at_once, strict=True):
        if isinstance(told, Ranking):
            alone = engine.recommend(**wish)
            assert told.ids() == alone.ids()
            assert [one.score for one in told.items] == pytest.approx(
                [one.score for one in alone.items], rel=1e-4, abs=1e-5
            )
    assert told_at_once[8].ids() != told_at_once[0].ids()  # where one member counts alone


def test_a_person_is_not_shown_what_they_have_seen(engine):
    snapshot = engine.snapshot
    seen = {snapshot.catalog.ids[row] for row in snapshot.events.item[snapshot.events.user == 0]}
    assert not seen & set(items(engine.recommend(snapshot.user_ids[0], k=60)))


def test_three_events_of_a_new_person_change_the_next_answer_and_survive_reopening(engine, world):
    before = items(engine.recommend("new", k=10))
    chosen = before[-3:]
    engine.observe([{"user": "new", "item": item, "kind": "buy"} for item in chosen])
    after = items(engine.recommend("new", k=10))
    assert after != before
    assert not set(chosen) & set(after)
    engine.close()
    again = Engine.open(engine.folder, cache=world / "cache")
    assert items(again.recommend("new", k=10)) == after
    assert again.refresh() == 3
    assert again.refresh() == 0
    assert "new" in again.snapshot.user_ids
    assert not set(chosen) & set(items(again.recommend("new", k=10)))
    again.close()


def test_an_item_nobody_has_seen_is_recommended_from_its_content(engine, world, tmp_path):
    with (world / "world" / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    twin = next(row for row in rows if row["title"] and row["description"])
    table = tmp_path / "new.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerow({**twin, "item_id": "twin", "image": "", "sound": "", "clip": ""})
    assert engine.add(table) == 1
    assert engine.add(table) == 0
    # What a blend of forty people counts content is chance; that the twin stands beside its original is not.
    assert "twin" in items(engine.recommend(like=[twin["item_id"]], k=60))
    vectors, ids = engine.snapshot.features.items.values, engine.snapshot.catalog.ids
    original = ids.row(twin["item_id"])
    near = np.argsort(-(vectors @ vectors[original]))
    assert {ids[int(near[0])], ids[int(near[1])]} == {"twin", twin["item_id"]}
    assert len(engine.recommend(like=["twin"], k=5).items) == 5
    # Nobody and the new item meet after it was seen once by somebody new, before and after learning.
    engine.observe([{"user": "first", "item": "twin"}])
    assert len(engine.recommend("first", k=5).items) == 5
    assert engine.refresh() == 1
    assert engine.snapshot.bare == ()
    assert "twin" in items(engine.recommend(like=[twin["item_id"]], k=60))


def test_the_recipe_says_what_a_request_leaves_open(engine):
    snapshot = engine.snapshot
    person = snapshot.user_ids[0]
    plain = items(engine.recommend(person, k=60))
    seen = {snapshot.catalog.ids[row] for row in snapshot.events.item[snapshot.events.user == 0]}
    section = f"[answer]\nk = 4\nrepeat = true\ndiversity = 0.5\nexclude = ['{plain[0]}']\n"
    engine._held.live = Live(replace(snapshot, recipe=snapshot.recipe + section))
    assert len(engine.recommend(person)) == 4
    assert items(engine.recommend(person)) == items(engine.recommend(person, k=4, repeat=True, diversity=0.5))
    assert items(engine.recommend(person, diversity=0)) != items(engine.recommend(person))
    everything = items(engine.recommend(person, k=60, diversity=0))
    assert seen & set(everything)
    assert plain[0] not in everything
    # The request's own exclusions are added, and its repeat goes before the recipe's.
    assert items(engine.recommend(person, k=60, diversity=0, repeat=False, exclude=[plain[1]])) == plain[2:]


def test_a_kind_is_known_however_it_is_written(engine):
    snapshot = engine.snapshot
    recipe = read_recipe_text(snapshot.recipe)
    recipe = replace(recipe, events=replace(recipe.events, kinds={"Was Banned": -4.0}))
    engine._held.live = Live(replace(snapshot, recipe=dump(recipe)))
    first = items(engine.recommend("new", k=1, repeat=True))[0]
    engine.observe([{"user": "new", "item": first, "kind": "was-banned"}])
    assert first not in items(engine.recommend("new", k=60, repeat=True))


def test_an_event_of_the_future_counts_once_its_time_has_come(engine):
    now = time.time()
    first = engine.recommend(user="later", k=1).ids()[0]
    engine.observe([{"user": "later", "item": first, "kind": "view", "time": now + 600}])
    assert first in engine.recommend(user="later", k=5).ids()
    assert first not in engine.recommend(user="later", k=5, now=now + 601).ids()
    with pytest.raises(DataError, match="seconds since 1970"):
        engine.observe([{"user": "later", "item": first, "kind": "view", "time": now * 1000}])


def test_the_rules_of_a_recipe_and_of_a_request_must_both_hold(engine):
    snapshot = engine.snapshot
    facts = dict(zip(snapshot.catalog.ids, snapshot.catalog.content["attributes"], strict=True))
    prices = {item: fact.values["price"] for item, fact in facts.items() if fact and "price" in fact.values}
    low, high = np.quantile(list(prices.values()), [0.3, 0.7])
    engine._held.live = Live(replace(snapshot, recipe=f"{snapshot.recipe}[answer]\nrules = ['price>={low}']\n"))
    shown = items(engine.recommend("nobody", k=60))
    assert shown
    assert min(prices[item] for item in shown) >= low
    both = items(engine.recommend("nobody", k=60, rules=[f"price<={high}"]))
    assert set(both) == {item for item in shown if prices[item] <= high}


def test_a_rule_of_the_recipe_that_no_item_can_keep_is_told_before_training(recipe, world):
    wrong = replace(recipe, answer=replace(recipe.answer, rules=("prise<3",)))
    with pytest.raises(RecipeError, match="did you mean 'price'"):
        Engine.train(wrong, cache=world / "cache")


def test_adding_tells_what_was_known_rejected_missing_or_broken(engine, tmp_path):
    known = engine.snapshot.catalog.ids[0]
    shown = read_recipe_text(engine.snapshot.recipe).items
    head = ",".join(
        [
            "item_id",
            "title",
            "description",
            "image",
            *(shown.audio or ()),
            *(shown.video or ()),
            *(shown.attributes or {}),
        ]
    )
    rows = ((known, ""), ("one", "gone.png"), ("two", "broken.png"), ("two", ""), ("", ""))
    rest = "," * (head.count(",") - 3)
    lines = [head, *(f"{name},A train,In the snow,{image}{rest}" for name, image in rows)]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert engine.add(tmp_path / "new.csv") == 2
    assert engine.report.counts["known"] == 1
    assert f"1 id known already: what they say stays as it was, such as {known!r}" in engine.report.notes
    assert sum(engine.report.reasons.values()) == 2
    assert [missing.path for missing in engine.report.missing] == ["gone.png"]
    assert [problem.item for problem in engine.problems] == ["two"]


@pytest.mark.parametrize("columns", ["user_id,item_id,event,timestamp", "user_id,item_id,rating,review_text"])
def test_a_table_of_events_is_not_taken_for_items(columns, tmp_path):
    from sensorium.intake import items_of

    (tmp_path / "e.csv").write_text(f"{columns}\nu1,i1,3,1700000000\nu2,i1,4,1700000001\nu2,i2,4,1700000002\n")
    with pytest.raises(DataError, match="this is a table of events"):
        items_of(tmp_path / "e.csv", Recipe())


def test_items_that_name_who_made_them_are_items(tmp_path):
    from sensorium.intake import items_of

    (tmp_path / "i.csv").write_text("item_id,user_id,title,created_at\ni1,u1,A train,2024-01-01\n")
    items_of(tmp_path / "i.csv", Recipe())


def test_a_hidden_item_is_never_shown_and_can_come_back(engine):
    first = items(engine.recommend("p001", k=1))[0]
    engine.hide(first)
    assert first not in items(engine.recommend("p001", k=60))
    engine.hide(first, hidden=False)
    assert first in items(engine.recommend("p001", k=60))
    with pytest.raises(UnknownId):
        engine.hide("no such item")


def test_what_documents_say_of_who_is_hidden_holds_in_every_version_until_a_newer_one_is_taken_in(engine):
    first, second = items(engine.recommend("p001", k=2))
    before = engine.live.warmed()
    engine.settle({first: True, "not here yet": True}, documents=7)
    assert first not in items(engine.recommend("p001", k=60))
    shared = ("index", "lookup", "following", "made_from", "weights")
    assert all(getattr(engine.live, name) is getattr(before, name) for name in shared)
    assert engine.live.warm
    engine.settle({first: False}, documents=6)  # read before, told after
    assert first not in items(engine.recommend("p001", k=60))
    engine.refresh()  # begun from a version that knows of no document
    assert first not in items(engine.recommend("p001", k=60))
    engine.take_in(Catalog(Ids(["not here yet"]), {}), hidden={}, documents=5)
    assert engine.snapshot.catalog.ids.row("not here yet") in engine.live.hidden
    assert second in items(engine.recommend("p001", k=60))
    engine.take_in(Catalog(Ids([]), {}), hidden={first: False}, documents=8)
    assert first in items(engine.recommend("p001", k=60))
    engine.settle({first: True}, documents=8)  # which the version has taken in
    assert first in items(engine.recommend("p001", k=60))
    engine.settle({first: True}, documents=9)
    assert first not in items(engine.recommend("p001", k=60))


def test_items_hidden_and_shown_at_once_end_as_a_dictionary_says(engine):
    rng, names = np.random.default_rng(0), list(engine.snapshot.catalog.ids)
    told: dict[str, tuple[int, bool]] = {}
    for change in range(1, 200):
        name, hidden, late = names[rng.integers(8)], bool(rng.integers(2)), int(rng.integers(3))
        number = max(change - late, 1)
        if rng.random() < 0.1:
            state = {n: h for n, (c, h) in told.items()}
            engine.take_in(Catalog(Ids([]), {}), hidden=state, documents=change)
            told = {n: (change, h) for n, h in state.items()}
        elif number > engine.snapshot.documents and number >= told.get(name, (0, False))[0]:
            told[name] = number, hidden
            engine.settle({name: hidden}, documents=number)
        else:
            engine.settle({name: hidden}, documents=number)
        expected = {n for n, (_, h) in told.items() if h}
        assert {names[row] for row in engine.live.hidden} == expected
        assert set(engine.snapshot.hidden) == engine.live.hidden


@pytest.mark.parametrize("full", [False, True])
def test_a_dropped_item_that_an_event_names_stays_away_from_every_later_version(engine, world, tmp_path, full):
    engine.observe([{"user": "p001", "item": "gone", "kind": "buy"}, {"user": "p002", "item": "there", "kind": "buy"}])
    engine.take_in(Catalog(Ids([]), {}), hidden={"gone": True}, documents=3)
    engine.candidate(tmp_path / "run" / "snapshots" / ".candidate.1", full=full, share=0)
    version = engine.versions().versions[-1]
    engine.adopt(tmp_path / "run" / "snapshots" / ".candidate.1", replace(version, of=engine.version))
    again = Engine.open(tmp_path / "run", cache=world / "cache")
    assert again.snapshot.documents == 3
    assert {"gone", "there"} <= set(again.snapshot.catalog.ids)
    assert "gone" not in items(again.recommend("p003", k=200))
    assert "there" in items(again.recommend("p003", k=200))
    again.observe([{"user": "p001", "item": "later", "kind": "buy"}])
    again.take_in(Catalog(Ids([]), {}), hidden={"later": True}, documents=4)
    again.refresh()
    again.forget("p002")
    assert "there" not in again.snapshot.catalog.ids
    shown = items(again.recommend("p003", k=200))
    assert not {"gone", "later"} & set(shown)
    again.take_in(Catalog(Ids([]), {}), hidden={"later": False}, documents=5)
    assert "later" in items(again.recommend("p003", k=200))
    again.close()


def test_a_changed_attribute_that_no_encoder_reads_is_filtered_by(engine):
    live = engine.live.warmed()
    row = next(r for r, one in enumerate(live.snapshot.catalog.content["attributes"]) if one and "form" in one.values)
    item = live.snapshot.catalog.ids[row]
    told = Catalog(Ids([item]), {"attributes": [Attributes({"form": "unheard of"})]})
    engine.take_in(told, hidden={}, documents=1)
    assert items(engine.recommend(k=5, rules=["form = unheard of"], repeat=True)) == [item]
    same = engine.snapshot.catalog
    engine.take_in(told, hidden={}, documents=2)
    assert engine.snapshot.catalog is same


def test_what_is_told_while_all_is_learnt_anew_is_in_what_was_learnt(engine, monkeypatch):
    import sensorium.engine as module

    learn, first = module.forgotten, engine.snapshot.catalog.ids[0]

    def learning(*given, **named):
        def told():
            engine.settle({first: True}, documents=1)
            engine.take_in(Catalog(Ids(["new"]), {}), hidden={first: True}, documents=2)

        other = threading.Thread(target=told)
        other.start()
        other.join(30)
        assert not other.is_alive()
        return learn(*given, **named)

    monkeypatch.setattr(module, "forgotten", learning)
    engine.forget("p001")
    assert "p001" not in engine.snapshot.user_ids
    assert "new" in engine.snapshot.catalog.ids
    assert first not in items(engine.recommend("p002", k=60))
    assert len(list((engine.folder / "snapshots").iterdir())) == 1


def test_the_same_data_and_seed_give_the_same_bytes_and_encode_nothing_twice(trained, recipe, world, tmp_path):
    again = Engine.train(recipe, tmp_path / "run", cache=world / "cache")
    assert set(again.material.computed.values()) == {0}
    again.close()
    assert current(tmp_path / "run") == current(trained)


def test_forgetting_equals_never_having_known(engine, recipe, world, tmp_path):
    other = tmp_path / "world"
    shutil.copytree(world / "world", other)
    for name in ("users.csv", "events.csv"):
        with (other / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        with (other / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(row for row in rows if "p007" not in row)
    engine.observe([{"user": "p007", "item": engine.snapshot.catalog.ids[0], "text": "unmistakable words"}])
    engine.forget("p007")
    never = replace(read_recipe(other / "demo.toml"), recommender=BLEND)
    Engine.train(never, tmp_path / "never", cache=world / "cache").close()
    mine, theirs = current(engine.folder), current(tmp_path / "never")
    assert mine["arrays.safetensors"] == theirs["arrays.safetensors"]
    here, there = (
        str(world / "world").encode(),
        str(other).encode(),
    )  # the files lie elsewhere, and nothing else differs
    assert mine["people.jsonl"] == theirs["people.jsonl"]
    assert mine["catalog.jsonl"].replace(here, there) == theirs["catalog.jsonl"]
    told = [json.loads(files["manifest.json"])["snapshot"] for files in (mine, theirs)]
    for tree in told:
        tree.pop("position"), tree.pop("log")
    assert told[0] == told[1]
    # Gone from every file of the run: the log, its write-ahead log, and all snapshots.
    for path, data in folder_bytes(engine.folder).items():
        assert b'p007"' not in data, path
        assert b"unmistakable" not in data, path
    assert len(list((engine.folder / "snapshots").iterdir())) == 1
    with pytest.raises(UnknownId):
        engine.forget("p007")


def presence(snapshot) -> dict[str, tuple[int, int]]:
    return {name: (int(view.present.sum()), len(view)) for name, view in snapshot.views.items() if name != "reviews"}


def test_learning_anew_loses_no_media_wherever_it_is_called_and_whatever_files_are_gone(world, tmp_path, monkeypatch):
    shutil.copytree(world / "world", tmp_path / "world")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    relative = replace(read_recipe("world/demo.toml"), recommender=ItemKnn())
    engine = Engine.train(relative, "run", cache=world / "cache")
    before, engine._held.folder = engine.snapshot, tmp_path / "run"
    assert b'"files":["world/' not in (next((tmp_path / "run/snapshots").iterdir()) / "catalog.jsonl").read_bytes()
    monkeypatch.chdir(tmp_path / "elsewhere")
    engine.observe([{"user": "p001", "item": before.catalog.ids[0]}])
    engine.refresh()
    assert presence(engine.snapshot) == presence(before)
    assert not engine.problems
    pictures = sorted((tmp_path / "world/media").glob("*.jpg"))[:5]
    for path in pictures:
        path.unlink()
    engine.refresh()
    assert presence(engine.snapshot) == presence(before)
    np.testing.assert_array_equal(engine.snapshot.views["image"].values, before.views["image"].values)
    assert sorted({Path(problem.file).name for problem in engine.problems}) == [path.name for path in pictures]
    assert all("its vector of before is kept" in str(problem) for problem in engine.problems)
    engine.forget("p001")
    assert presence(engine.snapshot) == presence(before)
    assert len({problem.file for problem in engine.problems}) == 5
    assert engine.summary()["problems"]
    engine.close()


def test_vectors_of_two_encoders_are_never_mixed():
    from sensorium.refresh import _kept

    two, ids = np.array([True, False]), Ids("ab")
    old = Vectors(np.ones((2, 3), np.float32), np.array([True, True]), "one")
    new = Vectors(np.full((2, 3), 2, np.float32) * two[:, None], two, "one")
    np.testing.assert_array_equal(_kept({"image": new}, {"image": old}, ids, set())["image"].values[:, 0], [2, 1])
    np.testing.assert_array_equal(
        _kept({"image": new}, {"image": old}, ids, {("image", "a")})["image"].values[:, 0], [1, 1]
    )
    other = _kept({"image": replace(new, source="two")}, {"image": old}, ids, set())["image"]
    assert (other.source, other.present.tolist()) == ("two", [True, False])


def test_somebody_known_from_the_log_alone_is_forgotten_with_the_item_they_brought(engine):
    before = engine.snapshot
    engine.observe([{"user": "guest", "item": "odd"}])
    assert engine.refresh() == 1
    assert engine.snapshot.bare == (len(before.catalog),)
    engine.forget("guest")
    assert engine.snapshot.catalog.ids == before.catalog.ids
    assert engine.snapshot.user_ids == before.user_ids
    engine.observe([{"user": "guest", "item": "odd"}])
    engine.forget("guest")  # before any refresh
    assert "odd" not in engine.snapshot.catalog.ids


def test_a_run_in_memory_learns_saves_and_opens(recipe, world, tmp_path):
    plain = replace(recipe, recommender=ItemKnn())
    engine = Engine.train(plain, cache=world / "cache")
    engine.observe([{"user": "new", "item": engine.snapshot.catalog.ids[3], "kind": "buy"}])
    before = items(engine.recommend("new"))
    engine.save(tmp_path / "saved")
    assert items(engine.recommend("new")) == before
    engine.close()
    again = Engine.open(tmp_path / "saved", cache=world / "cache")
    assert items(again.recommend("new")) == before
    again.close()


def test_words_find_items(engine, world):
    found = engine.search("a train in the snow", k=5)
    assert len(found) == 5
    with pytest.raises(DataError, match="some words"):
        engine.search("  ")


@pytest.mark.parametrize("k", [0, -3, 1001, 2.5, True])
def test_a_search_for_no_number_of_items_is_refused(engine, k):
    with pytest.raises(RecipeError, match=r"search: k is .*; ask for 1 to 1000 results"):
        engine.search("snow", k=k)


def test_a_search_by_what_is_not_there_or_by_two_things_is_refused(engine, tmp_path):
    with pytest.raises(DataError, match=r"search: .*gone\.png: No such file or directory"):
        engine.search(image=tmp_path / "gone.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"search: .*broken\.png: "):
        engine.search(image=tmp_path / "broken.png")
    with pytest.raises(DataError, match="one of them at a time"):
        engine.search("snow", image=tmp_path / "gone.png")


def test_an_evaluation_is_the_same_twice(recipe, world):
    from sensorium.evaluate.run import evaluated

    def figures() -> object:
        done = evaluated(replace(recipe, recommender=Content()), [], cache=world / "cache", knockout=False).json()
        return without_measures(done)

    assert figures() == figures()


def without_measures(value):
    """The figures without seconds and memory."""
    if isinstance(value, dict):
        return {k: without_measures(v) for k, v in value.items() if "seconds" not in k and "memory" not in k}
    return [without_measures(v) for v in value] if isinstance(value, list) else value


def test_what_is_no_run_is_refused(tmp_path, recipe):
    with pytest.raises(SnapshotError, match="no run here"):
        Engine.open(tmp_path)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(SnapshotError, match="holds something"):
        Engine.train(recipe, tmp_path)


def test_an_event_without_a_person_is_refused(engine):
    with pytest.raises(DataError, match="give user and item"):
        engine.observe([{"item": "x"}])
    with pytest.raises(DataError):
        engine.observe([{"user": "x", "item": "y", "value": float("nan")}])


def test_a_forgetting_that_was_killed_is_finished_at_the_next_opening(tmp_path: Path) -> None:
    from sensorium import runs

    write_demo(tmp_path / "world", items=40, people=40)
    engine = Engine.train(tmp_path / "world" / "demo.toml", tmp_path / "run", cache=tmp_path / "cache")
    name = engine.snapshot.user_ids[3]
    old = runs.current(tmp_path / "run")
    aside = tmp_path / "aside"
    shutil.copytree(old, aside)
    engine.forget(name)
    engine.close()
    shutil.copytree(aside, old)  # as if the process had died before it came to this one
    (tmp_path / "run" / runs.ERASING).touch()
    again = Engine.open(tmp_path / "run", cache=tmp_path / "cache")
    assert name not in again.snapshot.user_ids
    assert [path.name for path in (tmp_path / "run" / "snapshots").iterdir()] == [runs.current(tmp_path / "run").name]
    assert not (tmp_path / "run" / runs.ERASING).exists()


def test_how_pictures_look_is_known_of_new_items_told_in_reasons_and_left_out_where_the_recipe_says_so(
    engine, recipe, world, tmp_path
):
    snapshot = engine.snapshot
    assert {"image", "look"} <= set(snapshot.views)
    assert np.array_equal(snapshot.views["look"].present, snapshot.views["image"].present)
    row = int(np.flatnonzero(snapshot.views["look"].present)[0])
    picture = snapshot.catalog.content["image"][row].paths[0]
    with (world / "world" / "items.csv").open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    with (tmp_path / "new.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerow({"item_id": "again", "title": "The same picture", "image": str(picture)})
    assert engine.add(tmp_path / "new.csv") == 1
    look = engine.snapshot.views["look"]
    new = engine.snapshot.catalog.ids.row("again")
    assert look.present[new]
    assert np.allclose(look.values[new], look.values[row], atol=1e-4)  # rounding differs with the batch
    reasons = [part.source for one in engine.recommend(like=["again"], k=5, explain=True).items for part in one.reasons]
    assert "look" in reasons
    found = engine.search(image=picture, k=60)
    assert found[0].item in ("again", snapshot.catalog.ids[row])
    assert not {"look", "words"} & {one.by for one in found}  # search does without the second views
    bare = replace(recipe, encode={**recipe.encode, "look": "none"})
    without = Engine.train(bare, tmp_path / "bare", cache=world / "cache")
    assert "look" not in without.snapshot.views
    without.close()


def test_five_buys_move_an_item_to_the_top_in_every_process(engine, world):
    other = Engine.open(engine.folder, cache=world / "cache")
    try:
        last = engine.crowd().popular.tolist()[-1]
        name, k = engine.snapshot.catalog.ids[last], len(engine.snapshot.catalog)
        assert other.recommend(k=1).ids() != [name]
        engine.observe([{"user": f"buyer{n}", "item": name, "kind": "buy"} for n in range(5)])
        for one in (engine, other):
            assert one.recommend(k=1).ids() == [name]
            assert one.recommend(user="nobody", k=1).ids() == [name]
            assert one.recommend(k=1, sources=["popular"]).ids() == [name]
            assert one.recommend(k=1, sources=["trending"]).ids() == [name]
            assert one.why(name, one.asked()).place == 1
        assert engine.recommend(k=k).ids() == other.recommend(k=k).ids()
        assert engine.crowd().popular.tolist() == other.crowd().popular.tolist()
    finally:
        other.close()
    again = Engine.open(engine.folder, cache=world / "cache")
    assert again.recommend(k=1).ids() == [name]
    again.close()


def test_popularity_counts_once_over_versions(engine, tmp_path):
    name = engine.snapshot.catalog.ids[int(engine.crowd().popular[-1])]
    row = engine.snapshot.catalog.ids.row(name)
    now = time.time()
    engine.observe([{"user": f"buyer{n}", "item": name, "kind": "buy", "time": now} for n in range(5)])
    before = engine.crowd().popularity
    engine.hide(engine.snapshot.catalog.ids[0])
    np.testing.assert_allclose(engine.crowd().popularity, before, rtol=1e-5)
    engine.refresh()
    np.testing.assert_allclose(engine.crowd().popularity[row], before[row], rtol=1e-5)
    engine.forget("buyer0")
    assert before[row] - engine.crowd().popularity[row] == pytest.approx(1.0, rel=1e-5)
