"""How many events a second are acknowledged, each after a sync to disk: many threads, one group commit; then in bulk.

    python benchmarks/commit_speed.py [--seconds 10] [--threads 64] [--folder .] [--store postgresql://…]

Writes benchmarks/results/commit_speed.json. `sync_milliseconds` is what one small write with its sync costs on that disk
alone: no store can acknowledge one writer faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sensorium.feedback.commit import Committer
from sensorium.feedback.open import opened
from sensorium.feedback.store import Entry, Store

RESULT = Path(__file__).parent / "results" / "commit_speed.json"
BULK = 1000  # events of one call


def sync_milliseconds(folder: Path) -> float:
    """The median of writing four kilobytes at the end of a file and waiting for the disk."""
    taken = []
    with open(folder / "sync", "wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return round(statistics.median(taken) * 1e3, 2)


def measured(store: Store, threads: int, size: int, seconds: float) -> dict[str, Any]:
    """Each thread appends batches of a size and waits for each acknowledgement."""
    committer = Committer(store)
    taken: list[list[float]] = [[] for _ in range(threads)]
    before, until = len(store), time.perf_counter() + seconds

    def write(number: int) -> None:
        n = 0
        while (began := time.perf_counter()) < until:
            n += 1
            committer.append(
                [Entry(f"u{number}", f"i{n}", "view", 1.7e9 + n, key=f"{size}-{number}-{n}-{m}") for m in range(size)]
            )
            taken[number].append(time.perf_counter() - began)

    work = [threading.Thread(target=write, args=[number]) for number in range(threads)]
    began = time.perf_counter()
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    lasted = time.perf_counter() - began
    committer.close()
    all_taken = sorted(each for one in taken for each in one)
    assert len(store) - before == len(all_taken) * size
    return {
        "events_per_second": round(len(all_taken) * size / lasted),
        "p50_milliseconds": round(all_taken[len(all_taken) // 2] * 1e3, 1),
        "p99_milliseconds": round(all_taken[int(len(all_taken) * 0.99)] * 1e3, 1),
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=10)
    words.add_argument("--threads", type=int, default=64)
    words.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    words.add_argument("--store", default="", help="a DSN; without one, an embedded store in that folder")
    given = words.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        figures: dict[str, Any] = {
            "store": "postgresql" if given.store else "sqlite", "threads": given.threads,
            "load_before": round(os.getloadavg()[0], 1), "sync_milliseconds": sync_milliseconds(folder),
        }  # fmt: skip
        with closing(opened(given.store or folder / "log.db")) as store:
            figures["single"] = measured(store, given.threads, 1, given.seconds)
            figures["bulk"] = measured(store, 2, BULK, given.seconds) | {"events_of_a_call": BULK}
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
