"""Tables of events as columns of rows and numbers, before weights: what cannot be an event is rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sensorium.data.clean import clean_text
from sensorium.data.columns import EventRoles, Sources, event_roles
from sensorium.data.ids import Ids
from sensorium.data.prepare import Named, as_strings, believable, folded, moments, named, numbers, repeated
from sensorium.data.report import Findings
from sensorium.data.tables import Table, find_files, read_tables
from sensorium.errors import DataError

if TYPE_CHECKING:
    import polars as pl

MOST_KINDS = 1_000  # of events; a column with more is something else


@dataclass(frozen=True, eq=False)
class Log:
    """The events of one table, in the order of the file, before weights: columns (E,)."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    kind: NDArray[np.int16]
    value: NDArray[np.float32]
    time: NDArray[np.float64]
    text: NDArray[np.object_] | None
    timed: bool

    def __len__(self) -> int:
        return len(self.user)

    def take(self, keep: NDArray[np.bool_]) -> Log:
        """Only the events that `keep` (E,) marks."""
        if keep.all():
            return self
        text = None if self.text is None else self.text[keep]
        columns = {name: getattr(self, name)[keep] for name in ("user", "item", "kind", "value", "time")}
        return replace(self, text=text, **columns)


class Names:
    """Ids that grow while tables are read: name → row."""

    def __init__(self, known: Ids | None = None) -> None:
        self.rows: dict[str, int] = {name: row for row, name in enumerate(known or ())}

    def number(self, names: Named, keep: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The rows of a column of ids; new ones are appended in order of first appearance among the rows to keep."""
        if not self.rows and keep.all():
            self.rows = {name: row for row, name in enumerate(names.names)}
            return names.code
        seen = np.ones(len(names.names) + 1, bool)
        if not keep.all():
            seen[:] = False
            seen[names.code[keep]] = True
        for name, used in zip(names.names, seen[:-1].tolist(), strict=True):
            if used:
                self.rows.setdefault(name, len(self.rows))
        return names.rows(self.rows)


def read_log(
    patterns: Sequence[str], sources: Sources, findings: Findings, users: Names, items: Names, kinds: dict[str, None]
) -> Log:
    """The events of some files, rows that cannot be events rejected."""
    section = sources.events
    found: list[EventRoles] = []

    def choose(names: Sequence[str]) -> Mapping[str, bool]:
        roles = event_roles(names, section, where=sources.where or name)
        found.append(roles)
        repeating = (roles.user, roles.item, roles.kind)
        return {column: column in repeating for column in names if column in roles.columns}

    parts: list[Log] = []
    for name, path in find_files(patterns, sources.folder):
        table = read_tables([(name, path)], findings, columns=section.columns, choose=choose)
        roles = found[-1] if found else event_roles(table.frame.columns, section, where=sources.where or name)
        found.clear()
        _say(name, table, roles, findings)
        parts.append(_columns(table, roles, findings, users, items, kinds))
    return joined(parts)


def _say(name: str, table: Table, roles: EventRoles, findings: Findings) -> None:
    for role in ("user", "item", "kind", "value", "time"):
        column = getattr(roles, role)
        if column:
            findings.take(name, column, "rating" if role == "value" and roles.rating else role)
    for column in roles.text:
        findings.take(name, column, "text")


def _columns(
    table: Table, roles: EventRoles, findings: Findings, users: Names, items: Names, kinds: dict[str, None]
) -> Log:
    """One table of events as columns; rejects what has no person, no item, no readable time or value."""
    frame = table.frame
    keep = np.ones(len(table), bool)

    def reject(wrong: NDArray[np.bool_], reason: str) -> None:
        rows = np.flatnonzero(wrong & keep)
        findings.reject_many(table.places(rows), len(rows), reason)
        keep[rows] = False

    people, things = named(table.cells(roles.user)), named(table.cells(roles.item))
    reject(people.code < 0, f"no person in column {roles.user!r}")
    reject(things.code < 0, f"no item in column {roles.item!r}")
    time = np.zeros(len(table))
    if roles.time:
        time, unit = moments(frame[roles.time])
        findings.take(table.names[0], roles.time, f"time, as {unit}")
        empty = (
            (as_strings(frame[roles.time]).fill_null("") == "").to_numpy()
            if np.isnan(time).any()
            else np.zeros(len(time), bool)
        )
        reject(empty, f"no time in column {roles.time!r}")
        reject(
            np.isnan(time),
            f"a time in column {roles.time!r} that cannot be read; write 2024-12-31 18:30 or seconds since 1970",
        )
        reject(~believable(time), f"a time in column {roles.time!r} before 1970 or after 2200")
    value = np.full(len(table), np.nan)
    if roles.value:
        value, wrong = numbers(frame[roles.value])
        reject(wrong, f"a value in column {roles.value!r} that is not a finite number")
        with np.errstate(invalid="ignore"):
            reject(np.abs(value) > 1e30, f"a value in column {roles.value!r} beyond 1e30")
    kind = np.zeros(len(table), np.int16)
    rating = roles.rating or (roles.value is not None and roles.kind is None and _is_scale(value))
    if roles.kind:
        names = named(table.cells(roles.kind))
        if len(names.names) > MOST_KINDS:
            raise DataError(
                f"{table.names[0]}: column {roles.kind!r} has {len(names.names)} kinds of events; is it the right column?"
            )
        reject(names.code < 0, f"no kind in column {roles.kind!r}")
        used = np.zeros(len(names.names) + 1, bool)
        used[names.code[keep]] = True
        places = []
        for word, present in zip(map(folded, names.names), used[:-1].tolist(), strict=True):
            if present:
                kinds.setdefault(word, None)
            places.append(list(kinds).index(word) if word in kinds else 0)
        kind = np.array([*places, 0], np.int16)[names.code]
    else:
        word = "rating" if rating else "view"
        kinds.setdefault(word, None)
        kind[:] = list(kinds).index(word)
    text = _words(frame, roles.text) if roles.text else None
    user, item = users.number(people, keep), items.number(things, keep)
    log = Log(user, item, kind, value.astype(np.float32), time, text, roles.time is not None).take(keep)
    if not roles.time:
        return log
    copies = repeated([log.user, log.item, log.kind, log.value, log.time], log.text)
    rows = np.flatnonzero(keep)[copies]
    findings.reject_many(table.places(rows), len(rows), "an exact copy of an earlier event")
    return log.take(~copies)


def _is_scale(value: NDArray[np.float64]) -> bool:
    """Whether the values of a column without a telling name are ratings: a few steps between −10 and 10."""
    known = np.unique(value[np.isfinite(value)])
    return 2 <= len(known) <= 21 and bool(known[0] >= -10 and known[-1] <= 10)


def _words(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.object_]:
    """The words of a review, its parts one after the other; None where there are none."""
    fields = [[clean_text(v) if v else "" for v in as_strings(frame[c]).to_list()] for c in columns]
    out = np.full(len(frame), None, object)
    for row, parts in enumerate(zip(*fields, strict=True)):
        out[row] = (
            ". ".join(part.rstrip(".") if place < len(parts) - 1 else part for place, part in enumerate(parts) if part)
            or None
        )
    return out


def joined(parts: Sequence[Log]) -> Log:
    """Several logs as one, in order. Where one has no times, none has."""
    if len(parts) == 1:
        return parts[0]
    timed = all(part.timed for part in parts)
    texts = None
    if any(part.text is not None for part in parts):
        texts = np.concatenate([p.text if p.text is not None else np.full(len(p.user), None, object) for p in parts])
    user, item, kind, value = (
        np.concatenate([getattr(p, n) for p in parts]) for n in ("user", "item", "kind", "value")
    )
    time = np.concatenate([p.time for p in parts]) if timed else np.zeros(0)
    return Log(user, item, kind, value, time, texts, timed)


def one_after_another(logs: Mapping[str, Log]) -> Mapping[str, Log]:
    """The parts of a given split where only some have times: the others come, row by row, after the latest time so far."""
    out: dict[str, Log] = {}
    latest = 0.0
    for name, log in logs.items():
        time = log.time if log.timed else latest + 1 + np.arange(len(log.user), dtype=np.float64)
        latest = max(latest, float(time.max())) if len(time) else latest
        out[name] = replace(log, time=time, timed=True)
    return out
