"""The tables of the field: Sensorium beside other libraries on the splits for which figures are published.

Run: python benchmarks/tables.py NAME [NAME …]     (without a name: the list); --seeds 1 and --no-peers make it quicker.
The data folder is $SENSORIUM_DATA, or ../shared/data beside the repository. Settings are chosen on validation, test is asked
once a seed. Peers run in this process's minute, on the same split, each in an environment of its own (peers.py).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from core import DATA, HERE, IdsAlone, bar, named, run, tables
from peers import NotInstalled, python_of, version_of

from sensorium.data.events import Events, Fold, Histories
from sensorium.models.model import Features
from sensorium.recipe import RECOMMENDERS, Recipe, read_recipe_text, recipe_of

FULL = ("implicit ALS", "implicit BPR", "implicit BM25", "LightFM WARP", "RecTools EASE", "Cornac EASE", "Cornac BPR")
ORDERED = ("implicit ALS", "implicit BM25", "LightFM WARP", "RecTools EASE")
DEEP = (*ORDERED, "RecTools SASRec")  # where its twelve epochs take minutes, not an hour
LARGE = (
    "implicit ALS",
    "implicit BPR",
    "implicit BM25",
    "LightFM WARP",
)  # where a dense item-by-item matrix takes too long


class Peers:
    """Several models of other libraries; each library's are asked in one call of its environment."""

    def __init__(self, names: Sequence[str], seed: int = 0, apart: bool = False) -> None:
        self.names, self.seed, self.apart = names, seed, apart
        self.notes: dict[str, Any] = {}
        self._lists: dict[str, np.ndarray] = {}
        self._people = np.zeros(0, np.int64)

    def ask(self, fold: Fold) -> None:
        """All lists, for everybody with a history: settings from the fold, then learnt from both of its parts. Once."""
        if self.notes:
            return
        whole = fold.train if self.apart else fold.train.merged(fold.held_out)
        self._people = np.unique(whole.user).astype(np.int64)
        parts = {"inner": fold.train, "whole": whole, "valid": fold.held_out}
        columns = {f"{name}_user": e.user for name, e in parts.items()} | {
            f"{name}_item": e.item for name, e in parts.items()
        }
        libraries: dict[str, list[str]] = {}
        for name in self.names:
            libraries.setdefault(name.split()[0].lower(), []).append(name)
        with tempfile.TemporaryDirectory() as folder:
            for library, names in libraries.items():
                question, answer = Path(folder) / f"{library}.npz", Path(folder) / f"{library}-answer.npz"
                np.savez(question, names=json.dumps(names), seed=self.seed, users=whole.users, items=whole.items,
                         ask=self._people, **columns)  # fmt: skip
                try:
                    python, version = python_of(library), version_of(library)
                    _run([python, HERE / "peer_models.py", question, answer])
                except (NotInstalled, RuntimeError) as error:
                    print(f"  {library}: {error}", flush=True)
                    self.notes |= {name: {"failed": str(error)} for name in names}
                    continue
                found = np.load(answer, allow_pickle=False)
                for place, name in enumerate(names):
                    self._lists[name] = found[f"lists_{place}"]
                    self.notes[name] = {"version": version, **json.loads(str(found["notes"]))[name]}

    def models(self) -> dict[str, Any]:
        return {name: Peer(name, self) for name in self.names}

    def lists(self, name: str, items: int) -> tuple[np.ndarray, np.ndarray]:
        """People and their lists; empty lists for a peer that could not be had, of which `notes` says why."""
        nothing = np.full((len(self._people), 1), -1)
        return self._people, self._lists.get(name, nothing)


def _run(command: Sequence[Any]) -> None:
    done = subprocess.run(
        command, env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}, check=False,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])


@dataclass(frozen=True, eq=False)
class Peer:
    """A peer's lists as a model: the items of a person's list by their place, all others tied below them."""

    name: str
    peers: Peers

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> Peer:
        self.peers.ask(fold)
        return self

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Lists:
        return Lists(*self.peers.lists(self.name, events.items), events.items)


@dataclass(frozen=True, eq=False)
class Lists:
    """**Shapes** people (N,) ascending, lists (N, 50), best first, −1 where there are no more."""

    people: np.ndarray
    lists: np.ndarray
    items: int

    def score(self, histories: Histories, candidates: np.ndarray | None = None) -> np.ndarray:
        place = np.minimum(np.searchsorted(self.people, histories.user), len(self.people) - 1)
        mine = np.where((self.people[place] == histories.user)[:, None], self.lists[place], -1)  # who has no events
        out = np.full((len(mine), self.items), -1000.0, np.float32)
        row, place = np.nonzero(mine >= 0)
        out[row, mine[row, place]] = -place
        return out if candidates is None else out[:, candidates]


