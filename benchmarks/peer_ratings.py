"""Surprise's algorithms on given folds, called as its own documentation does. Runs in its environment, never in the project's.

Called by ratings.py through peers.ask: the question holds the files of the folds and what to run; the answer holds, for each
algorithm and fold, RMSE, MAE, FCP, and seconds of fitting and of testing (wall clock, and of the processor).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import surprise
from surprise import Dataset, Reader, accuracy
from surprise.model_selection import PredefinedKFold


def main(question: str, answer: str) -> None:
    with open(question) as file:
        asked: dict[str, Any] = json.load(file)
    data = Dataset.load_from_folds([tuple(pair) for pair in asked["folds"]], reader=Reader("ml-100k"))
    parts = list(PredefinedKFold().split(data))
    out: dict[str, Any] = {"version": surprise.__version__, "results": {}}
    for name, kind, settings in asked["algorithms"]:
        rows = []
        for train, test in parts:
            began, busy = time.perf_counter(), time.process_time()
            algorithm = getattr(surprise, kind)(**settings)
            algorithm.fit(train)
            fit, fit_busy = time.perf_counter() - began, time.process_time() - busy
            began = time.perf_counter()
            found = algorithm.test(test)
            rows.append({
                "rmse": accuracy.rmse(found, verbose=False), "mae": accuracy.mae(found, verbose=False),
                "fcp": accuracy.fcp(found, verbose=False), "fit_seconds": fit, "fit_cpu_seconds": fit_busy,
                "test_seconds": time.perf_counter() - began,
            })  # fmt: skip
        out["results"][name] = rows
    with open(answer, "w") as file:
        json.dump(out, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
