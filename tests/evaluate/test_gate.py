"""The gate: a good candidate passes, every kind of bad one is refused, whatever is wrong with it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sensorium import snapshot as snapshots
from sensorium.checks.worlds import write_demo
from sensorium.data.catalog import Catalog
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.engine import Engine, Live
from sensorium.evaluate.gate import Bounds, _lists, _ndcg, judged
from sensorium.feedback.store import Entry
from sensorium.models.popularity import Popularity
from sensorium.snapshot import Snapshot

HIDDEN = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    write_demo(folder / "world", items=60, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "itemknn"\n'
    (folder / "world" / "near.toml").write_text(recipe)
    engine = Engine.train(folder / "world" / "near.toml", out=folder / "run", cache=folder / "cache")
    engine.hide(engine.snapshot.catalog.ids[HIDDEN])
    # People do what a model of the next version foretells, so that whoever foretells worse is found out.
    taught(engine, engine)
    shutil.copytree(folder / "run", folder / "next")
    learnt = Engine.open(folder / "next", cache=folder / "cache")
    learnt.refresh()
    taught(engine, learnt)
    engine.close()
    return folder


def taught(engine: Engine, by: Engine) -> None:
    """Everybody does the four things that another one foretells."""
    last = float(engine.snapshot.events.time[-1])
    engine.observe([
        {"user": user, "item": one.item, "kind": "view", "time": last}
        for user in engine.snapshot.user_ids for one in by.recommend(user, 4).items
    ])  # fmt: skip


@pytest.fixture
def engine(world: Path, tmp_path: Path) -> Engine:
    shutil.copytree(world / "run", tmp_path / "run")
    return Engine.open(tmp_path / "run", cache=world / "cache")


@pytest.fixture(scope="module")
def good(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, list[Entry]]:
    """A candidate that passes, and the events it is asked for."""
    folder = tmp_path_factory.mktemp("good")
    shutil.copytree(world / "run", folder / "run")
    engine = Engine.open(folder / "run", cache=world / "cache")
    verdict, version = engine.candidate(folder / "run" / "snapshots" / ".candidate", share=0.5)
    assert verdict.passed, verdict.reasons
    assert version.position == 160
    snapshot = snapshots.read(folder / "run" / "snapshots" / ".candidate")
    return snapshot, engine.store.read(160)  # type: ignore[union-attr]


def cut(vectors: Vectors) -> Vectors:
    return vectors.take(np.arange(len(vectors) - 1))


def holed(vectors: Vectors) -> Vectors:
    values = vectors.values.copy()
    values[5] = np.nan
    return Vectors(values, vectors.present, vectors.source)


def fewer_items(snapshot: Snapshot) -> Snapshot:
    keep = np.arange(len(snapshot.catalog) - 1)
    events = snapshot.events.take(snapshot.events.item < len(keep))
    features = replace(
        snapshot.features, items=snapshot.features.items.take(keep),
        views={m: v.take(keep) for m, v in snapshot.features.views.items()},
    )  # fmt: skip
    return replace(
        snapshot, features=features, views={m: v.take(keep) for m, v in snapshot.views.items()},
        events=replace(events, items=len(keep)),
        catalog=Catalog(
            Ids(snapshot.catalog.ids.names(keep)), {m: c[:-1] for m, c in snapshot.catalog.content.items()},
            snapshot.catalog.titles[:-1],
        ),
    )  # fmt: skip


def other_people(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, user_ids=Ids([f"other {name}" for name in snapshot.user_ids]))


def forgetful(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, events=snapshot.events.take(snapshot.events.user != 7))


def inventive(snapshot: Snapshot) -> Snapshot:
    item = snapshot.events.item.copy()
    item[snapshot.events.user == 7] = 0
    return replace(snapshot, events=replace(snapshot.events, item=item))


def one_list(snapshot: Snapshot) -> Snapshot:
    model = Popularity().fit(snapshot.events, snapshot.features.without_content(), rng=np.random.default_rng(0))
    return replace(snapshot, model=model)


def contrary(snapshot: Snapshot) -> Snapshot:
    weights = snapshot.model.weights.copy()  # type: ignore[attr-defined]
    weights.data = -weights.data
    return replace(snapshot, model=replace(snapshot.model, weights=weights))  # type: ignore[type-var]


def endless(snapshot: Snapshot) -> Snapshot:
    weights = snapshot.model.weights.copy()  # type: ignore[attr-defined]
    weights.data[:] = np.nan
    return replace(snapshot, model=replace(snapshot.model, weights=weights))  # type: ignore[type-var]


def everything_hidden(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, hidden=tuple(range(len(snapshot.catalog))))


def blind(snapshot: Snapshot) -> Snapshot:
    views = {m: v.masked(np.arange(len(v)) % 2 == 0) for m, v in snapshot.views.items()}
    return replace(snapshot, views=views)


# What is wrong with a candidate, and a word of why it is refused.
BAD: dict[str, tuple[Callable[[Snapshot], Snapshot], str]] = {
    "another recipe": (lambda s: replace(s, recipe=s.recipe.replace("itemknn", "popularity")), "another recipe"),
    "holes in the space": (lambda s: replace(s, features=replace(s.features, items=holed(s.features.items))), "finite"),
    "holes in a view": (lambda s: replace(s, views={m: holed(v) for m, v in s.views.items()}), "finite"),
    "a view too short": (lambda s: replace(s, views={m: cut(v) for m, v in s.views.items()}), "rows for 60 items"),
    "contents lost": (blind, "items have it"),
    "items missing": (fewer_items, "1 items are missing"),
    "other people": (other_people, "40 people are missing"),
    "a history lost": (forgetful, "another history"),
    "a history invented": (inventive, "another history"),
    "rows beyond": (lambda s: replace(s, events=replace(s.events, item=s.events.item + 50)), "an event names item"),
    "hidden shown": (lambda s: replace(s, hidden=()), "hidden items would be shown"),
    "behind in the log": (lambda s: replace(s, position=-1), "read the log up to -1"),
    "ahead in the log": (lambda s: replace(s, position=10_000), "beyond"),
    "empty lists": (everything_hidden, "empty"),
    "one list for all": (one_list, "worse"),
    "scores that are no numbers": (endless, "empty"),
    "foretells worse": (contrary, "worse"),
    "another shape of model": (lambda s: replace(s, model=replace(s.model, weights=s.model.weights[:, :9])), "answer"),  # type: ignore[attr-defined,type-var]
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_candidate_is_refused(
    kind: str, engine: Engine, good: tuple[Snapshot, list[Entry]], tmp_path: Path
) -> None:
    snapshot, asked = good
    spoil, why = BAD[kind]
    before = [engine.recommend(user, 5) for user in engine.snapshot.user_ids]
    place = tmp_path / "run" / "snapshots" / ".candidate"
    snapshots.write(spoil(snapshot), place)
    verdict = engine.judge(place, asked)
    assert not verdict.passed
    assert any(why in reason for reason in verdict.reasons), verdict.reasons
    assert [engine.recommend(user, 5) for user in engine.snapshot.user_ids] == before


@pytest.mark.parametrize("kind", ["bytes", "torn", "format", "manifest", "missing", "nothing"])
def test_damaged_files_are_refused(
    kind: str, engine: Engine, good: tuple[Snapshot, list[Entry]], tmp_path: Path
) -> None:
    place = tmp_path / "run" / "snapshots" / ".candidate"
    snapshots.write(good[0], place)
    arrays, manifest = place / "arrays.safetensors", place / "manifest.json"
    raw = bytearray(arrays.read_bytes())
    if kind == "bytes":
        raw[-100] ^= 1
        arrays.write_bytes(raw)
    elif kind == "torn":
        arrays.write_bytes(raw[: len(raw) // 2])
    elif kind == "format":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    elif kind == "manifest":
        manifest.write_text(manifest.read_text().replace('"hidden"', '"hiddem"'))
    elif kind == "missing":
        (place / "catalog.jsonl").unlink()
    else:
        shutil.rmtree(place)
    verdict = engine.judge(place, good[1])
    assert not verdict.passed
    assert len(verdict.reasons) == 1


class Odd:
    """A model that answers as another one, but for one thing."""

    def __init__(self, model: object, *, seconds: float = 0.0, chance: float = 0.0) -> None:
        self.model, self.seconds, self.chance, self.rng = model, seconds, chance, np.random.default_rng(0)

    def score(self, histories, candidates=None):  # type: ignore[no-untyped-def]
        time.sleep(self.seconds)
        scores = self.model.score(histories, candidates)  # type: ignore[attr-defined]
        return scores + self.chance * self.rng.standard_normal(scores.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("odd", "sizes", "why"),
    [
        ({"seconds": 0.04}, {}, "an answer takes"), ({"chance": 1.0}, {}, "asked the same again"),
        ({}, {"present": 2**20, "candidate": 2**28}, "256.0 times"), ({}, {}, ""),
    ],
)  # fmt: skip
def test_slow_fickle_and_huge_ones_are_refused(
    odd: dict[str, float], sizes: dict[str, int], why: str, engine: Engine, good: tuple[Snapshot, list[Entry]]
) -> None:
    candidate = Live(replace(good[0], model=Odd(good[0].model, **odd)))  # type: ignore[arg-type]
    log = lambda user, after: engine.store.read(after, user=user)  # type: ignore[union-attr]  # noqa: E731
    verdict = judged(
        engine.live, candidate, good[1], log, end=engine.store.end, bounds=Bounds(people=60), sizes=sizes  # type: ignore[union-attr]
    )  # fmt: skip
    assert verdict.passed == (not why)
    assert not why or any(why in reason for reason in verdict.reasons), verdict.reasons


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ([(0, 1), (2, 3)], ""), ([(0, 1), (2,)], "3 of 4 places"), ([(0, 1), ()], "1 lists are empty"),
        ([(0, 1)] * 5, "2 different items"), ([(0, 1), (4, 5), (2, 3), (6, 7), (8, 9)], ""),
    ],
)  # fmt: skip
def test_lists_must_not_collapse(after: list[tuple[int, ...]], why: str, engine: Engine) -> None:
    names = engine.snapshot.catalog.ids
    before = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)][: len(after)]
    lists = {
        k: [tuple(names[row] for row in one) for one in some] for k, some in (("present", before), ("candidate", after))
    }
    reasons = _lists(engine.live, lists, Bounds(spread=0), {})
    assert bool(reasons) == bool(why)
    assert not why or why in reasons[0]


def test_lists_of_one_kind_are_told(engine: Engine) -> None:
    space = engine.snapshot.features.items.values
    near = space @ space[0]
    names = engine.snapshot.catalog.ids
    alike, mixed = (tuple(names[int(row)] for row in order[:8]) for order in (np.argsort(-near), np.argsort(near)))
    mixed = (names[0], *mixed[:1])
    figures: dict[str, object] = {}
    reasons = _lists(engine.live, {"present": [mixed], "candidate": [alike]}, Bounds(full=0, spread=0.9), figures)
    assert "of one kind" in reasons[0]


def test_ndcg_is_that_of_the_book() -> None:
    assert _ndcg(["a", "b", "c"], {"a"}) == 1
    assert _ndcg(["a", "b", "c"], {"b"}) == pytest.approx(1 / np.log2(3))
    assert _ndcg(["a", "b", "c"], {"a", "c"}) == pytest.approx((1 + 0.5) / (1 + 1 / np.log2(3)))
    assert _ndcg([], {"a"}) == 0
