"""Does encoding a catalogue keep up with the bare encoder in its best batch size? And how fast is the cache?

Run: python benchmarks/encoding.py [--items 600]
Media are those of generated worlds; the bare encoder is called on the same contents, best of several batch sizes, in
the same process; pairs of runs are repeated and the median of the ratios is told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from sensorium.checks.worlds import write_demo
from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, TEXT
from sensorium.data.ids import Ids
from sensorium.data.readers import read
from sensorium.encode.cache import Cache
from sensorium.encode.open import open_encoders
from sensorium.encode.run import encode
from sensorium.recipe import read_recipe

BATCHES = (1, 4, 16, 64, 256)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    out: dict = {"items": asked.items, "bars": {"ratio": 0.9, "cache_items_per_second": 20_000}, "modalities": {}}
    with tempfile.TemporaryDirectory() as home:
        write_demo(Path(home), items=asked.items, people=5)
        whole = read(read_recipe(Path(home) / "demo.toml")).catalog
        for modality in (TEXT, IMAGE, AUDIO):
            contents = [content for content in whole.content[modality] if content is not None]
            catalog = Catalog(Ids(map(str, range(len(contents)))), {modality: contents})
            encoders = open_encoders(catalog)
            encoder = encoders[modality]
            encoder.encode(contents[:4])  # loading is not encoding
            best = {}
            for batch in BATCHES:
                began = time.perf_counter()
                for start in range(0, len(contents), batch):
                    encoder.encode(contents[start : start + batch])
                best[batch] = len(contents) / (time.perf_counter() - began)
            batch = max(best, key=best.__getitem__)
            ratios, bare_rates, our_rates = [], [], []
            for _ in range(asked.repeats):
                began = time.perf_counter()
                for start in range(0, len(contents), batch):
                    encoder.encode(contents[start : start + batch])
                bare = len(contents) / (time.perf_counter() - began)
                began = time.perf_counter()
                done = encode(catalog, encoders, Cache(None))
                ours = done.computed[modality] / (time.perf_counter() - began)
                ratios.append(ours / bare)
                bare_rates.append(bare)
                our_rates.append(ours)
            out["modalities"][modality] = {
                "contents": len(contents), "computed": done.computed[modality], "best_batch": batch,
                "bare_per_second": round(statistics.median(bare_rates), 1),
                "ours_per_second": round(statistics.median(our_rates), 1),
                "ratio": round(statistics.median(ratios), 3), "met": statistics.median(ratios) >= 0.9,
            }  # fmt: skip
            print(modality, out["modalities"][modality], flush=True)
        out["cache"] = cached(Path(home) / "cache", 20_000)
    print(json.dumps(out["cache"]))
    (Path(__file__).parent / "results" / "encoding.json").write_text(json.dumps(out, indent=1) + "\n", "utf-8")


def cached(folder: Path, count: int) -> dict:
    """A second run on a catalogue of texts: everything from the cache, files opened anew."""
    from sensorium.data.content import Text

    texts = [Text((("title", f"thing {place} of many, {place % 97}"),)) for place in range(count)]
    catalog = Catalog(Ids(map(str, range(count))), {TEXT: texts})
    encode(catalog, open_encoders(catalog), Cache(folder))
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        again = encode(catalog, open_encoders(catalog), Cache(folder))
        rates.append(count / (time.perf_counter() - began))
    rate = statistics.median(rates)
    return {
        "items": count,
        "encoder_calls": again.computed[TEXT],
        "items_per_second": round(rate),
        "met": rate >= 20_000,
    }


if __name__ == "__main__":
    main()
