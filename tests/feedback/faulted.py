"""Appends to a log whose n-th write or sync fails, for every n; run by test_faults.py with faults.c loaded.

LD_PRELOAD=faults.so python faulted.py every FOLDER ERRNO TIMES [SYNCHRONOUS]
LD_PRELOAD=faults.so python faulted.py dying FOLDER
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

from sensorium.errors import SnapshotError
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry

faults = ctypes.CDLL(None)  # what was loaded before libc is among its names
FILE = b"log.db"


def batch(name: str) -> list[Entry]:
    return [Entry("ann", f"{name}-{m}", "view", 1.0, text=name * 300) for m in range(3)]


def stored(log: Log) -> dict[str, int]:
    return {entry.item: entry.position for entry in log.read()}


def opened(path: Path) -> Log:
    log = Log(path)
    log._base.execute("PRAGMA wal_autocheckpoint = 8")  # pages: so that checkpoints meet faults, too
    return log


def every(folder: Path, error: int, times: int, synchronous: str = "FULL") -> dict[str, int]:
    """Fails each call in turn, of opening and of appending; returns what was met."""
    met = {"calls": 0, "refused": 0, "acknowledged": 0, "unsynced": 0, "lines": 0}
    for n in itertools.count(1):  # opening
        faults.fault(FILE, n, times, error)
        try:
            Log(folder / f"{n}-log.db").close()
        except SnapshotError as told:
            met["lines"] = max(met["lines"], str(told).count("\n"))
        calls = faults.fault_calls()
        faults.fault(FILE, 0, 0, 0)
        with Log(folder / f"{n}-log.db") as log:
            assert log.append(batch("x")) == [1, 2, 3], n
        if calls < n:
            break

    path = folder / "log.db"
    log = opened(path)
    log._base.execute(f"PRAGMA synchronous = {synchronous}")
    promised: dict[str, int] = {}

    def append(name: str) -> bool:
        entries = batch(name)
        try:
            positions = log.append(entries)
        except SnapshotError as told:
            met["lines"] = max(met["lines"], str(told).count("\n"))
            met["refused"] += 1
            return False
        met["unsynced"] += faults.fault_unsynced()
        met["acknowledged"] += 1
        promised.update((entry.item, position) for entry, position in zip(entries, positions, strict=True))
        return True

    for n in itertools.count(1):
        end = log.end
        faults.fault(FILE, n, times, error)
        refused = {f"{n}.{attempt}" for attempt in range(6) if not append(f"{n}.{attempt}")}
        assert stored(log) == promised, f"fault {n}: reading while writing fails"
        assert log.end == max(promised.values(), default=end)
        calls = faults.fault_calls()
        faults.fault(FILE, 0, 0, 0)
        for file in folder.glob("log.db*"):  # what a crash at this moment would leave
            if not file.name.endswith("-shm"):
                shutil.copy(file, folder / f"crashed.{file.name}")
        with Log(folder / "crashed.log.db") as crashed:
            there = stored(crashed)
            assert promised.items() <= there.items(), f"fault {n}: an acknowledged entry is lost"
            assert {item.rsplit("-", 1)[0] for item in there.keys() - promised.keys()} <= refused
            assert len(there) % 3 == 0, f"fault {n}: half a batch is stored"
        assert append(f"{n}.after"), f"fault {n}: no append works after it"
        with Log(path) as other:
            assert stored(other) == promised, f"fault {n}: another connection reads otherwise"
        log._base.execute("DELETE FROM events")
        promised.clear()
        met["calls"] = n
        if calls < n:
            log.close()
            return met
    raise AssertionError


def dying(path: Path) -> dict[str, int]:
    """Kills a writer at each call in turn, each time on what the last one left."""
    promised: dict[str, int] = {}
    for n in itertools.count(1):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            faults.fault(FILE, n, 1, -1)
            log = opened(path)
            for number in range(5):
                entries = batch(f"{n}.{number}")
                for entry, position in zip(entries, log.append(entries), strict=True):
                    os.write(writing, f"{entry.item}={position}\n".encode())
            log.close()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as said:
            promised.update((item, int(position)) for item, position in (line.split("=") for line in said))
        (_, status) = os.waitpid(child, 0)
        with Log(path) as log:
            there = stored(log)
            assert promised.items() <= there.items(), f"kill {n}: an acknowledged entry is lost"
            assert len(there) == len(log), f"kill {n}: an entry is there twice"
            assert len(there) % 3 == 0, f"kill {n}: half a batch is stored"
            log._base.execute("DELETE FROM events")
        promised.clear()
        if status == 0:
            return {"kills": n - 1}
        assert os.WIFSIGNALED(status), f"kill {n}: status {status}"
    raise AssertionError


if __name__ == "__main__":
    faults.fault.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
    how, folder, *more = sys.argv[1:]
    if how == "dying":
        print(json.dumps(dying(Path(folder) / "log.db")))
    else:
        print(json.dumps(every(Path(folder), int(more[0]), int(more[1]), *more[2:])))
