"""Experiments and bandits as a client meets them: arms change answers, feedback is learnt, figures and estimates are told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.serve.conftest import Running

ARMS = [{"name": "plain"}, {"name": "bold", "wishes": {"diversity": 0.9}}]


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=60) as it:
        yield it


def lived(client: httpx.Client, people: int, chosen: str) -> None:
    """Answers to so many new people; every second one clicks on the first item."""
    for n in range(people):
        answer = client.post("/v1/recommend", json={"user": f"{chosen}{n}", "k": 3}).json()
        event = {"user": f"{chosen}{n}", "item": answer["items"][0]["item"], "kind": "click"}
        if n % 2:
            assert (
                client.post("/v1/events", json={"events": [event | {"recommendation": answer["id"]}]}).status_code
                == 200
            )


def test_an_experiment_from_beginning_to_end(client: httpx.Client, server: Running) -> None:
    assert client.get("/v1/experiments").json()["experiments"] == []
    asked = {"name": "how", "arms": ARMS, "window_seconds": 600, "horizon_seconds": 3600}
    made = client.post("/v1/experiments", json=asked)
    assert made.status_code == 200, made.text
    assert "salt" not in made.text
    lived(client, 40, "u")
    adaptive = server.service.adaptive
    until = time.monotonic() + 10
    while len(adaptive._window) < 40 and time.monotonic() < until:
        time.sleep(0.05)
    adaptive.clock = lambda: time.time() + 10_000.0
    adaptive.turn()
    told = client.get("/v1/experiments/how").json()
    assert sum(arm["people"] for arm in told["arms"]) == 40
    assert sum(arm["people"] * arm["mean"] for arm in told["arms"]) == pytest.approx(20)
    bold = told["arms"][1]
    assert bold["lower"] < bold["difference"] < bold["upper"]
    assert told["plot"][-1]["people"] == 40
    assert not told["mismatch"]["alarm"]
    shares = client.post("/v1/experiments/how/shares", json={"shares": {"plain": 3, "bold": 1}})
    assert [arm["share"] for arm in shares.json()["arms"]] == [3, 1]
    estimate = client.post("/v1/policies/estimate", json={"of": "how", "target": {"bold": 1}}).json()
    assert estimate["decisions"] == 40
    assert set(estimate["by"]) == {"ips", "snips", "dr"}
    ended = client.post("/v1/experiments/how/stop", json={"keep": "bold"}).json()
    assert (ended["why"], ended["kept"]) == ("stopped", "bold")
    assert client.post("/v1/experiments", json=asked).status_code == 400
    after = client.post("/v1/recommend", json={"user": "new", "k": 10}).json()["items"]
    same = client.post("/v1/recommend", json={"user": "new", "k": 10, "diversity": 0.9}).json()["items"]
    assert [one["item"] for one in after] == [one["item"] for one in same]


def test_a_bandit_is_defined_learns_and_goes(client: httpx.Client, server: Running) -> None:
    made = client.post("/v1/bandits", json={"name": "mix", "arms": ARMS, "kind": "linear", "half_life_days": 5})
    assert made.status_code == 200, made.text
    lived(client, 20, "b")
    adaptive = server.service.adaptive
    adaptive.turn()
    adaptive.clock = lambda: time.time() + 1_000.0
    adaptive.turn()
    told = client.get("/v1/bandits/mix").json()
    assert sum(arm["shown"] for arm in told["arms"]) == 20
    assert sum(arm["chance"] for arm in told["arms"]) == pytest.approx(1)
    assert len(told["contexts"]) == 8
    assert client.get("/v1/bandits").json()["bandits"] == [told]
    changed = client.post(
        "/v1/bandits", json={"name": "mix", "arms": [*ARMS, {"name": "third", "wishes": {"repeat": True}}]}
    )
    assert sum(arm["shown"] for arm in changed.json()["arms"]) == 20
    assert client.delete("/v1/bandits/mix").status_code == 200
    assert client.get("/v1/bandits/mix").status_code == 404


def test_arms_may_choose_the_sources_of_candidates(client: httpx.Client, server: Running) -> None:
    arms = [{"name": "popular", "wishes": {"sources": ["popular"]}}, {"name": "near", "wishes": {"sources": ["near"]}}]
    assert client.post("/v1/bandits", json={"name": "from", "arms": arms, "least": 0.5}).status_code == 200
    liked, seen = server.service.engine.snapshot.catalog.ids[0], set()
    for _ in range(30):
        items = client.post("/v1/recommend", json={"like": [liked], "k": 3}).json()["items"]
        (source,) = {one["source"] for one in items}  # one answer, one source
        seen.add(source)
    assert seen == {"popular", "near"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/experiments", {"name": "x", "arms": ARMS[:1]}),
        ("/v1/experiments", {"name": "x y", "arms": ARMS}),
        ("/v1/experiments", {"name": "x", "arms": [{"name": "a"}, {"name": "b", "wishes": {"diversit": 1}}]}),
        ("/v1/experiments", {"name": "x", "arms": [{"name": "a"}, {"name": "b", "wishes": {"diversity": 7}}]}),
        ("/v1/experiments", {"name": "x", "arms": [{"name": "a"}, {"name": "b", "wishes": {"diversity": [{}]}}]}),
        ("/v1/experiments", {"name": "x", "arms": [{"name": "a"}, {"name": "b", "wishes": {"repeat": [[[[]]]]}}]}),
        ("/v1/experiments", {"name": "x", "arms": [{"name": "a"}, {"name": "b", "wishes": {"user": "me"}}]}),
        ("/v1/experiments", {"name": "x", "arms": ARMS, "shares": {"plain": 1}}),
        ("/v1/experiments", {"name": "x", "arms": ARMS, "shares": {"plain": 0, "bold": 1}}),
        ("/v1/experiments", {"name": "x", "arms": ARMS, "horizon_seconds": 1}),
        ("/v1/experiments", {"name": "x", "arms": ARMS, "goal": {"click": 0}}),
        ("/v1/bandits", {"name": "x", "arms": [{"name": "a"}, {"name": "b", "wishes": {"members": {"ease": 1}}}]}),
        ("/v1/experiments/none/stop", {}), ("/v1/experiments/none/shares", {"shares": {"a": 1}}),
        ("/v1/bandits", {"name": "x", "arms": ARMS, "least": 0.9}),
        ("/v1/bandits", {"name": "x", "arms": ARMS, "retired": ["plain", "bold"]}),
        ("/v1/policies/estimate", {"of": "none", "target": {"a": 1}}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_begins_nothing(
    client: httpx.Client, server: Running, path: str, body: dict[str, object]
) -> None:
    answer = client.post(path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert "\n" not in answer.json()["error"]
    assert server.service.adaptive.plan({"user": "u"}) is None


def test_who_may_do_what(client: httpx.Client, server: Running) -> None:
    key = client.post("/v1/keys", json={"name": "shop", "role": "write"}).json()["key"]
    for path, body in (("/v1/experiments", {"name": "x", "arms": ARMS}), ("/v1/bandits", {"name": "x", "arms": ARMS})):
        assert client.post(path, json=body, headers={"X-API-Key": key}).status_code == 403
        assert client.get(path, headers={"X-API-Key": key}).status_code == 200


def test_what_was_learnt_is_there_after_a_restart(client: httpx.Client, server: Running) -> None:
    client.post("/v1/bandits", json={"name": "mix", "arms": ARMS, "window_seconds": 0.1})
    lived(client, 20, "r")
    adaptive = server.service.adaptive
    adaptive.turn()
    adaptive.clock = lambda: time.time() + 100.0
    adaptive.turn()
    adaptive._checkpoint()
    other = type(adaptive)(adaptive.store)
    other._restore()
    assert other.bandit("mix").saved() == adaptive.bandit("mix").saved()
    assert other.bandit("mix").shown.sum() == 20
