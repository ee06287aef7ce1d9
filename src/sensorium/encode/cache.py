"""The encoding cache: what an encoder made of a content is kept for ever under encoder fingerprint × content digest.

A shard is one append-only file of records of one size. Every record carries a checksum, so a torn or damaged record is a
miss, never a wrong vector. Writers append under a file lock, first taking in what others appended and cutting off a
torn tail; readers need no lock. A process killed at any moment loses at most what it had not flushed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, digest
from sensorium.encode.reasons import without_paths
from sensorium.errors import DataError

MAGIC = b"sensorium-shard-1\n"
HEADER = 256  # bytes; magic, payload size, name
KEY = 16  # bytes of a content digest
SETTLED_SECONDS = 2.0  # a file changed more recently than this may change again within the clock's tick


class Shard:
    """Records of `size` bytes by key of 16 bytes, in one file (or in memory where `path` is None).

    **Cost** opening reads the keys: about 1 s per million records; a hit costs a few microseconds.
    """

    def __init__(self, path: Path | None, size: int, name: str = "") -> None:
        self.path, self.size = path, size
        self._record = np.dtype([("key", f"S{KEY}"), ("check", "<u4"), ("payload", "u1", (size,))])
        self._header = (MAGIC + f"{size}\n{name}\n".encode())[:HEADER].ljust(HEADER, b"\0")
        self._rows: dict[bytes, int] = {}
        self._fresh: dict[bytes, bytes] = {}
        self._count = 0
        self._map: NDArray | None = None
        if path is not None and path.exists():
            self._take_in(path.stat().st_size)

    def __len__(self) -> int:
        return len(self._rows.keys() | self._fresh.keys())

    def get(self, key: bytes) -> bytes | None:
        """The payload of a key, or None where there is none that is whole."""
        if key in self._fresh:
            return self._fresh[key]
        row = self._rows.get(key)
        if row is None or self._map is None:
            return None
        payload = self._map["payload"][row].tobytes()
        if zlib.crc32(payload, zlib.crc32(key)) != int(self._map["check"][row]):
            del self._rows[key]
            return None
        return payload

    def put(self, key: bytes, payload: bytes) -> None:
        """Keep a payload; `flush` makes it last."""
        if len(key) != KEY or len(payload) != self.size:
            raise DataError(f"cache: a record of {len(key)} + {len(payload)} bytes where {KEY} + {self.size} belong")
        self._fresh[key] = payload

    def flush(self) -> None:
        """Append what is new. Two processes may do so at once."""
        if self.path is None or not self._fresh:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        records = np.zeros(len(self._fresh), self._record)
        keys = list(self._fresh)
        # Keys may end in zero bytes, which numpy's S type would strip: they are written through a byte view.
        raw = records.view("u1").reshape(len(records), self._record.itemsize)
        raw[:, :KEY] = np.frombuffer(b"".join(keys), "u1").reshape(-1, KEY)
        records["check"] = [zlib.crc32(self._fresh[key], zlib.crc32(key)) for key in keys]
        records["payload"] = np.frombuffer(b"".join(self._fresh.values()), "u1").reshape(-1, self.size)
        with _locked(self.path) as stream:
            end = stream.seek(0, os.SEEK_END)
            if end < HEADER:
                stream.seek(0)
                stream.truncate()
                stream.write(self._header)
                end = HEADER
            whole = HEADER + (end - HEADER) // self._record.itemsize * self._record.itemsize
            stream.seek(whole)
            stream.truncate()
            stream.write(raw.tobytes())
            stream.flush()
            os.fdatasync(stream.fileno())
            self._take_in(stream.tell())
        self._fresh.clear()

    def _take_in(self, end: int) -> None:
        """Learn the keys of all whole records up to `end`."""
        assert self.path is not None
        count = max(0, end - HEADER) // self._record.itemsize
        if count <= self._count:
            return
        with self.path.open("rb") as stream:
            if stream.read(HEADER) != self._header:
                if self._count == 0:
                    raise DataError(f"{self.path} is no cache of this encoder; delete the file and run again")
                return
        self._map = np.memmap(self.path, self._record, "r", HEADER, (count,))
        fresh = self._map[self._count :].view("u1").reshape(count - self._count, -1)[:, :KEY].tobytes()
        for row in range(self._count, count):
            at = (row - self._count) * KEY
            self._rows[fresh[at : at + KEY]] = row
        self._count = count


def default_cache() -> Path:
    """Where encodings are kept: `$SENSORIUM_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("SENSORIUM_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(home) / "sensorium"


class Cache:
    """All shards under one folder; with no folder, a cache that lasts as long as the process.

    >>> cache = Cache(None)
    >>> vectors = cache.vectors("an encoder", 2)
    >>> kept = vectors.put(bytes(16), np.array([1, 2], np.float32)); vectors.get(bytes(16)).tolist()
    [1.0, 2.0]
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._shards: dict[tuple[str, int], Shard] = {}

    def shard(self, name: str, size: int) -> Shard:
        """The shard of a name; the same one at each call."""
        if (name, size) not in self._shards:
            path = None if self.folder is None else Path(self.folder) / f"{digest(name, str(size))}.shard"
            self._shards[name, size] = Shard(path, size, name)
        return self._shards[name, size]

    def vectors(self, fingerprint: str, size: int) -> Kept:
        """What the encoder of this fingerprint made."""
        return Kept(self.shard(fingerprint, 4 * size), self.shard(fingerprint + " refused", REASON))

    def size_of(self, fingerprint: str, ask: Callable[[], int]) -> int:
        """The size of an encoder's vectors; `ask` may load a model or call a service, and is called once for ever."""
        known = self.shard("sizes", 8)
        key = bytes.fromhex(digest(fingerprint))
        found = known.get(key)
        if found is None:
            found = ask().to_bytes(8, "little")
            known.put(key, found)
        return int.from_bytes(found, "little")

    def file_digest(self, path: Path) -> bytes:
        """The digest of a file's bytes; an unchanged file (path, size, time of change) is not read again.

        **Raises** OSError where the file cannot be read.
        """
        status = os.stat(path)
        where = f"{os.path.abspath(path)}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        key = bytes.fromhex(digest(where))
        known = self.shard("files", KEY)
        found = known.get(key)
        if found is None:
            found = _digest_file(path)
            if abs(time.time() - status.st_mtime) > SETTLED_SECONDS:
                known.put(key, found)
        return found

    def flush(self) -> None:
        """Make everything last that was put since the last flush."""
        for shard in self._shards.values():
            shard.flush()


REASON = 240  # bytes of a reason why a content was refused


class Kept:
    """Vectors of one encoder, and the contents it refused (a broken picture stays broken: it is not tried again)."""

    def __init__(self, vectors: Shard, refused: Shard) -> None:
        self._vectors, self._refused = vectors, refused

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> Floats | None:
        """The vector of a content digest, or None."""
        found = self._vectors.get(key)
        return None if found is None else np.frombuffer(found, "<f4")

    def refusal(self, key: bytes) -> str | None:
        """Why the content was refused, or None."""
        found = self._refused.get(key) if len(self._refused) else None
        return (
            None if found is None else without_paths(found.rstrip(b"\0").decode(errors="ignore"))
        )  # older ones hold paths

    def put(self, key: bytes, vector: Floats) -> Floats:
        """Keep a vector; gives what is kept."""
        self._vectors.put(key, np.ascontiguousarray(vector, "<f4").tobytes())
        return vector

    def refuse(self, key: bytes, reason: str) -> None:
        """Keep the reason of a refusal, without any path: it holds for whatever file has these bytes."""
        self._refused.put(key, without_paths(reason).encode()[:REASON].ljust(REASON, b"\0"))

    def flush(self) -> None:
        """Make it last."""
        self._vectors.flush()
        self._refused.flush()


class KeptTogether:
    """Vectors of several encoders that are made in one pass, side by side: known where all of them are."""

    def __init__(self, parts: Sequence[Kept], sizes: Sequence[int]) -> None:
        self._parts = tuple(zip(parts, side_by_side(sizes)))

    def get(self, key: bytes) -> Floats | None:
        """The vectors of a content digest, or None where one is missing."""
        found = [part.get(key) for part, _ in self._parts]
        some = [one for one in found if one is not None]
        return np.concatenate(some) if len(some) == len(found) else None

    def refusal(self, key: bytes) -> str | None:
        """Why one of the encoders refused the content, or None."""
        return next((reason for part, _ in self._parts if (reason := part.refusal(key)) is not None), None)

    def put(self, key: bytes, vector: Floats) -> Floats:
        """Keep what is missing; gives what is kept: a part that was known stays, to the last bit."""
        found = [(part, part.get(key), vector[columns]) for part, columns in self._parts]
        return np.concatenate([part.put(key, made) if known is None else known for part, known, made in found])

    def refuse(self, key: bytes, reason: str) -> None:
        """Keep the reason of a refusal."""
        for part, _ in self._parts:
            part.refuse(key, reason)


Keeps = Kept | KeptTogether


def side_by_side(sizes: Sequence[int]) -> list[slice]:
    """The columns of vectors of these sizes in one.

    >>> side_by_side([2, 3])
    [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    return [slice(end - size, end) for end, size in zip(ends, sizes)]


def take(kept: Keeps, keys: Sequence[bytes]) -> tuple[Mapping[bytes, Floats], list[bytes]]:
    """The vectors known for some keys, and the keys that have none; each key once, in order."""
    found: dict[bytes, Floats] = {}
    missing: list[bytes] = []
    for key in dict.fromkeys(keys):
        vector = kept.get(key)
        if vector is None:
            missing.append(key)
        else:
            found[key] = vector
    return found, missing


def _digest_file(path: Path) -> bytes:
    import hashlib

    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=KEY)).digest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator:
    """The file open for appending, nobody else writing to it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream
