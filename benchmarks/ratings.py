"""Ratings: every algorithm of Surprise beside its namesake here, on MovieLens-100k's five folds, and the best engine.

Run: python benchmarks/ratings.py [same|speed|best [LINE …]]     (without a name: all three; LINE: some lines of a table only)
`same`: RMSE of each algorithm against Surprise's own, with the same settings. `speed`: SVD and SVD++ turn by turn, in one
minute. `best`: the Bayesian engine with its shipped settings, which were chosen on a fifth of the training part of a fold;
no fold's test part was asked before. The data folder is $SENSORIUM_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import ask

from sensorium.models.ratings import (
    Baseline,
    Bayes,
    CoClustering,
    Neighbours,
    Nmf,
    Normal,
    Ratings,
    Sides,
    SlopeOne,
    Svd,
    Svdpp,
    fcp,
    mae,
    read_ratings,
    rmse,
)

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SENSORIUM_DATA", HERE.parent.parent / "shared" / "data")) / "movielens-100k"
RESULT = HERE / "results" / "ratings.json"
FOLDS = [(str(DATA / f"u{n}.base"), str(DATA / f"u{n}.test")) for n in range(1, 6)]
QUIET = {"verbose": False}
ITEMS = {"user_based": False}
SEEDS = (0, 1, 2)
DRAWS = {
    "SVD++": (0,),
    "Normal": tuple(range(12)),
}  # Surprise's SVD++ is slow, and one normal draw is off by .003 by itself

Lines = Iterator[tuple[str, dict[str, Any]]]  # a line of the table at a time, so that none is lost

# name → ours, Surprise's class and its settings, whether there is chance in it
PAIRS: dict[str, tuple[Any, str, dict[str, Any], bool]] = {
    "Baseline (ALS)": (Baseline(), "BaselineOnly", QUIET, False),
    "Baseline (SGD)": (Baseline(method="sgd"), "BaselineOnly", {"bsl_options": {"method": "sgd"}, **QUIET}, False),
    "k-NN, MSD": (Neighbours(), "KNNBasic", QUIET, False),
    "k-NN, cosine": (Neighbours(similarity="cosine"), "KNNBasic", {"sim_options": {"name": "cosine"}, **QUIET}, False),
    "k-NN centred": (Neighbours(centre="mean"), "KNNWithMeans", QUIET, False),
    "k-NN centred, Pearson, items": (
        Neighbours(centre="mean", similarity="pearson", by="item"), "KNNWithMeans",
        {"sim_options": {"name": "pearson", **ITEMS}, **QUIET}, False),
    "k-NN z-score": (Neighbours(centre="zscore"), "KNNWithZScore", QUIET, False),
    "k-NN baseline": (Neighbours(centre="baseline"), "KNNBaseline", QUIET, False),
    "k-NN baseline, Pearson-baseline, items": (
        Neighbours(centre="baseline", similarity="pearson_baseline", by="item"), "KNNBaseline",
        {"sim_options": {"name": "pearson_baseline", **ITEMS}, **QUIET}, False),
    "Slope One": (SlopeOne(), "SlopeOne", {}, False),
    "SVD": (Svd(), "SVD", {}, True),
    "PMF": (Svd(biased=False), "SVD", {"biased": False}, True),
    "SVD++": (Svdpp(), "SVDpp", {"cache_ratings": True}, True),
    "NMF": (Nmf(), "NMF", {}, True),
    "Co-clustering": (CoClustering(), "CoClustering", {}, True),
    "Normal": (Normal(), "NormalPredictor", {}, True),
}  # fmt: skip


def folds() -> list[tuple[Ratings, Ratings]]:
    return [(read_ratings(train), read_ratings(test)) for train, test in FOLDS]


def measured(method: Any, parts: list[tuple[Ratings, Ratings]], seed: int) -> list[dict[str, float]]:
    rows = []
    for train, test in parts:
        # A table is grouped by user and by item once and remembers it, as Surprise's trainset does when it is built.
        assert len(train.by_user)
        assert len(train.by_item)
        began, busy = time.perf_counter(), time.process_time()
        model = method.fit(train, rng=np.random.default_rng(seed))
        fit, fit_busy = time.perf_counter() - began, time.process_time() - busy
        began = time.perf_counter()
        found = model.predictions(test)
        rows.append({
            "rmse": rmse(found), "mae": mae(found), "fcp": fcp(found), "fit_seconds": fit, "fit_cpu_seconds": fit_busy,
            "test_seconds": time.perf_counter() - began,
        })  # fmt: skip
    return rows


def mean(rows: list[dict[str, float]], name: str) -> float:
    return round(float(np.mean([row[name] for row in rows])), 5)


def theirs(names: list[str], seeds: tuple[int, ...]) -> dict[str, list[list[dict[str, float]]]]:
    """Surprise's figures by algorithm, a list of folds for each seed (one where there is no chance)."""
    runs = [(f"{name}|{seed}", PAIRS[name][1], PAIRS[name][2] | ({"random_state": seed} if seeded(name) else {}))
            for name in names for seed in (DRAWS.get(name, seeds) if PAIRS[name][3] else seeds[:1])]  # fmt: skip
    answer = ask("surprise", HERE / "peer_ratings.py", {"folds": FOLDS, "algorithms": runs}, threads=1)
    out: dict[str, list[list[dict[str, float]]]] = {}
    for run, rows in answer["results"].items():
        out.setdefault(run.split("|")[0], []).append(rows)
    return out


def seeded(name: str) -> bool:
    return PAIRS[name][3] and name != "Normal"


