"""Searching for settings: on validation alone, the same in one sitting as in two, and never on other data's studies."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium import cli, say
from sensorium.build import Material, gather
from sensorium.errors import DataError, RecipeError
from sensorium.evaluate import tuning
from sensorium.evaluate.tuning import SPACES, Tuning, tune
from sensorium.models.blend import BlendModel
from sensorium.recipe import RECOMMENDERS, Recipe, read_recipe, recipe_of

PEOPLE, ITEMS = 60, 24


def write(folder: Path, *, other_test: bool = False) -> dict[str, str]:
    """Three files of a crowd with two tastes; the test file's items may be all another."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for person in range(PEOPLE):
        items = 2 * rng.permutation(ITEMS // 2) + person % 2
        for place, item in enumerate(items[:8].tolist()):
            part = "train" if place < 6 else ("valid", "test")[place - 6]
            rows[part].append(f"{person},{0 if part == 'test' and other_test else item}")
    folder.mkdir(parents=True, exist_ok=True)
    for part, lines in rows.items():
        (folder / f"{part}.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    return {part: str(folder / f"{part}.csv") for part in rows}


def gathered(folder: Path, **how: bool) -> tuple[Material, Recipe]:
    recipe = recipe_of(**write(folder, **how))  # type: ignore[arg-type]
    return gather(recipe, folder / "cache"), recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Material, Recipe]:
    return gathered(tmp_path_factory.mktemp("tuning"))


def test_two_sittings_find_what_one_finds(world: tuple[Material, Recipe], tmp_path: Path) -> None:
    material, recipe = world
    whole = tune(material, recipe, tmp_path / "one", models=("ease",), trials=12)
    tune(material, recipe, tmp_path / "two", models=("ease",), trials=5)
    assert tune(material, recipe, tmp_path / "two", models=("ease",), trials=12) == whole
    tried = whole.tried[0]
    assert tried.finished + tried.pruned == 12
    assert tried.ndcg >= tried.default  # the plain settings were the first trial


@pytest.mark.parametrize("killed", [1, 4])
def test_a_trial_that_was_killed_is_asked_again(
    world: tuple[Material, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    material, recipe = world
    whole = tune(material, recipe, tmp_path / "one", models=("itemknn",), trials=6)
    kind, left = RECOMMENDERS["itemknn"], [killed]
    fit = kind.fit

    def stopped(self: object, *given: object, **named: object) -> object:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return fit(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            tune(material, recipe, tmp_path / "two", models=("itemknn",), trials=6)
    assert tune(material, recipe, tmp_path / "two", models=("itemknn",), trials=6) == whole


def test_another_test_part_finds_the_same(world: tuple[Material, Recipe], tmp_path: Path) -> None:
    before = tune(*world, tmp_path / "a", models=("itemknn",), trials=6)
    assert tune(*gathered(tmp_path / "b", other_test=True), tmp_path / "b", models=("itemknn",), trials=6) == before


def test_studies_of_other_data_are_refused(world: tuple[Material, Recipe], tmp_path: Path) -> None:
    material, recipe = world
    tune(material, recipe, tmp_path, models=("popularity",), trials=1)
    with pytest.raises(DataError, match="other data"):
        tune(material, recipe.seeded(7), tmp_path, models=("popularity",), trials=1)
    with pytest.raises(RecipeError, match="did you mean 'ease'"):
        tune(material, recipe, tmp_path, models=("eas",), trials=1)


@pytest.mark.parametrize("content", [b"no data base", b"SQLite format 3\0" + bytes(2_000)])
def test_damaged_studies_are_told_in_one_line(world: tuple[Material, Recipe], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "studies.db").write_bytes(content)
    with pytest.raises(DataError, match=r"studies.db: cannot be read as studies \("):
        tune(*world, tmp_path, models=("popularity",), trials=1)


def test_a_search_starts_from_what_the_recipe_says_however_far_out(
    world: tuple[Material, Recipe], tmp_path: Path
) -> None:
    material, recipe = world
    far = replace(recipe, recommender=RECOMMENDERS.make("ease", {"l2": 20_000.0}))
    found = tune(material, far, tmp_path, models=("ease",), trials=1)
    assert found.tried[0].settings.l2 == 20_000.0
    with pytest.raises(DataError, match="starting settings"):  # values of another start are not told beside this one's
        tune(material, recipe, tmp_path, models=("ease",), trials=2)


def test_after_its_minutes_no_trial_begins_and_the_next_call_goes_on(
    world: tuple[Material, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material, recipe = world
    own = replace(recipe, recommender=RECOMMENDERS.make("blend", {"use": ["popularity", "ease", "content"]}))
    whole = tune(material, own, tmp_path / "one", trials=8)
    assert whole.left_out == {"content": "no item has content"}
    assert whole.waiting == 0
    value, now = tuning._value, [0.0]

    def slow(*given: Any) -> float:
        now[0] += 60.0  # every trial takes a minute, and so does the blend
        return value(*given)

    def cut(folder: str, minutes: float, **more: Any) -> Tuning:
        return tune(material, own, tmp_path / folder, trials=8, minutes=minutes, clock=lambda: now[0], **more)

    monkeypatch.setattr(tuning, "_value", slow)
    first = cut("two", 6.0)
    assert [one.finished + one.pruned for one in first.tried] == [3, 3]  # half of the time each
    assert first.waiting == 10
    assert cut("two", 12.0) == whole  # the first needs five minutes, and leaves the second what is over
    steps: list[tuple[int, int]] = []
    short = cut("three", 0.5, progress=lambda stage, done, total: steps.append((done, total)))
    assert [one.name for one in short.tried] == ["popularity"]
    assert (short.chosen, short.blend, short.waiting) == ("popularity", None, 15)
    assert short.left_out["ease"] == "no time for a trial was left; the same command goes on"
    assert steps[-1] == (16, 16)
    for minutes in (0.0, -1.0, float("nan")):
        with pytest.raises(RecipeError, match="give a number above 0"):
            cut("four", minutes)
    ticks = itertools.count(step=60)
    with pytest.raises(RecipeError, match=r"no trial ended within 0\.1 minutes"):
        tune(material, own, tmp_path / "five", minutes=0.1, clock=lambda: float(next(ticks)))


@pytest.mark.parametrize("name", ["hybrid", "lightgcn", "coldaligner"])
def test_what_is_trained_can_be_searched(world: tuple[Material, Recipe], tmp_path: Path, name: str) -> None:
    material, recipe = world
    quick = replace(recipe, recommender=RECOMMENDERS.make(name, {"epochs": 5, "size": 32}))
    found = tune(material, quick, tmp_path, models=(name,), trials=3)
    assert (found.chosen, found.tried[0].finished) == (name, 3)


def test_a_line_up_that_the_data_do_not_feed_is_told(world: tuple[Material, Recipe], tmp_path: Path) -> None:
    material, recipe = world
    own = replace(recipe, recommender=RECOMMENDERS.make("blend", {"use": ["content"]}))
    with pytest.raises(RecipeError, match="nothing is left to search; content: no item has content"):
        tune(material, own, tmp_path)


def test_the_members_of_the_recipes_blend_are_searched_from_what_it_says_of_them(
    world: tuple[Material, Recipe], tmp_path: Path
) -> None:
    material, recipe = world
    blend = {"use": ["popularity", "ease"], "ease": {"l2": 20_000.0, "near": 50}}
    own = replace(recipe, recommender=RECOMMENDERS.make("blend", blend))
    found = tune(material, own, tmp_path / "all", trials=1)
    assert [one.name for one in found.tried] == ["popularity", "ease"]
    assert found.blend is not None
    assert (found.tried[1].settings.l2, found.tried[1].settings.near) == (20_000.0, 50)
    alone = tune(material, own, tmp_path / "one", models=("ease",), trials=1)
    assert alone.recommender.l2 == 20_000.0
    alien = replace(recipe, recommender=RECOMMENDERS.make("blend", {"use": ["ease", "lstm"]}))
    with pytest.raises(RecipeError, match="lstm of the recipe's blend has no space"):
        tune(material, alien, tmp_path / "alien", trials=1)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_a_blend_is_chosen_only_where_it_is_better_than_each_member_alone(
    world: tuple[Material, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    material, recipe = world
    own = replace(recipe, recommender=RECOMMENDERS.make("blend", {"use": ["popularity", "ease"]}))
    members = tune(material, own, tmp_path, models=("popularity", "ease"), trials=2)
    assert (members.chosen, members.blend) == ("ease", None)
    assert members.why() == "the best of those searched"
    monkeypatch.setattr(tuning, "_value", lambda *given: factor * members.ndcg)  # of the blend: no trial is left
    found = tune(material, own, tmp_path, trials=2)
    assert found.tried == members.tried
    assert found.blend == factor * members.ndcg
    if factor > 1:
        assert (found.chosen, RECOMMENDERS.name_of(found.recommender)) == ("blend", "blend")
        assert found.why() == f"for ease, the best alone, reaches {members.ndcg:.4f}"
    else:
        assert (found.chosen, found.recommender, found.ndcg) == ("ease", members.recommender, members.ndcg)
        assert found.why() == f"for the blend of all reaches no more: {found.blend:.4f}"
    say.tuning(found.plain())


@pytest.mark.parametrize("name", SPACES)
def test_a_space_names_fields_and_holds_the_plain_settings(name: str) -> None:
    settings = RECOMMENDERS.make(name)
    for field, span in SPACES[name].items():
        assert span.holds(getattr(settings, field)), field


@pytest.mark.parametrize("better", ["blend", "ease"])
def test_the_command_writes_a_recipe_that_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, better: str
) -> None:
    value = tuning._value

    def told(model: Any, *given: Any) -> float:
        return float(better == "blend") if isinstance(model, BlendModel) else value(model, *given)

    monkeypatch.setattr(tuning, "_value", told)
    files = write(tmp_path / "data")
    words = ["tune", "--trials", "2", "--out", tmp_path / "tuned", "--cache", tmp_path / "cache", "--json"]
    for part, path in files.items():
        words += [f"--{part}", path]
    monkeypatch.setattr(sys, "argv", ["sensorium", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = read_recipe(done["recipe"])
    assert RECOMMENDERS.name_of(found.recommender) == done["chosen"] == better
    if better == "blend":
        assert set(found.recommender.weights) == set(found.recommender.use) == {one["name"] for one in done["tried"]}
    material = gather(found, tmp_path / "cache")
    model = found.recommender.fit(material.dataset.given["train"], _features(material), rng=np.random.default_rng(0))
    assert np.isfinite(model.score(material.dataset.given["train"].histories([0]))).all()


@pytest.mark.parametrize("quiet", [True, False])
def test_the_table_is_printed_to_the_quiet_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    words = [
        "tune",
        "--trials",
        "1",
        "--model",
        "popularity",
        "--out",
        tmp_path / "tuned",
        "--cache",
        tmp_path / "cache",
    ]
    for part, path in write(tmp_path / "data").items():
        words += [f"--{part}", path]
    monkeypatch.setattr(sys, "argv", ["sensorium", *map(str, words), *(["-q"] if quiet else [])])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    told = capsys.readouterr()
    head, _line, row, *notes = [line for line in told.out.splitlines() if line.strip()]
    assert head.split()[:3] == ["recommender", "plain", "tuned"]
    assert row.split()[:2] == ["→", "popularity"]
    assert bool(notes) is not quiet
    assert not quiet or told.err == ""


def _features(material: Material):
    from sensorium.data.vectors import Vectors
    from sensorium.models.model import Features

    return Features(Vectors.absent(len(material.dataset.catalog), 1, "none"))
