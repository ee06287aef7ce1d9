"""Every route × every role, generated from the OpenAPI description: a route missing from the matrix fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.serve.conftest import Running

# What each call needs: written here by hand, apart from the tables that the guards read.
NEEDS = {
    "nothing": """
        GET /health/live
        GET /health/ready
        GET /api/health/live
        GET /api/health/ready
    """,
    "read": """
        POST /v1/recommend
        GET /v1/items/{item}/similar
        POST /v1/explain
        POST /v1/search
        GET /v1/items
        GET /v1/items/{item}
        GET /v1/rules
        GET /metrics
        GET /api/item/{item}
        GET /api/items
        GET /api/recommend/{user}
        GET /api/recommend/{user}/{path_category}
        POST /api/session/recommend
        POST /api/session/recommend/{category}
        GET /api/item/{item}/neighbors
        GET /api/item/{item}/neighbors/{path_category}
        GET /api/latest
        GET /api/latest/{path_category}
        GET /api/popular
        GET /api/popular/{path_category}
    """,
    "write": """
        POST /v1/events
        POST /v1/events/bulk
        POST /v1/items
        DELETE /v1/items/{item}
        PUT /v1/items/{item}/media/{column}
        GET /v1/users/{user}
        GET /v1/users/{user}/events
        POST /api/item
        POST /api/items
        PATCH /api/item/{item}
        DELETE /api/item/{item}
        PUT /api/item/{item}/category/{category}
        DELETE /api/item/{item}/category/{category}
        POST /api/user
        POST /api/users
        GET /api/user/{user}
        GET /api/users
        PATCH /api/user/{user}
        POST /api/feedback
        PUT /api/feedback
        GET /api/feedback
        GET /api/feedback/{kind}
        GET /api/feedback/{user}/{item}
        GET /api/feedback/{kind}/{user}/{item}
        DELETE /api/feedback/{user}/{item}
        DELETE /api/feedback/{kind}/{user}/{item}
        GET /api/user/{user}/feedback
        GET /api/user/{user}/feedback/{kind}
        GET /api/item/{item}/feedback
        GET /api/item/{item}/feedback/{kind}
    """,
    "admin": """
        PUT /v1/rules
        DELETE /v1/users/{user}
        DELETE /api/user/{user}
        GET /v1/keys
        POST /v1/keys
        POST /v1/keys/{name}/rotate
        DELETE /v1/keys/{name}
    """,
}
MATRIX = {
    (line.split()[0], line.split()[1]): role for role, lines in NEEDS.items() for line in lines.strip().splitlines()
}
ORDER = ("nothing", "read", "write", "admin")
# Documented beside the routes of the description, and not to be seen by whoever has no key.
PAGES = ("/openapi.json", "/docs")


@pytest.fixture
def keys(server: Running) -> dict[str, str]:
    """A key of each role, and one that was dropped."""
    made = {}
    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}) as admin:
        for name in ("read", "write", "admin", "dropped"):
            role = "admin" if name == "dropped" else name
            made[name] = admin.post("/v1/keys", json={"name": name, "role": role}).json()["key"]
        assert admin.delete("/v1/keys/dropped").status_code == 200
    return {**made, "wrong": "x" * 40, "odd": "\u00e9\u00ff" * 20, "none": ""}


def described(server: Running) -> list[tuple[str, str]]:
    told = httpx.get(f"{server.url}/openapi.json", headers={"X-API-Key": server.key}).json()
    return [(method.upper(), path) for path, own in told["paths"].items() for method in own]


def test_every_route_asks_for_the_role_that_it_needs(server: Running, keys: dict[str, str]) -> None:
    calls = described(server)
    assert sorted(calls) == sorted(MATRIX), "a route is missing from the matrix, or the matrix has one too many"
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for (method, path), key in ((call, key) for call in calls for key in keys.items()):
            # An id with a slash: it must not make another route of it, neither for the role nor for the answer.
            where = re.sub(r"\{\w+\}", "no%2Fsuch", path)
            headers = {"X-API-Key": key[1].encode("latin-1")} if key[1] else {}
            status = client.request(method, where, headers=headers, **body(method)).status_code
            assert status == expected(MATRIX[method, path], key[0], status), f"{method} {path} as {key[0]}: {status}"
        for page in PAGES:
            assert client.get(page).status_code == 401
            assert client.get(page, headers={"X-API-Key": keys["read"]}).status_code == 200


def body(method: str) -> dict[str, Any]:
    """One that no route takes, so that nothing is changed on the way."""
    return {"content": b"{]"} if method in ("POST", "PUT", "PATCH") else {}


def expected(needs: str, name: str, status: int) -> int:
    """The status that is right; where the call gets through to its route, any but a refusal or a failure is."""
    if needs != "nothing" and name not in ORDER:
        return 401
    if needs != "nothing" and ORDER.index(name) < ORDER.index(needs):
        return 403
    assert status not in (401, 403, 405, 429)
    assert status < 500
    return status


def test_what_is_not_described_is_closed(server: Running, keys: dict[str, str]) -> None:
    with httpx.Client(base_url=server.url) as client:
        for path in ("/v1/nothing", "/", "/v2/recommend", "/v1//recommend", "/V1/recommend", "/v1/recommend/"):
            assert client.get(path).status_code == 401
            assert client.post(path, headers={"X-API-Key": keys["read"]}).status_code in (403, 404, 405)
        traversal = "/v1/items/..%2Fkeys"
        assert client.get(traversal, headers={"X-API-Key": keys["read"]}).status_code == 404