def same(lines: list[str]) -> Lines:
    parts = folds()
    peers = theirs(lines or list(PAIRS), SEEDS)
    for name in peers:
        method, _, _, chance = PAIRS[name]
        seeds = max(SEEDS, DRAWS.get(name, SEEDS), key=len)
        ours = [row for seed in (seeds if chance else SEEDS[:1]) for row in measured(method, parts, seed)]
        other = [row for rows in peers[name] for row in rows]
        line: dict[str, Any] = {
            who: {key: mean(rows, key) for key in ("rmse", "mae", "fcp", "fit_seconds", "test_seconds")}
            for who, rows in (("sensorium", ours), ("surprise", other))
        }
        line["rmse_difference"] = round(line["sensorium"]["rmse"] - line["surprise"]["rmse"], 5)
        if chance:  # over seeds, of the mean of five folds
            line["deviation_over_seeds"] = {
                "sensorium": spread([ours[5 * n : 5 * n + 5] for n in range(len(seeds))]), "surprise": spread(peers[name]),
            }  # fmt: skip
        line["within_0.003_or_better"] = line["rmse_difference"] <= 0.003
        print(
            f"{name:40} {line['sensorium']['rmse']:.4f} {line['surprise']['rmse']:.4f} {line['rmse_difference']:+.4f}",
            flush=True,
        )
        yield name, line


def spread(seeds: list[list[dict[str, float]]]) -> float:
    return round(float(np.std([mean(rows, "rmse") for rows in seeds], ddof=1)), 5) if len(seeds) > 1 else 0.0


def speed(lines: list[str]) -> Lines:
    """Ours, then theirs, then ours again, so that a busy moment cannot favour one; the first fit ever compiles, and is told."""
    parts = folds()
    for name in lines or ("SVD", "SVD++"):
        began = time.perf_counter()
        PAIRS[name][0].fit(parts[0][0])
        first = time.perf_counter() - began
        before = measured(PAIRS[name][0], parts, 0)
        other = theirs([name], SEEDS[:1])[name][0]
        after = measured(PAIRS[name][0], parts, 0)
        ours = before + after
        line = {
            "sensorium_fit_seconds": mean(ours, "fit_seconds"), "surprise_fit_seconds": mean(other, "fit_seconds"),
            "times_faster": round(mean(other, "fit_seconds") / mean(ours, "fit_seconds"), 1),
            "sensorium_cpu_seconds": mean(ours, "fit_cpu_seconds"), "surprise_cpu_seconds": mean(other, "fit_cpu_seconds"),
            "times_less_cpu": round(mean(other, "fit_cpu_seconds") / mean(ours, "fit_cpu_seconds"), 1),
            "rmse": {"sensorium": mean(ours, "rmse"), "surprise": mean(other, "rmse")},
            "first_fit_with_loading_seconds": round(first, 2), "bar": {"SVD": 5, "SVD++": 20}[name],
        }  # fmt: skip
        print(name, line, flush=True)
        yield name, line


def one_hot(rows: list[list[str]]) -> np.ndarray:
    names = {name: place for place, name in enumerate(sorted({name for row in rows for name in row}))}
    out = np.zeros((len(rows), len(names)), np.float32)
    for place, row in enumerate(rows):
        out[place, [names[name] for name in row]] = 1
    return out


def read_sides(ratings: Ratings) -> Sides:
    """Age in steps of seven years, gender, occupation; genres, and the year in steps of four."""
    with (DATA / "users.csv").open(encoding="utf-8") as file:
        users = {row["user_id"]: row for row in csv.DictReader(file)}
    with (DATA / "items.csv").open(encoding="utf-8") as file:
        items = {row["item_id"]: row for row in csv.DictReader(file)}
    who = [users[name] for name in ratings.users]
    what = [items[name] for name in ratings.items]
    return Sides(
        one_hot([[f"age {int(u['age']) // 7}", "is " + u["gender"], "does " + u["occupation"]] for u in who]),
        one_hot(
            [[*i["genres"].split("|"), f"year {int(float(i['year'])) // 4}" if i["year"] else "no year"] for i in what]
        ),
    )


def best(lines: list[str]) -> Lines:
    """A line is a way of seeing the data, with a seed: three seeds for the whole, one for what it is without."""
    parts = folds()
    ways = {
        "ids, sides and times": (True, True), "ids and times": (False, True), "ids and sides": (True, False), "ids alone": (False, False),
    }  # fmt: skip
    runs = {
        f"{name}, seed {seed}": (*sees, seed)
        for name, sees in ways.items()
        for seed in (SEEDS if all(sees) else SEEDS[:1])
    }
    for name in lines or runs:
        sides, times, seed = runs[name]
        rows = []
        for train, test in parts:
            method = Bayes(days=times).beside(read_sides(train) if sides else None)
            began = time.perf_counter()
            found = method.fit(train, rng=np.random.default_rng(seed)).predictions(test)
            rows.append(
                {"rmse": rmse(found), "mae": mae(found), "fcp": fcp(found), "seconds": time.perf_counter() - began}
            )
        line: dict[str, Any] = {key: mean(rows, key) for key in ("rmse", "mae", "fcp", "seconds")}
        line["rmse_by_fold"] = [round(row["rmse"], 4) for row in rows]
        line |= {"bar": 0.91, "settings": repr(Bayes(days=times))}
        print(name, line, flush=True)
        yield name, line


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"skipped: no data in {DATA}; set SENSORIUM_DATA")
    known: dict[str, Callable[[list[str]], Lines]] = {"same": same, "speed": speed, "best": best}
    for name in sys.argv[1:2] or known:
        for line, figures in known[name](sys.argv[2:]):
            result = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
            result |= {name: result.get(name, {}) | {line: figures}, "threads": os.cpu_count()}
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
