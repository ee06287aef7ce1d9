"""A service whose encoder hangs or is missing: new items come with what there is, it says so, and makes good later."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.serve.test_gorse import until

from sensorium.encode.text import MultilingualEncoder
from sensorium.errors import MissingExtra
from sensorium.serve import service as serving

if TYPE_CHECKING:
    from tests.serve.conftest import Running


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The text encoder does first what `before` says."""
    switch: dict[str, Any] = {"before": lambda: None, "gate": threading.Event()}
    real = MultilingualEncoder.encode

    def encode(self: Any, contents: Any) -> Any:
        switch["before"]()
        return real(self, contents)

    monkeypatch.setattr(MultilingualEncoder, "encode", encode)
    monkeypatch.setattr(serving, "RETRY_SECONDS", (0.3, 1.0))
    yield switch
    switch["gate"].set()


def missing() -> None:
    raise MissingExtra("onnxruntime", "text")


@pytest.mark.parametrize("way", ["hangs", "is missing"])
def test_a_lost_encoder_is_a_mask_and_is_made_good(broken: dict[str, Any], server: Running, way: str) -> None:
    server.service.engine.wait_at_most(2.0)
    before: Callable[[], Any] = broken["gate"].wait if way == "hangs" else missing
    with (server.folder / "world" / "items.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["title"] and r["description"])
    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=20) as web:

        def best(**ask: Any) -> dict[str, Any]:
            return web.post("/v1/recommend", json={"k": 100, **ask}).raise_for_status().json()

        def told() -> str:
            return " ".join(one for one in best(like=[row["item_id"]])["notes"])

        assert "encoder" not in told()
        broken["before"] = before
        for name in ("twin", "other"):
            put = {
                "item_id": name,
                "title": row["title"] + f" of which nobody heard where it {way}",
                "description": row["description"],
            }
            web.post("/v1/items", json={"items": [put]}).raise_for_status()
        until(lambda: {"twin", "other"} <= {one["item"] for one in best()["items"]})
        assert "the text encoder" in told()
        assert "2 new items" in told()
        assert "text encoder" in web.get("/v1/items/twin").json()["problem"]
        state = next(iter(web.get("/health/ready").raise_for_status().json()["tenants"].values()))
        assert "2 new items" in state["degraded"][0]
        assert "sensorium_items_degraded" in web.get("/metrics").text
        begin = time.monotonic()
        search = web.post("/v1/search", json={"words": f"nobody searched where it {way}"})
        assert (search.status_code, time.monotonic() - begin < 5) == (503, True)
        assert "retry-after" in search.headers
        begin = time.monotonic()  # what needs no encoder goes on
        assert web.post("/v1/events", json={"events": [{"user": "ann", "item": "twin"}]}).status_code == 200
        assert web.delete("/v1/items/other").status_code == 200
        assert "other" not in [one["item"] for one in best()["items"]]
        assert time.monotonic() - begin < 5
        view = server.service.engine.snapshot.views["text"]
        twin = server.service.engine.snapshot.catalog.ids.row("twin")
        assert not view.present[twin]

        broken["before"] = lambda: None
        broken["gate"].set()
        until(lambda: "encoder" not in told())
        live = server.service.engine.live
        assert live.snapshot.catalog.ids.row("twin") == twin  # no row moved
        assert live.snapshot.views["text"].present[twin]
        assert live.snapshot.catalog.ids.row("other") in live.hidden
        assert best(like=[row["item_id"]])["items"][0]["item"] == "twin"
        assert "problem" not in web.get("/v1/items/twin").json()
        until(lambda: web.post("/v1/search", json={"words": "what nobody searched for"}).status_code == 200)


def test_a_refresh_needs_nothing_made_good(broken: dict[str, Any], server: Running) -> None:
    engine = server.service.engine
    engine.wait_at_most(2.0)
    broken["before"] = missing
    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=20) as web:
        web.post("/v1/items", json={"items": [{"item_id": "late", "title": "never said before"}]}).raise_for_status()
        until(lambda: "late" in engine.lacking)
        broken["before"] = lambda: None
        engine.refresh()
        assert engine.lacking == {}
        assert engine.snapshot.views["text"].present[engine.snapshot.catalog.ids.row("late")]
        assert engine.complete() == 0
