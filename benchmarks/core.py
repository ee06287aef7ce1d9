"""The main job on real data: every bar of quality, one result file a question.

Run: python benchmarks/core.py NAME [NAME …]     (without a name: the list)
The data folder is $SENSORIUM_DATA, or ../shared/data beside the repository. Settings are chosen on validation inside the
engine; test is asked once. Peers run here, on the same split, in the same process.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.build import gather, people_space
from sensorium.data.content import Attributes
from sensorium.data.events import Events, Fold, Histories
from sensorium.evaluate.offline import evaluate
from sensorium.evaluate.run import parted
from sensorium.models.model import Features
from sensorium.recipe import RECOMMENDERS, Recipe, read_recipe_text, recipe_of

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SENSORIUM_DATA", HERE.parent.parent / "shared" / "data"))
SEEDS = (0, 1, 2)
IDS = ("popularity", "itemknn", "ease", "directed", "ials")


@dataclass(frozen=True)
class ImplicitAls:
    """`implicit`'s own ALS, called as its documentation does: the peer."""

    factors: int = 64
    regularization: float = 0.05
    alpha: float = 2.0
    iterations: int = 15

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> ImplicitAlsModel:
        from implicit.als import AlternatingLeastSquares
        from scipy import sparse
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=self.factors, regularization=self.regularization, alpha=self.alpha,
                iterations=self.iterations, random_state=0,
            )  # fmt: skip
            model.fit(sparse.csr_matrix(events.matrix()), show_progress=False)
        return ImplicitAlsModel(model, events.items)


@dataclass(frozen=True)
class ImplicitAlsModel:
    model: Any
    items: int

    def score(self, histories: Histories, candidates: np.ndarray | None = None) -> np.ndarray:
        from scipy import sparse

        seen = sparse.csr_matrix(histories.matrix(self.items))
        people = np.stack([self.model.recalculate_user(0, seen[row]) for row in range(len(histories))])
        scores = (people @ self.model.item_factors.T).astype(np.float32)
        return scores if candidates is None else scores[:, candidates]


@dataclass(frozen=True)
class IdsAlone:
    """A recommender that is shown no content and no profiles: the opponent of everything that has media."""

    inner: Any

    def tuned(self, fold: Fold, features: Features, *, rng: np.random.Generator) -> IdsAlone:
        return IdsAlone(self.inner.tuned(fold, features.without_content(), rng=rng))

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Any:
        return self.inner.fit(events, features.without_content(), rng=rng)


@dataclass(frozen=True)
class GenrePopularity:
    """The simplest answer to a cold item: the mean popularity of its genres (or whatever category it states)."""

    genres: tuple[tuple[str, ...], ...]

    def fit(self, events: Events, features: Features, *, rng: np.random.Generator) -> Constant:
        counts = np.bincount(events.item, minlength=events.items)
        by_genre: dict[str, list[int]] = {}
        for row, genres in enumerate(self.genres):
            for genre in genres if counts[row] else ():
                by_genre.setdefault(genre, []).append(int(counts[row]))
        mean = {genre: float(np.mean(values)) for genre, values in by_genre.items()}
        score = [float(np.mean([mean.get(g, 0.0) for g in genres])) if genres else 0.0 for genres in self.genres]
        return Constant(np.asarray(score, np.float32))


@dataclass(frozen=True)
class Constant:
    scores: np.ndarray

    def score(self, histories: Histories, candidates: np.ndarray | None = None) -> np.ndarray:
        scores = np.broadcast_to(self.scores, (len(histories), len(self.scores)))
        return scores if candidates is None else scores[:, candidates]


def tables(name: str, by: str, folder: Path, *, events: Path | None = None) -> Recipe:
    """The recipe of a data set in the data folder, read as anyone would name its tables on the command line."""
    home = DATA / name
    if not home.is_dir():
        sys.exit(f"skipped {name}: no {home}")
    events = events or next((home / f for f in ("events.csv", "ratings.csv") if (home / f).exists()), None)
    if events is None:
        events = folder / f"{name}.csv"
        with (home / "sequences.txt").open() as source, events.open("w") as out:
            out.write("user_id,item_id\n")
            for line in source:
                user, *items = line.split()
                out.writelines(f"{user},{item}\n" for item in items)
    items = home / "items.csv"
    users = home / "users.csv"
    return recipe_of(
        items=str(items) if items.exists() else (), events=str(events),
        users=str(users) if users.exists() else (), split=by,
    )  # fmt: skip


