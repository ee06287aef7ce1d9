"""A run as one file, made while it is served: its current version, store and uploads; and a run from such a file.

The file is an uncompressed zip archive: `contents.json` (the size and digest of every other member), `store.sqlite`, the
files of `snapshot/`, and under `media/` what was uploaded. Nothing in it is trusted: names are of a fixed form, sizes are bounded before anything is
written, every byte is held against its digest, and what came out is opened once before it becomes a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.errors import SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.open import opened
from sensorium.feedback.store import Store

FORMAT = 1
CONTENTS = "contents.json"
STORE = "store.sqlite"
UPLOADED = f"{runs.UPLOADS}/"  # begins the name of a member that came by upload
MEMBER = re.compile(rf"store\.sqlite|snapshot/[a-z][a-z0-9_]{{0,63}}\.(json|jsonl|safetensors)|{UPLOADED}{runs.UPLOAD}")
MEMBERS = 64  # without uploads
MOST_UPLOADS = 100_000
LISTING_BYTES = 1 << 24  # of contents.json: some 120 for a member
TRIES = 10  # before a run that changes all the time is given up
PIECE = 1 << 20


def backup(folder: Path | str, store: Store, file: Path | str) -> dict[str, Any]:
    """Writes the run in a folder, and its store, to a file; returns what is in it. Others go on reading and writing.

    The store is copied after the version, so that whatever the version has read is in it, and before the uploads, which
    are on the disk before the store tells of them; where somebody was forgotten meanwhile, it begins anew. The file is there whole, on the disk, or not at all. **Raises** SnapshotError.
    """
    folder, file = Path(folder), Path(file)
    draft = file.with_name(f".{file.name}.{os.getpid()}.draft")
    with _told(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            for _ in range(TRIES):
                with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup.") as name, _version(folder) as files:
                    copy = Path(name) / STORE
                    store.backup(copy)
                    if not _still(folder, files):
                        continue
                    with copy.open("rb") as stored:
                        told = _written(draft, {STORE: stored, **files}, _uploads(folder))
                os.replace(draft, file)
                _flushed(file.parent)
                return told
        finally:
            draft.unlink(missing_ok=True)
    raise SnapshotError(f"{folder}: it changes faster than it can be copied; try again")


def restore(file: Path | str, folder: Path | str, where: Path | str | None = None) -> dict[str, Any]:
    """Makes a run of a backup, in a folder that is not there yet, or empty; returns what was in it.

    The store stands in that folder, or where a DSN says, in a schema that is empty.
    **Raises** SnapshotError where the file is no backup, is damaged, or does not fit on the disk; nothing is left then.
    """
    file, folder = Path(file), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SnapshotError(f"{folder}: there is something already; restore to a new folder")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    with _told(file):
        try:
            place = draft / "snapshots" / "000001"
            place.mkdir(parents=True)
            with zipfile.ZipFile(file) as archive:
                told = _listing(archive)
                free = shutil.disk_usage(draft).free
                if told["bytes"] > free:
                    raise SnapshotError(f"{file}: it holds {told['bytes']:,} bytes, {folder} has room for {free:,}")
                for name, wanted in told["files"].items():
                    if name == STORE:
                        whole = draft / "log.sqlite"
                    elif name.startswith(UPLOADED):
                        whole = draft / name
                        whole.parent.mkdir(exist_ok=True)
                    else:
                        whole = place / name.removeprefix("snapshot/")
                    _extracted(archive, name, wanted, whole)
            snapshots.read(place)
            _settled(draft / "log.sqlite", folder / "log.sqlite", where)
            (draft / "current").write_text(place.name + "\n", "utf-8")
            for path in (
                *(path for path in draft.iterdir() if path.is_file()),
                *place.iterdir(),
                *sorted((draft / runs.UPLOADS).glob("*")),
                *draft.glob(runs.UPLOADS),
                place,
                place.parent,
                draft,
            ):
                _flushed(path)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft, folder)
            _flushed(folder.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return told


# --- writing ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _version(folder: Path) -> Iterator[dict[str, IO[bytes]]]:
    """The files of the current version, held open: they can be read to their end even if the version is dropped."""
    with contextlib.ExitStack() as held:
        for left in reversed(range(TRIES)):
            here = runs.current(folder)
            try:
                paths = sorted(path for path in here.iterdir() if path.is_file())
                yield {f"snapshot/{path.name}": held.enter_context(path.open("rb")) for path in paths}
                return
            except FileNotFoundError:  # another version came, and this one was dropped
                if not left:
                    raise


def _still(folder: Path, files: Mapping[str, IO[bytes]]) -> bool:
    """Whether nobody was forgotten since: then the version is gone, or about to go."""
    return not (folder / runs.ERASING).exists() and all(Path(file.name).exists() for file in files.values())


def _uploads(folder: Path) -> list[Path]:
    """What was uploaded, and nothing else that lies there. **Raises** SnapshotError where it is more than a backup holds."""
    home = folder / runs.UPLOADS
    paths = sorted(path for path in home.iterdir() if re.fullmatch(runs.UPLOAD, path.name)) if home.is_dir() else []
    if len(paths) > MOST_UPLOADS:
        raise SnapshotError(f"{home}: {len(paths):,} uploads, a backup holds {MOST_UPLOADS:,}; copy the folder instead")
    return paths


def _named(files: Mapping[str, IO[bytes]], uploads: Sequence[Path]) -> Iterator[tuple[str, IO[bytes]]]:
    """The members and their names; uploads are opened one at a time, and no link is followed."""
    yield from files.items()
    for path in uploads:
        with contextlib.suppress(FileNotFoundError):  # its item was dropped meanwhile
            if stat.S_ISREG(path.lstat().st_mode):
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                    yield UPLOADED + path.name, file


def _written(draft: Path, files: Mapping[str, IO[bytes]], uploads: Sequence[Path]) -> dict[str, Any]:
    told: dict[str, dict[str, Any]] = {}
    with draft.open("xb") as out:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, file in _named(files, uploads):
                if not MEMBER.fullmatch(name):
                    raise SnapshotError(f"{file.name}: not a file of a version; take it away")
                digest, size = hashlib.blake2b(digest_size=16), 0
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                    while piece := file.read(PIECE):
                        digest.update(piece)
                        size += member.write(piece)
                told[name] = {"bytes": size, "digest": digest.hexdigest()}
            archive.writestr(zipfile.ZipInfo(CONTENTS), json.dumps({"format": FORMAT, "files": told}))
        out.flush()
        os.fsync(out.fileno())
    return {"files": told, "bytes": sum(one["bytes"] for one in told.values())}


# --- reading ------------------------------------------------------------------------------------------------------


def _listing(archive: zipfile.ZipFile) -> dict[str, Any]:
    """What an archive says it holds, which must be what stands in it. **Raises** SnapshotError for anything else."""
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()) or CONTENTS not in members or _too_many(members):
        raise SnapshotError(f"{archive.filename}: not a backup of Sensorium")
    for name, info in members.items():
        kind = stat.S_IFMT(info.external_attr >> 16)
        plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1 and kind in (0, stat.S_IFREG)
        if not plain or not (name == CONTENTS or MEMBER.fullmatch(name)):
            raise SnapshotError(f"{archive.filename}: it holds {name[:80]!r}, which no backup does; it is not restored")
    if members[CONTENTS].file_size > LISTING_BYTES:
        raise SnapshotError(f"{archive.filename}: its list of contents is too long; it is not restored")
    told = json.loads(archive.read(CONTENTS))
    if told["format"] != FORMAT:
        raise SnapshotError(f"{archive.filename}: format {told['format']!r}, this program reads {FORMAT}; update it")
    files = {
        str(name): {"bytes": int(one["bytes"]), "digest": str(one["digest"])} for name, one in told["files"].items()
    }
    if files.keys() != members.keys() - {CONTENTS} or STORE not in files:
        raise SnapshotError(f"{archive.filename}: damaged (members are missing); take another backup")
    if any(members[name].file_size != one["bytes"] for name, one in files.items()):
        raise SnapshotError(f"{archive.filename}: damaged (sizes do not match); take another backup")
    return {"files": files, "bytes": sum(members[name].file_size for name in files)}


def _too_many(names: Iterable[str]) -> bool:
    others, uploads = 0, 0
    for name in names:
        uploads += name.startswith(UPLOADED)
        others += not name.startswith(UPLOADED)
    return others > MEMBERS or uploads > MOST_UPLOADS


def _extracted(archive: zipfile.ZipFile, name: str, wanted: Mapping[str, Any], whole: Path) -> None:
    digest, left = hashlib.blake2b(digest_size=16), int(wanted["bytes"])
    with archive.open(name) as member, whole.open("xb") as out:
        while piece := member.read(min(PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            out.write(piece)
    if left or digest.hexdigest() != wanted["digest"]:
        raise SnapshotError(f"{archive.filename}: damaged ({name} does not match its digest); take another backup")


def _settled(copy: Path, home: Path, where: Path | str | None) -> None:
    """The store that came out is read once as a whole; it stays where it is, or goes to another place."""
    with Log(copy) as log:
        log.check()
        if where is not None and Path(where) != home:
            tables = {table: log.rows(table) for table in ("events", "documents", "journal")}
            with contextlib.closing(opened(where)) as store:
                store.fill(**tables, counters=log.counters())
    for end in ("-wal", "-shm", *([""] if where is not None and Path(where) != home else [])):
        Path(f"{copy}{end}").unlink(missing_ok=True)


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    """Whatever goes wrong is told in one line."""
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"{error.filename or file}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise SnapshotError(f"{file}: no backup, or a damaged one ({' '.join(str(error).split())})") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise SnapshotError(
            f"{file}: damaged (its list of contents: {type(error).__name__}); take another backup"
        ) from None


def _flushed(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
