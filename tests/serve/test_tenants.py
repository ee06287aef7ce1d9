"""Two runs behind one service: what is put, noted, counted and limited in one is not there for the other."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sensorium.errors import RecipeError
from sensorium.serve.app import Serving, application
from sensorium.serve.service import Service
from sensorium.serve.tenants import named

FIRST = "a-first-key-of-enough-letters"
Talk = Callable[[httpx.AsyncClient, dict[str, dict[str, str]], dict[str, Service]], Awaitable[None]]


def both(world: Path, tmp_path: Path, talk: Talk, **serving: Any) -> None:
    """A talk with a service of two runs, `a` and `b`; an admin key of each, and the first of all."""
    for name in ("a", "b"):
        shutil.copytree(world / "run", tmp_path / name)

    async def held() -> None:
        services = {
            name: Service(folder, cache=world / "cache", first_key=FIRST)
            for name, folder in named([], tmp_path).items()
        }
        app = application(services, Serving(**serving))
        app.tenants.begin()
        keys = {name: {"X-API-Key": service.keys.made("shop", "admin")} for name, service in services.items()}
        keys["all"] = {"X-API-Key": FIRST}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            try:
                await talk(client, keys, services)
            finally:
                assert await app.tenants.end()

    asyncio.run(held())


def test_nothing_crosses_from_one_run_to_the_other(world: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, keys: dict[str, dict[str, str]], services: dict[str, Service]) -> None:
        event = {"events": [{"user": "ann", "item": "x", "kind": "buy", "key": "order-1"}]}
        item = {"items": [{"item_id": "mine", "title": "a slow train through snow"}]}
        for path, body in (("/v1/events", event), ("/v1/items", item)):
            assert (await client.post(path, json=body, headers=keys["a"])).status_code == 200
        a, b = keys["a"], keys["b"]
        assert len((await client.get("/v1/users/ann/events", headers=a)).json()["events"]) == 1
        assert (await client.get("/v1/users/ann/events", headers=b)).json()["events"] == []
        assert (await client.get("/v1/items/mine", headers=a)).status_code == 200
        assert (await client.get("/v1/items/mine", headers=b)).status_code == 404
        assert (await client.get("/api/item/mine", headers=b)).status_code == 404
        assert (await client.post("/v1/events", json=event, headers=b)).json() == {"positions": [1]}  # its own keys
        for _ in range(400):
            if "mine" in services["a"].engine.snapshot.catalog.ids:
                break
            await asyncio.sleep(0.05)
        assert "mine" in services["a"].engine.snapshot.catalog.ids
        assert "mine" not in services["b"].engine.snapshot.catalog.ids
        assert [len(service.store) for service in services.values()] == [1, 1]

        made = (await client.post("/v1/keys", json={"name": "app", "role": "read"}, headers=a)).json()["key"]
        assert (await client.get("/v1/keys", headers=b)).json()["keys"][0]["name"] == "shop"
        assert (await client.delete("/v1/keys/app", headers=b)).status_code == 404
        other = {"X-API-Key": made, "X-Tenant": "b"}
        assert (await client.post("/v1/recommend", json={}, headers=other)).status_code == 403
        assert (await client.post("/v1/recommend", json={}, headers={"X-API-Key": made})).status_code == 200

        every = keys["all"]
        assert (await client.post("/v1/recommend", json={}, headers=every)).status_code == 400
        named_b = {**every, "X-Tenant": "b"}
        assert (await client.get("/v1/items/mine", headers=named_b)).status_code == 404
        await client.post("/v1/keys", json={"name": "late", "role": "read"}, headers=named_b)
        assert {key["name"] for key in services["b"].keys.listed()} == {"shop", "late"}

    both(world, tmp_path, talk)


def test_metrics_and_health_tell_a_key_of_its_own_run(world: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, keys: dict[str, dict[str, str]], services: dict[str, Service]) -> None:
        while (await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.05)
        for name in ("a", "b"):
            assert (await client.post("/v1/recommend", json={"user": "ann"}, headers=keys[name])).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        page = {name: (await client.get("/metrics", headers=key)).text for name, key in keys.items()}
        assert 'tenant="a"' in page["a"]
        assert 'tenant="b"' not in page["a"]
        assert 'tenant="a"' not in page["b"]
        assert 'tenant="a"' in page["all"]
        assert 'tenant="b"' in page["all"]
        assert "ann" not in page["all"]
        only = (await client.get("/metrics", headers={**keys["all"], "X-Tenant": "b"})).text
        assert 'tenant="a"' not in only
        for stage in ("parse", "queue", "history", "candidates", "score", "rerank", "encode"):
            assert f'route="/v1/recommend",stage="{stage}",le="+Inf"' in page["a"], stage
        told = {name: (await client.get("/health/ready", headers=key)).json()["tenants"] for name, key in keys.items()}
        assert {name: sorted(tenants) for name, tenants in told.items()} == {"a": ["a"], "b": ["b"], "all": ["a", "b"]}

    both(world, tmp_path, talk)


def test_one_run_at_its_limit_does_not_hold_up_the_other(world: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, keys: dict[str, dict[str, str]], services: dict[str, Service]) -> None:
        async def status(name: str) -> int:
            return (await client.get("/v1/items", headers=keys[name])).status_code

        assert 429 in [await status("a") for _ in range(5)]
        assert await status("b") == 200

    both(world, tmp_path, talk, tenant_per_second=0.5)


def test_runs_are_named_by_their_folders(tmp_path: Path) -> None:
    for name in ("x/movies", "y/movies", "y/books", "y/bad name"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("y/movies", "y/books"):
        (tmp_path / name / "current").touch()
    assert list(named([], tmp_path / "y")) == ["books", "movies"]
    assert list(named([tmp_path / "x" / "movies"])) == ["movies"]
    for folders, within, why in (
        ([tmp_path / "x/movies"], tmp_path / "y", "is given already"), ([tmp_path / "y/bad name"], None, "letters"),
        ([], tmp_path / "none", "no such folder"), ([], tmp_path / "x", "nothing to serve"), ([], None, "nothing to serve"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=why):
            named(folders, within)
