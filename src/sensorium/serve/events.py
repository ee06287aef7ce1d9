"""The routes of events under /v1: noting what people did, one call or many lines, and looking at it.

Each acknowledgement waits for the disk, so a service lives or dies by how many of them share one sync. What stands
between the socket and the commit is therefore short: bytes, a few comparisons, the queue.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from sensorium.errors import DataError
from sensorium.feedback.store import Entry, Taken
from sensorium.serve import deeds
from sensorium.serve import schemas as wire
from sensorium.serve.lean import Lean
from sensorium.serve.native import WRONG, ready
from sensorium.serve.paths import Segment
from sensorium.serve.service import Service

ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/events"): "write",
    ("POST", "/v1/events/bulk"): "write",
    ("GET", "/v1/users/[^/]+/events"): "write",
}
BULK = 5_000  # lines of a bulk that are written in one go


def _body(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"content": {kind: {"schema": schema}}, "required": True}}


def events(service: Service) -> APIRouter:
    """The routes."""
    lean = APIRouter(responses={**WRONG, 409: {"model": wire.Wrong}}, route_class=Lean)
    routes = APIRouter(responses=WRONG)
    one, many = wire.Events.model_json_schema(), {"type": "string", "description": "An event a line, as JSON."}
    one["properties"]["events"]["items"] = one.pop("$defs")["Event"]  # the description holds no other's definitions

    async def written(batch: list[Entry], answers: list[str | None], numbers: list[int], stored: int) -> int:
        try:
            return (await service.stored(batch, answers))[-1]
        except Taken as error:
            line = numbers[error.places[0]]
            raise Taken(f"line {line}: {error}; {stored} events before are stored", error.places) from None

    @lean.post("/v1/events", response_model=wire.Stored, openapi_extra=_body("application/json", one))
    async def note(request: Request) -> Response:
        """Notes what people did: all or none, on the disk when this answers, and counting in the next answer. 409: a key
        that an event of another user, item or kind has."""
        try:
            entries, answers = deeds.entries(await request.body())
        except ValidationError as error:
            raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from None
        return ready({"positions": await service.stored(entries, answers)})

    @lean.post("/v1/events/bulk", response_model=wire.BulkStored, openapi_extra=_body("application/x-ndjson", many))
    async def note_many(request: Request) -> Response:
        """Many events, a JSON object a line. A wrong line stops the call and is named; the batches before it are stored."""
        stored, last, now = 0, 0, time.time()
        numbers: list[int] = []  # the lines of the batch
        batch: list[Entry] = []
        answers: list[str | None] = []
        for number, line in enumerate((await request.body()).split(b"\n"), 1):
            if not line or line.isspace():
                continue
            try:
                entry, answer = deeds.line_entry(line, now)
            except ValidationError as error:
                first = error.errors()[0]
                where = ": ".join((f"line {number}", *filter(None, [".".join(map(str, first["loc"]))])))
                raise DataError(f"{where}: {first['msg']}; {stored} events before are stored") from None
            numbers.append(number)
            batch.append(entry)
            answers.append(answer)
            if len(batch) == BULK:
                last = await written(batch, answers, numbers, stored)
                stored, batch, answers, numbers = stored + len(batch), [], [], []
        if batch:
            last = await written(batch, answers, numbers, stored)
        return ready({"stored": stored + len(batch), "last": last})

    @routes.get("/v1/users/{user}/events", response_model=wire.History)
    async def history(user: Segment, after: Annotated[int, Query(ge=0, lt=2**63)] = 0, k: wire.Count = 100) -> Response:
        """What a person did since the service began to note it, oldest first."""
        found = await service.threaded(lambda: service.store.read(after, user=user, most=k))
        return ready({"events": [vars(entry) for entry in found]})

    lean.include_router(routes)
    return lean
