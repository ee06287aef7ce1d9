"""The folder of a run: numbered snapshots, the name of the current one, and one writer at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sensorium import snapshot as snapshots
from sensorium.errors import SnapshotError
from sensorium.snapshot import Snapshot

ERASING = (
    "erasing"  # a file that stands in the folder for as long as snapshots that know a forgotten person may be left
)


def current(folder: Path) -> Path:
    """The folder of the current snapshot. **Raises** SnapshotError where there is no run."""
    try:
        name = (folder / "current").read_text("utf-8").strip()
    except OSError:
        raise SnapshotError(f"{folder}: no run here; make one with: sensorium train … --out {folder}") from None
    if not name.isdigit():
        raise SnapshotError(f"{folder / 'current'}: damaged; it should name one of the snapshots")
    return folder / "snapshots" / name


def keep(snapshot: Snapshot, folder: Path, *, only: bool = False, most: int = 3) -> str:
    """Write the next snapshot, make it the current one in one move, and drop the oldest (`only`: all others, for good)."""
    home = folder / "snapshots"
    home.mkdir(parents=True, exist_ok=True)
    there = _numbered(home)
    place = home / f"{int(there[-1].name) + 1 if there else 1:06d}"
    if only:
        (folder / ERASING).touch()
    snapshots.write(snapshot, place)
    draft = folder / f".current.{os.getpid()}"
    draft.write_text(place.name + "\n", "utf-8")
    os.replace(draft, folder / "current")
    if only:
        _erase(folder)
    for old in there[: max(0, len(there) + 1 - most)]:
        shutil.rmtree(old, ignore_errors=True)
    for leftover in home.glob(".*.draft"):  # of a writer that was killed; the lock says nobody is writing now
        shutil.rmtree(leftover, ignore_errors=True)
    return place.name


def finish_erasing(folder: Path) -> None:
    """Where a process was killed while it forgot somebody, remove the snapshots that it did not come to."""
    if (folder / ERASING).exists():
        with locked(folder):
            if (folder / ERASING).exists():
                _erase(folder)


def _erase(folder: Path) -> None:
    """Every snapshot but the current one goes, drafts too; nothing that fails is passed over."""
    here = current(folder)
    for place in (folder / "snapshots").iterdir():
        if place != here:
            shutil.rmtree(place)
    (folder / ERASING).unlink()


def _numbered(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.name.isdigit())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer a run, in any process."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
