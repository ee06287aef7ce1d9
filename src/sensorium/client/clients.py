"""The calls, and the two clients over them: one waits, one awaits; both send again what was not begun or got no answer."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack
from urllib.parse import quote

from sensorium.client.shapes import (
    Bandit,
    BanditWishes,
    Event,
    Experiment,
    ExperimentWishes,
    Key,
    Learnt,
    Match,
    Models,
    Page,
    Reason,
    Recommendations,
    Recommended,
    Restored,
    Rules,
    SimilarWishes,
    Version,
    Why,
    WhyWishes,
    Wishes,
)
from sensorium.errors import DataError, MissingExtra, RemoteError

T = TypeVar("T")
BUSY = (429, 503)  # answers to requests that were not begun
BATCH = 1000  # events or items of one request
LINES = 20_000  # events of one bulk


class Refused(RemoteError):
    """The service did not do what it was asked; `status` is that of HTTP, 0 where it could not be reached."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"{status}: {why}" if status else why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class _Call(Generic[T]):
    """A request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Any = None
    query: Mapping[str, Any] | None = None
    content: bytes | None = None
    kind: str = ""  # of the content
    once: bool = False  # sent twice it would do something else: not again where the answer was lost

    def sent(self) -> dict[str, Any]:
        """What httpx is to send."""
        content, kind = (self.content, self.kind) if self.body is None else (_json(self.body), "application/json")
        named = {"content-type": kind} if content is not None else None
        return {"params": self.query, "content": content, "headers": named}

    def told(self, status: int, text: bytes) -> T:
        """The answer. **Raises** Refused for any but a good one."""
        try:
            body = json.loads(text)
            if 200 <= status < 300:
                return self.read(body)
            why = str(body.get("error") or body)
        except (ValueError, TypeError, KeyError, AttributeError):
            why = f"no answer that could be read: {text[:200].decode('utf-8', 'replace')!r}"
        raise Refused(status, why)


def _recommend(wishes: Mapping[str, Any]) -> _Call[Recommendations]:
    return _Call("POST", "/v1/recommend", _recommendations, dict(wishes))


def _similar(item: str, wishes: Mapping[str, Any]) -> _Call[Recommendations]:
    return _Call("GET", f"/v1/items/{quote(item, safe='')}/similar", _recommendations, query=dict(wishes))


def _explain(item: str, wishes: Mapping[str, Any]) -> _Call[Why]:
    def read(body: Mapping[str, Any]) -> Why:
        reasons = tuple(_of(Reason, reason) for reason in body["reasons"])
        return _of(Why, {**body, "reasons": reasons, "barred": tuple(body["barred"]), "notes": tuple(body["notes"])})

    return _Call("POST", "/v1/explain", read, {"item": item, **wishes})


def _matches(body: Mapping[str, Any]) -> tuple[Match, ...]:
    return tuple(_of(Match, match) for match in body["items"])


def _search(words: str, k: int) -> _Call[tuple[Match, ...]]:
    return _Call("POST", "/v1/search", _matches, {"words": words, "k": k})


def _search_picture(picture: bytes, kind: str, k: int) -> _Call[tuple[Match, ...]]:
    return _Call("POST", "/v1/search", _matches, query={"k": k}, content=picture, kind=kind)


def _upload(item: str, column: str, content: bytes, kind: str) -> _Call[str]:
    path = f"/v1/items/{quote(item, safe='')}/media/{quote(column, safe='')}"
    return _Call("PUT", path, lambda b: b["file"], content=content, kind=kind)


def _rules() -> _Call[dict[str, Any]]:
    return _Call("GET", "/v1/rules", dict)


def _put_rules(rules: Mapping[str, Any]) -> _Call[int]:
    return _Call("PUT", "/v1/rules", lambda b: b["version"], dict(rules))


def _person(user: str) -> _Call[dict[str, Any]]:
    return _Call("GET", f"/v1/users/{quote(user, safe='')}", dict)


def _observe(events: Iterable[Event | Iterable[Event]]) -> _Call[list[int]]:
    each = [one for event in events for one in ([event] if isinstance(event, Mapping) else event)]
    return _Call("POST", "/v1/events", lambda b: b["positions"], {"events": [_keyed(event) for event in each]})


def _bulk(events: Iterable[Event]) -> _Call[int]:
    lines = b"\n".join(_json(_keyed(event)) for event in events)
    return _Call("POST", "/v1/events/bulk", lambda b: b["stored"], content=lines, kind="application/x-ndjson")


def _put(items: Iterable[Mapping[str, Any]]) -> _Call[int]:
    return _Call("POST", "/v1/items", lambda b: b["change"], {"items": [dict(item) for item in items]})


def _item(item: str) -> _Call[dict[str, Any]]:
    return _Call("GET", f"/v1/items/{quote(item, safe='')}", dict)


def _page(after: str, k: int) -> _Call[Page]:
    return _Call("GET", "/v1/items", lambda b: Page(tuple(b["items"]), b["next"]), query={"after": after, "k": k})


def _drop(item: str) -> _Call[None]:
    return _Call("DELETE", f"/v1/items/{quote(item, safe='')}", lambda b: None)


def _history(user: str, after: int, k: int) -> _Call[list[dict[str, Any]]]:
    path = f"/v1/users/{quote(user, safe='')}/events"
    return _Call("GET", path, lambda b: b["events"], query={"after": after, "k": k})


def _forget(user: str) -> _Call[None]:
    return _Call("DELETE", f"/v1/users/{quote(user, safe='')}", lambda b: None)


def _version() -> _Call[str]:
    return _Call("GET", "/health/ready", lambda b: b["version"])


def _models() -> _Call[Models]:
    def read(body: Mapping[str, Any]) -> Models:
        versions = tuple(_of(Version, {**one, "reasons": tuple(one["reasons"])}) for one in body["versions"])
        return _of(Models, {**body, "versions": versions})

    return _Call("GET", "/v1/models", read)


def _refresh(full: bool, wait: bool) -> _Call[Learnt]:
    def read(body: Mapping[str, Any]) -> Learnt:
        return _of(Learnt, {**body, "reasons": tuple(body.get("reasons") or ())})

    return _Call("POST", "/v1/models/refresh", read, {"full": full, "wait": wait}, once=True)


def _rollback(to: str | None) -> _Call[Restored]:
    return _Call("POST", "/v1/models/rollback", lambda b: _of(Restored, b), {"to": to}, once=True)


def _keys() -> _Call[tuple[Key, ...]]:
    return _Call(
        "GET", "/v1/keys", lambda b: tuple(_of(Key, {**one, "groups": tuple(one["groups"])}) for one in b["keys"])
    )


def _make_key(name: str, role: str, groups: Sequence[str], until: float | None) -> _Call[str]:
    asked = {"name": name, "role": role, "groups": list(groups), "until": until}
    return _Call("POST", "/v1/keys", lambda b: b["key"], asked, once=True)


def _rotate_key(name: str, grace_seconds: float) -> _Call[str]:
    path = f"/v1/keys/{quote(name, safe='')}/rotate"
    return _Call("POST", path, lambda b: b["key"], {"grace_seconds": grace_seconds}, once=True)


def _drop_key(name: str) -> _Call[None]:
    return _Call("DELETE", f"/v1/keys/{quote(name, safe='')}", lambda b: None)


def _experiment_told(body: Mapping[str, Any]) -> Experiment:
    return _of(Experiment, {**body, "arms": tuple(body["arms"]), "plot": tuple(body.get("plot", ()))})


def _experiments() -> _Call[tuple[Experiment, ...]]:
    return _Call("GET", "/v1/experiments", lambda b: tuple(map(_experiment_told, b["experiments"])))


def _experiment(name: str, deed: str = "", body: Any = None) -> _Call[Experiment]:
    path = f"/v1/experiments/{quote(name, safe='')}{deed}"
    return _Call("GET" if body is None else "POST", path, _experiment_told, body)


def _begin_experiment(wishes: Mapping[str, Any]) -> _Call[Experiment]:
    return _Call("POST", "/v1/experiments", _experiment_told, dict(wishes), once=True)


def _bandit_told(body: Mapping[str, Any]) -> Bandit:
    return _of(Bandit, {**body, "arms": tuple(body["arms"])})


def _bandits() -> _Call[tuple[Bandit, ...]]:
    return _Call("GET", "/v1/bandits", lambda b: tuple(map(_bandit_told, b["bandits"])))


def _bandit(name: str) -> _Call[Bandit]:
    return _Call("GET", f"/v1/bandits/{quote(name, safe='')}", _bandit_told)


def _put_bandit(wishes: Mapping[str, Any]) -> _Call[Bandit]:
    return _Call("POST", "/v1/bandits", _bandit_told, dict(wishes))


def _drop_bandit(name: str) -> _Call[None]:
    return _Call("DELETE", f"/v1/bandits/{quote(name, safe='')}", lambda b: None)


class Client:
    """Waits for each answer. `tries`: how often a request is sent while the service is busy or not to be reached.

    **Raises** MissingExtra without httpx; every method Refused, with the service's own line, and DataError for what cannot be sent.
    """

    def __init__(self, url: str, key: str = "", *, timeout_seconds: float = 30.0, tries: int = 3) -> None:
        self._tries = tries
        self._http = _httpx().Client(**_settings(url, key, timeout_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the connections."""
        self._http.close()

    def recommend(self, **wishes: Unpack[Wishes]) -> Recommendations:
        """The best items for a person (`user`), a session (`like`), or somebody unknown."""
        return self._done(_recommend(wishes))

    def similar(self, item: str, **wishes: Unpack[SimilarWishes]) -> Recommendations:
        """The items most like one."""
        return self._done(_similar(item, wishes))

    def explain(self, item: str, **wishes: Unpack[WhyWishes]) -> Why:
        """Why an item stands where it does for somebody, also where it is not shown."""
        return self._done(_explain(item, wishes))

    def search(self, words: str, k: int = 10) -> tuple[Match, ...]:
        """The items nearest to some words."""
        return self._done(_search(words, k))

    def search_picture(self, picture: bytes, kind: str = "image/jpeg", k: int = 10) -> tuple[Match, ...]:
        """The items nearest to a picture: its bytes, and their media type."""
        return self._done(_search_picture(picture, kind, k))

    def upload(self, item: str, column: str, content: bytes, kind: str) -> str:
        """A file of an item, best before the item is put; returns its mark, which the column then has."""
        return self._done(_upload(item, column, content, kind))

    def rules(self) -> dict[str, Any]:
        """What holds for every answer, and which version that is."""
        return self._done(_rules())

    def put_rules(self, rules: Rules) -> int:
        """Other rules for every answer, in place of the present ones; returns their version."""
        return self._done(_put_rules(rules))

    def person(self, user: str) -> dict[str, Any]:
        """What the service knows of a person."""
        return self._done(_person(user))

    def observe(self, *events: Event | Iterable[Event]) -> list[int]:
        """Notes at most a thousand events, one by one or as a list, all or none; they are on the disk when this returns."""
        return self._done(_observe(events))

    def observe_all(self, events: Iterable[Event]) -> int:
        """Notes any number of events; returns how many. What was stored before an error stays stored."""
        return sum(self._done(_bulk(part)) for part in _parts(events, LINES))

    def put_items(self, items: Iterable[Mapping[str, Any]]) -> int:
        """Adds items (`item_id` and the columns of the run's table), or replaces them; returns how many."""
        count = 0
        for part in _parts(items, BATCH):
            self._done(_put(part))
            count += len(part)
        return count

    def item(self, item: str) -> dict[str, Any]:
        """What is known of an item."""
        return self._done(_item(item))

    def items(self) -> Iterator[Mapping[str, Any]]:
        """All items that were given to the service, by ascending id."""
        after: str | None = ""
        while after is not None:
            page = self._done(_page(after, BATCH))
            yield from page.items
            after = page.next

    def drop_item(self, item: str) -> None:
        """Takes an item out of every further answer."""
        self._done(_drop(item))

    def history(self, user: str, after: int = 0, k: int = 100) -> list[dict[str, Any]]:
        """What a person did since the service began to note it, oldest first; `after` is a position."""
        return self._done(_history(user, after, k))

    def forget(self, user: str) -> None:
        """Erases a person; takes as long as a training, so give the client the time."""
        self._done(_forget(user))

    def version(self) -> str:
        """The snapshot that answers now."""
        return self._done(_version())

    def models(self) -> Models:
        """The versions of the run: which answers, which there were, why one was refused."""
        return self._done(_models())

    def refresh(self, *, full: bool = False, wait: bool = False) -> Learnt:
        """Learns the next version: the models go on, or all anew (`full`). With `wait` it takes as long as that, so give the
        client the time; what learnt nothing is then Refused.
        """
        return self._done(_refresh(full, wait))

    def rollback(self, to: str | None = None) -> Restored:
        """Goes back to the version before, or to the one that is named."""
        return self._done(_rollback(to))

    def keys(self) -> tuple[Key, ...]:
        """Names, rights and times of the keys."""
        return self._done(_keys())

    def make_key(self, name: str, role: str, groups: Sequence[str] = (), until: float | None = None) -> str:
        """A new key: `role` read, write or admin, confined to `groups` of routes and to a time; it is shown this once."""
        return self._done(_make_key(name, role, groups, until))

    def rotate_key(self, name: str, grace_seconds: float = 0.0) -> str:
        """A new key in place of an old one, which stays good for so long."""
        return self._done(_rotate_key(name, grace_seconds))

    def drop_key(self, name: str) -> None:
        """The key opens nothing from now on."""
        self._done(_drop_key(name))

    def experiments(self) -> tuple[Experiment, ...]:
        """All experiments, without the course of their differences."""
        return self._done(_experiments())

    def experiment(self, name: str) -> Experiment:
        """What an experiment has found; it holds however often one looks."""
        return self._done(_experiment(name))

    def begin_experiment(self, **wishes: Unpack[ExperimentWishes]) -> Experiment:
        """Begins an experiment: people get their arms from the next request on, and keep them."""
        return self._done(_begin_experiment(wishes))

    def share_experiment(self, name: str, shares: Mapping[str, float], traffic: float = 1.0) -> Experiment:
        """Other shares by arm from now on; nobody moves but to an arm that has grown."""
        return self._done(_experiment(name, "/shares", {"shares": dict(shares), "traffic": traffic}))

    def stop_experiment(self, name: str, keep: str | None = None) -> Experiment:
        """Ends an experiment; from now on everybody gets the arm `keep`, or what the recipe says."""
        return self._done(_experiment(name, "/stop", {"keep": keep}))

    def bandits(self) -> tuple[Bandit, ...]:
        """All bandits, and what they have learnt."""
        return self._done(_bandits())

    def bandit(self, name: str) -> Bandit:
        """What a bandit has learnt."""
        return self._done(_bandit(name))

    def put_bandit(self, **wishes: Unpack[BanditWishes]) -> Bandit:
        """Begins a bandit, or changes one: what is known of its arms stays."""
        return self._done(_put_bandit(wishes))

    def drop_bandit(self, name: str) -> None:
        """Ends a bandit; the journal keeps what it showed."""
        self._done(_drop_bandit(name))

    def _done(self, call: _Call[T]) -> T:
        for left in reversed(range(self._tries)):
            try:
                answer = self._http.request(call.method, call.path, **call.sent())
            except _httpx().TransportError as error:
                if not left or call.once:
                    raise Refused(0, f"{self._http.base_url} cannot be reached: {error}") from None
                time.sleep(1.0)
                continue
            if answer.status_code not in BUSY or not left:
                break
            time.sleep(_wait(answer.headers))
        return call.told(answer.status_code, answer.content)


