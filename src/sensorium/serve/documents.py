"""Items as documents: what the service keeps of them in the store, as rows of the run's table."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sensorium.data.catalog import Catalog
from sensorium.data.columns import MEDIA_NAMES
from sensorium.data.content import ATTRIBUTES, VECTOR, Attributes
from sensorium.data.ids import Ids
from sensorium.data.readers import read_items_with_report
from sensorium.errors import DataError, SensoriumError
from sensorium.feedback.store import Document
from sensorium.recipe import Recipe
from sensorium.runs import UPLOAD
from sensorium.uploaded import UPLOADED

MEDIA_COLUMNS = tuple(
    name for names in MEDIA_NAMES.values() for name in names
)  # that the reader takes for media by name
ITEMS = "items"  # the kind of document that items are
GORSE = "_gorse"  # in a document: the item as it came through Gorse's API, which answers with it
MARKS = ("dropped", GORSE)  # that nobody may send
OURS = ("item_id", "hidden", *MARKS)  # what a document has beside the columns of the table
_NAME = re.compile(UPLOAD)


@dataclass(frozen=True)
class Places:
    """Where media may lie: those that were uploaded, and those by path (None: there are none by path)."""

    uploads: Path
    media: Path | None = None

    def inside(self, path: str) -> Path:
        """The file of a mark, or of a path within the media folder. **Raises** DataError for any other."""
        if path.startswith(UPLOADED):
            name = path.removeprefix(UPLOADED)
            if not _NAME.fullmatch(name):
                raise DataError(f"{path[:60]!r} names no uploaded file")
            return (self.uploads / name).resolve()  # a table that names it may lie anywhere
        if self.media is None:
            raise DataError("media by path need a folder: start the service with --media FOLDER")
        try:
            whole = (self.media / path).resolve()
        except (ValueError, OSError):  # a NUL within, or far too long
            raise DataError(f"{path[:60]!r} is no path") from None
        if not whole.is_relative_to(self.media.resolve()):
            raise DataError(f"{path!r} lies outside the media folder")
        return whole


def told(
    changes: Sequence[Document], recipe: Recipe, places: Places
) -> tuple[Catalog, dict[str, bool], dict[str, str]]:
    """What changed documents tell: items, which are hidden, and what is wrong with which. One that cannot be read is left
    out, one whose file is not there, or of which a column says nothing, is told without it. One without a body was dropped."""
    bodies = [one.body for one in changes if one.body is not None and not one.body.get("dropped")]
    hidden = {
        one.id: one.body is None or bool(one.body["hidden"])
        for one in changes
        if one.body is None or "hidden" in one.body
    }
    failed: dict[str, str] = {}
    return _catalog(bodies, recipe, places, failed), hidden, failed


def _catalog(bodies: Sequence[Mapping[str, Any]], recipe: Recipe, places: Places, failed: dict[str, str]) -> Catalog:
    if not bodies:
        return Catalog(Ids([]), {})
    own = {name: column for name, column in recipe.items.vectors.items() if any(body.get(column) for body in bodies)}
    recipe = replace(recipe, items=replace(recipe.items, vectors=own))  # items without a vector are items, too
    try:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "items.jsonl"
            table.write_text("".join(json.dumps(row(body, recipe, places)) + "\n" for body in bodies), "utf-8")
            items, report = read_items_with_report(table, recipe)
            for one in report.missing:
                body = bodies[one.line - 1]
                files = {n: str(body[n]).removeprefix(UPLOADED) for n in body if n in _of_media(recipe) and body[n]}
                name = next((n for n, file in files.items() if one.path.endswith(file)), "media")
                noted(failed, body["item_id"], f"{name}: no such file")
            for row_left in report.rejected:
                noted(failed, bodies[row_left.line - 1]["item_id"], row_left.reason)
            taken = next(iter(report.taken.values()), {})
            for body in bodies:
                if body["item_id"] in items.ids:
                    for why in _lost(body, items, taken):
                        noted(failed, body["item_id"], why)
            return items
    except (SensoriumError, OSError, ValueError) as error:  # whatever it is, the others must still be read
        if len(bodies) == 1:
            why = re.sub(r"\S*/items\.jsonl: ", "", str(error))  # where it was read from is nobody's business
            noted(failed, bodies[0]["item_id"], " ".join(why.split()))
            return Catalog(Ids([]), {})
    whole = Catalog(Ids([]), {})
    for body in bodies:
        whole = whole.extended(_catalog([body], recipe, places, failed))
    return whole


def noted(failed: dict[str, str], item: str, why: str) -> None:
    """One more thing that is wrong with an item."""
    known = failed.get(item, "").split("; ") if item in failed else []
    if why not in known:
        failed[item] = "; ".join([*known, why])


def _lost(body: Mapping[str, Any], items: Catalog, taken: Mapping[str, str]) -> Iterator[str]:
    """Columns of a document of which nothing is made, and why: `taken` tells what each was taken for."""
    place = items.ids.row(body["item_id"])
    content = {modality: column[place] for modality, column in items.content.items()}
    stated = content.get(ATTRIBUTES)
    facts = stated.values if isinstance(stated, Attributes) else {}
    for name, value in body.items():
        if name in OURS or value in (None, [], {}) or not str(value).strip():
            continue
        role, _, kind = taken.get(name, "unused:the recipe does not name it").partition(":")
        if role == "unused":
            yield f"{name}: not used, {kind.strip()}"
        elif role == "attribute" and name not in facts:
            yield f"{name}: {str(value)[:60]!r} is no {kind.strip()}"
        elif role == "vector" and content.get(VECTOR + kind) is None:
            yield f"{name}: no vector of finite numbers, as long as those of other items"


def _of_media(recipe: Recipe) -> set[str]:
    """The columns that name files."""
    things = recipe.items
    return {*MEDIA_COLUMNS, *(name for names in (things.image, things.audio, things.video) for name in names or ())}


def row(body: Mapping[str, Any], recipe: Recipe, places: Places) -> dict[str, Any]:
    """A document as a row of the recipe's table of items; what it does not state is empty."""
    things = recipe.items
    of_media = {column for columns in (things.image, things.audio, things.video) for column in columns or ()}
    named = [things.title, *(things.text or ()), *of_media, *(things.attributes or {}), *things.vectors.values()]
    out: dict[str, Any] = {name: None for name in named if name}
    out |= {name: value for name, value in body.items() if name not in OURS}
    out[things.id or "item_id"] = body["item_id"]
    for column in _of_media(recipe) & set(out):
        if out[column]:
            out[column] = str(places.inside(str(out[column])))
    return out
