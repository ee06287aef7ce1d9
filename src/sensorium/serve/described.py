"""The page at /docs: every route out of the OpenAPI description, to be tried with a key. It brings nothing from elsewhere.

A browser sends no key when it opens a page, so the page itself is open, as it tells nothing; it asks for the description with the
key that is typed into it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Response

from sensorium.serve.service import Service

FILES = {"/docs": ("index.html", "text/html"), "/docs/page.css": ("page.css", "text/css"), "/docs/page.js": ("page.js", "text/javascript")}  # fmt: skip
HOME = Path(__file__).with_name("page")


def described(_: Service) -> APIRouter:
    """The routes of the page's files."""
    routes = APIRouter(include_in_schema=False)
    for path, (name, kind) in FILES.items():
        routes.add_api_route(path, _file((HOME / name).read_bytes(), kind))
    return routes


def _file(body: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(body, media_type=kind)

    return file
