"""From tables to a dataset: a catalogue, people and events, outside ids turned into rows, and a report of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sensorium.data.catalog import Catalog
from sensorium.data.clean import clean_text
from sensorium.data.columns import Behaviour, EventRoles, Sources, event_roles
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.prepare import (
    as_strings,
    believable,
    folded,
    known_kind,
    moments,
    named,
    numbers,
    repeated,
    weighed,
)
from sensorium.data.report import Findings, Report
from sensorium.data.tables import Table, find_files, read_tables
from sensorium.data.things import read_things
from sensorium.errors import DataError, RecipeError
from sensorium.settings import nearest

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[[str, int, int], None]  # stage, done, total


def _silent(stage: str, done: int, total: int) -> None:
    """Says nothing."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One world. People that have no row of their own follow after those that have, and so do items.

    `people` has as many rows as `user_ids`, or is None where there is no table of people. `events` holds all events,
    those of `given` (`train`, `test`, perhaps `valid`: a split that somebody else made) included.
    """

    catalog: Catalog
    people: Catalog | None
    events: Events
    user_ids: Ids
    report: Report
    given: Mapping[str, Events] | None = None


@dataclass(frozen=True, eq=False)
class _Log:
    """The events of one table, in the order of the file, before weights: columns (E,)."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    kind: NDArray[np.int16]
    value: NDArray[np.float32]
    time: NDArray[np.float64]
    text: NDArray[np.object_] | None
    timed: bool


