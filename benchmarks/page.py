"""docs/benchmarks.md, and a picture a table, from benchmarks/results: our figures, those of libraries run beside them, and the published rows.

Run: python benchmarks/page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sensorium.evaluate import plots
from sensorium.evaluate.plots import Bar

HERE = Path(__file__).parent
HEAD = """# Benchmarks

Made by `python benchmarks/page.py` from `benchmarks/results/`; no figure here was typed. Full ranking over the whole catalogue, training items
removed, mean over people; brackets are 95 % bootstrap intervals over people (first seed). Settings are chosen on validation, test is asked once
a seed. *Run here* rows were run in the same script on the same split, each library in an environment of its own, its settings chosen on validation
from a short list (`benchmarks/peer_models.py`). *Published* rows are what others report on exactly these splits; they were not run here. *A quick look* is
what whoever prepared these data got from a closed form within minutes, partly with a look at test: an indication, not a result.

Files that say nothing of order leave `directed` out of `auto`'s line-up; that of Gowalla is `graph` and `ials` alone, and tiktok's has `lightgcn` besides (`TABLES`
in `benchmarks/tables.py`).

In the Amazon sequences purchases of one day stand in the order of their product ids: an order-aware model gains 12 to 24 % by that, published rows
included, and the order of the last two purchases is not to be trusted.
"""
QUICK = {  # rows beside ours that nobody has published
    "linear pair", "item k-NN, tuned", "EASE, weighted by degree",
    ("sports-graph", "EASE"), ("movielens-1m", "EASE"), ("movielens-1m", "popularity"),
}  # fmt: skip
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
TITLES = {
    "amazon-beauty": "Beauty products, last purchase", "amazon-sports": "Sports products, last purchase (ids alone)",
    "amazon-office": "Office products, last purchase", "movielens-last": "MovieLens-100k, last rating by time",
    "hm-purchases": "Photographed garments, last purchase", "baby-graph": "Baby products (ids alone)",
    "sports-graph": "Sports products (ids alone)", "gowalla": "Gowalla check-ins (ids alone)",
    "tiktok": "Short videos: picture and sound vectors", "movielens-1m": "MovieLens-1M", "lastfm": "Artists (Last.fm)",
}  # fmt: skip


def table(name: str, done: Mapping[str, Any]) -> Iterator[str]:
    metrics = [m for m in METRICS if _wanted(m, done)]
    yield f"## {TITLES[name]}\n"
    facts = done["protocol"]
    yield (
        f"{facts['asked']:,} people asked, {facts['candidates']:,} candidates, {facts['train_events']:,} events to learn from; "
        f"`python benchmarks/tables.py {name} --seeds {done['table']['seeds']}{'' if done['peers'] else ' --no-peers'}`.\n"
    )
    yield "| | " + " | ".join(metrics) + " | seconds to fit |"
    yield "|---|" + "---|" * (len(metrics) + 1)
    tried = {"auto", "auto, ids alone"}
    for row in done["results"]:
        model, peer = row["model"], row["model"] in done["peers"]
        if peer and "failed" in done["peers"][model]:
            yield f"| {model}: not run ({done['peers'][model]['failed']}) |" + " |" * (len(metrics) + 1)
            continue
        cells = []
        for metric in metrics:
            span = row["intervals"][metric]
            cells.append(f"{mean(by_seed(done, row)[metric]):.4f} ({span[0]:.4f}–{span[1]:.4f})")
        if peer:
            note = done["peers"][model]
            label, seconds = f"{model} {note['version']}, run here", note["fit_seconds"]
        else:
            label = model.replace("auto", done.get("ours", "auto"))
            label = f"**Sensorium, {label}**" if model in tried else f"Sensorium, {label}"
            seconds = row["fit_seconds"]
        if done["table"]["seeds"] > len(by_seed(done, row)[metrics[0]]):
            label += ", one seed"
        yield f"| {label} | " + " | ".join(cells) + f" | {seconds:.0f} |"
    for label, values in done["published"]:
        cells = [f"{values[m]:.4f}" if m in values else "" for m in metrics]
        quick = label.endswith("a quick look") or QUICK & {label, (name, label)}
        yield (
            f"| {label.removesuffix(', a quick look')}, {'a quick look' if quick else 'published'} | "
            + " | ".join(cells)
            + " | |"
        )
    first = done["results"][0]
    yield f"\n![{metrics[-1]}, drawn](benchmarks/{name}.svg)\n"
    yield f"`{done.get('ours', 'auto')}` kept: {first.get('chose', first['model'])}. Tuning and every fit it tried are in its seconds.\n"
    yield from bars(done, by_seed(done, first))
    if "again" in done:  # the chosen settings fitted by other seeds (seeds.py)
        again = done["again"]
        fits = again["metrics"]
        told = ", ".join(f"{m} {mean(fits[m]):.4f} ± {stdev(fits[m]):.4f}" for m in metrics)
        yield f"The chosen settings fitted by {len(again['seeds'])} seeds (`python benchmarks/seeds.py {name}`): {told}.\n"
        yield from bars(again, fits)


def by_seed(done: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    """A row's metrics as each seed gave them: means are taken of these and rounded once, where they are printed."""
    return done["seeds"].get(row["model"]) or {metric: [row["metrics"][metric]] for metric in METRICS}


STYLE = """svg{background:#fff}text{font:12.5px system-ui,sans-serif;fill:#1c2430}.a{fill:#5b6675;font-size:11.5px}
.grid{stroke:#dde3ea}.w{stroke:#1c2430;stroke-width:1.3;fill:none;opacity:.75}
:root{--c0:#2563eb;--c1:#e07b1a;--c2:#9aa5b1}"""


