"""The short way to the one route that is asked a thousand times a second; the framework's own takes as long as the answer.

Only a well-formed request goes this way. Any other, and every mistake in one, is left to the application, which is
handed the body again: so what is told of mistakes is told in one place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError

from sensorium.errors import SensoriumError
from sensorium.serve import schemas as wire
from sensorium.serve.answers import recommended
from sensorium.serve.service import Service

PATH = "/v1/recommend"
ROUTE = SimpleNamespace(path=PATH)  # by which the log and the figures name it


class Short:
    """The application of one run, with a short way. `wrong` tells an error of the service as an answer."""

    def __init__(self, app: Any, service: Service, wrong: Callable[[Request, Exception], Awaitable[Response]]) -> None:
        self.app, self.service, self.wrong = app, service, wrong
        self.openapi = getattr(app, "openapi", None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or not _json(scope["headers"]):
            await self.app(scope, receive, send)
            return
        got, body, more = [], b"", True
        while more:
            message = await receive()
            got.append(message)
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            ask = wire.Ask.model_validate_json(body)
        except ValidationError:
            await self.app(scope, _again(got, receive), send)
            return
        scope["route"] = ROUTE
        try:
            answer = await recommended(self.service, ask)
        except SensoriumError as error:
            answer = await self.wrong(Request(scope), error)
        await answer(scope, receive, send)


def _json(headers: Any) -> bool:
    return any(name == b"content-type" and value.startswith(b"application/json") for name, value in headers)


def _again(got: list[Any], receive: Any) -> Callable[[], Awaitable[Any]]:
    """The messages that were received already, then the others."""
    left = iter(got)

    async def next_message() -> Any:
        for message in left:
            return message
        return await receive()

    return next_message
