"""Logs as lines of JSON, without personal data: routes as templates, errors as kinds and places, never what they hold."""

from __future__ import annotations

import functools
import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import orjson

from sensorium.errors import RecipeError

LEVELS = ("debug", "info", "warning", "error")
LOG = logging.getLogger("sensorium.serve")


class Lines(logging.Formatter):
    """A record as one line. Of an error its class and where it arose are told; its text may name people, and is not.

    Of other libraries only the first line of a message is told, before its values are filled in.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _moment(record.created), "level": record.levelname.lower()}
        if record.name == LOG.name:
            line |= {"event": record.msg, **getattr(record, "told", {})}
        else:
            line |= {"event": record.name, "message": str(record.msg).splitlines()[0] if record.msg else ""}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            line["error"] = type(error).__name__
            line["where"] = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[-8:]]
        return orjson.dumps(line, default=str).decode()


def told_from(level: int) -> bool:
    """Whether lines of this level are told: whoever has to work a line out asks first."""
    return LOG.isEnabledFor(level)


def tell(event: str, level: int = logging.INFO, *, error: BaseException | None = None, **told: Any) -> None:
    """One line of the log, where its level is asked for."""
    if told_from(level):
        # Not by LOG.log, which first looks through the stack for whoever called it: half of what a line costs.
        raised = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord(LOG.name, level, "", 0, event, None, raised)
        record.told = told
        LOG.handle(record)


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _moment(seconds: float) -> str:
    """A time in UTC.

    >>> _moment(1635057740.2071)
    '2021-10-24T06:42:20.207Z'
    """
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


def listen(level: str, stream: TextIO | None = None) -> logging.Handler:
    """All logs of this process as lines on a stream (None: standard error). **Raises** RecipeError for an unknown level."""
    if level not in LEVELS:
        raise RecipeError(f"log level {level!r}: there are {', '.join(LEVELS)}")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nothing here tells them
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("WARNING")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # by its own configuration they have handlers
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
    LOG.setLevel(level.upper())
    return handler
