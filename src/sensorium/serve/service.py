"""What every route calls: one run, opened for many at once. It knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import secrets
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from sensorium.arrays import threads
from sensorium.data.columns import MEDIA_NAMES
from sensorium.engine import Engine
from sensorium.errors import DataError, SensoriumError, UnknownId
from sensorium.feedback.commit import Committer
from sensorium.feedback.store import Entry
from sensorium.rank.query import Ranking, Why
from sensorium.serve.abreast import Abreast
from sensorium.serve.keys import Keys
from sensorium.serve.logs import tell
from sensorium.serve.metrics import Commits
from sensorium.serve.pulse import Pulse
from sensorium.serve.standing import Standing
from sensorium.serve.uploads import MARK, Uploads
from sensorium.stages import mark

T = TypeVar("T")
QUEUE = 256  # answers that may wait for a thread; beyond, a request is told to come back
COMMITS = 4096  # calls that may wait for the disk
ENCODER_SECONDS = 15.0  # that an encoder may take for some items, loading its model included
RETRY_SECONDS = (5.0, 600.0)  # the first pause before a missing encoder is asked again, and the longest
FOLLOW_SECONDS = 1.0  # by which a key that another process made or dropped is known here
MEDIA_COLUMNS = tuple(
    name for names in MEDIA_NAMES.values() for name in names
)  # that the reader takes for media by name
ITEMS = "items"  # the kind of document that items are
GORSE = "_gorse"  # in a document: the item as it came through Gorse's API, which answers with it
OURS = ("item_id", "hidden", "dropped", GORSE)  # what a document has beside the columns of the table


class Busy(SensoriumError):
    """More is asked than can be answered in time: the request was not begun, and may be sent again."""


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
    ) -> None:  # fmt: skip
        self.engine = Engine.open(folder, cache=cache, store=store)
        if self.engine.store is None:
            raise SensoriumError(f"{folder}: the run has no store")
        self.store = self.engine.store
        self.keys = Keys(self.store, first_key)
        self.media, self.fetch = media, fetch  # where media may lie; whether pictures are fetched by URL
        self.standing = Standing(self.store)
        self.uploads = Uploads(Path(folder), self.store)
        self.committed = Commits()
        self.commits = Committer(self.store, told=self.committed)
        self.pulse = Pulse(self.store)
        self.started = False  # whether it is caught up with the store
        self._threads = ThreadPoolExecutor(max_workers=max(threads(), 2), thread_name_prefix="answer")
        self._slow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learn")
        self._waiting = 0
        self._counting = threading.Lock()
        self.failed: dict[str, str] = {}  # items that could not be added, and why
        self._changed = 0  # up to which change of the documents the live version knows the items
        self._fresh: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._abreast = Abreast(self)
        self.engine.wait_at_most(encoder_seconds)
        self._tasks: list[asyncio.Task[None]] = []
        self._learning = 0

    async def begin(self) -> None:
        """Bring the live version up to the documents, then go on doing so."""
        self._loop = asyncio.get_running_loop()
        self._fresh = asyncio.Event()  # first: what is put while it catches up must not be missed
        await self.slow(self.catch_up)
        await self.slow(self._abreast.look)
        self._tasks = [asyncio.create_task(task) for task in (
            self._keep_up(), self._complete(), self._follow(), self.pulse.kept()
        )]  # fmt: skip
        self.started = True

    async def end(self, seconds: float | None = None) -> bool:
        """Finish what was begun, then close; returns whether all was, within the seconds (None: however long it takes)."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        closing = threading.Thread(target=self.close, name="close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, seconds)
        return not closing.is_alive()

    def close(self) -> None:
        """Events that were taken are written, answers and changes that were begun are finished."""
        self.started = False
        self.commits.close()  # first: what comes after may take as long as a training
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._slow.shutdown(wait=True, cancel_futures=True)
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
        return self._waiting

    @property
    def learning(self) -> bool:
        """Whether what answers is being changed: items encoded, a person forgotten, all learnt anew."""
        return self._learning > 0

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

    async def slow(self, work: Callable[[], T]) -> T:
        """The work in the one thread that changes what answers."""
        self._learning += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._slow, work)
        finally:
            self._learning -= 1

    # --- answering, observing -------------------------------------------------------------------------------------

    async def recommend(self, **wishes: Any) -> Answer:
        """What Engine.recommend answers; what was observed a moment ago counts."""
        if wishes.get("exploration") and wishes.get("seed") is None:
            wishes["seed"] = secrets.randbits(53)
        ranking = await self.threaded(lambda: self.ranked(**wishes))
        if self.lacking:
            ranking = replace(ranking, notes=(*ranking.notes, *self.degraded))
        return Answer(secrets.token_hex(8), ranking)

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
        """The positions of the events, once they are on the disk. **Raises** Busy where too many wait for that."""
        return await self.stored(self.engine.entries(events))

    async def stored(self, entries: Sequence[Entry]) -> list[int]:
        """The same for entries that are checked."""
        if self.commits.waiting >= COMMITS:
            raise Busy("too many events wait for the disk; come back in a second")
        return await self.commits.appended(entries)

    # --- items ----------------------------------------------------------------------------------------------------

    async def put_items(self, documents: Mapping[str, Mapping[str, Any]]) -> int:
        """Keeps items; returns the number of the change once it is on the disk. They are encoded in the background.

        Whether a known item is hidden holds for the next answer. **Raises** DataError for what no answer could tell.
        """
        for name, document in documents.items():
            try:
                orjson.dumps(document)
            except TypeError as error:  # half a character, a number of more than 64 bits, too deep a tree
                raise DataError(f"item {name!r}: it cannot be written as JSON ({error})") from None
        change = await self.threaded(lambda: self.store.put(ITEMS, documents))
        if self._fresh is not None:
            self._fresh.set()
        if self._moved(documents, True) or self._moved(documents, False):
            await self.slow(partial(self.settle, documents))
        return change

    async def drop_item(self, item: str) -> None:
        """Takes an item out of the store and out of every further answer. **Raises** UnknownId."""
        await self.threaded(partial(self.item, item))
        gone = {item: {"item_id": item, "hidden": True, "dropped": True}}
        await self.threaded(lambda: self.store.put(ITEMS, gone))
        await self.slow(partial(self.settle, gone))  # behind the encoding that may just be adding it

    def item(self, item: str) -> dict[str, Any]:
        """What is known of an item. **Raises** UnknownId."""
        document = self.store.get(ITEMS, item)
        if document is not None and not document.get("dropped"):
            return document
        live = self.engine.live
        ids = live.snapshot.catalog.ids
        if document is None and item in ids:
            row = ids.row(item)
            return {"item_id": item, "title": live.snapshot.catalog.title(row), "hidden": row in live.hidden}
        raise UnknownId(f"no item {item!r}")

    def items(self, after: str, most: int) -> tuple[list[dict[str, Any]], str | None]:
        """Documents of items by ascending id, and after which one there may be more (None: there are none)."""
        found: list[dict[str, Any]] = []
        last: str | None = after
        while last is not None and len(found) < most:
            page = self.store.page(ITEMS, last, most - len(found))
            last = page[-1].id if len(page) == most - len(found) else None
            found += [one.body for one in page if one.body is not None and not one.body.get("dropped")]
        return found, last

    def wake(self) -> None:
        """There may be new items: they are encoded in the background. From any thread."""
        if self._loop is not None and self._fresh is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._fresh.set)

    def renewed(self) -> None:
        """Another process made a version, which may lack items that came since it was begun."""
        self._changed = 0
        self.wake()

    def catch_up(self) -> int:
        """Encode what the store has and the live version lacks; returns how many items were added."""
        added = 0
        while changes := self.store.changed(ITEMS, self._changed):
            bodies = [one.body for one in changes if one.body is not None]
            ids = self.engine.snapshot.catalog.ids
            fresh = [body for body in bodies if body["item_id"] not in ids and not body.get("dropped")]
            if fresh:
                added += self._added(fresh)
            # One without a body was dropped, perhaps while it was being encoded.
            self.settle({one.id: one.body or {"hidden": True} for one in changes})
            self._changed = changes[-1].changed
        return added

    def settle(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Known items are hidden, or shown, as their documents say."""
        for hidden in (True, False):
            if names := self._moved(documents, hidden):
                self.engine.hide(*names, hidden=hidden, keep=False)

    def _moved(self, documents: Mapping[str, Mapping[str, Any]], hidden: bool) -> list[str]:
        """The known items that should be hidden (or shown) and are not."""
        live = self.engine.live
        ids = live.snapshot.catalog.ids
        names = [name for name, body in documents.items() if bool(body.get("hidden")) == hidden and name in ids]
        return [name for name in names if (ids.row(name) in live.hidden) != hidden]

    def _added(self, bodies: Sequence[Mapping[str, Any]]) -> int:
        """Items encoded and added; where one of them cannot be read the others are added without it."""
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "items.jsonl"
            try:
                lines = [json.dumps(self._row(body)) + "\n" for body in bodies]
                table.write_text("".join(lines), "utf-8")
                added = self.engine.add(table, keep=False)
                for body in bodies:
                    self.failed.pop(body["item_id"], None)
                return added
            except (SensoriumError, OSError, ValueError) as error:  # whatever it is, later items must still be added
                if len(bodies) > 1:
                    return sum(self._added([body]) for body in bodies)
                self.failed[bodies[0]["item_id"]] = " ".join(str(error).split())
                return 0

    def _row(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A document as a row of the recipe's table of items; what it does not state is empty."""
        things = self.engine.recipe.items
        media = {column for columns in (things.image, things.audio, things.video) for column in columns or ()}
        named = [things.title, *(things.text or ()), *media, *(things.attributes or {}), *things.vectors.values()]
        row: dict[str, Any] = {name: None for name in named if name}
        row |= {name: value for name, value in body.items() if name not in OURS}
        row[things.id or "item_id"] = body["item_id"]
        for column in {*MEDIA_COLUMNS, *media} & set(row):
            if row[column]:
                row[column] = str(self.inside(str(row[column])))
        return row

    def inside(self, path: str) -> Path:
        """Where uploaded media lie, or media by path: within the folder that was configured. **Raises** DataError for any other."""
        if path.startswith(MARK):
            return self.uploads.place(path)
        if self.media is None:
            raise DataError("media by path need a folder: start the service with --media FOLDER")
        try:
            whole = (self.media / path).resolve()
        except (ValueError, OSError):  # a NUL within, or far too long
            raise DataError(f"{path[:60]!r} is no path") from None
        if not whole.is_relative_to(self.media.resolve()):
            raise DataError(f"{path!r} lies outside the media folder")
        return whole

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
