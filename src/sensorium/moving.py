"""Everything a run knows as tables that anything can read: their form, which exporting.py writes and importing.py takes in.

Items and people are what the present version and the store tell of them together, events are those that were learnt from
and those that came since, each once. Media that came by upload lie beside the tables, in `media/`, and items name them from
there. Keys are named, and their secrets are nowhere. What is exported can be trained on
(`sensorium train --items items.jsonl --events events.jsonl`), or imported into another run, again and again: an event
is stored once, and not at all where the run has learnt it from its tables.

JSON Lines keep all. A CSV keeps texts, numbers, true and false, trees and lists of items and people, but for four things: null
and what is empty are not there afterwards; a list of one plain word is that word; a list of several is "a|b", as the reader of
tables divides it, and a list again in a column whose name says so (genres, tags, labels), else text; a number in a column of
texts (title, comment) is text. A text that would be read as anything else begins with a space, which the reader of tables
passes over, and which is taken away on the way in.
"""

from __future__ import annotations

import json
from typing import Any

from sensorium import runs
from sensorium.data.columns import LISTS, TEXTS, plain
from sensorium.errors import DataError
from sensorium.feedback.store import Store
from sensorium.snapshot import Snapshot
from sensorium.uploaded import KIND

FORMATS = ("jsonl", "csv")
TABLES = ("items", "users", "events", "journal", "documents", "keys")
NAMES = {"items": "item_id", "users": "user_id"}  # what the id of a thing is called in its table
GORSE = "_gorse"  # in a document: the item as it came through Gorse's API
ANEW = "anew"  # and that it was dropped before
PROSE = (*TEXTS, "comment")  # columns of a CSV in which 1984 is a text
PIECE_BYTES = 1 << 20  # of a file that are copied at once
MEDIA = f"{runs.UPLOADS}/"  # begins the path of an upload in an export
MADE = (KIND, "problems")  # documents that are made again of others
DEEPEST = 250  # trees within trees that the service can answer with
Row = dict[str, Any]


def cell(value: Any, column: str | None = None) -> Any:
    """A value in a table of plain words: a list as the reader of tables splits it, a tree as JSON. In a `column` that
    `uncelled` reads, a text that would be read as anything else begins with a space."""
    if isinstance(value, list) and all(isinstance(one, str) and "|" not in one for one in value):
        if len(value) > 1 and value[0][:1] not in ("[", "{") and all(one and one == one.strip() for one in value):
            return "|".join(value)
        if len(value) < 2 or column is None:
            return cell("|".join(value), column)
    if isinstance(value, str):
        changed = column is not None and value != "" and uncelled(value, column) != value
        return f" {value}" if changed else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def uncelled(cell: str, column: str) -> Any:
    """The value of a cell of items or people: what `cell` made it of.

    >>> uncelled("1961", "year"), uncelled(" 1961", "title"), uncelled("007", "code"), uncelled("a|b", "tags")
    (1961, '1961', '007', ['a', 'b'])
    """
    if cell[0] == " ":
        return cell[1:]
    if cell[0] in "-0123456789[{tf":
        try:
            value = json.loads(cell, parse_constant=_no_number)
            text = json.dumps(value, allow_nan=False)
            bounded(value)  # a code of twenty digits is no number
        except (DataError, ValueError, RecursionError):
            pass
        else:
            if isinstance(value, list | dict):
                return value
            if text == cell and plain(column) not in PROSE:  # 1e5 and 1.10 may be codes
                return value
    if "|" in cell and cell[0] not in "[{" and plain(column) in LISTS:
        words = [word.strip() for word in cell.split("|")]
        return words if all(words) else cell
    return cell


def _no_number(word: str) -> None:
    raise ValueError(word)


def position_in(version: Snapshot, store: Store) -> int:
    """How far the version has read in this store."""
    return version.position if version.log in ("", store.identity) else version.logs.get(store.identity, 0)


def bounded(value: Any, depth: int = 1) -> None:
    """**Raises** DataError for what the service could not answer: a number of more than 64 bits, too deep a tree."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise DataError("a number has more than 64 bits; write it as text")
    if isinstance(value, dict | list):
        if depth > DEEPEST:
            raise DataError(f"more than {DEEPEST} trees and lists stand within each other")
        for one in value.values() if isinstance(value, dict) else value:
            bounded(one, depth + 1)
