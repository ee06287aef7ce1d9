"""The package's own client against a running service, waiting and awaited: every call, with what it gives."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import inspect
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sensorium.client import AsyncClient, Client, Refused
from sensorium.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from tests.serve.conftest import Running


class Awaited:
    """AsyncClient, called as if it were not."""

    def __init__(self, url: str, key: str = "", **settings: Any) -> None:
        self.given = url, key, settings

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def asked(*given: Any, **named: Any) -> Any:
            url, key, settings = self.given
            async with AsyncClient(url, key, **settings) as client:
                answer = getattr(client, name)(*given, **named)
                return await answer if inspect.isawaitable(answer) else [one async for one in answer]

        return lambda *given, **named: asyncio.run(asked(*given, **named))

    def close(self) -> None:
        """Each call closed its own."""


@pytest.fixture(params=[Client, Awaited], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Iterator[Any]:
    with contextlib.ExitStack() as made:

        def one(*given: Any, **named: Any) -> Any:
            return made.enter_context(contextlib.closing(request.param(*given, **named)))

        yield one


def test_every_call_gives_what_the_service_has(kind: Any, server: Running) -> None:
    client = kind(server.url, server.key)
    assert client.version() == "000001"
    first = client.recommend(user="ann", k=3)
    assert (len(first.items), first.version, first.items[0].reasons) == (3, "000001", ())
    assert client.observe({"user": "ann", "item": first.items[0].item, "kind": "buy"}) == [1]
    told = client.recommend(user="ann", k=3, explain=True).items
    assert first.items[0].item not in [one.item for one in told]
    assert told[0].base + sum(r.amount for r in told[0].reasons) == pytest.approx(told[0].score, abs=1e-6)
    assert client.observe_all({"user": "bo", "item": f"i{n}", "value": n} for n in range(25)) == 25
    assert [e["item"] for e in client.history("bo", k=3)] == ["i0", "i1", "i2"]
    assert [e["value"] for e in client.history("bo", after=24)] == [23, 24]
    things = [{"item_id": f"a/b {n}", "title": "a slow train through snow", "price": n} for n in range(3)]
    assert client.put_items(things) == 3
    assert [one["item_id"] for one in client.items()] == ["a/b 0", "a/b 1", "a/b 2"]
    begin = time.monotonic()
    while "a/b 2" not in [m.item for m in client.search("a slow train through snow", k=10)]:
        assert time.monotonic() - begin < 20
        time.sleep(0.05)
    assert client.put_items([{"item_id": "plain", "title": "x"}]) == 1
    assert client.item("plain")["title"] == "x"
    client.drop_item("plain")
    with pytest.raises(Refused, match="404: no item 'plain'"):
        client.item("plain")
    assert "plain" not in [one["item_id"] for one in client.items()]
    client.forget("bo")
    assert client.history("bo") == []


def test_wishes_pictures_and_rules_reach_the_service(kind: Any, server: Running) -> None:
    client = kind(server.url, server.key)
    user = server.service.engine.snapshot.user_ids[0]
    plain = client.recommend(user=user, k=5).items
    assert {one.propensity for one in plain} == {1.0}
    pinned = client.recommend(user=user, k=5, pins={plain[4].item: 1}, exploration=0.9, seed=4, caps={"form": 3}).items
    assert (pinned[0].item, pinned[0].source) == (plain[4].item, "pinned")
    assert all(one.propensity < 1 for one in pinned[1:])
    boosted = client.recommend(user=user, k=1, boosts={"form=song": 10.0}, explain=True).items[0]
    assert boosted.reasons[-1].source == "boost"
    why = client.explain(plain[2].item, user=user)
    assert (why.place, why.barred, why.title) == (3, (), plain[2].title)
    assert client.explain(plain[2].item, user=user, exclude=[plain[2].item]).place is None
    near = client.similar(plain[0].item, k=3)
    assert [one.item for one in near.items] == [one.item for one in client.recommend(like=[plain[0].item], k=3).items]
    with (server.folder / "world" / "items.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["image"])
    picture = (server.folder / "world" / row["image"]).read_bytes()
    assert row["item_id"] in [one.item for one in client.search_picture(picture, "image/png", k=3)]
    mark = client.upload("new/1", "image", picture, "image/png")
    assert client.put_items([{"item_id": "new/1", "title": "x"}]) == 1
    assert client.item("new/1")["image"] == mark
    assert client.put_rules({"rules": ["form=song"]}) == 1
    assert client.rules()["rules"] == ["form=song"]
    assert client.person(user)["learnt"] > 0


def test_versions_are_told_learnt_and_gone_back_to(kind: Any, server: Running) -> None:
    client = kind(server.url, server.key, timeout_seconds=120)
    told = client.models()
    assert (told.version, told.waiting, told.learning, told.held) == ("000001", 0, False, None)
    assert [(one.name, one.why, one.kept) for one in told.versions] == [("000001", "train", True)]
    item = server.service.engine.snapshot.catalog.ids[0]
    client.observe([{"user": "ann", "item": item}] * 3)
    learnt = client.refresh(full=True, wait=True)
    assert learnt.state == "adopted", learnt
    assert (learnt.version, learnt.reasons) == ("000002", ())
    assert client.rollback().restores == "000001"
    assert client.models().held is not None
    assert client.refresh().state == "begun"
    assert client.rollback(to="000002").version == client.version()
    with pytest.raises(Refused, match="999999"):
        client.rollback(to="999999")


def test_keys_are_made_told_and_dropped(kind: Any, server: Running) -> None:
    client = kind(server.url, server.key)
    key = client.make_key("shop", "write", ["events", "items"])
    assert kind(server.url, key).observe({"user": "a", "item": "b"}) == [1]
    with pytest.raises(Refused, match="403: this key"):
        kind(server.url, key).keys()
    told = client.keys()
    assert [(one.name, one.role, one.groups, one.until) for one in told] == [
        ("shop", "write", ("events", "items"), None)
    ]
    with pytest.raises(Refused, match="409: a key named"):
        client.make_key("shop", "read")
    other = client.rotate_key("shop", 60)
    assert other != key
    assert kind(server.url, other).observe({"user": "a", "item": "b"}) == [2]
    client.drop_key("shop")
    assert client.keys() == ()


def test_experiments_and_bandits_are_begun_told_and_ended(kind: Any, server: Running) -> None:
    client = kind(server.url, server.key)
    arms = [{"name": "as-now"}, {"name": "more", "wishes": {"diversity": 0.4}}]
    assert client.begin_experiment(name="variety", arms=arms, window_seconds=60).control == "as-now"
    shown = client.recommend(user="ann", k=3)
    client.observe({"user": "ann", "item": shown.items[0].item, "kind": "buy", "recommendation": shown.id})
    assert client.share_experiment("variety", {"as-now": 3, "more": 1}, 0.5).traffic == 0.5
    assert [one.name for one in client.experiments()] == ["variety"]
    assert client.experiment("variety").ended is None
    ended = client.stop_experiment("variety", "as-now")
    assert (ended.kept, ended.why) == ("as-now", "stopped")
    assert client.put_bandit(name="from", arms=arms, least=0.1).kind == "beta"
    assert [arm["name"] for arm in client.bandit("from").arms] == ["as-now", "more"]
    assert [one.name for one in client.bandits()] == ["from"]
    client.drop_bandit("from")
    with pytest.raises(Refused, match="404: no bandit 'from'"):
        client.bandit("from")


def test_what_sent_twice_would_do_something_else_is_sent_once(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ReadError("the answer was lost")

    for name in ("Client", "AsyncClient"):
        monkeypatch.setattr(httpx, name, partial(getattr(httpx, name), transport=httpx.MockTransport(answer)))
    with pytest.raises(Refused, match="cannot be reached"):
        kind("http://there").rollback()
    assert asked == ["/v1/models/rollback"]


def test_every_call_is_there_for_both() -> None:
    named = [{name for name in vars(kind) if not name.startswith("_")} for kind in (Client, AsyncClient)]
    assert named[0] == named[1]


def test_a_refusal_is_the_services_own_line(kind: Any, server: Running) -> None:
    with pytest.raises(Refused) as refused:
        kind(server.url, "not a key").recommend()
    assert refused.value.status == 401
    with pytest.raises(Refused, match="400: rule 'price<'"):
        kind(server.url, server.key).recommend(rules=["price<"])
    with pytest.raises(Refused, match="cannot be reached"):
        kind("http://127.0.0.1:9", tries=1).version()


def test_a_busy_service_is_asked_again_and_an_event_is_stored_once(kind: Any, monkeypatch: Any) -> None:
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        if len(asked) == 1:
            raise httpx.ReadError("the answer was lost")
        if len(asked) == 2:
            return httpx.Response(503, json={"error": "busy"}, headers={"retry-after": "0"})
        return httpx.Response(200, json={"positions": [1], "more": "than this client knows"})

    for name in ("Client", "AsyncClient"):
        real = getattr(httpx, name)
        monkeypatch.setattr(httpx, name, partial(real, transport=httpx.MockTransport(answer)))
    assert kind("http://there").observe({"user": "a", "item": "b"}) == [1]
    assert len(asked) == 3
    assert len(set(asked)) == 1  # the same key
    assert b'"key"' in asked[0]
    asked[:] = [b"", b""]
    with pytest.raises(Refused, match="no answer that could be read"):
        kind("http://there").recommend()


def test_events_come_one_by_one_or_as_a_list_and_what_is_no_number_is_told(kind: Any, server: Running) -> None:
    client = kind(server.url, server.key)
    one, other = {"user": "listed", "item": "i1"}, {"user": "listed", "item": "i2"}
    assert client.observe([one, other]) == [1, 2]
    assert client.observe(one, [other], iter([one])) == [3, 4, 5]
    for wrong in (float("nan"), float("inf")):
        for call in (client.observe, client.observe_all):
            with pytest.raises(DataError, match=f"event of user 'listed': value {wrong} must be a finite number"):
                call([one | {"value": wrong}])
    with pytest.raises(DataError, match="event 'user': give user and item"):
        client.observe(["user"])
    with pytest.raises(DataError, match="must be plain JSON"):
        client.put_items([{"item_id": "x", "price": float("nan")}])
    assert len(client.history("listed")) == 5


def test_the_client_is_light_and_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, sensorium.client; print(sorted({'numpy', 'httpx', 'fastapi', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"sensorium\[client\]"):
        Client("http://there")
