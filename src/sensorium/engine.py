"""The engine: one run, opened. It trains, answers, learns from what people do, and forgets; the command line, the
server and a notebook all speak to this file.

A run is a folder: `snapshots/000001/…`, `current` (which one counts) and `log.sqlite` (what happened since; or a
PostgreSQL server has it). Readers take no lock: they hold one snapshot. Writers queue behind one lock, for a refresh
begun before a forget would bring the person back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sensorium import build as building
from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.answer import answer, why
from sensorium.arrays import best, unit
from sensorium.data.catalog import Catalog
from sensorium.data.columns import MEDIA, RATINGS, ROLES, USER_IDS, find, plain
from sensorium.data.content import TEXT, WORDS, Content, Media, Text
from sensorium.data.events import KINDS
from sensorium.data.ids import Ids
from sensorium.data.prepare import SYNONYMS, folded, kind_weight
from sensorium.data.readers import read, read_items_with_report
from sensorium.data.report import Report
from sensorium.encode.cache import Cache
from sensorium.encode.encoder import Encoder, Progress, silent
from sensorium.encode.open import open_encoders
from sensorium.encode.patience import Patience
from sensorium.encode.run import Problem, encode
from sensorium.errors import DataError, RemoteError, SensoriumError, SnapshotError
from sensorium.feedback.open import opened
from sensorium.feedback.store import Entry, Store
from sensorium.index.index import Index, index_of
from sensorium.rank.filters import allowed
from sensorium.rank.lookup import Lookup, look_up
from sensorium.rank.query import Query, Ranking, Rule, Why, check_count, parse_rules
from sensorium.recipe import Recipe, read_recipe, read_recipe_text
from sensorium.refresh import added, completed, forgotten, refreshed
from sensorium.settings import described
from sensorium.snapshot import Snapshot

CLOCKS_SECONDS = 5.0  # by which the clocks of those who send events may go before ours
LAST_SECOND = 253402300799.0  # of the year 9999; a time beyond it was given in milliseconds


def default_cache() -> Path:
    """Where encodings are kept: `$SENSORIUM_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("SENSORIUM_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(home) / "sensorium"


def store_of(folder: Path) -> Path | str:
    """Where the events of a run are: as `$SENSORIUM_STORE` says, `{run}` in it being the name of its folder; else with it."""
    chosen = os.environ.get("SENSORIUM_STORE")
    return chosen.replace("{run}", folder.resolve().name) if chosen else folder / "log.sqlite"


@dataclass(frozen=True)
class Found:
    """One result of a search; `by` names the modality whose vector lay nearest to the query."""

    item: str
    title: str
    score: float
    by: str


@dataclass(frozen=True, eq=False)
class Live:
    """A snapshot made ready for answering: with its index and its tables. This is what one swap replaces."""

    snapshot: Snapshot
    name: str = ""  # of its folder under snapshots/, "" where the run is in memory alone

    @cached_property
    def index(self) -> Index | None:
        """None up to 50,000 items, where scoring all is exact and quick enough."""
        features = self.snapshot.features
        if len(features.items) <= 50_000 or not features.items.present.any():
            return None
        return index_of(features.items.values, features.items.present)

    @cached_property
    def lookup(self) -> Lookup:
        """Who did what, and the attributes by column."""
        return look_up(self.snapshot.catalog, self.snapshot.events)

    @cached_property
    def made_from(self) -> Recipe:
        """The recipe of the run."""
        return read_recipe_text(self.snapshot.recipe)

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """What one event of each kind weighs, as in training."""
        given = {folded(kind): weight for kind, weight in self.made_from.kind_weights().items()}
        return {kind: kind_weight(kind, given) for kind in (*KINDS, *SYNONYMS, *given)}

    @cached_property
    def hidden(self) -> frozenset[int]:
        """Rows that are never shown."""
        return frozenset(self.snapshot.hidden)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.snapshot, name)


class Engine:
    """A trained run. `Engine.train` makes one, `Engine.open` finds one on disk.

    ```python
    engine = Engine.train("movies.toml", out="runs/movies")
    engine.recommend(user="42", k=10, explain=True)
    engine.observe([{"user": "42", "item": "7", "kind": "view"}])
    ```
    """

    def __init__(
        self, snapshot: Snapshot, folder: Path | None = None, *, name: str = "", cache: Path | None = None,
        store: Path | str | None = None,
    ) -> None:  # fmt: skip
        self._live = Live(snapshot, name)
        self.folder = folder
        self.cache = cache or default_cache()
        self.problems: Sequence[Problem] = ()
        self.report = Report()
        self.material: building.Material | None = None
        self._writing = threading.RLock()
        self._unsaved: list[Entry] = []
        self._patience: Patience | None = None
        self._searching: Patience | None = None  # its rounds are others: searches do not queue behind items
        self._whole: Snapshot | None = None  # as it was before the first item that an encoder was missing for
        self.lacking: Mapping[str, str] = {}  # such items, and why
        self._log: Store | None = opened(store or store_of(folder)) if folder else None

    # --- making, finding, keeping ---------------------------------------------------------------------------------

    @classmethod
    def train(
        cls, recipe: Recipe | Path | str, out: Path | str | None = None, *, cache: Path | None = None,
        progress: Progress = silent,
    ) -> Engine:  # fmt: skip
        """Read, encode, fuse and learn what the recipe describes; `out` saves the run there.

        **Raises** DataError, RecipeError. A killed training keeps every finished encoding and leaves no half run.
        """
        if not isinstance(recipe, Recipe):
            recipe = read_recipe(Path(recipe))
        cache = cache or default_cache()
        folder = Path(out) if out is not None else None
        if folder is not None and folder.exists() and any(folder.iterdir()) and not (folder / "current").exists():
            raise SnapshotError(f"{folder}: the folder holds something that is no run; choose another, or empty it")
        material = building.gather(recipe, cache, progress=progress)
        if recipe.answer.rules:  # a rule that no request could keep is told now, not after the training
            columns = look_up(material.dataset.catalog, material.dataset.events).columns
            allowed(len(material.dataset.catalog), columns, parse_rules(recipe.answer.rules))
        snapshot = snapshots.placed(building.build(material, recipe, progress=progress))
        if folder is None:
            engine = cls(snapshot, cache=cache)
        else:
            with runs.locked(folder):
                name = runs.keep(snapshot, folder)
            engine = cls(snapshot, folder, name=name, cache=cache)
        engine.problems, engine.material, engine.report = material.problems, material, material.dataset.report
        return engine

    @classmethod
    def open(cls, folder: Path | str, *, cache: Path | None = None, store: Path | str | None = None) -> Engine:
        """The run in a folder; `store` is a path or a DSN, where its events are not where `store_of` says.

        **Raises** SnapshotError where there is none, or it is damaged.
        """
        folder = Path(folder)
        runs.finish_erasing(folder)
        place = runs.current(folder)
        return cls(snapshots.read(place), folder, name=place.name, cache=cache, store=store)

    def save(self, folder: Path | str) -> None:
        """The run as a folder, with the events observed since; later changes go there too."""
        folder = Path(folder)
        with self._writing, runs.locked(folder):
            if folder == self.folder:
                return  # every change is on disk when it returns
            pending = self._entries()
            log = opened(store_of(folder))
            start = replace(self.snapshot, position=log.end)
            log.append(pending)
            self._live = Live(start, runs.keep(start, folder))
            self.close()
            self._unsaved.clear()
            self._log, self.folder = log, folder

    def close(self) -> None:
        """Let go of the log; the engine must not be used afterwards."""
        if self._log is not None:
            self._log.close()

    def wait_at_most(self, seconds: float) -> None:
        """From now on an encoder that hangs or is missing is left out: items are added, and `lacking` tells which."""
        warm: dict[Encoder, Encoder] = {}
        self._patience, self._searching = Patience(seconds, warm), Patience(seconds, warm)

    @property
    def live(self) -> Live:
        """The version that answers now, with its tables; whoever looks at several of them takes this once."""
        return self._live

    @property
    def snapshot(self) -> Snapshot:
        """The version that answers now."""
        return self._live.snapshot

    @property
    def version(self) -> str:
        """The name of the snapshot that answers now, "" where the run is in memory alone."""
        return self._live.name

    @property
    def recipe(self) -> Recipe:
        """What the run was made from."""
        return self._live.made_from

    @property
    def store(self) -> Store | None:
        """Where events are kept; None where the run is in memory alone."""
        return self._log

    # --- answering ------------------------------------------------------------------------------------------------

    def recommend(
        self, user: str | None = None, k: int | None = None, *, like: Sequence[str] = (), unlike: Sequence[str] = (),
        rules: Sequence[Rule | str] | None = None, exclude: Sequence[str] | None = None, repeat: bool | None = None,
        diversity: float | None = None, explain: bool = False, now: float | None = None,
        boosts: Mapping[str, float] | None = None, pins: Mapping[str, int] | None = None,
        caps: Mapping[str, int] | None = None, exploration: float = 0.0, seed: int = 0,
        modalities: Mapping[str, float] | None = None,
    ) -> Ranking:  # fmt: skip
        """The best `k` items for a person, or for a session (`like=["a", "b"]`); what each wish means, Query tells.

        Where `k`, `repeat` or `diversity` is None, the recipe's `[answer]` says it. `rules` and `exclude` are added to
        those of the recipe. Events observed a moment ago count. A person or an item nobody has seen is served like any other.
        """
        return self.answer(
            self.asked(
                user=user, k=k, like=like, unlike=unlike, rules=rules, exclude=exclude, repeat=repeat,
                diversity=diversity, explain=explain, now=now, boosts=boosts, pins=pins, caps=caps,
                exploration=exploration, seed=seed, modalities=modalities,
            )
        )  # fmt: skip

    def asked(self, **wishes: Any) -> Query:
        """The query of some wishes, what is None or not named being as the recipe says. **Raises** RecipeError."""
        usual = self._live.made_from.answer
        named = {name: value for name, value in wishes.items() if value is not None}
        query = Query(**{"k": usual.k, "repeat": usual.repeat, "diversity": usual.diversity, **named})
        always = parse_rules(usual.rules)
        return replace(query, rules=(*always, *query.rules), exclude=(*usual.exclude, *query.exclude))

    def answer(self, query: Query) -> Ranking:
        """The ranking for a query, exactly as it stands: the recipe's `[answer]` adds nothing to it.

        An event that is dated into the future counts once its time has come.
        """
        live = self._live
        happened = self._happened(live, query)
        return replace(answer(live, query, happened, lookup=live.lookup, weights=live.weights), version=live.name)

    def why(self, item: str, query: Query) -> Why:
        """Why an item stands where it does for a query (`asked`), also where it is not shown. **Raises** UnknownId."""
        live = self._live
        told = why(live, query, item, self._happened(live, query), lookup=live.lookup, weights=live.weights)
        return replace(told, version=live.name)

    def _happened(self, live: Live, query: Query) -> list[Entry]:
        """The log's entries of the query's person that the snapshot does not know, and whose time has come."""
        entries = self._entries(live.snapshot.position, query.user) if query.user is not None else []
        until = max(time.time() + CLOCKS_SECONDS, query.now or 0.0)
        return [entry for entry in entries if entry.time <= until]

    def search(self, words: str | None = None, *, image: Path | None = None, k: int = 10) -> list[Found]:
        """The items nearest to some words (or a picture), whatever their modality: words find pictures, sound and clips.

        **Raises** DataError where it is given neither or both, or the picture cannot be read; RecipeError for `k`.
        """
        check_count(k, "search")
        live = self._live
        query = self._asked(words, image)
        modality, content = query
        if live.aligner is None:
            return self._search_alike(modality, content, k)
        asked = live.aligner.project(modality, self._encoded(modality, content)).values[0]
        scores = np.full((len(live.views), len(live.catalog)), -np.inf, np.float32)
        names = [modality for modality in live.views if modality != WORDS]  # the same texts again
        for place, name in enumerate(names):
            near, present = self._projected(live, name)
            # A modality's cosines are compared with its own usual ones: words lie nearer to words than to any picture.
            cosines = near[present] @ asked
            if len(cosines):
                scores[place, present] = (cosines - cosines.mean()) / (cosines.std() + 1e-6)
        scores[:, sorted(live.hidden)] = -np.inf
        rows, values = best(scores.max(axis=0)[None, :], k)
        return [
            Found(live.catalog.ids[row], live.catalog.title(row), float(value), names[int(scores[:, row].argmax())])
            for row, value in zip(rows[0], values[0], strict=True)
            if np.isfinite(value)
        ]

    def _asked(self, words: str | None, image: Path | None) -> tuple[str, Content]:
        told = words is not None and bool(words.strip())
        if told and image is not None:
            raise DataError("search: words and a picture are given; search for one of them at a time")
        if words is not None and told:
            return TEXT, Text((("query", words),))
        if image is not None:
            return "image", Media((Path(image),))
        raise DataError("search: give some words, or a picture")

    def _encoded(self, modality: str, content: Content) -> Any:
        page = Catalog(Ids(["query"]), {modality: [content]})
        encoders = open_encoders(page, read_recipe_text(self.snapshot.recipe).encode)
        if self._searching is not None:
            encoders = self._searching.guarded(encoders, self.snapshot.views)
        done = encode(page, encoders, Cache(self.cache), progress=silent)
        if done.problems:
            problem = done.problems[0]
            if self._searching is not None and problem.modality in self._searching.lacking:
                raise RemoteError(f"search: {problem.reason}; come back later")
            raise DataError(f"search: {problem.file + ': ' if problem.file else ''}{problem.reason}")
        return done.views[modality]

    def _search_alike(self, modality: str, content: Content, k: int) -> list[Found]:
        """Without an aligned space only the query's own modality can be searched."""
        live = self._live
        if modality not in live.views:
            raise DataError(f"search: this run has no {modality} to search in; it has {', '.join(live.views)}")
        view = live.views[modality]
        scores = unit(view.values) @ unit(self._encoded(modality, content).values)[0]
        scores[~view.present] = -np.inf
        scores[sorted(live.hidden)] = -np.inf
        rows, values = best(scores[None, :], k)
        pairs = zip(rows[0], values[0], strict=True)
        return [
            Found(live.catalog.ids[r], live.catalog.title(r), float(v), modality) for r, v in pairs if np.isfinite(v)
        ]

    def _projected(self, live: Live, modality: str) -> tuple[Any, Any]:
        store: dict[str, Any] = live.__dict__.setdefault("_spaces", {})
        if modality not in store:
            assert live.aligner is not None
            view = live.views[modality]
            try:
                store[modality] = (live.aligner.project(modality, view).values, view.present)
            except SensoriumError:  # a modality the aligner never saw in two items at once
                store[modality] = (np.zeros((len(view), 1), np.float32), np.zeros(len(view), bool))
        return store[modality]

    # --- learning -------------------------------------------------------------------------------------------------

    def observe(self, events: Sequence[Entry | Mapping[str, Any]]) -> list[int]:
        """Note what people did: it is on disk when this returns (if the run has a folder), and counts in the next answer.

        A mapping has `user`, `item`, and may have `kind` (view), `value`, `time` (now), `text`, `key`.
        """
        entries = self.entries(events)
        if self._log is not None:
            return self._log.append(entries)
        begin = self.snapshot.position + len(self._unsaved)
        fresh = [replace(entry, position=begin + place + 1) for place, entry in enumerate(entries)]
        self._unsaved += fresh
        return [entry.position for entry in fresh]

    def entries(self, events: Sequence[Entry | Mapping[str, Any]]) -> list[Entry]:
        """The events as the store takes them, checked. **Raises** DataError."""
        entries = [event if isinstance(event, Entry) else _entry(event) for event in events]
        late = next((entry for entry in entries if entry.time > LAST_SECOND), None)
        if late is not None:
            raise DataError(
                f"event of user {late.user!r}: time {late.time!r} is beyond the year 9999; give seconds since 1970"
            )
        return [replace(entry, kind=folded(entry.kind)) for entry in entries]

    def observe_table(self, path: Path | str) -> int:
        """Note every event of a table (columns as in training); returns how many."""
        recipe = read_recipe_text(self.snapshot.recipe)
        section = replace(recipe.events, files=(str(Path(path).resolve()),))
        nothing = replace(recipe.items, files=())
        dataset = read(Recipe(items=nothing, events=section))
        self.report = dataset.report
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
        return len(self.observe(entries))

    def summary(self) -> dict[str, Any]:
        """What the run holds, in plain values: sizes, modalities, what was rejected, what validation said."""
        now, material = self.snapshot, self.material
        computed = material.computed if material is not None else {}
        return {
            "sizes": {"items": len(now.catalog), "users": len(now.user_ids), "events": len(now.events)},
            "rejected": sum(self.report.reasons.values()),
            "modalities": {
                name: {"present": int(view.present.sum()), "of": len(view), "computed": int(computed.get(name, 0))}
                for name, view in now.views.items()
                if name != "none"
            },
            "problems": [str(problem) for problem in self.problems],
            "trials": [dict(trial) for trial in now.trials],
            "recommender": described(now.recommender),
            "example_user": now.user_ids[0] if len(now.user_ids) else None,
        }

    def add(self, items: Catalog | Path | str, *, keep: bool = True, progress: Progress = silent) -> int:
        """New items, recommendable at once from their content alone; returns how many were new.

        Without `keep` only what answers now changes, at the price of an encoding; the next refresh writes it. Whoever calls
        so keeps the items elsewhere until then.

        `report` then tells what was rejected, missing or known already (`counts["known"]`), `problems` what could not
        be encoded. **Raises** DataError for a table of events.
        """
        with self._writing, self._turn():
            before = self.snapshot
            if isinstance(items, Catalog):
                more, report = items, Report()
            else:
                more, report = read_items_with_report(Path(items), read_recipe_text(before.recipe))
                _refuse_events(report)
            self.report = _with_known(report, [name for name in more.ids if name in before.catalog.ids])
            after, self.problems = added(before, more, self.cache, progress=progress, patience=self._patience)
            lacking = {**self.lacking, **self._lacked()}
            if lacking and not keep:  # told before it can be seen
                self._whole, self.lacking = self._whole or before, lacking
            self._swap(snapshots.placed(after), keep=keep)
            return len(after.catalog) - len(before.catalog)

    def complete(self, *, progress: Progress = silent) -> int:
        """Ask once more for what an encoder did not give of added items; returns how many it is still missing for."""
        with self._writing, self._turn():
            whole = self._whole
            if whole is None:
                return 0
            after, self.problems = completed(
                whole, self.snapshot, self.cache, progress=progress, patience=self._patience
            )
            lacking = self._lacked()
            self._swap(snapshots.placed(after), keep=False)
            self._whole, self.lacking = (whole, lacking) if lacking else (None, {})
            return len(lacking)

    def _lacked(self) -> dict[str, str]:
        """The items of which an encoder gave nothing, itself being to blame, and why."""
        if self._patience is None:
            return {}
        gone = self._patience.lacking
        return {one.item: gone[one.modality] for one in self.problems if one.modality in gone}

    def hide(self, *items: str, hidden: bool = True, keep: bool = True) -> None:
        """Show some items no longer, or again; `keep` as for `add`."""
        with self._writing, self._turn():
            rows = {self.snapshot.catalog.ids.row(item) for item in items}
            after = set(self.snapshot.hidden) | rows if hidden else set(self.snapshot.hidden) - rows
            self._swap(replace(self.snapshot, hidden=tuple(sorted(after))), keep=keep)

    def refresh(self, *, retune: bool = False, progress: Progress = silent) -> int:
        """Learn from everything observed so far; returns how many events were new.

        Media that can be read no longer keep what they gave; `problems` names them.
        """
        with self._writing, self._turn():
            entries = self._entries()
            after, self.problems = refreshed(self.snapshot, entries, self.cache, retune=retune, progress=progress)
            self._swap(after)
            self._unsaved = [e for e in self._unsaved if e.position > self.snapshot.position]
            return len(entries)

    def forget(self, user: str, *, progress: Progress = silent) -> None:
        """Erase a person: from the log, from the tables, and from what was learnt (all is learnt anew without them).

        The old snapshots are deleted. Source files outside the run are yours to clean.
        """
        with self._writing, self._turn():
            known = user in self.snapshot.user_ids or bool(self._entries(0, user))
            if not known:
                self.snapshot.user_ids.row(user, what="user")
            if self._log is not None:
                self._log.erase(user)
            self._unsaved = [entry for entry in self._unsaved if entry.user != user]
            after, self.problems = forgotten(self.snapshot, user, self._entries(), self.cache, progress=progress)
            self._swap(after, only=True)

    def follow(self) -> bool:
        """Takes up the version that another process made current; returns whether there was one."""
        if self.folder is None or runs.current(self.folder).name == self._live.name:
            return False
        with self._writing, self._turn():
            return True

    def _swap(self, snapshot: Snapshot, *, only: bool = False, keep: bool = True) -> None:
        name = self._live.name
        if keep:  # what is learnt anew has asked every encoder for everything
            self._whole, self.lacking = None, {}
        if self.folder is not None and keep:
            name = runs.keep(snapshot, self.folder, only=only)
        self._live = Live(snapshot, name)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Behind the run's lock, upon the newest snapshot: another process may have written one meanwhile."""
        if self.folder is None:
            yield
            return
        with runs.locked(self.folder):
            newest = runs.current(self.folder)
            if newest.name != self._live.name:
                self._live = Live(snapshots.read(newest), newest.name)
                self._whole, self.lacking = None, {}
            yield

    def _entries(self, after: int | None = None, user: str | None = None) -> list[Entry]:
        after = self.snapshot.position if after is None else after
        if self._log is not None:
            return self._log.read(after, user=user)
        return [e for e in self._unsaved if e.position > after and user in (None, e.user)]


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


def _with_known(report: Report, known: Sequence[str]) -> Report:
    """The report of added items, with those whose ids were known already."""
    notes = report.notes
    if known:
        ids = "id" if len(known) == 1 else "ids"
        notes = (*notes, f"{len(known):,} {ids} known already: what they say stays as it was, such as {known[0]!r}")
    return replace(report, counts={**report.counts, "known": len(known)}, notes=notes)


def _entry(event: Mapping[str, Any]) -> Entry:
    known = ("user", "item", "kind", "time", "value", "text", "key")
    unknown = [name for name in event if name not in known]
    if unknown or "user" not in event or "item" not in event:
        raise DataError(f"event {dict(event)!r}: give user and item, and of {', '.join(known[2:])} what there is")
    return Entry(**{"kind": "view", "time": time.time(), **event})
