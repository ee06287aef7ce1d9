"""Parity with LightFM on MovieLens-100k: the same splits, losses and settings; precision@10, AUC and speed.

Run: python benchmarks/lightfm_parity.py [quality] [speed] [LOSS …]     (without a word: all)
Every pair of a person and a film counts as liked, a random fifth of all pairs is test, as LightFM's own split makes it;
settings are LightFM's defaults with 30 components. Both sides' vectors are ranked by the same code. Speed is samples a
second of `fit`, fits of the two in turn, each the best of several, since a busy machine only ever slows.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import ask, version_of
from scipy import sparse

from sensorium.evaluate.metrics import accuracy
from sensorium.models.hybrid import Hybrid
from sensorium.models.hybrid.factors import Factors
from sensorium.models.hybrid.ranks import auc
from sensorium.models.hybrid.tables import Table

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SENSORIUM_DATA", HERE.parent.parent / "shared" / "data"))
SIZE, EPOCHS, SPEED_EPOCHS, TURNS, SPLITS = 30, {"warp": 20, "bpr": 20, "logistic": 20, "warp-kos": 20}, 10, 3, 8
# Share of the last epochs that is averaged, chosen on a fifth of the training pairs; all else is as LightFM has it.
AVERAGED = {"warp": 0.5, "bpr": 0.75, "warp-kos": 0.75, "logistic": 0.0}
FITS = [(loss, "adagrad") for loss in EPOCHS] + [("warp", "adadelta")]


def pairs(folder: Path, split: int) -> tuple[Path, Any, Any]:
    """A split as a file, and as train and test matrices."""
    rows = np.loadtxt(DATA / "movielens-100k" / "ratings.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    user, item = (np.unique(column, return_inverse=True)[1].astype(np.int32) for column in rows.T)
    order = np.random.default_rng(split).permutation(len(user))
    cut = len(order) * 4 // 5
    parts = {"train": order[:cut], "test": order[cut:]}
    shape = (int(user.max()) + 1, int(item.max()) + 1)
    path = folder / f"split{split}.npz"
    np.savez(path, shape=np.array(shape), **{f"{part}_{name}": column[rows] for part, rows in parts.items()
                                             for name, column in (("user", user), ("item", item))})  # fmt: skip
    train, test = (
        sparse.coo_array((np.ones(len(r), np.float32), (user[r], item[r])), shape=shape) for r in parts.values()
    )
    return path, train, test


def judged(factors: Factors, train: Any, test: Any) -> tuple[np.ndarray, np.ndarray]:
    """precision@10 and AUC of each person with targets."""
    ranks = factors.ranks(test, train)
    return accuracy(ranks, [10]).by_person["precision@10"], auc(ranks, train.shape[1], train)


def quality(folder: Path, fits: list[tuple[str, str]], splits: int) -> Iterator[dict[str, Any]]:
    files = [pairs(folder, split) for split in range(splits)]
    for loss, schedule in fits:
        wanted = [
            {"pairs": str(path), "loss": loss, "schedule": schedule, "size": SIZE, "epochs": EPOCHS[loss], "seed": split,
             "threads": 2, "vectors": str(folder / f"{loss}-{schedule}-{split}.npz")}
            for split, (path, _, _) in enumerate(files)
        ]  # fmt: skip
        theirs = ask("lightfm", HERE / "peer_lightfm.py", {"fits": wanted})["fits"]
        rows: list[dict[str, Any]] = []
        for split, (_, train, test) in enumerate(files):
            settings = Hybrid(
                size=SIZE, loss=loss, optimizer=schedule, epochs=EPOCHS[loss], threads=2, averaged=AVERAGED[loss]
            )  # type: ignore[arg-type]
            ours = judged(settings.factors(train, rng=np.random.default_rng(split)), train, test)
            with np.load(wanted[split]["vectors"]) as file:
                none = Table.drawn(0, SIZE, schedule, np.random.default_rng(0))
                peer = judged(Factors(settings, none, none, none, none, file["users"], file["items"]), train, test)
            rows.append(
                {"split": split, "precision@10": [float(v[0].mean()) for v in (ours, peer)],
                 "auc": [float(v[1].mean()) for v in (ours, peer)],
                 "lightfm says": {m: theirs[split][m] for m in ("precision@10", "auc")}}
            )  # fmt: skip
        row: dict[str, Any] = {"loss": loss, "optimizer": schedule, "epochs": EPOCHS[loss], "splits": rows}
        for metric in ("precision@10", "auc"):
            values = np.array([r[metric] for r in rows])
            lead = values[:, 0] - values[:, 1]
            half = 1.96 * lead.std(ddof=1) / np.sqrt(len(lead)) if len(lead) > 1 else float("nan")
            row[metric] = {"ours": round(float(values[:, 0].mean()), 5), "lightfm": round(float(values[:, 1].mean()), 5),
                           "lead": round(float(lead.mean()), 5), "half_interval": round(float(half), 5)}  # fmt: skip
        print(loss, schedule, row["precision@10"], row["auc"], flush=True)
        yield row


def speed(folder: Path, fits: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    path, train, _ = pairs(folder, 0)
    for loss, schedule in fits:
        for threads in (2,) if loss != "warp" else (2, 1):
            settings = Hybrid(
                size=SIZE, loss=loss, optimizer=schedule, epochs=SPEED_EPOCHS, threads=threads, averaged=AVERAGED[loss]
            )  # type: ignore[arg-type]
            settings.factors(train, epochs=1, rng=np.random.default_rng(0))  # compiled
            ours, theirs = [], []
            for turn in range(TURNS):
                began = time.perf_counter()
                settings.factors(train, rng=np.random.default_rng(turn))
                ours.append(time.perf_counter() - began)
                fit = {"pairs": str(path), "loss": loss, "schedule": schedule, "size": SIZE, "epochs": SPEED_EPOCHS, "seed": turn,
                       "threads": threads}  # fmt: skip
                theirs.append(ask("lightfm", HERE / "peer_lightfm.py", {"fits": [fit]})["fits"][0]["seconds"])
            samples = SPEED_EPOCHS * train.nnz
            row = {"loss": loss, "optimizer": schedule, "threads": threads, "ours_per_second": round(samples / min(ours)),
                   "lightfm_per_second": round(samples / min(theirs)), "times_lightfm": round(min(theirs) / min(ours), 2)}  # fmt: skip
            print(row, flush=True)
            yield row


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"skipped: no data in {DATA}; set SENSORIUM_DATA")
    path = HERE / "results" / "lightfm_parity.json"
    done = json.loads(path.read_text("utf-8")) if path.exists() else {}
    done |= {
        "data": "movielens-100k",
        "lightfm": version_of("lightfm"),
        "size": SIZE,
        "averaged": AVERAGED,
        "cores": os.cpu_count(),
    }
    asked = [word for word in sys.argv[1:] if word in ("quality", "speed")] or ["quality", "speed"]
    losses = [word for word in sys.argv[1:] if word in EPOCHS] or list(EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked:
            fits = [fit for fit in FITS if fit[0] in losses]
            rows = speed(Path(folder), fits) if name == "speed" else quality(Path(folder), fits, SPLITS)
            done[name] = [row for row in done.get(name, []) if row["loss"] not in losses]
            for row in rows:
                done[name].append(row)
                path.write_text(json.dumps(done, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
