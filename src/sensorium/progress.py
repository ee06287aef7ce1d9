"""How long work shows itself: a bar for people, a JSON line a stage for programs, nothing for the quiet."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from sensorium.encode.encoder import Progress, silent

NAMES = {
    "read": "reading tables", "tune": "choosing settings", "train": "learning", "align": "aligning modalities",
    "evaluate": "ranking held-out events",
}  # fmt: skip


class Bars:
    """Progress bars on standard error, one a stage; a stage of unknown length gets a spinner."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display

        self._display = Display(
            SpinnerColumn(finished_text="✓"), TextColumn("{task.description:<28}", markup=False), BarColumn(bar_width=30),
            MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True),
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}
        self._latest: str | None = None
        self._reached = (0, 0)

    def __enter__(self) -> Progress:
        self._display.start()
        return self.show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._display.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """One step of a stage; the stage before it is taken as finished when another begins."""
        if stage != self._latest:
            self._finish()
            self._latest = stage
        elif anew(self._reached, (done, total)):
            self._finish()
            del self._tasks[stage]
        self._reached = (done, total)
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(NAMES.get(stage, stage), total=total or None)
        self._display.update(self._tasks[stage], completed=done, total=total or None)

    def _finish(self) -> None:
        if self._latest in self._tasks:
            task = self._tasks[self._latest]
            shown = next(t for t in self._display.tasks if t.id == task)
            total = shown.total or max(shown.completed, 1)
            self._display.update(task, completed=total, total=total)


@dataclass
class _Stage:
    name: str
    done: int
    total: int
    began: float


class Lines:
    """One JSON line a stage on standard output, when the stage ends: {"stage", "done", "total", "seconds"}.

    Stages follow one another; "read items" is a part of "read" and ends before it. A stage that counts nothing is one
    step. Counting that begins anew is a stage of its own: the same encoder, run on something else.
    """

    def __init__(self) -> None:
        self._open: list[_Stage] = []

    def __enter__(self) -> Progress:
        return self.show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while kind is None and self._open:
            self._close()

    def show(self, stage: str, done: int, total: int) -> None:
        """Remember the step; a new stage prints those that ended with it."""
        while self._open and stage != self._open[-1].name and not stage.startswith(f"{self._open[-1].name} "):
            self._close()
        if self._open and self._open[-1].name == stage:
            now = self._open[-1]
            if not anew((now.done, now.total), (done, total)):
                now.done, now.total = done, total
                return
            self._close()
        self._open.append(_Stage(stage, done, total, time.perf_counter()))

    def _close(self) -> None:
        stage = self._open.pop()
        seconds = round(time.perf_counter() - stage.began, 3)
        total = max(stage.total, stage.done) or 1
        done = stage.done if stage.total else total
        line = {"stage": stage.name, "done": done, "total": total, "seconds": seconds}
        print(json.dumps(line, ensure_ascii=False), flush=True)


def anew(before: tuple[int, int], now: tuple[int, int]) -> bool:
    """Whether a stage of the same name has begun again, by (done, total): it fell back, or counts towards another sum.

    >>> anew((2, 9), (3, 9)), anew((9, 9), (0, 9)), anew((9, 9), (4, 5)), anew((0, 0), (1, 1))
    (False, True, True, False)
    """
    return now[0] < before[0] or (before[1] > 0 and now[1] != before[1])


class Nothing:
    """No progress at all."""

    def __enter__(self) -> Progress:
        return silent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def shown(*, quiet: bool, lines: bool) -> Bars | Lines | Nothing:
    """The progress that the command line was asked for; where standard error is no terminal, bars are left out."""
    if lines:
        return Lines()
    return Nothing() if quiet or not sys.stderr.isatty() else Bars()
