"""Exported tables taken into the store of a run: see moving.py."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from math import isnan
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from sensorium import runs
from sensorium.data.clean import clean_id, clean_text
from sensorium.data.prepare import folded
from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.store import Entry, Note, Store, written
from sensorium.moving import FORMATS, GORSE, MADE, MEDIA, NAMES, TABLES, Row, bounded, position_in, uncelled
from sensorium.snapshot import Snapshot
from sensorium.uploaded import kept, name_of, opened

COLUMNS = ("user", "item", "kind", "time", "value", "text", "key")
ID_CHARACTERS = 512  # that an id may have in the API
BATCH = 1000
OURS = "import:"  # begins the keys of events that came without one
PIECE = 20_000  # entries of the log that are read at once
LINE_BYTES = 1 << 20
FILE_BYTES = 1 << 30  # of an upload: as many as a service can be told to take in a body
WRONG = (DataError, ValueError, TypeError, KeyError, OverflowError, RecursionError, csv.Error)  # of a line
Said = tuple[str, str, str, float, float | None, str | None]  # user, item, kind, time, value, text
T = TypeVar("T")


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
                    row = {key: value if key == name else uncelled(value, key) for key, value in row.items()}
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
    bounded(row)
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
    bounded(told)
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
            timed, position = learnt.timed, position_in(self.version, self.store)
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
