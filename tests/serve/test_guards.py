"""The door: who is let in, to which run, how often, and what every answer carries. Behind it stands a small application."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from sensorium.feedback.log import Log
from sensorium.serve.guards import LOOPBACK, Guards
from sensorium.serve.keys import Keys
from sensorium.serve.logs import listen
from sensorium.serve.tenants import Tenants

FIRST = "a-first-key-of-enough-letters"
ROLES = {("POST", "/v1/recommend"): "read", ("POST", "/v1/items"): "write", ("DELETE", "/v1/items/[^/]+"): "write"}
Talk = Callable[[httpx.AsyncClient], Awaitable[None]]


def behind(name: str) -> FastAPI:
    """Says which run was reached, and by whom."""
    app = FastAPI()

    @app.get("/health/live")
    @app.get("/v1/users/{user}")
    @app.post("/v1/recommend")
    @app.delete("/v1/items/{item}")
    @app.delete("/v1/other")
    async def told(request: Request) -> dict[str, str]:
        return {"run": name, "caller": request.state.caller.name}

    @app.post("/v1/items")
    async def body(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/v1/json")
    async def parsed(thing: dict[str, Any]) -> dict[str, int]:
        return {"fields": len(thing)}

    @app.get("/v1/broken/{user}")
    async def broken(user: str) -> None:
        raise ValueError(f"user {user} is secret")

    @app.get("/v1/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(0.3)
        return {}

    return app


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[dict[str, Keys]]:
    logs = {name: Log(tmp_path / f"{name}.sqlite") for name in ("a", "b")}
    yield {name: Keys(log) for name, log in logs.items()}
    for log in logs.values():
        log.close()


def guards(keys: dict[str, Keys], *, first: str = FIRST, only: str = "", **settings: Any) -> Guards:
    names = [only] if only else [*keys]
    services: Any = {name: SimpleNamespace(keys=Keys(keys[name].store, first)) for name in names}
    tenants = Tenants(services, {name: behind(name) for name in names})
    return Guards(tenants, ROLES, **{"body_bytes": 1000, **settings})


def talk(app: Guards, words: Talk, **headers: str) -> None:
    async def held() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8087", headers=headers) as client:
            await words(client)

    asyncio.run(held())


def test_a_key_that_another_process_made_opens_at_once_and_wrong_ones_are_looked_up_seldom(
    keys: dict[str, Keys],
) -> None:
    app = guards(keys)
    looks, follow = [], Keys.follow
    for service in app.tenants.services.values():
        own = service.keys
        own.follow = lambda own=own: (looks.append(own), follow(own))  # type: ignore[method-assign]
    made = keys["b"].made("late", "read")

    async def words(client: httpx.AsyncClient) -> None:
        both = [client.post("/v1/recommend", headers={"X-API-Key": made}) for _ in range(2)]
        assert [one.status_code for one in await asyncio.gather(*both)] == [200, 200]
        assert len(looks) == 2  # one for each run
        begin = time.monotonic()
        for _ in range(100):
            assert (await client.post("/v1/recommend", headers={"X-API-Key": "no"})).status_code == 401
        assert len(looks) <= 2 * (2 + (time.monotonic() - begin) / 0.1)

    talk(app, words)


def test_roles_and_groups_open_what_they_say(keys: dict[str, Keys]) -> None:
    made = {
        "reader": keys["a"].made("reader", "read"), "writer": keys["a"].made("writer", "write"),
        "items": keys["a"].made("items", "admin", ["items"]), "asker": keys["a"].made("asker", "write", ["recommend"]),
    }  # fmt: skip
    right = {  # reader, writer, items, asker
        ("POST", "/v1/recommend"): (200, 200, 403, 200),
        ("POST", "/v1/items"): (403, 200, 200, 403),
        ("DELETE", "/v1/items/7"): (403, 200, 200, 403),
        ("GET", "/v1/users/7"): (200, 200, 403, 403),
        ("DELETE", "/v1/other"): (403, 403, 403, 403),  # no group says it: admin; of the group admin
        ("GET", "/openapi.json"): (200, 200, 403, 403),
        ("GET", "/health/live"): (200, 200, 200, 200),
    }

    async def words(client: httpx.AsyncClient) -> None:
        for (method, path), statuses in right.items():
            got = [
                (await client.request(method, path, headers={"X-API-Key": key})).status_code for key in made.values()
            ]
            assert tuple(got) == statuses, path
            bearer = await client.request(method, path, headers={"Authorization": f"Bearer {made['writer']}"})
            assert bearer.status_code == statuses[1]
            first = await client.request(method, path, headers={"X-API-Key": FIRST})
            assert first.status_code == 200
            for wrong in ({}, {"X-API-Key": "no"}, {"X-API-Key": made["reader"][:-1]}):
                nobody = await client.request(method, path, headers=wrong)
                assert nobody.status_code == (200 if path == "/health/live" else 401)

    talk(guards(keys, only="a"), words)


def test_a_key_reaches_its_own_run_alone(keys: dict[str, Keys]) -> None:
    a, b = keys["a"].made("shop", "admin"), keys["b"].made("shop", "admin")

    async def words(client: httpx.AsyncClient) -> None:
        async def reached(key: str, tenant: str = "") -> tuple[int, str]:
            headers = {"X-API-Key": key, **({"X-Tenant": tenant} if tenant else {})}
            answer = await client.get("/v1/users/7", headers=headers)
            return answer.status_code, answer.json().get("run", "")

        assert await reached(a) == await reached(a, "a") == (200, "a")
        assert await reached(b) == await reached(b, "b") == (200, "b")
        assert await reached(a, "b") == await reached(b, "a") == await reached(a, "c") == (403, "")
        assert await reached(FIRST, "a") == (200, "a")
        assert await reached(FIRST, "b") == (200, "b")
        assert await reached(FIRST) == (400, "")
        assert await reached(FIRST, "c") == (404, "")

    talk(guards(keys), words)


def test_rates_are_of_a_key_and_of_a_run(keys: dict[str, Keys]) -> None:
    one, two, other = keys["a"].made("one", "read"), keys["a"].made("two", "read"), keys["b"].made("one", "read")

    def statuses(app: Guards, *order: str) -> list[int]:
        got: list[int] = []

        async def words(client: httpx.AsyncClient) -> None:
            for key in order:
                answer = await client.get("/v1/users/7", headers={"X-API-Key": key})
                got.append(answer.status_code)
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
            for _ in range(10):
                assert (await client.get("/health/live", headers={"X-API-Key": one})).status_code == 200

        talk(app, words)
        return got

    # A twentieth of a request a second, and at least one: the second one has to wait.
    assert statuses(guards(keys, per_second=0.05), one, one, two, other) == [200, 429, 200, 200]
    assert statuses(guards(keys, tenant_per_second=0.05), one, one, two, other) == [200, 429, 429, 200]


def test_what_every_answer_carries(keys: dict[str, Keys]) -> None:
    async def words(client: httpx.AsyncClient) -> None:
        for path, key in (("/health/live", ""), ("/v1/users/7", FIRST), ("/v1/users/7", ""), ("/nothing", FIRST)):
            answer = await client.get(path, headers={"X-API-Key": key})
            carried = answer.headers
            assert carried["x-content-type-options"] == "nosniff"
            assert carried["x-frame-options"] == "DENY"
            assert carried["cache-control"] == "no-store"
            assert carried["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in carried["content-security-policy"]
            assert len(carried["x-request-id"]) == 16
            assert "strict-transport-security" not in carried
            assert "access-control-allow-origin" not in carried
        mine = await client.get("/health/live", headers={"X-Request-Id": "order-7.b"})
        assert mine.headers["x-request-id"] == "order-7.b"
        for bad in ("a b", "x" * 65, "ann@example.com", '"'):
            assert (await client.get("/health/live", headers={"X-Request-Id": bad})).headers["x-request-id"] != bad
        safe = await client.get("https://127.0.0.1/health/live")
        assert safe.headers["strict-transport-security"] == "max-age=31536000"

    talk(guards(keys, only="a"), words)


def test_web_pages_may_call_where_their_origin_is_named(keys: dict[str, Keys]) -> None:
    mine, other = "https://shop.example", "https://evil.example"
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}

    async def off(client: httpx.AsyncClient) -> None:
        answer = await client.options("/v1/recommend", headers={"Origin": mine, **ask})
        assert answer.status_code == 403
        answer = await client.post("/v1/recommend", headers={"Origin": mine, "X-API-Key": FIRST})
        assert not [name for name in answer.headers if name.startswith("access-control")]

    async def on(client: httpx.AsyncClient) -> None:
        answer = await client.options("/v1/recommend", headers={"Origin": mine, **ask})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == mine
        assert "x-api-key" in answer.headers["access-control-allow-headers"]
        answer = await client.post("/v1/recommend", headers={"Origin": mine, "X-API-Key": FIRST})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, mine)
        assert answer.headers["vary"] == "Origin"
        for origin in (other, "null", mine + ".evil.example", "http://shop.example"):
            answer = await client.options("/v1/recommend", headers={"Origin": origin, **ask})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers

    talk(guards(keys, only="a"), off)
    talk(guards(keys, only="a", origins=(mine,)), on)


def test_without_keys_no_web_page_gets_in_by_another_name(keys: dict[str, Keys]) -> None:
    async def words(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/users/7")).json()["caller"] == "loopback"
        assert (await client.get("/v1/users/7", headers={"Host": "localhost:9"})).status_code == 200
        assert (await client.get("/v1/users/7", headers={"Host": "rebound.evil.example:8087"})).status_code == 403
        assert (await client.post("/v1/recommend", headers={"Origin": "https://evil.example"})).status_code == 403
        assert (await client.post("/v1/recommend", headers={"Origin": "http://127.0.0.1:9"})).status_code == 403
        own = {"Origin": "http://127.0.0.1:8087"}  # the page at /docs
        assert (await client.post("/v1/recommend", headers=own)).status_code == 200
        rebound = {"Origin": "http://evil.example:8087", "Host": "evil.example:8087"}
        assert (await client.post("/v1/recommend", headers=rebound)).status_code == 403

    talk(guards(keys, first="", only="a", hosts=LOOPBACK), words)


def test_too_large_a_body_is_told_so_whoever_reads_it(keys: dict[str, Keys]) -> None:
    async def dripping() -> Any:
        for _ in range(30):
            yield b'{"a": "' + b"x" * 50

    async def words(client: httpx.AsyncClient) -> None:
        for path in ("/v1/items", "/v1/json"):
            headers = {"content-type": "application/json"}
            assert (await client.post(path, content=b"x" * 1001)).status_code == 413
            answer = await client.post(path, content=dripping(), headers=headers)
            assert (answer.status_code, answer.json()) == (413, {"error": "the body is too large"})
            assert (await client.post(path, content=b"", headers={"content-length": "-1"})).status_code == 413
        assert (await client.post("/v1/items", content=b"x" * 1000)).json() == {"bytes": 1000}

    talk(app := guards(keys, only="a"), words, **{"X-API-Key": FIRST})
    assert app.room.held == 0


def test_more_than_can_be_answered_is_sent_back_and_health_goes_on(keys: dict[str, Keys]) -> None:
    async def words(client: httpx.AsyncClient) -> None:
        asked = [asyncio.create_task(client.get("/v1/slow")) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert (await client.get("/health/live")).status_code == 200
        answers = await asyncio.gather(*asked)
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(503)) == (8, 12)
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)
        assert (await client.get("/v1/users/7")).status_code == 200  # it is over

    talk(guards(keys, only="a", most_pending=8), words, **{"X-API-Key": FIRST})


def test_an_error_of_ours_is_one_line_that_tells_nothing(keys: dict[str, Keys]) -> None:
    stream = io.StringIO()
    root, serving = logging.getLogger(), logging.getLogger("sensorium.serve")
    before = root.handlers[:], root.level, serving.level
    listen("info", stream)
    try:

        async def words(client: httpx.AsyncClient) -> None:
            answer = await client.get("/v1/broken/ann@example.com?q=ann", headers={"X-Request-Id": "seven"})
            assert answer.status_code == 500
            assert list(answer.json()) == ["error"]
            assert "ann" not in answer.text
            await client.get("/v1/users/ann@example.com?name=ann")

        talk(guards(keys, only="a"), words, **{"X-API-Key": FIRST})
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        serving.setLevel(before[2])
    text = stream.getvalue()
    assert "ann" not in text
    assert FIRST not in text
    lines = [json.loads(line) for line in text.splitlines() if '"sensorium' not in line]
    failed, request, fine = [one for one in lines if one["event"] in ("failed", "request")]
    assert (failed["error"], failed["id"]) == ("ValueError", "seven")
    assert (request["route"], request["status"], request["level"]) == ("/v1/broken/{user}", 500, "warning")
    assert (fine["route"], fine["status"], fine["tenant"], fine["key"]) == ("/v1/users/{user}", 200, "a", "first")
    assert fine["ms"] > 0


def test_requests_are_counted_by_route_and_never_by_path(keys: dict[str, Keys]) -> None:
    app = guards(keys, only="a")

    async def words(client: httpx.AsyncClient) -> None:
        for user in ("ann", "bo"):
            await client.get(f"/v1/users/{user}")
        await client.get("/v1/nothing/ann")
        await client.get("/v1/users/ann", headers={"X-API-Key": "wrong"})

    talk(app, words, **{"X-API-Key": FIRST})
    routes = app.tenants.metrics.routes
    counted = {(route.template, status): n for route, of in routes.items() for status, n in of.statuses.items()}
    assert counted == {("/v1/users/{user}", 200): 2, ("unknown", 404): 1, ("unknown", 401): 1}
