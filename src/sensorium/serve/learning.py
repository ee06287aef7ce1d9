"""Learning without stopping: a process of its own learns the next version, the gate judges it there, one swap adopts it. Such
a process also forgets somebody.

The process is started anew each time and told what to do in words (a folder, a cache, a place): nothing is pickled, its
memory is its own and goes with it, and it stands behind whoever answers in the queue for the processor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sensorium
from sensorium.engine import Engine
from sensorium.errors import SensoriumError, SnapshotError
from sensorium.evaluate.drift import SHIFTED
from sensorium.intake import taken_by
from sensorium.runs import CANDIDATE, UPLOADS, Version
from sensorium.serve.documents import ITEMS, Places, stated, told
from sensorium.serve.logs import tell
from sensorium.settings import INF, within

if TYPE_CHECKING:
    from sensorium.serve.service import Service

T = TypeVar("T")
ENCODER_SECONDS = 60.0  # that an encoder may take for some items, in the process that learns
TICK_SECONDS = 1.0  # between two looks at the log
STOPPED = "given up, for somebody was forgotten or went back to another version meanwhile"
PAUSE = 0.1  # of `every_seconds`: at least so long between two learnings, however many events come


@dataclass(frozen=True)
class Schedule:
    """When the next version is learnt."""

    every_seconds: float = 300.0  # where anything happened; 0: never by itself
    after_events: int = 500  # or sooner, after as many
    full_seconds: float = 86_400.0  # since all was learnt anew; in between, the models go on from where they stand

    def __post_init__(self) -> None:
        within(self, every_seconds=(0, INF), after_events=(1, INF), full_seconds=(0, INF))


class Learning:
    """The learner of a service. `begin` and `end` are for the event loop's thread, the rest for any."""

    def __init__(
        self, service: Service, schedule: Schedule, *, cache: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.service, self.schedule, self._cache, self._clock = service, schedule, cache, clock
        self.last: dict[str, Any] = {}  # how the last learning ended
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learn")
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = 0  # how often learning was told to stop: one that was begun before is not adopted
        self._busy = False
        self._tried = clock()
        self._refused = False  # the last candidate: the next one is learnt from the beginning
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a version is being learnt."""
        return self._busy

    def begin(self) -> None:
        """Go by the schedule from now on."""
        self._task = asyncio.create_task(self._go())

    async def end(self) -> None:
        """Learn no more; what is being learnt is given up, which `close` waits for."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.stop()

    def close(self) -> None:
        """Give up what is being learnt, and learn no more."""
        self.stop()
        self._thread.shutdown(wait=True)

    async def instead(self, work: Callable[[], T]) -> T:
        """Gives up what is being learnt, and does the work; nothing is learnt meanwhile."""
        self.stop()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def forget(self, user: str) -> None:
        """Erases a person, for which all is learnt anew. What is learnt just now knows them, and is given up."""
        await self.instead(partial(self._forget, user))

    def _forget(self, user: str) -> None:
        self._process({"forget": user}, "forgetting")
        self.service.engine.follow()
        self.service.renewed()

    def stop(self) -> None:
        """Give up what is being learnt: somebody is forgotten, or somebody went back to another version."""
        with self._lock:
            self._stopped += 1
            if self._child is not None:
                self._child.kill()

    async def learn(self, *, full: bool, asked: bool = False) -> dict[str, Any]:
        """Learns the next version now, and tells how that ended. `asked` releases a hold that a rollback left."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._learn, full, asked))

    async def _go(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.service.slow(self._keep_up)
                full = await asyncio.to_thread(self._due)
                if full is not None:
                    await self.learn(full=full)
            except (SensoriumError, OSError) as error:  # a full disk, a store out of reach: the next turn tries again
                self.last = {"state": "failed", "why": self.service.line(error), "ended": time.time()}

    def _keep_up(self) -> None:
        """What other processes did: a version they made, documents they took."""
        self.service.engine.follow()
        self.service.catch_up()

    def _due(self) -> bool | None:
        """Whether a version is to be learnt now: None: not, True: from the beginning."""
        asked, engine = self.schedule, self.service.engine
        since = self._clock() - self._tried
        fresh = self.service.store.end - engine.snapshot.position
        if not asked.every_seconds or fresh <= 0 or since < PAUSE * asked.every_seconds:
            return None
        if fresh < asked.after_events and since < asked.every_seconds:
            return None
        history = engine.versions()
        if history.held is not None:
            return None
        whole = [
            one.made for one in history.versions if one.why not in ("update", "rollback", "add", "hide") and one.name
        ]
        late = bool(whole) and time.time() - max(whole) >= asked.full_seconds
        return late or self._refused or max(engine.drift().values()) > SHIFTED

    def _learn(self, full: bool, asked: bool) -> dict[str, Any]:
        engine, began = self.service.engine, self._clock()
        self._tried, self._busy = began, True
        folder = engine.folder
        assert folder is not None
        place = folder / "snapshots" / f"{CANDIDATE}.{os.getpid()}"
        with self._lock:
            turn = self._stopped
        try:
            with engine.learning():
                if asked:
                    engine.release()
                told_of = json.loads(self._process({"place": str(place), "full": full}, "learning", turn))
                version = Version(**{**told_of, "reasons": tuple(told_of["reasons"])})
                self._refused = version.state == "refused"
                if self._refused:
                    engine.refused(version)
                    self.last = {"state": "refused", "reasons": version.reasons}
                else:
                    with self._lock:  # whoever stops waits for the swap, or comes before it
                        if self._stopped != turn:
                            raise SnapshotError(STOPPED)
                        with self.service.busy():
                            self.last = {"state": "adopted", "version": engine.adopt(place, version)}
        except BlockingIOError:
            self.last = {"state": "left", "why": "another process of this run is learning"}
        except (SensoriumError, OSError, ValueError) as error:
            self.last = {"state": "failed", "why": self.service.line(error)}
            if self._stopped != turn:  # that is why, whatever was in its way then
                self.last = {"state": "left", "why": STOPPED}
        finally:
            self._busy = False
            shutil.rmtree(place, ignore_errors=True)
        self.last |= {"ended": time.time(), "seconds": round(self._clock() - began, 3), "full": full}
        level = logging.WARNING if self.last["state"] in ("refused", "failed") else logging.INFO
        # Not why: that may name somebody. GET /v1/models tells it.
        said = {name: self.last[name] for name in ("state", "version", "seconds", "full") if name in self.last}
        tell("learnt", level, run=folder.name, **said)
        return self.last

    def _process(self, asked: Mapping[str, Any], doing: str, turn: int | None = None) -> str:
        """The last line of a process that does what is asked; of one that has a `turn`, whoever stops learning kills it."""
        media = self.service.places.media
        words = {
            "folder": str(self.service.engine.folder), "media": None if media is None else str(media),
            "cache": None if self._cache is None else str(self._cache), **asked,
        }  # fmt: skip
        ours = str(Path(sensorium.__file__).resolve().parents[1])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}
        with self._lock:
            if turn not in (None, self._stopped):
                raise SnapshotError(STOPPED)
            child = subprocess.Popen(
                [sys.executable, "-m", "sensorium.serve.learning"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, env=env, start_new_session=turn is None,
            )  # fmt: skip
            self._child = None if turn is None else child
        out, wrong = child.communicate(json.dumps(words))  # not as an argument: it may name somebody
        with self._lock:
            self._child = None
        if child.returncode:
            lines = wrong.strip().splitlines() or [f"it ended with {child.returncode}"]
            raise SnapshotError(f"{doing} failed: {self.service.line(SnapshotError(lines[-1]))[:300]}")
        return out.strip().splitlines()[-1]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def main(words: str) -> None:
    """What the process does: open the run, take in the documents, then learn and judge, or forget; the last line tells the verdict,
    or the version."""
    asked = json.loads(words)
    with contextlib.suppress(OSError):
        os.nice(10)
    path = {name: Path(asked[name]) if asked.get(name) else None for name in ("folder", "place", "cache", "media")}
    assert path["folder"] is not None
    engine = Engine.open(path["folder"], cache=path["cache"])
    engine.wait_at_most(ENCODER_SECONDS)
    assert engine.store is not None
    changes = engine.store.changed(ITEMS, engine.snapshot.documents, most=10**9)
    places = Places(path["folder"] / UPLOADS, path["media"])
    items, hidden, _ = told(changes, engine.recipe, places, taken_by(engine.snapshot))
    if changes:  # as whoever serves the run has
        engine.take_in(items, hidden=hidden, documents=changes[-1].changed, stated=stated(changes))
    if "forget" in asked:
        engine.forget(asked["forget"])
        print(engine.version)
        return
    assert path["place"] is not None
    _, version = engine.candidate(path["place"], full=asked["full"])
    print(json.dumps(asdict(version)))


if __name__ == "__main__":
    try:
        main(sys.stdin.read())
    except SensoriumError as error:
        sys.exit(_line(error))
