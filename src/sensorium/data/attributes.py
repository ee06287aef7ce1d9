"""What an unclaimed column holds: numbers, categories, lists, dates, prose, vectors; or nothing a model could use."""

from __future__ import annotations

import ast
import functools
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.data.clean import clean_text
from sensorium.data.columns import CATEGORIES, DATES, LISTS, NUMBERS, AttributeKind, plain
from sensorium.data.content import Attribute
from sensorium.data.jsonlines import as_cell
from sensorium.data.prepare import as_strings, moments, numbers

if TYPE_CHECKING:
    import polars as pl

MOST_CATEGORIES = 2_000  # of one column; rarer ones say too little to be kept
DIVIDERS = "|;,"  # between the entries of a list, the likeliest first
EMPTY = "it is empty"
PROSE_CHARACTERS = 30  # distinct values that are longer than this on average, with spaces, are prose
_CODES = re.compile(r"(_id|_ids|_no|_nr|_code|_key|_index|^id|^column_\d+|^index|^unnamed_\d*)$")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_PYTHON_LIST = re.compile(r"\[\s*(?:['\"].*['\"]\s*,?\s*)?\]\Z", re.DOTALL)


def guess(series: pl.Series) -> tuple[AttributeKind | str, str]:
    """What a column seems to hold: an attribute's kind, or "text", "vector", or "" for nothing of use; and why.

    >>> import polars as pl
    >>> guess(pl.Series("price", ["1.5", "2", ""]))[0], guess(pl.Series("tone", ["a|b", "b"]))[0]
    ('number', 'list')
    """
    import polars as pl

    word = plain(series.name)
    if isinstance(series.dtype, pl.List | pl.Array):
        return ("list", "") if series.dtype.inner == pl.String else _lists(series)
    if isinstance(series.dtype, pl.Struct | pl.Object) or series.dtype == pl.Binary:
        return "", f"it holds {series.dtype}, which is no attribute"
    if series.dtype in (pl.Date, pl.Datetime):
        return "date", ""
    if series.dtype == pl.Boolean:
        return "category", ""
    text = as_strings(series).str.strip_chars()
    text = text.filter(text.fill_null("") != "")
    if not len(text):
        return "", EMPTY
    distinct = text.n_unique()
    if distinct == 1 and len(text) > 1 and len(text) == len(series):
        return "", "all rows have the same value"
    spread = distinct / len(text)
    if word in LISTS or _share(text.str.contains("|", literal=True)) > 0.05 or _bracketed(text):
        return "list", ""
    unique = spread > 0.5 and distinct > 50
    if word in CATEGORIES or _CODES.search(word):
        return ("", f"nearly every row has its own value ({distinct} of {len(text)})") if unique else ("category", "")
    _, wrong = numbers(text)
    if not wrong.any():
        return "number", ""
    if word in NUMBERS and wrong.mean() < 0.2:
        return "number", ""
    if word in DATES or _share(text.str.contains(r"^\d{4}[-/]\d")) > 0.9:
        seconds, _ = moments(text)
        if np.isfinite(seconds).mean() > 0.8:
            return "date", ""
    lengths = _share(text.str.len_chars())
    spaced = _share(text.str.contains(" ", literal=True)) > 0.5
    if spaced and spread > 0.3 and lengths > PROSE_CHARACTERS:
        return "text", ""
    if unique:
        return "", f"nearly every row has its own value ({distinct} of {len(text)})"
    return "category", ""


def guess_alone(name: str, value: Any) -> AttributeKind | str:
    """What `guess` says of a column that holds this one value. **Cost** a hundredth of it, but for dates.

    >>> guess_alone("price", 3), guess_alone("mood", "calm"), guess_alone("seen", "2024-02-24"), guess_alone("taste", [1.5])
    ('number', 'category', 'date', 'vector')
    """
    if isinstance(value, list) and value and all(type(one) in (int, float) for one in value):
        return "vector"
    word, text = plain(name), as_cell(value).strip()
    if word in LISTS or "|" in text or (text.startswith("[") and text.endswith("]") and len(text) > 1):
        return "list"
    if word in CATEGORIES or _CODES.search(word):
        return "category"
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return "number"
    if (word in DATES or re.match("[0-9]{4}[-/][0-9]", text)) and _is_date(text):
        return "date"
    return "text" if " " in text and len(text) > PROSE_CHARACTERS else "category"


@functools.lru_cache(4096)
def _is_date(text: str) -> bool:
    import polars as pl

    return bool(np.isfinite(moments(pl.Series([text]))[0][0]))


def _share(values: pl.Series) -> float:
    """The mean of a column, 0 where it is empty."""
    mean = values.mean()
    return float(mean) if isinstance(mean, int | float) else 0.0


