"""CSV, TSV, JSON Lines and Parquet, plain or packed, become one polars frame that remembers each row's file and line.

The first bytes decide what a file is, its name is only a hint. What cannot be a row is rejected with its line; what
cannot be a table is a DataError.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.report import Findings
from sensorium.errors import DataError

if TYPE_CHECKING:
    import polars as pl

Choose = Callable[[Sequence[str]], Sequence[str]]  # the columns of a file → those worth reading

UNPACKED_BYTES = 8 << 30  # a packed table may not unpack to more than this …
UNPACKED_FREELY = 64 << 20  # … nor, beyond this size, to more than `UNPACKED_RATIO` times the packed bytes
UNPACKED_RATIO = 250
RECORD_LINES = 1_000  # a quoted field that runs over more lines than this was never closed
_MARKS = re.compile("[\ud800-\udfff\0]")


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one or several files.

    **Shapes** frame (N, columns): text formats give strings, Parquet its own types; `file` (N,) is the place in
    `names` and `paths`; `line` (N,) counts from 1, the header included (Parquet: the row).
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    frame: pl.DataFrame
    file: NDArray[np.int32]
    line: Rows

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, row: int) -> tuple[str, int]:
        """The file and the line of a row."""
        return self.names[self.file[row]], int(self.line[row])

    def places(self, rows: Rows) -> Iterator[tuple[str, int]]:
        """File and line of some rows."""
        return (self.where(row) for row in rows)

    def take(self, keep: NDArray[np.bool_]) -> Table:
        """Only the rows that `keep` (N,) marks."""
        import polars as pl

        if keep.all():
            return self
        return Table(self.names, self.paths, self.frame.filter(pl.Series(keep)), self.file[keep], self.line[keep])


def find_files(patterns: Sequence[str], folder: Path) -> list[tuple[str, Path]]:
    """The files that names and globs mean, relative to `folder`: (name to print, path). **Raises** DataError for none."""
    found: dict[Path, str] = {}
    for pattern in patterns:
        path = Path(os.path.expanduser(pattern))
        full = path if path.is_absolute() else folder / path
        if any(sign in pattern for sign in "*?[") and not full.exists():
            matches = sorted(glob.glob(str(full), recursive=True))
            if not matches:
                raise DataError(f"no file matches {pattern!r} in {folder}; check the pattern")
            for match in matches:
                if Path(match).is_file():
                    found.setdefault(Path(match), os.path.relpath(match, folder))
        elif full.is_dir():
            raise DataError(f"{full} is a folder, not a table; name its files, e.g. {pattern}/*.csv")
        elif not full.exists():
            raise DataError(f"there is no file {full}; check the name, paths are relative to {folder}")
        else:
            found.setdefault(full, pattern)
    return [(name, path) for path, name in found.items()]


def read_tables(
    files: Sequence[tuple[str, Path]], findings: Findings, *, columns: Sequence[str] = (), choose: Choose | None = None
) -> Table:
    """All files as one table, in order. `columns` names the columns of files without a header.

    **Raises** DataError for a file that is no table. **Cost** a clean Parquet or CSV file is read by polars as a
    whole; a CSV with quotes or faults goes line by line (about 0.5 M rows/s).
    """
    import polars as pl

    parts: list[tuple[pl.DataFrame, Rows]] = []
    for name, path in files:
        try:
            frame, line = _read(name, path, findings, columns, choose)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
        findings.rows[name] = findings.rows.get(name, 0) + len(line)
        parts.append((frame, line))
    names, paths = tuple(n for n, _ in files), tuple(p for _, p in files)
    if len(parts) == 1:
        return Table(names, paths, parts[0][0], np.zeros(len(parts[0][1]), np.int32), parts[0][1])
    frame = pl.concat(_alike([f for f, _ in parts]), how="diagonal")
    file = np.repeat(np.arange(len(parts), dtype=np.int32), [len(line) for _, line in parts])
    return Table(names, paths, frame, file, np.concatenate([line for _, line in parts]))


def _alike(frames: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """The frames with one type a column; where the types differ, strings."""
    import polars as pl

    types: dict[str, set[Any]] = {}
    for frame in frames:
        for column, kind in frame.schema.items():
            types.setdefault(column, set()).add(kind)
    mixed = {column for column, kinds in types.items() if len(kinds) > 1}

    def as_text(frame: pl.DataFrame, column: str) -> pl.Series:
        series = frame[column]
        if isinstance(series.dtype, pl.List | pl.Array):
            return pl.Series(column, [None if v is None else str(list(v)) for v in series], pl.String)
        return series.cast(pl.String)

    return [f.with_columns([as_text(f, c) for c in f.columns if c in mixed]) for f in frames]


def _read(
    name: str, path: Path, findings: Findings, columns: Sequence[str], choose: Choose | None
) -> tuple[pl.DataFrame, Rows]:
    if path.is_dir():
        raise DataError(f"{name} is a folder, not a table; name its files")
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"PAR1":
        return _parquet(name, path, choose)
    data = _unpacked(name, path, head)
    if data[:4] == b"PAR1":
        return _parquet(name, io.BytesIO(data), choose)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            data = data.decode("utf-16").encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise DataError(f"{name} begins like UTF-16 text but is not; save it as UTF-8") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    for mark, what in ((b"PK\x03\x04", "a zip or Excel file"), (b"%PDF", "a PDF"), (b"\x89PNG", "a picture")):
        if data.startswith(mark):
            raise DataError(f"{name} is {what}, not a table; save it as CSV, JSON Lines or Parquet")
    if not data.strip():
        raise DataError(f"{name} is empty; a table needs a header and rows")
    if _is_json(data, path):
        from sensorium.data.jsonlines import read_json_lines

        return read_json_lines(name, data, findings)
    return _csv(name, path, data, findings, columns, choose)


def _unpacked(name: str, path: Path, head: bytes) -> bytes:
    """The bytes of a file, unpacked if it is gzip or zstd. **Raises** DataError for damage and for bombs."""
    packed = path.stat().st_size
    most = min(UNPACKED_BYTES, max(UNPACKED_FREELY, UNPACKED_RATIO * packed))
    if head[:2] == b"\x1f\x8b":
        stream: Any = gzip.open(path, "rb")
    elif head[:4] == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        stream = pa.input_stream(str(path), compression="zstd")
    else:
        if path.suffix in (".gz", ".zst") and packed:
            raise DataError(f"{name} is not a {path.suffix[1:]} file; pack it again, or take the ending off its name")
        return path.read_bytes()
    parts, size = [], 0
    try:
        with stream:
            while part := stream.read(1 << 20):
                size += len(part)
                if size > most:
                    raise DataError(
                        f"{name} unpacks to more than {most >> 20} MiB from {packed} bytes; unpack it first if that is right"
                    )
                parts.append(part)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{name} is damaged ({str(error).splitlines()[0]}); pack it again") from None
    return b"".join(parts)


def _parquet(name: str, source: Path | io.BytesIO, choose: Choose | None) -> tuple[pl.DataFrame, Rows]:
    """A Parquet file through pyarrow, whose reader refuses damaged pages instead of guessing."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file:
            known = file.schema_arrow.names
            wanted = list(choose(known)) if choose else known
            if file.metadata.num_rows > 1 << 31:
                raise DataError(f"{name} claims {file.metadata.num_rows} rows, more than 2^31; split it")
            table = file.read(columns=wanted)
        table.validate()
        frame = pl.from_arrow(table)
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise DataError(f"{name} is a damaged Parquet file ({_first_line(error)}); write it again") from None
    except BaseException as error:  # polars panics are not Exceptions
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{name} is a damaged Parquet file ({_first_line(error)}); write it again") from None
    assert isinstance(frame, pl.DataFrame)
    return frame, np.arange(1, len(frame) + 1, dtype=np.int64)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _is_json(data: bytes, path: Path) -> bool:
    first = data[:4096].lstrip()[:1]
    endings = {ending.lower() for ending in path.suffixes}
    return first in (b"{", b"[") or (bool(endings & {".jsonl", ".ndjson", ".json"}) and b'{"' in data[: 1 << 16])


def _csv(
    name: str, path: Path, data: bytes, findings: Findings, columns: Sequence[str], choose: Choose | None
) -> tuple[pl.DataFrame, Rows]:
    if b"\0" in data[:4096] and data[:4096].count(b"\0") > 40:
        raise DataError(f"{name} is not a table of text (it holds binary data); save it as CSV, JSON Lines or Parquet")
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