def run(
    recipe: Recipe, models: Mapping[str, Any], *, cache: Path | None = None, knockout: bool = False, seed: int = 0,
    apart: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One evaluation in this process: its JSON, with the whole time and the peak memory so far.

    `apart` keeps validation out of the last fit, as those who published on a file of its own did.
    """
    began = time.perf_counter()
    if cache is None:
        cache = Path(os.environ.get("SENSORIUM_CACHE", Path.home() / ".cache" / "sensorium"))
    recipe = replace(recipe, seed=seed)
    material = gather(recipe, cache)
    gathered = time.perf_counter() - began
    _, people = people_space(material.people_views, seed)
    made = {name: model(material) if callable(model) else model for name, model in models.items()}
    parts = parted(material, recipe)
    if apart:
        inner = parts.validation.train
        parts = replace(parts, train=inner, test=replace(parts.test, train=inner))
    done = evaluate(
        made, parts, material.views, people, fusion=recipe.fusion,
        catalog=material.dataset.catalog, seed=seed, knockout=knockout, candidates=False, reviews=material.reviews,
    ).json()  # fmt: skip
    if apart:
        done["protocol"]["final_fit_on"] = "train"
    done["encoded"] = dict(material.computed)
    done["seconds"] = {"read_and_encode": round(gathered, 1), "whole": round(time.perf_counter() - began, 1)}
    done["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return done


def named(*names: str) -> dict[str, Any]:
    return {name: RECOMMENDERS.make(name) for name in names}


def score(done: Mapping[str, Any], metric: str, place: int = 0) -> float:
    return float(done["results"][place]["metrics"][metric])


def best_of(done: Mapping[str, Any], metric: str, *, skip: int = 0) -> tuple[str, float]:
    return max(((r["model"], r["metrics"][metric]) for r in done["results"][skip:]), key=lambda pair: pair[1])


def bar(text: str, value: float, least: float) -> dict[str, Any]:
    line = {"bar": text, "value": round(value, 4), "needed": round(least, 4), "reached": bool(value >= least)}
    print(f"  {'reached' if line['reached'] else 'MISSED '}  {text}: {value:.4f} (needed {least:.4f})", flush=True)
    return line


def genres_of(material: Any) -> GenrePopularity:
    catalog = material.dataset.catalog
    column = catalog.content.get("attributes", [None] * len(catalog))
    name = next(
        (
            n
            for n in ("genres", "product_type", "category")
            for c in column
            if isinstance(c, Attributes) and n in c.values
        ),
        "",
    )
    out = []
    for entry in column:
        value = entry.values.get(name, ()) if isinstance(entry, Attributes) else ()
        out.append(value if isinstance(value, tuple) else (str(value),))
    return GenrePopularity(tuple(out))


def paired_lead(done: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """The lead of the first model over each other, as the evaluation paired them."""
    return {r["model"]: r["paired"].get(metric) for r in done["results"][1:] if r.get("paired")}


def movielens(folder: Path) -> dict[str, Any]:
    began = time.perf_counter()
    recipe = tables("movielens-100k", "time", folder)
    alone = run(recipe, named("auto"), cache=folder / "cold")
    seconds, memory = time.perf_counter() - began, alone["peak_rss_mib"]
    done = run(recipe, {**named("auto", "popularity", "itemknn"), "implicit": ImplicitAls()}, cache=folder / "cold")
    lead = paired_lead(done, "ndcg@10")
    rest = max(score(done, "ndcg@10", place) for place in range(1, 4))
    return {
        **done, "cold_cache": {"seconds": round(seconds, 1), "peak_rss_mib": memory}, "lead_ndcg@10": lead,
        "bars": [
            bar("NDCG@10 above popularity, item k-NN and implicit's ALS", score(done, "ndcg@10"), rest),
            bar("180 − seconds with a cold cache", 180 - seconds, 0),
            bar("2,048 − MiB at the peak", 2048 - memory, 0),
        ],
    }  # fmt: skip


def cold(name: str, models: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Three tenths of the items made cold, one after the other: which tenth is chance. Mean over the three, models in order."""
    runs = [run(tables(name, "items", folder), models, seed=seed) for seed in SEEDS]
    means = [
        {
            "model": runs[0]["results"][place]["model"] if place else "auto",
            **{m: round(float(np.mean([score(one, m, place) for one in runs])), 6) for m in ("recall@20", "ndcg@10")},
            "recall@20 by seed": [score(one, "recall@20", place) for one in runs],
        }
        for place in range(len(models))
    ]
    return {**runs[0], "mean over seeds": means, "seeds": {str(seed): one["results"] for seed, one in zip(SEEDS, runs)}}


def movielens_cold(folder: Path) -> dict[str, Any]:
    done = cold("movielens-100k", {**named("auto", "content"), "popularity of genre": genres_of}, folder)
    auto, content, genre = (row["recall@20"] for row in done["mean over seeds"])
    return {**done, "bars": [
        bar("cold recall@20 against content nearness, mean of three tenths", auto, 1.15 * content),
        bar("cold recall@20 against popularity of genre, mean of three tenths", auto, 3 * genre),
    ]}  # fmt: skip


def against_ids(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """The shipped default with content, beside every model by ids alone: one run, one split, paired person by person."""
    models = named("auto") | {f"{peer}, ids alone": IdsAlone(RECOMMENDERS.make(peer)) for peer in ("auto", *IDS)}
    return run(tables(name, "leave-last-out", folder, **more), models)


def hm(folder: Path) -> dict[str, Any]:
    done = against_ids("hm-purchases", folder)
    bars = [bar("Recall@20", score(done, "recall@20"), 0.055), bar("NDCG@10", score(done, "ndcg@10"), 0.031)]
    for metric in ("recall@20", "ndcg@10"):
        name, value = best_of(done, metric, skip=1)
        bars.append(bar(f"{metric} against 3 × the best on test of {name}", score(done, metric), 3 * value))
    return {**done, "bars": bars}


def hm_cold(folder: Path) -> dict[str, Any]:
    done = cold("hm-purchases", named("auto", "content"), folder)
    value = done["mean over seeds"][0]["recall@20"]
    return {**done, "bars": [bar("Recall@20 among the cold garments, mean of three tenths", value, 0.21)]}


FRESH = (0, 5, 6, 7, 8)  # stretches of five events, 0 the last; 1 to 4 were looked at while the models were made


def thin(folder: Path) -> dict[str, Any]:
    """The bar is on each person's last five events; the same question asked of four older stretches says how far chance goes."""
    done = media_against_ids(against_ids("movielens-100k", folder, events=thinned(folder, FRESH[0])))
    leads = [done]
    for stretch in FRESH[1:]:
        leads.append(against_ids("movielens-100k", folder, events=thinned(folder, stretch)))
        print(
            f"  stretch {stretch}: {score(leads[-1], 'ndcg@10'):.4f}, ids alone {best_of(leads[-1], 'ndcg@10', skip=1)}",
            flush=True,
        )
    rows = [next(r["paired"]["ndcg@10"] for r in one["results"] if r["model"] == "auto, ids alone") for one in leads]
    people = np.array([row["people"] for row in rows])
    error = np.array([(row["high"] - row["low"]) / 3.92 for row in rows])
    mean = float((people * [row["difference"] for row in rows]).sum() / people.sum())
    half = float(1.96 * np.sqrt(((people * error) ** 2).sum()) / people.sum())
    done["stretches"] = {
        "of": list(FRESH),
        "lead over auto, ids alone": rows,
        "pooled": mean,
        "low": mean - half,
        "high": mean + half,
    }
    done["bars"].append(bar("the lower end of the lead over auto by ids alone, five stretches pooled", mean - half, 0))
    return done


def thinned(folder: Path, stretch: int) -> Path:
    """A table with five events of each person who has as many: the last, or those that stand `stretch` × 5 before."""
    path = folder / f"thin{stretch}.csv"
    by_user: dict[str, list[tuple[int, list[str]]]] = {}
    with (DATA / "movielens-100k" / "ratings.csv").open() as source:
        header, *rows = csv.reader(source)
    for row in rows:
        by_user.setdefault(row[0], []).append((int(row[3]), row))
    with path.open("w") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        for events in by_user.values():
            end = len(events) - 5 * stretch
            writer.writerows(row for _, row in sorted(events, key=lambda pair: pair[0])[max(end - 5, 0) : max(end, 0)])
    return path


def office(folder: Path) -> dict[str, Any]:
    return media_against_ids(against_ids("amazon-office", folder))


def media_against_ids(done: dict[str, Any]) -> dict[str, Any]:
    """The opponent is the best on test, which is strict against us; the lead is paired over people."""
    name, value = best_of(done, "ndcg@10", skip=1)
    lead = next(r["paired"]["ndcg@10"] for r in done["results"] if r["model"] == name)
    return {**done, "bars": [
        bar(f"NDCG@10 with media against {name}", score(done, "ndcg@10"), value),
        bar("the lower end of the paired lead", lead["low"], 0),
    ]}  # fmt: skip


def beauty(folder: Path) -> dict[str, Any]:
    done = run(tables("amazon-beauty", "leave-last-out", folder), named("auto"))
    note = "purchases of one day stand in the order of their product ids: an order-aware model gains 12–24 % by that"
    return {**done, "note": note, "bars": [
        bar("Recall@10", score(done, "recall@10"), 0.095), bar("NDCG@10", score(done, "ndcg@10"), 0.058),
    ]}  # fmt: skip


def knockout(name: str, by: str) -> Callable[[Path], dict[str, Any]]:
    def measured(folder: Path) -> dict[str, Any]:
        done = run(tables(name, by, folder), named("auto"), knockout=True)
        table = done["knockout"]
        for modality in table["modalities"]:
            without, alone = table["without"].get(modality), table["alone"].get(modality)
            print(f"  {modality}: without {without and without['ndcg@10']}, alone {alone and alone['ndcg@10']}")
        return done

    return measured


CONTENT_1M = {
    "generated text, posters, genres": 'text = ["title", "generated_text"]\nimage = "poster"\nattributes = { genres = "list" }',
    "plots, posters, genres": 'text = ["title", "overview"]\nimage = "poster"\nattributes = { genres = "list" }',
    "titles and genres": 'text = ["title"]\nattributes = { genres = "list" }',
}


def knockout_1m(folder: Path) -> dict[str, Any]:
    """MovieLens-1M by what is known of its films; within each, every modality taken away, and alone."""
    from tables import UNORDERED, shuffled

    home = DATA / "movielens-1m"
    if not home.is_dir():
        sys.exit(f"skipped: no {home}")
    split = "\n".join(f'{part} = "{shuffled(home, part, folder)}"' for part in ("train", "test"))
    out: dict[str, Any] = {}
    for name, columns in CONTENT_1M.items():
        text = f'[items]\nfiles = "{home}/items.csv"\n{columns}\n[split]\n{split}\n'
        recipe = read_recipe_text(text, folder=folder, where=name)
        done = run(recipe, {"auto": RECOMMENDERS.make("auto", UNORDERED)}, knockout=True)
        metrics = {m: done["results"][0]["metrics"][m] for m in ("recall@20", "ndcg@20", "ndcg@10")}
        out[name] = {"chose": done["results"][0]["model"], "metrics": metrics, "knockout": done["knockout"]}
        print(f"  {name}: {metrics}, nothing known {done['knockout']['none']}", flush=True)
        for modality in done["knockout"]["modalities"]:
            print(f"    without {modality}: {done['knockout']['without'].get(modality)}", flush=True)
    return out


NAMES: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "movielens": movielens, "movielens-cold": movielens_cold,
    "hm-purchases": hm, "hm-cold": hm_cold,
    "movielens-thin": thin, "amazon-office": office, "amazon-beauty": beauty,
    "knockout-movielens": knockout("movielens-100k", "time"),
    "knockout-movielens-1m": knockout_1m,
    "knockout-hm": knockout("hm-purchases", "leave-last-out"),
}  # fmt: skip


def main() -> None:
    if not sys.argv[1:]:
        print(__doc__, "\nNames:", ", ".join(NAMES))
        return
    if not DATA.is_dir():
        sys.exit(f"skipped: no data in {DATA}; set SENSORIUM_DATA")
    for name in sys.argv[1:]:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            done = NAMES[name](Path(folder))
        done["threads"] = os.cpu_count()
        path = HERE / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(done, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
