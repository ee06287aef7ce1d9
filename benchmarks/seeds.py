"""The tables once more with other seeds: what training owes to chance, the settings being those that validation chose.

Run: python benchmarks/seeds.py NAME [NAME …] [--seeds 1 2]     (a table of benchmarks/tables.py that has been run)
The settings are read from the table's result, nothing is tuned or weighed anew; the figures are added to it under `again`.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from core import HERE, bar, run
from tables import BARS, METRICS, TABLES

from sensorium.data.events import Events
from sensorium.models.kin import Kin
from sensorium.models.model import Features, Model
from sensorium.recipe import RECOMMENDERS


@dataclass(frozen=True)
class Fixed:
    """Settings that are fitted as they stand."""

    settings: Any

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Model:
        return self.settings.fit(events, features, rng=rng)


def settings_of(text: str) -> Any:
    """Settings from how they are written: classes of this house, and literals."""
    known = {type(RECOMMENDERS.make(name)).__name__: type(RECOMMENDERS.make(name)) for name in RECOMMENDERS} | {
        "Kin": Kin
    }

    def built(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return known[node.func.id](**{word.arg: built(word.value) for word in node.keywords if word.arg})
        if isinstance(node, ast.Dict):
            return {ast.literal_eval(k): built(v) for k, v in zip(node.keys, node.values, strict=True) if k}
        return ast.literal_eval(node)

    return built(ast.parse(text, mode="eval").body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    for name in asked.names:
        path = HERE / "results" / f"table-{name}.json"
        if name not in TABLES or not path.exists():
            sys.exit(f"no result of a table {name!r}: python benchmarks/tables.py {name}")
        print(name, flush=True)
        done = json.loads(path.read_text("utf-8"))
        ours = Fixed(settings_of(done["results"][0]["settings"]))
        values = {metric: [done["results"][0]["metrics"][metric]] for metric in METRICS}
        apart = done["protocol"].get("final_fit_on") == "train"
        for seed in asked.seeds:
            with tempfile.TemporaryDirectory() as folder:
                one = run(TABLES[name].recipe(Path(folder)), {"ours": ours}, seed=seed, apart=apart)  # type: ignore[attr-defined]
            for metric in METRICS:
                values[metric].append(one["results"][0]["metrics"][metric])
            print(
                f"  seed {seed}: { {m: round(v[-1], 4) for m, v in values.items()} } {one['seconds']['whole']} s",
                flush=True,
            )
        done["again"] = {
            "seeds": [0, *asked.seeds], "settings": "of the first seed", "metrics": values,
            "mean": {metric: round(float(np.mean(v)), 5) for metric, v in values.items()},
            "deviation": {metric: round(float(np.std(v, ddof=1)), 5) for metric, v in values.items()},
            "bars": [
                bar(f"{metric}, mean of {1 + len(asked.seeds)} fits", float(np.mean(values[metric])), least)
                for metric, least in BARS.get(name, {}).items()
            ],
        }  # fmt: skip
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
