"""Items as documents: what of one comes to nothing is told, with its column, and the rest is used."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Running

from sensorium.feedback.store import Document
from sensorium.recipe import Recipe, recipe_of
from sensorium.serve.documents import Places, told


@pytest.fixture
def recipe() -> Recipe:
    recipe = recipe_of(items=["items.csv"])
    kinds: Any = {"price": "number", "since": "date", "tags": "list"}
    vectors = {"own": "embedding"}
    return replace(
        recipe, items=replace(recipe.items, title="title", text=("title",), attributes=kinds, vectors=vectors)
    )


def problems(recipe: Recipe, folder: Path, *bodies: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    documents = [Document(body["item_id"], body, place + 1) for place, body in enumerate(bodies)]
    items, _, failed = told(documents, recipe, Places(folder))
    return items, failed


def test_each_item_is_told_its_own_problems_alone(recipe: Recipe, tmp_path: Path) -> None:
    items, failed = problems(
        recipe, tmp_path,
        {"item_id": "good", "title": "a", "price": 3, "since": "2024-02-24", "tags": ["x"], "embedding": [1.0, 2.0]},
        {"item_id": "odd", "title": "b", "price": "cheap", "since": "soon", "colour": "red", "weight": {"kg": 1}},
        {"item_id": "short", "title": "c", "price": 0, "embedding": [1.0, "x"], "tags": [], "colour": ""},
        {"item_id": "long", "title": "d", "price": None, "embedding": [1.0, 2.0], "hidden": False},
    )  # fmt: skip
    assert list(items.ids) == ["good", "odd", "short", "long"]
    assert failed == {
        "odd": "price: 'cheap' is no number; since: 'soon' is no date; "
        "colour: not used, the recipe does not name it; weight: not used, the recipe does not name it",
        "short": "embedding: no vector of finite numbers, as long as those of other items",
    }


def test_a_value_of_a_strange_type_is_told_too(recipe: Recipe, tmp_path: Path) -> None:
    _, failed = problems(recipe, tmp_path, {"item_id": "odd", "title": "b", "price": {"eur": 3}})
    assert failed["odd"].startswith("price: ")
    _, failed = problems(recipe, tmp_path, {"item_id": "nan", "title": "b"}, {"item_id": "b", "title": "b"})
    assert list(failed) == ["nan"]


def test_a_file_that_is_not_there_is_told_by_its_column(recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, items=replace(recipe.items, image=("image",)))
    lost = f"upload:{'0' * 32}.jpg"
    _, failed = problems(recipe, tmp_path, {"item_id": "gone", "title": "", "kind": "g", "image": lost})
    assert failed["gone"].split("; ")[0] == "image: no such file"


def test_over_http_the_item_has_the_problem_until_it_is_mended(server: Running) -> None:
    def until(there: Any) -> None:
        begin = time.monotonic()
        while not there():
            assert time.monotonic() - begin < 20
            time.sleep(0.05)

    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=60) as client:
        odd = {"item_id": "odd", "title": "A train", "price": "cheap"}
        client.post("/v1/items", json={"items": [odd]}).raise_for_status()
        until(lambda: "problem" in client.get("/v1/items/odd").json())
        assert client.get("/v1/items/odd").json()["problem"] == "price: 'cheap' is no number"
        client.post("/v1/items", json={"items": [{"item_id": "odd", "price": 12}]}).raise_for_status()
        until(lambda: "problem" not in client.get("/v1/items/odd").json())
        assert client.get("/v1/items/odd").json()["price"] == 12