class _Names:
    """Ids that grow while tables are read: name → row."""

    def __init__(self, known: Ids | None = None) -> None:
        self.rows: dict[str, int] = {name: row for row, name in enumerate(known or ())}

    def number(self, column: pl.Series, keep: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The rows of a column of ids; new ones are appended in order of first appearance among the rows to keep."""
        names = named(column)
        code = names.code
        seen = np.zeros(len(names.names) + 1, bool)
        seen[code[keep]] = True
        for name, used in zip(names.names, seen[:-1].tolist(), strict=True):
            if used:
                self.rows.setdefault(name, len(self.rows))
        return names.rows(self.rows)


def read(
    sources: Sources, *, strict: bool = False, progress: Progress = _silent, known: Dataset | None = None
) -> Dataset:
    """Reads all tables of a world. `known` keeps its rows: what is read comes after them.

    **Raises** DataError for a file that is no table, or for the first rejected row where `strict`; RecipeError for a
    column, a kind or a file that the recipe names and that is not there.
    """
    findings = Findings(strict=strict)
    progress("read items", 0, 0)
    catalog = read_things(sources.items, sources, findings, "items")
    progress("read users", 0, 0)
    people = read_things(sources.users, sources, findings, "users")
    if known is not None:
        catalog = known.catalog if catalog is None else known.catalog.extended(catalog)
        old_people = known.people or (Catalog(known.user_ids, {}) if people is not None else None)
        people = old_people if people is None or old_people is None else old_people.extended(people)
    items_listed = len(catalog) if catalog is not None else 0
    users_listed = len(people) if people is not None else len(known.user_ids) if known is not None else 0
    items = _Names(catalog.ids if catalog is not None else None)
    users = _Names(people.ids if people is not None else known.user_ids if known is not None else None)
    kinds = dict.fromkeys(known.events.kinds, None) if known is not None else {}
    logs: dict[str, _Log] = {}
    for part in ("events", "train", "valid", "test"):
        files = sources.events.files if part == "events" else getattr(sources, part)
        if files:
            progress(f"read {part}", 0, 0)
            logs[part] = _log(files, sources, findings, users, items, kinds)
    if sources.train and not sources.test:
        raise RecipeError(f"{sources.where or 'train'}: files of train need files of test beside them")
    if catalog is None and not logs:
        raise RecipeError(f"{sources.where or 'nothing'}: no table is named; give [items] files or [events] files")
    _check_kinds(sources.events, sources.where, kinds, findings)
    events, given = _sorted(logs, tuple(kinds) or ("view",), sources.events.kinds, len(users.rows), len(items.rows))
    catalog = _with_more(catalog or Catalog(Ids(), {}), list(items.rows)[items_listed:])
    user_ids = Ids(users.rows)
    if people is not None:
        people = _with_more(people, list(users.rows)[users_listed:])
    findings.counts |= {
        "items": len(catalog), "users": len(user_ids), "events": len(events),
        "items_from_events": len(catalog) - items_listed, "users_from_events": len(user_ids) - users_listed,
    }  # fmt: skip
    return Dataset(catalog, people, events, user_ids, findings.report(), given)


def read_items(path: Path, sources: Sources, *, strict: bool = False) -> Catalog:
    """One more table of items, read as the `[items]` of `sources` says: what `sensorium add` adds."""
    return read_items_with_report(path, sources, strict=strict)[0]


def read_items_with_report(path: Path, sources: Sources, *, strict: bool = False) -> tuple[Catalog, Report]:
    """The same, and what reading found."""
    findings = Findings(strict=strict)
    section = replace(sources.items, files=(str(Path(path).resolve()),))
    section = replace(section, vectors={n: c for n, c in section.vectors.items() if not c.endswith(".npy")})
    catalog = read_things(section, sources, findings, "items")
    assert catalog is not None
    findings.counts["items"] = len(catalog)
    return catalog, findings.report()


def _with_more(catalog: Catalog, names: Sequence[str]) -> Catalog:
    """The catalogue with rows that have an id and nothing else after its own."""
    if not names:
        return catalog
    content = {modality: [*column, *([None] * len(names))] for modality, column in catalog.content.items()}
    return Catalog(Ids([*catalog.ids, *names]), content, catalog.titles)


def _log(
    patterns: Sequence[str], sources: Sources, findings: Findings, users: _Names, items: _Names, kinds: dict[str, None]
) -> _Log:
    """The events of some files, rows that cannot be events rejected."""
    section = sources.events
    found: list[EventRoles] = []

    def choose(names: Sequence[str]) -> Sequence[str]:
        found.append(event_roles(names, section, where=sources.where or name))
        return [column for column in names if column in found[-1].columns]

    parts: list[_Log] = []
    for name, path in find_files(patterns, sources.folder):
        table = read_tables([(name, path)], findings, columns=section.columns, choose=choose)
        roles = found[-1] if found else event_roles(table.frame.columns, section, where=sources.where or name)
        found.clear()
        _say(name, table, roles, findings)
        parts.append(_columns(table, roles, findings, users, items, kinds))
    return _joined(parts)


def _say(name: str, table: Table, roles: EventRoles, findings: Findings) -> None:
    for role in ("user", "item", "kind", "value", "time"):
        column = getattr(roles, role)
        if column:
            findings.take(name, column, "rating" if role == "value" and roles.rating else role)
    for column in roles.text:
        findings.take(name, column, "text")


def _columns(
    table: Table, roles: EventRoles, findings: Findings, users: _Names, items: _Names, kinds: dict[str, None]
) -> _Log:
    """One table of events as columns; rejects what has no person, no item, no readable time or value."""
    frame = table.frame
    keep = np.ones(len(table), bool)

    def reject(wrong: NDArray[np.bool_], reason: str) -> None:
        rows = np.flatnonzero(wrong & keep)
        findings.reject_many(table.places(rows), len(rows), reason)
        keep[rows] = False

    reject(named(frame[roles.user]).code < 0, f"no person in column {roles.user!r}")
    reject(named(frame[roles.item]).code < 0, f"no item in column {roles.item!r}")
    time = np.zeros(0)
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
        names = named(frame[roles.kind])
        reject(names.code < 0, f"no kind in column {roles.kind!r}")
        used = np.zeros(len(names.names) + 1, bool)
        used[names.code[keep]] = True
        places = []
        for word, present in zip(map(folded, names.names), used[:-1].tolist(), strict=True):
            if present:
                kinds.setdefault(word, None)
            places.append(list(kinds).index(word) if word in kinds else 0)
        if len(kinds) > 1_000:
            raise DataError(
                f"{table.names[0]}: column {roles.kind!r} has over 1,000 kinds of events; is it the right column?"
            )
        kind = np.array([*places, 0], np.int16)[names.code]
    else:
        word = "rating" if rating else "view"
        kinds.setdefault(word, None)
        kind[:] = list(kinds).index(word)
    text = _words(frame, roles.text) if roles.text else None
    user, item = users.number(frame[roles.user], keep), items.number(frame[roles.item], keep)
    columns = (user, item, kind, value.astype(np.float32))
    if not keep.all():
        columns = tuple(column[keep] for column in columns)  # type: ignore[assignment]
        text = None if text is None else text[keep]
        time = time[keep] if roles.time else time
    user, item, kind, value32 = columns
    if roles.time:
        copies = repeated([user, item, kind, value32, time], text)
        if copies.any():
            rows = np.flatnonzero(keep)[copies]
            findings.reject_many(table.places(rows), len(rows), "an exact copy of an earlier event")
            user, item, kind, value32, time = (c[~copies] for c in (user, item, kind, value32, time))
            text = None if text is None else text[~copies]
    return _Log(user, item, kind, value32, time, text, roles.time is not None)


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


def _joined(parts: Sequence[_Log]) -> _Log:
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
    return _Log(user, item, kind, value, time, texts, timed)


def _check_kinds(section: Behaviour, where: str, kinds: dict[str, None], findings: Findings) -> None:
    """A kind that the recipe weighs must occur or be a usual one; a kind that nobody weighs is noted."""
    from sensorium.data.events import KINDS

    given = {folded(kind): kind for kind in section.kinds}
    for word, written in given.items():
        if kinds and word not in kinds and word not in KINDS:
            raise RecipeError(
                f"{where} [events.kinds]: no event is of kind {written!r}; {nearest(word, [*kinds, *KINDS])}"
            )
    for word in kinds:
        if not known_kind(word, dict.fromkeys(given, 0.0)):
            findings.note(f"kind {word!r} has no weight of its own and counts 1; give it one under [events.kinds]")


def _sorted(
    logs: Mapping[str, _Log], kinds: tuple[str, ...], weights: Mapping[str, float], users: int, items: int
) -> tuple[Events, Mapping[str, Events] | None]:
    """The logs as events with weights, sorted by time; and the parts of a given split, by the name of the part.

    Without times, `train`, `valid` and `test` follow on one another. A person's mean rating is that of all parts.
    """
    if not logs:
        return Events.of([], [], users=users, items=items, kinds=kinds), None
    joined = _joined(list(logs.values()))
    time = joined.time if joined.timed else np.arange(len(joined.user), dtype=np.float64)
    whole = weighed(
        Events(
            user=joined.user, item=joined.item, kind=joined.kind, value=joined.value, weight=joined.value, time=time,
            users=users, items=items, kinds=kinds, timed=joined.timed, text=joined.text,
        ), weights,
    )  # fmt: skip
    parts: dict[str, Events] = {}
    start = 0
    for name, log in logs.items():
        if "train" in logs and name != "events":
            parts[name] = _by_time(whole.take(np.arange(start, start + len(log.user))))
        start += len(log.user)
    return _by_time(whole), parts or None


def _by_time(events: Events) -> Events:
    """Events sorted by time; a log that is sorted already, as most are, is not copied."""
    if (events.time[1:] >= events.time[:-1]).all():
        return events
    return events.take(np.argsort(events.time, kind="stable"))
