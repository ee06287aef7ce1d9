"""A version made of the one before answers as one whose tables are made anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sensorium.checks.worlds import write_demo
from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes, Content, Text
from sensorium.data.ids import Ids
from sensorium.engine import Engine
from sensorium.index.cells import Cells
from sensorium.live import Live
from sensorium.models.blend import Blend
from sensorium.rank.query import Query
from sensorium.recipe import read_recipe

USE = Blend(use=("content", "ials"), weights={"content": 1.0, "ials": 0.7})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    write_demo(folder / "world", items=60, people=40)
    recipe = replace(read_recipe(folder / "world" / "demo.toml"), recommender=USE)
    Engine.train(recipe, folder / "run", cache=folder / "cache").close()
    return folder


@pytest.mark.parametrize("celled", [False, True])
def test_whatever_is_told_of_items_answers_are_those_of_tables_made_anew(
    world: Path, tmp_path: Path, celled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if celled:
        monkeypatch.setattr("sensorium.live.EXACT_UP_TO", 10)
    engine = Engine.open(world / "run", cache=world / "cache", store=tmp_path / "log.sqlite")
    engine.live.warmed()
    names = list(engine.snapshot.catalog.ids)
    rng = np.random.default_rng(1)
    people = [*list(engine.snapshot.user_ids)[:4], "nobody"]
    for turn in range(12):
        fresh = [f"new{turn}.{n}" for n in range(rng.integers(3))]
        told = [*fresh, *rng.choice(names, int(rng.integers(3)), replace=False).tolist()]
        # Somebody acts upon what is not known yet, and upon what is known.
        engine.observe([{"user": f"p{turn}", "item": one, "kind": "buy"} for one in (f"new{turn + 1}.0", names[turn])])
        content: dict[str, list[Content | None]] = {
            "text": [Text((("title", f"A train in the night {turn}"),)) for _ in told],
            "attributes": [
                Attributes({"form": "card" if n % 2 else "odd", "price": float(turn)}) for n, _ in enumerate(told)
            ],
        }
        hidden = {str(rng.choice(names)): bool(rng.integers(2))}
        engine.take_in(Catalog(Ids(told), content, [f"T{turn}" for _ in told]), hidden=hidden, documents=turn + 1)
        emptied = Catalog(Ids([names[-turn - 1]]), {})  # of which nothing is left
        engine.take_in(emptied, hidden={}, documents=turn + 1, stated={names[-turn - 1]: None})
        live = engine.live
        assert live.warm
        assert isinstance(live.index, Cells) is celled
        alone = Live(live.snapshot, live.name)
        if celled:
            assert isinstance(alone.index, Cells)
            alone.__dict__["index"] = replace(alone.index)
        alone.warmed()
        now, then = engine.crowd(), engine._held.crowd(alone)
        assert np.allclose(now.popularity, then.popularity)
        assert now.popular.tolist() == then.popular.tolist()
        assert live.lookup.new.tolist() == alone.lookup.new.tolist()
        assert live.lookup.columns.keys() == alone.lookup.columns.keys()
        for name, column in live.lookup.columns.items():
            other = alone.lookup.columns[name]
            assert np.array_equal(column.numbers, other.numbers, equal_nan=True)
            assert {w: rows.tolist() for w, rows in column.words.items()} == {
                w: r.tolist() for w, r in other.words.items()
            }
        for user in people:
            for query in (Query(user=user, k=30), Query(user=user, k=10, diversity=0.4, sources=("popular", "new"))):
                mine = engine.answer(query)
                engine._held._live = alone
                fresh = engine.answer(query)
                engine._held._live = live
                assert mine.ids() == fresh.ids(), (turn, user)
                assert np.allclose([one.score for one in mine.items], [one.score for one in fresh.items], atol=1e-4)
        found = engine.recommend(k=60, rules=["form = odd"], repeat=True) if turn and len(told) else None
        if found is not None:
            rows = [
                row
                for row, one in enumerate(live.snapshot.catalog.content["attributes"])
                if isinstance(one, Attributes) and one.values.get("form") == "odd"
            ]
            shown = {live.snapshot.catalog.ids[row] for row in rows if row not in live.hidden}
            assert set(found.ids()) <= shown
    engine.close()
