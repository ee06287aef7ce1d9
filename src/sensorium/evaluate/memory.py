"""The most memory this process held while a block ran."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

STATUS = Path("/proc/self/status")


class Memory:
    """A block whose peak of resident memory is watched; `peak_mib` is 0 where the system does not tell.

    The kernel keeps one high mark for the whole life of a process. If the block raises it, the mark is the exact answer;
    else a thread's samples are, every 20 ms, which can miss a shorter spike (and never change the mark, for others read
    it too).

    >>> with Memory() as memory:
    ...     held = bytearray(1000)
    >>> memory.peak_mib >= 0
    True
    """

    def __init__(self, every_seconds: float = 0.02) -> None:
        self.peak_mib = 0.0
        self._every_seconds = every_seconds
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._mark = 0.0

    def __enter__(self) -> Memory:
        self._mark, self.peak_mib = _status_mib()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        mark, now = _status_mib()
        self.peak_mib = mark if mark > self._mark else max(self.peak_mib, now)

    def _watch(self) -> None:
        while not self._done.wait(self._every_seconds):
            self.peak_mib = max(self.peak_mib, _status_mib()[1])


def _status_mib() -> tuple[float, float]:
    """The high mark and the present size of resident memory."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmHWM", "VmRSS"))}
    return sizes.get("VmHWM", 0.0), sizes.get("VmRSS", 0.0)
