"""Media that came by upload: files in the folder of a run, each one item's alone, named in documents by a mark."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from sensorium.arrays import digest
from sensorium.data.columns import MEDIA_NAMES, Things
from sensorium.data.content import AUDIO, IMAGE, VIDEO
from sensorium.feedback.store import Store
from sensorium.runs import UPLOAD

KIND = "uploads"  # of the documents in the store: by item, which file each column has
UPLOADED = "upload:"  # begins the mark of a file; its name follows
_NAME = re.compile(UPLOAD)


def kept(home: Path, store: Store, item: str, files: Mapping[str, tuple[str, bytes]]) -> dict[str, str]:
    """The marks of an item's files, once they are on the disk and noted for it. `files` are endings and bytes by column.

    A file is named by its item, its column and its bytes. **Raises** OSError where the disk is full.
    """
    marks = {
        column: UPLOADED + _laid(home, digest(item, column, body) + end, body) for column, (end, body) in files.items()
    }
    store.put(KIND, {item: {**(store.get(KIND, item) or {}), **marks}})
    return marks


def _laid(home: Path, name: str, body: bytes) -> str:
    home.mkdir(exist_ok=True)
    draft = home / f".{name}.{os.getpid()}.draft"
    try:
        with draft.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, home / name)
    finally:
        draft.unlink(missing_ok=True)
    handle = os.open(home, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return name


def opened(path: Path) -> IO[bytes]:
    """A file to be read; no link is followed. **Raises** FileNotFoundError where there is none, or something else."""
    none = FileNotFoundError(errno.ENOENT, "no regular file", str(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would be waited for
    except OSError as error:
        raise none if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO) else error from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise none
    return open(handle, "rb")


def name_of(value: object, begins: str = UPLOADED) -> str:
    """The name of the file that a value is the mark of, "" where it is none.

    >>> name_of("upload:" + "0f" * 16 + ".jpg"), name_of("upload:../log.sqlite"), name_of(7)
    ('0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f.jpg', '', '')
    """
    name = value.removeprefix(begins) if isinstance(value, str) and value.startswith(begins) else ""
    return name if _NAME.fullmatch(name) else ""


def columns_of(things: Things) -> dict[str, str]:
    """The columns of media that the run's table has, or may have, and the modality of each."""
    if things.conventional:
        return {column: kind for kind, columns in MEDIA_NAMES.items() for column in columns}
    named = {IMAGE: things.image, AUDIO: things.audio, VIDEO: things.video}
    return {column: kind for kind, columns in named.items() for column in columns or ()}