class AsyncClient:
    """Awaits each answer; otherwise as `Client`."""

    def __init__(self, url: str, key: str = "", *, timeout_seconds: float = 30.0, tries: int = 3) -> None:
        self._tries = tries
        self._http = _httpx().AsyncClient(**_settings(url, key, timeout_seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._http.aclose()

    async def recommend(self, **wishes: Unpack[Wishes]) -> Recommendations:
        """The best items for a person (`user`), a session (`like`), or somebody unknown."""
        return await self._done(_recommend(wishes))

    async def similar(self, item: str, **wishes: Unpack[SimilarWishes]) -> Recommendations:
        """The items most like one."""
        return await self._done(_similar(item, wishes))

    async def explain(self, item: str, **wishes: Unpack[WhyWishes]) -> Why:
        """Why an item stands where it does for somebody, also where it is not shown."""
        return await self._done(_explain(item, wishes))

    async def search(self, words: str, k: int = 10) -> tuple[Match, ...]:
        """The items nearest to some words."""
        return await self._done(_search(words, k))

    async def search_picture(self, picture: bytes, kind: str = "image/jpeg", k: int = 10) -> tuple[Match, ...]:
        """The items nearest to a picture: its bytes, and their media type."""
        return await self._done(_search_picture(picture, kind, k))

    async def upload(self, item: str, column: str, content: bytes, kind: str) -> str:
        """A file of an item, best before the item is put; returns its mark, which the column then has."""
        return await self._done(_upload(item, column, content, kind))

    async def rules(self) -> dict[str, Any]:
        """What holds for every answer, and which version that is."""
        return await self._done(_rules())

    async def put_rules(self, rules: Rules) -> int:
        """Other rules for every answer, in place of the present ones; returns their version."""
        return await self._done(_put_rules(rules))

    async def person(self, user: str) -> dict[str, Any]:
        """What the service knows of a person."""
        return await self._done(_person(user))

    async def observe(self, *events: Event | Iterable[Event]) -> list[int]:
        """Notes at most a thousand events, one by one or as a list, all or none; they are on the disk when this returns."""
        return await self._done(_observe(events))

    async def observe_all(self, events: Iterable[Event]) -> int:
        """Notes any number of events; returns how many. What was stored before an error stays stored."""
        return sum([await self._done(_bulk(part)) for part in _parts(events, LINES)])

    async def put_items(self, items: Iterable[Mapping[str, Any]]) -> int:
        """Adds items (`item_id` and the columns of the run's table), or replaces them; returns how many."""
        count = 0
        for part in _parts(items, BATCH):
            await self._done(_put(part))
            count += len(part)
        return count

    async def item(self, item: str) -> dict[str, Any]:
        """What is known of an item."""
        return await self._done(_item(item))

    async def items(self) -> AsyncIterator[Mapping[str, Any]]:
        """All items that were given to the service, by ascending id."""
        after: str | None = ""
        while after is not None:
            page = await self._done(_page(after, BATCH))
            for item in page.items:
                yield item
            after = page.next

    async def drop_item(self, item: str) -> None:
        """Takes an item out of every further answer."""
        await self._done(_drop(item))

    async def history(self, user: str, after: int = 0, k: int = 100) -> list[dict[str, Any]]:
        """What a person did since the service began to note it, oldest first; `after` is a position."""
        return await self._done(_history(user, after, k))

    async def forget(self, user: str) -> None:
        """Erases a person; takes as long as a training, so give the client the time."""
        await self._done(_forget(user))

    async def version(self) -> str:
        """The snapshot that answers now."""
        return await self._done(_version())

    async def models(self) -> Models:
        """The versions of the run: which answers, which there were, why one was refused."""
        return await self._done(_models())

    async def refresh(self, *, full: bool = False, wait: bool = False) -> Learnt:
        """Learns the next version: the models go on, or all anew (`full`). With `wait` it takes as long as that, so give the
        client the time; what learnt nothing is then Refused.
        """
        return await self._done(_refresh(full, wait))

    async def rollback(self, to: str | None = None) -> Restored:
        """Goes back to the version before, or to the one that is named."""
        return await self._done(_rollback(to))

    async def keys(self) -> tuple[Key, ...]:
        """Names, rights and times of the keys."""
        return await self._done(_keys())

    async def make_key(self, name: str, role: str, groups: Sequence[str] = (), until: float | None = None) -> str:
        """A new key: `role` read, write or admin, confined to `groups` of routes and to a time; it is shown this once."""
        return await self._done(_make_key(name, role, groups, until))

    async def rotate_key(self, name: str, grace_seconds: float = 0.0) -> str:
        """A new key in place of an old one, which stays good for so long."""
        return await self._done(_rotate_key(name, grace_seconds))

    async def drop_key(self, name: str) -> None:
        """The key opens nothing from now on."""
        await self._done(_drop_key(name))

    async def experiments(self) -> tuple[Experiment, ...]:
        """All experiments, without the course of their differences."""
        return await self._done(_experiments())

    async def experiment(self, name: str) -> Experiment:
        """What an experiment has found; it holds however often one looks."""
        return await self._done(_experiment(name))

    async def begin_experiment(self, **wishes: Unpack[ExperimentWishes]) -> Experiment:
        """Begins an experiment: people get their arms from the next request on, and keep them."""
        return await self._done(_begin_experiment(wishes))

    async def share_experiment(self, name: str, shares: Mapping[str, float], traffic: float = 1.0) -> Experiment:
        """Other shares by arm from now on; nobody moves but to an arm that has grown."""
        return await self._done(_experiment(name, "/shares", {"shares": dict(shares), "traffic": traffic}))

    async def stop_experiment(self, name: str, keep: str | None = None) -> Experiment:
        """Ends an experiment; from now on everybody gets the arm `keep`, or what the recipe says."""
        return await self._done(_experiment(name, "/stop", {"keep": keep}))

    async def bandits(self) -> tuple[Bandit, ...]:
        """All bandits, and what they have learnt."""
        return await self._done(_bandits())

    async def bandit(self, name: str) -> Bandit:
        """What a bandit has learnt."""
        return await self._done(_bandit(name))

    async def put_bandit(self, **wishes: Unpack[BanditWishes]) -> Bandit:
        """Begins a bandit, or changes one: what is known of its arms stays."""
        return await self._done(_put_bandit(wishes))

    async def drop_bandit(self, name: str) -> None:
        """Ends a bandit; the journal keeps what it showed."""
        await self._done(_drop_bandit(name))

    async def _done(self, call: _Call[T]) -> T:
        for left in reversed(range(self._tries)):
            try:
                answer = await self._http.request(call.method, call.path, **call.sent())
            except _httpx().TransportError as error:
                if not left or call.once:
                    raise Refused(0, f"{self._http.base_url} cannot be reached: {error}") from None
                await asyncio.sleep(1.0)
                continue
            if answer.status_code not in BUSY or not left:
                break
            await asyncio.sleep(_wait(answer.headers))
        return call.told(answer.status_code, answer.content)


def _recommendations(body: Mapping[str, Any]) -> Recommendations:
    items = [
        Recommended(
            one["item"], one["title"], one["score"], one["source"], one.get("propensity", 1.0),
            tuple(_of(Reason, reason) for reason in one.get("reasons", ())), one.get("base", 0.0),
        )
        for one in body["items"]
    ]  # fmt: skip
    return _of(Recommendations, {**body, "items": tuple(items), "notes": tuple(body["notes"])})


def _of(kind: type[T], body: Mapping[str, Any]) -> T:
    """An answer's object as a dataclass; what a newer service tells besides is passed over."""
    return kind(**{name: body[name] for name in kind.__dataclass_fields__ if name in body})  # type: ignore[attr-defined]


def _keyed(event: Any) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        raise DataError(f"event {str(event)[:60]!r}: give user and item, as a mapping")
    for name in ("time", "value"):
        number = event.get(name)
        if isinstance(number, float) and not isfinite(number):
            raise DataError(f"event of user {event.get('user')!r}: {name} {number!r} must be a finite number")
    return {"key": uuid.uuid4().hex, **event}


def _json(body: Any) -> bytes:
    """**Raises** DataError for what is no plain JSON."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"what is sent must be plain JSON, its numbers finite ({error})") from None


def _parts(many: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(many)
    while part := list(islice(rest, size)):
        yield part


def _wait(headers: Mapping[str, str]) -> float:
    """How long the service asks to be left alone; at most half a minute."""
    try:
        return min(max(float(headers.get("retry-after", "1")), 0.0), 30.0)
    except ValueError:
        return 1.0


def _settings(url: str, key: str, timeout_seconds: float) -> dict[str, Any]:
    return {"base_url": url, "headers": {"X-API-Key": key} if key else {}, "timeout": timeout_seconds}


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise MissingExtra("httpx", "client") from None
    return httpx
