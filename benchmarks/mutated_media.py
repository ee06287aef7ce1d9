"""Do 2,000 damaged pictures, sounds and clips crash or hang the encoders, and is each one that cannot be read reported?

Run: python benchmarks/mutated_media.py [--files 2000]
The files are those of the generated demo world, damaged by a seeded generator; nothing third-party is read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from sensorium.checks.worlds import write_demo
from sensorium.data.catalog import Catalog
from sensorium.data.content import Media
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.open import open_encoders
from sensorium.encode.run import encode

SUFFIXES = {".jpg": "image", ".png": "image", ".wav": "audio", ".mp4": "video"}
WAYS = ("flip", "cut", "zeros", "noise", "swap", "head", "size", "rename", "empty", "doubled")


def damaged(raw: bytes, way: str, other: bytes, rng: np.random.Generator) -> bytes:
    """The bytes after one kind of damage."""
    data = bytearray(raw)
    place = int(rng.integers(len(data)))
    match way:
        case "flip":
            for spot in rng.integers(len(data), size=int(rng.integers(1, 40))):
                data[spot] ^= 1 << int(rng.integers(8))
        case "cut":
            del data[place:]
        case "zeros":
            data[place : place + 4096] = bytes(len(data[place : place + 4096]))
        case "noise":
            data[place : place + 512] = rng.bytes(len(data[place : place + 512]))
        case "swap":
            data = data[place:] + data[:place]
        case "head":
            for spot in rng.integers(min(64, len(data)), size=4):
                data[spot] = int(rng.integers(256))
        case "size":  # four bytes near the head all ones: sizes, counts and lengths become huge
            spot = int(rng.integers(min(256, max(len(data) - 4, 1))))
            data[spot : spot + 4] = b"\xff\xff\xff\xff"
        case "rename":  # the content of another kind of file under this name
            data = bytearray(other)
        case "empty":
            data = bytearray()
        case "doubled":
            data = data[:place] + data
    return bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000)
    count = parser.parse_args().files
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as home:
        write_demo(Path(home) / "world")
        by_kind: dict[str, list[Path]] = {}
        for path in sorted((Path(home) / "world").rglob("*")):
            if path.suffix in SUFFIXES:
                by_kind.setdefault(path.suffix, []).append(path)
        kinds = sorted(by_kind)
        content: dict[str, list[Media | None]] = {m: [None] * count for m in SUFFIXES.values()}
        ways = []
        for row in range(count):
            suffix = kinds[row % len(kinds)]
            raw = by_kind[suffix][int(rng.integers(len(by_kind[suffix])))].read_bytes()
            wrong = kinds[(row + 1) % len(kinds)]
            ways.append(WAYS[row // len(kinds) % len(WAYS)])
            path = Path(home) / f"{row:05d}{suffix}"
            path.write_bytes(damaged(raw, ways[-1], by_kind[wrong][0].read_bytes(), rng))
            content[SUFFIXES[suffix]][row] = Media((path,))
        catalog = Catalog(Ids(map(str, range(count))), {m: c for m, c in content.items() if any(c)})
        marks = [time.perf_counter()]
        encoders = open_encoders(catalog)
        done = encode(
            catalog, encoders, Cache(Path(home) / "cache"), progress=lambda *_: marks.append(time.perf_counter())
        )
        marks.append(time.perf_counter())
    verdicts: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    reported = {int(problem.item) for problem in done.problems}
    silent = 0
    for row in range(count):
        read = any(view.present[row] for view in done.views.values())
        verdict = "reported" if row in reported else "read" if read else "silent"
        silent += verdict == "silent"
        verdicts[ways[row]][verdict] += 1
    finite = all(bool(np.isfinite(view.values).all()) for view in done.views.values())
    out = {
        "files": count, "kinds": kinds, "seconds": round(marks[-1] - marks[0], 1),
        "longest_silence_seconds": round(float(np.diff(marks).max()), 2), "all_vectors_finite": finite,
        "neither_read_nor_reported": silent, "by_damage": {way: dict(c) for way, c in verdicts.items()},
        "reasons": dict(Counter(" ".join(p.reason.split()[:6]) for p in done.problems).most_common(12)),
        "bars": {"crash": 0, "longest_silence_seconds": 10, "neither_read_nor_reported": 0},
    }  # fmt: skip
    out["met"] = bool(finite and not silent and out["longest_silence_seconds"] <= 10)
    print(json.dumps(out, indent=1))
    (Path(__file__).parent / "results" / "mutated_media.json").write_text(json.dumps(out, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
