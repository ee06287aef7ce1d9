"""A snapshot is everything one version of a run knows: frozen in memory, written in one move, checked when read.

On disk it is a folder: `manifest.json` (a tree of plain values), `arrays.safetensors` (every array), `catalog.jsonl` and
`people.jsonl` (content). Nothing in it is code: a class is named, looked up among Sensorium's own dataclasses, and built
from its fields.
"""

from __future__ import annotations

import dataclasses
import json
import math
import mmap
import operator
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import digest
from sensorium.data.catalog import Catalog, Laid
from sensorium.data.columns import Taken
from sensorium.data.content import Attributes, Content, Media, Text
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Encoder
from sensorium.errors import SensoriumError, SnapshotError
from sensorium.fuse.fusion import Aligner, FusionModel
from sensorium.models.model import Features, Model, Recommender
from sensorium.plain import Arrays, plain, rebuilt

TITLES = 16_384  # of a catalogue that are kept at hand
FORMAT = 3
MEND = "go back to another version (sensorium rollback RUN --to NAME), or train the run again"
READS = (2, 3)  # in 2, nothing says which events came from the log, and up to which change documents were taken in
UPLOADS = "media"  # the folder of files that came by upload, in that of the run
UPLOAD = r"[0-9a-f]{32}\.[a-z0-9]{2,5}"  # the name of one
_UPLOAD = re.compile(UPLOAD)
KINDS = {  # of numbers in a safetensors file
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One version of a run. `position` is how far in the feedback log it has read; `recipe` its canonical text."""

    catalog: Catalog
    people: Catalog | None
    user_ids: Ids
    events: Events
    views: Mapping[str, Vectors]
    people_views: Mapping[str, Vectors]
    encoders: Mapping[
        str, Encoder
    ]  # only those that were fitted to the catalogue (attributes, words); the others are by name
    people_encoders: Mapping[str, Encoder]
    fusion: FusionModel
    people_fusion: FusionModel | None
    aligner: Aligner | None  # puts a query of words where the pictures and the sounds are
    features: Features
    recommender: Recommender
    model: Model
    recipe: str
    position: int = 0
    hidden: tuple[int, ...] = ()
    withheld: tuple[str, ...] = ()  # items that are to be hidden, should an event or a table bring them
    bare: tuple[int, ...] = ()  # rows of items that no table lists: they are known from events alone
    trials: tuple[Any, ...] = ()
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what validation did not try, and why
    documents: int = 0  # up to which change the store's documents of items are taken in
    base: int = 0  # up to which position of the log its events stand among those of the tables, not to be told apart
    log: str = ""  # the identity of the log that `position` is of; "" where it has read none
    logs: Mapping[str, int] = dataclasses.field(default_factory=dict)  # how far it had read in others, by identity
    cells: NDArray[np.int32] | None = None  # the cell of each item (index/cells.py), of a large catalogue
    taken: Taken | None = None  # what the columns of its table of items were taken for; None: it is of before


def placed(catalog: Catalog) -> Catalog:
    """The catalogue with the absolute places of its media: a run is opened from other folders than it was trained in."""
    content: dict[str, Sequence[Content | None]] = dict(catalog.content)
    for modality, column in catalog.content.items():
        if any(isinstance(one, Media) for one in column):
            content[modality] = [
                dataclasses.replace(one, paths=tuple(Path(os.path.abspath(path)) for path in one.paths))
                if isinstance(one, Media)
                else one
                for one in column
            ]
    return dataclasses.replace(catalog, content=content)


# --- catalogues ---------------------------------------------------------------------------------------------------


def _home(folder: Path) -> Path | None:
    """The folder of the run that a snapshot's folder lies in; None where it lies in none."""
    return Path(os.path.abspath(folder.parent.parent)) if folder.parent.name == "snapshots" else None


def _inside(path: Path, homes: Sequence[Path]) -> str:
    """A file as it is written: within the run's own folder from there, so that the run may be moved."""
    return next((str(path.relative_to(home)) for home in homes if path.is_relative_to(home)), str(path))


def _found(path: str, home: Path | None) -> Path:
    """A file of what is written. Snapshots of before have whole places of uploads: those that lie in the run are meant."""
    one = Path(path)
    if home is not None and not one.is_absolute():
        return home / one
    if home is not None and one.parent.name == UPLOADS and _UPLOAD.fullmatch(one.name):
        here = home / UPLOADS / one.name
        return here if here.exists() else one
    return one


def _lines(catalog: Catalog, home: Path | None) -> Iterator[str]:
    homes = () if home is None else (home, home.resolve())
    for row, name in enumerate(catalog.ids):
        line: dict[str, Any] = {"id": name}
        if row < len(catalog.titles) and catalog.titles[row]:
            line["title"] = catalog.titles[row]
        for modality, column in catalog.content.items():
            match column[row]:
                case Text(fields):
                    line[modality] = {"text": [list(pair) for pair in fields]}
                case Media(paths):
                    line[modality] = {"files": [_inside(path, homes) for path in paths]}
                case Attributes(values):
                    line[modality] = {
                        "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
                    }
                case _:  # absent; a ready vector stands in the views already
                    continue
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def _content(entry: Mapping[str, Any], home: Path | None) -> Content:
    if "text" in entry:
        return Text(tuple((str(f), str(v)) for f, v in entry["text"]))
    if "files" in entry:
        return Media(tuple(_found(path, home) for path in entry["files"]))
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["attributes"].items()}
    return Attributes(values)


