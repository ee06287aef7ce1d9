"""The engine: one run, opened. It trains, answers, learns from what people do, and forgets; the command line, the
server and a notebook all speak to this file.

A run is a folder: `snapshots/000001/…`, `current` (which one counts) and `log.sqlite` (what happened since; or a
PostgreSQL server has it). Readers take no lock: they hold one snapshot. Writers queue behind one lock, for a refresh
begun before a forget would bring the person back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sensorium import build as building
from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.answer import answer, masks_of, why
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
from sensorium.errors import DataError, RecipeError, RemoteError, SensoriumError, SnapshotError, UnknownId
from sensorium.evaluate.drift import drift
from sensorium.evaluate.gate import Bounds, Verdict, judged
from sensorium.feedback.open import embedded, opened
from sensorium.feedback.store import Entry, Store
from sensorium.index.cells import Cells, cells_by, cells_of
from sensorium.index.index import EXACT_UP_TO, Index, index_of
from sensorium.models.model import Pulls
from sensorium.rank.filters import Masks, allowed
from sensorium.rank.lookup import Lookup, look_up
from sensorium.rank.query import Query, Ranking, Rule, Why, check_count, parse_rule, parse_rules
from sensorium.recipe import Recipe, read_recipe, read_recipe_text
from sensorium.refresh import added, carried, completed, forgotten, refreshed, taken_in, unlogged, updated
from sensorium.runs import Version
from sensorium.settings import described
from sensorium.snapshot import Snapshot

PRESETS = 32  # weights of a blend's members that are kept ready
CLOCKS_SECONDS = 5.0  # by which the clocks of those who send events may go before ours
SWIFT = 250_000  # items up to which an answer through cells takes about a millisecond
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
    def index(self) -> Index | Cells | None:
        """None up to 50,000 items, where scoring all is exact and quick enough."""
        items, model = self.snapshot.features.items, self.snapshot.model
        if len(items) <= EXACT_UP_TO or not items.present.any():
            return None
        tables = model.tables() if isinstance(model, Pulls) else None
        if tables is None:
            return index_of(items.values, items.present)
        known = self.snapshot.cells
        return cells_of(tables) if known is None else cells_by(tables, known)

    @cached_property
    def masks(self) -> Masks:
        """Which items the rules keep."""
        return masks_of(self, self.lookup)

    @cached_property
    def lookup(self) -> Lookup:
        """Who did what, and the attributes by column."""
        return look_up(self.snapshot.catalog, self.snapshot.events)

    @property
    def swift(self) -> bool:
        """Whether an answer takes so little time that handing it to a thread would cost as much."""
        return self.warm and isinstance(self.index, Cells) and len(self.snapshot.catalog) <= SWIFT

    @property
    def warm(self) -> bool:
        """Whether the tables are there, so that an answer does not wait for them."""
        return "masks" in self.__dict__

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

    def warmed(self) -> Live:
        """Itself, with its tables made: so the first answer after a swap is as quick as the others."""
        for table in ("index", "lookup", "made_from", "weights", "hidden", "masks"):
            getattr(self, table)
        if isinstance(self.index, Cells) and len(self.snapshot.catalog):
            answer(self, Query(diversity=0.5), lookup=self.lookup, masks=self.masks, weights=self.weights)  # compiles
        snapshots.let_go(self.snapshot)
        return self

    def named(self, name: str) -> Live:
        """Itself under another name, with the tables that it has."""
        out = replace(self, name=name)
        out.__dict__.update({key: value for key, value in self.__dict__.items() if key != "name"})
        return out

    def weighing(self, members: Mapping[str, float]) -> Live:
        """The same version, the members of its blend counting otherwise; tables are shared. **Raises** RecipeError where it
        is no blend. **Cost** nothing after the first time, for as many presets as are asked for in turn."""
        if not members:
            return self
        presets: dict[Any, Live] = self.__dict__.setdefault("_presets", {})
        named = tuple(sorted(members.items()))
        if named not in presets:
            model: Any = self.snapshot.model
            if not hasattr(model, "weighing"):
                raise RecipeError(f"members: the run answers by {type(model).__name__}, which is no blend")
            other = Live(replace(self.snapshot, model=model.weighing(members)), self.name)
            other.__dict__.update(index=self.index, lookup=self.lookup, hidden=self.hidden, masks=self.masks)
            if len(presets) >= PRESETS:
                presets.pop(next(iter(presets)), None)
            presets[named] = other
        return presets[named]

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
        self.lacking: Mapping[str, str] = {}  # items that an encoder was missing for, and why
        self._log: Store | None = None
        if folder is not None:
            where = store or store_of(folder)
            file = embedded(where)
            there = file is None or file.exists()
            self._log = opened(where)
            self._upon_its_log(self._log, fresh=self._log.end == 0 if file is None else not there)

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
            snapshot = _celled(Live(snapshot))
            with runs.locked(folder):
                name = runs.keep(snapshot, folder, why="train")
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
            start = _celled(Live(_based(self.snapshot, log.end)))
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
        sources: Sequence[str] = (), members: Mapping[str, float] | None = None,
    ) -> Ranking:  # fmt: skip
        """The best `k` items for a person, or for a session (`like=["a", "b"]`); what each wish means, Query tells.

        Where `k`, `repeat` or `diversity` is None, the recipe's `[answer]` says it. `rules` and `exclude` are added to
        those of the recipe. Events observed a moment ago count. A person or an item nobody has seen is served like any other.
        """
        return self.answer(
            self.asked(
                user=user, k=k, like=like, unlike=unlike, rules=rules, exclude=exclude, repeat=repeat,
                diversity=diversity, explain=explain, now=now, boosts=boosts, pins=pins, caps=caps,
                exploration=exploration, seed=seed, modalities=modalities, sources=sources, members=members,
            )
        )  # fmt: skip

    def asked(self, **wishes: Any) -> Query:
        """The query of some wishes, what is None or not named being as the recipe says. **Raises** RecipeError."""
        usual = self._live.made_from.answer
        named = {name: value for name, value in wishes.items() if value is not None}
        named["rules"] = tuple(map(_rule, _joined("rules", usual.rules, named.get("rules", ()))))
        named["exclude"] = _joined("exclude", usual.exclude, named.get("exclude", ()))
        return Query(**{"k": usual.k, "repeat": usual.repeat, "diversity": usual.diversity, **named})

    def answer(self, query: Query, *, exact: bool = False) -> Ranking:
        """The ranking for a query, exactly as it stands: the recipe's `[answer]` adds nothing to it. `exact` scores every
        allowed item, however many there are.

        An event that is dated into the future counts once its time has come.
        """
        live = self._live.weighing(query.members)
        happened = self._happened(live, query)
        ranking = answer(live, query, happened, lookup=live.lookup, masks=live.masks, weights=live.weights, exact=exact)
        return replace(ranking, version=live.name)

    def why(self, item: str, query: Query) -> Why:
        """Why an item stands where it does for a query (`asked`), also where it is not shown. **Raises** UnknownId."""
        live = self._live.weighing(query.members)
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
            if not keep:  # told before it can be seen
                self.lacking = {**self.lacking, **self._lacked()}
            self._swap(snapshots.placed(after), keep=keep, why="add")
            return len(after.catalog) - len(before.catalog)

    def take_in(self, told: Catalog, *, hidden: Mapping[str, bool], documents: int) -> int:
        """What the store's documents tell of items, up to a change of them; returns how many items were new.

        New items are encoded, and contents of known ones that changed; only what answers now changes, the next refresh
        writes it.
        """
        with self._writing, self._turn():
            before = self.snapshot
            after, self.problems = taken_in(
                before, told, self.cache, hidden=hidden, documents=documents, patience=self._patience
            )  # fmt: skip
            self.lacking = {**self.lacking, **self._lacked()}
            self._swap(snapshots.placed(after), keep=False)
            return len(after.catalog) - len(before.catalog)

    def complete(self, *, progress: Progress = silent) -> int:
        """Ask once more for what an encoder did not give of added items; returns how many it is still missing for."""
        with self._writing, self._turn():
            names = [name for name in self.lacking if name in self.snapshot.catalog.ids]
            if not names:
                self.lacking = {}
                return 0
            after, self.problems = completed(
                self.snapshot, names, self.cache, progress=progress, patience=self._patience
            )  # fmt: skip
            self._swap(after, keep=False)
            self.lacking = self._lacked()
            return len(self.lacking)

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
            self._swap(replace(self.snapshot, hidden=tuple(sorted(after))), keep=keep, why="hide")

    def refresh(self, *, retune: bool = False, progress: Progress = silent) -> int:
        """Learn from everything observed so far; returns how many events were new.

        The log is read from its beginning, so what was taken back is gone. Media that can be read no longer keep what
        they gave; `problems` names them. A hold that a rollback left is over.
        """
        with self._writing, self._turn():
            fresh = len(self._entries())
            after, self.problems = refreshed(*self._anew(), self.cache, retune=retune, progress=progress)
            self._swap(replace(after, position=max(after.position, self.snapshot.position)), why="refresh")
            if self.folder is not None:
                runs.release(self.folder)
            self._unsaved = [e for e in self._unsaved if e.position > self.snapshot.position]
            return fresh

    def _anew(self) -> tuple[Snapshot, list[Entry]]:
        """What a full refresh starts from: the tables, and the whole log as it stands now."""
        if self._log is None:  # in memory, what was learnt is not kept beside
            return self.snapshot, self._entries()
        return unlogged(self.snapshot), self._log.read(self.snapshot.base)

    # --- versions -------------------------------------------------------------------------------------------------

    def candidate(
        self, place: Path, *, full: bool = False, told: Catalog | None = None, hidden: Mapping[str, bool] | None = None,
        documents: int = 0, share: float = 0.2, most: int = 1000, bounds: Bounds | None = None,
    ) -> tuple[Verdict, Version]:  # fmt: skip
        """The next version as a folder at `place`, and whether it may answer; what answers now does not change.

        It learns from all but the newest of the events that are new, a `share` of them and at most `most`; on those the gate
        compares it with the present version, and once it answers they count as live ones. `full` reads the log from its
        beginning and fits everything again, otherwise the models alone go on. Takes no lock, so that writers go on.
        """
        now = self.snapshot
        fresh = self._entries()
        cut = len(fresh) - min(int(len(fresh) * share), most)
        learnt, asked = fresh[:cut], fresh[cut:]
        begun, problems = now, list[Problem]()
        if told is not None or hidden:
            begun, problems = taken_in(
                now, told or Catalog(Ids([]), {}), self.cache, hidden=hidden, documents=documents
            )
        end = learnt[-1].position if learnt else now.position
        if full:
            whole = [] if self._log is None else [e for e in self._log.read(now.base) if e.position <= end]
            after, more = refreshed(unlogged(begun), whole, self.cache)
            after, problems = replace(after, position=max(after.position, end)), [*problems, *more]
        else:
            after = updated(begun, learnt)
        self.problems = problems
        shutil.rmtree(place, ignore_errors=True)
        snapshots.write(_celled(Live(snapshots.placed(after))), place)
        verdict = self.judge(place, asked, bounds=bounds)
        version = runs.Version(
            "", time.time(), "refresh" if full else "update", "kept" if verdict.passed else "refused", after.position,
            self.version, verdict.reasons, verdict.figures,
        )  # fmt: skip
        return verdict, version

    def judge(self, place: Path, asked: Sequence[Entry] = (), *, bounds: Bounds | None = None) -> Verdict:
        """Whether the snapshot at `place` may answer in place of the present version; `asked` are the newest events."""
        present = self._live
        try:
            candidate = Live(snapshots.read(place))
        except SnapshotError as error:
            return Verdict(False, (str(error),), {})
        size = {name: snapshots.size(folder) for name, folder in (("candidate", place), ("present", self._place()))}
        return judged(
            present, candidate, asked, lambda user, after: self._entries(after, user), sizes=size,
            end=self._log.end if self._log is not None else present.position + len(self._unsaved),
            bounds=bounds or Bounds(),
        )  # fmt: skip

    def adopt(self, place: Path, version: Version) -> str:
        """The candidate at `place` answers from now on, with whatever was told of items meanwhile; returns its name.

        **Raises** SnapshotError where it cannot be read, or another version came since it was begun: somebody may have
        been forgotten, so it is not taken. Answers go on: they hold the version that they began with.
        """
        folder = self._folder()
        candidate = snapshots.read(place)
        live = self._live
        ready = Live(carried(candidate, live.snapshot), version.of).warmed()
        with self._writing, runs.locked(folder):
            if runs.current(folder).name != version.of or self._live.name != version.of:
                raise SnapshotError(f"{place}: made from version {version.of}, which no longer answers; learn again")
            if self._live is not live:  # an item was added while this one was made ready
                ready = Live(carried(candidate, self._live.snapshot)).warmed()
            name = runs.promote(place, folder, version)
            self._live = ready.named(name)
        return name

    def versions(self) -> runs.History:
        """The history of the run's versions, oldest first."""
        return runs.history(self.folder) if self.folder is not None else runs.History()

    def kept(self) -> list[str]:
        """The names of the versions that can be gone back to, and that of the present one."""
        return runs.kept(self.folder) if self.folder is not None else []

    def refused(self, version: Version) -> None:
        """Notes in the history why a candidate does not answer."""
        with runs.locked(self._folder()):
            runs.note(self._folder(), replace(version, name="", state="refused"))

    def rollback(self, to: str | None = None) -> str:
        """The version before answers again (or the one named); returns the name under which it does.

        Whatever was told of items since stays; what people did since counts as live history. The version that is left
        is marked, and from now on none is made without being asked for (`refresh`): it would be learnt anew from the
        same events. **Raises** UnknownId where there is none to go back to.
        """
        folder = self._folder()
        with self._writing, self._turn():
            here, told = self._live.name, runs.history(folder)
            name = to or _before(here, runs.kept(folder), told)
            if name is None or name not in runs.kept(folder):
                there = ", ".join(kept for kept in runs.kept(folder) if kept != here) or "none"
                raise UnknownId(f"no version {to or 'before this one'} to go back to; there are: {there}")
            after = carried(snapshots.read(folder / "snapshots" / name), self.snapshot)
            runs.withdraw(folder, here, {"since": time.time(), "why": f"rollback from {here} to {name}"})
            self._swap(after, why="rollback", of=name)
            return self.version

    @staticmethod
    def mend(folder: Path | str, to: str) -> None:
        """Makes a version of a run current that cannot be opened. **Raises** SnapshotError where that one is damaged too."""
        folder = Path(folder)
        with runs.locked(folder):
            runs.point(folder, to)

    def release(self) -> None:
        """Versions may be made again without being asked for."""
        with runs.locked(self._folder()):
            runs.release(self._folder())

    def follow(self) -> bool:
        """Takes up the version that another process made current; returns whether there was one."""
        folder = self._folder()
        if runs.current(folder).name == self._live.name:
            return False
        with self._writing, self._turn():
            return True

    def drift(self, most: int = 10_000) -> dict[str, float]:
        """How far what people do now is from what the version has learnt: see evaluate/drift.py."""
        live = self._live
        return drift(live.snapshot, self._entries(live.snapshot.position)[-most:])

    def _folder(self) -> Path:
        if self.folder is None:
            raise SnapshotError("this run is in memory alone and has one version; save it first")
        return self.folder

    def _place(self) -> Path | None:
        return self.folder / "snapshots" / self._live.name if self.folder is not None else None

    def _upon_its_log(self, log: Store, *, fresh: bool) -> None:
        """**Raises** SnapshotError for a log that ends before what the snapshot has read; where there was none (it was moved
        away), a `fresh` one is gone on with, which the history tells."""
        try:
            if log.end < self.snapshot.position and not fresh:
                raise SnapshotError(
                    f"{log.place}: it ends at {log.end}, the snapshot has read up to {self.snapshot.position}: an older copy; "
                    "restore the newest, or move it away to start an empty log"
                )
            if log.end < self.snapshot.position:
                with self._writing, runs.locked(self._folder()):
                    self._swap(_based(self.snapshot, 0), why="another log")
        except BaseException:
            log.close()
            raise

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
            self._swap(after, only=True, why="forget")

    def _swap(
        self, snapshot: Snapshot, *, only: bool = False, keep: bool = True, why: str = "", of: str = ""
    ) -> None:  # fmt: skip
        if why in ("refresh", "forget"):  # what is learnt anew has asked every encoder for everything
            self.lacking = {}
        before, after = self._live, Live(snapshot)
        if snapshot.model is before.model:  # items were hidden or shown, nothing else
            after.__dict__.update(
                {name: before.__dict__[name] for name in ("index", "lookup") if name in before.__dict__}
            )
        snapshot, name = _celled(after), before.name
        if self.folder is not None and keep:
            name = runs.keep(snapshot, self.folder, only=only, why=why, of=of)
        live = Live(snapshot, name)
        live.__dict__.update(after.__dict__ | {"snapshot": snapshot, "name": name})
        if before.warm:  # whoever asks must not wait for tables
            live.warmed()
        self._live = live

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """One learner a run, in any process. **Raises** BlockingIOError where there is one."""
        with runs.locked(self._folder(), "learning", wait=False):
            yield

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Behind the run's lock, upon the newest snapshot: another process may have written one meanwhile."""
        if self.folder is None:
            yield
            return
        with runs.locked(self.folder):
            newest = runs.current(self.folder)
            if newest.name != self._live.name:
                self._live = Live(carried(snapshots.read(newest), self._live.snapshot, newer=False), newest.name)
            yield

    def _entries(self, after: int | None = None, user: str | None = None) -> list[Entry]:
        after = self.snapshot.position if after is None else after
        if self._log is not None:
            return self._log.read(after, user=user)
        return [e for e in self._unsaved if e.position > after and user in (None, e.user)]


