"""Routes for whoever runs the service: how it is, what it counts, and its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from sensorium.errors import UnknownId
from sensorium.serve import metrics
from sensorium.serve.guards import Forbidden
from sensorium.serve.keys import GROUPS
from sensorium.serve.keys import ROLES as RIGHTS
from sensorium.serve.native import WRONG, ready
from sensorium.serve.schemas import Wire, Wrong
from sensorium.serve.service import Service

ROLES: Mapping[tuple[str, str], str] = {
    ("GET", "/metrics"): "read",
    ("GET", "/v1/keys"): "admin",
    ("POST", "/v1/keys"): "admin",
    ("POST", "/v1/keys/[^/]+/rotate"): "admin",
    ("DELETE", "/v1/keys/[^/]+"): "admin",
}
MORE = "a key can only make keys that may do no more than itself, and for no longer"
Group = Annotated[str, Field(pattern=f"^({'|'.join(GROUPS)})$")]
Until = Annotated[float, Field(gt=0, le=253402300799.0, description="Seconds since 1970.")]


class KeyAsked(Wire):
    """A key to be made: what it may do (`role`), where (`groups`; none: everywhere in this run), and until when."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f/]+$")]
    role: Annotated[str, Field(pattern=f"^({'|'.join(RIGHTS)})$")]
    groups: Annotated[list[Group], Field(max_length=len(GROUPS), default_factory=list)]
    until: Until | None = None


class Rotation(Wire):
    """For how long the old key stays good beside the new one."""

    grace_seconds: Annotated[float, Field(ge=0, le=90 * 86400)] = 0.0


class KeyMade(Wire):
    """The new key."""

    name: str
    key: str = Field(description="Shown this once.")


class KeyTold(Wire):
    """A key without the key."""

    name: str
    role: str
    groups: list[str]
    until: float | None
    made: float


class KeysTold(Wire):
    """All keys of this run."""

    keys: list[KeyTold]


class Alive(Wire):
    """The process answers."""

    live: bool


class State(Wire):
    """Of one run: `writes` whether its store takes what is sent, `waiting` answers in the queue."""

    version: str
    started: bool
    writes: bool
    learning: bool
    waiting: int
    degraded: list[str]


class Ready(Wire):
    """Whether it can answer and store; the rest is told to keys alone."""

    ready: bool
    version: str | None = None
    tenants: Annotated[dict[str, State], Field(default_factory=dict)]


def operations(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses=WRONG, tags=["operations"])

    @routes.get("/health/live", response_model=Alive)
    async def live() -> Response:
        """Whether the process answers."""
        return ready({"live": True})

    @routes.get("/health/ready", response_model=Ready, responses={503: {"model": Ready}})
    async def health(request: Request) -> Response:
        """Whether it has caught up with its store, and the store takes what is sent; reads go on where it does not."""
        state = request.state
        told = state.tenants.health(state.caller, state.tenant)
        answer = ready(told, 200 if told["ready"] else 503)
        if not told["ready"]:
            answer.headers["retry-after"] = "1"
        return answer

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def page(request: Request) -> Response:
        """What is counted and timed, as Prometheus reads it: of the key's run, or of all that the key opens."""
        state = request.state
        return Response(state.tenants.page(state.caller, state.tenant), headers={"content-type": metrics.MEDIA_TYPE})

    @routes.post("/v1/keys", response_model=KeyMade, responses={409: {"model": Wrong}})
    async def make_key(asked: KeyAsked, request: Request) -> Response:
        """A new key of this run; it is shown this once. No key can make one that may do more than itself."""
        if not request.state.caller.gives(asked.role, asked.groups, asked.until):
            raise Forbidden(MORE)
        key = await service.threaded(lambda: service.keys.made(asked.name, asked.role, asked.groups, asked.until))
        return ready({"name": asked.name, "key": key})

    @routes.post("/v1/keys/{name}/rotate", response_model=KeyMade)
    async def rotate_key(name: str, asked: Rotation, request: Request) -> Response:
        """A new key in place of an old one, which stays good for as long as is asked."""
        known = next((one for one in await service.threaded(service.keys.listed) if one["name"] == name), None)
        if known is None:
            raise UnknownId(f"no key named {name!r}")
        if not request.state.caller.gives(known["role"], known["groups"], known["until"]):
            raise Forbidden(MORE)
        key = await service.threaded(lambda: service.keys.rotated(name, asked.grace_seconds))
        return ready({"name": name, "key": key})

    @routes.get("/v1/keys", response_model=KeysTold)
    async def keys() -> Response:
        """Names, rights and times of the keys."""
        return ready({"keys": await service.threaded(service.keys.listed)})

    @routes.delete("/v1/keys/{name}")
    async def drop_key(name: str) -> Response:
        """A key that opens nothing from now on."""
        if not await service.threaded(lambda: service.keys.dropped(name)):
            raise UnknownId(f"no key named {name!r}")
        return ready({"name": name})

    return routes
