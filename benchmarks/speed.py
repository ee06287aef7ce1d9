"""How long the field's usual tasks take on this machine.

Run: python benchmarks/speed.py      writes results/speed.json; run tables.py movielens-1m before it
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from core import HERE, bar, tables
from tables import given

from sensorium.build import fused, gather, people_space
from sensorium.data.split import Split
from sensorium.evaluate.run import parted
from sensorium.models.model import Features
from sensorium.recipe import RECOMMENDERS, Recipe

CACHE = Path(os.environ.get("SENSORIUM_CACHE", Path.home() / ".cache" / "sensorium"))


def world(recipe: Recipe) -> tuple[Split, Features]:
    material = gather(recipe, CACHE)
    parts = parted(material, recipe)
    _, people = people_space(material.people_views, 0)
    return parts, fused(recipe.fusion, material.views, people, parts.train, seed=0)[1]


def linear_on_beauty(folder: Path) -> dict[str, float]:
    """Both linear models of item by item: settings chosen on validation, then fitted to everything."""
    parts, features = world(tables("amazon-beauty", "leave-last-out", folder))
    features, out = features.without_content(), {}
    for name in ("ease", "directed"):
        began = time.perf_counter()
        settings = RECOMMENDERS.make(name).tuned(parts.validation, features, rng=np.random.default_rng(0))
        out[f"{name}: tune"] = time.perf_counter() - began
        began = time.perf_counter()
        settings.fit(parts.train, features, rng=np.random.default_rng(0))
        out[f"{name}: fit"] = time.perf_counter() - began
    return out


def scoring_gowalla(folder: Path) -> dict[str, dict[str, float]]:
    """Every person of Gowalla scored against all 40,981 items, in batches of 256."""
    parts, features = world(given("gowalla")(folder))
    people = np.unique(parts.train.user).astype(np.int64)
    out = {}
    for name in ("ease", "graph", "itemknn"):
        began = time.perf_counter()
        model = RECOMMENDERS.make(name).fit(parts.train, features, rng=np.random.default_rng(0))
        fitted = time.perf_counter() - began
        began = time.perf_counter()
        for begin in range(0, len(people), 256):
            model.score(parts.train.histories(people[begin : begin + 256]))
        seconds = time.perf_counter() - began
        out[name] = {"fit_seconds": fitted, "people": len(people), "people_per_second": len(people) / seconds}
        print(f"  {name}: fit {fitted:.0f} s, {len(people) / seconds:,.0f} people a second", flush=True)
    return out


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        beauty, gowalla = linear_on_beauty(Path(folder)), scoring_gowalla(Path(folder))
    done: dict[str, Any] = {"linear on amazon-beauty": beauty, "scoring gowalla": gowalla}
    done["bars"] = [
        bar("60 − seconds of EASE and its directed twin on Beauty, tuned and fitted", 60 - sum(beauty.values()), 0),
        bar("people of Gowalla scored a second, EASE", gowalla["ease"]["people_per_second"], 5_000),
        bar("people of Gowalla scored a second, graph filter", gowalla["graph"]["people_per_second"], 5_000),
    ]
    table = HERE / "results" / "table-movielens-1m.json"
    if table.exists():
        seconds = json.loads(table.read_text())["results"][0]["fit_seconds"]
        done["bars"].append(bar("600 − seconds of auto on MovieLens-1M", 600 - seconds, 0))
    (HERE / "results" / "speed.json").write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
