"""A table of items, or of people, becomes a catalogue: text, media, attributes and ready vectors row by row."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.data.attributes import EMPTY, guess, guess_alone, split_list, values_of, within
from sensorium.data.catalog import Catalog
from sensorium.data.clean import clean_text
from sensorium.data.columns import (
    ENDINGS,
    ITEM_IDS,
    MEDIA,
    NOTHING,
    TITLES,
    AttributeKind,
    ItemRoles,
    Sources,
    Taken,
    Things,
    find,
    having,
    item_roles,
)
from sensorium.data.content import ATTRIBUTES, TEXT, VECTOR, Attribute, Attributes, Content, Media, Ready, Text
from sensorium.data.ids import Ids
from sensorium.data.jsonlines import as_cell
from sensorium.data.prepare import as_strings, named
from sensorium.data.report import Findings
from sensorium.data.tables import Table, find_files, read_tables
from sensorium.errors import DataError, RecipeError

if TYPE_CHECKING:
    import polars as pl


def read_things(
    section: Things, sources: Sources, findings: Findings, what: str, *, taken: Taken = NOTHING, alone: bool = False
) -> tuple[Catalog | None, Taken]:
    """The catalogue of `[items]` or `[users]`, None where the section has no files; and what its columns were taken for.

    What they were `taken` for before decides. Rows that stand `alone` are each read as if there were no other.
    """
    if not section.files:
        return _only_vectors(section, sources, findings, what), NOTHING
    files = find_files(section.files, sources.folder)
    table = read_tables(files, findings, columns=section.columns)
    where = sources.where or ", ".join(table.names)
    roles = item_roles(table.frame.columns, section, where=where, what=what, taken=taken)
    table, whole, ids = _distinct(table, roles.id, findings, alone)
    content: dict[str, Sequence[Content | None]] = {}
    undivided = dict(taken.undivided)
    roles, says = _settled(table, roles, section, findings, taken)
    titles = _strings(table, roles.title) if roles.title else []
    if roles.text:
        content[TEXT] = _texts(table, roles.text)
    for kind in MEDIA:
        if roles.media[kind]:
            content[kind] = _media(table, roles.media[kind], findings)
    if roles.attributes:
        content[ATTRIBUTES] = _attributes(table, roles, findings, undivided, alone)
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
            content[VECTOR + name] = _vector_column(table, column, findings, taken.sizes.get(name))
    content = {modality: column for modality, column in content.items() if any(c is not None for c in column)}
    # Of a column that is empty nothing is known yet.
    kept = {
        c: role.replace("unused:", "unused: in the run's table") for c, role in says.items() if not role.endswith(EMPTY)
    }
    return Catalog(Ids(ids), content, titles), Taken(kept, undivided)


def taken_alone(row: Mapping[str, Any], section: Things, taken: Taken) -> dict[str, str]:
    """What those columns of a row are for that the run does not know: by the recipe, by convention, or by what stands in them."""
    known = {section.id, *section.vectors.values(), *taken.roles}
    fresh = [name for name in row if name not in known]
    own: dict[str, str] = {}
    if not section.conventional:
        for name in fresh:
            if (section.attributes or {}).get(name) == "auto":
                own[name] = f"attribute: {_kind(guess_alone(name, row[name]))}"
        titled = section.title or having("title", {name: taken.roles.get(name, "") for name in row})
        title = None if titled else find(fresh, TITLES)
        return {**own, title: "title"} if title else own
    if not fresh:
        return own
    bare = Things(id=ITEM_IDS[0], title=section.title if section.title in row else None)
    roles = item_roles([ITEM_IDS[0], *row], bare, where="items", taken=taken)
    media = {name: kind for kind in MEDIA for name in roles.media[kind] if _is_file(as_cell(row[name]), kind)}
    for name in fresh:
        kind = guess_alone(name, row[name])
        if name in roles.text:
            own[name] = "title, text" if name == roles.title else "text"
        elif name in media or kind == "text":
            own[name] = media.get(name, kind)
        else:
            own[name] = f"attribute: {kind}" if kind != "vector" else "unused: the run has no such vectors"
    return own


def _distinct(table: Table, column: str, findings: Findings, alone: bool) -> tuple[Table, np.ndarray, list[str]]:
    """The rows with an id of their own, the mask of them over the table, and the ids."""
    names = named(table.frame[column], alone=alone)
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


def _settled(
    table: Table, roles: ItemRoles, section: Things, findings: Findings, taken: Taken
) -> tuple[ItemRoles, dict[str, str]]:
    """The roles once the spare columns were looked at; and in words, which go to the report."""
    text, attributes, vectors = list(roles.text), dict(roles.attributes), dict(roles.vectors)
    media = {kind: list(columns) for kind, columns in roles.media.items()}
    unused = dict(roles.unused)
    spare = list(roles.spare)
    if section.conventional:
        for kind in MEDIA:
            for column in list(media[kind]):
                if column not in taken.roles and not _looks_like_files(table.frame[column], kind):
                    media[kind].remove(column)
                    spare.append(column)
    for column, kind in attributes.items():
        if kind == "auto":
            found, _ = guess(table.frame[column])
            attributes[column] = _kind(found)
    for column in sorted(spare, key=table.frame.columns.index):
        found, why = guess(table.frame[column])
        if found == "text":
            text.append(column)
        elif found == "vector":
            vectors.setdefault(column, column)
        elif found:
            attributes[column] = found  # type: ignore[assignment]
        else:
            unused[column] = why
    says: dict[str, str] = {roles.id: "id"}
    for column in text:
        says[column] = "title, text" if column == roles.title else "text"
    if roles.title and roles.title not in text:
        says[roles.title] = "title"
    says |= {column: kind for kind in MEDIA for column in media[kind]}
    says |= {column: f"attribute: {kind}" for column, kind in attributes.items()}
    says |= {column: f"vector:{name}" for name, column in vectors.items() if not column.endswith(".npy")}
    says |= {column: f"unused: {why}" for column, why in unused.items()}
    for name in table.names:
        for column in table.frame.columns:
            if column in says:
                findings.take(name, column, says[column])
    frozen = {kind: tuple(columns) for kind, columns in media.items()}
    return ItemRoles(roles.id, roles.title, tuple(text), frozen, attributes, vectors, (), unused), says


def _kind(found: str) -> AttributeKind:
    """The kind of an attribute, whatever it seems to be."""
    return found if found in ("number", "list", "date") else "category"  # type: ignore[return-value]


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
    return any(_is_file(value, kind) for value in series.drop_nulls().to_list())


def _is_file(value: object, kind: str) -> bool:
    return isinstance(value, str) and any(entry.lower().endswith(ENDINGS[kind]) for entry in split_list(value))


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


def _attributes(
    table: Table, roles: ItemRoles, findings: Findings, undivided: dict[str, str], alone: bool
) -> list[Content | None]:
    """The attributes of each row; the signs that were found to divide no lists are added to `undivided`."""
    rows: list[dict[str, Attribute]] = [{} for _ in range(len(table))]
    for column, kind in roles.attributes.items():
        signs = undivided.get(column, "")
        values, unfit, note = values_of(table.frame[column], kind, undivided=signs, alone=alone)
        if not alone and (more := within(values)):
            undivided[column] = more
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


def _vector_column(table: Table, column: str, findings: Findings, size: int | None) -> list[Content | None]:
    """A list column as vectors; a row of another length than `size` (None: than most) is reported and absent."""
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
    if not lengths and size is None:
        raise DataError(f"{', '.join(table.names)}: column {column!r} holds no vectors")
    usual = size or max(sorted(set(lengths)), key=lengths.count)
    values = np.full((len(rows), usual), np.nan, np.float32)
    wrong: list[int] = []
    for place, row in enumerate(rows):
        if row is None:
            continue
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # it stays NaN, and is reported below
            values[place] = np.asarray(row, np.float32) if len(row) == usual else np.nan
        if not np.isfinite(values[place]).all():
            wrong.append(place)
    if wrong:
        file, line = table.where(wrong[0])
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
