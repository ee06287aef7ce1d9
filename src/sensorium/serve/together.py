"""Answers that wait at the same moment are given together, in a thread beside the one that reads and writes requests.

A single one is given at once: a thread would take longer to wake than it takes to be done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import Context, copy_context
from typing import Any

from sensorium.errors import SensoriumError
from sensorium.rank.query import Ranking
from sensorium.stages import mark

MOST = 16  # answers that are given together: more would make the first wait for the last
THREADS = 2  # that give them
QUEUE = 256  # answers that may wait; beyond, a request is told to come back


class Busy(SensoriumError):
    """More is asked than can be answered in time: the request was not begun, and may be sent again."""


Asked = tuple[Mapping[str, Any], Context]
Answers = Callable[[Sequence[Asked]], list[Ranking | Exception]]


class Together:
    """`answers` gives several answers at once; all else is of one event loop."""

    def __init__(self, answers: Answers, threads: Executor) -> None:
        self._answers, self._threads = answers, threads
        self._waiting: deque[tuple[Asked, asyncio.Future[Ranking]]] = deque()
        self._called, self._free = False, THREADS

    def __len__(self) -> int:
        return len(self._waiting)

    async def answer(self, wishes: Mapping[str, Any]) -> Ranking:
        """The ranking for some wishes. **Raises** Busy where too many wait."""
        if len(self._waiting) >= QUEUE:
            raise Busy("too many requests wait; come back in a second")
        mark("parse")
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Ranking] = loop.create_future()
        self._waiting.append(((wishes, copy_context()), told))
        if not self._called:  # behind all that the loop is about to read
            self._called = True
            loop.call_soon(self._begin)
        return await told

    def _begin(self) -> None:
        self._called = False
        if len(self._waiting) == 1:
            asked, told = self._waiting.popleft()
            _tell([told], self._given([asked]))
            return
        while self._waiting and self._free:
            share = min(MOST, -(-len(self._waiting) // self._free))
            some = [self._waiting.popleft() for _ in range(share)]
            self._free -= 1
            try:
                self._threads.submit(self._together, asyncio.get_running_loop(), some)
            except RuntimeError as error:  # it is being closed
                self._done(some, [error] * share)

    def _together(
        self, loop: asyncio.AbstractEventLoop, some: Sequence[tuple[Asked, asyncio.Future[Ranking]]]
    ) -> None:
        """In a thread."""
        loop.call_soon_threadsafe(self._done, some, self._given([asked for asked, _ in some]))

    def _given(self, asked: Sequence[Asked]) -> Sequence[Ranking | Exception]:
        try:
            return self._answers(asked)
        except Exception as error:  # of the store, say: it is told to each
            return [error] * len(asked)

    def _done(
        self, some: Sequence[tuple[Asked, asyncio.Future[Ranking]]], answers: Sequence[Ranking | Exception]
    ) -> None:
        self._free += 1
        _tell([told for _, told in some], answers)
        if self._waiting and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._begin)


def _tell(futures: Sequence[asyncio.Future[Ranking]], answers: Sequence[Ranking | Exception]) -> None:
    for told, answer in zip(futures, answers, strict=True):
        if told.done():  # who asked is gone
            continue
        if isinstance(answer, Exception):
            told.set_exception(answer)
        else:
            told.set_result(answer)