@dataclass(frozen=True, eq=False)
class _Lines:
    """The lines of a catalogue, left in their file: a million items as objects would fill a gigabyte."""

    data: mmap.mmap
    end: NDArray[np.int64]  # of each line

    def __getitem__(self, row: int) -> dict[str, Any]:
        begin = self.end.item(row - 1) + 1 if row else 0
        return _plain(self.data[begin : self.end.item(row)])


@dataclass(frozen=True, eq=False)
class _Column(Sequence[Any]):
    """One key of every line, read when it is asked for; up to `most` of them are kept, for what is liked is asked for often."""

    lines: _Lines
    key: str
    read: Callable[[Any], Any]
    absent: Any
    most: int = 0
    kept: dict[int, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines.end)

    def __iter__(self) -> Iterator[Any]:
        return map(self._at, range(len(self)))  # nothing is kept, or looked for among what is

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        if row in self.kept:
            return self.kept[row]
        count = len(self.lines.end)
        if not -count <= row < count:
            raise IndexError(row)
        value = self._at(row % count)
        if len(self.kept) < self.most:
            self.kept[row] = value
        return value

    def _at(self, row: int) -> Any:
        line = self.lines[row]
        return self.read(line[self.key]) if self.key in line else self.absent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]


def _catalog(path: Path, modalities: list[str], home: Path | None) -> Catalog:
    """The catalogue of a file. Every line is read once, so that what is no catalogue is refused now."""
    data = _mapped(path)
    if data is None:
        return Catalog(Ids(), {m: [] for m in modalities}, [])
    read = partial(_content, home=home)
    lines = _Lines(data, np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")))
    names = []
    for row in range(len(lines.end)):
        line = lines[row]
        names.append(line["id"])
        for modality in modalities:
            if modality in line:
                read(line[modality])
    content = {m: _Column(lines, m, read, None) for m in modalities}
    return Catalog(Ids(names), content, _Column(lines, "title", str, "", TITLES))


def _plain(line: bytes) -> dict[str, Any]:
    """A line of JSON: five times as fast where the server's parser is installed, which does not know NaN."""
    try:
        import orjson

        return orjson.loads(line)
    except (ImportError, ValueError):
        return json.loads(line.decode())


def _mapped(path: Path) -> mmap.mmap | None:
    """A file as memory: what is never looked at is never read. None for an empty one."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else None


def _arrays(path: Path) -> Arrays:
    """The arrays of a safetensors file, left in it."""
    data = _mapped(path)
    if data is None:
        raise SnapshotError(f"{path} is empty; train the run again")
    begin = 8 + int.from_bytes(data[:8], "little")
    arrays: Arrays = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        kind, shape = np.dtype(KINDS[entry["dtype"]]), tuple(entry["shape"])
        first, last = entry["data_offsets"]
        count = math.prod(shape)
        if not 0 <= first <= last <= len(data) - begin or last - first != count * kind.itemsize:
            raise SnapshotError(f"{path}: {name} does not lie within the file; train the run again")
        arrays[name] = (
            np.frombuffer(data, kind, count, begin + first).reshape(shape) if count else np.zeros(shape, kind)
        )
    return arrays


# --- writing and reading ------------------------------------------------------------------------------------------


def write(snapshot: Snapshot, folder: Path) -> None:
    """The snapshot as a new folder: complete or not there at all. The same snapshot gives the same bytes."""
    from safetensors.numpy import save_file

    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        arrays: Arrays = {}
        tree = {
            f.name: plain(getattr(snapshot, f.name), arrays, f.name)
            for f in dataclasses.fields(Snapshot)
            if f.name not in ("catalog", "people")
        }
        arrays, same = _once(arrays)
        save_file(arrays, draft / "arrays.safetensors")
        for name in ("catalog", "people"):
            catalog = getattr(snapshot, name)
            if catalog is not None:
                (draft / f"{name}.jsonl").write_text("".join(_lines(catalog, _home(folder))), "utf-8")
                tree[name] = {"modalities": list(catalog.content)}
        files = {p.name: _digest(p) for p in sorted(draft.iterdir())}
        manifest = {"format": FORMAT, "files": files, "same": same, "snapshot": tree}
        (draft / "manifest.json").write_text(
            json.dumps({"digest": _told(manifest), **manifest}, ensure_ascii=False), "utf-8"
        )
        for path in draft.iterdir():
            _flush(path)
        _flush(draft)
        os.replace(draft, folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _once(arrays: Arrays) -> tuple[Arrays, dict[str, str]]:
    """Arrays of the same bytes only once, and under which name the others are found: members of a blend share much."""
    first: dict[tuple[str, tuple[int, ...], str], str] = {}
    kept: Arrays = {}
    same: dict[str, str] = {}
    for name, array in arrays.items():
        key = (array.dtype.str, array.shape, digest(array.tobytes()))
        if first.setdefault(key, name) == name:
            kept[name] = array
        else:
            same[name] = first[key]
    return kept, same


def _told(manifest: Mapping[str, Any]) -> str:
    """The digest of a manifest, whatever the spacing of its file."""
    return digest(json.dumps(manifest, ensure_ascii=False, sort_keys=True))


def read(folder: Path) -> Snapshot:
    """The snapshot of a folder. **Raises** SnapshotError where a file is missing, damaged, or not what `write` writes."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        if manifest["format"] not in READS:
            raise SnapshotError(
                f"{folder}: saved in format {manifest['format']}, this version reads {FORMAT}; train the run again"
            )
        if manifest.pop("digest", None) != _told(manifest):
            raise SnapshotError(f"{folder / 'manifest.json'}: damaged (its digest does not match); {MEND}")
        for name, expected in manifest["files"].items():
            if Path(name).name != name or _digest(folder / name) != expected:
                raise SnapshotError(f"{folder / name}: damaged (its digest does not match); {MEND}")
        tree = dict(manifest["snapshot"])
        arrays = _arrays(folder / "arrays.safetensors")
        for array in arrays.values():
            array.setflags(write=False)
        arrays |= {name: arrays[first] for name, first in manifest["same"].items()}
        ready: dict[str, Any] = {}
        for name in ("catalog", "people"):
            entry = tree.pop(name, None)
            ready[name] = _catalog(folder / f"{name}.jsonl", entry["modalities"], _home(folder)) if entry else None
        ready |= {name: rebuilt(value, arrays) for name, value in tree.items()}
        if manifest["format"] == 2:
            ready["base"] = ready["position"]
        return Snapshot(**ready)
    except FileNotFoundError as error:
        raise SnapshotError(
            f"{folder}: no snapshot here ({Path(str(error.filename)).name} is missing); {MEND}"
        ) from None
    except SensoriumError:
        raise
    except Exception as error:
        raise SnapshotError(f"{folder}: not a snapshot of Sensorium ({type(error).__name__}: {error})") from None


def let_go(snapshot: Snapshot) -> None:
    """Gives back the memory of a snapshot's files that only making ready needed; what is asked for later is read again."""
    catalog = snapshot.catalog
    columns = [one.below if isinstance(one, Laid) else one for one in (catalog.titles, *catalog.content.values())]
    maps = [one.lines.data for one in columns if isinstance(one, _Column)]
    base: Any = snapshot.features.items.values
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    for data in (*maps, base):
        if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            data.madvise(mmap.MADV_DONTNEED)


def size(folder: Path | None) -> int:
    """The bytes of a snapshot's files; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.iterdir()) if folder is not None and folder.exists() else 0


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _flush(path: Path) -> None:
    """The file's bytes (or the folder's entries) on disk, so that a power cut cannot leave half a run behind."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
