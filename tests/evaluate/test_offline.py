"""A whole evaluation of stand-in models in a world of stripes, where the right answer is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sensorium.arrays import Floats, Rows
from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, Attributes
from sensorium.data.events import Events, Fold, Histories
from sensorium.data.ids import Ids
from sensorium.data.split import SplitSettings, split
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import silent
from sensorium.evaluate.ask import ask, dropped
from sensorium.evaluate.evaluation import Evaluation
from sensorium.evaluate.metrics import Background
from sensorium.evaluate.offline import evaluate
from sensorium.evaluate.traits import traits_of
from sensorium.fuse.concat import Concat
from sensorium.models.model import Features

USERS, ITEMS, STRIPES = 30, 40, 4


def stripes(each: int = 6, seed: int = 0) -> Events:
    """Person u likes item i where u ≡ i modulo 4: what is held out can be known from what was had."""
    rng = np.random.default_rng(seed)
    pairs = [
        (u, i) for u in range(USERS) for i in rng.permutation(np.arange(u % STRIPES, ITEMS, STRIPES))[:each].tolist()
    ]
    return Events.of([u for u, _ in pairs], [i for _, i in pairs], time=range(len(pairs)), users=USERS, items=ITEMS)


def view(dimension: int = STRIPES) -> Vectors:
    values = np.eye(dimension, dtype=np.float32)[np.arange(ITEMS) % dimension]
    return Vectors(values, np.ones(ITEMS, bool), "stripe")


@dataclass(frozen=True, eq=False)
class NearModel:
    values: Floats

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        near = histories.matrix(len(self.values)) @ self.values @ self.values.T
        return near if candidates is None else near[:, candidates]

    def extended(self, features: Features) -> NearModel:
        return NearModel(features.items.values)


@dataclass(frozen=True)
class Near:
    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> NearModel:
        return NearModel(features.items.values)


@dataclass(frozen=True)
class Level:
    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> NearModel:
        return NearModel(np.zeros((events.items, 1), np.float32))


@dataclass(frozen=True)
class Trial:
    name: str
    ndcg: float
    settings: Any


@dataclass(frozen=True)
class Chooser:
    chosen: Any = None
    trials: tuple[Trial, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> NearModel:
        return self.chosen.fit(events, features, rng=rng)


@dataclass(frozen=True, eq=False)
class Learned:
    features: Features
    model: NearModel
    recommender: Any
    trials: tuple[Trial, ...] = ()
    fusion: Any = None


def learn(
    train: Events, views: dict[str, Vectors], people: None, *, fusion: Concat, recommender: Any, validation: Fold | None,
    seed: int, progress: Any,
) -> Learned:  # fmt: skip
    given = views or {"none": Vectors.absent(train.items, 1, "none")}
    model = fusion.fit(given, train, rng=np.random.default_rng(seed))
    features = Features(model.fuse(given), given)
    if isinstance(recommender, Chooser):
        recommender = Chooser(
            Near(), (Trial("level", 0.1, Level()), Trial("near", 0.9, Near())), {"slow": "over the budget"}
        )
    fitted = recommender.fit(train, features, rng=np.random.default_rng(seed))
    return Learned(features, fitted, recommender, getattr(recommender, "trials", ()))


def evaluated(by: str = "leave-last-out", models: dict[str, Any] | None = None, **more: Any) -> Evaluation:
    parts = split(stripes(), SplitSettings(by=by), seed=0)  # type: ignore[arg-type]
    models = models or {"near": Near(), "level": Level()}
    views = {"text": view(), "image": Vectors.absent(ITEMS, 3, "i")}
    return evaluate(models, parts, views, fusion=Concat(), learn=learn, rounds=100, progress=silent, **more)


def test_nearness_finds_its_stripe_and_a_level_score_earns_what_chance_earns() -> None:
    found = evaluated()
    near, level = found.results
    assert (near.model, level.model) == ("near", "level")
    assert near.metrics["recall@5"] == 1.0  # 10 items of the stripe, 5 seen: the 5 others are tied at the mean rank 2
    assert abs(near.metrics["mrr@10"] - 1 / 3) < 1e-12
    assert level.metrics["recall@10"] == 0.0  # everything tied: the target stands in the middle of 35
    gap = level.paired["recall@10"]
    assert (gap.difference, gap.people) == (1.0, USERS)
    assert gap.p < 0.05


def test_the_json_has_the_shape_that_others_read() -> None:
    found = json.loads(json.dumps(evaluated().json(), allow_nan=False))
    assert list(found) == ["protocol", "results", "slices", "knockout"]
    assert found["protocol"]["split"] == "leave-last-out"
    assert found["protocol"]["users"] == USERS
    assert found["protocol"]["events"] == 180
    assert found["protocol"]["targets"] == USERS
    row = found["results"][0]
    for name in ("recall", "ndcg", "mrr", "map", "hit", "precision", "coverage", "novelty", "diversity", "popularity"):
        for k in (5, 10, 20, 50):
            assert f"{name}@{k}" in row["metrics"], name
    low, high = row["intervals"]["ndcg@10"]
    assert low <= row["metrics"]["ndcg@10"] <= high
    assert row["fit_seconds"] >= 0
    assert row["evaluate_seconds"] >= 0
    assert row["peak_memory_mib"] >= 0


def test_the_knock_out_shows_what_the_only_modality_is_worth() -> None:
    table = evaluated().knockout
    assert table["modalities"] == ["text"]
    assert table["all"]["recall@10"] == 1.0
    assert table["none"]["recall@10"] == table["without"]["text"]["recall@10"] == 0.0
    assert table["none"]["loss"]["recall@10"]["difference"] == 1.0


def test_with_two_modalities_each_is_taken_away_and_left_alone() -> None:
    parts = split(stripes(), SplitSettings(), seed=0)
    noise = Vectors(np.random.default_rng(0).standard_normal((ITEMS, 3)).astype(np.float32), np.ones(ITEMS, bool), "n")
    found = evaluate(
        {"near": Near()}, parts, {"text": view(), "noise": noise}, fusion=Concat(), learn=learn, rounds=50
    ).knockout
    assert set(found["without"]) == set(found["alone"]) == {"text", "noise"}
    assert found["without"]["noise"]["recall@10"] == found["alone"]["text"]["recall@10"] == 1.0
    assert found["without"]["text"]["recall@10"] < 0.9


def test_a_split_by_item_is_ranked_among_the_cold_and_among_all() -> None:
    found = evaluated("items")
    assert found.protocol["candidates"] == 4
    assert found.results[0].metrics["recall@5"] == 1.0
    mixed = found.slices["mixed"].plain()
    assert mixed["targets"] == found.protocol["targets"]
    assert 0 < mixed["metrics"]["recall@5"] <= 1
    assert mixed["models"]["level"]["recall@5"] == 0.0


def test_auto_stands_first_under_the_name_of_its_choice_and_its_candidates_follow() -> None:
    found = evaluated(models={"auto": Chooser()}, knockout=False)
    assert [row.model for row in found.results] == ["near", "level"]
    assert [entry["name"] for entry in found.json()["results"][0]["trials"]] == ["level", "near"]
    assert [row.get("left_out") for row in found.json()["results"]] == [{"slow": "over the budget"}, None]


def test_slices_count_cold_things_and_missing_modalities() -> None:
    train = Events.of([0, 0, 1], [0, 1, 0], users=3, items=4)
    fold = Fold(train, Events.of([0, 1, 2], [2, 1, 0], users=3, items=4))
    half = Vectors(np.eye(4, dtype=np.float32), np.array([True, True, False, True]), "half")
    parts = type(split(stripes(), SplitSettings()))(train, fold, fold, "given")
    found = evaluate({"near": Near()}, parts, {"text": half}, fusion=Concat(), learn=learn, knockout=False, rounds=20)
    sizes = {name: (part.people, part.targets) for name, part in found.slices.items()}
    assert sizes == {
        "cold_items": (1, 1), "rare_items": (2, 2), "cold_users": (1, 1), "new_users": (2, 2), "missing_text": (1, 1),
    }  # fmt: skip


def test_held_out_events_that_are_no_targets_are_counted_by_reason() -> None:
    train = Events.of([0, 1], [0, 1], users=2, items=4)
    held = Events.of([0, 0, 0, 1, 1], [0, 1, 1, 2, 3], kind=[0, 0, 0, 1, 0], kinds=("view", "skip"), users=2, items=4)
    found = dropped(Fold(train, held, candidates=np.array([0, 1, 2])))
    assert found == {
        "targets": 1, "asked": 1, "dropped_negative": 1, "dropped_seen": 1, "dropped_not_candidates": 1,
        "dropped_repeated": 1,
    }  # fmt: skip


def test_lists_hold_nothing_seen_and_nothing_beyond_the_candidates() -> None:
    parts = split(stripes(), SplitSettings(by="items"), seed=0)
    answers = ask(NearModel(view().values), parts.test, Background(np.zeros(ITEMS), USERS))
    had = set(zip(parts.train.user.tolist(), parts.train.item.tolist(), strict=True))
    assert parts.test.candidates is not None
    for user, row in zip(answers.users.tolist(), answers.lists, strict=True):
        shown = row[row >= 0].tolist()
        assert set(shown) <= set(parts.test.candidates.tolist())
        assert not had & {(user, item) for item in shown}


def test_calibration_is_judged_by_the_list_that_most_items_have() -> None:
    facts = [Attributes({"genres": ("a", "b"), "maker": f"m{i}", "shop": "s"}) for i in range(3)]
    catalog = Catalog(Ids("xyzw"), {ATTRIBUTES: [*facts, Attributes({"genres": ("c",), "shop": "t"})]})
    found = traits_of(catalog)
    assert found is not None
    assert found[0] == "genres"
    assert found[1].toarray().tolist() == [[0.5, 0.5, 0]] * 3 + [[0, 0, 1]]
    assert traits_of(Catalog(Ids("x"), {})) is None


def test_none_in_the_knock_out_knows_nothing_but_who_did_what() -> None:
    seen: list[tuple[set[str], bool, bool]] = []

    def watching(train, views, people, **more):  # type: ignore[no-untyped-def]
        seen.append((set(views), people is not None, "reviews" in more))
        more.pop("reviews", None)
        return learn(train, views, people, **more)

    parts = split(stripes(), SplitSettings(), seed=0)
    people = Vectors(np.ones((USERS, 2), np.float32), np.ones(USERS, bool), "p")
    table = evaluate(
        {"near": Near()}, parts, {"text": view()}, people, fusion=Concat(), learn=watching, rounds=20, reviews=object()
    ).knockout
    assert table["modalities"] == ["text", "people", "reviews"]
    assert seen[-1] == (set(), False, False)  # none
    assert (set(), True, False) in seen  # people alone
    assert ({"text"}, True, False) in seen  # without reviews
