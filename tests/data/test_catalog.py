"""Catalogues that lie upon one another tell the same as ones that were copied."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.data.catalog import Catalog, Laid
from sensorium.data.content import Text
from sensorium.data.ids import Ids


def words(*said: str | None) -> list[Text | None]:
    return [None if one is None else Text((("title", one),)) for one in said]


def test_a_column_that_is_laid_over_another_tells_what_a_copy_would() -> None:
    rng = np.random.default_rng(0)
    plain: list[int] = list(range(5))
    column = Laid(tuple(plain), {}, 5, -1)
    for turn in range(60):
        grown = len(plain) + int(rng.integers(3))
        own = {int(row): 100 + turn for row in rng.integers(grown, size=2)}
        plain = [own.get(row, plain[row] if row < len(plain) else -1) for row in range(grown)]
        column = Laid(column, own, grown, -1)
        assert list(column) == [column[row] for row in range(grown)] == plain
        assert column[-1] == plain[-1]
        assert column[1:4] == plain[1:4]
        assert column == plain
        assert isinstance(column.below, tuple)
    for beyond in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            column[beyond]


def test_a_catalogue_over_another_has_what_changed_and_what_is_new() -> None:
    first = Catalog(Ids(["a", "b"]), {"text": words("one", None)}, ["One"])
    more = Catalog(Ids(["b", "c"]), {"image": words("unseen", "three")}, ["Two", "Three"])
    both = first.extended(more)
    assert list(both.ids) == ["a", "b", "c"]
    assert list(both.content["text"]) == words("one", None, None)
    assert list(both.content["image"]) == words(None, None, "three")  # what is known of b stays
    assert [both.title(row) for row in range(3)] == ["One", "b", "Three"]
    assert both.changed(first) == {2}
    assert both.laid == {2}
    other = both.over(both.ids, {"text": {1: words("two")[0]}}, {0: "Uno"})
    assert other.changed(both) == {1}
    assert other.changed(first) == {1, 2}
    assert first.changed(other) is None  # rows are gone
    assert other.laid == {0, 1, 2}
    assert list(both.content["text"]) == words("one", None, None)
    copied = Catalog(both.ids, {m: list(column) for m, column in both.content.items()}, list(both.titles))
    assert both.changed(copied) is None  # upon other columns: whatever differs
    assert first.extended(Catalog(Ids(["b"]), {})) is first
    emptied = first.over(first.ids, {"text": {0: None}}, {})
    assert emptied.changed(first) == {0}
