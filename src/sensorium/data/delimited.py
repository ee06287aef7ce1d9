"""CSV and its kin: at once where every line is plainly one row, record by record where there are quotes or faults."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sensorium.arrays import Rows
from sensorium.data.report import Findings
from sensorium.errors import DataError

if TYPE_CHECKING:
    import polars as pl

Choose = Callable[[Sequence[str]], Mapping[str, bool]]
"""The columns of a file → those worth reading, and whether each holds names that repeat."""

RECORD_LINES = 1_000  # a quoted field that runs over more lines than this was never closed
_MARKS = re.compile("[\ud800-\udfff\0]")


def read_csv(
    name: str, path: Path, data: bytes, findings: Findings, columns: Sequence[str], choose: Choose | None
) -> tuple[pl.DataFrame, Rows]:
    """The rows of a text whose cells a sign divides, all strings, and the line of each. **Raises** DataError."""
    if b"\0" in data[:4096] and data[:4096].count(b"\0") > 40:
        raise DataError(f"{name} is not a table of text (it holds binary data); save it as CSV, JSON Lines or Parquet")
    if not data.endswith((b"\n", b"\r")):
        findings.note(f"{name} ends without a line break: if it was cut off, its last row is not whole")
    separator = _separator(data, path)
    header = list(columns) or _header(name, data, separator)
    start = 1 if columns else 2
    frame = _csv_fast(data, separator, header, not columns, choose)
    if frame is not None:
        return frame, np.arange(start, start + len(frame), dtype=np.int64)
    return _csv_slow(name, data, separator, header, not columns, findings, choose)


def _separator(data: bytes, path: Path) -> str:
    if any(ending.lower() in (".tsv", ".tab") for ending in path.suffixes):
        return "\t"
    first = data[: 1 << 16].lstrip(b"\r\n").split(b"\n", 1)[0]
    first = re.sub(rb'"[^"]*"', b"", first)
    counts = {sign: first.count(sign.encode()) for sign in ("\t", ",", ";")}
    most = max(counts, key=lambda sign: counts[sign])
    return most if counts[most] else ("|" if b"|" in first else ",")


def _header(name: str, data: bytes, separator: str) -> list[str]:
    """The names of the columns; an empty name (an index that some writers add) becomes `column_1`."""
    text = data[: 1 << 20].decode("utf-8", "surrogateescape")
    try:
        cells = next(row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row)
    except (csv.Error, StopIteration):
        raise DataError(f"{name} has no readable header in its first line") from None
    if any(_MARKS.search(cell) for cell in cells):
        raise DataError(f"{name}: the header is not UTF-8 text; save the table as UTF-8")
    cells = [" ".join(cell.split()) or f"column_{place}" for place, cell in enumerate(cells, 1)]
    twice = [cell for place, cell in enumerate(cells) if cell in cells[:place]]
    if twice:
        raise DataError(f"{name}: two columns are named {twice[0]!r}; rename one")
    return cells


def _csv_fast(
    data: bytes, separator: str, header: list[str], has_header: bool, choose: Choose | None
) -> pl.DataFrame | None:
    """The whole table at once, if every line is plainly one row; else None."""
    import polars as pl

    if b'"' in data or b"\0" in data:
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
        if b"\r" in data:
            return None
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return None
    data = data.rstrip(b"\n") + b"\n"
    if not _even(data, separator, len(header)):
        return None
    wanted = set(choose(header)) if choose else set(header)
    try:
        frame = pl.read_csv(
            data, has_header=False, skip_rows=int(has_header), new_columns=header, separator=separator,
            quote_char=None, infer_schema=False, empty_string_is_null=False,
        )  # fmt: skip
    except pl.exceptions.NoDataError:
        return pl.DataFrame({column: [] for column in header}, schema=dict.fromkeys(header, pl.String))
    except pl.exceptions.PolarsError:
        return None
    return frame.select([column for column in header if column in wanted])


def _even(data: bytes, separator: str, width: int) -> bool:
    """Whether each line of `data` holds exactly `width` cells and none is blank."""
    if width == 1 and (b"\n\n" in data or separator.encode() in data):
        return False
    begin = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + (16 << 20)) + 1 or data.find(b"\n", begin) + 1 or len(data)
        block = np.frombuffer(data, np.uint8, end - begin, begin)
        breaks = np.flatnonzero(block == 10)
        marks = np.searchsorted(np.flatnonzero(block == ord(separator)), breaks)
        if (np.diff(marks, prepend=0) != width - 1).any():
            return False
        begin = end
    return True


class _TooFar(Exception):
    """A quoted field ran over too many lines."""


class _Feed:
    """Hands lines to a csv reader and knows where the record under way began."""

    def __init__(self, lines: Sequence[str], place: int) -> None:
        self.lines, self.place, self.start = lines, place, place

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.place >= len(self.lines):
            if self.place > self.start:
                raise _TooFar  # the file ends inside a record
            raise StopIteration
        if self.place - self.start >= RECORD_LINES:
            raise _TooFar
        self.place += 1
        return self.lines[self.place - 1]


def _records(lines: Sequence[str], separator: str, width: int) -> Iterator[tuple[int, list[str] | None, str]]:
    """(line, cells, "") of every record, or (line, None, reason). After a bad record reading resumes at its next line."""
    place = 0
    while place < len(lines):
        feed = _Feed(lines, place)
        reader = csv.reader(feed, delimiter=separator, strict=True)
        while True:
            feed.start = feed.place
            try:
                cells = next(reader)
            except StopIteration:
                return
            except _TooFar:
                yield feed.start + 1, None, "a quoted field that is never closed"
                break
            except csv.Error as error:
                yield feed.start + 1, None, f"not a row of CSV ({error})"
                break
            if len(cells) > width and not any(cells[width:]):
                cells = cells[:width]
            if cells and len(cells) != width:
                yield feed.start + 1, None, f"{len(cells)} cells where the header has {width}"
                if feed.place - feed.start > 1:
                    break
            else:
                yield feed.start + 1, cells, ""
        place = feed.start + 1


def _csv_slow(
    name: str,
    data: bytes,
    separator: str,
    header: list[str],
    has_header: bool,
    findings: Findings,
    choose: Choose | None,
) -> tuple[pl.DataFrame, Rows]:
    """Record by record, each fault rejected with its line."""
    import polars as pl

    text = data.decode("utf-8", "surrogateescape")
    faulty = bool(_MARKS.search(text))
    lines = list(io.StringIO(text, newline=""))
    del text
    wanted = set(choose(header)) if choose else set(header)
    chosen = [place for place, column in enumerate(header) if column in wanted]
    cells_by_column: list[list[str]] = [[] for _ in chosen]
    numbers: list[int] = []
    blank: list[int] = []
    for line, cells, reason in _records(lines, separator, len(header)):
        if has_header and (cells or reason):
            has_header = False
            continue
        if cells is None:
            findings.reject(name, line, reason, group=re.sub(r"^\d+ cells", "more or fewer cells", reason))
        elif not cells:
            blank.append(line)  # at the end of a file they are no rows
        elif not any(cells):
            findings.reject(name, line, "an empty row")
        elif faulty and _MARKS.search("".join(cells)):
            what = "a NUL byte" if "\0" in "".join(cells) else "bytes that are not UTF-8"
            findings.reject(name, line, f"{what}; save the table as UTF-8")
        else:
            for place in blank:
                findings.reject(name, place, "an empty row")
            blank.clear()
            numbers.append(line)
            for column, place in zip(cells_by_column, chosen, strict=True):
                column.append(cells[place])
    frame = pl.DataFrame(
        {header[place]: column for place, column in zip(chosen, cells_by_column, strict=True)},
        schema={header[place]: pl.String for place in chosen},
    )
    return frame, np.array(numbers, np.int64)
