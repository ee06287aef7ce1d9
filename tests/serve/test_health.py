"""Live and ready: while it starts, while the store cannot write, while more is asked than can be answered."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.serve.conftest import running
from tests.serve.test_gorse import until

from sensorium.feedback.log import Log
from sensorium.serve import service as serving
from sensorium.serve.service import Service

if TYPE_CHECKING:
    from tests.serve.conftest import Running

EVENT = {"events": [{"user": "ann", "item": "x", "text": "y" * 4000}]}


def ready(url: str, key: str = "") -> httpx.Response:
    return httpx.get(f"{url}/health/ready", headers={"X-API-Key": key} if key else {}, timeout=10)


def test_it_is_live_at_once_and_ready_when_it_has_caught_up(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world / "run", tmp_path / "run")
    gate, real = threading.Event(), Service.catch_up

    def waiting(self: Service) -> int:
        gate.wait(30)
        return real(self)

    monkeypatch.setattr(Service, "catch_up", waiting)
    with running(world, tmp_path / "run") as server:
        assert httpx.get(f"{server.url}/health/live").json() == {"live": True}
        starting = ready(server.url)
        assert (starting.status_code, starting.json()) == (503, {"ready": False})
        assert starting.headers["retry-after"] == "1"
        assert httpx.get(f"{server.url}/api/health/ready").status_code == 503
        with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}) as web:
            assert len(web.post("/v1/recommend", json={"k": 3}).json()["items"]) == 3  # what is there is answered
            put = web.post("/v1/items", json={"items": [{"item_id": "early", "title": "before it was ready"}]})
            assert put.status_code == 200
        gate.set()
        until(lambda: ready(server.url).status_code == 200)
        until(lambda: "early" in server.service.engine.snapshot.catalog.ids)  # and was not missed


def test_whoever_looks_may_ask_for_the_head_alone(server: Running) -> None:
    until(lambda: ready(server.url).status_code == 200)
    for path in ("/health/live", "/health/ready", "/api/health/live"):
        answer, whole = httpx.head(server.url + path), httpx.get(server.url + path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(whole.content))
    assert httpx.head(f"{server.url}/v1/models", headers={"X-API-Key": server.key}).status_code == 405


def test_detail_is_for_keys(server: Running) -> None:
    until(lambda: ready(server.url).status_code == 200)
    assert ready(server.url).json() == ready(server.url, "wrong key").json() == {"ready": True}
    told = ready(server.url, server.key).json()
    assert told["version"] == "000001"
    assert told["tenants"]["run"] == {
        "version": "000001", "started": True, "writes": True, "learning": False, "waiting": 0, "degraded": [],
    }  # fmt: skip


def test_a_full_store_is_not_ready_but_reads_go_on(server: Running) -> None:
    until(lambda: ready(server.url).status_code == 200)
    store: Any = server.service.store
    pages = store._base.execute("PRAGMA page_count").fetchone()[0]
    store._base.execute(f"PRAGMA max_page_count = {pages + 2}")  # as a disk that is full
    stored = 0
    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=20) as web:
        for _ in range(20):
            answer = web.post("/v1/events", json=EVENT)
            if answer.status_code != 200:
                break
            stored += 1
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert "cannot be used" in answer.json()["error"]
        assert str(server.service.engine.folder) not in answer.text
        until(lambda: ready(server.url).status_code == 503, 2)
        time.sleep(1.5)  # it was tried meanwhile
        assert ready(server.url, server.key).json()["tenants"]["run"]["writes"] is False
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        assert len(web.post("/v1/recommend", json={"user": "ann", "k": 3}).json()["items"]) == 3
        assert len(web.get("/v1/users/ann/events").json()["events"]) == stored
        failed = [line for line in web.get("/metrics").text.splitlines() if line.startswith("sensorium_commits_failed")]
        assert float(failed[0].split()[-1]) >= 1
        store._base.execute(f"PRAGMA max_page_count = {2**30}")
        until(lambda: ready(server.url).status_code == 200, 10)
        assert web.post("/v1/events", json=EVENT).status_code == 200


def test_a_flood_is_sent_back_and_what_is_cheap_goes_on(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "QUEUE", 16)
    real = server.service.engine.recommend

    def slow(**ask: Any) -> Any:
        time.sleep(0.05)
        return real(**ask)

    monkeypatch.setattr(server.service.engine, "recommend", slow)

    async def flood() -> tuple[list[httpx.Response], list[tuple[httpx.Response, float]]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=server.url, headers={"X-API-Key": server.key}, timeout=60, limits=limits
        ) as web:

            async def timed(path: str, **more: Any) -> tuple[httpx.Response, float]:
                begin = time.monotonic()
                answer = await (web.post(path, **more) if more else web.get(path))
                return answer, time.monotonic() - begin

            asked = [asyncio.create_task(web.post("/v1/recommend", json={"k": 3})) for _ in range(150)]
            beside = []
            for _ in range(5):
                beside.append(await timed("/health/live"))
                beside.append(await timed("/health/ready"))
                beside.append(await timed("/v1/events", json={"events": [{"user": "bo", "item": "x"}]}))
            return await asyncio.gather(*asked), beside

    answers, beside = asyncio.run(flood())
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 16
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert "wait" in answer.json()["error"]
    assert [answer.status_code for answer, _ in beside] == [200] * 15
    assert max(took for _, took in beside) < 5
    assert len(server.service.store.read(user="bo")) == 5
    again = httpx.post(f"{server.url}/v1/recommend", json={}, headers={"X-API-Key": server.key})
    assert again.status_code == 200


def test_the_end_waits_no_longer_than_told_and_events_are_written_first(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "run", tmp_path / "run")
    gate = threading.Event()

    async def held() -> tuple[bool, list[int], float]:
        service = Service(tmp_path / "run", cache=world / "cache")
        await service.begin()
        training = asyncio.create_task(service.slow(lambda: gate.wait(60)))  # as a training that goes on
        noted = asyncio.create_task(service.observe([{"user": "ann", "item": "x"}]))
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        whole = await service.end(0.5)
        took = time.monotonic() - begin
        gate.set()
        await training
        return whole, await noted, took

    whole, positions, took = asyncio.run(held())
    assert (whole, positions) == (False, [1])
    assert took < 3
    with Log(tmp_path / "run" / "log.sqlite") as log:
        assert [entry.user for entry in log.read()] == ["ann"]
