"""The folder of a run: numbered snapshots, the name of the current one, their history, and one writer at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sensorium import snapshot as snapshots
from sensorium.arrays import digest
from sensorium.errors import SnapshotError
from sensorium.snapshot import UPLOAD as UPLOAD
from sensorium.snapshot import UPLOADS as UPLOADS
from sensorium.snapshot import Snapshot

ERASING = (
    "erasing"  # a file that stands in the folder for as long as snapshots that know a forgotten person may be left
)
KEPT = 5  # snapshots that lie in the folder, the current one included
TOLD = 200  # lines of history
CANDIDATE = ".candidate"  # what a folder under snapshots/ is called that has not passed yet


@dataclass(frozen=True)
class Version:
    """One line of a run's history: a snapshot that answered, or one that was refused, and why."""

    name: str  # of its folder; "" where it was refused
    made: float  # seconds since 1970
    why: str  # train, add, hide, update, refresh, forget, rollback
    state: str = "kept"  # or withdrawn (somebody went back from it), refused
    position: int = 0  # how far in the log it has read
    of: str = ""  # the version it was made from, or that it restores
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """All versions, oldest first; `held` says since when, and why, no version is made without being asked for."""

    versions: tuple[Version, ...] = ()
    held: Mapping[str, Any] | None = None

    def of(self, name: str) -> Version | None:
        """What is told of a version."""
        return next((version for version in reversed(self.versions) if version.name == name and name), None)


def store_of(folder: Path) -> Path | str:
    """Where the events of a run are: as `$SENSORIUM_STORE` says, `{run}` in it being the name of its folder; else with it."""
    chosen = os.environ.get("SENSORIUM_STORE")
    return chosen.replace("{run}", folder.resolve().name) if chosen else folder / "log.sqlite"


def current(folder: Path) -> Path:
    """The folder of the current snapshot. **Raises** SnapshotError where there is no run, or its name is damaged.

    Beside the name stands the digest of the manifest, so that no slip of a digit names another version; a file of an
    older run has the name alone.
    """
    try:
        words = (folder / "current").read_bytes().decode("ascii").split()
    except OSError:
        raise SnapshotError(f"{folder}: no run here; make one with: sensorium train … --out {folder}") from None
    except UnicodeDecodeError:
        words = []
    damaged = SnapshotError(
        f"{folder / 'current'}: it is damaged, or the snapshot that it names is; go back to another with: "
        f"sensorium rollback {folder} --to NAME"
    )
    if not words or len(words) > 2 or not (words[0].isascii() and words[0].isdigit()):
        raise damaged
    place = folder / "snapshots" / words[0]
    if len(words) == 2 and _mark(place) not in ("", words[1]):  # a manifest that is missing is told when it is read
        raise damaged
    return place


