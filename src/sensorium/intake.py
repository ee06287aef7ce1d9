"""What a run is told, made fit to keep: events as the store takes them, and the items of a table, read as its own were."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.data.attributes import within
from sensorium.data.catalog import Catalog
from sensorium.data.columns import MEDIA, NOTHING, RATINGS, ROLES, TITLES, USER_IDS, Taken, find, plain
from sensorium.data.content import ATTRIBUTES, TEXT, VECTOR, Attributes, Text
from sensorium.data.prepare import folded
from sensorium.data.readers import read, read_items_with_report
from sensorium.data.report import Report
from sensorium.errors import DataError
from sensorium.feedback.store import Entry
from sensorium.recipe import Recipe, read_recipe_text
from sensorium.snapshot import Snapshot

FIRST = 10_000  # items by which a snapshot of before tells what the columns of its table were
SECONDS = 1e8  # numbers as large may be seconds since 1970
LAST_SECOND = 253402300799.0  # of the year 9999; a time beyond it was given in milliseconds


def entries(events: Sequence[Entry | Mapping[str, Any]]) -> list[Entry]:
    """The events as the store takes them, checked. **Raises** DataError."""
    entries = [event if isinstance(event, Entry) else _entry(event) for event in events]
    late = next((entry for entry in entries if entry.time > LAST_SECOND), None)
    if late is not None:
        raise DataError(
            f"event of user {late.user!r}: time {late.time!r} is beyond the year 9999; give seconds since 1970"
        )
    return [replace(entry, kind=folded(entry.kind)) for entry in entries]


def entries_of(path: Path, recipe: Recipe) -> tuple[list[Entry], Report]:
    """Every event of a table, its columns read as the recipe's events are; and what reading found."""
    section = replace(recipe.events, files=(str(path.resolve()),))
    nothing = replace(recipe.items, files=())
    dataset = read(Recipe(items=nothing, events=section))
    events, items, now = dataset.events, dataset.catalog.ids, time.time()
    entries = [
        Entry(
            dataset.user_ids[events.user[row]], items[events.item[row]], events.kinds[events.kind[row]],
            float(events.time[row]) if events.timed else now,
            None if np.isnan(events.value[row]) else float(events.value[row]),
            None if events.text is None else events.text[row],
        )
        for row in range(len(events))
    ]  # fmt: skip
    return entries, dataset.report


def items_of(path: Path, recipe: Recipe, taken: Taken = NOTHING) -> tuple[Catalog, Report]:
    """The items of a table, its columns `taken` as those of the run's own were; and what reading found.

    **Raises** DataError for a table of events.
    """
    items, report = read_items_with_report(path, recipe, taken=taken)
    _refuse_events(report)
    return items, report


def taken_by(snapshot: Snapshot) -> Taken:
    """What the columns of a run's own table of items were taken for. A snapshot of before does not say so: what it holds of its
    first items tells, and what its encoder has for dates; a column of numbers that may be times is left open."""
    taken = _gathered(snapshot) if snapshot.taken is None else snapshot.taken
    sizes = {name.removeprefix(VECTOR): view.size for name, view in snapshot.views.items() if name.startswith(VECTOR)}
    return replace(taken, sizes=sizes)


def _gathered(snapshot: Snapshot) -> Taken:
    content, dates = snapshot.catalog.content, getattr(snapshot.encoders.get(ATTRIBUTES), "dates", ())
    roles: dict[str, str] = {}
    lists: dict[str, list[tuple[str, ...]]] = {}
    for told in islice(content.get(TEXT, ()), FIRST):
        roles |= {name: "text" for name, _ in told.fields} if isinstance(told, Text) else {}
    title = find(list(roles), TITLES)
    roles |= {title: "title, text"} if title else {}
    for facts in islice(content.get(ATTRIBUTES, ()), FIRST):
        for name, value in facts.values.items() if isinstance(facts, Attributes) else ():
            if isinstance(value, tuple):
                lists.setdefault(name, []).append(value)
                kind = "list"
            elif isinstance(value, str):
                kind = "category"
            else:
                kind = "date" if name in dates else "number" if abs(value) < SECONDS else ""
            if kind:
                roles.setdefault(name, f"attribute: {kind}")
    named = read_recipe_text(snapshot.recipe).items.vectors  # a list column, or a file beside the table
    vectors = [name.removeprefix(VECTOR) for name in snapshot.views if name.startswith(VECTOR)]
    roles |= {name: f"vector:{name}" for name in vectors if name not in named}
    return Taken(roles, {name: within(values) for name, values in lists.items()})


def with_known(report: Report, known: Sequence[str]) -> Report:
    """The report of added items, with those whose ids were known already."""
    notes = report.notes
    if known:
        ids = "id" if len(known) == 1 else "ids"
        notes = (*notes, f"{len(known):,} {ids} known already: what they say stays as it was, such as {known[0]!r}")
    return replace(report, counts={**report.counts, "known": len(known)}, notes=notes)


def _refuse_events(report: Report) -> None:
    """**Raises** DataError where a table of items says who did what, and nothing of what an item is."""
    for file, columns in report.taken.items():
        names = list(columns)
        person = find(names, [word for word in USER_IDS if word != "id"])
        deed = find(names, (*ROLES["kind"], *ROLES["time"], *RATINGS))
        told = any(
            role.startswith(("title", "text", *MEDIA, "vector")) and plain(name) not in ROLES["text"]
            for name, role in columns.items()
        )
        if person and deed and not told:
            raise DataError(
                f"{file}: no column of items beside the id, but {person!r} and {deed!r}: this is a table of events; "
                "note it with: sensorium observe RUN --events FILE"
            )


def _entry(event: Mapping[str, Any]) -> Entry:
    known = ("user", "item", "kind", "time", "value", "text", "key")
    unknown = [name for name in event if name not in known]
    if unknown or "user" not in event or "item" not in event:
        raise DataError(f"event {dict(event)!r}: give user and item, and of {', '.join(known[2:])} what there is")
    return Entry(**{"kind": "view", "time": time.time(), **event})
