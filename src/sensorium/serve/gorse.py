"""Gorse's REST API under /api, so that its clients work as they are: PascalCase, RowAffected, cursors, scores.

Feedback is events of the same log. Gorse knows one feedback of a person, an item and a type: here that is what the log's
entries of the three say together, their values added up. So POST appends, and PUT appends, then takes back what was before.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from sensorium.data.prepare import folded
from sensorium.errors import UnknownId
from sensorium.feedback.store import Entry
from sensorium.rank.query import MOST
from sensorium.serve import shelf as items
from sensorium.serve.gorse_wire import (
    DURATION,
    NAMED,
    Category,
    Cursor,
    CursorJs,
    Feedback,
    FeedbackIterator,
    Health,
    InSession,
    Item,
    ItemIterator,
    ItemPatch,
    ItemTold,
    Many,
    N,
    Offset,
    Person,
    Place,
    PlaceJs,
    Score,
    Success,
    Told,
    User,
    UserIterator,
    UserPatch,
    UserTold,
)
from sensorium.serve.guards import Forbidden
from sensorium.serve.native import WRONG, ready
from sensorium.serve.paths import Segment
from sensorium.serve.said import Said
from sensorium.serve.service import Service
from sensorium.serve.shelf import Shelf, moment, written

USERS = "users"  # the kind of document that people are; erasing a person deletes theirs

ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/api/items?"): "write",
    ("PATCH", "/api/(item|user)/[^/]+"): "write",
    ("DELETE", "/api/item/[^/]+"): "write",
    ("PUT", "/api/item/[^/]+/category/[^/]+"): "write",
    ("DELETE", "/api/item/[^/]+/category/[^/]+"): "write",
    ("POST", "/api/users?"): "write",
    ("DELETE", "/api/user/[^/]+"): "admin",
    ("GET", "/api/users"): "write",  # what people are and did is not for whoever may ask for recommendations
    ("GET", "/api/user/[^/]+"): "write",
    ("GET", "/api/(user|item)/[^/]+/feedback(/[^/]*)?"): "write",
    ("GET", "/api/feedback(/.*)?"): "write",
    ("POST", "/api/feedback"): "write",
    ("PUT", "/api/feedback"): "write",
    ("DELETE", "/api/feedback/[^/]+/[^/]+(/[^/]+)?"): "write",
    ("POST", "/api/session/recommend(/[^/]*)?"): "read",
}


def gorse(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api", responses=WRONG, tags=["gorse"])
    shelf, said, changing = Shelf(service), Said(service), asyncio.Lock()
    engine, store = service.engine, service.store

    # --- items ----------------------------------------------------------------------------------------------------

    async def put(batch: Sequence[Item]) -> Response:
        live = engine.live
        documents = {one.ItemId: items.document(_item(one.model_dump()), live) for one in batch}
        await service.put_items(documents)
        return _done(len(batch))

    async def patched(name: str, change: Callable[[dict[str, Any]], None]) -> Response:
        async with changing:  # two who change one item at once must not undo each other
            item = await service.threaded(lambda: items.told(service.item(name), engine.live))
            change(item)
            await service.put_items({name: items.document(_item(item), engine.live)})
        return _done(1)

    @routes.post("/item", response_model=Success)
    async def insert_item(item: Item) -> Response:
        """Keeps an item, in place of an older one; recommendable within seconds."""
        return await put([item])

    @routes.post("/items", response_model=Success)
    async def insert_items(batch: Annotated[list[Item], Field(max_length=10_000)]) -> Response:
        """Keeps items, in place of older ones."""
        return await put(batch)

    @routes.get("/item/{item}", response_model=ItemTold)
    async def get_item(item: Segment) -> Response:
        """What is known of an item."""
        return ready(await service.threaded(lambda: items.told(service.item(item), engine.live)))

    @routes.get("/items", response_model=ItemIterator)
    async def get_items(
        n: Many = 10, cursor: Cursor = "", js: CursorJs = "", q: Annotated[str, Query(max_length=2000)] = ""
    ) -> Response:
        """The items given to the service, by ascending id; with `q` those nearest to the words."""

        def found() -> dict[str, Any]:
            live = engine.live
            if not q:
                page, last = service.items(cursor or js, n)
                return {"Cursor": last or "", "Items": [items.told(one, live) for one in page]}
            near = []
            for one in engine.search(q, k=min(n, MOST)):
                with contextlib.suppress(UnknownId):  # dropped a moment ago
                    near.append(items.told(service.item(one.item), live))
            return {"Cursor": "", "Items": near}

        return ready(await service.threaded(found))

    @routes.patch("/item/{item}", response_model=Success)
    async def modify_item(item: Segment, patch: ItemPatch) -> Response:
        """Changes what is given of an item."""
        given = {name: value for name, value in patch.model_dump().items() if value is not None}
        return await patched(item, lambda known: known.update(given))

    @routes.delete("/item/{item}", response_model=Success)
    async def delete_item(item: Segment) -> Response:
        """Takes an item out: it is in no answer from now on."""
        try:
            service.item(item)
        except UnknownId:
            return _done(0)
        await service.drop_item(item)
        return _done(1)

    @routes.put("/item/{item}/category/{category}", response_model=Success)
    async def insert_category(item: Segment, category: Segment) -> Response:
        """Puts an item into a category."""
        return await patched(
            item, lambda known: known.update(Categories=[*dict.fromkeys([*known["Categories"], category])])
        )

    @routes.delete("/item/{item}/category/{category}", response_model=Success)
    async def delete_category(item: Segment, category: Segment) -> Response:
        """Takes an item out of a category."""
        return await patched(
            item, lambda known: known.update(Categories=[c for c in known["Categories"] if c != category])
        )

    # --- people ---------------------------------------------------------------------------------------------------

    async def put_people(batch: Sequence[User]) -> Response:
        documents = {
            one.UserId: items.plain({"user_id": one.UserId, "labels": one.Labels, "comment": one.Comment or ""})
            for one in batch
        }
        await service.threaded(lambda: store.put(USERS, documents))
        return _done(len(batch))

    def person(name: str) -> dict[str, Any]:
        body = store.get(USERS, name)
        if body is None and (name in engine.snapshot.user_ids or store.read(user=name, most=1)):
            body = {"user_id": name}
        if body is None:
            raise UnknownId(f"no user {name!r}")
        return _person(body)

    @routes.post("/user", response_model=Success)
    async def insert_user(user: User) -> Response:
        """Keeps what is known of a person."""
        return await put_people([user])

    @routes.post("/users", response_model=Success)
    async def insert_users(batch: Annotated[list[User], Field(max_length=10_000)]) -> Response:
        """Keeps what is known of people."""
        return await put_people(batch)

    @routes.get("/user/{user}", response_model=UserTold)
    async def get_user(user: Segment) -> Response:
        """What is known of a person."""
        return ready(await service.threaded(lambda: person(user)))

    @routes.get("/users", response_model=UserIterator)
    async def get_users(n: Many = 10, cursor: Cursor = "", js: CursorJs = "") -> Response:
        """The people given to the service, by ascending id."""
        page = await service.threaded(lambda: store.page(USERS, cursor or js, n))
        last = page[-1].id if len(page) == n else ""
        return ready({"Cursor": last, "Users": [_person(one.body) for one in page if one.body is not None]})

    @routes.patch("/user/{user}", response_model=Success)
    async def modify_user(user: Segment, patch: UserPatch) -> Response:
        """Changes what is given of a person."""
        async with changing:
            known = await service.threaded(lambda: person(user))
            given = {name: value for name, value in patch.model_dump().items() if value is not None}
            return await put_people([User(**{**known, **given})])

    @routes.delete("/user/{user}", response_model=Success)
    async def delete_user(user: Segment) -> Response:
        """Erases a person and what they did; where something was learnt from it, all is learnt anew without them."""
        try:
            await service.threaded(lambda: person(user))
        except UnknownId:
            return _done(0)
        if user in engine.snapshot.user_ids:
            await service.forget(user)
        else:
            await service.threaded(lambda: store.erase(user))
        return _done(1)

    # --- feedback -------------------------------------------------------------------------------------------------

    @routes.post("/feedback", response_model=Success)
    async def insert_feedback(batch: Annotated[list[Feedback], Field(max_length=100_000)]) -> Response:
        """Notes what people did; the values of what one did again add up. It counts in the next answer."""
        await said.spelled(one.FeedbackType for one in batch)
        await service.observe([_entry(one) for one in batch])
        return _done(len(batch))

    @routes.put("/feedback", response_model=Success)
    async def overwrite_feedback(batch: Annotated[list[Feedback], Field(max_length=100_000)]) -> Response:
        """Notes what people did, in place of what they did before with the item in the same way."""
        await said.spelled(one.FeedbackType for one in batch)
        last = {(one.UserId, one.ItemId, folded(one.FeedbackType)): _entry(one) for one in batch}
        positions = await service.observe(list(last.values()))

        def only() -> None:  # after the append: a crash between the two leaves too much, never too little
            for (user, item, kind), position in zip(last, positions, strict=True):
                if any(e.kind == kind and e.position < position for e in store.read(user=user, item=item)):
                    store.remove(user, item, kind, before=position)

        await service.threaded(only)
        return _done(len(batch))

    @routes.get("/feedback", response_model=FeedbackIterator)
    async def get_feedback(n: Many = 10, cursor: Place = "", js: PlaceJs = "") -> Response:
        """What people did, in the order in which it was first noted."""
        return ready(await service.threaded(lambda: said.page(int(cursor or js or 0), n)))

    @routes.get("/feedback/{kind}", response_model=FeedbackIterator)
    async def get_typed_feedback(kind: Segment, n: Many = 10, cursor: Place = "", js: PlaceJs = "") -> Response:
        """The same, of one type."""
        return ready(await service.threaded(lambda: said.page(int(cursor or js or 0), n, folded(kind))))

    @routes.get("/feedback/{user}/{item}", response_model=list[Told])
    async def get_between(user: Segment, item: Segment) -> Response:
        """What a person did with an item."""
        return ready(await service.threaded(lambda: said.told(store.read(user=user, item=item))))

    @routes.get("/feedback/{kind}/{user}/{item}", response_model=Told)
    async def get_typed_between(kind: Segment, user: Segment, item: Segment) -> Response:
        """What a person did with an item, of one type."""
        found = await service.threaded(lambda: said.told(store.read(user=user, item=item), folded(kind)))
        if not found:
            raise UnknownId(f"no feedback {kind!r} of this user for item {item!r}")
        return ready(found[0])

    async def take_back(user: Segment, item: Segment, kind: str | None = None) -> Response:
        def gone() -> int:
            count = len({e.kind for e in store.read(user=user, item=item) if kind in (None, e.kind)})
            store.remove(user, item, kind)
            return count

        return _done(await service.threaded(gone))

    @routes.delete("/feedback/{user}/{item}", response_model=Success)
    async def delete_between(user: Segment, item: Segment) -> Response:
        """Takes back what a person did with an item."""
        return await take_back(user, item)

    @routes.delete("/feedback/{kind}/{user}/{item}", response_model=Success)
    async def delete_typed_between(kind: Segment, user: Segment, item: Segment) -> Response:
        """Takes back what a person did with an item, of one type."""
        return await take_back(user, item, folded(kind))

    @routes.get("/user/{user}/feedback", response_model=list[Told])
    async def get_feedback_of_user(user: Segment) -> Response:
        """What a person did."""
        return ready(await service.threaded(lambda: said.told(store.read(user=user))))

    @routes.get("/user/{user}/feedback/{kind}", response_model=list[Told])
    async def get_typed_feedback_of_user(user: Segment, kind: Segment) -> Response:
        """What a person did, of one type."""
        return ready(await service.threaded(lambda: said.told(store.read(user=user), folded(kind))))

    @routes.get("/item/{item}/feedback", response_model=list[Told])
    @routes.get("/item/{item}/feedback/", include_in_schema=False)
    async def get_feedback_of_item(item: Segment) -> Response:
        """What was done with an item."""
        return ready(await service.threaded(lambda: said.told(store.read(item=item))))

    @routes.get("/item/{item}/feedback/{kind}", response_model=list[Told])
    async def get_typed_feedback_of_item(item: Segment, kind: Segment) -> Response:
        """What was done with an item, of one type."""
        return ready(await service.threaded(lambda: said.told(store.read(item=item), folded(kind))))

    # --- recommending ---------------------------------------------------------------------------------------------

    async def best(n: int, offset: int, categories: Sequence[str], read_by: str = "", **wishes: Any) -> list[dict]:
        """Scored items from a place in the ranking on; at most the first MOST can be reached."""
        asked = [category for category in categories if category]

        def ranked() -> list[dict]:
            without = shelf.outside(asked, engine.live) + seen(read_by)
            answer = service.ranked(k=min(offset + n, MOST), exclude=without, **wishes)
            return [{"Id": one.item, "Score": one.score} for one in answer.items]

        return (await service.threaded(ranked))[offset:] if offset < MOST else []

    def seen(user: str) -> list[str]:
        return list({entry.item for entry in store.read(user=user)}) if user else []

    @routes.get("/recommend/{user}", response_model=list[Score] | list[str])
    @routes.get("/recommend/{user}/", include_in_schema=False)
    @routes.get("/recommend/{user}/{path_category}", response_model=list[Score] | list[str])
    async def recommend(
        request: Request, user: Segment, path_category: str = "", n: N = 10, offset: Offset = 0, category: Category = [],  # noqa: B006
        kind: Annotated[str, Query(alias="write-back-type", max_length=64, pattern=rf"^$|{NAMED}")] = "",
        delay: Annotated[str, Query(alias="write-back-delay", pattern=rf"^(?:0|(?:{DURATION}){{0,8}})$")] = "",
        version: Annotated[str, Header(alias="X-API-Version", max_length=8)] = "1",
    ) -> Response:  # fmt: skip
        """The best items for a person: ids, or with `X-API-Version: 2` scores. What is written back was shown, and is not
        shown again once the delay is over."""
        wait = _seconds(delay)
        if kind and not request.state.caller.may("write"):
            raise Forbidden("this key may read; writing back needs write")
        found = await best(n, offset, [path_category, *category], user=user)
        if kind and found:
            await said.spelled([kind])
            now = time.time() + wait
            await service.observe([Entry(user, one["Id"], kind, now) for one in found])
        return ready(found if version == "2" else [one["Id"] for one in found])

    @routes.post("/session/recommend", response_model=list[Score])
    @routes.post("/session/recommend/", include_in_schema=False)
    @routes.post("/session/recommend/{category}", response_model=list[Score])
    async def session(
        feedback: Annotated[list[InSession], Field(max_length=10_000)],
        category: str = "",
        n: N = 10,
        offset: Offset = 0,
    ) -> Response:
        """The best items for what was done in a session, by whomever."""
        live = engine.live
        ordered = sorted(feedback, key=lambda one: moment(one.Timestamp) or 0.0)
        acts = {one.ItemId: live.weights.get(folded(one.FeedbackType or ""), 1.0) for one in ordered}
        known = [name for name in acts if name in live.snapshot.catalog.ids][-100:]
        like = [name for name in known if acts[name] >= 0]
        unlike = [name for name in known if acts[name] < 0]
        return ready(await best(n, offset, [category], like=like, unlike=unlike))

    @routes.get("/item/{item}/neighbors", response_model=list[Score])
    @routes.get("/item/{item}/neighbors/", include_in_schema=False)
    @routes.get("/item/{item}/neighbors/{path_category}", response_model=list[Score])
    async def neighbors(
        item: Segment, path_category: str = "", n: N = 10, offset: Offset = 0, category: Category = [], user: Person = ""  # noqa: B006
    ) -> Response:  # fmt: skip
        """The items nearest to one."""
        if item not in engine.snapshot.catalog.ids:
            service.item(item)  # it must be known; one that is not encoded yet has no neighbours yet
            return ready([])
        return ready(await best(n, offset, [path_category, *category], read_by=user, like=[item]))

    @routes.get("/latest", response_model=list[Score])
    @routes.get("/latest/", include_in_schema=False)
    @routes.get("/latest/{path_category}", response_model=list[Score])
    async def latest(
        path_category: str = "", n: N = 10, offset: Offset = 0, category: Category = [], user: Person = ""  # noqa: B006
    ) -> Response:  # fmt: skip
        """The items given to the service, those of the newest Timestamp first; the score is that, in Unix seconds."""
        asked = [one for one in (path_category, *category) if one]

        def newest() -> list[dict]:
            without = set(seen(user))
            found = [(name, when) for name, when in shelf.newest(asked) if name not in without]
            return [{"Id": name, "Score": when} for name, when in found[offset : offset + n]]

        return ready(await service.threaded(newest))

    @routes.get("/popular", response_model=list[Score])
    @routes.get("/popular/", include_in_schema=False)
    @routes.get("/popular/{path_category}", response_model=list[Score])
    async def popular(
        path_category: str = "", n: N = 10, offset: Offset = 0, category: Category = [], user: Person = ""  # noqa: B006
    ) -> Response:  # fmt: skip
        """The items that were chosen most by now; an event counts half after ninety days, up to the newest one."""
        asked = [one for one in (path_category, *category) if one]

        def chosen() -> list[dict]:
            live = engine.live
            ids, crowd = live.snapshot.catalog.ids, engine.crowd(live)
            worth = crowd.popularity
            without = {*ids.rows([*shelf.outside(asked, live), *seen(user)]).tolist(), *live.hidden}
            rows = [row for row in crowd.popular.tolist() if row not in without]
            return [{"Id": ids[row], "Score": float(worth[row])} for row in rows[offset : offset + n]]

        return ready(await service.threaded(chosen))

    @routes.get("/health/live", response_model=Health, responses={503: {"model": Health}})
    @routes.get("/health/ready", response_model=Health, responses={503: {"model": Health}})
    async def health() -> Response:
        """Whether it can answer."""
        writes = service.pulse.writable
        told = Health(
            Ready=service.started and writes, DataStoreConnected=writes,
            DataStoreError=None if writes else "the store does not take what is sent",
        )  # fmt: skip
        return ready(told.model_dump(), 200 if told.Ready else 503)

    return routes


def _item(body: Mapping[str, Any]) -> dict[str, Any]:
    """An item as it is kept: no nulls, the time in UTC. **Raises** DataError."""
    item = items.plain(body)
    when = item["Timestamp"]
    return {
        "ItemId": item["ItemId"], "IsHidden": bool(item["IsHidden"]), "Categories": item["Categories"] or [],
        "Timestamp": written(moment(when)), "Labels": item["Labels"], "Comment": item["Comment"] or "",
    }  # fmt: skip


def _person(body: Mapping[str, Any]) -> dict[str, Any]:
    more = {name: value for name, value in body.items() if name not in ("user_id", "labels", "comment")}
    return {"UserId": body["user_id"], "Labels": body.get("labels") or more or None, "Comment": body.get("comment", "")}


def _entry(one: Feedback) -> Entry:
    when = moment(one.Timestamp)
    return Entry(
        one.UserId, one.ItemId, one.FeedbackType, time.time() if when is None else when, one.Value or None,
        one.Comment or None,
    )  # fmt: skip


def _done(count: int) -> Response:
    return ready({"RowAffected": count})


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _seconds(duration: str) -> float:
    """A duration as Go writes it.

    >>> _seconds("1h30m"), _seconds("500ms"), _seconds("")
    (5400.0, 0.5, 0.0)
    """
    parts = re.findall(r"([\d.]+)([a-z]+)", duration)
    return sum((float(number) * _UNITS[unit] for number, unit in parts), 0.0)
