"""Events on the wire: what the OpenAPI description tells of them, and the quick way from bytes to entries.

An event that is plainly right is made an entry by a few comparisons; of any other pydantic says what it is, or what is
wrong with it. So the models below are the only truth, and the quick way may know less than they do, never more.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any

import orjson

from sensorium.data.clean import clean_id
from sensorium.data.prepare import folded
from sensorium.feedback.store import Entry
from sensorium.serve.schemas import NAMED, Event, Events

MOST = 1000  # events of one call
KIND, TEXT, KEY, ID, ANSWER = 64, 20_000, 256, 512, 64  # characters at most, as the models say
TIMES, VALUES = (-62135596800.0, 253402300799.0), 1e30


_NAMED = re.compile(NAMED)


@lru_cache(4096)
def kind_of(name: str) -> str:
    """A kind as the log has it; empty where nothing is left of it.

    >>> kind_of("Add to Cart"), kind_of(" - ")
    ('add_to_cart', '')
    """
    return folded(name) if _NAMED.search(name) else ""


_FIELDS = frozenset(Event.model_fields)


def entry(told: Any, now: float) -> Entry | None:
    """The entry of an event that is plainly right; None for any other, which may be right all the same.

    >>> entry({"user": "42", "item": "7", "kind": "Buy"}, 0.0)
    Entry(user='42', item='7', kind='buy', time=0.0, value=None, text=None, key=None, position=0)
    >>> entry({"user": "42"}, 0.0)
    """
    if type(told) is not dict or not told.keys() <= _FIELDS:
        return None
    get = told.get
    user, item, kind = get("user"), get("item"), get("kind", "view")
    when, value, text, key, to = get("time"), get("value"), get("text"), get("key"), get("recommendation")
    if type(when) is int:  # from JSON: at most 64 bits
        when = float(when)
    if type(value) is int:
        value = float(value)
    if not (
        type(user) is type(item) is type(kind) is str
        and 0 < len(user) <= ID
        and 0 < len(item) <= ID
        and clean_id(user) == user
        and clean_id(item) == item
        and 0 < len(kind) <= KIND
        and (when is None or (type(when) is float and TIMES[0] <= when <= TIMES[1]))
        and (value is None or (type(value) is float and -VALUES <= value <= VALUES))
        and (text is None or (type(text) is str and len(text) <= TEXT))
        and (key is None or (type(key) is str and 0 < len(key) <= KEY))
        and (to is None or (type(to) is str and len(to) <= ANSWER))
    ):
        return None
    kind = kind_of(kind)
    return Entry(user, item, kind, now if when is None else when, value, text, key) if kind else None


def entry_of(event: Event, now: float) -> Entry:
    """The entry of a checked event."""
    when = now if event.time is None else event.time
    return Entry(event.user, event.item, kind_of(event.kind), when, event.value, event.text, event.key)


def entries(body: bytes) -> tuple[list[Entry], list[str | None]]:
    """The events of a call, and the answers that they follow. **Raises** pydantic's ValidationError."""
    now = time.time()
    try:
        told = orjson.loads(body)
    except ValueError:
        told = None
    if type(told) is dict and told.keys() == {"events"} and type(told["events"]) is list:
        found = [entry(one, now) for one in told["events"]]
        quick = [one for one in found if one is not None]
        if len(quick) == len(found) and 0 < len(found) <= MOST:
            return quick, [one.get("recommendation") for one in told["events"]]
    checked = Events.model_validate_json(body).events
    return [entry_of(event, now) for event in checked], [event.recommendation for event in checked]


def line_entry(line: bytes, now: float) -> tuple[Entry, str | None]:
    """The event of one line, and the answer that it follows. **Raises** pydantic's ValidationError."""
    try:
        told = orjson.loads(line)
        quick = entry(told, now)
    except ValueError:
        quick = None
    if quick is not None:
        return quick, told.get("recommendation")
    event = Event.model_validate_json(line)
    return entry_of(event, now), event.recommendation
