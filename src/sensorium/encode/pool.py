"""A small pool of decoding processes: a file that crashes or hangs a decoder costs one process, and is reported."""

from __future__ import annotations

import atexit
import collections
import json
import os
import queue
import select
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
from sensorium.encode.worker import settings
from sensorium.errors import MediaError

Request = dict[str, Any]
AHEAD = 24  # requests a worker may be ahead of whoever takes the answers: bounds memory


class TimedOut(MediaError):
    """Decoding took longer than a file may take. Another day it may not: such a refusal is not kept."""


class Decoders:
    """Decodes files in `workers` processes, in order, ahead of whoever reads the answers.

    The processes are started at the first request (a fresh interpreter each, so a script needs no `__main__` guard) and
    end with this one. A worker that dies or takes longer than `limits.seconds` for a file is replaced.
    """

    def __init__(self, workers: int | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.workers = workers or threads()
        self._tasks: queue.SimpleQueue[tuple[Request, Future] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        _OPEN.add(self)

    def decode(self, requests: Sequence[Request]) -> Iterator[list[NDArray] | MediaError]:
        """The arrays of each request, in order; a MediaError in the place of what cannot be decoded."""
        self._start()
        waiting: collections.deque[Future] = collections.deque()
        todo = iter(requests)
        for request in todo:
            waiting.append(self._ask(request))
            if len(waiting) >= AHEAD * self.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """End the processes."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _ask(self, request: Request) -> Future:
        answer: Future = Future()
        self._tasks.put((request, answer))
        return answer

    def _start(self) -> None:
        while len(self._threads) < self.workers:
            thread = threading.Thread(target=_serve, args=(self._tasks, self.limits), daemon=True)
            thread.start()
            self._threads.append(thread)


_OPEN: weakref.WeakSet[Decoders] = weakref.WeakSet()


def _serve(tasks: queue.SimpleQueue, limits: Limits) -> None:
    """One thread: hands requests to its process and its answers to whoever waits."""
    process: _Process | None = None
    while (task := tasks.get()) is not None:
        request, answer = task
        try:
            if process is None:
                process = _Process(limits)
            answer.set_result(process.ask(request))
        except Exception as error:
            if process is not None:
                process.end()
                process = None
            reason = error if isinstance(error, MediaError) else MediaError(f"the decoder failed: {error}")
            answer.set_result(reason)
    if process is not None:
        process.end()


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
        self._fresh = True
        self._in.write(settings(limits))

    def ask(self, request: Request) -> list[NDArray] | MediaError:
        """The answer to a request. **Raises** TimedOut, MediaError where the process died; it must be replaced then."""
        # A process that has just been started also imports its libraries.
        until = time.monotonic() + self._limits.seconds + (20.0 if self._fresh else 0.0)
        try:
            self._in.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise MediaError("the decoder could not be started") from None
        head = json.loads(self._line(until))
        self._fresh = False
        if "error" in head:
            return MediaError(head["error"])
        arrays = []
        for kind, shape in head["arrays"]:
            count = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            arrays.append(np.frombuffer(self._bytes(count, until), kind).reshape(shape))
        return arrays

    def end(self) -> None:
        """Kill the process."""
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
            raise TimedOut(f"takes longer than {self._limits.seconds:g} s to decode")
        read = os.read(self._out, 1 << 20)
        if not read:
            raise MediaError("crashes the decoder")
        self._rest += read


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
