"""What a column is guessed to be, and how its cells are read, each by itself or all together."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensorium.data.attributes import guess, guess_alone, values_of, within

NAMES = ("x", "price", "tags", "colour", "shop_id", "released", "Release Date", "plot")
PIECES = st.lists(st.sampled_from(["2024", "-", "/", "02", "24", "T10:00", " ", "|", "[", "]", ",", ".", "e5", "+", "1", "inf", "nan",
                                   "word", "a longer word", "é", "١"]), min_size=1, max_size=9).map("".join)  # fmt: skip


@given(st.sampled_from(NAMES), PIECES)
@example("x", "1e999")
@example("x", ".5")
@example("x", "[\n]")
@example("released", "20240224")
def test_one_value_alone_is_guessed_as_a_column_of_it(name: str, value: str) -> None:
    if value.strip():
        assert guess_alone(name, value) == guess(pl.Series(name, [value]))[0]


def test_cells_that_stand_alone_are_read_without_the_others() -> None:
    times = ["2024-02-24", "20240224", "1708732800", "1708732800000", "soon", None]
    column = pl.Series("seen", times)
    alone, unfit, _ = values_of(column, "date", alone=True)
    assert alone == [1708732800.0] * 4 + [None, None]
    assert unfit == [4]
    assert values_of(column, "date")[0] != alone
    cast = pl.Series("cast", ["Ann|Bo", "Cy; Di", "Ann, Bo", '["a|b"]', None])
    assert values_of(cast, "list", alone=True)[0] == [("Ann", "Bo"), ("Cy", "Di"), ("Ann", "Bo"), ("a|b",), None]
    assert values_of(cast, "list")[0] == [("Ann", "Bo"), ("Cy; Di",), ("Ann, Bo",), ("a|b",), None]
    assert values_of(cast, "list", undivided=",", alone=True)[0][2] == ("Ann, Bo",)
    many = pl.Series("author", [f"a{n}" for n in range(2_500)])
    for kind in ("category", "list"):
        assert sum(value is not None for value in values_of(many, kind)[0]) == 2_000
        assert None not in values_of(many, kind, alone=True)[0]


@pytest.mark.parametrize("cells", [["a|b", "Jr., c|d"], ["a;b", "Jr., c"], ["a,b", "c"], ["a", "b"]])
def test_signs_within_entries_tell_how_each_cell_was_divided(cells: list[str]) -> None:
    column = pl.Series("cast", cells)
    together = values_of(column, "list")[0]
    assert values_of(column, "list", undivided=within(together), alone=True)[0] == together


def test_whole_numbers_in_lists_are_written_so() -> None:
    assert values_of(pl.Series("sizes", [[38.0, 40.5], [41.0]]), "list")[0] == [("38", "40.5"), ("41",)]
