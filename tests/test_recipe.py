"""The recipe: every section, every kind of mistake, and the text a run keeps."""

import dataclasses
from pathlib import Path

import pytest

from sensorium.errors import RecipeError
from sensorium.recipe import FUSIONS, RECOMMENDERS, Recipe, dump, read_recipe, read_recipe_text, recipe_of

FULL = """
seed = 7
strict = true
recommender = "ease"

[items]
files = ["a.csv", "b.csv"]
id = "key"
text = ["name", "plot"]
image = "poster"
attributes = { year = "number", genres = "list" }
vectors = { look = "look.npy" }

[users]
files = "users.csv"

[events]
files = "events/*.parquet"
time = ""
[events.kinds]
view = 1
"watched twice" = 2.5

[split]
by = "time"
test = 0.2

[encode]
text = "minilm"

[answer]
k = 20
"""


def test_every_section_is_read(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(FULL)
    recipe = read_recipe(path)
    assert recipe.folder == tmp_path
    assert recipe.items.files == ("a.csv", "b.csv")
    assert recipe.items.image == ("poster",)
    assert recipe.items.attributes == {"year": "number", "genres": "list"}
    assert recipe.events.time == ""
    assert recipe.kind_weights() == {"view": 1.0, "watched twice": 2.5}
    assert recipe.split.by == "time"
    assert recipe.split.test == 0.2
    assert RECOMMENDERS.name_of(recipe.recommender) == "ease"
    assert (recipe.seed, recipe.strict, recipe.answer.k) == (7, True, 20)


def same(one: Recipe, two: Recipe) -> bool:
    plain = {"folder": Path(), "where": ""}
    return dataclasses.replace(one, **plain) == dataclasses.replace(two, **plain)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_every_recommender_is_dumped_under_its_name(name):
    recipe = read_recipe_text(f'[recommender]\nname = "{name}"')
    assert RECOMMENDERS.name_of(recipe.recommender) == name
    assert same(recipe, read_recipe_text(dump(recipe)))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("ease", "l2 = inf"), ("ials", "alpha = nan"), ("hybrid", "learning_rate = inf"),
        ("blend", "weights = { ease = -1 }"), ("blend", "weights = { ease = nan }"),
        ("blend", "by_length = { 5 = { ease = inf } }"),
    ],
)  # fmt: skip
def test_a_number_that_no_model_can_use_is_one_line(name, setting):
    with pytest.raises(RecipeError, match="should be a number"):
        read_recipe_text(f'[recommender]\nname = "{name}"\n{setting}')


@pytest.mark.parametrize(
    "text", [FULL, "", '[split]\ntrain = "a"\ntest = ["b", "c"]', '[fusion]\nname = "concat"\nsize = 9']
)
def test_what_is_dumped_reads_as_the_same_recipe(text):
    recipe = read_recipe_text(text)
    again = read_recipe_text(dump(recipe))
    assert same(recipe, again)
    assert dump(again) == dump(recipe)