def _lists(series: pl.Series) -> tuple[str, str]:
    """A column of lists that hold something else than strings: vectors if they are numbers and of one length."""
    if not series.dtype.inner.is_numeric():  # type: ignore[attr-defined]
        return "", f"it holds {series.dtype}, which is no attribute"
    lengths = series.to_frame().to_series().list.len() if series.dtype.__class__.__name__ == "List" else None
    if lengths is not None and lengths.drop_nulls().n_unique() != 1:
        return "list", ""
    return "vector", ""


def values_of(
    series: pl.Series, kind: AttributeKind, *, undivided: str = "", alone: bool = False
) -> tuple[list[Attribute | None], list[int], str]:
    """The values of an attribute (N), None where there is none; the rows that hold something unfit; and a note.

    `undivided` signs divide no lists. Where each cell stands `alone`, what the others hold has no say in how it is read.
    """
    import polars as pl

    if kind == "number":
        found, wrong = numbers(series)
        return [float(v) if v == v else None for v in found.tolist()], np.flatnonzero(wrong).tolist(), ""
    if kind == "date":
        seconds = _each(series) if alone else moments(series)[0]
        filled = (as_strings(series).fill_null("").str.strip_chars() != "").to_numpy()
        # A birthday may lie before 1970: only what cannot be read at all is unfit here.
        wrong = filled & ~np.isfinite(seconds)
        return [float(v) if v == v else None for v in seconds.tolist()], np.flatnonzero(wrong).tolist(), ""
    if kind == "category":
        text = as_strings(series)
        cleaned = {raw: clean_text(raw) for raw in text.unique().drop_nulls().to_list()}
        column = [cleaned.get(raw, "") for raw in text.to_list()]
        known, note = (set(column) - {""}, "") if alone else _frequent(series.name, column)
        return [value if value in known else None for value in column], [], note
    if isinstance(series.dtype, pl.List | pl.Array):
        lists = [tuple(clean_text(as_cell(v)) for v in row if v is not None) if row else () for row in series.to_list()]
    else:
        text = as_strings(series)
        raws = text.unique().drop_nulls().to_list()
        sign = _divider(raws, undivided)
        parsed = {raw: split_list(raw, _divider([raw], undivided) if alone else sign) for raw in raws}
        lists = [parsed.get(raw, ()) for raw in text.to_list()]
    lists = [tuple(dict.fromkeys(entry for entry in row if entry)) for row in lists]
    entries = [entry for row in lists for entry in row]
    known, note = (set(entries), "") if alone else _frequent(series.name, entries)
    return [tuple(e for e in row if e in known) or None for row in lists], [], note


def split_list(raw: str, divider: str = "|") -> tuple[str, ...]:
    """The entries of a list that stands in one cell: JSON, Python's way of writing one, or divided by a sign.

    >>> split_list('["a", "b"]'), split_list("['a']"), split_list("a| b")
    (('a', 'b'), ('a',), ('a', 'b'))
    """
    raw = raw.strip()
    if raw.startswith("[") and raw.endswith("]") and len(raw) < 100_000:
        for parse in (json.loads, _python_list):
            try:
                entries = parse(raw)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(entries, list):
                return tuple(clean_text(str(e)) for e in entries if isinstance(e, str | int | float))
    return tuple(clean_text(entry) for entry in raw.split(divider))


def _python_list(raw: str) -> object:
    if not _PYTHON_LIST.match(raw) or len(raw) > 10_000:
        raise ValueError
    return ast.literal_eval(raw)


def _bracketed(text: pl.Series) -> bool:
    return _share(text.str.contains(r"(?s)^\[.*\]$")) > 0.9


def within(values: Sequence[Attribute | None]) -> str:
    """The signs that stand within entries of lists, and so divide none."""
    entries = {entry for value in values if isinstance(value, tuple) for entry in value}
    return "".join(sign for sign in DIVIDERS if any(sign in entry for entry in entries))


def _each(series: pl.Series) -> np.ndarray:
    """Times (N,), each read by itself: among numbers, their size together would decide."""
    import polars as pl

    text = as_strings(series)
    amounts = np.isfinite(numbers(text)[0])
    seconds = moments(text.set(pl.Series(amounts), None))[0]
    for row in np.flatnonzero(amounts).tolist():
        seconds[row] = moments(text[row : row + 1])[0][0]
    return seconds


def _divider(cells: Sequence[str], undivided: str) -> str:
    """The sign between the entries of a column: "|" if it stands anywhere; else ";" or ","."""
    return next((sign for sign in DIVIDERS if sign not in undivided and any(sign in cell for cell in cells)), "|")


def _frequent(name: str, values: Sequence[str]) -> tuple[set[str], str]:
    """The categories worth keeping, and a note when some are not."""
    counts = Counter(value for value in values if value)
    if len(counts) <= MOST_CATEGORIES:
        return set(counts), ""
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    note = f"{name}: {len(counts)} categories, the {MOST_CATEGORIES} most frequent are kept"
    return set(ranked[:MOST_CATEGORIES]), note
