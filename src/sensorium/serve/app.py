"""The application: routes behind guards, errors as one line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sensorium.errors import DataError, RecipeError, SensoriumError, UnknownId
from sensorium.serve.events import ROLES as EVENT_ROLES
from sensorium.serve.events import events
from sensorium.serve.gorse import ROLES as GORSE_ROLES
from sensorium.serve.gorse import gorse
from sensorium.serve.guards import Forbidden, Guards, TooLarge
from sensorium.serve.lean import Application
from sensorium.serve.native import ROLES, native, ready
from sensorium.serve.service import Busy, Service
from sensorium.serve.workers import bound


@dataclass(frozen=True)
class Serving:
    """How a service meets the world."""

    host: str = "127.0.0.1"
    port: int = 8087
    certificate: Path | None = None
    private_key: Path | None = None
    media: Path | None = None
    body_bytes: int = 16 * 2**20
    per_second: float = 0.0  # requests of one key; 0: as many as there are
    shared: bool = False  # the port, with other processes that answer for the run
    insecure: bool = False  # beyond loopback without TLS or without a key, said in plain words

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise RecipeError(f"port {self.port}: give one from 1 to 65535")
        if (self.certificate is None) != (self.private_key is None):
            raise RecipeError("TLS needs both --certificate FILE and --private-key FILE")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("127.0.0.1", "::1", "localhost")

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


def application(service: Service, serving: Serving) -> Any:
    """The ASGI application; the service is closed when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.begin()
        yield
        await service.end()

    app = Application(
        title="Sensorium", version="1", lifespan=lifespan,
        description="Recommendations from text, pictures, sound, video and what people did.",
    )  # fmt: skip
    app.include_router(events(service))
    app.include_router(native(service))
    app.include_router(gorse(service))

    async def wrong(request: Request, error: Exception) -> Response:
        status = 503 if isinstance(error, Busy) else 404 if isinstance(error, UnknownId) else 400
        if isinstance(error, SensoriumError) and not isinstance(error, Busy | UnknownId | DataError | RecipeError):
            status = 503
        answer = ready({"error": " ".join(str(error).split())}, status)
        if status == 503:
            answer.headers["retry-after"] = "1"
        return answer

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return ready({"error": f"{where}: {first['msg']}"}, 422)

    async def too_large(request: Request, error: Exception) -> Response:
        return ready({"error": f"a body may have {serving.body_bytes:,} bytes"}, 413)

    async def forbidden(request: Request, error: Exception) -> Response:
        return ready({"error": str(error)}, 403)

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # no such route, or method; a body that is no JSON
        answer = ready({"error": " ".join(str(error.detail).split())}, error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(SensoriumError, wrong)
    app.add_exception_handler(HTTPException, unfit)
    app.add_exception_handler(Forbidden, forbidden)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(TooLarge, too_large)
    guarded = Guards(
        app,
        service.keys,
        {**EVENT_ROLES, **ROLES, **GORSE_ROLES},
        body_bytes=serving.body_bytes,
        per_second=serving.per_second,
    )
    guarded.openapi = app.openapi  # type: ignore[attr-defined]
    return guarded


def run(folder: Path, serving: Serving, *, cache: Path | None = None, first_key: str = "") -> None:
    """Serves a run until it is told to stop; then it finishes what was begun."""
    import uvicorn

    service = Service(folder, cache=cache, first_key=first_key, media=serving.media)
    try:
        serving.checked(service.keys.any)
    except RecipeError:
        service.close()
        raise
    tls = (
        {"ssl_certfile": str(serving.certificate), "ssl_keyfile": str(serving.private_key)}
        if serving.certificate
        else {}
    )
    config = uvicorn.Config(
        application(service, serving), log_level="warning", access_log=False, timeout_graceful_shutdown=30,
        server_header=False, proxy_headers=False, **tls,  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        door = bound(serving.host, serving.port, shared=serving.shared)
    except RecipeError:
        service.close()
        raise
    uvicorn.Server(config).run(sockets=[door])
