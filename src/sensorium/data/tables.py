"""CSV, TSV, JSON Lines and Parquet, plain or packed, become one polars frame that remembers each row's file and line.

The first bytes decide what a file is, its name is only a hint. What cannot be a row is rejected with its line; what
cannot be a table is a DataError.
"""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.delimited import Choose, read_csv
from sensorium.data.report import Findings
from sensorium.errors import DataError

if TYPE_CHECKING:
    import polars as pl

UNPACKED_BYTES = 8 << 30  # a packed table may not unpack to more than this …
UNPACKED_FREELY = 64 << 20  # … nor, beyond this size, to more than `UNPACKED_RATIO` times the packed bytes
UNPACKED_RATIO = 250


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one or several files.

    **Shapes** frame (N, columns): text formats give strings, Parquet its own types; `file` (N,) is the place in
    `names` and `paths`; `line` (N,) counts from 1, the header included (Parquet: the row). `packed` holds the columns
    of repeating names that a Parquet file keeps as a dictionary; they are not in `frame`.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    frame: pl.DataFrame
    file: NDArray[np.int32]
    line: Rows
    packed: Mapping[str, Any] = field(default_factory=dict)  # of pyarrow.DictionaryArray

    def __len__(self) -> int:
        return len(self.line)

    def cells(self, column: str) -> Any:
        """A column as polars or, where it is packed, pyarrow holds it: what `prepare.named` takes."""
        return self.packed[column] if column in self.packed else self.frame[column]

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
    """All files as one table, in order. `columns` names the columns of files without a header; `choose`, for one file
    at a time, says which columns are worth reading.

    **Raises** DataError for a file that is no table. **Cost** a clean Parquet or CSV file is read by polars as a
    whole; a CSV with quotes or faults goes line by line (about 0.5 M rows/s).
    """
    import polars as pl

    parts: list[tuple[pl.DataFrame, Rows]] = []
    packed: dict[str, Any] = {}
    for name, path in files:
        try:
            frame, line, packed = _read(name, path, findings, columns, choose)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
        findings.rows[name] = findings.rows.get(name, 0) + len(line)
        parts.append((frame, line))
    names, paths = tuple(n for n, _ in files), tuple(p for _, p in files)
    if len(parts) == 1:
        return Table(names, paths, parts[0][0], np.zeros(len(parts[0][1]), np.int32), parts[0][1], packed)
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
) -> tuple[pl.DataFrame, Rows, dict[str, Any]]:
    """The columns of one file, the line of each row, and the packed columns."""
    if path.is_dir():
        raise DataError(f"{name} is a folder, not a table; name its files")
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"PAR1":
        return _parquet(name, path, choose)
    data = _unpacked(name, path, head)
    if data[:4] == b"PAR1":
        return _parquet(name, data, choose)
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

        return *read_json_lines(name, data, findings), {}
    return *read_csv(name, path, data, findings, columns, choose), {}


def _unpacked(name: str, path: Path, head: bytes) -> bytes:
    """The bytes of a file, unpacked if it is gzip or zstd. **Raises** DataError for damage and for bombs."""
    packed = path.stat().st_size
    most = min(UNPACKED_BYTES, max(UNPACKED_FREELY, UNPACKED_RATIO * packed))
    if head[:2] == b"\x1f\x8b":
        stream: Any = gzip.GzipFile(path, "rb")
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


def _parquet(name: str, source: Path | bytes, choose: Choose | None) -> tuple[pl.DataFrame, Rows, dict[str, Any]]:
    """A Parquet file through pyarrow, whose reader refuses damaged pages instead of guessing.

    Columns of names that repeat come as the dictionary in which the file holds them.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    def opened(repeating: Sequence[str] = ()) -> pq.ParquetFile:
        place = pa.BufferReader(source) if isinstance(source, bytes) else str(source)
        return pq.ParquetFile(place, read_dictionary=list(repeating))

    try:
        with opened() as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        wanted = choose(schema.names) if choose else dict.fromkeys(schema.names, False)
        if rows > 1 << 31:
            raise DataError(f"{name} claims {rows} rows, more than 2^31; split it")
        strings = {field.name for field in schema if pa.types.is_string(field.type)}
        repeating = [column for column, repeats in wanted.items() if repeats and column in strings]
        with opened(repeating) as file:
            table = file.read(columns=list(wanted))
        table.validate(full=True)  # polars trusts that strings are UTF-8 and that offsets lie inside
        table = table.unify_dictionaries()
        packed = {column: table[column].combine_chunks() for column in repeating}
        frame = pl.from_arrow(table.drop_columns(repeating))
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise DataError(f"{name} is a damaged Parquet file ({_first_line(error)}); write it again") from None
    except BaseException as error:  # polars panics are not Exceptions
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{name} is a damaged Parquet file ({_first_line(error)}); write it again") from None
    assert isinstance(frame, pl.DataFrame)
    return frame, np.arange(1, len(table) + 1, dtype=np.int64), packed


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _is_json(data: bytes, path: Path) -> bool:
    first = data[:4096].lstrip()[:1]
    endings = {ending.lower() for ending in path.suffixes}
    return first in (b"{", b"[") or (bool(endings & {".jsonl", ".ndjson", ".json"}) and b'{"' in data[: 1 << 16])
