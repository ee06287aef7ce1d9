"""A table of items, or of people, becomes a catalogue: text, media, attributes and ready vectors row by row."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sensorium.data.attributes import guess, split_list, values_of
from sensorium.data.catalog import Catalog
from sensorium.data.clean import clean_text
from sensorium.data.columns import ENDINGS, MEDIA, AttributeKind, ItemRoles, Sources, Things, item_roles
from sensorium.data.content import ATTRIBUTES, TEXT, VECTOR, Attribute, Attributes, Content, Media, Ready, Text
from sensorium.data.ids import Ids
from sensorium.data.prepare import as_strings, named
from sensorium.data.report import Findings
from sensorium.data.tables import Table, find_files, read_tables
from sensorium.errors import DataError, RecipeError

if TYPE_CHECKING:
    import polars as pl


def read_things(section: Things, sources: Sources, findings: Findings, what: str) -> Catalog | None:
    """The catalogue of `[items]` or `[users]`, None where the section has no files."""
    if not section.files:
        return _only_vectors(section, sources, findings, what)
    files = find_files(section.files, sources.folder)
    table = read_tables(files, findings, columns=section.columns)
    where = sources.where or ", ".join(table.names)
    roles = item_roles(table.frame.columns, section, where=where, what=what)
    table, whole, ids = _distinct(table, roles.id, findings)
    content: dict[str, Sequence[Content | None]] = {}
    roles = _settled(table, roles, section, findings, what)
    titles = _strings(table, roles.title) if roles.title else []
    if roles.text:
        content[TEXT] = _texts(table, roles.text)
    for kind in MEDIA:
        if roles.media[kind]:
            content[kind] = _media(table, roles.media[kind], findings)
    if roles.attributes:
        content[ATTRIBUTES] = _attributes(table, roles.attributes, findings)
    for name, column in roles.vectors.items():
        if column.endswith(".npy"):
            values = _npy(sources.folder / column, f"{where} [{what}] vectors.{name}")
            if len(values) != len(whole):
                raise DataError(
                    f"{column} has {len(values)} rows, {' + '.join(table.names)} has {len(whole)}; they must line up row by row"
                )
            content[VECTOR + name] = _ready(values[whole])
            findings.take(column, "(rows)", f"vector:{name}")
        else:
            content[VECTOR + name] = _vector_column(table, column, findings)
    content = {modality: column for modality, column in content.items() if any(c is not None for c in column)}
    return Catalog(Ids(ids), content, titles)


def _distinct(table: Table, column: str, findings: Findings) -> tuple[Table, np.ndarray, list[str]]:
    """The rows with an id of their own, the mask of them over the table, and the ids."""
    names = named(table.frame[column])
    lacking = names.code < 0
    empty = lacking & _empty(table.frame)
    findings.reject_many(table.places(np.flatnonzero(empty)), int(empty.sum()), "an empty row")
    bad = lacking & ~empty
    findings.reject_many(table.places(np.flatnonzero(bad)), int(bad.sum()), f"no id in column {column!r}")
    first = np.zeros(len(table), bool)
    known = np.flatnonzero(~lacking)
    first[known[np.unique(names.code[known], return_index=True)[1]]] = True
    if not first.any():
        raise DataError(f"{', '.join(table.names)}: no row has an id in column {column!r}")
    for row in np.flatnonzero(~lacking & ~first).tolist():
        identity = names.names[names.code[row]]
        findings.reject(
            *table.where(row),
            f"the id {identity!r} stands in an earlier row",
            group="an id that stands in an earlier row",
        )
    return table.take(first), first, names.names


def _empty(frame: pl.DataFrame) -> np.ndarray:
    import polars as pl

    text = [c for c, kind in frame.schema.items() if kind == pl.String]
    other = [c for c, kind in frame.schema.items() if kind != pl.String]
    tests = [pl.col(text).fill_null("").str.strip_chars() == ""] if text else []
    tests += [pl.col(other).is_null()] if other else []
    return frame.select(pl.all_horizontal(*tests)).to_series().to_numpy()


def _settled(table: Table, roles: ItemRoles, section: Things, findings: Findings, what: str) -> ItemRoles:
    """The roles once the spare columns were looked at; everything that was decided goes to the report."""
    text, attributes, vectors = list(roles.text), dict(roles.attributes), dict(roles.vectors)
    media = {kind: list(columns) for kind, columns in roles.media.items()}
    unused: dict[str, str] = dict.fromkeys(roles.unused, "unused: the recipe does not name it")
    spare = list(roles.spare)
    if section.conventional:
        for kind in MEDIA:
            for column in list(media[kind]):
                if not _looks_like_files(table.frame[column], kind):
                    media[kind].remove(column)
                    spare.append(column)
    for column, kind in attributes.items():
        if kind == "auto":
            found, _ = guess(table.frame[column])
            attributes[column] = found if found in ("number", "list", "date") else "category"
    for column in sorted(spare, key=table.frame.columns.index):
        found, why = guess(table.frame[column])
        if found == "text":
            text.append(column)
        elif found == "vector":
            vectors.setdefault(column, column)
        elif found:
            attributes[column] = found  # type: ignore[assignment]
        else:
            unused[column] = f"unused: {why}"
    says: dict[str, str] = {roles.id: "id"}
    for column in text:
        says[column] = "title, text" if column == roles.title else "text"
    if roles.title and roles.title not in text:
        says[roles.title] = "title"
    says |= {column: kind for kind in MEDIA for column in media[kind]}
    says |= {column: f"attribute: {kind}" for column, kind in attributes.items()}
    says |= {column: f"vector:{name}" for name, column in vectors.items() if not column.endswith(".npy")}
    says |= unused
    for name in table.names:
        for column in table.frame.columns:
            if column in says:
                findings.take(name, column, says[column])
    frozen = {kind: tuple(columns) for kind, columns in media.items()}
    return ItemRoles(roles.id, roles.title, tuple(text), frozen, attributes, vectors, (), tuple(unused))


def _strings(table: Table, column: str) -> list[str]:
    """A column as clean text, "" where there is none."""
    text = as_strings(table.frame[column])
    return [clean_text(value) if value else "" for value in text.to_list()]


def _texts(table: Table, columns: Sequence[str]) -> list[Content | None]:
    fields = [_strings(table, column) for column in columns]
    out: list[Content | None] = []
    for row in zip(*fields, strict=True):
        filled = tuple((column, value) for column, value in zip(columns, row, strict=True) if value)
        out.append(Text(filled) if filled else None)
    return out


def _looks_like_files(series: pl.Series, kind: str) -> bool:
    """Whether a column that is named like a medium holds paths: some value ends as such files do."""
    import polars as pl

    if isinstance(series.dtype, pl.List) and series.dtype.inner == pl.String:
        series = series.explode()
    if series.dtype != pl.String:
        return False
    return any(e.lower().endswith(ENDINGS[kind]) for v in series.drop_nulls().to_list() for e in split_list(v))


def _media(table: Table, columns: Sequence[str], findings: Findings) -> list[Content | None]:
    """The files of each row that are there; the others are reported as missing."""
    out: list[Content | None] = []
    fields = [table.frame[column].to_list() for column in columns]
    for row, cells in enumerate(zip(*fields, strict=True)):
        folder = table.paths[table.file[row]].parent
        paths: list[Path] = []
        for cell in cells:
            for entry in _entries(cell, folder):
                path = _there(folder, entry)
                if path is None:
                    findings.miss(*table.where(row), entry)
                else:
                    paths.append(path)
        out.append(Media(tuple(dict.fromkeys(paths))) if paths else None)
    return out


def _entries(cell: object, folder: Path) -> list[str]:
    """The paths in one cell: one, or several divided by "|" or in a list."""
    if cell is None:
        return []
    if isinstance(cell, list):
        return [str(entry) for entry in cell if entry]
    text = str(cell).strip()
    if not text or ("|" not in text and not text.startswith("[")) or _there(folder, text):
        return [text] if text else []
    return [entry for entry in split_list(text) if entry]


def _there(folder: Path, entry: str) -> Path | None:
    for form in dict.fromkeys((entry, entry.replace("\\", "/"))):
        full = os.path.join(folder, form)
        try:
            if os.path.isfile(full):
                return Path(full)
        except ValueError:  # a NUL byte
            return None
    return None


def _attributes(table: Table, kinds: Mapping[str, AttributeKind], findings: Findings) -> list[Content | None]:
    rows: list[dict[str, Attribute]] = [{} for _ in range(len(table))]
    for column, kind in kinds.items():
        values, unfit, note = values_of(table.frame[column], kind)
        if unfit:
            file, line = table.where(unfit[0])
            many = f"{len(unfit)} cells are" if len(unfit) > 1 else "1 cell is"
            findings.note(f"{file}, column {column!r}: {many} no {kind} and left empty, first in line {line}")
        if note:
            findings.note(f"{', '.join(table.names)}: column {note}")
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                row[column] = value
    return [Attributes(row) if row else None for row in rows]


def _npy(path: Path, where: str) -> np.ndarray:
    """A matrix of vectors. **Raises** RecipeError, DataError."""
    if not path.is_file():
        raise RecipeError(f"{where}: there is no file {path}")
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise DataError(f"{path.name} is not a .npy matrix ({str(error).splitlines()[0]})") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
        raise DataError(f"{path.name} should hold a matrix of numbers, rows × size")
    return values


def _ready(values: np.ndarray) -> list[Content | None]:
    """Rows as vectors; a row with a number that is not finite, or of nothing but zeros, is absent."""
    values = np.asarray(values, np.float32)
    present = np.isfinite(values).all(1) & (values != 0).any(1)
    return [Ready(row) if there else None for row, there in zip(values, present, strict=True)]


def _vector_column(table: Table, column: str, findings: Findings) -> list[Content | None]:
    """A list column as vectors; a row of another length than most is reported and absent."""
    import json

    rows = table.frame[column].to_list()
    if rows and any(isinstance(row, str) for row in rows):
        parsed = []
        for row in rows:
            try:
                parsed.append(json.loads(row) if row else None)
            except (ValueError, RecursionError):
                parsed.append([])
        rows = parsed
    lengths = [len(row) for row in rows if isinstance(row, list) and row]
    if not lengths:
        raise DataError(f"{', '.join(table.names)}: column {column!r} holds no vectors")
    usual = max(sorted(set(lengths)), key=lengths.count) if len(set(lengths)) > 1 else lengths[0]
    values = np.full((len(rows), usual), np.nan, np.float32)
    for place, row in enumerate(rows):
        if row is None:
            continue
        with contextlib.suppress(TypeError, ValueError):  # it stays NaN, and is reported below
            values[place] = np.asarray(row, np.float32) if len(row) == usual else np.nan
        if not np.isfinite(values[place]).all():
            file, line = table.where(place)
            findings.note(
                f"{file}, column {column!r}: vectors that are not {usual} finite numbers are left out, first in line {line}"
            )
    return _ready(values)


def _only_vectors(section: Things, sources: Sources, findings: Findings, what: str) -> Catalog | None:
    """A catalogue that is nothing but `.npy` files: the id of a row is its number, from 0."""
    content: dict[str, Sequence[Content | None]] = {}
    sizes: dict[str, int] = {}
    for name, file in section.vectors.items():
        where = f"{sources.where} [{what}] vectors.{name}"
        if not file.endswith(".npy"):
            raise RecipeError(f"{where}: without a table of {what} this must be a .npy file, not {file!r}")
        values = _npy(sources.folder / file, where)
        sizes[file] = len(values)
        content[VECTOR + name] = _ready(values)
        findings.take(file, "(rows)", f"vector:{name}, the id is the number of the row from 0")
    if not sizes:
        return None
    if len(set(sizes.values())) > 1:
        raise DataError("vectors must have as many rows each: " + ", ".join(f"{f} has {n}" for f, n in sizes.items()))
    return Catalog(Ids(str(row) for row in range(next(iter(sizes.values())))), content)
