"""The report: one self-contained page with figures, plots, and actual recommendations with their pictures and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from sensorium.build import Material
from sensorium.data.catalog import Catalog
from sensorium.evaluate.evaluation import Evaluation
from sensorium.evaluate.gallery import modalities, rejected
from sensorium.evaluate.page import cards, figure, page, table
from sensorium.evaluate.plots import Bar, bars, columns, lines, number
from sensorium.evaluate.thumbnails import Thumbnails
from sensorium.rank.explain import reasons_of, taken_apart
from sensorium.rank.query import Reason
from sensorium.train.ranking import asked

PEOPLE = 8  # whose recommendations are shown
PLACES = 6  # recommendations of each
PAST = 8  # items of each history
BEYOND = ("coverage@10", "novelty@10", "diversity@10", "popularity@10", "calibration@10", "gini@10")
KS = (5, 10, 20, 50)


def report(evaluation: Evaluation, material: Material) -> str:
    """One self-contained page. The same evaluation gives the same page but for times."""
    figures = evaluation.json()
    protocol = figures["protocol"]
    return page(
        "Evaluation",
        f"{protocol.get('split', '')}: {protocol.get('events', 0):,} events of {protocol.get('users', 0):,} people on "
        f"{protocol.get('items', 0):,} items; every ranking is over {_ranked(protocol)}",
        [
            ("models", "Models", _models(figures)),
            ("k", "By length of the list", _by_k(figures)),
            ("knockout", "What each modality is worth", _knockout(figures["knockout"])),
            ("slices", "Slices", _slices(figures)),
            ("popularity", "Popularity", _popularity(evaluation)),
            ("people", "Actual recommendations", _people(evaluation)),
            ("data", "Data", _data(material)),
            ("protocol", "Protocol", _protocol(protocol)),
        ],
        head=_headline(figures),
    )


def _ranked(protocol: Mapping[str, Any]) -> str:
    """What a target is ranked among: a split by item asks only among the items that training never saw."""
    candidates, items = protocol.get("candidates", 0), protocol.get("items", 0)
    return "the whole catalogue" if candidates == items else f"{candidates:,} candidates of the catalogue"


def _span(bounds: Any) -> str:
    low, high = bounds or (None, None)
    return "" if low is None else f"<small>{number(low)} – {number(high)}</small>"


def _headline(figures: Mapping[str, Any]) -> str:
    first = figures["results"][0]
    metrics = first["metrics"]
    return cards(
        [(first["model"], "model"), *((number(metrics.get(m)), m) for m in ("ndcg@10", "recall@10", "recall@20"))]
    )


def _models(figures: Mapping[str, Any]) -> str:
    results = figures["results"]
    drawn = []
    for result in results:
        low, high = result["intervals"].get("ndcg@10", (None, None))
        drawn.append(Bar(result["model"], result["metrics"].get("ndcg@10") or 0.0, low, high))
    plot = figure("NDCG@10", bars("NDCG@10 of each model", drawn, left=130), "with 95 % intervals over people")
    return (
        f'<div class="two">{plot}{_trials(results[0])}</div>'
        + _metrics("Accuracy", ("ndcg@10", "recall@10", "recall@20", "mrr@10", "map@10", "hit@10"), results, timed=True)
        + _metrics("Beyond accuracy", BEYOND, results)
        + _paired(results)
    )


def _metrics(caption: str, names: tuple[str, ...], results: Any, *, timed: bool = False) -> str:
    """One row a model, each number over its interval; a metric that no model has is left out."""
    names = tuple(name for name in names if any(name in result["metrics"] for result in results))
    rows = [
        [
            escape(result["model"]),
            *(number(result["metrics"].get(name)) + _span(result["intervals"].get(name)) for name in names),
            *([f"{result['fit_seconds']:.1f}"] if timed else []),
        ]
        for result in results
    ]
    return table(
        f"{caption}, with 95 % intervals over people", ("model", *names, *(["fit s"] if timed else [])), rows, chosen=0
    )


def _paired(results: Any) -> str:
    """The first model against each other one, over the same people."""
    rows = []
    for result in results[1:]:
        gap = result.get("paired", {}).get("ndcg@10")
        if gap and gap["difference"] is not None:
            cells = [number(gap["difference"]), f"{number(gap['low'])} to {number(gap['high'])}", number(gap["p"])]
            rows.append([f"against {escape(result['model'])}", *cells])
    head = (results[0]["model"], "NDCG@10 better by", "95 % interval", "p, by chance")
    return table("The first model against the others, over the same people", head, rows)


def _trials(first: Mapping[str, Any]) -> str:
    trials = first.get("trials", ())
    rows = [
        [escape(str(t.get("name", ""))), number(t.get("ndcg")), number(t.get("recall")), number(t.get("seconds"))]
        for t in trials
    ]
    rows += [
        [f"{escape(name)}<small>left out: {escape(reason)}</small>", "–", "–", "–"]
        for name, reason in first.get("left_out", {}).items()
    ]
    chosen = next((at for at, t in enumerate(trials) if t.get("name") == first["model"]), -1)
    head = ("tried on validation", "ndcg@10", "recall@10", "seconds")
    return table("What validation said; the marked one was kept", head, rows, chosen=chosen)


def _by_k(figures: Mapping[str, Any]) -> str:
    out = ""
    for metric in ("recall", "ndcg"):
        series = {}
        for result in figures["results"]:
            points = []
            for k in KS:
                low, high = result["intervals"].get(f"{metric}@{k}", (None, None))
                points.append((result["metrics"].get(f"{metric}@{k}") or 0.0, low, high))
            series[result["model"]] = points
        drawing = lines(f"{metric} by K", [str(k) for k in KS], series)
        out += figure(f"{metric}@K", drawing, "the band is the first model's 95 % interval")
    return f'<div class="two">{out}</div>' if out else ""


def _knockout(knockout: Mapping[str, Any]) -> str:
    if not knockout:
        return ""
    metric, every, none = "ndcg@10", knockout["all"], knockout["none"]

    def cell(row: Mapping[str, Any] | None) -> str:
        return number(row.get(metric)) + _span(row.get("intervals", {}).get(metric)) if row else "–"

    rows, lost, kept = [["all together", cell(every), cell(every), ""]], [], []
    for modality in knockout["modalities"]:
        without, alone = knockout["without"].get(modality), knockout["alone"].get(modality)
        loss = (without or {}).get("loss", {}).get(metric, {})
        told = (
            f"{number(loss['difference'])}<small>{number(loss['low'])} to {number(loss['high'])}</small>"
            if loss
            else ""
        )
        rows.append([escape(modality), cell(without), cell(alone), told])
        if loss:
            lost.append(Bar(modality, loss["difference"] or 0.0, loss["low"], loss["high"]))
        if alone:
            kept.append(_alone(modality, alone, metric))
    rows.append(["none (ids alone)", cell(none), cell(none), ""])
    kept += [_alone("none", none, metric, 4), _alone("all", every, metric, 1)]
    plots = figure(
        "What NDCG@10 loses without it", bars("Loss of NDCG@10 without each modality", lost, left=130),
        "above zero it helps; an interval over zero says that nothing was shown",
    ) + figure("NDCG@10 with it alone", bars("NDCG@10 with each modality alone", kept, left=130), "with 95 % intervals")  # fmt: skip
    head = ("modality", "ndcg@10 without", "ndcg@10 alone", "loss")
    return f'<div class="two">{plots}</div>' + table(
        "Knock-out, everything learnt anew each time", head, rows, chosen=0
    )


def _alone(name: str, row: Mapping[str, Any], metric: str, tone: int = 0) -> Bar:
    low, high = row.get("intervals", {}).get(metric, (None, None))
    return Bar(name, row.get(metric) or 0.0, low, high, tone)


def _slices(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, part in figures["slices"].items():
        told = [number(part["metrics"].get(m)) + _span(part["intervals"].get(m)) for m in ("recall@10", "ndcg@10")]
        what = f"{escape(name.replace('_', ' '))}<small>{escape(part.get('what', ''))}</small>"
        rows.append([what, f"{part['people']:,}", f"{part['targets']:,}", *told])
    return table(
        "The first model on a part of the targets", ("slice", "people", "targets", "recall@10", "ndcg@10"), rows
    )


def _popularity(evaluation: Evaluation) -> str:
    """How often popular and rare items are shown, against how many people had them."""
    first = evaluation.first
    if first is None or not len(first.answers.lists):
        return ""
    counts = np.asarray(first.background.counts, np.float64)
    order = np.argsort(-counts, kind="stable")
    tenth = np.empty(len(counts), np.int64)
    tenth[order] = np.arange(len(counts)) * 10 // max(len(counts), 1)
    shown = first.answers.lists[:, :10]
    shown = shown[shown >= 0]
    places = [f"{10 * place + 10} %" for place in range(10)]
    used = np.bincount(tenth, counts, minlength=10) / max(counts.sum(), 1)
    given = np.bincount(tenth[shown], minlength=10) / max(len(shown), 1)
    series = {
        "of what people had in training": [float(v) for v in used],
        "of the first ten recommended": [float(v) for v in given],
    }
    drawing = columns("Shares by popularity", places, series, axis_title="the catalogue, most popular first")
    note = "tenths of the catalogue, the most popular on the left; equal columns favour nothing"
    return figure("Who gets shown", drawing, note)


def _people(evaluation: Evaluation) -> str:
    """Some people, their newest events on the left, their recommendations with reasons on the right."""
    first, catalog = evaluation.first, evaluation.catalog
    if first is None or catalog is None:
        return ""
    thumbnails = Thumbnails(catalog)
    out: list[str] = []
    for batch in asked(first.split.test, first.people, batch=PEOPLE, most=PEOPLE, seed=0):
        for place, user in enumerate(batch.users):
            answered = int(np.searchsorted(first.answers.users, user))
            shown = first.answers.lists[answered][:PLACES]
            out.append(_person(first.model, first.features, catalog, thumbnails, batch, place, shown[shown >= 0]))
    return "".join(out)


def _person(
    model: Any, features: Any, catalog: Catalog, thumbnails: Thumbnails, batch: Any, place: int, rows: Any
) -> str:
    history = batch.histories.take([place])
    wanted = set(batch.targets[1][batch.targets[0] == place].tolist())
    kinds: dict[int, dict[str, None]] = {}  # distinct items, newest first, and what was done with each
    for row, kind in zip(history.item[::-1].tolist(), history.kind[::-1].tolist(), strict=True):
        kinds.setdefault(row, {})[history.kinds[kind]] = None
    past = "".join(
        f"<li>{thumbnails.html(row)}<span>{escape(catalog.title(row))}</span>"
        f'<span class="why"> {escape(", ".join(done))}</span></li>'
        for row, done in list(kinds.items())[:PAST]
    )
    if not len(rows):
        return ""
    scores = model.score(history)[0][rows]
    parts, _ = taken_apart(model, history, rows, scores, features)
    best = []
    for at, row in enumerate(rows.tolist()):
        reasons, _base = reasons_of(parts, at, float(scores[at]), history, catalog)
        told = [r for r in reasons if r.item is not None and r.amount > 0][:2]
        words = "; ".join(_why(r) for r in told) or "carried by no event of the history"
        hit = '<span class="hit">held out, found</span>' if row in wanted else "<span></span>"
        best.append(
            f"<li>{thumbnails.html(row)}<div>{escape(catalog.title(row))}"
            f'<div class="why">{escape(words)}</div></div>{hit}</li>'
        )
    found = len(wanted & set(rows.tolist()))
    return (
        f'<article class="person"><h3>A person with {len(history.item):,} events on {len(kinds):,} items '
        f"<small>{len(wanted):,} held out, {found} of them among these {len(rows)}</small></h3>"
        f'<div><p class="label">history, newest first</p><ul class="strip past">{past}</ul></div>'
        f'<div><p class="label">recommended</p><ul class="strip next">{"".join(best)}</ul></div></article>'
    )


def _why(reason: Reason) -> str:
    """A reason in words: what the crowd joins, or in which modality two items are alike."""
    return f"chosen along with {reason.title}" if reason.source == "crowd" else f"{reason.source} like {reason.title}"


def _data(material: Material) -> str:
    problems = [[escape(p.item), escape(p.modality), escape(p.reason)] for p in material.problems[:50]]
    return (
        modalities(material.dataset.catalog)
        + rejected(material.dataset.report)
        + table("Contents that could not be encoded", ("item", "modality", "reason"), problems, words=True)
    )


HELD_OUT = {
    "leave-last-out": "Of every person the last new item was held out, and the one before it to choose settings on.",
    "time": "Everything after one moment was held out; the stretch before it served to choose settings on.",
    "random": "Of every person a random share of items was held out, and another to choose settings on.",
    "items": "A random share of the items was never trained on; these are ranked among themselves.",
    "given": "Files that came with the data say what was held out.",
}


def _protocol(protocol: Mapping[str, Any]) -> str:
    words = (
        f"{HELD_OUT.get(protocol.get('split', ''), '')} {protocol.get('asked', 0):,} people were asked for "
        f"{protocol.get('targets', 0):,} targets, each ranked among {_ranked(protocol)} without what the person had "
        "before. Settings were chosen on validation alone; the test was asked once, by a model that had learnt from "
        "training and validation. Numbers are means over people who have a target."
    )
    rows = [
        [escape(str(name).replace("_", " ")), escape(_said(value))]
        for name, value in protocol.items()
        if value is not None
    ]
    return f"<p>{escape(words.strip())}</p>" + table("The same in figures", ("what", "value"), rows, words=True)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