def _celled(live: Live) -> Snapshot:
    """The snapshot with the cells by which it is searched: whoever opens it need not find them again."""
    index = live.index
    return replace(live.snapshot, cells=index.cell if isinstance(index, Cells) else None)


@lru_cache(maxsize=4096)
def _parsed(line: str) -> Rule:
    return parse_rule(line)


def _joined(name: str, usual: Sequence[Any], asked: Any) -> tuple[Any, ...]:
    """What the recipe says and what is asked. **Raises** RecipeError for a single word in the place of a list."""
    if isinstance(asked, str):
        raise RecipeError(f"query: {name} is the single word {asked!r}; give a list of them")
    return (*usual, *asked)


def _rule(rule: Rule | str) -> Rule:
    return _parsed(rule) if isinstance(rule, str) else rule


def _based(snapshot: Snapshot, end: int) -> Snapshot:
    """The snapshot upon another log that has come to `end`: all its events are its own, none is looked up there."""
    return replace(snapshot, events=replace(snapshot.events, logged=None), position=end, base=end)


def _before(name: str, kept: Sequence[str], told: runs.History) -> str | None:
    """The newest kept version before one that nobody went back from, and that this one does not restore."""
    here = told.of(name)
    left = [line.name for line in told.versions if line.state == "withdrawn"]
    back = here.of if here is not None and here.why == "rollback" else ""
    return next((k for k in reversed(kept) if k < name and k not in left and (not back or k < back)), None)


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
