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
ASKED = wire.said(wire.Ask)
JSON = (b"content-type", b"application/json")
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
            wishes = ASKED.validate_json(body)
        except ValidationError:
            await self.app(scope, _again(got, receive), send)
            return
        scope["route"] = ROUTE
        try:
            answer = await recommended(self.service, wishes)
        except SensoriumError as error:
            await (await self.wrong(Request(scope), error))(scope, receive, send)
            return
        headers = [JSON, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _json(headers: Any) -> bool:
    for name, value in headers:  # not by `any`, which takes thrice as long for so few
        if name == b"content-type":
            return bool(value == b"application/json" or value.startswith(b"application/json;"))
    return False


def _again(got: list[Any], receive: Any) -> Callable[[], Awaitable[Any]]:
    """The messages that were received already, then the others."""
    left = iter(got)

    async def next_message() -> Any:
        for message in left:
            return message
        return await receive()

    return next_message
