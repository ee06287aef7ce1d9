"""Learning beside answering: what is learnt, what survives, what is refused, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sensorium import snapshot as snapshots
from sensorium.checks.worlds import write_demo
from sensorium.data.catalog import Catalog
from sensorium.data.ids import Ids
from sensorium.engine import Engine
from sensorium.errors import SnapshotError
from sensorium.serve.app import Serving, application
from sensorium.serve.learning import Learning, Schedule
from sensorium.serve.service import Service

Talk = Callable[[httpx.AsyncClient, Service], Awaitable[None]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learning")
    write_demo(folder / "world", items=60, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "itemknn"\n'
    (folder / "world" / "near.toml").write_text(recipe)
    Engine.train(folder / "world" / "near.toml", out=folder / "run", cache=folder / "cache").close()
    return folder


@pytest.fixture
def asked(trained: Path, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A talk with a service over a copy of the run; a second talk finds it as the first left it."""
    shutil.copytree(trained / "run", tmp_path / "run")

    def held(talk: Talk, schedule: Schedule | None = None) -> None:
        async def whole() -> None:
            service = Service(tmp_path / "run", cache=trained / "cache", schedule=schedule)
            app = application(service, Serving())
            await service.begin()
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=120) as client:
                try:
                    await talk(client, service)
                finally:
                    await service.end()

        asyncio.run(whole())

    yield held
    assert not list((tmp_path / "run" / "snapshots").glob(".*")), "a candidate was left behind"


async def best(client: httpx.AsyncClient, **ask: object) -> list[str]:
    answer = await client.post("/v1/recommend", json=ask)
    assert answer.status_code == 200, answer.text
    return [one["item"] for one in answer.json()["items"]]


async def sent(client: httpx.AsyncClient, path: str, **body: object) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def doings(service: Service, count: int, shift: int = 0) -> list[dict[str, object]]:
    """Everybody looks at some items, one after the other."""
    ids, people = service.engine.snapshot.catalog.ids, service.engine.snapshot.user_ids
    last = float(service.engine.snapshot.events.time[-1])
    return [
        {"user": people[n % 40], "item": ids[(7 * n + shift) % 60], "kind": "view", "time": last + n} for n in range(count)
    ]  # fmt: skip


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("full", [False, True])
def test_a_version_is_learnt_beside_and_what_was_told_survives_it_and_the_way_back(asked, full: bool) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        gone = service.engine.snapshot.catalog.ids[11]
        await sent(client, "/v1/items", items=[{"item_id": "new", "title": "A harbour in the evening sun"}])
        assert (await client.delete(f"/v1/items/{gone}")).status_code == 200
        await until(lambda: "new" in service.engine.snapshot.catalog.ids)
        await sent(client, "/v1/events", events=[*doings(service, 90), {"user": "p1", "item": "new", "kind": "view"}])
        learning = asyncio.create_task(sent(client, "/v1/models/refresh", full=full, wait=True))
        answers = 0
        while not learning.done():  # answers go on meanwhile
            assert len(await best(client, user=service.engine.snapshot.user_ids[answers % 40], k=5)) == 5
            answers += 1
        assert (await learning)["state"] == "adopted", service.learner.last
        assert answers > 5
        told = (await client.get("/v1/models")).json()
        assert told["version"] == "000002"
        assert [one["why"] for one in told["versions"]] == ["train", "refresh" if full else "update"]
        assert told["position"] == 73  # of 91 events a fifth, 18, was kept to be asked for
        assert told["waiting"] == 18
        assert told["versions"][1]["figures"]["ndcg"]["people"] > 0
        assert gone not in await best(client, k=60)
        assert "new" in await best(client, like=[gone], k=60)
        back = await sent(client, "/v1/models/rollback")
        assert back == {"version": "000003", "restores": "000001"}
        assert service.engine.snapshot.position == 0
        assert gone not in await best(client, k=60)
        assert "new" in await best(client, like=[gone], k=60)
        told = (await client.get("/v1/models")).json()
        assert [one["state"] for one in told["versions"]] == ["kept", "withdrawn", "kept"]
        assert "rollback from 000002 to 000001" in told["held"]["why"]
        await sent(client, "/v1/events", events=doings(service, 700, shift=1))
        service.learner.schedule = Schedule(0.001, 1)
        assert service.learner._due() is None  # what was gone back from is not learnt anew
        assert (await sent(client, "/v1/models/refresh", wait=True))["state"] == "adopted"
        assert service.engine.versions().held is None
        assert service.learner._due() is not None

    async def again(client: httpx.AsyncClient, service: Service) -> None:
        assert service.engine.snapshot.documents > 0  # what was written holds the documents: none is encoded again
        assert service.catch_up() == 0
        assert "new" in await best(client, k=60)

    asked(talk)
    asked(again)


