"""The log's entries as Gorse's feedback."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sensorium.data.prepare import folded
from sensorium.engine import CLOCKS_SECONDS
from sensorium.feedback.store import Entry
from sensorium.serve.service import Service
from sensorium.serve.shelf import plain, written

TYPES = "gorse-types"  # how a type of feedback is spelled, by its name in the log
READ = 1000  # entries of the log read at a time


class Said:
    """The log's entries as Gorse's feedback: those of one person, item and type together."""

    def __init__(self, service: Service) -> None:
        self.service, self.store = service, service.store
        self._spelling: dict[str, str] = {}

    async def spelled(self, kinds: Iterable[str]) -> None:
        """Keeps how types are spelled where the log writes them otherwise; the first spelling stays."""
        other = {folded(kind): kind for kind in kinds if folded(kind) != kind}

        def kept() -> None:
            fresh = {name: plain({"name": kind}) for name, kind in other.items() if self._spelled(name) == name}
            if fresh:
                self.store.put(TYPES, fresh)

        if other.keys() - self._spelling.keys():
            await self.service.threaded(kept)

    def _spelled(self, kind: str) -> str:
        if kind not in self._spelling:
            body = self.store.get(TYPES, kind)
            if body is None:
                return kind
            self._spelling[kind] = body["name"]
        return self._spelling[kind]

    def told(self, entries: Iterable[Entry], kind: str | None = None) -> list[dict[str, Any]]:
        """Entries as feedback, in the order of the first of each; none whose time is yet to come."""
        until = time.time() + CLOCKS_SECONDS
        together: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in entries:
            if kind in (None, entry.kind) and entry.time <= until:
                together.setdefault((entry.user, entry.item, entry.kind), []).append(entry)
        return [self._one(group) for group in together.values()]

    def page(self, after: int, n: int, kind: str | None = None) -> dict[str, Any]:
        """Feedback whose first entry stands after a position of the log."""
        found: list[dict[str, Any]] = []
        done: set[tuple[str, str, str]] = set()
        while entries := self.store.read(after, most=READ):
            for entry in entries:
                after = entry.position
                mark = (entry.user, entry.item, entry.kind)
                if mark in done or kind not in (None, entry.kind):
                    continue
                done.add(mark)
                group = [e for e in self.store.read(user=entry.user, item=entry.item) if e.kind == entry.kind]
                if group and group[0].position == entry.position:
                    found += self.told(group)
                if len(found) == n:
                    return {"Cursor": str(after) if after < self.store.end else "", "Feedback": found}
        return {"Cursor": "", "Feedback": found}

    def _one(self, group: Sequence[Entry]) -> dict[str, Any]:
        first = group[0]
        return {
            "FeedbackType": self._spelled(first.kind), "UserId": first.user, "ItemId": first.item,
            "Value": sum(entry.value or 0.0 for entry in group), "Timestamp": written(first.time),
            "Updated": written(group[-1].time), "Comment": next((e.text for e in reversed(group) if e.text), ""),
        }  # fmt: skip
