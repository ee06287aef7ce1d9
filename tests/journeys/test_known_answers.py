"""The whole path on the generated world, in which the right answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sensorium.checks.worlds import Truth, write_demo
from sensorium.engine import Engine
from sensorium.recipe import RECOMMENDERS, read_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Engine, Truth]:
    folder = tmp_path_factory.mktemp("demo")
    truth = write_demo(folder, items=180, people=150)
    recipe = dataclasses.replace(read_recipe(folder / "demo.toml"), recommender=RECOMMENDERS.make("ease"))
    return Engine.train(recipe, cache=folder / "cache"), truth


def test_recommendations_please(demo) -> None:
    engine, truth = demo
    pleasure = [truth.pleasure(user, engine.recommend(user=user, k=5).ids()) for user in truth.users]
    assert np.mean(pleasure) > 0.62  # chance is 0.5, and what pleases most has been seen already


def test_an_item_nobody_touched_is_found_by_its_content(demo) -> None:
    engine, truth = demo
    cold = [made for made in truth.items if made.cold and made.title]
    assert len(cold) >= 5
    better = []
    for one in cold:
        like = truth.about(one.theme, cold=False)[:3]
        other = next(made for made in cold if made.theme != one.theme)
        ids = engine.recommend(like=like, k=170).ids()
        better.append(ids.index(one.id) < ids.index(other.id) if {one.id, other.id} <= set(ids) else one.id in ids)
    assert np.mean(better) >= 0.8


@pytest.mark.parametrize(
    ("words", "theme", "language"),
    [
        ("蒸汽火车", "train", "en"),  # a Chinese query finds what is described in English …
        ("树林里的小路", "forest", "en"),
        ("a sailing boat on the ocean", "sea", "zh"),  # … and the other way round
        ("sand dunes and cactus", "desert", "zh"),
    ],
)
def test_words_of_one_language_find_the_other(demo, words: str, theme: str, language: str) -> None:
    engine, truth = demo
    found = [entry.item for entry in engine.search(words, k=12)]
    assert sum(item in truth.about(theme) for item in found) >= 7  # a sixth would be chance
    assert set(found) & set(truth.about(theme, language=language))


def test_words_find_media(demo) -> None:
    engine, truth = demo
    found = engine.search("mountain peaks", k=20)
    assert {entry.by for entry in found} & {"image", "audio", "video"}
    assert np.mean([entry.item in truth.about("mountain") for entry in found]) > 0.5


def test_a_stranger_with_three_events_is_served(demo) -> None:
    engine, truth = demo
    sea = truth.about("sea", cold=False)[:3]
    engine.observe([{"user": "a stranger", "item": item, "kind": "buy", "time": 1.74e9} for item in sea])
    ids = engine.recommend(user="a stranger", k=10).ids()
    assert not set(ids) & set(sea)
    assert sum(item in truth.about("sea") for item in ids) >= 4
