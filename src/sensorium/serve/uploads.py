"""Media that come by upload: files of the run's own folder, named in the documents of items as `upload:` and a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from sensorium.data.content import AUDIO, IMAGE, VIDEO
from sensorium.errors import DataError, SensoriumError
from sensorium.feedback.store import Store
from sensorium.serve import schemas as wire
from sensorium.serve.documents import ITEMS, Places
from sensorium.serve.paths import Segment
from sensorium.uploaded import KIND, UPLOADED, columns_of, kept

ROLES: Mapping[tuple[str, str], str] = {("PUT", "/v1/items/[^/]+/media/[^/]+"): "write"}
# Only the family matters to decoding, which looks at what is in the file; the ending is for whoever looks into the folder.
TYPES: Mapping[str, tuple[str, str]] = {
    "image/jpeg": (IMAGE, ".jpg"), "image/png": (IMAGE, ".png"), "image/webp": (IMAGE, ".webp"),
    "image/gif": (IMAGE, ".gif"), "image/bmp": (IMAGE, ".bmp"), "image/tiff": (IMAGE, ".tiff"),
    "image/avif": (IMAGE, ".avif"), "audio/mpeg": (AUDIO, ".mp3"), "audio/wav": (AUDIO, ".wav"),
    "audio/x-wav": (AUDIO, ".wav"), "audio/flac": (AUDIO, ".flac"), "audio/ogg": (AUDIO, ".ogg"),
    "audio/aac": (AUDIO, ".aac"), "audio/mp4": (AUDIO, ".m4a"), "video/mp4": (VIDEO, ".mp4"),
    "video/webm": (VIDEO, ".webm"), "video/quicktime": (VIDEO, ".mov"), "video/x-matroska": (VIDEO, ".mkv"),
    "video/x-msvideo": (VIDEO, ".avi"), "video/mpeg": (VIDEO, ".mpg"),
}  # fmt: skip


class Uploads:
    """The uploaded files of a run, each one item's alone."""

    def __init__(self, places: Places, store: Store) -> None:
        self.places, self.folder, self.store = places, places.uploads, store

    def kept(self, item: str, column: str, ending: str, body: bytes) -> str:
        """The file's mark, once it is on the disk and noted for the item. **Raises** OSError where the disk is full."""
        return kept(self.folder, self.store, item, {column: (ending, body)})[column]

    def filled(self, item: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An item's document with the uploaded files in the columns of which it says nothing. **Raises** DataError for a mark
        of another item's file.
        """
        own = self.store.get(KIND, item) or {}
        for column, value in body.items():
            named = value if isinstance(value, list) else [value]
            parts = [part.strip() for one in named if isinstance(one, str) for part in one.split("|")]
            if any(part.startswith(UPLOADED) and own.get(column) != part for part in parts):
                raise DataError(f"{column}: {str(value)[:60]!r} was not uploaded for item {item!r}")
        return {**{column: mark for column, mark in own.items() if column not in body}, **body}

    def drop(self, item: str) -> None:
        """An item's files are gone."""
        for mark in (self.store.get(KIND, item) or {}).values():
            self.places.inside(mark).unlink(missing_ok=True)
        self.store.delete(KIND, item)


def uploads(service: Any) -> APIRouter:
    """The route of uploads."""
    from sensorium.serve.native import WRONG, ready

    routes = APIRouter(responses={**WRONG, 415: {"model": wire.Wrong}})
    binary = {"schema": {"type": "string", "format": "binary"}}

    @routes.put(
        "/v1/items/{item}/media/{column}", response_model=wire.Uploaded,
        openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(TYPES, binary)}},
    )  # fmt: skip
    async def upload(request: Request, item: Segment, column: Segment) -> Response:
        """A picture, a sound or a clip of an item, on the disk when this answers. Sent before the item itself, it is encoded
        with it; it may be sent again after."""
        columns = columns_of(service.engine.recipe.items)
        if column not in columns:
            raise DataError(f"no column {column[:60]!r} of media; there are {', '.join(columns) or 'none'}")
        stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        kind, ending = TYPES.get(stated, ("", ""))
        if kind != columns[column]:
            fit = [name for name, (family, _) in TYPES.items() if family == columns[column]]
            raise HTTPException(415, f"column {column} takes {', '.join(fit)}")
        body = await request.body()
        if not body:
            raise DataError("the body is empty; send the file's bytes")
        if item in service.engine.snapshot.catalog.ids and service.store.get(ITEMS, item) is None:
            raise DataError(f"item {item!r} came with the table of training; put it by POST /v1/items first")
        try:
            mark = await service.threaded(lambda: service.uploads.kept(item, column, ending, body))
        except OSError as error:
            raise SensoriumError(f"the file cannot be kept ({error.strerror or type(error).__name__})") from None
        known = await service.threaded(lambda: service.store.get(ITEMS, item))
        if known is not None and not known.get("dropped"):
            await service.put_items({item: {**known, column: mark}})
        return ready({"item": item, "column": column, "file": mark, "bytes": len(body)})

    return routes
