"""Several processes that answer for one run, on one port of one machine.

Each is started anew with the words of the command line, opens the same store, and listens on the same port: the kernel
gives every connection to one of them. What one of them writes, the others read; which of them learns is settled by a
lock on the run. One that dies is started again; when whoever started them ends, they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from sensorium.errors import RecipeError
from sensorium.serve.logs import tell

PAUSES = (1.0, 30.0)  # before one is started again: the first, doubled each time it ends early, and the longest
SPARE_SECONDS = 30.0  # beyond the grace, before a process is killed
TICK_SECONDS = 0.2
WAITING_CONNECTIONS = 2048  # that the machine accepts for us; beyond, a client waits for its own machine
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def supervised(words: Sequence[str], number: int, *, grace_seconds: float = 30.0) -> int:
    """Runs so many processes with these words until told to stop; returns the exit code. Each has the grace to finish.
    One that ends by itself is told in one line of the log, with its status or the signal.

    **Raises** RecipeError where one ends by itself when it was never killed: it has said why.
    """
    stopping = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    command = [sys.executable, "-m", "sensorium", *words, "--workers", "1", "--worker-of", str(os.getpid())]
    started = [(subprocess.Popen(command), time.monotonic()) for _ in range(number)]
    first = set(range(number))  # the places whose first process still runs
    again: dict[int, float] = {}  # when a place is filled again
    pauses = [PAUSES[0]] * number
    try:
        while not stopping:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            for place, (process, begun) in enumerate(started):
                if process.poll() is None:
                    continue
                if process.returncode > 0 and place in first:  # not killed: it cannot be started at all
                    raise RecipeError(f"a worker ended with {process.returncode} by itself; it said why")
                if place not in again:
                    tell("a worker ended", logging.WARNING, pid=process.pid, **_how(process.returncode))
                    pauses[place] = min(2 * pauses[place], PAUSES[1]) if now - begun < PAUSES[1] else PAUSES[0]
                    again[place] = now + pauses[place] / 2
                elif now >= again[place]:
                    del again[place]
                    first.discard(place)
                    started[place] = (subprocess.Popen(command), now)
    finally:
        _ended([process for process, _ in started], grace_seconds + SPARE_SECONDS)
    return 0


def _how(code: int) -> dict[str, Any]:
    """How a process ended: with a status, or by a signal."""
    if code >= 0:
        return {"status": code}
    with contextlib.suppress(ValueError):  # a signal without a name
        return {"signal": signal.Signals(-code).name}
    return {"signal": -code}


def _ended(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(until - time.monotonic(), 0))
        if process.poll() is None:
            process.kill()
            process.wait()


def end_with(parent: int) -> None:
    """This process is told to stop when whoever started it is gone, however that ended."""
    with contextlib.suppress(OSError, AttributeError):  # elsewhere than on Linux it goes on by itself
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A listening socket, `shared` with the other workers. **Raises** RecipeError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=WAITING_CONNECTIONS, reuse_port=shared)
    except (OSError, UnicodeError, ValueError) as error:
        why = getattr(error, "strerror", "") or error
        raise RecipeError(f"{netloc(host, port)} cannot be listened on ({why})") from None


def netloc(host: str, port: int) -> str:
    """A host and its port as they are written together.

    >>> netloc("127.0.0.1", 8087), netloc("::", 8087)
    ('127.0.0.1:8087', '[::]:8087')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
