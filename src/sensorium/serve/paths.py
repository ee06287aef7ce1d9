"""Ids in paths: whatever characters they have, a slash among them, as long as they are percent-encoded."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Path
from pydantic import AfterValidator

from sensorium.data.clean import clean_id

SLASH = "\ufdd0"  # stands for a slash within a segment; Unicode keeps it for such uses, so that no id has it


def _whole(segment: str) -> str:
    given = segment.replace(SLASH, "/")
    return clean_id(given) or given  # as in a body


# An id in a path, as every route should declare it: without, one with a slash is not found.
Segment = Annotated[
    str, Path(min_length=1, max_length=512, description="An id, percent-encoded."), AfterValidator(_whole)
]


def segmented(scope: MutableMapping[str, Any]) -> None:
    """Decodes the path by segment: a slash within an id must not part it in two, neither for routes nor for roles."""
    raw = scope.get("raw_path") or b""
    if b"%2F" in raw or b"%2f" in raw:
        parts = raw.partition(b"?")[0].decode("latin-1").split("/")
        scope["path"] = "/".join(unquote(part).replace("/", SLASH) for part in parts)
