"""How fast are five million events read from Parquet, ids mapped, sorted by person and time? And in how much memory?

    python benchmarks/read_events.py            writes benchmarks/results/read_events.json

The file is generated (string ids, two kinds, shuffled times) in a temporary folder; reading runs in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "read_events.json"


def generate(path: Path, rows: int, seed: int = 0) -> None:
    """Events of rows/25 people on 100,000 items, ids as strings, in no order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    users = np.char.add("user-", rng.integers(0, max(rows // 25, 1), rows).astype("U"))
    items = np.char.add("item-", (rng.pareto(0.8, rows) * 20 % 100_000).astype(np.int64).astype("U"))
    kinds = np.array(["view", "view", "view", "cart", "buy"])[rng.integers(0, 5, rows)]
    times = rng.integers(1_600_000_000, 1_700_000_000, rows)
    columns = {"user_id": users, "item_id": items, "event": kinds, "timestamp": times}
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_once(path: Path) -> dict[str, float]:
    """Reads the file and puts the events in the order of person and time."""
    from sensorium.data.readers import read
    from sensorium.recipe import recipe_of

    begin, busy = time.perf_counter(), time.process_time()
    dataset = read(recipe_of(events=path.name, folder=path.parent))
    read_seconds = time.perf_counter() - begin
    histories = dataset.events.histories(np.arange(len(dataset.user_ids)))
    seconds = time.perf_counter() - begin
    cpu_seconds = time.process_time() - busy
    rows = dataset.report.rows[path.name]
    assert len(histories.item) == len(dataset.events) == rows - dataset.report.counts["rejected"]
    inside = np.diff(histories.row) == 0
    assert (np.diff(histories.time)[inside] >= 0).all(), "histories are sorted by person and time"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows, "users": len(dataset.user_ids), "items": len(dataset.catalog), "seconds": round(seconds, 3),
        "read_seconds": round(read_seconds, 3), "rows_per_second": round(rows / seconds), "cpu_seconds": round(cpu_seconds, 3), "peak_memory_mib": round(peak),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--read", type=Path, help="read this file in this process and print the figures")
    chosen = parser.parse_args()
    if chosen.read:
        print(json.dumps(read_once(chosen.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        command = [sys.executable, __file__]
        subprocess.run([*command, "--read", str(_small(Path(folder)))], check=True, capture_output=True)  # warm disk
        generate(path, chosen.rows)
        runs = [
            json.loads(subprocess.run([*command, "--read", str(path)], check=True, capture_output=True).stdout)
            for _ in range(chosen.runs)
        ]
    middle = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
    bars = {"rows_per_second": 800_000, "peak_memory_mib": 2048}
    met = middle["rows_per_second"] >= bars["rows_per_second"] and middle["peak_memory_mib"] <= bars["peak_memory_mib"]
    result = {"question": (__doc__ or "").splitlines()[0], "median": middle, "runs": runs, "bars": bars, "met": met}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _small(folder: Path) -> Path:
    path = folder / "small.parquet"
    generate(path, 1_000)
    return path


if __name__ == "__main__":
    main()
