"""JSON Lines: one object a line; a column takes the one type all its values share, else strings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.arrays import Rows
from sensorium.data.report import Findings
from sensorium.errors import DataError

if TYPE_CHECKING:
    import polars as pl


MOST_COLUMNS = 2_000


def read_json_lines(name: str, data: bytes, findings: Findings) -> tuple[pl.DataFrame, Rows]:
    """The objects of a file as a frame, and the line of each. A line that is no object is rejected."""
    import polars as pl

    columns: dict[str, list[Any]] = {}
    numbers: list[int] = []
    for line, raw in enumerate(data.split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            findings.reject(name, line, "bytes that are not UTF-8; save the table as UTF-8")
            continue
        except (ValueError, RecursionError):
            if line == 1 and raw.lstrip()[:1] == b"[":
                raise DataError(f"{name} is one JSON array; write one object a line (JSON Lines)") from None
            findings.reject(name, line, "not JSON")
            continue
        if not isinstance(row, dict):
            findings.reject(name, line, "not a JSON object {…}")
            continue
        if not row:
            findings.reject(name, line, "an empty row")
            continue
        for key, value in row.items():
            if key not in columns:
                if len(columns) >= MOST_COLUMNS:
                    raise DataError(
                        f"{name}, line {line}: more than {MOST_COLUMNS} different keys; use one set of keys"
                    )
                columns[key] = [None] * len(numbers)
            columns[key].append(value)
        numbers.append(line)
        for column in columns.values():
            if len(column) < len(numbers):
                column.append(None)
    frame = pl.DataFrame([_series(_safe(key), column) for key, column in columns.items()])
    return frame, np.array(numbers, np.int64)


def _safe(text: str) -> str:
    """Text without lone surrogates, which JSON's \\ud800 can bring in and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    import polars as pl

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        if float in kinds or any(abs(v) >= 1 << 62 for v in values if v is not None):
            return pl.Series(name, [None if v is None else _float(v) for v in values], pl.Float64)
        return pl.Series(name, values, pl.Int64)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {list}:
        flat = {type(entry) for value in values if value for entry in value}
        if flat and flat <= {int, float}:
            numbers = [None if v is None else [_float(entry) for entry in v] for v in values]
            return pl.Series(name, numbers, pl.List(pl.Float64))
    return pl.Series(name, [None if v is None else as_cell(v) for v in values], pl.String)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def as_cell(value: Any) -> str:
    """A value as it stands in a column of strings.

    >>> as_cell("a"), as_cell(7.0), as_cell(["a", 1]), as_cell(True)
    ('a', '7', '["a", 1]', 'true')
    """
    if isinstance(value, str):
        return _safe(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _safe(json.dumps(value, ensure_ascii=False))
