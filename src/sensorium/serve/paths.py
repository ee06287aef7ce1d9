"""Ids in paths: whatever characters they have, a slash among them, as long as they are percent-encoded."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Path
from starlette.convertors import Convertor

# The least that a path can carry, and the most that the store takes for an id.
Segment = Annotated[str, Path(min_length=1, max_length=512, description="An id, percent-encoded.")]


class Whole(Convertor[str]):
    """A segment whose slashes and percent signs are still encoded (`segmented`)."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


def segmented(scope: MutableMapping[str, Any]) -> None:
    """Decodes the path by segment: a slash within an id must not part it in two, neither for routes nor for roles."""
    raw = scope.get("raw_path")
    if raw and b"%" in raw:
        parts = raw.partition(b"?")[0].decode("latin-1").split("/")
        scope["path"] = "/".join(unquote(part).replace("%", "%25").replace("/", "%2F") for part in parts)


def whole(routes: Iterable[Any]) -> None:
    """The routes read their segments so."""
    for route in routes:
        for name in getattr(route, "param_convertors", {}):
            route.param_convertors[name] = Whole()
