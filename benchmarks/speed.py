"""How long the field's usual tasks take on this machine.

Run: python benchmarks/speed.py [linear|scoring|auto …]      writes results/speed.json; without a word: all of them
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from core import HERE, bar, tables
from tables import UNORDERED, given

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


def auto_on_movielens(folder: Path) -> dict[str, Any]:
    """The line-up of its table, every member and the blend tuned on validation, then fitted to everything."""
    parts, features = world(given("movielens-1m", items=True, users=True)(folder))
    began = time.perf_counter()
    auto = RECOMMENDERS.make("auto", UNORDERED).tuned(parts.validation, features, rng=np.random.default_rng(0))
    tuned = time.perf_counter() - began
    auto.fit(parts.train, features, rng=np.random.default_rng(0))
    members = {trial.name: round(trial.seconds, 1) for trial in auto.trials}
    return {"tune": tuned, "fit": time.perf_counter() - began - tuned, "members": members}


TASKS = {
    "linear": ("linear on amazon-beauty", linear_on_beauty), "scoring": ("scoring gowalla", scoring_gowalla),
    "auto": ("auto on movielens-1m", auto_on_movielens),
}  # fmt: skip


def main() -> None:
    path = HERE / "results" / "speed.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for word in sys.argv[1:] or TASKS:
        name, task = TASKS[word]
        with tempfile.TemporaryDirectory() as folder:
            done[name] = task(Path(folder))
    done["bars"] = []
    if beauty := done.get("linear on amazon-beauty"):
        told = "60 − seconds of EASE and its directed twin on Beauty, tuned and fitted"
        done["bars"].append(bar(told, 60 - sum(beauty.values()), 0))
    for model in ("ease", "graph") if "scoring gowalla" in done else ():
        told = f"people of Gowalla scored a second, {'EASE' if model == 'ease' else 'graph filter'}"
        done["bars"].append(bar(told, done["scoring gowalla"][model]["people_per_second"], 5_000))
    if auto := done.get("auto on movielens-1m"):
        done["bars"].append(bar("600 − seconds of auto on MovieLens-1M", 600 - auto["tune"] - auto["fit"], 0))
    path.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
