"""Everything a run knows, as tables that anything can read; and such tables into the store of a run.

Items and people are what the present version and the store tell of them together, events are those that were learnt from
and those that came since, each once. Media that came by upload lie beside the tables, in `media/`, and items name them from
there. Keys are named, and their secrets are nowhere. What is exported can be trained on
(`sensorium train --items items.jsonl --events events.jsonl`), or imported into another run, again and again: an event
is stored once, and not at all where the run has learnt it from its tables.

JSON Lines keep all. A CSV keeps texts, numbers, true and false, trees and lists of items and people, but for four things: null
and what is empty are not there afterwards; a list of one plain word is that word; a list of several is "a|b", as the reader of
tables divides it, and a list again in a column whose name says so (genres, tags, labels), else text; a number in a column of
texts (title, comment) is text. A text that would be read as anything else begins with a space, which the reader of tables
passes over, and which is taken away on the way in.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from math import isnan
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.data.catalog import Catalog
from sensorium.data.clean import clean_id, clean_text
from sensorium.data.columns import LISTS, TEXTS, plain
from sensorium.data.content import Attributes, Media, Text
from sensorium.data.prepare import folded
from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry, Note, Store, written
from sensorium.recipe import read_recipe_text
from sensorium.snapshot import Snapshot
from sensorium.uploaded import KIND, UPLOADED, columns_of, kept, name_of, opened

FORMATS = ("jsonl", "csv")
TABLES = ("items", "users", "events", "journal", "documents", "keys")
NAMES = {"items": "item_id", "users": "user_id"}  # what the id of a thing is called in its table
GORSE = "_gorse"  # in a document: the item as it came through Gorse's API
ANEW = "anew"  # and that it was dropped before
COLUMNS = ("user", "item", "kind", "time", "value", "text", "key")
ID_CHARACTERS = 512  # that an id may have in the API
DEEPEST = 250  # trees within trees that the service can answer with
PROSE = (*TEXTS, "comment")  # columns of a CSV in which 1984 is a text
BATCH = 1000
OURS = "import:"  # begins the keys of events that came without one
PIECE = 20_000  # entries of the log that are read at once
PIECE_BYTES = 1 << 20  # of a file that are copied at once
LINE_BYTES = 1 << 20
FILE_BYTES = 1 << 30  # of an upload: as many as a service can be told to take in a body
MEDIA = f"{runs.UPLOADS}/"  # begins the path of an upload in an export
MADE = (KIND, "problems")  # documents that are made again of others
WRONG = (DataError, ValueError, TypeError, KeyError, OverflowError, RecursionError, csv.Error)  # of a line
Row = dict[str, Any]
Said = tuple[str, str, str, float, float | None, str | None]  # user, item, kind, time, value, text
T = TypeVar("T")


def exported(folder: Path | str, store: Store, out: Path | str, *, form: str = "jsonl") -> dict[str, int]:
    """Writes a run's tables to a folder, made while the run is served; returns how many rows each has, how many `media` that
    came by upload lie beside them, and how many `media missing` that items go on naming by their marks.

    **Raises** SnapshotError where the folder holds something already; DataError for a form that is not known.
    """
    folder, out = Path(folder), Path(out)
    if form not in FORMATS:
        raise DataError(f"--format {form}: there are {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SnapshotError(f"{out}: there is something already; export to a new folder")
    version = snapshots.read(runs.current(folder))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".copy.") as name:
        store.backup(Path(name) / "store.sqlite")  # one moment for all tables
        with Log(Path(name) / "store.sqlite") as copy:
            documents: dict[str, dict[str, Row]] = {"items": {}, "users": {}}
            others: list[Row] = []
            keys: list[Row] = []
            for kind, one, body, _ in copy.rows("documents"):
                known = None if body is None else json.loads(body)
                if kind in documents:
                    documents[kind][one] = known if known is not None else {"dropped": True}
                elif known is not None and kind == "keys":
                    keys.append({"name": one, **{word: known[word] for word in ("role", "made") if word in known}})
                elif known is not None and kind not in MADE:
                    others.append({"kind": kind, "id": one, "body": known})
            media = _Media(
                folder / runs.UPLOADS, out / runs.UPLOADS, columns_of(read_recipe_text(version.recipe).items)
            )
            items = _things("items", version.catalog, documents["items"], version.hidden, media)
            tables: dict[str, Iterable[Row]] = {
                "items": map(media.beside, items),
                "users": _things("users", version.people, documents["users"]),
                "events": _events(version, copy.rows("events"), _position(version, store)),
                "journal": (
                    {"name": journal, "user": user, "time": time, "body": json.loads(body)}
                    for _, journal, user, time, body in copy.rows("journal")
                ),
                "documents": others,
                "keys": keys,
            }
            counts = {name: _write(out / f"{name}.{form}", rows) for name, rows in tables.items()}
            there = Counter(media.copied.values())
            told = {"media": there[True], "media missing": there[False]}
            return counts | {name: count for name, count in told.items() if count}


def imported(
    folder: Path | str, store: Store, version: Snapshot | None = None, run: Path | str | None = None
) -> dict[str, int]:
    """Puts exported tables into a store, those that there are; returns how many rows of each, how many `media`, and how many
    events were `known already`.

    Items and people replace what the store tells of them. Uploads that lie beside the tables go to the folder of the `run`,
    as its own; without it, items name them as the table does. An event is known by its key, or else by what it says: what is
    in the store, or what the `version` of its run has learnt from tables, is not stored again. A journal is taken, whole,
    where the store has none of its name. Keys must be made anew.
    **Raises** DataError for a wrong line, or one whose upload is wrong; what stands before it is stored. **Cost** all the
    log, once.
    """
    folder, counts = Path(folder), dict[str, int]()
    there = [(table, folder / f"{table}.{form}") for table in TABLES for form in FORMATS]
    there = [(table, path) for table, path in there if path.is_file() and table != "keys"]
    if not there:
        raise SnapshotError(f"{folder}: nothing to import; it should hold items.jsonl, events.jsonl or the like")
    known, files = Known(store, version), None if run is None else _Files(folder, Path(run) / runs.UPLOADS, store)
    took: Mapping[str, Callable[[Store, _Rows], None]] = {
        "items": partial(_put_items, files=files), "users": _put_users, "events": known.append, "journal": _note,
        "documents": _put_others,
    }  # fmt: skip
    for table, path in there:
        rows = _Rows(path)
        try:
            took[table](store, rows)
        except KeyError as error:
            raise DataError(f"{path}, line {rows.line}: {error.args[0]} is missing") from None
        except WRONG as error:
            raise DataError(f"{path}, line {rows.line}: {' '.join(str(error).split())}") from None
        counts[table] = rows.count
    told = {"media": 0 if files is None else len(files.names), "known already": known.met}
    return counts | {name: count for name, count in told.items() if count}


# --- out ----------------------------------------------------------------------------------------------------------


class _Media:
    """Media of a run that came by upload, on their way out: those that items name are copied, each once."""

    def __init__(self, home: Path, out: Path, columns: Mapping[str, str]) -> None:
        self.home, self.out, self.columns = home, out, columns
        self.copied: dict[str, bool] = {}  # by name: False where it is gone
        self._homes = {Path(os.path.abspath(home)), home.resolve()}

    def mark(self, path: Path) -> str:
        """The mark of a file of the catalogue, "" where it did not come by upload."""
        mark = UPLOADED + path.name
        return mark if name_of(mark) and path.parent in self._homes else ""

    def has(self, told: Row, modality: str) -> bool:
        """Whether a document has media of a modality in columns of its own: they stand in for those of the catalogue."""
        return any(value and self.columns.get(column) == modality for column, value in told.items())

    def beside(self, row: Row) -> Row:
        """A row that names uploads by where they lie from the table; those that are gone by their marks."""
        return {key: value if key == NAMES["items"] else self._beside(value) for key, value in row.items()}

    def _beside(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._beside(one) for one in value]
        name = name_of(value)
        if name and name not in self.copied:
            self.copied[name] = self._copy(name)
        return MEDIA + name if name and self.copied[name] else value

    def _copy(self, name: str) -> bool:
        try:
            file = opened(self.home / name)
        except FileNotFoundError:
            return False
        with file:
            self.out.mkdir(exist_ok=True)
            with (self.out / name).open("xb") as out:
                shutil.copyfileobj(file, out, PIECE_BYTES)
                out.flush()
                os.fsync(out.fileno())
        return True


def _things(
    kind: str, catalog: Catalog | None, documents: Mapping[str, Row], hidden: Iterable[int] = (),
    media: _Media | None = None,
) -> Iterator[Row]:  # fmt: skip
    """What is known of each: the version's columns, and over them what the store was told since."""
    concealed = set(hidden)
    for row, name in enumerate(catalog.ids if catalog is not None else ()):
        told = documents.get(name, {})
        if told.get("dropped"):
            continue
        assert catalog is not None
        known: Row = {NAMES[kind]: name}
        if told.get(ANEW):  # nothing stays of what it was
            yield known | {key: value for key, value in told.items() if key != ANEW}
            continue
        if row < len(catalog.titles) and catalog.titles[row]:
            known["title"] = catalog.titles[row]
        for modality, column in catalog.content.items():
            match column[row]:
                case Text(fields):
                    known |= dict(fields)
                case Media(paths):
                    marks = {path: media.mark(path) for path in paths} if media is not None else {}
                    again = media is not None and media.has(told, modality)
                    files = [marks.get(path) or str(path) for path in paths if not (again and marks.get(path))]
                    if files:
                        known[modality] = files if len(files) > 1 else files[0]
                case Attributes(values):
                    known |= {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        if row in concealed:
            known["hidden"] = True
        yield known | told
    for name, told in documents.items():
        if (catalog is None or name not in catalog.ids) and not told.get("dropped"):
            yield {NAMES[kind]: name, **{key: value for key, value in told.items() if key != ANEW}}


def _events(version: Snapshot, log: Iterable[tuple[Any, ...]], read: int) -> Iterator[Row]:
    """Those the version has learnt from, and those of the log that came since: after what it had `read`."""
    learnt = version.events
    items, users = version.catalog.ids, version.user_ids
    for row in range(len(learnt)):
        told: Row = {
            "user": users[learnt.user[row]], "item": items[learnt.item[row]], "kind": learnt.kinds[learnt.kind[row]],
            "time": float(learnt.time[row]) if learnt.timed else None,
            "value": None if isnan(learnt.value[row]) else float(learnt.value[row]),
            "text": None if learnt.text is None else learnt.text[row],
        }  # fmt: skip
        yield {key: value for key, value in told.items() if value is not None}
    for *words, position in log:
        if position > read:
            pairs = zip(("user", "item", "kind", "time", "value", "text", "key"), words, strict=True)
            yield {key: value for key, value in pairs if value is not None}


def _write(path: Path, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("x", encoding="utf-8", newline="") as out:
        if path.suffix == ".jsonl":
            for row in rows:
                out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += 1
        else:
            kept = list(rows)  # for their columns
            columns = list(dict.fromkeys(key for row in kept for key in row))
            table = csv.DictWriter(out, columns)
            table.writeheader()
            name = NAMES.get(path.stem)
            table.writerows(
                {key: _cell(value) if name in (None, key) else _cell(value, key) for key, value in row.items()}
                for row in kept
            )
            count = len(kept)
        out.flush()
        os.fsync(out.fileno())
    return count


def _cell(value: Any, column: str | None = None) -> Any:
    """A value in a table of plain words: a list as the reader of tables splits it, a tree as JSON. In a `column` that
    `_uncelled` reads, a text that would be read as anything else begins with a space."""
    if isinstance(value, list) and all(isinstance(one, str) and "|" not in one for one in value):
        if len(value) > 1 and value[0][:1] not in ("[", "{") and all(one and one == one.strip() for one in value):
            return "|".join(value)
        if len(value) < 2 or column is None:
            return _cell("|".join(value), column)
    if isinstance(value, str):
        changed = column is not None and value != "" and _uncelled(value, column) != value
        return f" {value}" if changed else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def _uncelled(cell: str, column: str) -> Any:
    """The value of a cell of items or people: what `_cell` made it of.

    >>> _uncelled("1961", "year"), _uncelled(" 1961", "title"), _uncelled("007", "code"), _uncelled("a|b", "tags")
    (1961, '1961', '007', ['a', 'b'])
    """
    if cell[0] == " ":
        return cell[1:]
    if cell[0] in "-0123456789[{tf":
        try:
            value = json.loads(cell, parse_constant=_no_number)
            text = json.dumps(value, allow_nan=False)
            _bounded(value)  # a code of twenty digits is no number
        except (DataError, ValueError, RecursionError):
            pass
        else:
            if isinstance(value, list | dict):
                return value
            if text == cell and plain(column) not in PROSE:  # 1e5 and 1.10 may be codes
                return value
    if "|" in cell and cell[0] not in "[{" and plain(column) in LISTS:
        words = [word.strip() for word in cell.split("|")]
        return words if all(words) else cell
    return cell


def _no_number(word: str) -> None:
    raise ValueError(word)


def _bounded(value: Any, depth: int = 1) -> None:
    """**Raises** DataError for what the service could not answer: a number of more than 64 bits, too deep a tree."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise DataError("a number has more than 64 bits; write it as text")
    if isinstance(value, dict | list):
        if depth > DEEPEST:
            raise DataError(f"more than {DEEPEST} trees and lists stand within each other")
        for one in value.values() if isinstance(value, dict) else value:
            _bounded(one, depth + 1)


# --- in -----------------------------------------------------------------------------------------------------------


class _Rows:
    """The rows of a table, as often as they are gone through; `line` is where the newest begins, `count` how many came."""

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.count = path, 0, 0

    def __iter__(self) -> Iterator[Row]:
        self.line = self.count = 0
        with self.path.open("rb") as file:
            for row in self._cells(file) if self.path.suffix == ".csv" else self._objects(file):
                self.count += 1
                yield row

    def _objects(self, file: IO[bytes]) -> Iterator[Row]:
        lines = _lines(file)
        while True:
            self.line += 1
            line = next(lines, b"")
            if not line:
                return
            if not line.strip():
                continue
            try:
                row = json.loads(line.rstrip(b"\r\n"))  # lest the place be told of a next line
            except json.JSONDecodeError as error:
                raise DataError(f"not JSON ({error.msg}, column {error.colno})") from None
            if not isinstance(row, dict):
                raise DataError("a line is no JSON object")
            yield row

    def _cells(self, file: IO[bytes]) -> Iterator[Row]:
        csv.field_size_limit(
            max(csv.field_size_limit(), LINE_BYTES)
        )  # what is exported may be longer than it is at first
        table = csv.reader((line.decode("utf-8") for line in _lines(file)), strict=True)
        self.line = 1
        columns = next(table, [])
        while True:
            self.line = table.line_num + 1
            cells = next(table, None)
            if cells is None:
                return
            if len(cells) > len(columns):
                raise DataError("a row has more cells than there are columns")
            if cells:
                row = {key: value for key, value in zip(columns, cells, strict=False) if value != ""}
                name = NAMES.get(self.path.stem)
                if name is not None:
                    row = {key: value if key == name else _uncelled(value, key) for key, value in row.items()}
                yield row


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            raise DataError(f"a line is longer than {LINE_BYTES:,} bytes")
        yield line


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """Rows by BATCH; those before a wrong one are given before it is told."""
    batch: list[T] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except WRONG:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _put(rows: _Rows, made: Callable[[Row], T | None], put: Callable[[list[T]], object]) -> None:
    """What is made of rows is put by BATCH; a batch that is refused is put one by one, up to the row that is wrong."""
    things = ((rows.line, thing) for row in rows if (thing := made(row)) is not None)
    for batch in _batches(things):
        try:
            put([thing for _, thing in batch])
        except WRONG:
            for rows.line, thing in batch:
                put([thing])
            raise


class _Files:
    """Uploads that lie beside exported tables, on their way into the folder of a run."""

    def __init__(self, source: Path, home: Path, store: Store) -> None:
        self.source, self.home, self.store = source / runs.UPLOADS, home, store
        self.names: set[str] = set()  # of those that came

    def own(self, item: str, row: Row) -> Row:
        """A row that names its uploads by their marks in the run, once they are kept there. **Raises** DataError."""
        names = {column: name for column, value in row.items() if (name := name_of(value, MEDIA))}
        names.pop(NAMES["items"], None)
        if not names:
            return row
        files = {column: (Path(name).suffix, self._body(name)) for column, name in names.items()}
        try:
            marks = kept(self.home, self.store, item, files)
        except OSError as error:
            raise DataError(f"its media cannot be kept ({error.strerror or type(error).__name__})") from None
        self.names.update(names.values())
        return row | marks

    def _body(self, name: str) -> bytes:
        try:
            if self.source.is_symlink():
                raise DataError(f"{MEDIA} is a link, and none is followed; put the folder itself beside the tables")
            with opened(self.source / name) as file:
                size = os.fstat(file.fileno()).st_size
                if not 0 < size <= FILE_BYTES:
                    raise DataError(f"{MEDIA}{name} has {size:,} bytes; a file may have 1 to {FILE_BYTES:,}")
                return file.read(size)
        except FileNotFoundError:
            raise DataError(
                f"{MEDIA}{name} is no file beside the table (a link is none); copy it there, or empty the cell"
            ) from None
        except OSError as error:
            raise DataError(f"{MEDIA}{name} cannot be read ({error.strerror or type(error).__name__})") from None


def _put_items(store: Store, rows: _Rows, *, files: _Files | None) -> None:
    def item(row: Row) -> tuple[str, Row]:
        name, row = _thing("items", row)
        row["hidden"] = row.get("hidden") in (True, "true", "True")
        if GORSE in row:
            row[GORSE] = _gorse(name, row[GORSE])
        return name, row if files is None else files.own(name, row)

    _put(rows, item, lambda batch: store.put("items", dict(batch)))


def _put_users(store: Store, rows: _Rows) -> None:
    _put(rows, partial(_thing, "users"), lambda batch: store.put("users", dict(batch)))


def _thing(kind: str, row: Row) -> tuple[str, Row]:
    """The id of an item or a person, and its row with it. **Raises** DataError for what the API would neither take nor tell."""
    column = NAMES[kind]
    name = row[column]
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise DataError(f"{column} must be text; give one of 1 to {ID_CHARACTERS} characters")
    name = str(name)
    if not 0 < len(name) <= ID_CHARACTERS:
        raise DataError(f"{column} has {len(name):,} characters; give one of 1 to {ID_CHARACTERS}")
    row = {**row, column: name}
    _bounded(row)
    return name, row


def _gorse(name: str, told: Any) -> Row:
    """An item as it came through Gorse's API, which will answer with it. **Raises** DataError."""
    where = f"{GORSE} of {name[:60]!r}"
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except (ValueError, RecursionError):
            raise DataError(f"{where} is not JSON; leave it out, and it is read off the columns") from None
    if not isinstance(told, dict):
        raise DataError(f"{where} is no JSON object; leave it out, and it is read off the columns")
    _bounded(told)
    words = told.get("Categories")
    right: Mapping[str, bool] = {
        "ItemId": told.get("ItemId") == name,
        "IsHidden": isinstance(told.get("IsHidden"), bool),
        "Categories": isinstance(words, list) and all(isinstance(one, str) and one for one in words),
        "Timestamp": _is_time(told.get("Timestamp")),
        "Labels": "Labels" in told,
        "Comment": isinstance(told.get("Comment"), str),
    }
    wrong = [key for key, good in right.items() if not good] or [key for key in told if key not in right]
    if wrong:
        raise DataError(f"{where}: {wrong[0][:60]} is not as Gorse has it; leave {GORSE} out, or mend it")
    return told


def _is_time(text: Any) -> bool:
    """Whether this is a time as the service writes it."""
    try:
        return isinstance(text, str) and text[4:5] == "-" and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _put_others(store: Store, rows: _Rows) -> None:
    for row in rows:
        kind = str(row["kind"])
        if kind in ("keys", *NAMES):
            raise DataError(f"documents of the kind {kind!r} are not taken from here")
        body = json.loads(row["body"]) if isinstance(row["body"], str) else row["body"]
        if kind not in MADE:  # which exports of before have
            store.put(kind, {str(row["id"]): dict(body)})


class Known:
    """What a run has of events: those it has learnt from tables, where an exact copy counts once, and those of its log."""

    def __init__(self, store: Store, version: Snapshot | None) -> None:
        self.store, self.version = store, version
        self.met = 0  # rows of events that the run has already
        self._learnt: set[Said] = set()
        self._keys: set[str] = set()
        self._free: Counter[Said] = Counter()  # of the log, without a key of their own
        self._keyed: Counter[Said] = Counter()  # of the log, with one
        self._seen: Counter[str] = Counter()

    def append(self, store: Store, rows: _Rows) -> None:
        """Stores the events that are new."""
        self._look()
        _put(rows, self._new, store.append)

    def _look(self) -> None:
        timed, position = True, 0
        if self.version is not None:
            learnt, users, items = self.version.events, self.version.user_ids, self.version.catalog.ids
            timed, position = learnt.timed, _position(self.version, self.store)
            for row in np.flatnonzero(learnt.logged == 0 if learnt.logged is not None else np.ones(len(learnt))):
                text = None if learnt.text is None else learnt.text[row]
                time = float(learnt.time[row]) if timed else 0.0
                words = users[learnt.user[row]], items[learnt.item[row]], learnt.kinds[learnt.kind[row]]
                self._learnt.add(_said(*words, time, float(learnt.value[row]), text))
        after = 0
        while page := self.store.read(after, most=PIECE):
            after = page[-1].position
            for one in page:
                time = one.time if timed or one.position > position else 0.0  # as it is exported
                own = one.key is not None and not one.key.startswith(OURS)
                said = _said(one.user, one.item, one.kind, time, one.value, one.text)
                (self._keyed if own else self._free)[said] += 1
                if one.key is not None:
                    self._keys.add(one.key)

    def _new(self, row: Row) -> Entry | None:
        """The event of a row, None where it is known. Without a key it gets one that says what happened, and for the how
        manieth time."""
        time = float(row.get("time") or 0.0)
        value = None if row.get("value") is None else float(row["value"])
        kind, text, key = row.get("kind", "view"), row.get("text"), row.get("key")
        own = key
        if key is None:
            words = [row["user"], row["item"], kind, time, value, text]
            told = hashlib.blake2b(json.dumps(words).encode(), digest_size=12).hexdigest()
            self._seen[told] += 1
            key = f"{OURS}{told}:{self._seen[told]}"
        entry = Entry(row["user"], row["item"], kind, time, value, text, key)
        said = _said(entry.user, entry.item, kind, time, value, text)
        if own in self._keys:  # the store looks whether it is the same event
            self._keyed[said] -= 1
            self.met += 1
            return entry
        for counts in (self._free,) if own is not None else (self._free, self._keyed):
            if counts[said] > 0:
                counts[said] -= 1
                self.met += 1
                return None
        if said in self._learnt:
            self.met += 1
            return None
        return entry


def _said(user: str, item: str, kind: str, time: float, value: float | None, text: str | None) -> Said:
    """What an event says, as it would be said by a table that was read: names and text cleaned, its value in 32 bits."""
    with np.errstate(over="ignore"):
        short = None if value is None or isnan(value) else float(np.float32(value))
    return clean_id(user), clean_id(item), folded(kind), time, short, clean_text(text) if text else None


def _position(version: Snapshot, store: Store) -> int:
    """How far the version has read in this store."""
    return version.position if version.log in ("", store.identity) else version.logs.get(store.identity, 0)


def _note(store: Store, rows: _Rows) -> None:
    names: set[str] = set()
    for row in rows:  # to the end, before anything is stored: a part of a journal would keep the rest out
        name, note = _noted(row)
        written(note.body)
        names.add(name)
    new = {name for name in names if not store.notes(name, most=1)}
    for batch in _batches(map(_noted, rows)):
        for name in dict.fromkeys(name for name, _ in batch if name in new):
            store.note(name, [one for journal, one in batch if journal == name])


def _noted(row: Row) -> tuple[str, Note]:
    body = json.loads(row["body"]) if isinstance(row["body"], str) else row["body"]
    return str(row["name"]), Note(float(row["time"]), body, row.get("user"))
