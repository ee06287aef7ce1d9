"""Where events are kept, by its name: a path is an embedded store, `postgresql://…` a server."""

from __future__ import annotations

from pathlib import Path

from sensorium.errors import SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Store


def opened(where: Path | str) -> Store:
    """The store of a path, or of a DSN (`postgresql://user@host/database`), made if it is not there.

    **Raises** SnapshotError where it cannot be used, MissingExtra for PostgreSQL without psycopg.
    """
    name = str(where)
    scheme, mark, _ = name.partition("://")
    if not mark:
        return Log(where)
    if scheme in ("postgresql", "postgres"):
        from sensorium.feedback.postgres import PostgresStore

        return PostgresStore(name)
    raise SnapshotError(f"a store of the kind {scheme!r} is not known; give a path or postgresql://user@host/database")
