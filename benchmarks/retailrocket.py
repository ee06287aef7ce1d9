"""Buys foretold from views, carts and buys: with what each kind counts learned, against equal counts and against buys alone.

Run: python benchmarks/retailrocket.py [SEEDS]     (how many seeds; 3)
Every person has one buy held out of an item that they never touched otherwise. Each way is tuned on the same validation, which
is carved out of the training events in the likeness of the test (one bought item a person, with all its events); where it
falls is chance, so three seeds. All ways answer the same people; the differences are paired by person.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from core import DATA, HERE, SEEDS, bar

from sensorium.data.events import Events
from sensorium.data.split import SplitSettings, split
from sensorium.data.vectors import Vectors
from sensorium.evaluate.compare import intervals, paired
from sensorium.evaluate.metrics import accuracy
from sensorium.models.ease import Ease
from sensorium.models.itemknn import ItemKnn
from sensorium.models.model import Features
from sensorium.settings import described
from sensorium.train.ranking import rank_targets

KINDS = ("view", "cart", "buy")
METRICS = ("recall@10", "recall@20", "ndcg@10")
NOTHING = {"view": 0.0, "cart": 0.0}
MODELS: Mapping[str, Any] = {
    "itemknn": ItemKnn(),
    "ease": Ease(l2=100.0, near=60),  # 30,000 items: tuning moves decay and kinds alone
}


def read() -> tuple[Events, Events]:
    """The training events, and the held-out buys."""
    home = DATA / "retailrocket"
    if not home.is_dir():
        sys.exit(f"skipped: no {home}")
    with gzip.open(home / "events.csv.gz", "rt") as source:
        rows = [(r["user_id"], r["item_id"], r["event"], float(r["timestamp"])) for r in csv.DictReader(source)]
    with (home / "test.csv").open() as source:
        held = [(r["user_id"], r["item_id"]) for r in csv.DictReader(source)]
    users = {name: row for row, name in enumerate(dict.fromkeys([r[0] for r in rows] + [r[0] for r in held]))}
    items = {name: row for row, name in enumerate(dict.fromkeys([r[1] for r in rows] + [r[1] for r in held]))}
    sizes: Any = {"users": len(users), "items": len(items), "kinds": KINDS}
    train = Events.of(
        [users[r[0]] for r in rows], [items[r[1]] for r in rows], kind=[KINDS.index(r[2]) for r in rows],
        time=[r[3] for r in rows], **sizes,
    )  # fmt: skip
    test = Events.of([users[u] for u, _ in held], [items[i] for _, i in held], kind=[2] * len(held), **sizes)
    return train, test


def ways(model: Any, fold: Any, features: Features, rng: np.random.Generator) -> dict[str, Any]:
    """Three settings of one model, each tuned on the fold: only the last may choose what kinds count."""
    fixed = replace(fold, held_out=fold.held_out.take(fold.held_out.kind == KINDS.index("buy")))
    one_kind = replace(fixed, train=replace(fold.train, kinds=("buy", "buy", "buy")))  # nothing to tell apart
    buys = replace(fixed, train=fold.train.take(fold.train.kind == KINDS.index("buy")))
    return {
        "learned": model.tuned(fixed, features, rng=rng),
        "equal": replace(model.tuned(one_kind, features, rng=rng), kinds={}, heard={}, conversion={}),
        "buys alone": replace(model.tuned(buys, features, rng=rng), kinds=NOTHING, heard=NOTHING),
    }


def main() -> None:
    train, test = read()
    features = Features(Vectors.absent(train.items, 1, "none"))
    out: dict[str, Any] = {"people": len(test), "seeds": {}}
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    seeds = SEEDS[: int(sys.argv[1])] if sys.argv[1:] else SEEDS
    for seed in seeds:
        parts = split(train, SplitSettings(by="given"), seed=seed, given={"train": train, "test": test})
        lines = []
        for name, model in MODELS.items():
            began = time.perf_counter()
            for way, settings in ways(model, parts.validation, features, np.random.default_rng(seed)).items():
                fitted = settings.fit(parts.test.train, features, rng=np.random.default_rng(seed))
                values = accuracy(rank_targets(fitted.score, parts.test)).by_person
                found.setdefault(f"{name}, {way}", []).append({m: values[m] for m in METRICS})
                means = {m: round(float(np.mean(values[m])), 4) for m in METRICS}
                lines.append({"model": f"{name}, {way}", "settings": described(settings), **means})
                print(
                    seed,
                    f"{name}, {way}",
                    means,
                    described(settings),
                    round(time.perf_counter() - began, 1),
                    flush=True,
                )
        out["seeds"][str(seed)] = lines
    # A person's value is the mean over seeds; intervals are over people.
    mean = {name: {m: np.mean([v[m] for v in runs], axis=0) for m in METRICS} for name, runs in found.items()}
    out["mean over seeds"] = {
        name: {m: {"mean": round(float(values[m].mean()), 5), **vars_of(i)} for m, i in intervals(values).items()}
        for name, values in mean.items()
    }
    bars = []
    for name in MODELS:
        for other in ("equal", "buys alone"):
            for metric in METRICS:
                lead = paired(mean[f"{name}, learned"][metric], mean[f"{name}, {other}"][metric])
                text = f"{name}: {metric} with learned kinds, the lower end of the paired lead over {other}"
                bars.append({**bar(text, lead.low, 0), "lead": vars_of(lead)})
    out["bars"] = bars
    path = HERE / "results" / "retailrocket.json"
    path.write_text(json.dumps(out, indent=1) + "\n", "utf-8")


def vars_of(value: Any) -> dict[str, Any]:
    """The fields of a small dataclass, numbers rounded."""
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in vars(value).items()}


if __name__ == "__main__":
    main()
