"""Recommendations, likeness, reasons, search: what the engine answers, over HTTP."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from sensorium.errors import DataError, UnknownId
from sensorium.rank.query import Ranking
from sensorium.serve import schemas as wire
from sensorium.serve.fetching import fetched
from sensorium.serve.native import WRONG, ready
from sensorium.serve.paths import Segment
from sensorium.serve.service import Service
from sensorium.serve.uploads import TYPES

ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/recommend"): "read",
    ("GET", "/v1/items/[^/]+/similar"): "read",
    ("POST", "/v1/explain"): "read",
    ("POST", "/v1/search"): "read",
}
FETCHING = 4  # pictures that are fetched at once
PICTURES = tuple(name for name, (kind, _) in TYPES.items() if kind == "image")
LOOKED = {
    "required": True,
    "content": {
        "application/json": {"schema": wire.Looked.model_json_schema()},
        **{name: {"schema": {"type": "string", "format": "binary"}} for name in PICTURES},
    },
}


def told(answer_id: str, ranking: Ranking, explain: bool) -> dict[str, Any]:
    """A ranking as plain values."""
    items = []
    for one in ranking.items:
        line: dict[str, Any] = {
            "item": one.item, "title": one.title, "score": one.score, "source": one.found,
            "propensity": one.propensity,
        }  # fmt: skip
        if explain:
            line["reasons"] = [vars(reason) for reason in one.reasons]
            line["base"] = one.base
        items.append(line)
    return {
        "id": answer_id, "items": items, "model": ranking.model, "version": ranking.version,
        "candidates": ranking.candidates, "notes": ranking.notes,
    }  # fmt: skip


async def recommended(service: Service, wishes: Mapping[str, Any]) -> bytes:
    """The answer to one question, as JSON."""
    answer = await service.recommend(**wishes)
    return orjson.dumps(told(answer.id, answer.ranking, wishes.get("explain", False)))


def answers(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses=WRONG)
    fetching = asyncio.Semaphore(FETCHING)

    @routes.post("/v1/recommend", response_model=wire.Recommendations)
    async def recommend(ask: wire.Ask) -> Response:
        """The best items for a person, a session, or somebody unknown; what was observed a moment ago counts."""
        return Response(await recommended(service, ask.model_dump()), media_type="application/json")

    @routes.get("/v1/items/{item}/similar", response_model=wire.Recommendations)
    async def similar(
        item: Segment, k: wire.Count = 10, user: Annotated[str, Query(max_length=512)] = "",
        rule: Annotated[list[wire.Line], Query(max_length=50)] = [], explain: bool = False,  # noqa: B006
    ) -> Response:  # fmt: skip
        """The items most like one: by content, and by what the crowd does with both. What `user` has seen is left out."""
        if item not in service.engine.snapshot.catalog.ids:
            service.item(item)  # known, but not encoded yet: come back
            raise UnknownId(f"item {item!r} is not encoded yet")
        seen = await service.threaded(lambda: service.seen(user)) if user else []
        answer = await service.recommend(like=[item], k=k, rules=rule, exclude=seen, explain=explain)
        return ready(told(answer.id, answer.ranking, explain))

    @routes.post("/v1/explain", response_model=wire.Why)
    async def explain(ask: wire.AskWhy) -> Response:
        """Why an item stands where it does for somebody, also where it is not shown, and why not."""
        wishes = ask.model_dump()
        item = wishes.pop("item")
        why = await service.threaded(lambda: service.why(item, wishes))
        return ready(asdict(why))

    @routes.post("/v1/search", response_model=wire.Matches, openapi_extra={"requestBody": LOOKED})
    async def search(request: Request, k: wire.Count = 10) -> Response:
        """Items nearest to some words, or to a picture, whatever their modality. A picture is the body itself (`k` then stands in
        the query), or lies under the media folder, or on the web."""
        stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await request.body()
        if stated in PICTURES:
            return await by_picture(body, k)
        if stated != "application/json":
            raise HTTPException(415, f"send application/json, or a picture: {', '.join(PICTURES)}")
        try:
            looked = wire.Looked.model_validate_json(body)
        except ValidationError as error:
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None
        if sum(one is not None for one in (looked.words, looked.image, looked.url)) != 1:
            raise DataError("search: give words, or image, or url: one of them")
        if looked.url is not None:
            if not service.fetch:
                raise DataError("search: pictures by URL are switched off; start the service with --fetch")
            url = looked.url
            async with fetching:
                return await by_picture(await asyncio.to_thread(fetched, url), looked.k)
        if looked.image is not None:
            where, name = service.places.inside(looked.image), looked.image
            return ready({"items": await service.threaded(lambda: seen_in(where, name, looked.k))})
        found = await service.threaded(lambda: service.engine.search(looked.words, k=looked.k))
        return ready({"items": [vars(one) for one in found]})

    def seen_in(path: Path, name: str, k: int) -> list[dict[str, Any]]:
        try:  # decoded in a confined process, as in training
            return [vars(one) for one in service.engine.search(image=path, k=k)]
        except DataError as error:  # where it lies is nobody's business
            raise DataError(str(error).replace(str(path), name)) from None

    async def by_picture(body: bytes, k: int) -> Response:
        if not body:
            raise DataError("search: the picture is empty")

        def found() -> list[dict[str, Any]]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "picture"
                path.write_bytes(body)
                return seen_in(path, "the picture", k)

        return ready({"items": await service.threaded(found)})

    return routes
