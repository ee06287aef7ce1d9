"""What every route calls: one run, opened for many at once. It knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import orjson

from sensorium.adapt.adaptive import Adaptive
from sensorium.answer import Several
from sensorium.arrays import threads
from sensorium.data.catalog import Catalog
from sensorium.data.columns import Taken
from sensorium.data.ids import Ids
from sensorium.engine import Engine
from sensorium.errors import DataError, SensoriumError, UnknownId
from sensorium.feedback.commit import Committer
from sensorium.feedback.log import Log
from sensorium.feedback.store import Document, Entry
from sensorium.intake import taken_by
from sensorium.live import Live
from sensorium.rank.query import Ranking, Why
from sensorium.runs import UPLOADS
from sensorium.serve.abreast import Abreast
from sensorium.serve.documents import ANEW, GORSE, ITEMS, Places, noted, stated, told
from sensorium.serve.keys import Keys
from sensorium.serve.learning import Learning, Schedule
from sensorium.serve.logs import tell
from sensorium.serve.metrics import Commits
from sensorium.serve.pulse import Pulse
from sensorium.serve.standing import Standing
from sensorium.serve.together import QUEUE, Asked, Busy, Together
from sensorium.serve.uploads import Uploads
from sensorium.stages import mark

T = TypeVar("T")
PROBLEMS = "problems"  # the kind of document that says why an item is not as it was told
NOTHING = Catalog(Ids([]), {})
SHORT = 100  # results up to which a swift answer is given without a thread
SLOW = ("explain", "pins", "caps", "modalities", "sources")  # wishes of which an answer takes longer
COMMITS = 4096  # calls that may wait for the disk
ENCODER_SECONDS = 15.0  # that an encoder may take for some items, loading its model included
RETRY_SECONDS = (5.0, 600.0)  # the first pause before a missing encoder is asked again, and the longest
SWITCH_SECONDS, USUAL_SECONDS = 0.001, sys.getswitchinterval()  # after which a thread that works on lets others go on
FOLLOW_SECONDS = 1.0  # by which a key that another process made or dropped is known here


@dataclass(frozen=True)
class Answer:
    """A ranking with the id that feedback and audits refer to."""

    id: str
    ranking: Ranking


class Service:
    """An opened run with its commit queue, its threads, and the items that came since it was trained.

    An item is kept in the store first, as a document; then it is encoded by a thread of its own, and what answers is
    swapped in one move. On opening, documents that the snapshot does not know are encoded again.
    """

    def __init__(
        self, folder: Path | str, *, cache: Path | None = None, first_key: str = "", media: Path | None = None,
        fetch: bool = False, encoder_seconds: float = ENCODER_SECONDS, store: Path | str | None = None,
        schedule: Schedule | None = None,
    ) -> None:  # fmt: skip
        self.engine = Engine.open(folder, cache=cache, store=store)
        if self.engine.store is None:
            raise SensoriumError(f"{folder}: the run has no store")
        self.store = self.engine.store
        self._local = isinstance(self.store, Log)
        self.keys = Keys(self.store, first_key)
        self.places = Places(Path(folder) / UPLOADS, media)
        self.fetch = fetch  # whether pictures are fetched by URL
        self.standing = Standing(self.store)
        self.uploads = Uploads(self.places, self.store)
        self.committed = Commits()
        self.commits = Committer(self.store, told=self.committed)
        self.pulse = Pulse(self.store)
        self.started = False  # whether it is caught up with the store
        self.adaptive = Adaptive(self.store)
        self._threads = ThreadPoolExecutor(max_workers=max(threads(), 2), thread_name_prefix="answer")
        self._together = Together(self._answers, self._threads, lambda: self.engine.live.swift)
        self._slow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learn")
        self._waiting = 0
        self._counting, self._merging = threading.Lock(), threading.Lock()
        self.learner = Learning(self, schedule or Schedule(every_seconds=0), cache=cache)
        self._fresh: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._abreast = Abreast(self)
        self._columns: tuple[object, Taken] | None = None
        self.engine.wait_at_most(encoder_seconds)
        self._tasks: list[asyncio.Task[None]] = []
        self._learning = 0

    async def begin(self) -> None:
        """Bring the live version up to the documents, then go on doing so."""
        self._loop = asyncio.get_running_loop()
        self._fresh = asyncio.Event()  # first: what is put while it catches up must not be missed
        await self.slow(self.engine.live.warmed)
        await self.slow(self.engine.crowd)  # reads what the log holds since the snapshot, once
        await self.slow(self.catch_up)
        await self.slow(self.adaptive.start)
        await self.slow(self._abreast.look)
        self._tasks = [asyncio.create_task(task) for task in (
            self._keep_up(), self._complete(), self._follow(), self.pulse.kept()
        )]  # fmt: skip
        self.learner.begin()
        self.started = True

    async def end(self, seconds: float | None = None) -> bool:
        """Finish what was begun, then close; returns whether all was, within the seconds (None: however long it takes)."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.learner.end()
        closing = threading.Thread(target=self.close, name="close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, seconds)
        return not closing.is_alive()

    def close(self) -> None:
        """Events that were taken are written, answers and changes that were begun are finished."""
        self.started = False
        self.commits.close()  # first: what comes after may take as long as a training
        self.learner.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._slow.shutdown(wait=True, cancel_futures=True)
        self.adaptive.close()
        self.engine.close()

    @property
    def lacking(self) -> Mapping[str, str]:
        """Items that are known without one of their modalities, for its encoder hangs or is missing; and why."""
        return self.engine.lacking

    @property
    def degraded(self) -> list[str]:
        """The same in words, for whoever reads an answer."""
        reasons = Counter(self.lacking.values())
        return [f"{why}: {count} new items are recommended without it" for why, count in sorted(reasons.items())]

    @property
    def waiting(self) -> int:
        """How many answers wait for a thread, or are in one."""
        return self._waiting + len(self._together)

    @property
    def learning(self) -> bool:
        """Whether what answers is being changed: items encoded, a person forgotten, all learnt anew."""
        return self._learning > 0

    def line(self, error: BaseException) -> str:
        """What went wrong, in one line, for whoever asked: without where the run and its store lie."""
        line = " ".join(str(error).split())
        for place, name in ((self.store.place, "the store"), (str(self.engine.folder), "the run")):
            line = line.removeprefix(f"{place}: ")
            line = line.replace(place, name) if "/" in place else line  # a mere word may mean something else
        return line or type(error).__name__

    async def threaded(self, work: Callable[[], T]) -> T:
        """The work in one of the threads that answer. **Raises** Busy where too many wait already."""
        with self._counting:
            if self._waiting >= QUEUE:
                raise Busy("too many requests wait; come back in a second")
            self._waiting += 1
        mark("parse")
        try:
            context = contextvars.copy_context()  # its stages are heard in the thread
            return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, self._queued, work)
        finally:
            with self._counting:
                self._waiting -= 1

    def _queued(self, work: Callable[[], T]) -> T:
        """The work, its wait for a thread told apart, upon what other processes did."""
        mark("queue")
        self._abreast.look()
        return work()

    def soon(self, work: Callable[[], object]) -> None:
        """The work in that thread, for which nobody waits."""
        with contextlib.suppress(RuntimeError):  # it is being closed
            self._slow.submit(work)

    async def slow(self, work: Callable[[], T]) -> T:
        """The work in the one thread that takes in what is told of items."""
        with self.busy():
            return await asyncio.get_running_loop().run_in_executor(self._slow, work)

    # --- answering, observing -------------------------------------------------------------------------------------

    async def recommend(self, **wishes: Any) -> Answer:
        """What Engine.recommend answers; what was observed a moment ago counts."""
        plan = self.adaptive.plan(wishes)  # None where nothing is tried
        explores = wishes.get("exploration") or (plan is not None and plan.wishes.get("exploration"))
        if explores and wishes.get("seed") is None:
            wishes["seed"] = secrets.randbits(53)
        ranked = self.ranked if plan is None else partial(self.adaptive.answered, self.ranked, plan)
        slow = any(map(wishes.get, SLOW))
        # A store on another machine may be slow to answer, which the loop must not wait for.
        together = self._local and plan is None and self.engine.live.searched and not slow
        if together and (wishes.get("k") or 0) <= SHORT and not self._abreast.due():
            ranking = await self._together.answer(wishes)
        else:
            ranking = await self.threaded(partial(ranked, **wishes))
        if self.lacking:
            ranking = replace(ranking, notes=(*ranking.notes, *self.degraded))
        answer = Answer(secrets.token_hex(8), ranking)
        if plan is not None:
            self.adaptive.shown(answer.id, plan, wishes.get("user"), ranking.ids(), ranking.version)
        return answer

    def _answers(self, asked: Sequence[Asked]) -> Several:
        """Several answers on their way, under the standing rules; what other processes did was taken up by a thread."""
        for _, context in asked:
            context.run(mark, "queue")
        self._abreast.rules()
        return self.engine.answers([(self.standing.joined(wishes), context) for wishes, context in asked])

    def ranked(self, **wishes: Any) -> Ranking:
        """The same by a thread that may wait: under the standing rules."""
        return self.engine.answer(self.engine.asked(**self.standing.joined(wishes)))

    def why(self, item: str, wishes: Mapping[str, Any]) -> Why:
        """Why an item stands where it does for these wishes, under the standing rules. **Raises** UnknownId."""
        return self.engine.why(item, self.engine.asked(**self.standing.joined(wishes)))

    def seen(self, user: str) -> list[str]:
        """Items that a person did something with since the service began to note it."""
        return list({entry.item for entry in self.store.read(user=user)})

    def person(self, user: str) -> dict[str, Any]:
        """What is known of a person. **Raises** UnknownId."""
        live = self.engine.live
        snapshot, row = live.snapshot, int(live.snapshot.user_ids.rows([user])[0])
        body = self.store.get("users", user)
        fresh = self.store.read(snapshot.position, user=user)
        if row < 0 and body is None and not fresh and not self.store.read(user=user, most=1):
            raise UnknownId(f"no user {user!r}")
        mine = live.lookup.by_user.of(row)
        times = [entry.time for entry in fresh]
        times += [float(snapshot.events.time[mine[-1]])] if len(mine) and snapshot.events.timed else []
        return {
            "user": user, "learnt": len(mine), "live": len(fresh), "last": max(times, default=None),
            "labels": (body or {}).get("labels"), "comment": (body or {}).get("comment", ""),
        }  # fmt: skip

    async def observe(self, events: Sequence[Entry | Mapping[str, Any]]) -> list[int]:
        """The positions of the events, once they are on the disk. **Raises** Busy where too many wait for that.

        `recommendation` of an event is the id of the answer that it follows.
        """
        answers = [None if isinstance(event, Entry) else event.get("recommendation") for event in events]
        return await self.stored(self.engine.entries([_bare(event) for event in events]), answers)

    async def stored(self, entries: Sequence[Entry], answers: Sequence[str | None] = ()) -> list[int]:
        """The same for entries that are checked, and the ids of the answers that they follow."""
        if self.commits.waiting >= COMMITS:
            raise Busy("too many events wait for the disk; come back in a second")
        positions = await self.commits.appended(entries)
        if self.adaptive.tries:
            for entry, to in zip_longest(entries, answers):
                self.adaptive.happened(entry.user, entry.item, entry.kind, entry.time, to)
        return positions

    # --- items ----------------------------------------------------------------------------------------------------

    async def put_items(self, documents: Mapping[str, Mapping[str, Any]], *, whole: bool = True) -> int:
        """Keeps items; returns the number of the change once it is on the disk. They are encoded in the background.

        Where a document is not `whole`, what it does not tell of a known item stays. Whether an item is hidden holds for the
        next answer. **Raises** DataError for what no answer could tell.
        """
        for name, document in documents.items():
            try:
                orjson.dumps(document)
            except TypeError as error:  # half a character, a number of more than 64 bits, too deep a tree
                raise DataError(f"item {name!r}: it cannot be written as JSON ({error})") from None

        change = await self.threaded(partial(self._put, documents, whole=whole))
        if self._fresh is not None:
            self._fresh.set()
        return change

    def _put(self, documents: Mapping[str, Mapping[str, Any]], *, whole: bool = True) -> int:
        with self._merging:
            documents = documents if whole else self._over(documents)
            change = self.store.put(ITEMS, documents)
            self.settle(documents, change)
        return change

    def _over(self, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The documents over those that are kept; Gorse's form of an item is read off its columns again."""
        kept = {name: self.store.get(ITEMS, name) or {} for name in documents}
        back = {"hidden": False, ANEW: True}
        kept = {name: back if body.get("dropped") else body for name, body in kept.items()}
        return {
            name: {**{k: v for k, v in kept[name].items() if k != GORSE}, **body} for name, body in documents.items()
        }  # fmt: skip

    async def drop_item(self, item: str) -> None:
        """Takes an item out of the store and out of every further answer. **Raises** UnknownId."""
        await self.threaded(partial(self.item, item))
        gone = {item: {"item_id": item, "hidden": True, "dropped": True}}
        await self.threaded(partial(self._put, gone))

    def item(self, item: str) -> dict[str, Any]:
        """What is known of an item. **Raises** UnknownId."""
        document, live = self.store.get(ITEMS, item), self.engine.live
        if document is not None and not document.get("dropped"):
            return _told_of(document, live)
        ids = live.snapshot.catalog.ids
        if document is None and item in ids:
            return _told_of({"item_id": item, "title": live.snapshot.catalog.title(ids.row(item))}, live)
        raise UnknownId(f"no item {item!r}")

    def items(self, after: str, most: int) -> tuple[list[dict[str, Any]], str | None]:
        """Documents of items by ascending id, and after which one there may be more (None: there are none)."""
        found: list[dict[str, Any]] = []
        last: str | None = after
        while last is not None and len(found) < most:
            page = self.store.page(ITEMS, last, most - len(found))
            last = page[-1].id if len(page) == most - len(found) else None
            bodies = [one.body for one in page if one.body is not None and not one.body.get("dropped")]
            found += [_told_of(body, self.engine.live) for body in bodies]
        return found, last

    def wake(self) -> None:
        """There may be new items: they are encoded in the background. From any thread."""
        if self._loop is not None and self._fresh is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._fresh.set)

    def renewed(self) -> None:
        """Another process made a version, which may lack items that came since it was begun."""
        self.wake()

    def catch_up(self) -> int:
        """Encode what the store has and the live version lacks, or knows otherwise; returns how many items were added."""
        added = 0
        while changes := self.store.changed(ITEMS, self.engine.snapshot.documents):
            items, hidden, failed = told(changes, self.engine.recipe, self.places, self._taken())
            try:
                added += self._taken_in(items, hidden, changes, failed)
            except (SensoriumError, OSError, ValueError):  # one of them cannot be encoded: the others, without it
                added += self._one_by_one(changes, failed)
            self._note(changes, failed)
        return added

    def _note(self, changes: Sequence[Document], failed: Mapping[str, str]) -> None:
        """Keeps what is wrong with the items that changed, if anything is."""
        known = {one.id: self.store.get(PROBLEMS, one.id) for one in changes}
        new = {item: {"why": why} for item, why in failed.items() if known.get(item) != {"why": why}}
        if new:
            self.store.put(PROBLEMS, new)
        for item, problem in known.items():
            if problem is not None and item not in failed:
                self.store.delete(PROBLEMS, item)

    def problem(self, item: str) -> str | None:
        """Why an item could not be added, or what of it could not; None where nothing is wrong."""
        return (self.store.get(PROBLEMS, item) or {}).get("why") or self.lacking.get(item)

    def _taken(self) -> Taken:
        """What the columns of the run's table were taken for: asked of a snapshot of before once, for that takes a while."""
        snapshot = self.engine.snapshot
        if self._columns is None or self._columns[0] is not snapshot.fusion:  # which a version keeps, whatever is added
            self._columns = snapshot.fusion, taken_by(snapshot)
        return self._columns[1]

    def _one_by_one(self, changes: Sequence[Document], failed: dict[str, str]) -> int:
        added = 0
        for change in changes:
            items, hidden, _ = told([change], self.engine.recipe, self.places, self._taken())
            try:
                added += self._taken_in(items, hidden, [change], failed)
            except (SensoriumError, OSError, ValueError) as error:
                failed[change.id] = " ".join(str(error).split())
                self.engine.take_in(NOTHING, hidden=hidden, documents=change.changed)
        return added

    def _taken_in(
        self, items: Catalog, hidden: Mapping[str, bool], changes: Sequence[Document], failed: dict[str, str]
    ) -> int:  # fmt: skip
        """What is told, made to answer. Of what could not be encoded `failed` tells, but for an encoder that is asked again."""
        documents, spoken = changes[-1].changed, stated(changes)
        added, problems = self.engine.take_in(items, hidden=hidden, documents=documents, stated=spoken)
        for one in problems:
            if one.item not in self.lacking:
                why = one.reason.replace(one.file, "the file") if one.file else one.reason
                noted(failed, one.item, f"{one.modality}: {why}")
        return added

    def settle(self, documents: Mapping[str, Mapping[str, Any]], change: int) -> None:
        """Items are hidden, or shown, as their documents say up to a change; if they do."""
        hidden = {name: bool(body["hidden"]) for name, body in documents.items() if "hidden" in body}
        self.engine.settle(hidden, documents=change)

    # --- versions -------------------------------------------------------------------------------------------------

    async def forget(self, user: str) -> None:
        """Erases a person: from what waits to be noted, the log, and what was learnt, in a process of its own. What is being learnt
        just now knows them, and is given up. New items are added meanwhile. **Raises** UnknownId."""

        def look() -> None:
            if user not in self.engine.snapshot.user_ids and not self.store.read(user=user, most=1):
                self.engine.snapshot.user_ids.row(user, what="user")
            self.adaptive.forget(user)

        await self.threaded(look)
        with self.busy():
            await self.learner.forget(user)

    async def rollback(self, to: str | None = None) -> str:
        """Goes back to a version; what is being learnt just now is given up."""
        with self.busy():
            return await self.learner.instead(lambda: self.engine.rollback(to))

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Whilst what answers is being changed: a thread that makes tables gives way sooner to those that answer."""
        with self._counting:
            self._learning += 1
            sys.setswitchinterval(SWITCH_SECONDS)
        try:
            yield
        finally:
            with self._counting:
                self._learning -= 1
                if not self._learning:
                    sys.setswitchinterval(USUAL_SECONDS)

    async def _keep_up(self) -> None:
        assert self._fresh is not None
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            try:
                await self.slow(self.catch_up)
            except (SensoriumError, OSError) as error:  # the store is away; what waits there is tried again
                tell("items are not added yet", logging.ERROR, error=error)
                await asyncio.sleep(1.0)
                self._fresh.set()

    async def _complete(self) -> None:
        """Ask again for what an encoder did not give, after pauses that double."""
        pause, longest = RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            if not self.lacking:
                pause = RETRY_SECONDS[0]
                continue
            try:
                left = await self.slow(self.engine.complete)
            except (SensoriumError, OSError, ValueError) as error:
                left = len(self.lacking)
                tell("items are not completed", logging.WARNING, error=error)
            pause = min(2 * pause, longest) if left else RETRY_SECONDS[0]

    async def _follow(self) -> None:
        """Keys that another process made or dropped."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            with contextlib.suppress(SensoriumError):
                await asyncio.to_thread(self.keys.follow)


def _told_of(document: Mapping[str, Any], live: Live) -> dict[str, Any]:
    """A document with whether its item is hidden, which it need not say."""
    ids, name = live.snapshot.catalog.ids, document["item_id"]
    return {"hidden": name in ids and ids.row(name) in live.hidden, **document}


def _bare(event: Entry | Mapping[str, Any]) -> Entry | Mapping[str, Any]:
    """An event as the store takes it: without the answer it follows."""
    if isinstance(event, Entry) or "recommendation" not in event:
        return event
    return {name: value for name, value in event.items() if name != "recommendation"}
