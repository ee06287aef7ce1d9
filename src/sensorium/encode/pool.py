"""A small pool of decoding processes: a file that crashes or hangs a decoder costs one process, and is reported."""

from __future__ import annotations

import atexit
import collections
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import threads
from sensorium.encode.media import Limits
from sensorium.encode.reasons import without_paths
from sensorium.encode.worker import READY, STARTING_SECONDS, settings
from sensorium.errors import MediaError

Request = dict[str, Any]
AHEAD = 24  # requests a worker may be ahead of whoever takes the answers: bounds memory


class Passing(MediaError):
    """A refusal that is not the file's fault for certain, and may not come another day: it is not kept."""


class TimedOut(Passing):
    """Decoding took longer than a file may take."""


class Decoders:
    """Decodes files in `workers` processes, in order, ahead of whoever reads the answers.

    The processes are started at the first request (a fresh interpreter each, so a script needs no `__main__` guard) and
    end with this one. A worker that dies or takes longer than `limits.seconds` for a file is replaced. A file at which one
    died is tried once more, since something else may have killed it.
    """

    def __init__(self, workers: int | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.workers = workers or threads()
        self._tasks: queue.SimpleQueue[tuple[Request, Future] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._processes: set[_Process] = set()
        self._closing = False
        _OPEN.add(self)

    def decode(self, requests: Sequence[Request]) -> Iterator[list[NDArray] | MediaError]:
        """The arrays of each request, in order; a MediaError in the place of what cannot be decoded."""
        self._start()
        waiting: collections.deque[Future] = collections.deque()
        try:
            for request in requests:
                # A worker stays in the folder that it was started in, whatever this process does.
                waiting.append(self._ask({**request, "path": os.path.abspath(request["path"])}))
                if len(waiting) >= AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # whoever stops reading wants no more of it decoded
            for left in waiting:
                left.cancel()

    def close(self) -> None:
        """End the processes, whatever they are at."""
        self._closing = True
        for _ in self._threads:
            self._tasks.put(None)
        while any(thread.is_alive() for thread in self._threads):
            for process in list(self._processes):
                process.kill()
            for thread in self._threads:
                thread.join(0.1)
        self._threads.clear()

    def _ask(self, request: Request) -> Future:
        answer: Future = Future()
        self._tasks.put((request, answer))
        return answer

    def _start(self) -> None:
        self._closing = False
        while len(self._threads) < self.workers:
            thread = threading.Thread(target=self._serve, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self) -> None:
        """One thread: hands requests to its process and its answers to whoever waits."""
        process: _Process | None = None
        while (task := self._tasks.get()) is not None:
            request, answer = task
            if not answer.set_running_or_notify_cancel():
                continue
            found: list[NDArray] | MediaError = Passing("decoding was ended")
            for _ in range(2):
                if self._closing:
                    break
                try:
                    if process is None:
                        process = _Process(self.limits)
                        self._processes.add(process)
                    found = process.ask(request)
                    break
                except Exception as error:
                    if process is not None:
                        self._processes.discard(process)
                        process.end()
                        process = None
                    found = (
                        error
                        if isinstance(error, MediaError)
                        else Passing(f"the decoder failed: {without_paths(str(error))}")
                    )
                    if isinstance(error, TimedOut):
                        break
            answer.set_result(found)
        if process is not None:
            self._processes.discard(process)
            process.end()


_OPEN: weakref.WeakSet[Decoders] = weakref.WeakSet()


class _Process:
    """One decoding process."""

    def __init__(self, limits: Limits) -> None:
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        self._limits = limits
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sensorium.encode.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers itself
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout.fileno()
        self._rest = bytearray()
        self._ready = False
        self._in.write(settings(limits))

    def ask(self, request: Request) -> list[NDArray] | MediaError:
        """The answer to a request. **Raises** TimedOut, MediaError where the process died; it must be replaced then."""
        try:
            self._in.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise Passing("the decoder ended before it was asked") from None
        if not self._ready:
            if self._line(time.monotonic() + STARTING_SECONDS) != READY:
                raise Passing("the decoder does not start as it should")
            self._ready = True
        until = time.monotonic() + self._limits.seconds
        head = json.loads(self._line(until))
        if "error" in head:
            return MediaError(head["error"])
        arrays = []
        for kind, shape in head["arrays"]:
            count = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            arrays.append(np.frombuffer(self._bytes(count, until), kind).reshape(shape))
        return arrays

    def kill(self) -> None:
        """End the process; `end` must still follow."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _line(self, until: float) -> bytes:
        while (at := self._rest.find(b"\n")) < 0:
            self._more(until)
        line = bytes(self._rest[:at])
        del self._rest[: at + 1]
        return line

    def _bytes(self, count: int, until: float) -> bytes:
        while len(self._rest) < count:
            self._more(until)
        found = bytes(self._rest[:count])
        del self._rest[:count]
        return found

    def _more(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0 or not select.select([self._out], [], [], left)[0]:
            if not self._ready:
                raise Passing(f"the decoder does not start within {STARTING_SECONDS:g} s; is the machine busy?")
            raise TimedOut(f"takes longer than {self._limits.seconds:g} s to decode")
        read = os.read(self._out, 1 << 20)
        if not read:
            raise self._died()
        self._rest += read

    def _died(self) -> MediaError:
        """Why the process ended by itself."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = 0
        if not self._ready:
            return Passing(f"the decoder cannot be started (exit code {code}); does `import sensorium` work?")
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return Passing("its decoder was killed from outside; is there memory enough?")
        return MediaError(f"crashes the decoder ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})")


@atexit.register
def _close_all() -> None:
    for decoders in list(_OPEN):
        decoders.close()


_SHARED: dict[Limits, Decoders] = {}


def decoders(limits: Limits) -> Decoders:
    """The pool of this process for some limits; started once."""
    if limits not in _SHARED:
        _SHARED[limits] = Decoders(limits=limits)
    return _SHARED[limits]
