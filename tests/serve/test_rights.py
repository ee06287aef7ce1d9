"""Every route of the description × every role: the right answer each. A route that stands in no list here fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sensorium.serve.guards import OPEN
from sensorium.serve.keys import GROUPS, ROLES, group_of

if TYPE_CHECKING:
    from tests.serve.conftest import Running

# What a route needs, and the group it is of. Beside these, whatever is described and open to all.
NEEDS = """
read   recommend  POST /v1/recommend, POST /v1/search
read   items      GET /v1/items, GET /v1/items/{item}, GET /api/item/{item}, GET /api/items
read   metrics    GET /metrics
read   recommend  GET /api/recommend/{user}, GET /api/recommend/{user}/{path_category}
read   recommend  POST /api/session/recommend, POST /api/session/recommend/{category}
read   recommend  GET /api/latest, GET /api/latest/{path_category}, GET /api/popular, GET /api/popular/{path_category}
read   recommend  GET /api/item/{item}/neighbors, GET /api/item/{item}/neighbors/{path_category}
write  events     POST /v1/events, POST /v1/events/bulk
write  items      POST /v1/items, DELETE /v1/items/{item}
write  users      GET /v1/users/{user}/events
write  items      POST /api/item, POST /api/items, PATCH /api/item/{item}, DELETE /api/item/{item}
write  items      PUT /api/item/{item}/category/{category}, DELETE /api/item/{item}/category/{category}
write  users      POST /api/user, POST /api/users, PATCH /api/user/{user}, GET /api/user/{user}, GET /api/users
write  events     POST /api/feedback, PUT /api/feedback, GET /api/feedback, GET /api/feedback/{kind}
write  events     GET /api/feedback/{user}/{item}, GET /api/feedback/{kind}/{user}/{item}
write  events     DELETE /api/feedback/{user}/{item}, DELETE /api/feedback/{kind}/{user}/{item}
write  events     GET /api/user/{user}/feedback, GET /api/user/{user}/feedback/{kind}
write  events     GET /api/item/{item}/feedback, GET /api/item/{item}/feedback/{kind}
admin  users      DELETE /v1/users/{user}, DELETE /api/user/{user}
admin  keys       GET /v1/keys, POST /v1/keys, DELETE /v1/keys/{name}, POST /v1/keys/{name}/rotate
"""
KEY = "an-admin-key-of-enough-letters"


def needs() -> dict[str, tuple[str, str]]:
    table: dict[str, tuple[str, str]] = {}
    for line in NEEDS.strip().splitlines():
        role, group, routes = line.split(maxsplit=2)
        table |= dict.fromkeys(routes.split(", "), (role, group))
    return table


@pytest.fixture(scope="module")
def shared(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    import shutil

    from tests.serve.conftest import running

    folder = tmp_path_factory.mktemp("roles")
    shutil.copytree(world / "run", folder / "run")
    with running(world, folder / "run") as it:
        yield it


def described(server: Running) -> list[str]:
    """Every operation, as `GET /v1/items/{item}`."""
    paths = httpx.get(f"{server.url}/openapi.json", headers={"X-API-Key": KEY}).json()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def test_every_described_route_stands_in_the_list(shared: Running) -> None:
    routes = {route for route in described(shared) if route.split()[1] not in OPEN}
    assert routes == set(needs())
    for route, (_, group) in needs().items():
        assert group in GROUPS
        assert group_of(re.sub(r"\{\w+\}", "none", route.split()[1])) == group, route


@pytest.mark.parametrize("role", ["nobody", *ROLES])
def test_every_route_answers_every_role_rightly(shared: Running, role: str) -> None:
    key = "" if role == "nobody" else shared.service.keys.made(role, role)
    with httpx.Client(base_url=shared.url, headers={"X-API-Key": key} if key else {}, timeout=60) as web:
        for route in [*described(shared), "GET /docs", "GET /openapi.json", "GET /nothing", "POST /nothing"]:
            method, template = route.split()
            path = re.sub(r"\{\w+\}", "no-such-one", template)
            body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
            status = web.request(method, path, **body).status_code
            assert status < 500, route
            if template in OPEN:
                assert status == 200, route
            elif role == "nobody":
                assert status == 401, route
            else:
                needed = needs().get(route, ("admin" if method == "POST" else "read", ""))[0]
                enough = ROLES.index(role) >= ROLES.index(needed)
                assert (status == 403) == (not enough), (route, status)
                assert status != 401


@pytest.mark.parametrize("group", GROUPS)
def test_a_key_of_one_group_opens_that_group_alone(shared: Running, group: str) -> None:
    key = shared.service.keys.made(f"of {group}", "admin", [group])
    with httpx.Client(base_url=shared.url, headers={"X-API-Key": key}, timeout=60) as web:
        for route, (_, of) in needs().items():
            method, template = route.split()
            if method == "GET":  # what changes things is asked in the test above
                status = web.get(re.sub(r"\{\w+\}", "no-such-one", template)).status_code
                assert (status == 403) == (of != group), route


def test_nobody_gets_more_rights_than_the_key_it_is_made_with(shared: Running) -> None:
    key = shared.service.keys.made("clerk", "admin", ["keys"], until=4e9)
    with httpx.Client(base_url=shared.url, headers={"X-API-Key": key}, timeout=60) as web:
        for more in ({"groups": ["items"]}, {}, {"groups": ["keys"], "until": 4.1e9}, {"groups": ["keys"]}):
            assert web.post("/v1/keys", json={"name": "x", "role": "read", **more}).status_code == 403, more
        assert (
            web.post("/v1/keys", json={"name": "x", "role": "read", "groups": ["keys"], "until": 3e9}).status_code
            == 200
        )
        shared.service.keys.made("chief", "admin")
        assert web.post("/v1/keys/chief/rotate", json={}).status_code == 403
        turned = web.post("/v1/keys/x/rotate", json={"grace_seconds": 60})
        assert turned.status_code == 200
        assert len(turned.json()["key"]) >= 43


def test_a_wrong_method_is_told_all_the_right_ones(shared: Running) -> None:
    with httpx.Client(base_url=shared.url, headers={"X-API-Key": KEY}) as web:
        for path, methods in (("/v1/items/7", "DELETE, GET"), ("/v1/keys", "GET, POST"), ("/health/live", "GET")):
            answer = web.put(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert web.post("/v1/keys", json={"name": "twice", "role": "read"}).status_code == 200
        assert web.post("/v1/keys", json={"name": "twice", "role": "read"}).status_code == 409
        assert web.post("/v1/keys", json={"name": "over", "role": "read", "until": 1.0}).status_code == 409