@pytest.mark.parametrize(
    "name", ["popularity", "content", "itemknn", "ease", "directed", "ials", "profile", "blend", "auto"]
)
def test_every_closed_form_recommender_is_made_and_dumped(name):
    recipe = recipe_of(items="x.csv", recommender=name)
    assert same(read_recipe_text(dump(recipe)), recipe)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item = 1", r"r\.toml: unknown key 'item'; did you mean 'items'"),
        ("[items]\nimages = 'a'", r"r\.toml \[items\]: unknown key 'images'; did you mean 'image'"),
        ("[items]\nattributes = { a = 'nubmer' }", "did you mean 'number'"),
        ("[items]\nfiles = 3", r"r\.toml \[items\]\.files: 3 should be a file name or a list of them$"),
        ("[items]\nfiles = ['a', 3]", "should be a file name or a list of them$"),
        ("[items]\nimage = { a = 'b' }", r"\[items\]\.image: .* should be a text or a list of them$"),
        ("[events.kind]\nview = 2", r"r\.toml \[events\]\.kind is no table of keys; did you mean 'kinds'"),
        ("[events.kinds]\nview = nan", r"r\.toml \[events\.kinds\] view: nan should be a number from -1000 to 1000$"),
        ("[events.kinds]\nview = -inf", "-inf should be a number"),
        ("[events.kinds]\nview = 1e300", r"1e\+300 should be a number"),
        ("[events.kinds]\nview = 'x'", "'x' should be a number"),
        ("items = 3", "should be a table"),
        ("recommender = 'eese'", "did you mean 'ease'"),
        ("[recommender]\nl2 = 3", "name"),
        ("[recommender]\nname = 'ease'\nl3 = 3", "unknown key 'l3'"),
        ("[fusion]\nname = 'concatt'", "did you mean 'concat'"),
        ("[split]\nby = 'times'", "'times' is not known; did you mean 'time'"),
        ("[split]\nby = 'given'", "needs the files"),
        ("[split]\nby = 'time'\ntrain = 'a'\ntest = 'b'", "go with by = 'given'"),
        ("[split]\nfraction = 0.1", "unknown key 'fraction'"),
        ("[encode]\ntxet = 'a'", "did you mean 'text'"),
        ("[encode]\ntext = 3", "should be a name"),
        ("[answer]\nk = 0", "1 to 1000"),
        ("[answer]\nrules = ['price<<2', 'price']", r"r\.toml \[answer\]: rule 'price<<2'"),
        ("seed = 'a'", r"r\.toml\.seed"),
        ("seed = -1", "whole number"),
        ("a = ", "is not TOML"),
    ],
)
def test_mistakes_name_file_and_key(text, says):
    with pytest.raises(RecipeError, match=says) as caught:
        read_recipe_text(text, where="r.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1 << 63, True, 1.5, "a"])
def test_a_seed_is_checked_on_every_path(seed):
    recipe = read_recipe_text("seed = 7")
    ways = (recipe.seeded, lambda s: Recipe(seed=s), lambda s: recipe_of(items="a", seed=s))
    for way in ways:
        with pytest.raises(RecipeError, match=r"seed is .*; give a whole number from 0"):
            way(seed)


def test_a_recipe_takes_another_seed_and_more_strictness():
    recipe = read_recipe_text("seed = 7")
    assert (recipe.seeded().seed, recipe.seeded(3).seed, recipe.seeded(0).seed) == (7, 3, 0)
    assert recipe.seeded(strict=True).strict
    assert read_recipe_text("strict = true").seeded(3).strict


def test_a_missing_recipe_is_one_line(tmp_path):
    with pytest.raises(RecipeError, match="there is no recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="is a folder"):
        read_recipe(tmp_path)


def test_the_command_line_says_the_same():
    recipe = recipe_of(train="a.csv", test="b.csv")
    assert recipe.split.by == "given"
    assert same(read_recipe_text('[split]\ntrain = "a.csv"\ntest = "b.csv"'), recipe)
    with pytest.raises(RecipeError, match="did you mean 'blend'"):
        recipe_of(items="a", recommender="blendd")
    with pytest.raises(RecipeError, match="belong together"):
        recipe_of(events="a", split="given")


def test_a_hint_names_each_word_once():
    from sensorium.settings import nearest

    assert nearest("zzzz", ["view", "buy", "view"]) == "known: view, buy"


def test_the_tables_hold_settings_classes():
    assert all(
        dataclasses.is_dataclass(RECOMMENDERS[name]) for name in RECOMMENDERS if name not in ("sequence", "lstm")
    )
    assert "concat" in FUSIONS


@pytest.mark.parametrize("table", [RECOMMENDERS, FUSIONS])
def test_every_class_of_a_table_is_found_again_by_its_name(table) -> None:
    for name in table:
        assert table.name_of(table.make(name)) == name


@pytest.mark.parametrize("table", ["kinds", "heard", "conversion"])
def test_a_recommender_that_weighs_a_kind_nobody_knows_is_refused(table):
    with pytest.raises(RecipeError, match=r"unknown kind 'buyy'.*buy"):
        read_recipe_text(f'[recommender]\nname = "ease"\n{table} = {{ buyy = 2.0 }}\n')
    told = f'[events.kinds]\nwish = 2\n[recommender]\nname = "itemknn"\n{table} = {{ wish = 0.5, buy = 1.0 }}\n'
    assert getattr(read_recipe_text(told).recommender, table) == {"wish": 0.5, "buy": 1.0}


@pytest.mark.parametrize("seconds", ["-5", "0", "nan", "inf"])
def test_a_budget_that_is_no_time_is_refused(seconds):
    with pytest.raises(RecipeError, match="budget_seconds"):
        read_recipe_text(f'[recommender]\nname = "auto"\nbudget_seconds = {seconds}\n')
