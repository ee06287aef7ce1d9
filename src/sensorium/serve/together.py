"""Answers that wait at the same moment are given together.

What they ask of a large catalogue is searched in a thread, by compiled code that does not hold the interpreter; meanwhile the
loop reads other requests and gets them ready. Where one is found quicker than a thread wakes, it is given at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from typing import Any

from sensorium.answer import Several
from sensorium.errors import SensoriumError
from sensorium.feedback.commit import settle
from sensorium.rank.query import Ranking
from sensorium.stages import mark

MOST = 16  # answers that are given together: more would make the first wait for the last
THREADS = 2  # that search
QUEUE = 256  # answers that may wait; beyond, a request is told to come back


class Busy(SensoriumError):
    """More is asked than can be answered in time: the request was not begun, and may be sent again."""


Asked = tuple[Mapping[str, Any], Context]
Begin = Callable[[Sequence[Asked]], Several]
Waiting = tuple[Asked, asyncio.Future[Ranking]]


class Together:
    """`begin` gets several answers on their way, all but whose search is of one event loop; `swift` says whether one alone
    need not go to a thread."""

    def __init__(self, begin: Begin, threads: Executor, swift: Callable[[], bool]) -> None:
        self._begin, self._threads, self._swift = begin, threads, swift
        self._waiting: deque[Waiting] = deque()
        self._called, self._free = False, THREADS

    def __len__(self) -> int:
        return len(self._waiting)

    async def answer(self, wishes: Mapping[str, Any]) -> Ranking:
        """The ranking for some wishes. **Raises** Busy where too many wait."""
        if len(self._waiting) >= QUEUE:
            raise Busy("too many requests wait; come back in a second")
        mark("parse")
        told: asyncio.Future[Ranking] = asyncio.get_running_loop().create_future()
        self._waiting.append(((wishes, copy_context()), told))
        self._call()
        return await told

    def _call(self) -> None:
        if self._waiting and not self._called:  # behind all that the loop is about to read
            self._called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._called = False
        if len(self._waiting) == 1 and self._free == THREADS and self._swift():
            some = [self._waiting.popleft()]
            with _telling(some):
                _tell(some, self._begin([asked for asked, _ in some]).finished())
            return
        loop = asyncio.get_running_loop()
        while self._waiting and self._free:
            some = [self._waiting.popleft() for _ in range(min(MOST, -(-len(self._waiting) // self._free)))]
            with _telling(some):
                self._search(loop, some, self._begin([asked for asked, _ in some]))

    def _search(self, loop: asyncio.AbstractEventLoop, some: Sequence[Waiting], several: Several) -> None:
        """On to the next search, or to the end."""
        if not several.asking:
            _tell(some, several.told)
            return
        found = self._threads.submit(several.searched)
        self._free -= 1
        found.add_done_callback(lambda done: loop.call_soon_threadsafe(self._found, loop, some, several, done))

    def _found(
        self, loop: asyncio.AbstractEventLoop, some: Sequence[Waiting], several: Several, found: Future[Any]
    ) -> None:
        self._free += 1
        with _telling(some):
            several.go_on(found.result())
            self._search(loop, some, several)
        self._call()


@contextlib.contextmanager
def _telling(some: Sequence[Waiting]) -> Iterator[None]:
    """What all of them fail with, of the store, say, is told to each."""
    try:
        yield
    except Exception as error:
        _tell(some, [error] * len(some))


def _tell(some: Sequence[Waiting], answers: Sequence[Ranking | Exception]) -> None:
    settle(zip((told for _, told in some), answers, strict=True))
