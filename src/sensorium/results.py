"""The places where results are written: asked before the work, and filled in one move."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sensorium.errors import DataError


def write(path: Path, text: str) -> None:
    """The file in one move, so that a reader never finds half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, "utf-8")
        os.replace(draft, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise DataError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
        raise


def check(*, file: Sequence[Path | None] = (), folder: Path | None = None) -> None:
    """Whether results can be written where they are wanted; asked before the work, and leaving nothing behind."""
    for path in (*file, folder):
        if path is None:
            continue
        try:
            if path is not folder and path.is_dir():
                raise DataError(f"{path}: is a folder; name a file to write")
            if path is folder and path.exists() and not path.is_dir():
                raise DataError(f"{path}: is a file; name a folder for the run")
            there = path if path is folder else path.parent
            while not there.exists() and there != there.parent:
                there = there.parent
            if not there.is_dir():
                raise DataError(f"{path}: {there} is a file, no folder; choose another place")
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            told = "no file can be made there" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            raise DataError(f"{path}: cannot be written ({told}); choose another place") from error