def measured(
    name: str, recipe: Callable[[Path], Recipe], *, engines: Sequence[str] = (), peers: Sequence[str] = (),
    content: bool = True, settings: Mapping[str, Any] | None = None, apart: bool = False, ours: str = "auto",
) -> Callable[[Path, Sequence[int], bool], dict[str, Any]]:  # fmt: skip
    """One table: `auto`, or whichever is `ours`, under that name, and by ids alone, where there is content; on the first seed beside
    peers."""

    def table(folder: Path, seeds: Sequence[int], with_peers: bool) -> dict[str, Any]:
        done: dict[str, Any] = {}
        by_seed: dict[str, dict[str, list[float]]] = {}
        for seed in seeds:
            auto = RECOMMENDERS.make(ours, settings or {})
            models: dict[str, Any] = {"auto": auto}
            first = seed == seeds[0]
            asked = Peers(peers if with_peers and first else (), seed, apart)
            if content:
                models["auto, ids alone"] = IdsAlone(auto)
            if first:
                models |= named(*engines)
            one = run(recipe(folder), models | asked.models(), seed=seed, apart=apart)
            one["results"][0] = {**one["results"][0], "chose": one["results"][0]["model"], "model": "auto"}
            if first:
                done = {**one, "peers": asked.notes, "ours": ours}
            for row in one["results"]:
                values = by_seed.setdefault(row["model"], {})
                for metric in METRICS:
                    values.setdefault(metric, []).append(row["metrics"][metric])
            line = {m: round(one["results"][0]["metrics"][m], 4) for m in METRICS}
            print(f"  seed {seed}: {line} {one['seconds']['whole']} s", flush=True)
        done["seeds"] = {model: {**values} for model, values in by_seed.items() if len(seeds) > 1}
        done["mean"] = {
            model: {metric: round(float(np.mean(v)), 5) for metric, v in values.items()}
            for model, values in by_seed.items()
        }
        done["published"] = PUBLISHED.get(name, [])
        done["bars"] = [
            bar(f"{metric}, mean of {len(seeds)} seeds", done["mean"]["auto"][metric], least)
            for metric, least in BARS.get(name, {}).items()
        ]
        if content:
            lead = next(r["paired"] for r in done["results"] if r["model"] == "auto, ids alone")
            for metric in list(BARS.get(name, {}))[-1:]:
                low = lead[metric]["low"] if metric in lead else lead["ndcg@10"]["low"]
                done["bars"].append(bar("content: the lower end of the paired lead over ids alone", low, 0))
        return done

    table.recipe = recipe  # type: ignore[attr-defined]  # for further seeds (seeds.py)
    return table


METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
BARS: Mapping[str, Mapping[str, float]] = {
    "amazon-beauty": {"recall@10": 0.1060, "ndcg@10": 0.0660},
    "amazon-sports": {"recall@10": 0.0670, "ndcg@10": 0.0400},
    "amazon-office": {"recall@10": 0.124, "ndcg@10": 0.075},
    "movielens-last": {"recall@10": 0.235, "ndcg@10": 0.126},
    "hm-purchases": {"recall@20": 0.070, "ndcg@10": 0.036},
    "baby-graph": {"recall@20": 0.0860, "ndcg@20": 0.0410},
    "sports-graph": {"recall@20": 0.0980, "ndcg@20": 0.0485},
    "gowalla": {"recall@20": 0.1875, "ndcg@20": 0.1580},
    "tiktok": {"recall@20": 0.1130, "ndcg@20": 0.0456},
    "movielens-1m": {"recall@20": 0.285, "ndcg@20": 0.425},
    "lastfm": {"recall@20": 0.355},
}
PAIR = "linear pair"
PUBLISHED: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]] = {
    "amazon-beauty": [
        ("SASRec, as first published", {"recall@10": 0.0605, "ndcg@10": 0.0318}),
        ("TIGER", {"recall@10": 0.0648, "ndcg@10": 0.0384}),
        ("ActionPiece", {"recall@10": 0.0775, "ndcg@10": 0.0424}),
        ("HSTU", {"recall@10": 0.0788, "ndcg@10": 0.0439}),
        ("SASRec, sampled softmax", {"recall@10": 0.0921, "ndcg@10": 0.0531}),
        ("eSASRec", {"recall@10": 0.0928, "ndcg@10": 0.0523}),
        ("BARGE", {"recall@10": 0.0927, "ndcg@10": 0.0547}),
        (PAIR, {"recall@10": 0.1013, "ndcg@10": 0.0635}),
    ],
    "amazon-sports": [
        ("SASRec, as first published", {"recall@10": 0.0350, "ndcg@10": 0.0192}),
        ("TIGER", {"recall@10": 0.0400, "ndcg@10": 0.0225}),
        ("ActionPiece", {"recall@10": 0.0500, "ndcg@10": 0.0264}),
        ("SASRec, sampled softmax", {"recall@10": 0.0569, "ndcg@10": 0.0314}),
        ("eSASRec", {"recall@10": 0.0560, "ndcg@10": 0.0323}),
        (PAIR, {"recall@10": 0.0645, "ndcg@10": 0.0391}),
    ],
    "amazon-office": [(PAIR, {"recall@10": 0.1187, "ndcg@10": 0.0718})],
    "movielens-last": [(PAIR, {"recall@10": 0.2227, "ndcg@10": 0.1195})],
    "hm-purchases": [("EASE + nearness of photographs, a quick look", {"recall@20": 0.0498, "ndcg@10": 0.0290})],
    "baby-graph": [
        ("BPR", {"recall@20": 0.0575, "ndcg@20": 0.0249}),
        ("LightGCN", {"recall@20": 0.0754, "ndcg@20": 0.0328}),
        ("LayerGCN", {"recall@20": 0.0820, "ndcg@20": 0.0355}),
        ("item k-NN, tuned", {"recall@20": 0.0829, "ndcg@20": 0.0403}),
        ("EASE, weighted by degree", {"recall@20": 0.0835, "ndcg@20": 0.0401}),
        ("FREEDOM (with pictures and text)", {"recall@20": 0.0992, "ndcg@20": 0.0424}),
        ("DANCE (with pictures and text)", {"recall@20": 0.1061, "ndcg@20": 0.0465}),
    ],
    "sports-graph": [
        ("BPR", {"recall@20": 0.0653, "ndcg@20": 0.0298}),
        ("LightGCN", {"recall@20": 0.0864, "ndcg@20": 0.0387}),
        ("LayerGCN", {"recall@20": 0.0916, "ndcg@20": 0.0406}),
        ("DirectAU", {"recall@20": 0.0958, "ndcg@20": 0.0436}),
        ("EASE", {"recall@20": 0.0939, "ndcg@20": 0.0471}),
        ("FREEDOM (with pictures and text)", {"recall@20": 0.1089, "ndcg@20": 0.0481}),
        ("DANCE (with pictures and text)", {"recall@20": 0.1198, "ndcg@20": 0.0559}),
    ],
    "gowalla": [
        ("MF-BPR", {"recall@20": 0.1627, "ndcg@20": 0.1378}),
        ("EASE", {"recall@20": 0.1765, "ndcg@20": 0.1467}),
        ("LightGCN", {"recall@20": 0.1820, "ndcg@20": 0.1547}),
        ("GF-CF", {"recall@20": 0.1849, "ndcg@20": 0.1518}),
        ("UltraGCN", {"recall@20": 0.1862, "ndcg@20": 0.1580}),
        ("SimpleX", {"recall@20": 0.1872, "ndcg@20": 0.1557}),
    ],
    "tiktok": [
        ("VBPR", {"recall@20": 0.0380, "ndcg@20": 0.0134}),
        ("LightGCN", {"recall@20": 0.0653, "ndcg@20": 0.0282}),
        ("LATTICE", {"recall@20": 0.0843, "ndcg@20": 0.0367}),
        ("BM3", {"recall@20": 0.0957, "ndcg@20": 0.0404}),
        ("DiffMM (with text vectors besides)", {"recall@20": 0.1129, "ndcg@20": 0.0456}),
    ],
    "movielens-1m": [("popularity", {"recall@20": 0.114, "ndcg@20": 0.190}), ("EASE", {"recall@20": 0.275, "ndcg@20": 0.411})],
}  # fmt: skip


