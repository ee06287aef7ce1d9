"""Where events are kept, by its name: a path is an embedded store, `postgresql://…` a server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from sensorium.errors import SnapshotError
from sensorium.feedback import sound
from sensorium.feedback.marked import MarkedLog
from sensorium.feedback.store import Store


def embedded(where: Path | str) -> Path | None:
    """The file of an embedded store; None for a server's."""
    return None if "://" in str(where) else Path(where)


def opened(where: Path | str) -> Store:
    """The store of a path, or of a DSN (`postgresql://user@host/database?schema=shop`), made if it is not there. A file is looked through first.

    A database holds several stores, each in a schema of its own (without one: `sensorium`).

    **Raises** SnapshotError where it cannot be used, MissingExtra for PostgreSQL without psycopg.
    """
    name = str(where)
    scheme, _, _ = name.partition("://")
    if (file := embedded(where)) is not None:
        if file.exists():
            sound.check(file)
        return MarkedLog(file)
    if scheme in ("postgresql", "postgres"):
        from sensorium.feedback.postgres import PostgresStore

        try:
            parts = urlsplit(name)
        except ValueError:
            raise SnapshotError("the DSN cannot be read; write it as postgresql://user@host:port/database") from None
        words = parse_qsl(parts.query, keep_blank_values=True)
        schema = dict(words).get("schema") or "sensorium"
        others = urlencode([pair for pair in words if pair[0] != "schema"], quote_via=quote)
        return PostgresStore(urlunsplit(parts._replace(query=others)), schema=schema)
    raise SnapshotError(f"a store of the kind {scheme!r} is not known; give a path or postgresql://user@host/database")