def test_it_learns_by_itself_after_events_and_after_seconds(asked) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        await sent(client, "/v1/events", events=doings(service, 60))
        await until(lambda: service.engine.version == "000002")
        assert service.engine.snapshot.position == 48

    asked(talk, Schedule(every_seconds=5.0, after_events=50))


def test_the_schedule(asked, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        now = [0.0]
        learning = Learning(service, Schedule(300, 500), clock=lambda: now[0])
        now[0] = 10_000.0
        assert learning._due() is None  # nothing happened
        await sent(client, "/v1/events", events=doings(service, 1))
        assert learning._due() is False
        learning._tried = 9_800.0
        assert learning._due() is None  # too soon for one event …
        await sent(client, "/v1/events", events=doings(service, 499))
        now[0] = 9_829.0
        assert learning._due() is None  # … for 500, too, within a tenth of the time …
        now[0] = 9_831.0
        drift = {"items": 0.2, "kinds": 0.2}
        monkeypatch.setattr(service.engine, "drift", lambda: drift)
        assert learning._due() is False
        drift["items"] = 0.3
        assert learning._due() is True  # what people do is something else now
        drift["items"] = 0.0
        learning.schedule = Schedule(300, 500, full_seconds=1e-6)
        assert learning._due() is True
        learning.schedule = Schedule(0, 500)
        assert learning._due() is None
        learning.close()

    asked(talk)


BAD = {
    "emptied": lambda s: replace(s, hidden=tuple(range(60))),
    "another recipe": lambda s: replace(s, recipe=s.recipe.replace("itemknn", "popularity")),
    "behind": lambda s: replace(s, position=-5),
    "without people": lambda s: replace(s, events=s.events.take(s.events.user > 5)),
}


def test_a_bad_one_is_refused_and_answers_go_on(asked, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        engine = service.engine
        await sent(client, "/v1/events", events=doings(service, 20))
        before = [await best(client, user=user, k=5) for user in engine.snapshot.user_ids]
        for kind, spoil in BAD.items():

            def wrong(words: Mapping[str, Any], doing: str, turn: int, spoil: Any = spoil) -> str:
                place = Path(words["place"])
                _, version = engine.candidate(place)
                shutil.rmtree(place)
                snapshots.write(spoil(replace(engine.snapshot, position=16)), place)
                verdict = engine.judge(place)
                state = "kept" if verdict.passed else "refused"
                return json.dumps(asdict(replace(version, state=state, reasons=verdict.reasons)))

            monkeypatch.setattr(service.learner, "_process", wrong)
            ended = await sent(client, "/v1/models/refresh", wait=True)
            assert ended["state"] == "refused", kind
            assert ended["reasons"]
            assert [await best(client, user=user, k=5) for user in engine.snapshot.user_ids] == before
        told = (await client.get("/v1/models")).json()
        assert told["version"] == "000001"
        assert [one["state"] for one in told["versions"]] == ["kept", *["refused"] * len(BAD)]
        assert all(one["reasons"] for one in told["versions"][1:])
        service.learner.schedule = Schedule(1e-9, 1)
        assert service.learner._due() is True  # after a refusal, all is learnt anew

    asked(talk)


def test_one_that_fails_says_so_in_one_line(asked, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("sensorium.serve.learning.tell", lambda event, level, **told: lines.append((event, told)))

    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        manifest = service.engine.folder / "snapshots" / "000001" / "manifest.json"  # type: ignore[operator]
        whole = manifest.read_text()
        manifest.write_text("{}")
        answer = await client.post("/v1/models/refresh", json={"wait": True})
        assert answer.status_code == 500
        assert answer.json()["error"].startswith("nothing was learnt: learning failed: ")
        assert "damaged" in answer.json()["error"]
        ended = (await client.get("/v1/models")).json()["last"]
        assert ended["state"] == "failed"
        assert "\n" not in ended["why"]
        assert str(service.engine.folder) not in answer.text + ended["why"]
        assert [(one, told["state"]) for one, told in lines] == [("learnt", "failed")]
        assert str(service.engine.folder) not in str(lines)
        assert len(await best(client, k=5)) == 5
        manifest.write_text(whole)

    asked(talk)


def test_one_that_is_given_up_or_left_to_another_process_is_a_conflict(asked) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        waiting = asyncio.create_task(client.post("/v1/models/refresh", json={"wait": True, "full": True}))
        await until(lambda: service.learner._child is not None)
        second = await client.post("/v1/models/refresh", json={"wait": True})
        assert (second.status_code, "already" in second.json()["error"]) == (409, True)
        assert (await client.post("/v1/models/refresh", json={})).json() == {"state": "busy"}
        service.learner.stop()
        answer = await waiting
        assert (answer.status_code, answer.json()["error"][:29]) == (409, "nothing was learnt: given up,")
        with service.engine.learning():
            answer = await client.post("/v1/models/refresh", json={"wait": True})
        assert (answer.status_code, "another process" in answer.json()["error"]) == (409, True)
        described = (await client.get("/openapi.json")).json()["paths"]["/v1/models/refresh"]["post"]["responses"]
        assert {"200", "409", "500"} <= described.keys()

    asked(talk)


def test_who_is_forgotten_is_in_nothing_that_was_being_learnt(asked, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        await sent(
            client, "/v1/events", events=[*doings(service, 40), {"user": "Melpomene", "item": "x", "kind": "view"}]
        )
        await sent(client, "/v1/models/refresh", full=True)
        await until(lambda: service.learner._child is not None)
        assert (await client.delete("/v1/users/Melpomene")).status_code == 200
        await until(lambda: not service.learner.busy)
        assert service.learner.last["state"] == "left"
        assert "somebody was forgotten" in service.learner.last["why"]
        assert service.engine.version == "000002"
        for file in (tmp_path / "run").rglob("*"):
            assert file.is_dir() or b"Melpomene" not in file.read_bytes(), file

    asked(talk)


def test_a_changed_item_is_encoded_again_and_what_is_not_told_stays(asked) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        live = service.engine.live
        name = live.catalog.ids[20]
        before = live.snapshot
        facts = before.catalog.content["attributes"][20]
        await sent(client, "/v1/items", items=[{"item_id": name, "title": "An owl in a frozen observatory"}])
        await until(lambda: service.engine.snapshot.documents > 0)
        after = service.engine.snapshot
        assert after.catalog.ids.row(name) == 20
        assert (after.views["text"].values[20] != before.views["text"].values[20]).any()
        assert (after.views["text"].values[:20] == before.views["text"].values[:20]).all()
        assert (after.views["attributes"].values == before.views["attributes"].values).all()
        assert after.catalog.content["attributes"][20] == facts
        assert after.catalog.title(20) == "An owl in a frozen observatory"
        found = await sent(client, "/v1/search", words="an owl in a frozen observatory", k=5)
        assert name in [one["item"] for one in found["items"]]
        await sent(client, "/v1/items", items=[{"item_id": name, "hidden": True}])  # tells nothing of what it is
        assert service.engine.snapshot.catalog.title(20) == "An owl in a frozen observatory"
        assert name not in await best(client, k=60)
        await sent(client, "/v1/events", events=doings(service, 30))
        assert (await sent(client, "/v1/models/refresh", full=True, wait=True))["state"] == "adopted", (
            service.learner.last
        )
        assert service.engine.snapshot.catalog.title(20) == "An owl in a frozen observatory"
        assert name not in await best(client, k=60)

    asked(talk)


def test_what_was_taken_back_is_gone_with_the_next_full_refresh(asked) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        engine = service.engine
        user, item = engine.snapshot.user_ids[3], engine.snapshot.catalog.ids[4]
        many = [{"user": user, "item": item, "kind": "buy"}] * 3
        await sent(client, "/v1/events", events=[*many, *doings(service, 60, shift=2)])
        assert (await sent(client, "/v1/models/refresh", wait=True))["state"] == "adopted", service.learner.last

        def learnt() -> int:
            events = engine.snapshot.events
            return int(((events.user == 3) & (events.item == 4) & (events.kind == events.kinds.index("buy"))).sum())

        own = learnt() - 3
        assert own >= 0
        assert (await client.delete(f"/api/feedback/buy/{user}/{item}")).status_code == 200
        assert (await sent(client, "/v1/models/refresh", full=True, wait=True))["state"] == "adopted", (
            service.learner.last
        )
        assert learnt() == own
        engine.refresh()
        assert learnt() == own
        assert len(engine.snapshot.events) == len(engine.store.read()) + int((engine.snapshot.events.logged == 0).sum())  # type: ignore[union-attr]

    asked(talk)


def test_a_version_made_meanwhile_is_not_overrun(asked) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        engine = service.engine
        place = engine.folder / "snapshots" / ".candidate"  # type: ignore[operator]
        _, version = engine.candidate(place)
        engine.hide(engine.snapshot.catalog.ids[0])
        with pytest.raises(SnapshotError, match="no longer answers"):
            engine.adopt(place, version)
        shutil.rmtree(place)

    asked(talk)


def test_another_process_is_followed_and_keeps_what_was_told_here(asked, trained: Path) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        await sent(client, "/v1/items", items=[{"item_id": "new", "title": "A harbour in the evening sun"}])
        await until(lambda: "new" in service.engine.snapshot.catalog.ids)
        other = Engine.open(service.engine.folder, cache=trained / "cache")  # type: ignore[arg-type]
        name = other.snapshot.catalog.ids[9]
        other.hide(name)
        other.add(Catalog(Ids(["theirs"]), {}))
        other.close()
        await until(lambda: service.engine.version == "000003")
        shown = await best(client, k=100)
        assert "new" in shown
        assert "theirs" in service.engine.snapshot.catalog.ids
        assert name not in shown

    asked(talk)


def test_there_must_be_something_to_go_back_to(asked) -> None:  # type: ignore[no-untyped-def]
    async def talk(client: httpx.AsyncClient, service: Service) -> None:
        for body in ({}, {"to": "000009"}, {"to": "../.."}):
            answer = await client.post("/v1/models/rollback", json=body)
            assert answer.status_code == 404
            assert answer.json()["error"].startswith("no version")
        assert service.engine.version == "000001"
        assert service.engine.versions().held is None

    asked(talk)


def test_histories_and_names_that_are_damaged_are_told_or_made_anew(asked, tmp_path: Path, trained: Path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    engine = Engine.open(run, cache=trained / "cache")
    for row in range(6):
        engine.hide(engine.snapshot.catalog.ids[row])
    assert engine.kept() == [f"00000{n}" for n in range(3, 8)]
    assert [one.why for one in engine.versions().versions] == ["train", *["hide"] * 6]
    (run / "versions.json").write_text((run / "versions.json").read_text().replace("hide", "hidE"))
    assert [one.why for one in engine.versions().versions] == ["found"] * 5
    (run / "current").write_text("000006 " + (run / "current").read_text().split()[1])
    with pytest.raises(SnapshotError, match="sensorium rollback"):
        Engine.open(run)
    Engine.mend(run, "000006")
    with contextlib.closing(Engine.open(run)) as again:
        assert again.version == "000006"
        assert len(again.snapshot.hidden) == 5
    with pytest.raises(SnapshotError, match="no version"):
        Engine.mend(run, "000001")
    engine.close()
