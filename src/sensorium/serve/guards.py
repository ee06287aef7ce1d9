"""What stands before every route: keys, size of the body, rate. Plain ASGI, so that it costs microseconds."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from sensorium.serve.keys import LOCAL, NOBODY, Caller, Keys
from sensorium.serve.paths import segmented

OPEN = ("/health/live", "/health/ready", "/api/health/live", "/api/health/ready")  # routes that need no key


class Guards:
    """An ASGI application in front of another. `roles` says which role a route needs: (method, pattern) → role."""

    def __init__(
        self, app: Any, keys: Keys, roles: Mapping[tuple[str, str], str], *, body_bytes: int, per_second: float
    ) -> None:
        self.app, self.keys, self.body_bytes, self.per_second = app, keys, body_bytes, per_second
        self.roles = [(method, re.compile(pattern), role) for (method, pattern), role in roles.items()]
        self.left: dict[str, tuple[float, float]] = {}  # by caller: requests left, when that was counted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        segmented(scope)
        caller = self._caller(scope)
        if caller is None:
            await refused(
                send, 401, "no key, or one that is not known; send it as X-API-Key", {"www-authenticate": "ApiKey"}
            )
            return
        role = self._role(scope["method"], scope["path"])
        if not caller.may(role):
            await refused(send, 403, f"this key may {caller.role}; this call needs {role}")
            return
        wait = self._wait(caller.name)
        if wait > 0:
            await refused(send, 429, "too many requests of this key", {"retry-after": str(int(wait) + 1)})
            return
        length = dict(scope["headers"]).get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > self.body_bytes):
            await refused(send, 413, f"a body may have {self.body_bytes:,} bytes")
            return
        scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, Bounded(receive, self.body_bytes), send)

    def _caller(self, scope: Any) -> Caller | None:
        if scope["path"] in OPEN:
            return NOBODY
        if not self.keys.any:
            return LOCAL
        headers = dict(scope["headers"])
        key = headers.get(b"x-api-key", b"") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        return self.keys.caller(key.decode("utf-8", "surrogateescape")) if key else None

    def _role(self, method: str, path: str) -> str:
        for wanted, pattern, role in self.roles:
            if wanted == method and pattern.fullmatch(path):
                return role
        return "read" if path in OPEN or method in ("GET", "HEAD", "OPTIONS") else "admin"

    def _wait(self, name: str) -> float:
        """Seconds until this caller may ask again: a bucket that holds two seconds' worth."""
        if not self.per_second or not name:
            return 0.0
        now = time.monotonic()
        left, then = self.left.get(name, (2 * self.per_second, now))
        left = min(left + (now - then) * self.per_second, 2 * self.per_second) - 1
        if left < 0:
            self.left[name] = (left + 1, now)
            return -left / self.per_second
        self.left[name] = (left, now)
        return 0.0


class Forbidden(Exception):
    """A key may not do what only the whole of a request tells."""


class TooLarge(Exception):
    """A body without a stated length went on for too long."""


class Bounded:
    """Receives a body, up to so many bytes."""

    def __init__(self, receive: Any, most: int) -> None:
        self.receive, self.left = receive, most

    async def __call__(self) -> Any:
        message = await self.receive()
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            if self.left < 0:
                raise TooLarge
        return message


async def refused(send: Any, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
    """The whole answer to a request that goes no further."""
    body = orjson.dumps({"error": why})
    named = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(key.encode(), value.encode()) for key, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
