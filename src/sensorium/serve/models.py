"""The versions of a run under /v1/models: their history, learning the next one, going back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from sensorium.serve.native import WRONG, ready
from sensorium.serve.schemas import Wire, Wrong
from sensorium.serve.service import Service

ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/models/refresh"): "admin",
    ("POST", "/v1/models/rollback"): "admin",
}


class Refresh(Wire):
    """What is to be learnt."""

    full: bool = Field(False, description="Everything anew, from the tables and the whole log; else the models go on.")
    wait: bool = Field(False, description="Answer when it has ended.")


class Rollback(Wire):
    """Where to go back to."""

    to: str | None = Field(None, max_length=20, description="The name of a version that is kept; null: the one before.")


class Version(BaseModel):
    """One version: it answered, or was refused."""

    name: str
    made: float
    why: str
    state: str
    position: int
    of: str
    reasons: list[str]
    figures: dict[str, Any]
    kept: bool


class Models(BaseModel):
    """All versions, oldest first, and how learning stands."""

    version: str
    position: int
    waiting: int
    learning: bool
    last: dict[str, Any]
    held: dict[str, Any] | None
    drift: dict[str, float]
    versions: list[Version]


class Learnt(BaseModel):
    """How learning stands: begun, busy, or how it ended."""

    state: str
    version: str | None = None
    reasons: list[str] | None = None
    why: str | None = None
    seconds: float | None = None


class Restored(BaseModel):
    """The version that answers now, and which one it restores."""

    version: str
    restores: str


def models(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses=WRONG)
    begun: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks but weakly

    @routes.get("/v1/models", response_model=Models)
    async def versions() -> Response:
        """Which version answers, which others there were, why a candidate was refused; the events that wait to be learnt."""
        return ready(await service.threaded(lambda: _told(service)))

    @routes.post("/v1/models/refresh", response_model=Learnt, responses={409: {"model": Wrong}})
    async def refresh(asked: Refresh) -> Response:
        """Learns the next version beside the one that answers; it answers once the gate lets it pass. Ends a hold.

        With `wait`: 200 where it was adopted or the gate refused it, 409 where it was given up (somebody was forgotten or
        went back meanwhile, this process or another is learning already), 500 where it failed.
        """
        if service.learner.busy:
            if asked.wait:
                return ready({"error": "nothing was learnt: this process is learning already"}, 409)
            return ready({"state": "busy"})
        task = asyncio.create_task(service.learner.learn(full=asked.full, asked=True))
        begun.add(task)
        task.add_done_callback(begun.discard)
        if not asked.wait:
            return ready({"state": "begun"})
        ended = await task
        if ended["state"] in ("failed", "left"):
            return ready({"error": f"nothing was learnt: {ended['why']}"}, 500 if ended["state"] == "failed" else 409)
        return ready({name: ended[name] for name in Learnt.model_fields if name in ended})

    @routes.post("/v1/models/rollback", response_model=Restored)
    async def rollback(asked: Rollback) -> Response:
        """Goes back to the version before; none is learnt from then on until a refresh is asked for."""
        version = await service.rollback(asked.to)
        told = service.engine.versions().of(version)
        return ready({"version": version, "restores": told.of if told is not None else ""})

    return routes


def _told(service: Service) -> dict[str, Any]:
    engine, learning = service.engine, service.learner
    history, kept = engine.versions(), set(engine.kept())
    snapshot = engine.snapshot
    return {
        "version": engine.version, "position": snapshot.position, "waiting": max(service.store.end - snapshot.position, 0),
        "learning": learning.busy, "last": learning.last, "held": history.held, "drift": engine.drift(),
        "versions": [{**asdict(one), "kept": one.name in kept} for one in history.versions],
    }  # fmt: skip
