"""Routes for calls of which there are thousands a second: described like any other, found by one look into a table.

FastAPI does for a request what few of them need: three middlewares, a search through all routes, two stacks of what is to
be cleaned up. For the smallest requests that is more than half of the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute

Endpoint = Callable[[Request], Awaitable[Response]]


class Lean(APIRoute):
    """A route whose path has no parameters, and whose function reads its own bytes and returns a Response."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """One request that came through the search, because another method was looked for or the path was rewritten."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)


class Application(FastAPI):
    """FastAPI, which calls lean routes at once; errors are told by the same handlers."""

    def __init__(self, **words: Any) -> None:
        self._lean: dict[tuple[str, str], Lean] = {}
        super().__init__(**words)

    def include_router(self, router: APIRouter, **words: Any) -> None:
        """The routes of a group."""
        super().include_router(router, **words)
        lean = (route for route in router.routes if isinstance(route, Lean))
        self._lean |= {(method, route.path): route for route in lean for method in route.methods or ()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        route = self._lean.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await super().__call__(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except Exception as error:
            handler: Any = next(filter(None, map(self.exception_handlers.get, type(error).__mro__)), None)
            if handler is None:
                raise
            response = await handler(request, error)
        await response(scope, receive, send)
