"""Small pictures of items inside a page: base64 JPEG of at most 96 pixels, as many as a budget of bytes allows."""

from __future__ import annotations

import base64
import io
import warnings
from html import escape
from pathlib import Path

from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, Media

SIDE = 96
PIXELS = 40_000_000  # a picture that claims more is not decoded
BUDGET = 3_000_000  # bytes of all pictures of one page


class Thumbnails:
    """Pictures of a catalogue's rows as HTML; each is decoded once. Beyond the budget, or without a picture, a letter."""

    def __init__(self, catalog: Catalog, *, budget: int = BUDGET) -> None:
        self._catalog = catalog
        self._left = budget
        self._known: dict[int, str] = {}

    def html(self, row: int) -> str:
        """The picture of a row, a cross for one that cannot be read, or the first letter of its title; described by the title that stands beside it."""
        if row not in self._known:
            raw = self._jpeg(row)
            if raw is not None and len(raw) <= self._left:
                self._left -= len(raw)
                self._known[row] = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(raw).decode()}">'
            elif raw is None and self._there(row):
                self._known[row] = '<i class="broken" title="its picture cannot be read">✕</i>'
            else:
                self._known[row] = f"<i aria-hidden=true>{escape(self._catalog.title(row)[:1].upper())}</i>"
        return f'<span class="thumb">{self._known[row]}</span>'

    def _there(self, row: int) -> bool:
        """Whether there is a picture, which then must be broken; beyond the budget nothing was tried."""
        column = self._catalog.content.get(IMAGE, ())
        content = column[row] if row < len(column) else None
        return self._left > 0 and isinstance(content, Media) and content.paths[0].is_file()

    def _jpeg(self, row: int) -> bytes | None:
        column = self._catalog.content.get(IMAGE, ())
        content = column[row] if row < len(column) else None
        if not isinstance(content, Media) or self._left <= 0:
            return None
        return thumbnail(content.paths[0])


def thumbnail(path: Path, *, side: int = SIDE) -> bytes | None:
    """A picture as a small JPEG; None for what is broken, missing or claims too many pixels (its header is asked first)."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path) as picture:
                if picture.width * picture.height > PIXELS:
                    return None
                picture.draft("RGB", (2 * side, 2 * side))
                small = ImageOps.exif_transpose(picture)
                small.thumbnail((side, side))
                if small.mode in ("RGBA", "LA", "P"):
                    small = small.convert("RGBA")
                    paper = Image.new("RGBA", small.size, "white")
                    small = Image.alpha_composite(paper, small)
                out = io.BytesIO()
                small.convert("RGB").save(out, "JPEG", quality=72, optimize=True)
                return out.getvalue()
    except Exception:  # a hostile picture can raise anything; here it costs a letter in its place
        return None
