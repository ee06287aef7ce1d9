"""Events over the wire: the quick way knows what pydantic knows, a click changes the next answer, keys outlive restarts."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sensorium.feedback.store import Entry
from sensorium.serve import deeds
from sensorium.serve.schemas import History

WORDS = st.one_of(
    st.text(max_size=6), st.sampled_from(["", "a", "-", " - ", "\x1c", " ", "Add to Cart", "x" * 65, "x" * 513])
)
ANYTHING = st.one_of(
    st.none(), st.booleans(), WORDS, st.integers(-(10**20), 10**20), st.floats(), st.lists(st.integers(), max_size=2)
)
EVENTS = st.fixed_dictionaries(
    {"user": ANYTHING, "item": ANYTHING},
    optional={"kind": ANYTHING, "time": ANYTHING, "value": ANYTHING, "text": ANYTHING, "key": ANYTHING, "more": WORDS},
)


@given(st.one_of(EVENTS, ANYTHING, st.fixed_dictionaries({"user": WORDS, "item": WORDS, "kind": WORDS})))
@settings(max_examples=600, deadline=None)
def test_the_quick_way_takes_nothing_that_pydantic_refuses_and_makes_the_same_of_it(told: Any) -> None:
    quick = deeds.entry(told, 7.0)
    try:
        slow = deeds.entry_of(deeds.Event.model_validate(told), 7.0)
    except ValidationError:
        assert quick is None
        return
    assert quick in (None, slow)


def test_what_most_people_send_goes_the_quick_way() -> None:
    for more in ({}, {"kind": "buy"}, {"time": 1_700_000_000}, {"time": 1.5, "value": 4, "text": "fine", "key": "k"}):
        assert deeds.entry({"user": "ü", "item": "7", **more}, 7.0) is not None


@pytest.fixture(scope="module")
def here(world: Path, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, httpx.Client]]:
    run = tmp_path_factory.mktemp("events") / "run"
    shutil.copytree(world / "run", run)
    with serve(world, run) as it, httpx.Client(base_url=it.url, headers={"X-API-Key": it.key}, timeout=60) as client:
        yield it, client


def test_the_first_click_of_each_of_a_thousand_people_changes_their_next_answer(here) -> None:
    _, client = here
    for n in range(1000):
        ask = {"user": f"fresh{n}", "k": 3}
        before = client.post("/v1/recommend", json=ask).json()["items"]
        event = {"user": f"fresh{n}", "item": before[n % 3]["item"], "kind": "buy"}
        assert client.post("/v1/events", json={"events": [event]}).status_code == 200
        after = client.post("/v1/recommend", json=ask).json()["items"]
        assert event["item"] not in [one["item"] for one in after]
        assert after != before


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"null", b"nonsense", b'{"events": []}', b'{"events": {}}', b'{"events": [null]}', b"\xff\xfe",
        b'{"events": [{"user": "a", "item": "b", "kind": "-"}]}', b'{"events": [{"user": "a", "item": "b", "kind": "\\u001c"}]}',
        b'{"events": [{"user": "\\ud800", "item": "b"}]}', b'{"events": [{"user": "a", "item": "b", "value": 1e999}]}',
        b'{"events": [{"user": "a", "item": "b", "value": NaN}]}', b'{"events": [{"user": "a", "item": "b", "time": Infinity}]}',
        b'{"events": [{"user": "a", "item": "b", "time": 1' + b"0" * 400 + b"}]}",
        b'{"events": [{"user": "a", "item": "b", "time": 1700000000000}]}', b'{"events": [{"user": 1, "item": "b"}]}',
        b'{"events": [{"user": "a", "item": "b", "key": ""}]}', b'{"events": [{"user": "a", "item": "b", "who": "c"}]}', b'{"events": [' + b"[" * 100_000,
        json.dumps({"events": [{"user": "a", "item": "b"}] * 1001}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_in_one_line_and_nothing_is_stored(here, body: bytes) -> None:
    it, client = here
    before = it.service.store.end
    for path, content in (
        ("/v1/events", body),
        ("/v1/events/bulk", body.removeprefix(b'{"events": [').removesuffix(b"]}")),
    ):
        if path.endswith("bulk") and (not content or content.count(b"user") > 1000):
            continue
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, answer.text
        assert "\n" not in answer.json()["error"]
    assert it.service.store.end == before


@pytest.mark.parametrize(
    "column", ['"\\ud800"', "1e999", "Infinity", "NaN", "1" + "0" * 400, '{"a": ["\\udfff"]}', "[" * 500 + "]" * 500]
)
def test_columns_of_items_that_no_answer_could_hold_are_never_an_error_of_the_service(here, column: str) -> None:
    _, client = here
    body = f'{{"items": [{{"item_id": "odd", "title": "x", "price": {column}}}]}}'
    answer = client.post("/v1/items", content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    told = client.get("/v1/items/odd")  # either it was refused, or what is told of it can be read by anybody
    assert told.status_code in (200, 404)
    json.loads(told.content, parse_constant=pytest.fail)
    assert client.get("/v1/items").status_code == 200


def test_the_description_tells_the_bodies_and_what_a_person_did_is_told(here) -> None:
    _, client = here
    described = client.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    assert {"key": []} in described["security"]
    paths = described["paths"]
    assert paths["/health/ready"]["get"]["security"] == []
    event = paths["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["events"]
    assert set(event["items"]["required"]) == {"user", "item"}
    assert event["items"]["properties"]["kind"]["pattern"]
    assert "application/x-ndjson" in paths["/v1/events/bulk"]["post"]["requestBody"]["content"]
    client.post("/v1/events", json={"events": [{"user": "told", "item": "i1", "time": 5, "value": 4, "key": "once"}]})
    assert client.get("/v1/users/told/events").json()["events"][0] | {"position": 0} == {
        "user": "told", "item": "i1", "kind": "view", "time": 5.0, "value": 4.0, "text": None, "key": "once", "position": 0
    }  # fmt: skip
    assert client.get("/v1/users/told/events?after=-1").status_code == 422
    assert client.get("/v1/events").status_code == 405


def test_a_kind_that_grows_when_it_is_folded_is_told_as_described(here) -> None:
    _, client = here
    sent = {"user": "grown", "item": "i1", "kind": "\u0130" * 64}  # its small form has two characters
    assert client.post("/v1/events", json={"events": [sent]}).status_code == 200
    told = History.model_validate_json(client.get("/v1/users/grown/events").content)
    assert [len(one.kind) for one in told.events] == [128]


def test_a_key_is_known_after_a_restart(world: Path, serve: Any, tmp_path: Path) -> None:
    shutil.copytree(world / "run", tmp_path / "run")
    lines = "\n".join(json.dumps({"user": "u", "item": f"i{n}", "key": f"k{n}"}) for n in range(50))
    for _ in range(3):
        with (
            serve(world, tmp_path / "run") as it,
            httpx.Client(base_url=it.url, headers={"X-API-Key": it.key}) as client,
        ):
            assert client.post("/v1/events/bulk", content=lines).json() == {"stored": 50, "last": 50}
            single = {"user": "u", "item": "i7", "key": "k7"}
            assert client.post("/v1/events", json={"events": [single]}).json() == {"positions": [8]}
            for other in ({"user": "v"}, {"item": "i8"}, {"kind": "buy"}):
                told = client.post("/v1/events", json={"events": [{"user": "new", "item": "i1"}, single | other]})
                assert told.status_code == 409
                assert "key 'k7'" in told.json()["error"]
            body = "\n\n".join(json.dumps(one) for one in (single, single | {"user": "v"}))
            told = client.post("/v1/events/bulk", content=body)
            assert told.status_code == 409
            assert told.json()["error"].startswith("line 3: key 'k7'")
            assert [e.item for e in it.service.store.read()] == [f"i{n}" for n in range(50)]


def test_plain_entries_are_told_apart_from_those_to_be_looked_at() -> None:
    assert Entry("a", "b", "c", 1.0)._plain()
    assert not Entry("ä", "b", "c", 1.0)._plain()
    assert not Entry("a", "b", "c", 1)._plain()
    assert math.isfinite(Entry("a", "b", "c", 1e300).time)
