"""From the feedback log to the next snapshot, on one page: what was logged, or added, or must be forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from sensorium.arrays import Rows
from sensorium.build import REVIEWS, build, encoded
from sensorium.data.catalog import Catalog
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.prepare import weighed
from sensorium.data.readers import Dataset
from sensorium.data.report import Report
from sensorium.data.vectors import Vectors
from sensorium.encode.cache import Cache
from sensorium.encode.encoder import Progress, silent
from sensorium.encode.open import open_encoders
from sensorium.encode.patience import Patience
from sensorium.encode.run import Problem, encode, read_by
from sensorium.feedback.store import Entry
from sensorium.recipe import Recipe, read_recipe_text
from sensorium.snapshot import Snapshot


def events_of(entries: Sequence[Entry], snapshot: Snapshot) -> tuple[Events, Ids, Ids]:
    """Log entries as events, and the ids of people and items they bring along (appended; no row changes)."""
    users = snapshot.user_ids.extended(entry.user for entry in entries)
    items = snapshot.catalog.ids.extended(entry.item for entry in entries)
    kinds = tuple(dict.fromkeys([*snapshot.events.kinds, *(entry.kind for entry in entries)]))
    # Where the file has no times, the log's order goes on counting after it.
    after = float(snapshot.events.time[-1]) + 1 if len(snapshot.events) else 0.0
    timed = snapshot.events.timed
    time = [entry.time if timed else after + place for place, entry in enumerate(entries)]
    text = np.empty(len(entries), object)
    text[:] = [entry.text for entry in entries]
    events = Events.of(
        users.rows(entry.user for entry in entries).tolist(), items.rows(entry.item for entry in entries).tolist(),
        users=len(users), items=len(items), time=time, kind=[kinds.index(entry.kind) for entry in entries], kinds=kinds,
        value=[np.nan if entry.value is None else entry.value for entry in entries],
    )  # fmt: skip
    order = np.argsort(np.asarray(time, np.float64), kind="stable")
    written = any(entry.text for entry in entries)
    return replace(events, timed=timed, text=text[order] if written else None), users, items


def refreshed(
    snapshot: Snapshot, entries: Sequence[Entry], cache: Path, *, retune: bool = False, progress: Progress = silent
) -> tuple[Snapshot, list[Problem]]:
    """The next snapshot: the events so far and those of the log, learnt anew with the settings that validation chose.

    `retune` chooses the settings again. Nothing that was encoded is encoded again; what can be encoded no longer (a
    picture is gone) keeps the vector that it had, and is told among the problems. **Cost** one training.
    """
    recipe = read_recipe_text(snapshot.recipe)
    dataset = _dataset(snapshot, entries, recipe)
    material = encoded(
        dataset, recipe, cache, encoders=snapshot.encoders, people_encoders=snapshot.people_encoders, progress=progress
    )
    lost = {(problem.modality, problem.item) for problem in material.problems if _is_gone(problem)}
    material = replace(
        material, views=_kept(material.views, snapshot.views, dataset.catalog.ids, lost),
        people_views=_kept(material.people_views, snapshot.people_views, dataset.user_ids, lost),
    )  # fmt: skip
    position = max([snapshot.position, *(entry.position for entry in entries)])
    fresh = build(material, recipe, chosen=None if retune else snapshot.recommender, progress=progress)
    fresh = replace(
        fresh, recipe=snapshot.recipe, position=position, hidden=snapshot.hidden,
        bare=(*snapshot.bare, *range(len(snapshot.catalog), len(dataset.catalog))),
        trials=fresh.trials if retune else snapshot.trials,
    )  # fmt: skip
    return fresh, [_told(problem, snapshot, fresh) for problem in material.problems]


def _is_gone(problem: Problem) -> bool:
    """Whether a problem is that a file is not there any more, rather than what is in it."""
    return bool(problem.file) and not Path(problem.file).exists()


def _told(problem: Problem, before: Snapshot, after: Snapshot) -> Problem:
    """The problem, with a word on it where the item keeps the vector that it had."""
    for ids, old, views in (
        (before.catalog.ids, before.views, after.views), (before.user_ids, before.people_views, after.people_views)
    ):  # fmt: skip
        if problem.item in ids and problem.modality in old and problem.modality in views:
            row, had, has = ids.row(problem.item), old[problem.modality], views[problem.modality]
            if had.present[row] and has.present[row] and (had.values[row] == has.values[row]).all():
                return replace(problem, reason=f"{problem.reason}; its vector of before is kept")
    return problem


def _kept(
    now: Mapping[str, Vectors], before: Mapping[str, Vectors], ids: Ids, lost: Set[tuple[str, str]]
) -> Mapping[str, Vectors]:
    """The views, where a row that has no vector now, or one of fewer files (`lost`), keeps the one that it had.

    So ready vectors, of which a snapshot holds no content, are carried over. A row is never mixed among those of
    another encoder; a modality of which nothing can be encoded any more is carried over as a whole.
    """
    kept = dict(now)
    for modality, old in before.items():
        if modality in (REVIEWS, "none") or not old.present.any():
            continue
        old = old.extended(Vectors.absent(len(ids) - len(old), old.size, old.source))
        new = now.get(modality)
        if new is None or not new.present.any():
            kept[modality] = old
        elif (new.source, new.size) == (old.source, old.size):
            gone = np.array([(modality, name) in lost for name in ids], bool)
            take = old.present & (~new.present | gone)
            kept[modality] = Vectors(np.where(take[:, None], old.values, new.values), new.present | take, new.source)
    return kept


def _dataset(snapshot: Snapshot, entries: Sequence[Entry], recipe: Recipe) -> Dataset:
    """The snapshot's tables with the log's entries after them, weighed again as one."""
    events, users, items = snapshot.events, snapshot.user_ids, snapshot.catalog.ids
    if entries:
        more, users, items = events_of(entries, snapshot)
        events = events.resized(len(users), len(items)).merged(more)
    events = weighed(events, recipe.kind_weights())
    catalog = snapshot.catalog.extended(Catalog(items, {}))
    people = snapshot.people.extended(Catalog(users, {})) if snapshot.people is not None else None
    return Dataset(catalog, people, events, users, Report())


def added(
    snapshot: Snapshot, more: Catalog, cache: Path, *, progress: Progress = silent, patience: Patience | None = None
) -> tuple[Snapshot, list[Problem]]:
    """The snapshot with new items, recommendable at once from their content alone; nothing is trained.

    An id that is known already keeps its row and its content. With `patience` an encoder that hangs or is missing is
    left out: its modality is absent for the new items.
    """
    recipe = read_recipe_text(snapshot.recipe)
    catalog = snapshot.catalog.extended(more)
    fresh = [row for row, name in enumerate(more.ids) if name not in snapshot.catalog.ids]
    part = Catalog(Ids(more.ids.names(fresh)), {m: [c[row] for row in fresh] for m, c in more.content.items()})
    encoders = {**open_encoders(part, recipe.encode), **snapshot.encoders}
    asked = {m: e for m, e in encoders.items() if read_by(e) in part.content}
    if patience is not None:
        asked = patience.guarded({m: e for m, e in asked.items() if m in snapshot.views}, snapshot.views)
    done = encode(part, asked, Cache(cache), progress=progress)
    views: dict[str, Vectors] = {}
    for modality, view in snapshot.views.items():
        new = done.views.get(modality)
        if new is None or (new.source, new.size) != (view.source, view.size):
            new = Vectors.absent(len(part), view.size, view.source)
        views[modality] = view.extended(new)
    features = replace(snapshot.features, items=snapshot.fusion.fuse(views), views=views)
    events = snapshot.events.resized(snapshot.events.users, len(catalog))
    model = snapshot.model.extended(features)
    return replace(snapshot, catalog=catalog, views=views, features=features, events=events, model=model), list(
        done.problems
    )


def completed(
    before: Snapshot, now: Snapshot, cache: Path, *, progress: Progress = silent, patience: Patience | None = None
) -> tuple[Snapshot, list[Problem]]:
    """The items that came between two snapshots, added once more in their order: what an encoder did not give the first
    time may come now. Every row stays what it is."""
    came = np.arange(len(before.catalog), len(now.catalog))
    after, problems = added(before, _rows(now.catalog, came), cache, progress=progress, patience=patience)
    return replace(after, hidden=now.hidden), problems


def forgotten(
    snapshot: Snapshot, user: str, entries: Sequence[Entry], cache: Path, *, progress: Progress = silent
) -> tuple[Snapshot, list[Problem]]:
    """A snapshot that never knew a person: their row, their profile and every event are gone, and all is learnt anew.

    `entries` is the log without that person. Rows of people move up, as if they had never been there; items known from
    that person's events alone vanish. So the result equals, byte for byte, a training without them.
    """
    users = Ids(name for name in snapshot.user_ids if name != user)
    people, people_views, events = snapshot.people, dict(snapshot.people_views), snapshot.events
    if user in snapshot.user_ids:
        row = snapshot.user_ids.row(user, what="user")
        stay = np.delete(np.arange(len(snapshot.user_ids)), row)
        events = events.take(events.user != row)
        events = replace(events, user=(events.user - (events.user > row)).astype(np.int32), users=len(users))
        people = None if people is None else _rows(people, stay)
        people_views = {m: view.take(stay) for m, view in people_views.items()}
    kinds = [kind for place, kind in enumerate(events.kinds) if (events.kind == place).any()] or ["view"]
    moved = np.array([kinds.index(kind) if kind in kinds else 0 for kind in events.kinds], np.int16)
    touched = np.zeros(len(snapshot.catalog), bool)
    touched[events.item] = True
    touched[[snapshot.catalog.ids.row(e.item) for e in entries if e.item in snapshot.catalog.ids]] = True
    gone = [row for row in snapshot.bare if not touched[row]]
    keep = np.delete(np.arange(len(snapshot.catalog)), gone)
    place = np.cumsum(~np.isin(np.arange(len(snapshot.catalog)), gone)) - 1
    events = replace(
        events, item=place[events.item].astype(np.int32), items=len(keep), kind=moved[events.kind], kinds=tuple(kinds)
    )
    without = replace(
        snapshot, user_ids=users, people=people, people_views=people_views, events=events,
        catalog=_rows(snapshot.catalog, keep), views={m: view.take(keep) for m, view in snapshot.views.items()},
        hidden=tuple(int(place[row]) for row in snapshot.hidden if row not in gone),
        bare=tuple(int(place[row]) for row in snapshot.bare if row not in gone),
        # What was fitted to the old catalogue is fitted again, as if the person had never been there.
        encoders={}, people_encoders={}, recommender=read_recipe_text(snapshot.recipe).recommender,
    )  # fmt: skip
    return refreshed(without, entries, cache, retune=True, progress=progress)


def _rows(catalog: Catalog, rows: Rows) -> Catalog:
    """Some rows of a catalogue."""
    content = {m: [column[row] for row in rows] for m, column in catalog.content.items()}
    titles = [catalog.titles[row] if row < len(catalog.titles) else "" for row in rows]
    return Catalog(Ids(catalog.ids.names(rows)), content, titles)
