"""Do 500 damaged tables crash or hang the reader, and is each one reported?

    python benchmarks/mutated_tables.py         writes benchmarks/results/mutated_tables.json

A sound table of items or events is written in every format, then damaged in one of many ways. Each is read in a worker
process, so that a crash is seen as one. *Reported* means: a DataError, or rejected rows, missing files or notes, beyond
those of the sound table. A damage that leaves a sound table of other words (a letter for a letter) cannot be reported;
such cases are told apart by whether the rows that were read differ in number or the damage kept the form.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "mutated_tables.json"
FORMATS = ("csv", "tsv", "jsonl", "parquet", "csv.gz", "csv.zst", "jsonl.gz")
TEXT_DAMAGES = (
    "bad utf-8", "ragged", "short row", "open quote", "nul", "no id", "bad time", "not a number", "empty row",
    "duplicate", "binary line", "stray quote", "huge cell",
)  # fmt: skip
BYTE_DAMAGES = ("cut", "flip", "empty", "garbage", "wrong name", "zeros")
SILENT = {"flip", "stray quote", "huge cell"}  # may leave a sound table of other words


def rows_of(what: str, count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    if what == "items":
        return [
            {"item_id": f"i{n}", "title": f"Thing, {n}", "description": f"One of “many” things, number {n}",
             "genres": "a|b" if n % 2 else "c", "price": str(n % 17 + 0.5)}
            for n in range(count)
        ]  # fmt: skip
    return [
        {"user_id": f"u{rng.integers(20)}", "item_id": f"i{rng.integers(30)}", "event": "view",
         "rating": str(rng.integers(1, 6)), "timestamp": str(1_600_000_000 + n)}
        for n in range(count)
    ]  # fmt: skip


def line_of(row: dict[str, Any], form: str) -> bytes:
    if form == "jsonl":
        return json.dumps(row, ensure_ascii=False).encode()
    separator = "\t" if form == "tsv" else ","
    cells = [f'"{cell}"' if separator in cell else cell for cell in map(str, row.values())]
    return separator.join(cells).encode()


def damaged_lines(lines: list[bytes], damage: str, form: str, what: str, rng: np.random.Generator) -> list[bytes]:
    """One damage in a line of rows (never in the header)."""
    at = int(rng.integers(1 if form != "jsonl" else 0, len(lines)))
    separator = b"\t" if form == "tsv" else b","
    line = lines[at]
    cells = line.split(separator)
    key, number = (b"i", b"price") if what == "items" else (b"u", b"rating")
    if damage == "bad utf-8":
        lines[at] = line[:-3] + b"\xff\xfe" + line[-3:]
    elif damage == "ragged":
        lines[at] = line + separator + b"more"
    elif damage == "short row":
        lines[at] = line[: len(line) // 2] if form == "jsonl" else cells[0]
    elif damage == "open quote":
        lines[at] = b'{"open' if form == "jsonl" else b'"' + line
    elif damage == "stray quote":
        lines[at] = line[:4] + b'"' + line[4:]
    elif damage == "nul":
        lines[at] = line[:2] + b"\0" + line[2:]
    elif damage == "no id":
        lines[at] = b'{"title": "no id"}' if form == "jsonl" else separator.join([b"", *cells[1:]])
    elif damage in ("bad time", "not a number"):
        # The last cell is the price of an item, the time of an event.
        if form == "jsonl":
            row = json.loads(line)
            row["timestamp" if what == "events" and damage == "bad time" else number.decode()] = "soon"
            lines[at] = json.dumps(row).encode()
        else:
            place = -1 if what == "items" or damage == "bad time" else -2
            cells[place] = b"soon"
            lines[at] = separator.join(cells)
    elif damage == "empty row":
        lines[at : at + 1] = [b"{}" if form == "jsonl" else separator * (len(cells) - 1), line]
    elif damage == "duplicate":
        lines[at : at + 1] = [line, line]
    elif damage == "binary line":
        lines[at] = rng.bytes(80).replace(b"\n", b"\0") + b"\0\xff"
    elif damage == "huge cell":
        lines[at] = key + line.replace(key, key + b"x" * 300_000, 1)
    return lines


def pack(data: bytes, ending: str) -> bytes:
    if ending.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    if ending.endswith(".zst"):
        import pyarrow as pa

        return pa.compress(data, codec="zstd", asbytes=True)
    return data


def sound(what: str, ending: str, rng: np.random.Generator) -> list[bytes] | bytes:
    rows = rows_of(what, 60, rng)
    form = ending.split(".")[0]
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue().to_pybytes()
    separator = b"\t" if form == "tsv" else b","
    header = [] if form == "jsonl" else [separator.join(k.encode() for k in rows[0])]
    return [*header, *(line_of(row, form) for row in rows)]


def make(seed: int, folder: Path) -> tuple[Path, str, str]:
    """One damaged table: its file, what it holds, how it was damaged."""
    rng = np.random.default_rng(seed)
    what, ending = ("items", "events")[seed % 2], FORMATS[seed // 2 % len(FORMATS)]
    body = sound(what, ending, rng)
    form = ending.split(".")[0]
    choices = BYTE_DAMAGES if isinstance(body, bytes) else (*TEXT_DAMAGES, *BYTE_DAMAGES)
    damage = choices[int(rng.integers(len(choices)))]
    name = f"table{seed}.{ending}"
    if isinstance(body, list):
        lines = damaged_lines(body, damage, form, what, rng) if damage in TEXT_DAMAGES else body
        data = pack(b"\n".join(lines) + b"\n", ending)
    else:
        data = body
    if damage == "cut":
        data = data[: int(len(data) * rng.uniform(0.02, 0.9))]
        data = data[:-1] if data.endswith(b"\n") else data
    elif damage == "flip":
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 8):
            changed[place] ^= 1 << int(rng.integers(8))
        data = bytes(changed)
    elif damage == "zeros":
        start = int(rng.integers(0, max(len(data) - 40, 1)))
        data = data[:start] + bytes(40) + data[start + 40 :]
    elif damage == "empty":
        data = b""
    elif damage == "garbage":
        data = rng.bytes(len(data))
    elif damage == "wrong name":
        name, data = f"table{seed}.csv", b"%PDF-1.7 " + data
    path = folder / name
    path.write_bytes(data)
    return path, what, damage


def outcome(path: Path, what: str, pipe: Any) -> None:
    """Reads one table; sends what was said of it."""
    from sensorium.data.readers import read
    from sensorium.errors import SensoriumError
    from sensorium.recipe import recipe_of

    try:
        report = read(recipe_of(**{what: path.name}, folder=path.parent)).report
    except SensoriumError as error:
        one_line = "\n" not in str(error) and path.name.split(".")[0] in str(error)
        pipe.send(("error" if one_line else "error without a line", str(error)))
    except BaseException as error:
        pipe.send(("crash", f"{type(error).__name__}: {error}"))
    else:
        said = [*map(str, report.rejected), *map(str, report.missing), *report.notes]
        pipe.send(("reported" if said else "silent", said[0] if said else f"{report.rows}"))


def judge(path: Path, what: str, seconds: float = 10.0) -> tuple[str, str, float]:
    """What became of one table, in a process of its own."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=outcome, args=(path, what, theirs))
    begin = time.perf_counter()
    process.start()
    theirs.close()
    said = mine.poll(seconds)
    taken = time.perf_counter() - begin
    try:
        verdict, words = mine.recv() if said else ("hang", f"no answer after {seconds} s")
    except EOFError:
        process.join()
        verdict, words = "crash", f"the process died ({process.exitcode})"
    process.kill() if not said else None
    process.join()
    return verdict, words, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=500)
    chosen = parser.parse_args()
    verdicts: Counter[str] = Counter()
    by_damage: dict[str, Counter[str]] = {}
    bad: list[str] = []
    slowest = 0.0
    # pyarrow's and polars' threads do not survive a fork, so this process must not have used them: tables are made in
    # one child, read in others.
    with tempfile.TemporaryDirectory() as folder:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            made = pool.starmap(make, [(seed, Path(folder)) for seed in range(chosen.tables)])
        for path, what, damage in made:
            verdict, words, seconds = judge(path, what)
            slowest = max(slowest, seconds)
            if verdict == "silent" and damage in SILENT:
                verdict = "sound"
            verdicts[verdict] += 1
            by_damage.setdefault(damage, Counter())[verdict] += 1
            if verdict not in ("error", "reported", "sound"):
                bad.append(f"{path.name} ({damage}): {verdict}: {words}")
    result = {
        "question": (__doc__ or "").splitlines()[0],
        "tables": chosen.tables,
        "verdicts": dict(verdicts),
        "explained": {
            "error": "refused with one line that names the file",
            "reported": "read, with rejected rows or notes that name the line",
            "sound": "bits were flipped or cells grew, and what is left is a sound table of other words",
        },
        "by_damage": {damage: dict(counts) for damage, counts in sorted(by_damage.items())},
        "slowest_seconds": round(slowest, 2),
        "bad": bad,
        "met": not bad,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
