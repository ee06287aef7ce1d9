"""The service as a client meets it: every event counts in the next answer, a new item is found, keys open what they may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from sensorium import runs
from sensorium.checks.worlds import write_demo
from sensorium.engine import Engine
from sensorium.serve.app import Serving, application
from sensorium.serve.service import Service

KEY = "an-admin-key-of-enough-letters"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_demo(folder / "world", items=60, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "content"\n'
    (folder / "world" / "near.toml").write_text(recipe)
    Engine.train(folder / "world" / "near.toml", out=folder / "run", cache=folder / "cache").close()
    return folder


def asked(
    trained: Path,
    tmp_path: Path,
    talk: Callable[[httpx.AsyncClient, Service], Awaitable[None]],
    key: str = "",
    **serving: object,
) -> None:
    """A talk with a service over a copy of the run, begun and ended as a server does."""
    import shutil

    shutil.copytree(trained / "run", tmp_path / "run")

    async def held() -> None:
        service = Service(tmp_path / "run", cache=trained / "cache", first_key=key)
        app = application(service, Serving(**serving))  # type: ignore[arg-type]
        await service.begin()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"X-API-Key": key} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as client:
            try:
                await talk(client, service)
            finally:
                await service.end()

    asyncio.run(held())


async def best(client: httpx.AsyncClient, **ask: object) -> list[str]:
    answer = await client.post("/v1/recommend", json=ask)
    assert answer.status_code == 200, answer.text
    return [one["item"] for one in answer.json()["items"]]


def test_an_event_counts_in_the_very_next_answer(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        for n in range(20):
            before = await best(client, user=f"fresh{n}", k=5)
            stored = await client.post(
                "/v1/events", json={"events": [{"user": f"fresh{n}", "item": before[0], "kind": "buy"}]}
            )
            assert stored.json() == {"positions": [n + 1]}
            after = await best(client, user=f"fresh{n}", k=5)
            assert before[0] not in after

    asked(trained, tmp_path, talk)


def test_reasons_sum_to_the_score_and_the_version_is_told(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        user = service.engine.snapshot.user_ids[0]
        told = (await client.post("/v1/recommend", json={"user": user, "k": 3, "explain": True})).json()
        assert told["version"] == service.engine.version == "000001"
        for one in told["items"]:
            assert one["base"] + sum(r["amount"] for r in one["reasons"]) == pytest.approx(one["score"], abs=1e-6)

    asked(trained, tmp_path, talk)


@pytest.mark.parametrize("name", ["dropped", "_gorse"])
def test_marks_of_the_services_own_are_no_columns(trained: Path, tmp_path: Path, name: str) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        told = await client.post("/v1/items", json={"items": [{"item_id": "new"}, {"item_id": "odd", name: True}]})
        assert told.status_code == 422
        assert told.json()["error"].startswith("body.items.1: ")
        assert f"{name!r} is a mark of the service's own" in told.json()["error"]
        assert service.store.page("items") == []

    asked(trained, tmp_path, talk)


def test_a_new_item_is_found_and_a_dropped_one_is_gone(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        with (trained / "world" / "items.csv").open() as file:
            import csv

            row = next(r for r in csv.DictReader(file) if r["title"] and r["description"])
        twin = {"item_id": "twin", "title": row["title"], "description": row["description"]}
        assert (await client.post("/v1/items", json={"items": [twin]})).status_code == 200
        for _ in range(400):
            if "twin" in service.engine.snapshot.catalog.ids:
                break
            await asyncio.sleep(0.05)
        assert "twin" in await best(client, like=[row["item_id"]], k=60)
        assert (await client.get("/v1/items/twin")).json()["title"] == row["title"]
        assert (await client.delete("/v1/items/twin")).status_code == 200
        assert "twin" not in await best(client, like=[row["item_id"]], k=60)
        assert (await client.get("/v1/items/twin")).status_code == 404

    asked(trained, tmp_path, talk)


def test_items_that_came_are_known_again_after_a_restart(trained: Path, tmp_path: Path) -> None:
    async def first(client: httpx.AsyncClient, service: Service) -> None:
        await client.post("/v1/items", json={"items": [{"item_id": "late", "title": "a slow train through snow"}]})

    asked(trained, tmp_path, first)
    service = Service(tmp_path / "run", cache=trained / "cache")
    assert service.catch_up() == 1
    assert "late" in service.engine.snapshot.catalog.ids
    service.close()


def test_a_bulk_names_its_wrong_line_and_keys_make_it_repeatable(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        lines = [json.dumps({"user": "u", "item": "i1", "key": f"k{n}"}) for n in range(30)]
        for _ in range(2):
            stored = await client.post("/v1/events/bulk", content="\n".join(lines))
            assert stored.json() == {"stored": 30, "last": 30}
        assert len(service.store) == 30
        wrong = await client.post("/v1/events/bulk", content='{"user": "u", "item": "i"}\n{"user": "u"}\n')
        assert wrong.status_code == 400
        assert wrong.json()["error"].startswith("line 2: item")

    asked(trained, tmp_path, talk)


def test_keys_open_what_they_may(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        made = (await client.post("/v1/keys", json={"name": "app", "role": "read"})).json()
        assert (await client.get("/health/live", headers={"X-API-Key": ""})).status_code == 200
        assert (await client.get("/openapi.json", headers={"X-API-Key": ""})).status_code == 401
        assert (await client.post("/v1/recommend", json={}, headers={"X-API-Key": "wrong"})).status_code == 401
        reader = {"X-API-Key": made["key"]}
        assert (await client.post("/v1/recommend", json={}, headers=reader)).status_code == 200
        event = {"events": [{"user": "a", "item": "b"}]}
        assert (await client.post("/v1/events", json=event, headers=reader)).status_code == 403
        assert (await client.get("/v1/keys", headers=reader)).status_code == 403
        listed = (await client.get("/v1/keys")).json()["keys"]
        assert [one["name"] for one in listed] == ["app"]
        assert made["key"] not in json.dumps(listed)
        assert (await client.delete("/v1/keys/app")).status_code == 200
        assert (await client.post("/v1/recommend", json={}, headers=reader)).status_code == 401

    asked(trained, tmp_path, talk, key=KEY)


def test_too_much_is_refused(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        big = await client.post("/v1/events/bulk", content=b"x" * 2000)
        assert big.status_code == 413

        async def dripping() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"y" * 100

        assert (await client.post("/v1/events/bulk", content=dripping())).status_code == 413
        codes = [(await client.post("/v1/recommend", json={})).status_code for _ in range(12)]
        assert codes[0] == 200
        assert 429 in codes

    asked(trained, tmp_path, talk, key=KEY, body_bytes=1000, per_second=2.0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", {"usr": "a"}), ("/v1/recommend", {"k": 0}), ("/v1/recommend", {"rules": ["price<"]}),
        ("/v1/recommend", {"like": ["no such"]}), ("/v1/events", {"events": []}), ("/v1/events", {"events": [{"user": "a"}]}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(trained: Path, tmp_path: Path, path: str, body: dict[str, object]) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        answer = await client.post(path, json=body)
        assert 400 <= answer.status_code < 500
        assert "\n" not in answer.json()["error"]

    asked(trained, tmp_path, talk)


def test_whilst_somebody_is_forgotten_items_are_hidden_shown_and_added(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorium.live.EXACT_UP_TO", 10)  # so that answers are searched for by the loop

    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        assert service.engine.live.searched
        ids, user = service.engine.snapshot.catalog.ids, service.engine.snapshot.user_ids[0]
        first, other, third = ids[0], ids[1], ids[2]
        with runs.locked(tmp_path / "run", "training"):  # as if another process forgot somebody
            forget = asyncio.create_task(client.delete(f"/v1/users/{user}"))
            hidden = [{"item_id": first, "hidden": True}, {"item_id": third, "hidden": True}]
            await asyncio.wait_for(client.post("/v1/items", json={"items": hidden}), 5)
            service.store.put("items", {other: {"item_id": other, "hidden": True}})  # as another process does
            assert not {first, other, third} & set(await asyncio.wait_for(best(client, k=50), 5))
            await asyncio.wait_for(client.post("/v1/items", json={"items": [{"item_id": third, "hidden": False}]}), 5)
            new = {"item_id": "new", "title": "A harbour in the evening sun"}
            await asyncio.wait_for(client.post("/v1/items", json={"items": [new]}), 5)
            async with asyncio.timeout(20):
                while "new" not in service.engine.snapshot.catalog.ids:
                    await asyncio.sleep(0.05)
            version = service.engine.version
            assert service.learning
            assert not forget.done()
        answer = await asyncio.wait_for(forget, 120)
        assert answer.status_code == 200, answer.text
        assert service.engine.version != version
        assert service.engine.live.warm
        assert user not in service.engine.snapshot.user_ids
        assert "new" in service.engine.snapshot.catalog.ids
        best_now = await best(client, k=500)
        assert {first, other} & set(best_now) == set()
        assert {third, "new"} <= set(best_now)
        assert (await client.delete(f"/v1/users/{user}")).status_code == 404

    asked(trained, tmp_path, talk)


def test_what_is_not_told_of_a_hidden_item_stays(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        item = service.engine.snapshot.catalog.ids[0]

        async def put(**columns: object) -> None:
            answer = await client.post("/v1/items", json={"items": [{"item_id": item, **columns}]})
            assert answer.status_code == 200

        await put(hidden=True)
        await put(title="Another name")
        assert (await client.get(f"/v1/items/{item}")).json()["hidden"] is True
        assert item not in await best(client, k=60)
        await asyncio.to_thread(service.catch_up)
        assert item not in await best(client, k=60)
        await put(hidden=False)
        assert item in await best(client, k=60)
        await put(price=3)
        assert (await client.get(f"/v1/items/{item}")).json()["hidden"] is False
        assert (await client.delete(f"/v1/items/{item}")).status_code == 200
        assert item not in await best(client, k=60)
        await put(title="It is back")
        assert item in await best(client, k=60)

    asked(trained, tmp_path, talk)


def test_an_id_is_the_same_however_it_is_written(trained: Path, tmp_path: Path) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        for given, path, name in ((" sp ", "%20sp%20", "sp"), ("e\u0301tude", "e%CC%81tude", "\u00e9tude")):
            for hidden in (False, True, False):
                body = {"items": [{"item_id": given, "title": "A train", "hidden": hidden}]}
                assert (await client.post("/v1/items", json=body)).status_code == 200
                await asyncio.to_thread(service.catch_up)
                assert (name in await best(client, k=90)) is not hidden
            event = {"events": [{"user": f" {name}", "item": given, "kind": "buy"}]}
            assert (await client.post("/v1/events", json=event)).status_code == 200
            assert name not in await best(client, k=90, user=name)
            assert (await client.get(f"/v1/items/{path}")).json()["item_id"] == name
            assert (await client.delete(f"/v1/items/{path}")).status_code == 200
            assert name not in await best(client, k=90)

    asked(trained, tmp_path, talk)


def test_nothing_stays_of_what_an_item_was_before_it_was_dropped_or_of_a_field_that_is_emptied(
    trained: Path, tmp_path: Path
) -> None:
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        table = service.engine.snapshot.catalog
        known = next(
            table.ids[row]
            for row, one in enumerate(table.content["attributes"])
            if one and "price" in one.values  # type: ignore[union-attr]
        )

        async def put(item: str, **columns: object) -> None:
            body = {"items": [{"item_id": item, **columns}]}
            assert (await client.post("/v1/items", json=body)).status_code == 200
            await asyncio.to_thread(service.catch_up)

        async def cheap(item: str) -> bool:
            return item in await best(client, k=90, rules=["price <= 1000"])

        def has(item: str, view: str) -> bool:
            return bool(service.engine.snapshot.views[view].present[service.engine.snapshot.catalog.ids.row(item)])

        for item in ("new", known):
            for cleared in (None, "cheap"):
                await put(item, title="A train in the night", price=7)
                assert await cheap(item)
                await put(item, price=cleared)
                assert not await cheap(item)
                assert has(item, "text")
            await put(item, title="A train in the night", price=7)
            assert (await client.delete(f"/v1/items/{item}")).status_code == 200
            await put(item, title="Quite another thing")
            assert item in await best(client, k=90)
            assert not await cheap(item)
            told = (await client.get(f"/v1/items/{item}")).json()
            assert {name: told[name] for name in told if name != "problem"} == {
                "item_id": item, "title": "Quite another thing", "hidden": False,
            }  # fmt: skip
            assert not has(item, "attributes")
        await put("new", title=None)
        assert not has("new", "text")
        learnt = await client.post("/v1/models/refresh", json={"full": True, "wait": True})
        assert learnt.json()["state"] == "adopted", learnt.text
        assert not await cheap("new")
        assert not await cheap(known)

    asked(trained, tmp_path, talk)


def test_a_problem_of_an_item_outlives_the_process(trained: Path, tmp_path: Path) -> None:
    async def put(client: httpx.AsyncClient, service: Service) -> None:
        odd = [{"item_id": "odd", "title": "A train", "nonsense": "x"}, {"item_id": "even", "title": "A harbour"}]
        assert (await client.post("/v1/items", json={"items": odd})).status_code == 200
        async with asyncio.timeout(20):
            while "odd" not in service.engine.snapshot.catalog.ids:
                await asyncio.sleep(0.05)
        learnt = await client.post("/v1/models/refresh", json={"full": True, "wait": True})  # takes the documents in
        assert learnt.json()["state"] == "adopted", learnt.text

    async def look(client: httpx.AsyncClient, service: Service) -> None:
        assert not service.store.changed("items", service.engine.snapshot.documents)  # none is told anew
        assert "nonsense" in (await client.get("/v1/items/odd")).json()["problem"]
        assert "problem" not in (await client.get("/v1/items/even")).json()
        service.store.put("items", {"odd": {"item_id": "odd", "title": "A train"}})
        await asyncio.to_thread(service.catch_up)
        assert "problem" not in (await client.get("/v1/items/odd")).json()

    asked(trained, tmp_path, put)
    (tmp_path / "again").mkdir()
    asked(tmp_path, tmp_path / "again", look)


def test_strangers_are_kept_out_unless_one_says_so() -> None:
    from sensorium.errors import RecipeError

    with pytest.raises(RecipeError, match=r"TLS.*key"):
        Serving(host="0.0.0.0").checked(False)
    with pytest.raises(RecipeError, match="TLS"):
        Serving(host="0.0.0.0").checked(True)
    Serving(host="0.0.0.0", insecure=True).checked(False)
    Serving().checked(False)
