"""How much may come in: requests a second, bytes of a body, bytes of all bodies that are on their way, seconds of one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

BURST_SECONDS = 2.0  # a bucket holds what comes in so long


class Refusal(Exception):
    """A request that goes no further: a status, why, and headers beside it."""

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def busy(why: str, seconds: float = 0.0, status: int = 503) -> Refusal:
    """Come back later; the request was not begun."""
    return Refusal(status, why, retry_after=str(int(seconds) + 1))


@dataclass
class Buckets:
    """A token bucket for each name: `per_second` tokens flow in, two seconds' worth at most; 0: no limit."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)  # tokens left, when that was counted

    def wait(self, name: str) -> float:
        """Takes a token; where there is none, the seconds until there is one."""
        if not self.per_second:
            return 0.0
        most = max(BURST_SECONDS * self.per_second, 1.0)
        now = self.clock()
        left, then = self._left.get(name, (most, now))
        left = min(left + (now - then) * self.per_second, most)
        taken = left >= 1
        self._left[name] = (left - taken, now)
        return 0.0 if taken else (1 - left) / self.per_second


@dataclass
class Room:
    """Bytes of bodies that may be held at once, by all requests together."""

    most: int
    held: int = 0


class Bounded:
    """Receives a body: so many bytes, within so many seconds, and only while there is room.

    What goes beyond raises, and stays as `refusal`, for whoever reads the body may make something else of an error.
    """

    __slots__ = ("_done", "_expired", "held", "left", "receive", "refusal", "room", "seconds")

    def __init__(self, receive: Any, most: int, room: Room, seconds: float) -> None:
        self.receive, self.left, self.room, self.seconds = receive, most, room, seconds
        self.held, self._done, self._expired = 0, False, False
        self.refusal: Refusal | None = None

    async def __call__(self) -> Mapping[str, Any]:
        if self._done:  # what comes now is that the client is gone
            return await self.receive()
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begin = loop.time()
        # As asyncio.timeout does it, at a fifth of its price: every request passes here.
        clock = loop.call_later(self.seconds, self._expire, task)
        try:
            message = await self.receive()
        except asyncio.CancelledError:
            if not self._expired or task.uncancel() > 0:  # somebody else cancelled it
                raise
            raise self._refused(Refusal(408, "the body did not come in time", connection="close")) from None
        finally:
            clock.cancel()
        self.seconds -= loop.time() - begin
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.left -= size
            self.held += size
            self.room.held += size
            self._done = not message.get("more_body", False)
            if self.left < 0:
                raise self._refused(Refusal(413, "the body is too large", connection="close"))
            if self.room.held > self.room.most:
                raise self._refused(busy("too much is being sent at once"))
        return message

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._expired = True
        task.cancel()

    def _refused(self, refusal: Refusal) -> Refusal:
        self.refusal, self._done = refusal, True
        return refusal

    def let_go(self) -> None:
        """The body is held no longer."""
        self.room.held -= self.held
        self.held = 0