def given(name: str, *, items: bool = False, users: bool = False) -> Callable[[Path], Recipe]:
    """A data set whose files say what is train, valid and test."""

    def recipe(folder: Path) -> Recipe:
        home = DATA / name
        if not home.is_dir():
            sys.exit(f"skipped {name}: no {home}")
        files = {part: shuffled(home, part, folder) for part in ("train", "valid", "test") if _file(home, part)}
        more = {"items": str(home / "items.csv")} if items else {}
        if users and (home / "users.csv").exists():
            more["users"] = str(home / "users.csv")
        return recipe_of(**files, **more)

    return recipe


def _file(home: Path, part: str) -> Path | None:
    return next(iter(sorted(home.glob(f"{part}.csv*"))), None)


def shuffled(home: Path, part: str, folder: Path) -> str:
    """A copy of a file whose rows stand in a random order: there they stand by item id, which no model may profit from."""
    path = _file(home, part)
    if path is None:
        sys.exit(f"skipped {home.name}: no {part}")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as source:
        header, *rows = source.read().splitlines()
    order = np.random.default_rng(0).permutation(len(rows))
    copy = folder / f"{home.name}-{part}.csv"
    copy.write_text("\n".join([header, *(rows[row] for row in order)]) + "\n")
    return str(copy)


def last(name: str) -> Callable[[Path], Recipe]:
    return lambda folder: tables(name, "leave-last-out", folder)


def tiktok(folder: Path) -> Recipe:
    """Vectors ready made, a row an item: a table of the ids stands beside them."""
    home = DATA / "tiktok"
    if not home.is_dir():
        sys.exit(f"skipped tiktok: no {home}")
    count = len(np.load(home / "image_vectors.npy", mmap_mode="r"))
    (folder / "items.csv").write_text("item_id\n" + "".join(f"{row}\n" for row in range(count)))
    split = "\n".join(f'{part} = "{shuffled(home, part, folder)}"' for part in ("train", "valid", "test"))
    vectors = f'image = "{home}/image_vectors.npy", audio = "{home}/audio_vectors.npy"'
    text = f'[items]\nfiles = "items.csv"\nvectors = {{ {vectors} }}\n[split]\n{split}\n'
    return read_recipe_text(text, folder=folder, where="tiktok")


# The sequence model takes minutes, so it is asked where files tell the order.
# Files that say nothing of order (`shuffled`): what learns from it is not asked.
UNORDERED = {"use": tuple(name for name in RECOMMENDERS["auto"]().use if name != "directed")}

TABLES: Mapping[str, Callable[[Path, Sequence[int], bool], dict[str, Any]]] = {
    "amazon-beauty": measured("amazon-beauty", last("amazon-beauty"), peers=ORDERED, ours="thorough"),
    "amazon-sports": measured("amazon-sports", last("amazon-sports"), peers=ORDERED, content=False, ours="thorough"),
    "amazon-office": measured("amazon-office", last("amazon-office"), peers=ORDERED, ours="thorough"),
    "movielens-last": measured("movielens-last", last("movielens-100k"), peers=DEEP, ours="thorough"),
    "hm-purchases": measured("hm-purchases", last("hm-purchases"), peers=ORDERED),
    "baby-graph": measured(
        "baby-graph", given("amazon-baby-graph"), peers=FULL, content=False, apart=True, settings=UNORDERED
    ),
    "sports-graph": measured(
        "sports-graph", given("amazon-sports-graph"), peers=LARGE, content=False, apart=True, settings=UNORDERED
    ),
    "gowalla": measured("gowalla", given("gowalla"), peers=LARGE, content=False, settings={"use": ("graph", "ials")}),
    "tiktok": measured("tiktok", tiktok, peers=FULL, apart=True, settings={"use": (*UNORDERED["use"], "lightgcn")}),
    "movielens-1m": measured(
        "movielens-1m", given("movielens-1m", items=True, users=True), peers=FULL, settings=UNORDERED
    ),
    "lastfm": measured("lastfm", given("lastfm", items=True), peers=FULL, settings=UNORDERED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    if not asked.names:
        parser.print_help()
    for name in asked.names:
        if name not in TABLES:
            sys.exit(f"no table {name!r}; there are {', '.join(TABLES)}")
        print(name, flush=True)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            done = TABLES[name](Path(folder), range(asked.seeds), not asked.no_peers)
        done["table"] = {"seconds": round(time.perf_counter() - began, 1), "seeds": asked.seeds}
        (asked.out / f"table-{name}.json").write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
