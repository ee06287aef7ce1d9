"""How long work shows itself: a bar for people, a JSON line a stage for programs, nothing for the quiet."""

from __future__ import annotations

import json
import sys
import time
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
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(NAMES.get(stage, stage), total=total or None)
        self._display.update(self._tasks[stage], completed=done, total=total or None)

    def _finish(self) -> None:
        if self._latest in self._tasks:
            task = self._tasks[self._latest]
            shown = next(t for t in self._display.tasks if t.id == task)
            total = shown.total or max(shown.completed, 1)
            self._display.update(task, completed=total, total=total)


class Lines:
    """One JSON line a stage on standard output, when the stage ends: {"stage", "done", "seconds"}."""

    def __init__(self) -> None:
        self._stage: tuple[str, int, int] | None = None
        self._began = time.perf_counter()

    def __enter__(self) -> Progress:
        return self.show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close()

    def show(self, stage: str, done: int, total: int) -> None:
        """Remember the step; a new stage prints the one before."""
        if self._stage is not None and self._stage[0] != stage:
            self._close()
        self._stage = (stage, done, total)

    def _close(self) -> None:
        if self._stage is not None:
            stage, done, _ = self._stage
            seconds = round(time.perf_counter() - self._began, 3)
            print(json.dumps({"stage": stage, "done": done, "seconds": seconds}), flush=True)
        self._stage, self._began = None, time.perf_counter()


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
