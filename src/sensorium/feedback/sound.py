"""Whether an embedded store's file is whole: every row in every index, every page where it belongs."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from sensorium.errors import SnapshotError


def check(path: Path, *, seconds: float = 2.0) -> bool:
    """Looks through the file, for as long as it may take; returns whether it came to the end.

    **Raises** SnapshotError where it is damaged. What it finds: torn and mixed-up pages, and whatever an index holds
    otherwise than its table (people, items, keys, positions). **Cost** about 50 MB a second, at most `seconds`.
    """
    until = time.monotonic() + seconds
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30.0)) as base:
            base.set_progress_handler(lambda: int(time.monotonic() > until), 10_000)
            found = base.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return False
        raise SnapshotError(f"{path}: the feedback log cannot be looked through ({error})") from None
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the message itself may hold what is damaged
        found = str(error)
    if found != "ok":
        told = " ".join(str(found).split())[:200]
        raise SnapshotError(
            f"{path}: the feedback log is damaged ({told}); restore a copy, or move it away to start an empty one"
        )
    return True
