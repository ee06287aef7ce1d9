"""The engine: one run, opened. It trains, answers, learns from what people do, and forgets; the command line, the
server and a notebook all speak to this file.

A run is a folder: `snapshots/000001/…`, `current` (which one counts) and `log.sqlite` (what happened since; or a
PostgreSQL server has it). Readers take no lock: they hold one snapshot. Writers queue behind one lock, for a refresh
begun before a forget would bring the person back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sensorium import build as building
from sensorium import intake, runs, versions
from sensorium import snapshot as snapshots
from sensorium.answer import Several, Steps, answering, asked, why
from sensorium.data.catalog import Catalog
from sensorium.data.report import Report
from sensorium.encode.cache import default_cache
from sensorium.encode.encoder import Encoder, Progress, silent
from sensorium.encode.patience import Patience
from sensorium.encode.run import Problem
from sensorium.errors import SnapshotError
from sensorium.evaluate.drift import drift
from sensorium.evaluate.gate import Bounds, Verdict
from sensorium.feedback.open import embedded, opened
from sensorium.feedback.store import Entry, Store
from sensorium.held import CLOCKS_SECONDS, Held
from sensorium.live import Live, celled
from sensorium.rank.crowd import Crowd
from sensorium.rank.filters import allowed
from sensorium.rank.lookup import look_up
from sensorium.rank.query import Query, Ranking, Rule, Why, parse_rules
from sensorium.recipe import Recipe, read_recipe, read_recipe_text
from sensorium.refresh import added, based, carried, completed, forgotten, refreshed, taken_in
from sensorium.runs import Version, store_of
from sensorium.searching import Found, search
from sensorium.settings import described
from sensorium.snapshot import Snapshot


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
        self._held = Held(Live(snapshot, name), folder)
        self.cache = cache or default_cache()
        self.problems: Sequence[Problem] = ()
        self.report = Report()
        self.material: building.Material | None = None
        self._patience: Patience | None = None
        self._searching: Patience | None = None  # its rounds are others: searches do not queue behind items
        self.lacking: Mapping[str, str] = {}  # items that an encoder was missing for, and why
        if folder is not None:
            where = store or store_of(folder)
            file = embedded(where)
            there = file is None or file.exists()
            log = opened(where)
            self._held.stand_upon(log, fresh=log.end == 0 if file is None else not there)

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
        snapshot = building.build(material, recipe, progress=progress)
        people = snapshot.people and snapshots.placed(snapshot.people)
        snapshot = replace(snapshot, catalog=snapshots.placed(snapshot.catalog), people=people)
        if folder is None:
            engine = cls(snapshot, cache=cache)
        else:
            snapshot = celled(Live(snapshot))
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
        held = self._held
        with held.writing, runs.locked(folder):
            if folder == held.folder:
                return  # every change is on disk when it returns
            pending = held.entries()
            log = opened(store_of(folder))
            start = celled(Live(based(held.snapshot, log.identity, log.end)))
            log.append(pending)
            held.live = Live(start, runs.keep(start, folder))
            self.close()
            held.unsaved.clear()
            held.log, held.folder = log, folder

    def close(self) -> None:
        """Let go of the log; the engine must not be used afterwards."""
        if self._held.log is not None:
            self._held.log.close()

    def wait_at_most(self, seconds: float) -> None:
        """From now on an encoder that hangs or is missing is left out: items are added, and `lacking` tells which."""
        warm: dict[Encoder, Encoder] = {}
        self._patience, self._searching = Patience(seconds, warm), Patience(seconds, warm)

    @property
    def folder(self) -> Path | None:
        """Where the run is; None where it is in memory alone."""
        return self._held.folder

    @property
    def live(self) -> Live:
        """The version that answers now, with its tables; whoever looks at several of them takes this once."""
        return self._held.live

    @property
    def snapshot(self) -> Snapshot:
        """The version that answers now."""
        return self._held.live.snapshot

    @property
    def version(self) -> str:
        """The name of the snapshot that answers now, "" where the run is in memory alone."""
        return self._held.live.name

    @property
    def recipe(self) -> Recipe:
        """What the run was made from."""
        return self._held.live.made_from

    @property
    def store(self) -> Store | None:
        """Where events are kept; None where the run is in memory alone."""
        return self._held.log

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
        return asked(self.live.made_from.answer, wishes)

    def answer(self, query: Query, *, exact: bool = False) -> Ranking:
        """The ranking for a query, exactly as it stands: the recipe's `[answer]` adds nothing to it. `exact` scores every
        allowed item, however many there are.

        An event that is dated into the future counts once its time has come.
        """
        return self.answers([(query, copy_context())], exact=exact).one()

    def answers(self, queries: Sequence[tuple[Query | Mapping[str, Any], Context]], *, exact: bool = False) -> Several:
        """The rankings for several queries, or for the wishes of `recommend`, on their way; each in its context, by which what
        listens hears of its stages. **Cost** less than one by one: large catalogues are searched for all at once.
        """
        held = self._held.live

        def steps(asked: Query | Mapping[str, Any]) -> Steps:
            query = asked if isinstance(asked, Query) else self.asked(**asked)
            live = held.weighing(query.members)
            ranking = yield from answering(
                live, query, self._happened(live, query), lookup=live.lookup, masks=live.masks, weights=live.weights,
                exact=exact, crowd=partial(self._held.crowd, live),
            )  # fmt: skip
            return replace(ranking, version=live.name)

        return Several([(context, steps(query)) for query, context in queries])

    def why(self, item: str, query: Query) -> Why:
        """Why an item stands where it does for a query (`asked`), also where it is not shown. **Raises** UnknownId."""
        live = self._held.live.weighing(query.members)
        told = why(
            live, query, item, self._happened(live, query), lookup=live.lookup, weights=live.weights,
            crowd=partial(self._held.crowd, live),
        )  # fmt: skip
        return replace(told, version=live.name)

    def crowd(self, live: Live | None = None) -> Crowd:
        """How often each item was chosen by now: counts that decay, by a half-life of ninety days and one of a day."""
        return self._held.crowd(live or self._held.live)

    def _happened(self, live: Live, query: Query) -> list[Entry]:
        """The log's entries of the query's person that the snapshot does not know, and whose time has come."""
        entries = self._held.entries(live.snapshot.position, query.user) if query.user is not None else []
        until = max(time.time() + CLOCKS_SECONDS, query.now or 0.0)
        return [entry for entry in entries if entry.time <= until]

    def search(self, words: str | None = None, *, image: Path | None = None, k: int = 10) -> list[Found]:
        """The items nearest to some words (or a picture), whatever their modality: words find pictures, sound and clips.

        **Raises** DataError where it is given neither or both, or the picture cannot be read; RecipeError for `k`.
        """
        return search(self.live, words, image, k, self.cache, patience=self._searching)

    # --- learning -------------------------------------------------------------------------------------------------

    def observe(self, events: Sequence[Entry | Mapping[str, Any]]) -> list[int]:
        """Note what people did: it is on disk when this returns (if the run has a folder), and counts in the next answer.

        A mapping has `user`, `item`, and may have `kind` (view), `value`, `time` (now), `text`, `key`.
        """
        return self._held.append(self.entries(events))

    def entries(self, events: Sequence[Entry | Mapping[str, Any]]) -> list[Entry]:
        """The events as the store takes them, checked. **Raises** DataError."""
        return intake.entries(events)

    def observe_table(self, path: Path | str) -> int:
        """Note every event of a table (columns as in training); returns how many."""
        entries, self.report = intake.entries_of(Path(path), self.recipe)
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
            "left_out": dict(now.left_out),
            "recommender": described(now.recommender),
            "example_user": now.user_ids[0] if len(now.user_ids) else None,
        }

    def add(self, items: Catalog | Path | str, *, progress: Progress = silent) -> int:
        """New items, recommendable at once from their content alone; returns how many were new.

        `report` then tells what was rejected, missing or known already (`counts["known"]`), `problems` what could not
        be encoded. **Raises** DataError for a table of events.
        """
        with self._held.turn():
            before = self.snapshot
            if isinstance(items, Catalog):
                more, report = items, Report()
            else:
                recipe = read_recipe_text(before.recipe)
                more, report = intake.items_of(Path(items), recipe, intake.taken_by(before))
            self.report = intake.with_known(report, [name for name in more.ids if name in before.catalog.ids])
            after, self.problems = added(before, more, self.cache, progress=progress, patience=self._patience)
            self._held.swap(after, why="add")
            return len(after.catalog) - len(before.catalog)

    def take_in(
        self, told: Catalog, *, hidden: Mapping[str, bool], documents: int,
        stated: Mapping[str, Collection[str] | None] | None = None,
    ) -> tuple[int, Sequence[Problem]]:  # fmt: skip
        """What the store's documents tell of items, up to a change of them; returns how many items were new, and what could
        not be encoded.

        New items are encoded, and contents of known ones that changed; only what answers now changes, the next refresh
        writes it. By the columns that are `stated` of an item (None: by any) nothing stays that is not told.
        """
        with self._held.turn():
            before = self.snapshot
            after, problems = taken_in(
                before, told, self.cache, hidden=hidden, documents=documents, stated=stated, patience=self._patience
            )  # fmt: skip
            self.lacking = {**self.lacking, **self._lacked(problems)}  # told before it can be seen
            self._held.swap(after, keep=False)
            return len(after.catalog) - len(before.catalog), problems

    def settle(self, hidden: Mapping[str, bool], *, documents: int) -> None:
        """Which items are hidden, as the store's documents tell up to a change of them: from the next answer on, whatever is
        being learnt or encoded meanwhile. Only what answers changes, as by `take_in`."""
        self._held.settle(hidden, documents)

    def complete(self, *, progress: Progress = silent) -> int:
        """Ask once more for what an encoder did not give of added items; returns how many it is still missing for."""
        with self._held.turn():
            names = [name for name in self.lacking if name in self.snapshot.catalog.ids]
            if not names:
                self.lacking = {}
                return 0
            after, self.problems = completed(
                self.snapshot, names, self.cache, progress=progress, patience=self._patience
            )  # fmt: skip
            self._held.swap(after, keep=False)
            self.lacking = self._lacked(self.problems)
            return len(self.lacking)

    def _lacked(self, problems: Sequence[Problem]) -> dict[str, str]:
        """The items of which an encoder gave nothing, itself being to blame, and why."""
        if self._patience is None:
            return {}
        gone = self._patience.lacking
        return {one.item: gone[one.modality] for one in problems if one.modality in gone}

    def hide(self, *items: str, hidden: bool = True) -> None:
        """Show some items no longer, or again."""
        with self._held.turn():
            rows = {self.snapshot.catalog.ids.row(item) for item in items}
            after = set(self.snapshot.hidden) | rows if hidden else set(self.snapshot.hidden) - rows
            self._held.swap(replace(self.snapshot, hidden=tuple(sorted(after))), why="hide")

    def refresh(self, *, retune: bool = False, progress: Progress = silent) -> int:
        """Learn from everything observed so far; returns how many events were new.

        The log is read from its beginning, so what was taken back is gone. Media that can be read no longer keep what
        they gave; `problems` names them. A hold that a rollback left is over.
        """
        with self._held.training():
            with self._held.turn():
                before, fresh = self.snapshot, len(self._held.entries())
                begun = versions.anew(self._held)
            after, self.problems = refreshed(*begun, self.cache, retune=retune, progress=progress)
            self._learnt_anew(replace(after, position=max(after.position, before.position)), before, why="refresh")
            if self.folder is not None:
                runs.release(self.folder)
            self._held.unsaved = [e for e in self._held.unsaved if e.position > self.snapshot.position]
            return fresh

    # --- versions -------------------------------------------------------------------------------------------------

    def candidate(
        self, place: Path, *, full: bool = False, share: float = 0.2, most: int = 1000, bounds: Bounds | None = None
    ) -> tuple[Verdict, Version]:  # fmt: skip
        """The next version as a folder at `place`, and whether it may answer; what answers now does not change.

        It learns from all but the newest of the events that are new, a `share` of them and at most `most`; on those the gate
        compares it with the present version, and once it answers they count as live ones. `full` reads the log from its
        beginning and fits everything again, otherwise the models alone go on. Takes no lock, so that writers go on.
        """
        now, fresh = self.snapshot, self._held.entries()
        cut = len(fresh) - min(int(len(fresh) * share), most)
        after, self.problems = versions.learnt(self._held, now, fresh[:cut], self.cache, full=full)
        return versions.weighed(self._held, after, place, fresh[cut:], full=full, bounds=bounds)

    def judge(self, place: Path, asked: Sequence[Entry] = (), *, bounds: Bounds | None = None) -> Verdict:
        """Whether the snapshot at `place` may answer in place of the present version; `asked` are the newest events."""
        return versions.judge(self._held, place, asked, bounds=bounds)

    def adopt(self, place: Path, version: Version) -> str:
        """The candidate at `place` answers from now on, with whatever was told of items meanwhile; returns its name.

        **Raises** SnapshotError where it cannot be read, or another version came since it was begun: somebody may have
        been forgotten, so it is not taken. Answers go on: they hold the version that they began with.
        """
        return versions.adopt(self._held, place, version)

    def versions(self) -> runs.History:
        """The history of the run's versions, oldest first."""
        return runs.history(self.folder) if self.folder is not None else runs.History()

    def kept(self) -> list[str]:
        """The names of the versions that can be gone back to, and that of the present one."""
        return runs.kept(self.folder) if self.folder is not None else []

    def refused(self, version: Version) -> None:
        """Notes in the history why a candidate does not answer."""
        with runs.locked(self._held.home):
            runs.note(self._held.home, replace(version, name="", state="refused"))

    def rollback(self, to: str | None = None) -> str:
        """The version before answers again (or the one named); returns the name under which it does.

        Whatever was told of items since stays; what people did since counts as live history. The version that is left
        is marked, and from now on none is made without being asked for (`refresh`): it would be learnt anew from the
        same events. **Raises** UnknownId where there is none to go back to.
        """
        return versions.rollback(self._held, to)

    @staticmethod
    def mend(folder: Path | str, to: str) -> None:
        """Makes a version of a run current that cannot be opened. **Raises** SnapshotError where that one is damaged too."""
        folder = Path(folder)
        with runs.locked(folder):
            runs.point(folder, to)

    def release(self) -> None:
        """Versions may be made again without being asked for."""
        with runs.locked(self._held.home):
            runs.release(self._held.home)

    def follow(self) -> bool:
        """Takes up the version that another process made current; returns whether there was one."""
        return versions.follow(self._held)

    def drift(self, most: int = 10_000) -> dict[str, float]:
        """How far what people do now is from what the version has learnt: see evaluate/drift.py."""
        live = self._held.live
        return drift(live.snapshot, self._held.entries(live.snapshot.position)[-most:])

    def forget(self, user: str, *, progress: Progress = silent) -> None:
        """Erase a person: from the log, from the tables, and from what was learnt (all is learnt anew without them).

        The old snapshots are deleted. Source files outside the run are yours to clean.
        """
        with self._held.training():
            with self._held.turn():
                before = self.snapshot
                known = user in before.user_ids or bool(self._held.entries(0, user))
                if not known:
                    before.user_ids.row(user, what="user")
                if self._held.log is not None:
                    self._held.log.erase(user)
                self._held.unsaved = [entry for entry in self._held.unsaved if entry.user != user]
                left = self._held.entries()
            after, self.problems = forgotten(before, user, left, self.cache, progress=progress)
            self._learnt_anew(after, before, only=True, why="forget")

    def _learnt_anew(self, after: Snapshot, before: Snapshot, *, why: str, only: bool = False) -> None:
        """The version answers, with whatever was told of items since `before`."""
        with self._held.turn():
            after = after if self.snapshot is before else carried(after, self.snapshot, kin=True)
            # What is learnt anew has asked every encoder for everything that it knew.
            self.lacking = {name: why for name, why in self.lacking.items() if name not in before.catalog.ids}
            self._held.swap(after, only=only, why=why)

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """One learner a run, in any process. **Raises** BlockingIOError where there is one."""
        with runs.locked(self._held.home, "learning", wait=False):
            yield
