"""Items as Gorse tells them: to and from the columns of the run's table, and what is asked of all of them at once.

An item is one document for both APIs. What Gorse's client sent stands in it as it came, so that it is answered so; the
columns beside it are what is encoded, filtered and shown. An item put through the native API has columns alone, and
its Gorse form is read off them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard

import orjson

from sensorium.data.columns import CATEGORIES, DATES, LISTS, NUMBERS, TEXTS, TITLES, Things, find
from sensorium.data.content import ATTRIBUTES, Attributes
from sensorium.engine import Live
from sensorium.errors import DataError
from sensorium.serve.documents import GORSE, ITEMS, MEDIA_COLUMNS, OURS
from sensorium.serve.service import Service

BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"  # what Gorse says where there is no time
IN_CATEGORIES = ("categories", "category", "genres", "genre")  # columns that may hold what Gorse calls Categories
IN_LABELS = ("labels", "tags", "keywords", "topics")  # columns that may hold Labels that are a mere list


def moment(text: str | None) -> float | None:
    """A time as Gorse's clients write it (RFC 3339, Unix seconds, RFC 2822), in seconds since 1970; None for none.

    **Raises** DataError for what is no time.

    >>> moment("2021-10-24T06:42:20.207Z"), moment("1635057740"), moment(""), moment(NEVER)
    (1635057740.207, 1635057740.0, None, None)
    """
    text = (text or "").strip()
    if not text or text == NEVER:
        return None
    try:
        if text.isascii() and text.isdigit() and len(text) in (10, 13):
            return int(text) / (1000 if len(text) == 13 else 1)
        try:
            when = datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            when = parsedate_to_datetime(text)
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - BEGIN).total_seconds()
        if written(seconds) == NEVER:
            raise ValueError
        return seconds
    except (ValueError, TypeError, IndexError, OverflowError):
        raise DataError(f"Timestamp {text[:40]!r}: write it as 2021-10-24T06:42:20Z") from None


def written(seconds: float | None) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, the fraction without closing zeros.

    >>> written(1635057740.207), written(0.0), written(None)
    ('2021-10-24T06:42:20.207Z', '1970-01-01T00:00:00Z', '0001-01-01T00:00:00Z')
    """
    if seconds is None:
        return NEVER
    try:
        text = (BEGIN + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except OverflowError:  # an event of the log may be dated before the year 1
        return NEVER
    return (text.rstrip("0") if "." in text else text) + "Z"


def plain(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body as it can be stored: NaN as null. **Raises** DataError for numbers and letters that JSON cannot carry."""
    try:
        return orjson.loads(orjson.dumps(body))
    except TypeError as error:
        raise DataError(f"the body cannot be kept: {error}") from None


def document(item: Mapping[str, Any], live: Live) -> dict[str, Any]:
    """The document of an item of Gorse: columns that this run knows, and the item as it came.

    `Comment` is the title, and the text where no column of text holds the title; `Labels` fill the columns they are
    named for (a mere list: the column of labels), `Categories` theirs. Media come by the native API alone.
    """
    things = live.made_from.items
    lists = [name for name, kind in (things.attributes or {}).items() if kind in ("list", "auto")]
    known = _known(things, live)
    columns: dict[str, Any] = {}
    labels = item["Labels"]
    if isinstance(labels, Mapping):
        columns |= {name: value for name, value in _facts(labels) if name in known}
    elif (words := _fact(labels)) is not None:
        column = find(lists, IN_LABELS) or ("labels" if things.conventional else lists[0] if lists else None)
        columns |= {column: words} if column else {}
    place = category_column(things)
    if place and item["Categories"]:
        columns[place] = item["Categories"]
    title = title_column(things)
    if item["Comment"]:
        columns.setdefault(title, item["Comment"])
        told = things.text or ()
        if told and title not in told and not any(columns.get(name) for name in told):
            columns[told[0]] = item["Comment"]
    return {"item_id": item["ItemId"], "hidden": item["IsHidden"], **columns, GORSE: item}


def told(body: Mapping[str, Any], live: Live) -> dict[str, Any]:
    """A document as an item of Gorse: as it came, or read off its columns where it did not, or is not as Gorse has it."""
    if _whole(item := body.get(GORSE)):
        return {**item, "IsHidden": bool(body.get("hidden"))}
    things = live.made_from.items
    title, place, texts = title_column(things), category_column(things), things.text or ()
    categories = body.get(place) if place else None
    comment = next((str(body[name]) for name in (title, "title", *texts) if body.get(name)), "")
    labels = {name: value for name, value in body.items() if name not in (*OURS, title, "title", place)}
    catalog = live.snapshot.catalog
    if body["item_id"] in catalog.ids:  # of an item of the training table the document says the title alone
        for name, value in _stated(live, catalog.ids.row(body["item_id"])).items():
            if name == place:
                categories = categories or value
            else:
                labels.setdefault(name, list(value) if isinstance(value, tuple) else value)
    return {
        "ItemId": body["item_id"], "IsHidden": bool(body.get("hidden")),
        "Categories": _words(categories), "Timestamp": NEVER, "Labels": labels or None, "Comment": comment,
    }  # fmt: skip


def category_column(things: Things) -> str | None:
    """The column that categories go to; None where the recipe names its attributes, and none of them is fit."""
    return "categories" if things.conventional else find(list(things.attributes or {}), IN_CATEGORIES)


def title_column(things: Things) -> str:
    """The column that holds the title."""
    return things.title or find(things.text or (), TITLES) or "title"


def _whole(item: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether what a document holds is an item of Gorse: a store may have been filled by hand, or by an import of before."""
    if not isinstance(item, Mapping) or "Labels" not in item:
        return False
    name, words, when, comment = (item.get(key) for key in ("ItemId", "Categories", "Timestamp", "Comment"))
    if not all(isinstance(one, str) for one in (name, when, comment)) or not isinstance(words, list):
        return False
    try:
        moment(when)
    except DataError:
        return False
    return all(isinstance(one, str) for one in words)


def _known(things: Things, live: Live) -> set[str]:
    """The columns that something is made of; any other label would only be stored twice."""
    vectors = {name for name in things.vectors.values() if not name.endswith(".npy")}
    if things.conventional:
        names = {*live.lookup.columns, *TITLES, *TEXTS, *LISTS, *CATEGORIES, *NUMBERS, *DATES}
    else:
        names = {*(things.text or ()), *(things.attributes or {}), title_column(things)}
    media = {name for columns in (things.image, things.audio, things.video) for name in columns or ()}
    return (names | vectors) - {*OURS, things.id, *media, *MEDIA_COLUMNS}


def _facts(labels: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Labels as names and values; a label within another is named `outer.inner`."""
    facts: list[tuple[str, Any]] = []
    for name, value in labels.items():
        if isinstance(value, Mapping):
            facts += _facts(value, f"{before}{name}.")
        elif (fact := _fact(value)) is not None:
            facts.append((before + name, fact))
    return facts


def _fact(value: Any) -> Any:
    """A label's value as a cell of a table; None where it says nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return value if value != "" else None
    if isinstance(value, Sequence) and value:
        if all(isinstance(one, str) for one in value):
            return list(value)
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
            return [float(one) for one in value]  # a vector
    return None


def _stated(live: Live, row: int) -> Mapping[str, Any]:
    column = live.snapshot.catalog.content.get(ATTRIBUTES, ())
    content = column[row] if row < len(column) else None
    return content.values if isinstance(content, Attributes) else {}


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [str(one) for one in value] if isinstance(value, Sequence) else []


@dataclass(frozen=True)
class Slip:
    """What the shelf holds of one document."""

    categories: frozenset[str]
    time: float | None
    hidden: bool


class Shelf:
    """Categories and times of all documents, brought up to the store's changes whenever something is asked.

    **Cost** the first question reads every document, a later one those that changed.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._slips: dict[str, Slip] = {}
        self._newest: list[str] | None = None  # by falling time
        self._seen = 0
        self._lock = threading.Lock()

    def newest(self, categories: Sequence[str]) -> list[tuple[str, float]]:
        """Items of all the categories with their times, the newest first; none that is hidden."""
        with self._lock:
            self._follow()
            if self._newest is None:
                slips = self._slips
                self._newest = sorted(slips, key=lambda name: (-(slips[name].time or -1e12), name))
            shown = [(name, self._slips[name]) for name in self._newest]
        asked = frozenset(categories)
        return [(name, one.time or 0.0) for name, one in shown if not one.hidden and asked <= one.categories]

    def outside(self, categories: Sequence[str], live: Live) -> list[str]:
        """The ids of the version that are not in all of the categories; what a document says goes before the table."""
        if not categories:
            return []
        with self._lock:
            self._follow()
            slips = dict(self._slips)
        place = category_column(live.made_from.items)
        column = live.lookup.columns.get(place) if place else None
        ids, asked = live.snapshot.catalog.ids, frozenset(categories)
        within = set(range(len(ids)))
        for category in categories:
            rows = column.words.get(category.casefold()) if column is not None else None
            within &= set() if rows is None else set(rows.tolist())
        within = {row for row in within if ids[row] not in slips}
        within |= {
            row for name, one in slips.items() if asked <= one.categories for row in ids.rows([name]) if row >= 0
        }
        return [name for row, name in enumerate(ids) if row not in within]

    def _follow(self) -> None:
        live, store = self.service.engine.live, self.service.store
        while changes := store.changed(ITEMS, self._seen):
            for one in changes:
                if one.body is None or one.body.get("dropped"):
                    self._slips.pop(one.id, None)
                    continue
                item = told(one.body, live)
                time = moment(item["Timestamp"])
                self._slips[one.id] = Slip(frozenset(item["Categories"] or ()), time, item["IsHidden"])
            self._seen, self._newest = changes[-1].changed, None
