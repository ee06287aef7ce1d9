"""From the feedback log to the next snapshot, on one page: what was logged, or added, or must be forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from sensorium.arrays import Rows
from sensorium.build import REVIEWS, build, encoded
from sensorium.data.catalog import Catalog, Laid
from sensorium.data.content import ATTRIBUTES, TEXT, Attributes, Content, Media, Text
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.prepare import weighed
from sensorium.data.readers import Dataset
from sensorium.data.report import Report
from sensorium.data.vectors import Vectors
from sensorium.encode.cache import Cache
from sensorium.encode.encoder import Encoder, Progress, silent
from sensorium.encode.open import open_encoders, open_look
from sensorium.encode.patience import Patience
from sensorium.encode.run import Problem, encode, read_by
from sensorium.feedback.store import Entry
from sensorium.models.blend import Blend, BlendModel
from sensorium.models.model import Features, Model, Recommender, Updates
from sensorium.recipe import Recipe, read_recipe_text
from sensorium.snapshot import Snapshot, placed

EMPTY = (Text(()), Attributes({}))  # of an item that had some: none is left


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
    logged = np.array([entry.position for entry in entries], np.int64)[order]
    return replace(events, timed=timed, text=text[order] if written else None, logged=logged), users, items


def unlogged(snapshot: Snapshot) -> Snapshot:
    """The snapshot without the events that it has from the log after its base, as if it had read no further."""
    events = snapshot.events
    if events.logged is not None:
        events = replace(events.take(events.logged == 0), logged=None)
    return replace(snapshot, events=events, position=snapshot.base)


def based(snapshot: Snapshot, log: str, end: int) -> Snapshot:
    """The snapshot upon another log that has come to `end`: all its events are its own, none is looked up there. How far
    it had read in the log before is kept."""
    logs = {**snapshot.logs, snapshot.log: snapshot.position} if snapshot.log else snapshot.logs
    return replace(
        snapshot, events=replace(snapshot.events, logged=None), position=end, base=end, log=log, documents=0,
        logs={name: place for name, place in logs.items() if name != log},
    )  # fmt: skip


def upon(snapshot: Snapshot, log: str) -> Snapshot:
    """The snapshot upon a log: as it is where it has read that one, else from where it had come there, or its beginning."""
    if snapshot.log == log:
        return snapshot
    return based(snapshot, log, snapshot.logs.get(log, 0)) if snapshot.log else replace(snapshot, log=log)


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
        fresh, recipe=snapshot.recipe, position=position, base=snapshot.base, log=snapshot.log, logs=snapshot.logs,
        documents=snapshot.documents, taken=snapshot.taken,
        bare=(*snapshot.bare, *range(len(snapshot.catalog), len(dataset.catalog))),
        trials=fresh.trials if retune else snapshot.trials,
        left_out=fresh.left_out if retune else snapshot.left_out,
    )  # fmt: skip
    return _hiding(fresh, _hidden(snapshot)), [_told(problem, snapshot, fresh) for problem in material.problems]


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


def updated(snapshot: Snapshot, entries: Sequence[Entry]) -> Snapshot:
    """The snapshot with the log's next entries learnt: nothing is encoded, and the fused space stays as it is.

    A model that goes on from where it stood does so (`updated`), any other is fitted anew with the same settings.
    **Cost** that of the models alone.
    """
    recipe = read_recipe_text(snapshot.recipe)
    dataset = _dataset(snapshot, entries, recipe)
    catalog, events = dataset.catalog, dataset.events
    features = snapshot.features
    views, people_views, people = dict(snapshot.views), dict(snapshot.people_views), features.people
    if len(catalog) > len(snapshot.catalog):
        views = {m: _grown(view, len(catalog)) for m, view in views.items()}
        features = replace(features, items=snapshot.fusion.fuse(views), views=views)
    if len(dataset.user_ids) > len(snapshot.user_ids):
        people_views = {m: _grown(view, len(dataset.user_ids)) for m, view in people_views.items()}
        people = None if people is None else _grown(people, len(dataset.user_ids))
        features = replace(features, people=people)
    model = _carried_on(snapshot.recommender, snapshot.model, events, features, recipe.seed)
    after = replace(
        snapshot, catalog=catalog, people=dataset.people, user_ids=dataset.user_ids, events=events, views=views,
        people_views=people_views, features=features, model=model,
        position=max([snapshot.position, *(entry.position for entry in entries)]),
        bare=(*snapshot.bare, *range(len(snapshot.catalog), len(catalog))),
    )  # fmt: skip
    return _hiding(after, _hidden(snapshot))


def _carried_on(settings: Recommender, model: Model, events: Events, features: Features, seed: int) -> Model:
    if isinstance(settings, Blend) and isinstance(model, BlendModel):
        members = {
            name: _carried_on(settings.member(name), member, events, features, seed)
            for name, member in model.members.items()
        }
        return replace(model, members=members)
    if isinstance(model, Updates):
        return model.updated(events, features)
    return settings.fit(events, features, rng=np.random.default_rng(seed))


def _grown(view: Vectors, count: int) -> Vectors:
    return view.extended(Vectors.absent(count - len(view), view.size, view.source))


def taken_in(
    snapshot: Snapshot, told: Catalog, cache: Path, *, hidden: Mapping[str, bool] | None = None, documents: int = 0,
    stated: Mapping[str, Collection[str] | None] | None = None,
    progress: Progress = silent, patience: Patience | None = None,
) -> tuple[Snapshot, list[Problem]]:  # fmt: skip
    """The snapshot with what is told of items, new or known, and of which are `hidden`; nothing is trained.

    What is told of a known item takes the place of what was known of it, field by field; what is not told stays, but for fields that
    are `stated`, be it that there is nothing (None: all of them; media stay). A model that holds something of its own for a known item sees the change when it is learnt anew.
    """
    catalog, told, names = snapshot.catalog, placed(told), _hidden(snapshot)
    rows = catalog.ids.rows(told.ids)
    told = _over(catalog, told, rows, stated or {})
    problems: list[Problem] = []
    if (rows < 0).any():
        snapshot, problems = added(snapshot, told, cache, progress=progress, patience=patience)
    known = np.flatnonzero(rows >= 0)
    if len(known):
        snapshot, more = _replaced(snapshot, told, known, cache, progress, patience)
        problems += more
    for name, state in (hidden or {}).items():
        (names.add if state else names.discard)(name)
    return replace(_hiding(snapshot, names), documents=max(snapshot.documents, documents)), problems


def _hidden(snapshot: Snapshot) -> set[str]:
    """The ids that are hidden, known or not."""
    return {*(snapshot.catalog.ids[row] for row in snapshot.hidden), *snapshot.withheld}


def _hiding(snapshot: Snapshot, names: Set[str]) -> Snapshot:
    """The snapshot with these ids hidden, and no others."""
    ids = snapshot.catalog.ids
    known = {name for name in names if name in ids}
    return replace(
        snapshot, hidden=tuple(sorted(map(ids.row, known))), withheld=tuple(sorted(names - known))
    )  # fmt: skip


def _over(
    catalog: Catalog, told: Catalog, rows: Rows, stated: Mapping[str, Collection[str] | None]
) -> Catalog:  # fmt: skip
    """What is told, laid over what is known: for a known item None where nothing changes."""
    content: dict[str, Sequence[Content | None]] = {}
    nothing = Laid[Content | None]((), {}, len(told), None)
    for modality in dict.fromkeys([*told.content, *(m for m in (TEXT, ATTRIBUTES) if m in catalog.content)]):
        before = catalog.content.get(modality, Laid[Content | None]((), {}, len(catalog), None))
        column = [
            one if row < 0 else _laid(before[row], one, stated.get(name, ()))
            for name, row, one in zip(told.ids, rows, told.content.get(modality, nothing), strict=True)
        ]  # fmt: skip
        if modality in told.content or any(one is not None for one in column):
            content[modality] = column
    return Catalog(told.ids, content, told.titles)


def _laid(old: Content | None, new: Content | None, stated: Collection[str] | None) -> Content | None:
    """What is known by now, where that is something else; EMPTY where nothing is left. Of texts and attributes nothing stays that is `stated`."""
    known, whole = old, new
    if isinstance(old, Text):
        old = Text(tuple(pair for pair in old.fields if stated is not None and pair[0] not in stated))
        whole = old if new is None else new
    elif isinstance(old, Attributes):
        kept = {name: value for name, value in old.values.items() if stated is not None and name not in stated}
        old = Attributes(kept)
        whole = old if new is None else new
    if isinstance(old, Text) and isinstance(new, Text):
        whole = Text(tuple({**dict(old.fields), **dict(new.fields)}.items()))
    elif isinstance(old, Attributes) and isinstance(new, Attributes):
        whole = Attributes({**old.values, **new.values})
    # A file may have other bytes under the same name: the encoder's cache knows.
    return None if whole == known and not isinstance(whole, Media) else whole


def _replaced(
    snapshot: Snapshot, told: Catalog, known: Rows, cache: Path, progress: Progress, patience: Patience | None = None
) -> tuple[Snapshot, list[Problem]]:
    """The snapshot with the contents of known items changed where `told` has one."""
    part = Catalog(Ids(told.ids.names(known)), {m: [c[row] for row in known] for m, c in told.content.items()})
    rows = snapshot.catalog.ids.rows(part.ids)
    catalog = _retold(snapshot.catalog, part, rows, [told.titles[k] if k < len(told.titles) else "" for k in known])
    asked = _asked(part, snapshot, patience)
    emptied = {m: rows[[one in EMPTY for one in column]] for m, column in part.content.items()}
    content = {m: [None if one in EMPTY else one for one in column] for m, column in part.content.items()}
    done = encode(replace(part, content=content), asked, Cache(cache), progress=progress)
    views = dict(snapshot.views)
    for modality in asked.keys() & views.keys():
        here, whole = emptied[read_by(asked[modality])], views[modality]
        if whole.present[here].any():
            views[modality] = whole.over(here, Vectors.absent(len(here), whole.size, whole.source), len(whole))
    for modality, new in done.views.items():
        view = views.get(modality)
        if view is None or (new.source, new.size) != (view.source, view.size) or not new.present.any():
            continue
        here, vectors = rows[new.present], new.values[new.present]
        if view.present[here].all() and np.array_equal(view.values[here], vectors):
            continue
        values, present = view.values.copy(), view.present.copy()
        values[here], present[here] = vectors, True
        views[modality] = Vectors(values, present, view.source)
    now = set(rows.tolist())
    snapshot = replace(
        snapshot, catalog=catalog, bare=tuple(row for row in snapshot.bare if row not in now)
    )  # fmt: skip
    changed = any(views[modality] is not view for modality, view in snapshot.views.items())
    return (_seen_anew(snapshot, views, rows) if changed else snapshot), list(done.problems)


def _retold(catalog: Catalog, part: Catalog, rows: Rows, titles: Sequence[str]) -> Catalog:
    """The catalogue with other contents and titles in some rows; itself where they say what it says."""
    new = {
        modality: {
            row: None if one in EMPTY else one
            for row, one in zip(rows.tolist(), column, strict=True)
            if one is not None
        }
        for modality, column in part.content.items()
    }
    known = {m: catalog.content.get(m) for m in new}
    named = {row: title for row, title in zip(rows.tolist(), titles, strict=True) if title}
    if all(catalog.title(row) == title for row, title in named.items()) and all(
        column is not None and column[row] == one
        for modality, column in known.items() for row, one in new[modality].items()
    ):  # fmt: skip
        return catalog
    return catalog.over(catalog.ids, new, named)


def _seen_anew(snapshot: Snapshot, views: Mapping[str, Vectors], rows: Rows) -> Snapshot:
    """The snapshot over other vectors of some of its items, of which there may be more."""
    fused = snapshot.fusion.fuse({modality: view.take(rows) for modality, view in views.items()})
    items = snapshot.features.items.over(rows, fused, len(snapshot.catalog))
    features = replace(snapshot.features, items=items, views=views)
    events = snapshot.events.resized(snapshot.events.users, len(snapshot.catalog))
    return replace(snapshot, views=views, features=features, events=events, model=snapshot.model.extended(features))


def carried(version: Snapshot, now: Snapshot, *, newer: bool = True, kin: bool = False) -> Snapshot:
    """A version with what is known of items `now`: those it lacks, contents that changed, what is hidden.

    So whatever was told meanwhile survives a new version, and a way back to an old one. Items that are known from
    events alone are not carried: the log tells of them again. Where `now` is not `newer`, the version has the last word on
    items that it knows. Nothing is encoded, nothing is trained. A version that is `kin` was made from the one that `now` was read
    as, so that contents differ only where some were told since. **Cost** theirs then.
    """
    before, bare = version.catalog, set(now.bare)
    told = [name for row, name in enumerate(now.catalog.ids) if row not in bare]
    fresh = [name for name in told if name not in before.ids]
    if fresh or (newer and now.documents > version.documents):
        ids = before.ids.extended(fresh)
        place = now.catalog.ids.rows(ids)
        place[np.isin(place, now.bare)] = -1
        if not newer or now.documents <= version.documents:
            place[: len(before)] = -1
        elif kin:
            laid = np.fromiter(now.catalog.laid, np.int64)
            place[: len(before)][~np.isin(place[: len(before)], laid)] = -1
        version = _laid_over(version, now, ids, place)
    names, own = _hidden(now), _hidden(version)
    last_word = newer and now.documents >= version.documents
    names = names | {name for name in own if name not in now.catalog.ids} if last_word else own | (names & set(fresh))
    documents = max(version.documents, now.documents) if newer else version.documents
    return replace(_hiding(version, names), documents=documents)


def _laid_over(version: Snapshot, now: Snapshot, ids: Ids, place: Rows) -> Snapshot:
    """The version over the items `ids`, its own first; contents and vectors of row r are those of `place[r]` in `now`, if ≥ 0."""
    here = np.flatnonzero(place >= 0)
    pairs = list(zip(here.tolist(), place[here].tolist(), strict=True))
    content = {modality: {row: column[told] for row, told in pairs} for modality, column in now.catalog.content.items()}
    titles = {row: now.catalog.titles[told] for row, told in pairs if told < len(now.catalog.titles)}
    views: dict[str, Vectors] = {}
    for modality, old in version.views.items():
        view, other = _grown(old, len(ids)), now.views.get(modality)
        if modality != REVIEWS and other is not None and (other.source, other.size) == (view.source, view.size):
            values, present = view.values.copy(), view.present.copy()
            values[here], present[here] = other.values[place[here]], other.present[place[here]]
            view = Vectors(values, present, view.source)
        views[modality] = view
    bare = tuple(row for row in version.bare if place[row] < 0)
    rows = np.union1d(here, np.arange(len(version.catalog), len(ids)))
    return _seen_anew(replace(version, catalog=version.catalog.over(ids, content, titles), bare=bare), views, rows)


def added(
    snapshot: Snapshot, more: Catalog, cache: Path, *, progress: Progress = silent, patience: Patience | None = None
) -> tuple[Snapshot, list[Problem]]:
    """The snapshot with new items, recommendable at once from their content alone; nothing is trained.

    An id that is known already keeps its row and its content. With `patience` an encoder that hangs or is missing is
    left out: its modality is absent for the new items.
    """
    more = placed(more)
    catalog = snapshot.catalog.extended(more)
    fresh = [row for row, name in enumerate(more.ids) if name not in snapshot.catalog.ids]
    part = Catalog(Ids(more.ids.names(fresh)), {m: [c[row] for row in fresh] for m, c in more.content.items()})
    done = encode(part, _asked(part, snapshot, patience), Cache(cache), progress=progress)
    views: dict[str, Vectors] = {}
    for modality, view in snapshot.views.items():
        new = done.views.get(modality)
        if new is None or (new.source, new.size) != (view.source, view.size):
            new = Vectors.absent(len(part), view.size, view.source)
        views[modality] = view.extended(new)
    rows, asked_for = np.arange(len(snapshot.catalog), len(catalog)), set(more.ids)
    withheld = tuple(name for name in snapshot.withheld if name not in asked_for)
    return _seen_anew(replace(snapshot, catalog=catalog, withheld=withheld), views, rows), list(done.problems)


def _asked(part: Catalog, snapshot: Snapshot, patience: Patience | None) -> Mapping[str, Encoder]:
    """The encoders of what is in `part`; with `patience` none that hangs is waited for."""
    choice = read_recipe_text(snapshot.recipe).encode
    encoders = {**open_encoders(part, choice), **snapshot.encoders}
    encoders |= open_look(part, choice, encoders)
    asked = {m: e for m, e in encoders.items() if read_by(e) in part.content}
    if patience is None:
        return asked
    return patience.guarded({m: e for m, e in asked.items() if m in snapshot.views}, snapshot.views)


def completed(
    now: Snapshot, names: Sequence[str], cache: Path, *, progress: Progress = silent, patience: Patience | None = None
) -> tuple[Snapshot, list[Problem]]:
    """The snapshot with some items encoded once more: what an encoder did not give the first time may come now."""
    told = _rows(now.catalog, now.catalog.ids.rows(names))
    return _replaced(now, told, np.arange(len(told)), cache, progress, patience)


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
        hidden=(),
        bare=tuple(int(place[row]) for row in snapshot.bare if row not in gone),
        # What was fitted to the old catalogue is fitted again, as if the person had never been there.
        encoders={}, people_encoders={}, recommender=read_recipe_text(snapshot.recipe).recommender,
    )  # fmt: skip
    return refreshed(_hiding(without, _hidden(snapshot)), entries, cache, retune=True, progress=progress)


def _rows(catalog: Catalog, rows: Rows) -> Catalog:
    """Some rows of a catalogue."""
    content = {m: [column[row] for row in rows] for m, column in catalog.content.items()}
    titles = [catalog.titles[row] if row < len(catalog.titles) else "" for row in rows]
    return Catalog(Ids(catalog.ids.names(rows)), content, titles)