def keep(
    snapshot: Snapshot, folder: Path, *, only: bool = False, why: str = "", most: int = KEPT,
    of: str = "", figures: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Write the next snapshot, make it the current one in one move, and drop the oldest (`only`: all others, for good)."""
    place = _next(folder)
    if only:
        (folder / ERASING).touch()
    snapshots.write(snapshot, place)
    version = Version(place.name, time.time(), why or "train", "kept", snapshot.position, of, (), figures or {})
    _settle(folder, version, only=only, most=most)
    return place.name


def promote(candidate: Path, folder: Path, version: Version, *, most: int = KEPT) -> str:
    """A snapshot that was written elsewhere in the folder becomes the current one, under the next number."""
    place = _next(folder)
    os.replace(candidate, place)
    _settle(folder, replace(version, name=place.name), only=False, most=most)
    return place.name


def _next(folder: Path) -> Path:
    home = folder / "snapshots"
    home.mkdir(parents=True, exist_ok=True)
    there = _numbered(home)
    told = [int(version.name) for version in history(folder).versions if version.name.isdigit()]
    return home / f"{max([0, *(int(path.name) for path in there), *told]) + 1:06d}"


def _settle(folder: Path, version: Version, *, only: bool, most: int) -> None:
    """One move makes the version the current one; then what is too old goes."""
    home = folder / "snapshots"
    _write(folder / "current", f"{version.name} {_mark(home / version.name)}\n")
    if only:
        _erase(folder)
        _tell(folder, History((), history(folder).held))  # no figures of versions that knew a forgotten person
    for old in _numbered(home)[:-most]:
        if old.name != version.name:
            shutil.rmtree(old, ignore_errors=True)
    for leftover in home.glob(".*.draft"):  # of a writer that was killed; the lock says nobody is writing now
        if CANDIDATE not in leftover.name:
            shutil.rmtree(leftover, ignore_errors=True)
    note(folder, version)


def _mark(place: Path) -> str:
    """The digest of a manifest's bytes, "" where there is none."""
    try:
        return digest((place / "manifest.json").read_bytes())
    except OSError:
        return ""


# --- history ------------------------------------------------------------------------------------------------------


def history(folder: Path) -> History:
    """What is told of the versions. A history that is missing or damaged is told anew from the snapshots that lie there."""
    try:
        told = json.loads((folder / "versions.json").read_text("utf-8"))
        if told["digest"] != _told(told):
            raise ValueError
        names = {f.name for f in fields(Version)}
        lines = [{k: v for k, v in line.items() if k in names} for line in told["versions"]]
        return History(tuple(Version(**{**line, "reasons": tuple(line["reasons"])}) for line in lines), told["held"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        home = folder / "snapshots"
        found = _numbered(home) if home.exists() else []
        return History(tuple(Version(path.name, path.stat().st_mtime, "found") for path in found))


def note(folder: Path, version: Version) -> None:
    """Adds a line to the history; the oldest go beyond TOLD."""
    before = history(folder)
    rest = [line for line in before.versions if not (line.name and line.name == version.name)]
    _tell(folder, replace(before, versions=(*rest, version)[-TOLD:]))


def withdraw(folder: Path, name: str, held: Mapping[str, Any]) -> None:
    """Marks a version as one that somebody went back from; from now on none is made without being asked for."""
    before = history(folder)
    lines = [replace(line, state="withdrawn") if line.name == name else line for line in before.versions]
    _tell(folder, History(tuple(lines), held))


def release(folder: Path) -> None:
    """Versions may be made again without being asked for."""
    before = history(folder)
    if before.held is not None:
        _tell(folder, replace(before, held=None))


def point(folder: Path, name: str) -> None:
    """Makes a snapshot that lies in the folder the current one, whatever `current` says."""
    if name not in kept(folder):
        raise SnapshotError(f"{folder}: no version {name!r}; there are {', '.join(kept(folder)) or 'none'}")
    snapshots.read(folder / "snapshots" / name)
    _write(folder / "current", f"{name} {_mark(folder / 'snapshots' / name)}\n")


def kept(folder: Path) -> list[str]:
    """The names of the snapshots that lie in the folder, ascending."""
    return [path.name for path in _numbered(folder / "snapshots")]


def _tell(folder: Path, told: History) -> None:
    body: dict[str, Any] = {"held": told.held, "versions": [asdict(version) for version in told.versions]}
    body["digest"] = _told(json.loads(json.dumps(body)))
    _write(folder / "versions.json", json.dumps(body, ensure_ascii=False))


def _told(body: Mapping[str, Any]) -> str:
    return digest(json.dumps({k: v for k, v in body.items() if k != "digest"}, sort_keys=True))


def _write(path: Path, text: str) -> None:
    """A small file, complete or as it was, on the disk when this returns."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


# --- forgetting, locking ------------------------------------------------------------------------------------------


def finish_erasing(folder: Path) -> None:
    """Where a process was killed while it forgot somebody, remove the snapshots that it did not come to."""
    if (folder / ERASING).exists():
        with locked(folder):
            if (folder / ERASING).exists():
                _erase(folder)


def _erase(folder: Path) -> None:
    """Every snapshot but the current one goes, drafts and candidates too; nothing that fails is passed over."""
    here = current(folder)
    for place in (folder / "snapshots").iterdir():
        if place != here:
            shutil.rmtree(place)
    (folder / ERASING).unlink()


def _numbered(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.name.isdigit())


@contextlib.contextmanager
def locked(folder: Path, name: str = "lock", *, wait: bool = True) -> Iterator[None]:
    """One writer a run, in any process. Without `wait`, **raises** BlockingIOError where another has it."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
