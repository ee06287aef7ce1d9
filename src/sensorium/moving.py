"""Everything a run knows, as tables that anything can read; and such tables into the store of a run.

Items and people are what the present version and the store tell of them together, events are those that were learnt from
and those that came since, each once. Keys are named, and their secrets are nowhere. What is exported can be trained on
(`sensorium train --items items.jsonl --events events.jsonl`), or imported into another run, again and again: an event
is stored once, and not at all where the run has learnt it from its tables.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.data.catalog import Catalog
from sensorium.data.clean import clean_id, clean_text
from sensorium.data.content import Attributes, Media, Text
from sensorium.data.prepare import folded
from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry, Note, Store
from sensorium.snapshot import Snapshot

FORMATS = ("jsonl", "csv")
TABLES = ("items", "users", "events", "journal", "documents", "keys")
NAMES = {"items": "item_id", "users": "user_id"}  # what the id of a thing is called in its table
GORSE = "_gorse"  # in a document: the item as it came through Gorse's API
COLUMNS = ("user", "item", "kind", "time", "value", "text", "key")
BATCH = 1000
OURS = "import:"  # begins the keys of events that came without one
PIECE = 20_000  # entries of the log that are read at once
LINE_BYTES = 1 << 20
Row = dict[str, Any]
Said = tuple[str, str, str, float, float | None, str | None]  # user, item, kind, time, value, text
T = TypeVar("T")


def exported(folder: Path | str, store: Store, out: Path | str, *, form: str = "jsonl") -> dict[str, int]:
    """Writes a run's tables to a folder, made while the run is served; returns how many rows each has.

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
                elif known is not None:
                    others.append({"kind": kind, "id": one, "body": known})
            tables: dict[str, Iterable[Row]] = {
                "items": _things("items", version.catalog, documents["items"], version.hidden),
                "users": _things("users", version.people, documents["users"]),
                "events": _events(version, copy.rows("events"), _position(version, store)),
                "journal": (
                    {"name": journal, "user": user, "time": time, "body": json.loads(body)}
                    for _, journal, user, time, body in copy.rows("journal")
                ),
                "documents": others,
                "keys": keys,
            }
            return {name: _write(out / f"{name}.{form}", rows) for name, rows in tables.items()}


def imported(folder: Path | str, store: Store, version: Snapshot | None = None) -> dict[str, int]:
    """Puts exported tables into a store, those that there are; returns how many rows of each, and how many events were
    `known already`.

    Items and people replace what the store tells of them. An event is known by its key, or else by what it says: what is
    in the store, or what the `version` of its run has learnt from tables, is not stored again. A journal is taken where
    the store has none of its name. Keys must be made anew.
    **Raises** DataError for a wrong line, which it names; what stands before it is stored. **Cost** all the log, once.
    """
    folder, counts = Path(folder), dict[str, int]()
    there = [(table, folder / f"{table}.{form}") for table in TABLES for form in FORMATS]
    there = [(table, path) for table, path in there if path.is_file() and table != "keys"]
    if not there:
        raise SnapshotError(f"{folder}: nothing to import; it should hold items.jsonl, events.jsonl or the like")
    known = Known(store, version)
    took: Mapping[str, Callable[[Store, Iterable[Row]], None]] = {
        "items": _put_things("items"), "users": _put_things("users"), "events": known.append, "journal": _note,
        "documents": _put_others,
    }  # fmt: skip
    for table, path in there:
        number = 0

        def rows(path: Path = path) -> Iterator[Row]:
            nonlocal number
            for row in _read(path):
                number += 1
                yield row

        try:
            took[table](store, rows())
        except KeyError as error:
            raise DataError(f"{path}, row {number}: {error.args[0]} is missing") from None
        except (DataError, ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}, up to row {number}: {' '.join(str(error).split())}") from None
        counts[table] = number
    return {**counts, "known already": known.met} if known.met else counts


# --- out ----------------------------------------------------------------------------------------------------------


def _things(
    kind: str, catalog: Catalog | None, documents: Mapping[str, Row], hidden: Iterable[int] = ()
) -> Iterator[Row]:
    """What is known of each: the version's columns, and over them what the store was told since."""
    concealed = set(hidden)
    for row, name in enumerate(catalog.ids if catalog is not None else ()):
        told = documents.get(name, {})
        if told.get("dropped"):
            continue
        assert catalog is not None
        known: Row = {NAMES[kind]: name}
        if row < len(catalog.titles) and catalog.titles[row]:
            known["title"] = catalog.titles[row]
        for modality, column in catalog.content.items():
            match column[row]:
                case Text(fields):
                    known |= dict(fields)
                case Media(paths):
                    known[modality] = [str(path) for path in paths] if len(paths) > 1 else str(paths[0])
                case Attributes(values):
                    known |= {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        if row in concealed:
            known["hidden"] = True
        yield known | told
    for name, told in documents.items():
        if (catalog is None or name not in catalog.ids) and not told.get("dropped"):
            yield {NAMES[kind]: name, **told}


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
            table.writerows({key: _cell(value) for key, value in row.items()} for row in kept)
            count = len(kept)
        out.flush()
        os.fsync(out.fileno())
    return count


def _cell(value: Any) -> Any:
    """A value in a table of plain words: a list as the reader of tables splits it, a tree as JSON."""
    if isinstance(value, list) and all(isinstance(one, str) and "|" not in one for one in value):
        return "|".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


# --- in -----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        if path.suffix == ".csv":
            text = (line.decode("utf-8") for line in _lines(file))
            for row in csv.DictReader(text, strict=True):
                if None in row:
                    raise DataError("a row has more cells than there are columns")
                yield {key: value for key, value in row.items() if value not in ("", None)}
            return
        for line in _lines(file):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError("a line is no JSON object")
                yield row


def _lines(file: Any) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            raise DataError(f"a line is longer than {LINE_BYTES:,} bytes")
        yield line


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def _put_things(kind: str) -> Callable[[Store, Iterable[Row]], None]:
    def thing(row: Row) -> tuple[str, Row]:
        name = str(row[NAMES[kind]])
        hidden = row.get("hidden") in (True, "true", "True")
        return name, {**row, NAMES[kind]: name, "hidden": hidden} if kind == "items" else row

    def put(store: Store, rows: Iterable[Row]) -> None:
        for batch in _batches(map(thing, rows)):  # a wrong row is told before the next one is read
            store.put(kind, dict(batch))

    return put


def _put_others(store: Store, rows: Iterable[Row]) -> None:
    for row in rows:
        if str(row["kind"]) in ("keys", *NAMES):
            raise DataError(f"documents of the kind {row['kind']!r} are not taken from here")
        body = json.loads(row["body"]) if isinstance(row["body"], str) else row["body"]
        store.put(str(row["kind"]), {str(row["id"]): dict(body)})


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

    def append(self, store: Store, rows: Iterable[Row]) -> None:
        """Stores the events that are new."""
        self._look()
        new = (entry for entry in map(self._new, rows) if entry is not None)
        for batch in _batches(new):
            store.append(batch)

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


def _note(store: Store, rows: Iterable[Row]) -> None:
    new: dict[str, bool] = {}
    for batch in _batches(map(_noted, rows)):
        for name in dict.fromkeys(name for name, _ in batch):
            if name not in new:
                new[name] = not store.notes(name, most=1)
            if new[name]:
                store.note(name, [one for journal, one in batch if journal == name])


def _noted(row: Row) -> tuple[str, Note]:
    body = json.loads(row["body"]) if isinstance(row["body"], str) else row["body"]
    return str(row["name"]), Note(float(row["time"]), body, row.get("user"))
