"""Cleaning and values: each against a plain derivation of its own."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.data.attributes import MOST_CATEGORIES, guess, split_list, values_of
from sensorium.data.clean import clean_text
from sensorium.data.events import Events, confidence
from sensorium.data.prepare import moments, named, numbers, ordered, repeated, weighed


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain words", "plain words"),
        ("a  b\t\nc ", "a b c"),
        ("<script>x < 1</script>seen<!-- not -->", "seen"),
        ("&lt;br/&gt;line", "line"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("ﾊ\u0000\u200b", "ﾊ"),
        ("<b>bo</b>ld<p>new", "bold new"),
        ("<script>never closed", ""),
        ("中文 说明", "中文 说明"),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean


@given(st.text())
def test_cleaning_is_final_for_text_without_entities(raw):
    once = clean_text(raw.replace("&", "").replace("<", ""))
    assert clean_text(once) == once


@given(st.lists(st.floats(-1e12, 1e12) | st.integers(-(2**40), 2**40).map(float), max_size=50))
def test_ordered_is_a_stable_sort(values):
    column = np.array(values, np.float64)
    assert ordered(column).tolist() == sorted(range(len(values)), key=lambda place: values[place])


@given(st.lists(st.sampled_from(["a", "b", "", "nan", None, " a", "é", "e\u0301", "\x00x"]), max_size=30))
def test_named_gives_places_in_order_of_first_appearance(cells):
    got = named(pl.Series("c", cells, pl.String))
    meant = [{" a": "a", "e\u0301": "é", "": None, "nan": None, "\x00x": None}.get(cell, cell) for cell in cells]
    assert [got.names[code] if code >= 0 else None for code in got.code] == meant
    assert got.names == list(dict.fromkeys(name for name in meant if name is not None))


def test_named_reads_a_dictionary_whose_order_is_another():
    column = pl.Series("c", ["z", "b", None, "z"], pl.Categorical)
    pl.Series(["b", "unused"], dtype=pl.Categorical)
    assert named(column).names == ["z", "b"]
    assert named(column).code.tolist() == [0, 1, -1, 0]
    assert named(pl.Series([7, 3, 7])).names == ["7", "3"]
    assert named(pl.Series([7.0, None, 3.0])).names == ["7", "3"]


def test_numbers_tell_empty_from_wrong():
    values, wrong = numbers(pl.Series(["1.5", "", "x", "inf", None, " 2 "]))
    assert wrong.tolist() == [False, False, True, True, False, False]
    assert values[[0, 5]].tolist() == [1.5, 2.0]
    assert np.isnan(values[[1, 2, 3, 4]]).all()


def test_moments_of_zones_and_words():
    values, _ = moments(pl.Series(["2024-01-01T02:00:00+02:00", "2024-01-01", "09 13, 2014", "Jan 1, 2024", "never"]))
    assert values[:4].tolist() == [1704067200.0, 1704067200.0, 1410566400.0, 1704067200.0]
    assert np.isnan(values[4])


def test_repeated_marks_later_copies_only():
    user, value = np.array([1, 1, 1, 2]), np.array([np.nan, np.nan, 3.0, np.nan])
    assert repeated([user, value], None).tolist() == [False, True, False, False]
    text = np.array(["a", "b", None, None], object)
    assert not repeated([user, value], text).any()


def test_weights_of_kinds_that_are_given_and_of_those_that_are_like_usual_ones():
    events = Events.of(
        [0, 0, 0, 0], [0, 1, 2, 3], users=1, items=4, kind=[0, 1, 2, 3], kinds=("purchase", "view", "skip", "odd")
    )
    assert weighed(events, {"view": 4.0}).weight.tolist() == [5, 4, -1, 1]


def test_a_kind_that_the_recipe_makes_negative_speaks_against_and_a_low_rating_does_not():
    kinds = ("returned", "rating", "view")
    events = Events.of([0, 0, 0], [0, 1, 2], users=1, items=3, kind=[0, 1, 2], kinds=kinds, weight=[-2, -1, 1])
    assert confidence(events, 0.0).tolist() == [-2, 1, 1]


def test_guesses():
    assert guess(pl.Series("zip", [f"{n:05d}" for n in range(100)]))[0] == ""
    assert guess(pl.Series("occupation", ["1", "2"] * 50))[0] == "category"
    assert guess(pl.Series("price", ["1", "2", ""]))[0] == "number"
    assert guess(pl.Series("seen", ["2020-01-01", "2021-01-01"]))[0] == "date"
    assert guess(pl.Series("words", [f"a long line of words that nobody else has, {n}" for n in range(9)]))[0] == "text"
    assert guess(pl.Series("v", [[1.0, 2.0], [3.0, 4.0]]))[0] == "vector"


def test_rare_categories_are_left_out_and_said_so():
    values, _, note = values_of(
        pl.Series("tag", ["common"] * 5 + [f"t{n}" for n in range(MOST_CATEGORIES)]), "category"
    )
    assert values.count("common") == 5
    assert len({v for v in values if v}) == MOST_CATEGORIES
    assert f"{MOST_CATEGORIES + 1} categories" in note


@given(st.text())
def test_split_list_never_fails(raw):
    assert isinstance(split_list(raw), tuple)
    assert isinstance(split_list("[" + raw + "]"), tuple)
