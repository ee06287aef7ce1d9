"""Items that nobody has met: found among themselves, and standing in one list with those the crowd knows.

Run: python benchmarks/cold_items.py [DATA [SEED …]] [--models NAME,NAME]     (a result replaces the one of the same data,
seed and model)

A tenth of the items is cold: none of their events is learnt from. Of every person one further event is hidden, the one in the
middle of their time, whose item stays warm. A model is then asked four times: for the cold targets among the cold items and
among all, and for the warm targets among the warm items and among all. So `warm loss` is what people pay who want what is
known already, when new items join their list, and `cold in one list` what new items get for it. Settings are chosen on
another tenth of the items and on training events. The mean of three tenths is reported, which tenth being chance.

The blend takes its members as they were tuned alone, and learns the weights. `auto within 60 s` is `auto` with a budget by
which it leaves out, on catalogues of 10,000 items, what costs most (directed, iALS, graph): a tenth must not take an hour. `coldaligner with words learnt` reads the titles as
tokens too (models/taught.py), and its aligner is the closed form.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from core import DATA, HERE, SEEDS, bar, tables

from sensorium.build import gather, learn, people_space, remembering
from sensorium.data.events import Fold
from sensorium.data.split import SplitSettings, split
from sensorium.evaluate.compare import intervals
from sensorium.evaluate.metrics import accuracy
from sensorium.models.auto import Auto
from sensorium.models.blend import Blend
from sensorium.models.coldaligner import ColdAligner, one_each
from sensorium.models.taught import Taught
from sensorium.recipe import RECOMMENDERS
from sensorium.train.ranking import rank_targets

PATH = HERE / "results" / "cold_items.json"
METRICS = ("recall@10", "recall@20", "ndcg@10")
FEW = ("content", "ease", "coldaligner")  # of the blend
TAUGHT = "coldaligner with words learnt"
MODELS = (*FEW, TAUGHT, "blend with coldaligner", "auto within 60 s")


def model(label: str, tuned: Mapping[str, Any]) -> Any:
    """The recommender of a label; the blend's members are those that were `tuned` before it, where they were."""
    if label == "blend with coldaligner":
        return Blend(use=FEW, weights=dict.fromkeys(FEW, 1.0) if len(tuned) == len(FEW) else {}, **tuned)
    if label in ("coldaligner", TAUGHT):
        return ColdAligner(epochs=0) if label == TAUGHT else ColdAligner(taught=Taught(epochs=0))
    return Auto(budget_seconds=60) if label == "auto within 60 s" else RECOMMENDERS.make(label)


def measured(name: str, seed: int, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """One tenth of one data set, by model."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = replace(tables(name, "items", Path(folder)), encode={"tokens": "hashed"})  # read by TAUGHT alone
        cache = Path(os.environ.get("SENSORIUM_CACHE", Path.home() / ".cache" / "sensorium"))
        material = gather(recipe, cache)
    _, people = people_space(material.people_views, seed)
    parts = split(material.dataset.events, SplitSettings(by="items"), seed=seed, kinds=recipe.kind_weights())
    cold = parts.test.candidates
    hidden = one_each(parts.train)
    train, warm_targets = parts.train.take(~hidden), parts.train.take(hidden)
    inside = one_each(parts.train)  # the same events are hidden from validation's training part
    outside = ~np.isin(_keys(parts.validation.train), _keys(parts.train.take(inside)))
    validation = replace(parts.validation, train=parts.validation.train.take(outside))
    warm = np.setdiff1d(np.unique(train.item), cold).astype(np.int64)
    both = np.union1d(warm, cold)
    questions = {
        "cold among cold": Fold(train, parts.test.held_out, cold),
        "cold in one list": Fold(train, parts.test.held_out, both),
        "warm among warm": Fold(train, warm_targets, warm),
        "warm in one list": Fold(train, warm_targets, both),
        "both in one list": Fold(train, parts.test.held_out.merged(warm_targets), both),
    }
    fuse = remembering()
    out: dict[str, Any] = {}
    tuned: dict[str, Any] = {}
    for label in MODELS:
        if only and label not in only:
            continue
        began = time.perf_counter()
        learned = learn(
            train, material.views, people, fusion=recipe.fusion, recommender=model(label, tuned), validation=validation,
            seed=seed, fuse=fuse,
        )  # fmt: skip
        if label in FEW:
            tuned[label] = learned.recommender
        row: dict[str, Any] = {"settings": repr(getattr(learned.recommender, "chosen", None) or learned.recommender)}
        row["seconds"] = round(time.perf_counter() - began, 1)
        for question, fold in questions.items():
            scores = accuracy(rank_targets(learned.model.score, fold, people))
            means, spans = scores.means(), intervals(scores.by_person, seed=seed)
            row[question] = {m: means[m] for m in METRICS} | {
                "interval": {m: [round(spans[m].low, 5), round(spans[m].high, 5)] for m in METRICS}
            }
        kept = row["warm in one list"]["ndcg@10"] / max(row["warm among warm"]["ndcg@10"], 1e-9)
        row["warm loss"] = round(1 - kept, 5)
        out[label] = row
        print(
            f"  {name} {seed} {label}: cold {row['cold among cold']['recall@10']:.4f}, in one list "
            f"{row['cold in one list']['recall@10']:.4f}, warm loss {row['warm loss']:.2%}, {row['seconds']} s",
            flush=True,
        )
    return out


def _keys(events: Any) -> np.ndarray:
    return events.user.astype(np.int64) * events.items + events.item


def summed(seeds: Mapping[str, Any]) -> dict[str, Any]:
    """Means over the seeds, by model, and content nearness as the measure of the others."""
    out: dict[str, Any] = {}
    everywhere = [label for label in MODELS if all(label in one for one in seeds.values())]
    for label in everywhere:
        rows = [one[label] for one in seeds.values()]
        out[label] = {
            q: {m: round(float(np.mean([row[q][m] for row in rows])), 5) for m in METRICS}
            for q in ("cold among cold", "cold in one list", "warm among warm", "warm in one list", "both in one list")
        }
        out[label]["warm loss"] = round(float(np.mean([row["warm loss"] for row in rows])), 5)
    base = out["content"]["cold among cold"]["recall@10"] if "content" in out else float("nan")
    for label in out:
        out[label]["times content"] = round(out[label]["cold among cold"]["recall@10"] / base, 3)
    return out


def bars(name: str, mean: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for label in ("coldaligner", TAUGHT, "blend with coldaligner", "auto within 60 s"):
        if label in mean:
            lines.append(bar(f"{name}: {label}, cold Recall@10 ÷ content nearness", mean[label]["times content"], 1.25))
            lines.append(bar(f"{name}: {label}, warm NDCG@10 kept in one list", 1 - mean[label]["warm loss"], 0.98))
    return lines


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"skipped: no data in {DATA}; set SENSORIUM_DATA")
    words, only = sys.argv[1:], ()
    if "--models" in words:
        place = words.index("--models")
        words, only = words[:place], tuple(words[place + 1].split(","))
    names = words[:1] or ["movielens-100k", "amazon-beauty"]
    seeds = [int(seed) for seed in words[1:]] or list(SEEDS)
    for name in names:
        for seed in seeds:
            found = measured(name, seed, only)
            done = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}
            part = done.setdefault(name, {"seeds": {}})
            part["seeds"].setdefault(str(seed), {}).update(found)
            part["mean over seeds"] = summed(part["seeds"])
            part["bars"] = bars(name, part["mean over seeds"])
            PATH.write_text(json.dumps(done, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
