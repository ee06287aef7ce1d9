"""The native API under /v1. A route reads its request, calls the service, and writes ready bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes, Text
from sensorium.serve import schemas as wire
from sensorium.serve.documents import ANEW, GORSE
from sensorium.serve.paths import Segment
from sensorium.serve.service import Service
from sensorium.serve.shelf import plain

WRONG: dict[int | str, dict[str, Any]] = {
    code: {"model": wire.Wrong} for code in (400, 401, 403, 404, 408, 413, 422, 429, 500, 503)
}
# What a route needs beyond reading: (method, path as a pattern) → role. What is not listed needs admin to change.
ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/items"): "write",
    ("DELETE", "/v1/items/[^/]+"): "write",
    ("GET", "/v1/users/[^/]+"): "write",
}


def ready(body: Any, status: int = 200) -> Response:
    """Plain values as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def native(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses=WRONG)

    @routes.post("/v1/items", response_model=wire.Accepted)
    async def put_items(batch: wire.Items) -> Response:
        """Adds items, or tells what changed of known ones, field by field; on the disk when this answers, recommendable within
        seconds."""
        documents = await service.threaded(
            lambda: {
                one.item_id: service.uploads.filled(one.item_id, plain(_shown(one.model_dump(exclude_unset=True))))
                for one in batch.items
            }
        )
        return ready({"change": await service.put_items(documents, whole=False)})

    @routes.get("/v1/items", response_model=wire.Page)
    async def items(after: Annotated[str, Query(max_length=512)] = "", k: wire.Count = 100) -> Response:
        """The items given to the service, by ascending id."""
        found, last = await service.threaded(lambda: service.items(after, k))
        return ready({"items": [_shown(one) for one in found], "next": last})

    @routes.get("/v1/items/{item}", response_model=wire.Item)
    async def item(item: Segment) -> Response:
        """What is known of an item, from the table and by what was told since; `problem` where something of it could not be
        encoded, or a column of it says nothing."""
        problem = service.problem(item)
        known = {**_stated(service.engine.snapshot.catalog, item), **_shown(service.item(item))}
        return ready(known | ({"problem": problem} if problem else {}))

    @routes.delete("/v1/items/{item}", response_model=wire.Dropped)
    async def drop_item(item: Segment) -> Response:
        """Takes an item out: it is in no answer from now on."""
        await service.drop_item(item)
        await service.threaded(lambda: service.uploads.drop(item))
        return ready({"item": item})

    @routes.get("/v1/users/{user}", response_model=wire.Person)
    async def person(user: Segment) -> Response:
        """What the service knows of a person."""
        return ready(await service.threaded(lambda: service.person(user)))

    @routes.delete("/v1/users/{user}", response_model=wire.Forgotten)
    async def forget(user: Segment) -> Response:
        """Erases a person, from the log and from what was learnt; takes as long as a training."""
        await service.forget(user)
        return ready({"user": user})

    return routes


def _stated(catalog: Catalog, item: str) -> dict[str, Any]:
    """The texts and attributes of an item that answers; where its media lie is nobody's business."""
    stated: dict[str, Any] = {}
    if item in catalog.ids:
        row = catalog.ids.row(item)
        for column in catalog.content.values():
            match column[row]:
                case Text(fields):
                    stated |= dict(fields)
                case Attributes(values):
                    stated |= values
    return stated


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what belongs to the other API."""
    return {name: value for name, value in document.items() if name not in (ANEW, GORSE)}
