"""From tables to a dataset: a catalogue, people and events, outside ids turned into rows, and a report of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sensorium.data.catalog import Catalog
from sensorium.data.columns import NOTHING, Behaviour, Sources, Taken
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.logs import Log, Names, joined, one_after_another, read_log
from sensorium.data.prepare import folded, known_kind, ordered, weighed
from sensorium.data.report import Findings, Report
from sensorium.data.things import read_things
from sensorium.errors import RecipeError
from sensorium.settings import nearest

Progress = Callable[[str, int, int], None]  # stage, done, total


def _silent(stage: str, done: int, total: int) -> None:
    """Says nothing."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One world. People that have no row of their own follow after those that have, and so do items.

    `people` has as many rows as `user_ids`, or is None where there is no table of people. `events` holds all events,
    those of `given` (`train`, `test`, perhaps `valid`: a split that somebody else made) included. `taken` is what the
    columns of the table of items were taken for.
    """

    catalog: Catalog
    people: Catalog | None
    events: Events
    user_ids: Ids
    report: Report
    given: Mapping[str, Events] | None = None
    taken: Taken = NOTHING


def read(
    sources: Sources, *, strict: bool = False, progress: Progress = _silent, known: Dataset | None = None
) -> Dataset:
    """Reads all tables of a world. `known` keeps its rows: what is read comes after them.

    **Raises** DataError for a file that is no table, or for the first rejected row where `strict`; RecipeError for a
    column, a kind or a file that the recipe names and that is not there.
    """
    findings = Findings(strict=strict)
    progress("read items", 0, 0)
    catalog, taken = read_things(sources.items, sources, findings, "items")
    progress("read users", 0, 0)
    people, _ = read_things(sources.users, sources, findings, "users")
    if known is not None:
        taken = known.taken if catalog is None else taken
        catalog = known.catalog if catalog is None else known.catalog.extended(catalog)
        old_people = known.people or (Catalog(known.user_ids, {}) if people is not None else None)
        people = old_people if people is None or old_people is None else old_people.extended(people)
    items_listed = len(catalog) if catalog is not None else 0
    users_listed = len(people) if people is not None else len(known.user_ids) if known is not None else 0
    items = Names(catalog.ids if catalog is not None else None)
    users = Names(people.ids if people is not None else known.user_ids if known is not None else None)
    kinds = dict.fromkeys(known.events.kinds, None) if known is not None else {}
    logs: dict[str, Log] = {}
    for part in ("events", "train", "valid", "test"):
        files = sources.events.files if part == "events" else getattr(sources, part)
        if files:
            progress(f"read {part}", 0, 0)
            logs[part] = read_log(files, sources, findings, users, items, kinds)
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
    return Dataset(catalog, people, events, user_ids, findings.report(), given, taken)


def read_items(path: Path, sources: Sources, *, strict: bool = False) -> Catalog:
    """One more table of items, read as the `[items]` of `sources` says: what `sensorium add` adds."""
    return read_items_with_report(path, sources, strict=strict)[0]


def read_items_with_report(
    path: Path, sources: Sources, *, strict: bool = False, taken: Taken = NOTHING, alone: bool = False
) -> tuple[Catalog, Report]:
    """The same, and what reading found. What the run has `taken` its columns for decides; rows that stand `alone` are each
    read as if there were no other."""
    findings = Findings(strict=strict)
    section = replace(sources.items, files=(str(Path(path).resolve()),))
    section = replace(section, vectors={n: c for n, c in section.vectors.items() if not c.endswith(".npy")})
    catalog, _ = read_things(section, sources, findings, "items", taken=taken, alone=alone)
    assert catalog is not None
    findings.counts["items"] = len(catalog)
    return catalog, findings.report()


def _with_more(catalog: Catalog, names: Sequence[str]) -> Catalog:
    """The catalogue with rows that have an id and nothing else after its own."""
    if not names:
        return catalog
    content = {modality: [*column, *([None] * len(names))] for modality, column in catalog.content.items()}
    return Catalog(Ids([*catalog.ids, *names]), content, catalog.titles)


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
    logs: Mapping[str, Log], kinds: tuple[str, ...], weights: Mapping[str, float], users: int, items: int
) -> tuple[Events, Mapping[str, Events] | None]:
    """The logs as events with weights, sorted by time; and the parts of a given split, by the name of the part.

    Without times, `train`, `valid` and `test` follow on one another. A person's mean rating is that of all parts;
    an evaluation takes that of each training part instead (see split).
    """
    if not logs:
        return Events.of([], [], users=users, items=items, kinds=kinds), None
    if any(log.timed for log in logs.values()):
        logs = one_after_another(logs)
    log = joined(list(logs.values()))
    time = log.time if log.timed else np.arange(len(log.user), dtype=np.float64)
    whole = weighed(
        Events(
            user=log.user, item=log.item, kind=log.kind, value=log.value, weight=log.value, time=time,
            users=users, items=items, kinds=kinds, timed=log.timed, text=log.text,
        ), weights,
    )  # fmt: skip
    parts: dict[str, Events] = {}
    start = 0
    for name, part in logs.items():
        if "train" in logs and name != "events":
            parts[name] = _by_time(whole.take(np.arange(start, start + len(part))))
        start += len(part)
    return _by_time(whole), parts or None


def _by_time(events: Events) -> Events:
    """Events sorted by time; a log that is sorted already, as most are, is not copied."""
    if (events.time[1:] >= events.time[:-1]).all():
        return events
    return events.take(ordered(events.time))
