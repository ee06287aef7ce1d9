"""What reading found: rows that were rejected, media that are missing, and what each column was taken for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sensorium.errors import DataError

LISTED = 1_000  # rejected rows and missing files beyond this are counted, not listed


@dataclass(frozen=True)
class Rejected:
    """One row that was left out. `line` counts from 1, the header included; in Parquet it is the row."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Missing:
    """One media file that a table names and that is not there."""

    file: str
    line: int
    path: str


@dataclass(frozen=True)
class Report:
    """All that reading has to say. `counts` holds the sizes by name (items, users, events, rows of each file …).

    `taken` says, for each file and column, what it was taken for. `reasons` counts rejected rows by reason;
    `rejected` and `missing` list the first thousand of each.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The report as dictionaries, lists, numbers and strings, for JSON or a terminal."""
        return {
            "counts": dict(self.counts),
            "rows": dict(self.rows),
            "taken": {name: dict(columns) for name, columns in self.taken.items()},
            "reasons": dict(self.reasons),
            "rejected": [{"file": r.file, "line": r.line, "reason": r.reason} for r in self.rejected],
            "missing": [{"file": m.file, "line": m.line, "path": m.path} for m in self.missing],
            "notes": list(self.notes),
        }


class Findings:
    """Collects what reading finds. With `strict`, the first rejected row raises DataError."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.counts: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.taken: dict[str, dict[str, str]] = {}
        self._reasons: dict[str, int] = {}
        self._rejected: list[Rejected] = []
        self._missing: list[Missing] = []
        self._missed = 0
        self._notes: dict[str, None] = {}

    def reject(self, file: str, line: int, reason: str, *, group: str | None = None) -> None:
        """One row is left out; `group` is the reason without its particulars, under which it is counted."""
        if self.strict:
            raise DataError(f"{file}, line {line}: {reason}; mend the row, or leave --strict out to go on without it")
        group = group or reason
        self._reasons[group] = self._reasons.get(group, 0) + 1
        if len(self._rejected) < LISTED:
            self._rejected.append(Rejected(file, line, reason))

    def reject_many(self, places: Iterable[tuple[str, int]], count: int, reason: str) -> None:
        """`count` rows are left out for one reason; only as many `places` are read as are listed."""
        if not count:
            return
        for file, line in places:
            if not self.strict and len(self._rejected) >= LISTED:
                break
            self.reject(file, line, reason)
            count -= 1
            if not count:
                return
        self._reasons[reason] = self._reasons.get(reason, 0) + count

    def miss(self, file: str, line: int, path: str) -> None:
        """A media file that is named and not there."""
        self._missed += 1
        if len(self._missing) < LISTED:
            self._missing.append(Missing(file, line, path))

    def take(self, file: str, column: str, role: str) -> None:
        """What a column was taken for."""
        self.taken.setdefault(file, {})[column] = role

    def note(self, text: str) -> None:
        """Something worth saying that rejects nothing; said once."""
        self._notes[text] = None

    def report(self) -> Report:
        """The findings, frozen."""
        counts = {**self.counts, "rejected": sum(self._reasons.values()), "missing": self._missed}
        reasons = dict(sorted(self._reasons.items(), key=lambda pair: (-pair[1], pair[0])))
        return Report(
            counts=counts, rows=dict(self.rows), taken={k: dict(v) for k, v in self.taken.items()}, reasons=reasons,
            rejected=tuple(self._rejected), missing=tuple(self._missing), notes=tuple(self._notes),
        )  # fmt: skip
