"""Items as documents: what the service keeps of them in the store, as rows of the run's table.

How an item is read depends on the run and on itself, never on which others came with it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sensorium.arrays import slices
from sensorium.data.catalog import Catalog
from sensorium.data.clean import clean_id, clean_text
from sensorium.data.columns import ITEM_IDS, MEDIA, MEDIA_NAMES, NOTHING, Taken, item_roles
from sensorium.data.content import ATTRIBUTES, VECTOR, Attributes
from sensorium.data.ids import Ids
from sensorium.data.jsonlines import as_cell
from sensorium.data.readers import read_items_with_report
from sensorium.data.report import LISTED
from sensorium.data.things import taken_alone
from sensorium.errors import DataError, SensoriumError
from sensorium.feedback.store import Document
from sensorium.moving import ANEW as ANEW
from sensorium.moving import GORSE as GORSE
from sensorium.recipe import Recipe
from sensorium.runs import UPLOAD
from sensorium.uploaded import UPLOADED

MEDIA_COLUMNS = tuple(
    name for names in MEDIA_NAMES.values() for name in names
)  # that the reader takes for media by name
ITEMS = "items"  # the kind of document that items are
MARKS = ("dropped", ANEW, GORSE)  # that nobody may send
OURS = ("item_id", "hidden", *MARKS)  # what a document has beside the columns of the table
_NAME = re.compile(UPLOAD)
Body = Mapping[str, Any]


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
            raise DataError(f"{path[:60]!r} lies outside the media folder")
        return whole


def told(
    changes: Sequence[Document], recipe: Recipe, places: Places, taken: Taken = NOTHING
) -> tuple[Catalog, dict[str, bool], dict[str, str]]:
    """What changed documents tell: items, which are hidden, and what is wrong with which. One that cannot be read is left
    out, one whose file is not there or lies elsewhere, or of which a column says nothing, is told without it. One without a
    body was dropped.
    A column is for what the run has `taken` it for; one that the run does not know, for what the item itself tells by it."""
    bodies = [one.body for one in changes if one.body is not None and not one.body.get("dropped")]
    hidden = {
        one.id: one.body is None or bool(one.body["hidden"])
        for one in changes
        if one.body is None or "hidden" in one.body
    }
    failed: dict[str, str] = {}
    alike: dict[tuple[tuple[str, str], ...], list[tuple[Body, dict[str, Any]]]] = {}
    for body in bodies:
        try:
            own = taken_alone(_filled(body), recipe.items, taken)
            elsewhere: dict[str, str] = {}
            line = row(body, recipe, places, _with(taken, own), elsewhere)
        except (SensoriumError, OSError, ValueError) as error:
            noted(failed, body["item_id"], " ".join(str(error).split()))
        else:
            for name, why in elsewhere.items():
                noted(failed, body["item_id"], f"{name}: {why}")
            body = {name: value for name, value in body.items() if name not in elsewhere}
            alike.setdefault(tuple(own.items()), []).append((body, line))
    parts = [
        _catalog(lines[some], recipe, _with(taken, dict(own)), failed)
        for own, lines in alike.items()
        for some in slices(len(lines), LISTED)
    ]  # fmt: skip
    return _together(parts, [body["item_id"] for body in bodies]), hidden, failed


def _with(taken: Taken, own: Mapping[str, str]) -> Taken:
    return replace(taken, roles={**taken.roles, **own}) if own else taken


def _catalog(
    lines: Sequence[tuple[Body, Mapping[str, Any]]], recipe: Recipe, taken: Taken, failed: dict[str, str]
) -> Catalog:
    """The items of rows whose columns are for the same."""
    bodies = [body for body, _ in lines]
    things = recipe.items
    own = {
        name: column
        for name, column in things.vectors.items()
        if any(line.get(column) is not None for _, line in lines)
    }
    things = replace(things, id=things.id or ITEM_IDS[0], vectors=own)  # items without a vector are items, too
    recipe = replace(recipe, items=things)
    try:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "items.jsonl"
            table.write_text("".join(json.dumps(line) + "\n" for _, line in lines), "utf-8")
            items, report = read_items_with_report(table, recipe, taken=taken, alone=True)
    except (SensoriumError, OSError, ValueError) as error:  # whatever it is, the others must still be read
        if len(bodies) > 1:
            return _together([_catalog([one], recipe, taken, failed) for one in lines], [b["item_id"] for b in bodies])
        why = re.sub(r"\S*/items\.jsonl: ", "", str(error))  # where it was read from is nobody's business
        noted(failed, bodies[0]["item_id"], " ".join(why.split()))
        return Catalog(Ids([]), {})
    for one in report.missing:
        body, line = lines[one.line - 1]
        for name in [n for n, cell in line.items() if _names(cell, one.path)] or ["media"]:
            noted(failed, body["item_id"], f"{name}: no such file{_sent(body.get(name), line.get(name), one.path)}")
    for row_left in report.rejected:
        noted(failed, bodies[row_left.line - 1]["item_id"], row_left.reason)
    roles = next(iter(report.taken.values()), {})
    for body in bodies:
        if clean_id(body["item_id"]) in items.ids:
            for why in _lost(body, items, roles):
                noted(failed, body["item_id"], why)
    return items


def _names(cell: object, path: str) -> bool:
    return isinstance(cell, str) and path in cell.split("|")


def _sent(value: object, cell: object, path: str) -> str:
    """Which of several files of a column lies at a path, as it was sent; "" where there is one alone."""
    laid = str(cell).split("|")
    sent = _several(_joined(value))
    return f" {sent[laid.index(path)][:60]!r}" if len(laid) == len(sent) > 1 and path in laid else ""


def _joined(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _several(told: str) -> list[str]:
    return [part.strip() for part in told.split("|") if part.strip()]


def _together(parts: Sequence[Catalog], order: Sequence[str]) -> Catalog:
    """The items of several catalogues as one, in this order; no id stands in two."""
    if len(parts) == 1:
        return parts[0]
    found = {name: (part, place) for part in reversed(parts) for place, name in enumerate(part.ids)}
    names = [name for name in dict.fromkeys(map(clean_id, order)) if name in found]
    places = [found[name] for name in names]
    content = {
        modality: [part.content[modality][place] if modality in part.content else None for part, place in places]
        for modality in dict.fromkeys(modality for part in parts for modality in part.content)
    }
    return Catalog(Ids(names), content, [part.titles[place] if part.titles else "" for part, place in places])


def stated(changes: Sequence[Document]) -> dict[str, frozenset[str] | None]:
    """Of which columns each changed document speaks, be it that there is nothing: what was known by them goes. None: all goes."""
    bodies = {clean_id(one.id): one.body for one in changes if one.body is not None and not one.body.get("dropped")}
    return {name: None if body.get(ANEW) else frozenset(body) - {*OURS} for name, body in bodies.items()}


def noted(failed: dict[str, str], item: str, why: str) -> None:
    """One more thing that is wrong with an item."""
    known = failed.get(item, "").split("; ") if item in failed else []
    if why not in known:
        failed[item] = "; ".join([*known, why])


def _lost(body: Body, items: Catalog, roles: Mapping[str, str]) -> Iterator[str]:
    """Columns of a document of which nothing is made, and why: `roles` tells what each was taken for."""
    place = items.ids.row(clean_id(body["item_id"]))
    content = {modality: column[place] for modality, column in items.content.items()}
    stated = content.get(ATTRIBUTES)
    facts = stated.values if isinstance(stated, Attributes) else {}
    for name, value in _filled(body).items():
        role, _, kind = roles.get(name, "unused:the recipe does not name it").partition(":")
        if role == "unused":
            yield f"{name}: not used, {kind.strip()}"
        elif role == "attribute" and name not in facts:
            yield f"{name}: {str(value)[:60]!r} is no {kind.strip()}"
        elif role == "vector" and content.get(VECTOR + kind) is None:
            yield f"{name}: no vector of finite numbers, as long as those of other items"


def _filled(body: Body) -> dict[str, Any]:
    """The columns of the table of which a document says something."""
    return {
        name: value
        for name, value in body.items()
        if name not in OURS and value not in (None, [], {}) and str(value).strip()
    }


def row(
    body: Body, recipe: Recipe, places: Places, taken: Taken = NOTHING, elsewhere: dict[str, str] | None = None
) -> dict[str, Any]:
    """A document as a row of the recipe's table of items; what it does not state is empty. A column with a file that lies
    elsewhere is left empty, and `elsewhere` tells why; without it that **raises** DataError."""
    things = recipe.items
    things = replace(
        things, id=things.id or ITEM_IDS[0], vectors={n: c for n, c in things.vectors.items() if not c.endswith(".npy")}
    )
    files = [column for kind in MEDIA for column in getattr(things, kind) or ()]
    named = [things.title, *(things.text or ()), *files, *(things.attributes or {}), *things.vectors.values()]
    out: dict[str, Any] = {name: None for name in named if name}
    out |= _filled(body)
    out[things.id or ""] = body["item_id"]
    roles = item_roles(list(out), things, where="items", taken=taken)
    files = [column for columns in roles.media.values() for column in columns]
    for name, value in out.items():
        if value is None or name in roles.vectors.values():
            continue
        if isinstance(value, list) and roles.attributes.get(name) == "category":
            value = value[0] if len(value) == 1 else None
        if name in files:
            try:
                out[name] = _within(_joined(value), places)
            except DataError as error:
                if elsewhere is None:
                    raise
                out[name], elsewhere[name] = None, str(error)
        else:
            out[name] = None if value is None else as_cell(value)
    return out


def _within(told: str, places: Places) -> str:
    """The place of a file, or of several that are divided by "|". **Raises** DataError for one that lies elsewhere."""
    whole = places.inside(told)
    if "|" not in told or os.path.isfile(whole):  # which is silent on a name that is far too long
        return str(whole)
    several = [str(places.inside(part)) for part in _several(told)]
    if any(clean_text(one) != one for one in several):  # the reader would look elsewhere
        raise DataError(f"{told[:60]!r} is no path")
    return "|".join(several)
