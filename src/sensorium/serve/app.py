"""The application: every run's routes behind the guards, errors as one line."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from sensorium.errors import DataError, RecipeError, SensoriumError, SnapshotError, UnknownId
from sensorium.feedback.store import Taken
from sensorium.serve import (
    answers,
    described,
    events,
    experiments,
    gorse,
    models,
    native,
    operations,
    standing,
    uploads,
)
from sensorium.serve.guards import LOOPBACK, OPEN, Forbidden, Guards
from sensorium.serve.keys import Conflict
from sensorium.serve.lean import Application
from sensorium.serve.learning import Schedule
from sensorium.serve.logs import LEVELS
from sensorium.serve.native import ready
from sensorium.serve.service import ENCODER_SECONDS, Busy, Service
from sensorium.serve.short import Short
from sensorium.serve.tenants import Tenants

# Every group of routes: what makes it for a service, and which role each call needs. A new group is one line here.
ROUTES: Sequence[tuple[Callable[[Service], APIRouter], Mapping[tuple[str, str], str]]] = (
    (events.events, events.ROLES),
    (answers.answers, answers.ROLES),
    (native.native, native.ROLES),
    (uploads.uploads, uploads.ROLES),
    (standing.standing, standing.ROLES),
    (gorse.gorse, gorse.ROLES),
    (operations.operations, operations.ROLES),
    (models.models, models.ROLES),
    (experiments.experiments, experiments.ROLES),
    (described.described, {}),
)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")


@dataclass(frozen=True)
class Serving:
    """How a service meets the world. Limits: 0 is none."""

    host: str = "127.0.0.1"
    port: int = 8087
    tls_port: int = 8443  # where there is a certificate; the plain port then stays on loopback
    certificate: Path | None = None
    private_key: Path | None = None
    media: Path | None = None
    fetch: bool = False  # whether pictures are fetched by URL
    body_bytes: int = 16 * 2**20
    per_second: float = 0.0  # requests of one key
    tenant_per_second: float = 0.0  # requests of one run
    most_pending: int = 1024  # requests that are answered at once
    origins: tuple[str, ...] = ()  # of web pages that may call
    grace_seconds: int = 30  # to finish what was begun, once told to stop
    encoder_seconds: float = ENCODER_SECONDS
    log_level: str = "info"
    traces: str = ""  # where spans are sent, as OTLP over HTTP
    schedule: Schedule | None = None  # by which versions are learnt; None: when asked
    shared: bool = False  # the port, with other processes that answer for the run
    insecure: bool = False  # beyond loopback without TLS or without a key, said in plain words

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("TLS port", self.tls_port)):
            if not 0 < port < 65536:
                raise RecipeError(f"{name} {port}: give one from 1 to 65535")
        if (self.certificate is None) != (self.private_key is None):
            raise RecipeError("TLS needs both --certificate FILE and --private-key FILE")
        if self.media is not None and not self.media.is_dir():
            raise RecipeError(f"--media {self.media}: no such folder")
        if self.certificate is not None and self.port == self.tls_port:
            raise RecipeError("--tls-port: TLS has a port of its own; choose another than --port")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise RecipeError(f"--cors-origin {origin!r}: write it as https://shop.example, one option an origin")
        if self.log_level not in LEVELS:
            raise RecipeError(f"--log-level {self.log_level!r}: there are {', '.join(LEVELS)}")
        if min(self.per_second, self.tenant_per_second, self.most_pending - 1, self.grace_seconds) < 0:
            raise RecipeError("limits and --grace are not below 0, and at least one request is answered at a time")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def checked(self, any_key: bool) -> None:
        """**Raises** RecipeError where strangers could reach the service, or listen to it."""
        if self.local or self.insecure:
            return
        lacks = [
            name
            for name, there in (
                ("TLS (--certificate, --private-key)", self.certificate),
                ("a key (SENSORIUM_API_KEY, --key-file)", any_key),
            )
            if not there
        ]
        if lacks:
            raise RecipeError(f"--host {self.host}: beyond loopback it needs {' and '.join(lacks)}; or say --insecure")


def application(
    services: Service | Mapping[str, Service],
    serving: Serving,
    *,
    traces: Any = None,
    hosts: frozenset[str] = frozenset(),
) -> Guards:
    """The ASGI application of one run, or of several by name; what it serves is closed when it ends."""
    if isinstance(services, Service):
        services = {Path(services.engine.folder or "run").resolve().name: services}
    tenants = Tenants(services, {name: _shortened(service) for name, service in services.items()})
    guarded = Guards(
        tenants, {call: role for _, roles in ROUTES for call, role in roles.items()},
        body_bytes=serving.body_bytes, per_second=serving.per_second, tenant_per_second=serving.tenant_per_second,
        most_pending=serving.most_pending, origins=serving.origins, hosts=hosts, traces=traces,
    )  # fmt: skip
    guarded.openapi = next(iter(tenants.applications.values())).openapi  # type: ignore[attr-defined]
    return guarded


def _shortened(service: Service) -> Short:
    """The routes of one run, with the short way to the busiest."""
    app = _routed(service)
    return Short(app, service, app.exception_handlers[SensoriumError])  # type: ignore[arg-type]


def _routed(service: Service) -> FastAPI:
    """The routes of one run."""
    app = Application(
        title="Sensorium", version="1", docs_url=None, redoc_url=None,
        description="Recommendations from text, pictures, sound, video and what people did.",
    )  # fmt: skip
    routers = [routes(service) for routes, _ in ROUTES]
    for router in routers:
        app.include_router(router)
    app.openapi = partial(_with_keys, app.openapi)  # type: ignore[method-assign]
    known = [(route.path_regex, route.methods) for r in routers for route in r.routes if isinstance(route, APIRoute)]

    async def wrong(request: Request, error: Exception) -> Response:
        kinds = ((Busy, 503), (UnknownId, 404), (Conflict, 409), (Taken, 409))
        status = next((status for kind, status in kinds if isinstance(error, kind)), 400)
        if isinstance(error, SensoriumError) and not isinstance(error, Busy | UnknownId | DataError | RecipeError):
            status = 503
        if isinstance(error, SnapshotError):
            service.pulse.doubt()
        answer = ready({"error": service.line(error)}, status)
        if status == 503:
            answer.headers["retry-after"] = "1"
        return answer

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return ready({"error": f"{where}: {first['msg']}"}, 422)

    async def forbidden(request: Request, error: Exception) -> Response:
        return ready({"error": str(error)}, 403)

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # no such route, or method; a body that is no JSON
        answer = ready({"error": " ".join(str(error.detail).split())}, error.status_code)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:  # its Allow names the methods of one route of the path; there may be others
            fitting = (methods for path, methods in known if path.fullmatch(request.url.path))
            answer.headers["allow"] = ", ".join(sorted({method for methods in fitting for method in methods or ()}))
        return answer

    app.add_exception_handler(SensoriumError, wrong)
    app.add_exception_handler(HTTPException, unfit)
    app.add_exception_handler(Forbidden, forbidden)
    app.add_exception_handler(RequestValidationError, malformed)
    return app


def _with_keys(openapi: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The description with the key that every route but health wants, so that clients made of it send one."""
    told = openapi()
    told.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}, "bearer": {"type": "http", "scheme": "bearer"},
    }  # fmt: skip
    told["security"] = [{"key": []}, {"bearer": []}]
    for path in OPEN & told["paths"].keys():
        for operation in told["paths"][path].values():
            operation["security"] = []
    return told


def loopback(serving: Serving, any_key: bool) -> frozenset[str]:
    """The names under which it may be called: without a key those of this machine, else any."""
    return LOOPBACK if serving.local and not any_key else frozenset()
