"""A run's tables written to a folder: see moving.py."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes, Media, Text
from sensorium.errors import DataError, SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Store
from sensorium.moving import (
    ANEW,
    FORMATS,
    MADE,
    MEDIA,
    NAMES,
    PIECE_BYTES,
    Row,
    cell,
    position_in,
)
from sensorium.recipe import read_recipe_text
from sensorium.snapshot import Snapshot
from sensorium.uploaded import UPLOADED, columns_of, name_of, opened


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
                "events": _events(version, copy.rows("events"), position_in(version, store)),
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
                {key: cell(value) if name in (None, key) else cell(value, key) for key, value in row.items()}
                for row in kept
            )
            count = len(kept)
        out.flush()
        os.fsync(out.fileno())
    return count
