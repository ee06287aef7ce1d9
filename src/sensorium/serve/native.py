"""The native API under /v1. A route reads its request, calls the service, and writes ready bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Response

from sensorium.rank.query import Ranking
from sensorium.serve import schemas as wire
from sensorium.serve.service import GORSE, Service

WRONG: dict[int | str, dict[str, Any]] = {
    code: {"model": wire.Wrong} for code in (400, 401, 403, 404, 413, 422, 429, 500, 503)
}
# What a route needs beyond reading: (method, path as a pattern) → role. What is not listed needs admin to change.
ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/recommend"): "read",
    ("POST", "/v1/search"): "read",
    ("POST", "/v1/items"): "write",
    ("DELETE", "/v1/items/[^/]+"): "write",
}


def ready(body: Any, status: int = 200) -> Response:
    """Plain values as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def told(answer_id: str, ranking: Ranking, explain: bool) -> dict[str, Any]:
    """A ranking as plain values."""
    items = []
    for one in ranking.items:
        line: dict[str, Any] = {"item": one.item, "title": one.title, "score": one.score, "source": one.found}
        if explain:
            line["reasons"] = [vars(reason) for reason in one.reasons]
            line["base"] = one.base
        items.append(line)
    return {
        "id": answer_id, "items": items, "model": ranking.model, "version": ranking.version,
        "candidates": ranking.candidates, "notes": ranking.notes,
    }  # fmt: skip


def native(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses=WRONG)

    @routes.post("/v1/recommend", response_model=wire.Recommendations)
    async def recommend(ask: wire.Ask) -> Response:
        """The best items for a person, a session, or somebody unknown; what was observed a moment ago counts."""
        answer = await service.recommend(**ask.model_dump())
        return ready(told(answer.id, answer.ranking, ask.explain))

    @routes.post("/v1/search", response_model=wire.Matches)
    async def search(words: wire.Words) -> Response:
        """Items nearest to some words, whatever their modality."""
        found = await service.threaded(lambda: service.engine.search(words.words, k=words.k))
        return ready({"items": [vars(one) for one in found]})

    @routes.post("/v1/items", response_model=wire.Accepted)
    async def put_items(batch: wire.Items) -> Response:
        """Adds items, or replaces what is known of them; on the disk when this answers, recommendable within seconds."""
        return ready(
            {"change": await service.put_items({one.item_id: _shown(one.model_dump()) for one in batch.items})}
        )

    @routes.get("/v1/items", response_model=wire.Page)
    async def items(after: str = "", k: wire.Count = 100) -> Response:
        """The items given to the service, by ascending id."""
        found, last = await service.threaded(lambda: service.items(after, k))
        return ready({"items": [_shown(one) for one in found], "next": last})

    @routes.get("/v1/items/{item}", response_model=wire.Item)
    async def item(item: str) -> Response:
        """What is known of an item; `problem` where it could not be encoded."""
        problem = service.failed.get(item) or service.lacking.get(item)
        return ready(_shown(service.item(item)) | ({"problem": problem} if problem else {}))

    @routes.delete("/v1/items/{item}")
    async def drop_item(item: str) -> Response:
        """Takes an item out: it is in no answer from now on."""
        await service.drop_item(item)
        return ready({"item": item})

    @routes.delete("/v1/users/{user}")
    async def forget(user: str) -> Response:
        """Erases a person, from the log and from what was learnt; takes as long as a training."""
        await service.slow(lambda: service.engine.forget(user))
        return ready({"user": user})

    return routes


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what belongs to the other API."""
    return {name: value for name, value in document.items() if name != GORSE}
