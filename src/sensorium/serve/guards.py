"""What stands before every route: which run, whose key, how much. Plain ASGI, so that it costs microseconds."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import orjson

from sensorium.serve.keys import LOCAL, NOBODY, Caller, group_of
from sensorium.serve.limits import Bounded, Buckets, Refusal, Room, busy
from sensorium.serve.logs import tell, told_from
from sensorium.serve.metrics import Route
from sensorium.serve.paths import segmented
from sensorium.serve.tenants import Tenants
from sensorium.stages import listened, mark, unheard

OPEN = frozenset(  # routes that need no key
    (
        "/health/live",
        "/health/ready",
        "/api/health/live",
        "/api/health/ready",
        "/docs",
        "/docs/page.css",
        "/docs/page.js",
    )
)
COMMON = OPEN | {"/metrics", "/openapi.json"}  # and those that are of no run
LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PORT = re.compile(r":\d+$")
_JSON = (b"content-type", b"application/json")
_HARDENED = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_CLOSED = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_PAGE = (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_STRICT = (b"strict-transport-security", b"max-age=31536000")


class Forbidden(Exception):
    """A key may not do what only the whole of a request tells."""


class Guards:
    """The applications of all runs behind one door. `roles` says which role a route needs: (method, pattern) → role.

    **Units** `per_second`, `tenant_per_second`: requests of a key, of a run; 0: no limit. `hosts`: the names under which a
    service without keys may be called, so that no web page can have a browser call it under another; empty: any.
    """

    def __init__(
        self, tenants: Tenants, roles: Mapping[tuple[str, str], str], *, body_bytes: int, per_second: float = 0.0,
        tenant_per_second: float = 0.0, most_pending: int = 1024, room_bytes: int = 256 << 20, body_seconds: float = 30.0,
        origins: Sequence[str] = (), hosts: frozenset[str] = frozenset(), traces: Any = None,
    ) -> None:  # fmt: skip
        self.tenants, self.body_bytes, self.body_seconds = tenants, body_bytes, body_seconds
        self.most_pending, self.room = most_pending, Room(room_bytes)
        self.origins, self.hosts, self.traces = frozenset(origins), hosts, traces
        self.of_key, self.of_tenant = Buckets(per_second), Buckets(tenant_per_second)
        self._process, self._numbers = secrets.token_hex(5).encode(), itertools.count(1)
        plain = re.compile(r"[\w./-]+")
        self._exact = {key: role for key, role in roles.items() if plain.fullmatch(key[1])}
        self._roles = [(method, re.compile(p), role) for (method, p), role in roles.items() if not plain.fullmatch(p)]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.tenants.lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        begin = perf_counter()
        head = scope["method"] == "HEAD" and scope["path"] in OPEN  # as whoever looks whether it lives may ask
        if head:
            scope = {**scope, "method": "GET"}
        segmented(scope)
        headers = dict(scope["headers"])
        sent = Sent(send, self._headers(scope, headers))
        sent.bodiless = head
        marks, token = listened()
        told = Told()
        self.tenants.pending += 1
        try:
            await self._answered(scope, headers, receive, sent, told)
        except Refusal as refusal:
            await sent.refused(refusal)
        except asyncio.CancelledError:
            told.gone = True  # the client, or the server's patience
            raise
        except Exception as error:
            tell("failed", logging.ERROR, error=error, id=sent.id)
            await sent.refused(_ours())
        finally:
            unheard(token)
            self.tenants.pending -= 1
            self._tell(scope, sent, told, begin, marks)

    async def _answered(self, scope: Any, headers: Mapping[bytes, bytes], receive: Any, sent: Sent, told: Told) -> None:
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS" and b"access-control-request-method" in headers:
            raise Refusal(204 if sent.shared else 403, "no page of this origin may call")
        key = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        caller = self._caller(path, headers, await self._known(key) if key else None)
        told.caller = caller
        told.tenant = self._tenant(path, caller, headers)
        self._check(path, method, caller)
        if (self.of_key.per_second or self.of_tenant.per_second) and path not in OPEN:
            self._limit(caller, told.tenant)
        if path not in COMMON and self.tenants.pending > self.most_pending:
            raise busy("too many requests are being answered; come back in a second")
        length = headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > self.body_bytes):
            raise Refusal(413, f"a body may have {self.body_bytes:,} bytes", connection="close")
        scope.setdefault("state", {}).update(caller=caller, tenants=self.tenants, tenant=told.tenant)
        name = told.tenant or next(iter(self.tenants.applications))
        body = sent.body = Bounded(receive, self.body_bytes, self.room, self.body_seconds)
        try:
            await self.tenants.applications[name](scope, body, sent)
        finally:
            body.let_go()

    def _limit(self, caller: Caller, tenant: str) -> None:
        for buckets, name, whose in (
            (self.of_key, f"{caller.tenant}/{caller.name}" if caller.name else "", "of this key"),
            (self.of_tenant, tenant, "of this tenant"),
        ):
            if name and (wait := buckets.wait(name)) > 0:
                raise busy(f"too many requests {whose}", wait, 429)

    async def _known(self, sent: bytes) -> Caller | None:
        """Whose key came; another process may have made it a moment ago."""
        key = sent.decode("utf-8", "surrogateescape")
        caller = self.tenants.caller(key)
        if caller is None:
            await self.tenants.look_again()
            caller = self.tenants.caller(key)
        return caller

    def _caller(self, path: str, headers: Mapping[bytes, bytes], caller: Caller | None) -> Caller:
        if caller is not None:
            return caller
        if path in OPEN:
            return NOBODY
        if self.tenants.keyed:
            raise Refusal(401, "no key, or one that is not known; send it as X-API-Key", www_authenticate="ApiKey")
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts and _PORT.sub("", host) not in self.hosts:
            raise Refusal(403, f"without a key the service answers under {', '.join(sorted(self.hosts))} alone")
        origin = headers.get(b"origin", b"").decode("latin-1")
        own = bool(self.hosts) and origin in (f"http://{host}", f"https://{host}")  # the page at /docs
        if origin and not own and origin not in self.origins:
            raise Refusal(403, "without a key the service answers no web page (--cors-origin)")
        return LOCAL

    def _tenant(self, path: str, caller: Caller, headers: Mapping[bytes, bytes]) -> str:
        """The run that is meant: the key's own; "" where the path is of none, and the key is of none or of all."""
        asked = headers.get(b"x-tenant", b"").decode("latin-1")
        if not caller.everywhere:
            if asked and asked != caller.tenant:
                raise Refusal(403, "this key is of another tenant")
            return caller.tenant
        if asked and asked not in self.tenants.services:
            raise Refusal(404, f"no tenant {asked[:64]!r}")
        name = asked or self.tenants.only
        if not name and path not in COMMON:
            raise Refusal(400, f"name the tenant as X-Tenant: {', '.join(self.tenants.services)}")
        return name

    def _check(self, path: str, method: str, caller: Caller) -> None:
        if path in OPEN:
            return
        role = self.role(method, path)
        if not caller.may(role):
            raise Refusal(403, f"this key may {caller.role}; this call needs {role}")
        if caller.groups and not caller.opens(group := group_of(path)):
            raise Refusal(403, f"this key is for {', '.join(caller.groups)}; this call is of {group}")

    def role(self, method: str, path: str) -> str:
        """What a call needs; where no group of routes says it, changing needs admin."""
        if path in OPEN:
            return "read"
        role = self._exact.get((method, path))
        if role is None:
            fitting = (role for wanted, pattern, role in self._roles if wanted == method and pattern.fullmatch(path))
            role = next(fitting, None)
        return role or ("read" if method in ("GET", "HEAD", "OPTIONS") else "admin")

    def _headers(self, scope: Any, headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """What every answer carries."""
        given = headers.get(b"x-request-id", b"")
        name = given if given and _ID.fullmatch(given) else b"%s%06x" % (self._process, next(self._numbers))
        carried = [(b"x-request-id", name), *_HARDENED, _PAGE if scope["path"] == "/docs" else _CLOSED]
        if scope.get("scheme") == "https":
            carried.append(_STRICT)
        if self.origins:
            carried.append((b"vary", b"Origin"))
            origin = headers.get(b"origin", b"")
            if origin.decode("latin-1") in self.origins:
                carried += [
                    (b"access-control-allow-origin", origin),
                    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
                    (
                        b"access-control-allow-headers",
                        b"content-type, x-api-key, authorization, x-tenant, x-request-id",
                    ),
                    (b"access-control-expose-headers", b"x-request-id, retry-after"),
                    (b"access-control-max-age", b"600"),
                ]
        return carried

    def _tell(self, scope: Any, sent: Sent, told: Told, begin: float, marks: list[tuple[str, float]]) -> None:
        end = perf_counter()
        route = getattr(scope.get("route"), "path", "unknown")
        # A tenant that nobody proved to be of is not counted as one.
        where = Route(told.tenant or self.tenants.only, scope["method"], route)
        status = 499 if told.gone and not sent.status else sent.status
        self.tenants.metrics.answered(where, status, begin, end, marks)
        if self.traces is not None:
            self.traces.answered(where, status, begin, end, marks, scope["headers"])
        level = logging.WARNING if status >= 500 else logging.INFO
        if not told_from(level):
            return
        tell(
            "request", level, id=sent.id, tenant=where.tenant, key=told.caller.name, method=where.method, route=route,
            status=status, ms=round((end - begin) * 1000, 3),
        )  # fmt: skip


class Told:
    """What was found out of a request, for the log."""

    __slots__ = ("caller", "gone", "tenant")

    def __init__(self) -> None:
        self.caller, self.tenant, self.gone = NOBODY, "", False


class Sent:
    """Sends an answer with what every answer carries, unless its body's refusal is to be told in its place."""

    __slots__ = ("bodiless", "body", "done", "headers", "send", "status")

    def __init__(self, send: Any, headers: list[tuple[bytes, bytes]]) -> None:
        self.send, self.headers = send, headers
        self.status, self.done, self.bodiless = 0, False, False
        self.body: Bounded | None = None

    @property
    def id(self) -> str:
        """Of the request."""
        return self.headers[0][1].decode()

    @property
    def shared(self) -> bool:
        """Whether a page of the origin may read it."""
        return any(name == b"access-control-allow-origin" for name, _ in self.headers)

    async def __call__(self, message: Any) -> None:
        if self.done:
            return
        if message["type"] == "http.response.start":
            instead = self.body.refusal if self.body is not None else None
            unsaid = message["status"] == 500 and _JSON not in message["headers"]  # FastAPI's own word on an error
            if instead is not None or unsaid:
                await self.refused(instead or _ours())
                return
            mark("encode")
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self.headers]}
        elif self.bodiless:
            message = {**message, "body": b""}
        await self.send(message)

    async def refused(self, refusal: Refusal) -> None:
        """The whole answer to a request that goes no further; nothing where one was begun."""
        if self.status:
            return
        self.status, self.done = refusal.status, True
        body = b"" if refusal.status == 204 else orjson.dumps({"error": refusal.why})
        named = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        raw = [(name.encode(), value.encode()) for name, value in named.items()]
        if refusal.status == 204:
            raw = []
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": [*raw, *self.headers]})
        await self.send({"type": "http.response.body", "body": body})


def _ours() -> Refusal:
    return Refusal(500, "something went wrong here; the log tells where, by the request's id")