def drawn(name: str, done: Mapping[str, Any]) -> str:
    """The last of a table's metrics as bars: ours blue, libraries run here orange, published rows grey."""
    metric = [m for m in METRICS if _wanted(m, done)][-1]
    rows = []
    for row in done["results"]:
        model = row["model"]
        if "failed" not in done["peers"].get(model, {}):
            low, high = row["intervals"][metric][:2]
            label = model if model in done["peers"] else f"Sensorium, {model.replace('auto', done.get('ours', 'auto'))}"
            rows.append(Bar(label, mean(by_seed(done, row)[metric]), low, high, int(model in done["peers"])))
    rows += [Bar(label, values[metric], tone=2) for label, values in done["published"] if metric in values]
    rows.sort(key=lambda bar: -bar.value)
    picture = plots.bars(f"{TITLES[name]}: {metric}", rows, left=250)
    return picture.replace(">", f"><style>{STYLE}</style>", 1) + "\n"


def _wanted(metric: str, done: Mapping[str, Any]) -> bool:
    """Metrics that a bar or a published row speaks of; all where none does."""
    named = {m for _, values in done["published"] for m in values}
    named |= {m for m in METRICS for one in done["bars"] if one["bar"].startswith(m)}
    return metric in named or not named


def bars(done: Mapping[str, Any], fits: Mapping[str, Sequence[float]] | None = None) -> Iterator[str]:
    """What was aimed at; the mean over `fits` where a bar speaks of one."""
    for one in done.get("bars", ()):
        metric, _, how = one["bar"].partition(", ")
        value = mean(fits[metric]) if fits and how.startswith("mean of") else one["value"]
        yield f"- {'reached' if one['reached'] else '**missed**'}: {one['bar']} {value:.4f}, aimed at {one['needed']:.4f}"
    yield ""


def beside_lightfm(done: Mapping[str, Any]) -> Iterator[str]:
    """Quality by loss, with the half width of the paired interval over splits, and samples a second."""
    yield "## Beside LightFM\n"
    yield f"MovieLens-100k, LightFM {done['lightfm']}; `python benchmarks/lightfm_parity.py`.\n"
    yield "| loss | precision@10 | LightFM | lead | AUC | LightFM | lead |"
    yield "|---|---|---|---|---|---|---|"
    for row in done["quality"]:
        cells = []
        for metric in ("precision@10", "auc"):
            m = row[metric]
            cells += [f"{m['ours']:.4f}", f"{m['lightfm']:.4f}", f"{m['lead']:.4f} ± {m['half_interval']:.4f}"]
        yield f"| {row['loss']}, {row['optimizer']} | " + " | ".join(cells) + " |"
    yield ""
    for row in done["speed"]:
        reached = "reached" if row["times_lightfm"] >= 1 else "**missed**"
        told = f"{row['ours_per_second']:,} samples a second, {row['times_lightfm']:.2f} × LightFM's, aimed at 1 ×"
        yield f"- {reached}: {row['loss']}, {row['optimizer']}, {row['threads']} thread(s): {told}"
    yield ""


def rated(done: Mapping[str, Any]) -> Iterator[str]:
    """Ratings beside Surprise: the best engine, each algorithm, and how long two of them take."""
    yield "## Ratings beside Surprise\n"
    yield "MovieLens-100k, the five official folds; `python benchmarks/ratings.py`.\n"
    yield "| algorithm | RMSE | Surprise's own | seconds to fit | Surprise's |"
    yield "|---|---|---|---|---|"
    for name, one in done.get("best", {}).items():
        yield f"| **best engine**: {name} | {one['rmse']:.4f} | | {one['seconds']:.0f} | |"
    for name, one in done.get("same", {}).items():
        ours, theirs = one["sensorium"], one["surprise"]
        cells = (ours["rmse"], theirs["rmse"], ours["fit_seconds"], theirs["fit_seconds"])
        yield f"| {name} | {cells[0]:.4f} | {cells[1]:.4f} | {cells[2]:.2f} | {cells[3]:.2f} |"
    yield ""
    for name, one in done.get("speed", {}).items():
        yield f"- {name}: {one['times_faster']:.1f} × as fast as Surprise in one run, aimed at {one['bar']} ×"
    yield ""


def main() -> None:
    lines, pictures = [HEAD], HERE.parent / "docs" / "benchmarks"
    pictures.mkdir(exist_ok=True)
    for name in TITLES:
        path = HERE / "results" / f"table-{name}.json"
        if path.exists():
            done = json.loads(path.read_text())
            lines += table(name, done)
            (pictures / f"{name}.svg").write_text(drawn(name, done))
    lines += ["# Other questions\n"]
    others = {
        "retailrocket": "Views, carts and buys (retailrocket)",
        "hm-cold": "Cold garments", "cold_items": "Cold items", "speed": "Speed",
    }  # fmt: skip
    for name, title in others.items():
        path = HERE / "results" / f"{name}.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        parts = done if name == "cold_items" else {"": done}  # cold items: a part a data set
        found = [line for part in parts.values() for line in bars(part) if line]
        if found:
            lines += [
                f"## {title}\n",
                f"`python benchmarks/{'core.py ' + name if name == 'hm-cold' else name + '.py'}`, all figures in `benchmarks/results/{name}.json`.\n",
            ]
            lines += [*found, ""]
    lightfm = HERE / "results" / "lightfm_parity.json"
    if lightfm.exists():
        lines += beside_lightfm(json.loads(lightfm.read_text()))
    ratings = HERE / "results" / "ratings.json"
    if ratings.exists():
        lines += rated(json.loads(ratings.read_text()))
    (HERE.parent / "docs" / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
