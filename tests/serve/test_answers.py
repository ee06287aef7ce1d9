"""What an answer can be asked for, over HTTP: each wish against what the run itself says."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Running, running


@pytest.fixture(scope="module")
def served(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("answers")
    shutil.copytree(world / "run", folder / "run")
    with running(world, folder / "run") as it:
        it.service.places = replace(it.service.places, media=world / "world")
        yield it


@pytest.fixture(scope="module")
def client(served: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers={"X-API-Key": served.key}, timeout=60) as it:
        yield it


@pytest.fixture(scope="module")
def items(world: Path) -> dict[str, dict[str, str]]:
    with (world / "world" / "items.csv").open() as file:
        return {row["item_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def user(served: Running) -> str:
    return served.service.engine.snapshot.user_ids[0]


def until(there: Callable[[], bool], seconds: float = 20) -> None:
    begin = time.monotonic()
    while not there():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)


def ask(client: httpx.Client, path: str = "/v1/recommend", **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_boost_adds_deviations_and_is_a_reason(client: httpx.Client, user: str, items: Any) -> None:
    rule, everything = "form=song", {"user": user, "k": 1000, "explain": True}
    plain = {one["item"]: one["score"] for one in ask(client, **everything)["items"]}
    told = ask(client, **everything, boosts={rule: 2.0})["items"]
    mean = sum(plain.values()) / len(plain)
    deviation = (sum((score - mean) ** 2 for score in plain.values()) / len(plain)) ** 0.5
    for one in told:
        added = 2 * deviation if items[one["item"]]["form"] == "song" else 0.0
        assert one["score"] == pytest.approx(plain[one["item"]] + added, rel=1e-3, abs=1e-5)
        assert one["base"] + sum(r["amount"] for r in one["reasons"]) == pytest.approx(one["score"], abs=1e-5)
        assert [r["title"] for r in one["reasons"] if r["source"] == "boost"] == ([rule] if added else [])


def test_pins_caps_and_rules_together(client: httpx.Client, user: str, items: Any) -> None:
    last = ask(client, user=user, k=1000)["items"][-1]["item"]
    told = ask(client, user=user, k=6, pins={last: 2}, caps={"form": 2})["items"]
    assert (told[1]["item"], told[1]["source"], told[1]["propensity"]) == (last, "pinned", 1.0)
    assert max(Counter(items[one["item"]]["form"] for one in told).values()) == 2
    form = items[last]["form"]
    against = ask(client, user=user, k=3, pins={last: 1}, rules=[f"form!={form}"])
    assert last not in [one["item"] for one in against["items"]]
    assert any("pinned" in note for note in against["notes"])
    assert client.post("/v1/recommend", json={"k": 2, "pins": {last: 3}}).status_code == 400
    assert "did you mean 'form'" in client.post("/v1/recommend", json={"caps": {"forn": 2}}).json()["error"]


def test_exploration_tells_propensities_and_obeys_its_seed(client: httpx.Client, user: str) -> None:
    one, again, other = (ask(client, user=user, k=10, exploration=0.5, seed=seed)["items"] for seed in (1, 1, 2))
    assert one == again != other
    assert {item["source"] for item in one} > {"explored"}
    assert all(0 < item["propensity"] <= 1 for item in one)
    plain = ask(client, user=user, k=10)["items"]
    assert {item["propensity"] for item in plain} == {1.0}
    lists = {tuple(i["item"] for i in ask(client, user=user, exploration=1.0)["items"]) for _ in range(4)}
    assert len(lists) > 1  # without a seed chance is new each time


def test_a_modality_that_does_not_count_carries_nothing(client: httpx.Client, user: str) -> None:
    plain = ask(client, user=user, k=20, explain=True)["items"]
    sources = {reason["source"] for one in plain for reason in one["reasons"]}
    assert {"audio", "text"} <= sources
    told = ask(client, user=user, k=20, explain=True, modalities={"audio": 0.0, "text": 3.0})
    assert "audio" not in {reason["source"] for one in told["items"] for reason in one["reasons"] if reason["amount"]}
    assert [one["item"] for one in told["items"]] != [one["item"] for one in plain]
    for one in told["items"]:
        assert one["base"] + sum(r["amount"] for r in one["reasons"]) == pytest.approx(one["score"], abs=1e-5)


def test_more_like_these_less_like_those(client: httpx.Client, items: Any) -> None:
    like, *_, unlike = [name for name, row in items.items() if row["title"] and row["description"]]
    near = client.get(f"/v1/items/{like}/similar", params={"k": 5, "explain": True}).json()["items"]
    assert [one["item"] for one in near] == [one["item"] for one in ask(client, like=[like], k=5)["items"]]
    assert near[0]["reasons"]
    before = {one["item"]: one["score"] for one in ask(client, like=[like], k=1000)["items"]}
    after = {one["item"]: one["score"] for one in ask(client, like=[like], unlike=[unlike], k=1000)["items"]}
    assert unlike not in after
    assert any(after[name] < before[name] for name in after)
    rule = client.get(f"/v1/items/{like}/similar", params={"rule": ["form=song"], "k": 50}).json()["items"]
    assert {items[one["item"]]["form"] for one in rule} == {"song"}
    assert client.get("/v1/items/no such/similar").status_code == 404


def test_why_an_item_stands_where_it_does_and_why_another_does_not(client: httpx.Client, user: str, items: Any) -> None:
    ranked = ask(client, user=user, k=1000, explain=True)["items"]
    for place in (0, 7, len(ranked) - 1):
        why = ask(client, "/v1/explain", user=user, item=ranked[place]["item"])
        assert (why["place"], why["candidates"], why["barred"]) == (place + 1, len(ranked), [])
        assert why["score"] == pytest.approx(ranked[place]["score"], abs=1e-6)
        assert why["base"] + sum(r["amount"] for r in why["reasons"]) == pytest.approx(why["score"], abs=1e-5)
    seen = next(name for name in items if name not in {one["item"] for one in ranked})
    assert ask(client, "/v1/explain", user=user, item=seen)["barred"] == ["seen or rejected already"]
    first = ranked[0]["item"]
    barred = ask(client, "/v1/explain", user=user, item=first, rules=[f"form!={items[first]['form']}"])
    assert barred["place"] is None
    assert barred["barred"] == [f"rule form!={items[first]['form']}"]
    assert client.post("/v1/explain", json={"item": "no such"}).status_code == 404


def test_search_by_a_picture_finds_the_item_that_has_it(client: httpx.Client, items: Any, world: Path) -> None:
    name, row = next((name, row) for name, row in items.items() if row["image"])
    picture = (world / "world" / row["image"]).read_bytes()
    sent = client.post("/v1/search", params={"k": 3}, content=picture, headers={"content-type": "image/png"})
    assert name in [one["item"] for one in sent.json()["items"]], sent.text
    by_path = client.post("/v1/search", json={"image": row["image"], "k": 3})
    assert by_path.json() == sent.json()
    for wrong, status in (
        ({"content": b"GIF89a nonsense", "headers": {"content-type": "image/gif"}}, 400),
        ({"content": b"", "headers": {"content-type": "image/png"}}, 400),
        ({"content": b"x", "headers": {"content-type": "application/zip"}}, 415),
        ({"json": {"image": "../../etc/passwd"}}, 400), ({"json": {"words": "a", "image": "b"}}, 400), ({"json": {}}, 400),
        ({"json": {"url": "http://127.0.0.1/a.png"}}, 400), ({"json": {"image": "a\0b"}}, 400),
    ):  # fmt: skip
        answer = client.post("/v1/search", **wrong)
        assert answer.status_code == status, answer.text
        assert "/tmp" not in answer.text
    assert "--fetch" in client.post("/v1/search", json={"url": "https://example.com/a.png"}).json()["error"]


def test_a_picture_by_url_is_private_even_when_switched_on(client: httpx.Client, served: Running) -> None:
    served.service.fetch = True
    try:
        refused = client.post("/v1/search", json={"url": f"{served.url.replace('127.0.0.1', 'localhost')}/health/live"})
        assert refused.status_code == 400
        assert "port" in refused.json()["error"]
        assert "private" in client.post("/v1/search", json={"url": "http://169.254.169.254/a"}).json()["error"]
    finally:
        served.service.fetch = False


def test_an_uploaded_picture_is_encoded_with_its_item(
    client: httpx.Client, items: Any, world: Path, served: Running
) -> None:
    row = next(row for row in items.values() if row["image"])
    picture = (world / "world" / row["image"]).read_bytes()
    path, png = "/v1/items/shown%2Fhere/media/image", {"content-type": "image/png"}
    kept = client.put(path, content=picture, headers=png).json()
    assert (kept["item"], kept["column"], kept["bytes"]) == ("shown/here", "image", len(picture))
    client.post("/v1/items", json={"items": [{"item_id": "shown/here", "title": "zzz"}]}).raise_for_status()
    assert client.get("/v1/items/shown%2Fhere").json()["image"] == kept["file"]
    begin = time.monotonic()
    while "shown/here" not in (
        near := [
            one["item"]
            for one in client.post("/v1/search", params={"k": 3}, content=picture, headers=png).json()["items"]
        ]
    ):
        assert time.monotonic() - begin < 20, near
        time.sleep(0.05)
    theft = {"items": [{"item_id": "thief", "image": kept["file"]}]}
    assert client.post("/v1/items", json=theft).status_code == 400
    for wrong, headers, status in (
        ("/v1/items/a/media/title", png, 400), ("/v1/items/a/media/image", {"content-type": "audio/wav"}, 415),
        (f"/v1/items/{row['item_id']}/media/image", png, 400),
    ):  # fmt: skip
        assert client.put(wrong, content=picture, headers=headers).status_code == status
    assert client.put(path, content=b"", headers=png).status_code == 400
    assert len(list(served.service.uploads.folder.iterdir())) == 1
    assert client.delete("/v1/items/shown%2Fhere").status_code == 200
    assert not list(served.service.uploads.folder.iterdir())


def test_an_upload_to_a_run_named_from_where_one_stands_is_encoded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    picture = next((world / "world" / "media").glob("*.jpg")).read_bytes()
    with running(world, Path("run")) as it, httpx.Client(base_url=it.url, headers={"X-API-Key": it.key}) as client:
        jpeg = {"content-type": "image/jpeg"}
        client.put("/v1/items/shown/media/image", content=picture, headers=jpeg).raise_for_status()
        client.post("/v1/items", json={"items": [{"item_id": "shown", "title": "zzz"}]}).raise_for_status()
        until(lambda: "shown" in it.service.engine.snapshot.catalog.ids)
        view = it.service.engine.snapshot.views["image"]
        assert view.present[it.service.engine.snapshot.catalog.ids.row("shown")]
        assert "problem" not in client.get("/v1/items/shown").json()


def test_an_item_of_the_table_is_told_whole_also_after_a_part_of_it_was_changed(
    client: httpx.Client, items: Any
) -> None:
    row = next(row for row in items.values() if row["title"] and row["description"] and row["price"] and row["image"])
    path = f"/v1/items/{row['item_id']}"
    before = client.get(path).json()
    assert (before["title"], before["description"], before["form"]) == (row["title"], row["description"], row["form"])
    assert before["price"] == float(row["price"])
    assert "image" not in before
    client.post("/v1/items", json={"items": [{"item_id": row["item_id"], "price": 0.5}]}).raise_for_status()
    assert client.get(path).json() == {**before, "price": 0.5}
    client.post("/v1/items", json={"items": [{"item_id": row["item_id"], "price": before["price"]}]}).raise_for_status()


def test_an_upload_for_which_there_is_no_room_may_be_sent_again(
    client: httpx.Client, served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(served.folder))

    monkeypatch.setattr(served.service.uploads, "kept", full)
    answer = client.put("/v1/items/room/media/image", content=b"a", headers={"content-type": "image/jpeg"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "No space left" in answer.json()["error"]
    assert str(served.folder) not in answer.text


def test_a_file_that_gives_nothing_is_a_problem_of_its_item(client: httpx.Client, served: Running) -> None:
    jpeg = {"content-type": "image/jpeg"}
    client.put("/v1/items/torn/media/image", content=b"no picture", headers=jpeg).raise_for_status()
    batch = [{"item_id": "torn", "title": "a"}, {"item_id": "away", "title": "b", "image": "media/away.jpg"}]
    client.post("/v1/items", json={"items": batch}).raise_for_status()
    until(lambda: "away" in served.service.engine.snapshot.catalog.ids)
    until(lambda: "problem" in client.get("/v1/items/away").json())
    assert client.get("/v1/items/away").json()["problem"] == "image: no such file"
    problem = client.get("/v1/items/torn").json()["problem"]
    assert problem.startswith("image: ")
    assert str(served.folder) not in problem
    lost = client.post("/v1/search", json={"image": "media/away.jpg"})
    assert (lost.status_code, str(served.folder) in lost.text) == (400, False)
    assert "media/away.jpg" in lost.json()["error"]
    for name in ("torn", "away"):
        client.delete(f"/v1/items/{name}").raise_for_status()


def test_standing_rules_hold_for_every_answer_and_have_versions(
    client: httpx.Client, user: str, items: Any, served: Running
) -> None:
    assert client.get("/v1/rules").json()["version"] == 0
    rules = {"rules": ["form!=song"], "exclude": [], "boosts": {}, "caps": {"colour": 1}}
    kept = client.put("/v1/rules", json=rules)
    assert kept.json() == {**rules, "version": 1, "time": kept.json()["time"]}
    told = ask(client, user=user, k=50)["items"]
    assert "song" not in {items[one["item"]]["form"] for one in told if one["item"] in items}
    assert max(Counter(items[one["item"]]["colour"] for one in told if items[one["item"]]["colour"]).values()) == 1
    gorse = client.get(f"/api/recommend/{user}", params={"n": 50}).json()
    assert set(gorse) == {one["item"] for one in told}
    wrong = client.put("/v1/rules", json={"rules": ["forn=song"]})
    assert (wrong.status_code, "did you mean" in wrong.json()["error"]) == (400, True)
    assert client.put("/v1/rules", json={}).json()["version"] == 2
    assert client.get("/v1/rules", params={"version": 1}).json() == kept.json()
    assert client.get("/v1/rules", params={"version": 9}).status_code == 404
    assert "song" in {items[one["item"]]["form"] for one in ask(client, user=user, k=50)["items"]}
    from sensorium.feedback.log import Log
    from sensorium.serve.standing import Standing  # another process, or the same one started again

    assert Standing(served.service.store).now()["version"] == 2
    with Log(Path(served.service.engine.folder) / "log.sqlite") as log:  # what another makes holds for the next answer
        Standing(log).made(rules, now=1.0)
        told = ask(client, user=user, k=50)["items"]
        assert "song" not in {items[one["item"]]["form"] for one in told if one["item"] in items}
        shown = next(one["item"] for one in told)
        log.put("items", {shown: {"item_id": shown, "hidden": True}})
        assert shown not in [one["item"] for one in ask(client, user=user, k=50)["items"]]
        log.put("items", {shown: {"item_id": shown}})
        assert client.put("/v1/rules", json={}).json()["version"] == 4
        assert "song" in {items[one["item"]]["form"] for one in ask(client, user=user, k=50)["items"]}


def test_what_is_known_of_a_person(client: httpx.Client, user: str, served: Running) -> None:
    known = client.get(f"/v1/users/{user}").json()
    snapshot = served.service.engine.snapshot
    assert known["learnt"] == int((snapshot.events.user == 0).sum())
    assert client.get("/v1/users/nobody").status_code == 404
    client.post("/v1/events", json={"events": [{"user": "new/one", "item": "a", "time": 5.0}]}).raise_for_status()
    told = client.get("/v1/users/new%2Fone").json()
    assert told == {"user": "new/one", "learnt": 0, "live": 1, "last": 5.0, "labels": None, "comment": ""}
    events = client.get("/v1/users/new%2Fone/events").json()["events"]
    assert [(one["item"], one["time"]) for one in events] == [("a", 5.0)]


@pytest.mark.parametrize(
    "item",
    ['{"item_id": "a", "price": 1e999}', '{"item_id": "a", "x": "\\ud800"}', '{"item_id": "a", "n": 123456789012345678901234}',
     '{"item_id": "a", "image": "a\\u0000b"}', '{"item_id": "\\ud800"}'],
)  # fmt: skip
def test_columns_that_cannot_be_kept_are_no_failure_of_the_service(client: httpx.Client, item: str) -> None:
    sent = client.post("/v1/items", content=f'{{"items": [{item}]}}', headers={"content-type": "application/json"})
    assert sent.status_code in (200, 400, 422), sent.text
    assert client.get("/v1/items/a").status_code in (200, 404)
    assert client.get("/v1/items").status_code == 200
