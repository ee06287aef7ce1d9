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
from sensorium.train.ranking import asked

PEOPLE = 8  # whose recommendations are shown
PLACES = 6  # recommendations of each
KS = (5, 10, 20, 50)


def report(evaluation: Evaluation, material: Material) -> str:
    """One self-contained page. The same evaluation gives the same page but for times."""
    figures = evaluation.json()
    protocol = figures["protocol"]
    return page(
        "Evaluation",
        f"{protocol.get('split', '')}: {protocol.get('events', 0):,} events of {protocol.get('users', 0):,} people on "
        f"{protocol.get('items', 0):,} items; every ranking is over the whole catalogue",
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


def _headline(figures: Mapping[str, Any]) -> str:
    first = figures["results"][0]
    metrics = first["metrics"]
    return cards(
        [(first["model"], "model"), *((number(metrics.get(m)), m) for m in ("ndcg@10", "recall@10", "recall@20"))]
    )


def _models(figures: Mapping[str, Any]) -> str:
    names = ("ndcg@10", "recall@10", "recall@20", "mrr@10", "hit@10", "coverage@10", "novelty@10", "diversity@10")
    rows, drawn = [], []
    for result in figures["results"]:
        cells = [escape(result["model"])]
        for name in names:
            low, high = result["intervals"].get(name, (None, None))
            span = f"<br><small>{number(low)} – {number(high)}</small>" if low is not None else ""
            cells.append(number(result["metrics"].get(name)) + span)
        rows.append([*cells, f"{result['fit_seconds']:.1f}"])
        low, high = result["intervals"].get("ndcg@10", (None, None))
        drawn.append(Bar(result["model"], result["metrics"].get("ndcg@10") or 0.0, low, high))
    plot = figure("NDCG@10", bars("NDCG@10 of each model", drawn), "with 95 % intervals over people")
    return plot + table("All models", ("model", *names, "fit s"), rows, chosen=0) + _trials(figures["results"][0])


def _trials(first: Mapping[str, Any]) -> str:
    rows = [
        [escape(str(t.get("name", ""))), number(t.get("ndcg")), number(t.get("recall")), f"{t.get('seconds', 0):.1f}"]
        for t in first.get("trials", ())
    ]
    return table("What validation said", ("tried", "ndcg@10", "recall@10", "seconds"), rows)


def _by_k(figures: Mapping[str, Any]) -> str:
    out = ""
    for metric in ("recall", "ndcg"):
        series = {}
        for result in figures["results"][:5]:
            points = []
            for k in KS:
                low, high = result["intervals"].get(f"{metric}@{k}", (None, None))
                points.append((result["metrics"].get(f"{metric}@{k}") or 0.0, low, high))
            series[result["model"]] = points
        drawing = lines(f"{metric} by K", [str(k) for k in KS], series)
        out += figure(f"{metric}@K", drawing, "bands are 95 % intervals")
    return out


def _knockout(knockout: Mapping[str, Any]) -> str:
    if not knockout:
        return ""
    whole = knockout["all"]["ndcg@10"]
    rows, drawn = [["all", number(whole), "", ""]], []
    for modality in knockout["modalities"]:
        without, alone = knockout["without"].get(modality), knockout["alone"].get(modality)
        loss = (without or {}).get("loss", {}).get("ndcg@10", {})
        rows.append([
            escape(modality), number((without or {}).get("ndcg@10")), number((alone or {}).get("ndcg@10")),
            f"{number(loss.get('low'))} … {number(loss.get('high'))}" if loss else "",
        ])  # fmt: skip
        if loss:
            drawn.append(Bar(modality, loss["difference"] or 0.0, loss["low"], loss["high"]))
    rows.append(["none (ids alone)", number(knockout["none"]["ndcg@10"]), "", ""])
    plot = figure("What NDCG@10 loses without it", bars("Loss without each modality", drawn), "above zero it helps")
    head = ("modality", "ndcg@10 without", "ndcg@10 alone", "loss, 95 % interval")
    return plot + table("Knock-out", head, rows, chosen=0)


def _slices(figures: Mapping[str, Any]) -> str:
    rows = [
        [escape(name), f"{part['people']:,}", f"{part['targets']:,}", number(part["metrics"].get("recall@10")),
         number(part["metrics"].get("ndcg@10")), escape(part.get("what", ""))]
        for name, part in figures["slices"].items()
    ]  # fmt: skip
    return table(
        "The first model on a part of the targets", ("slice", "people", "targets", "recall@10", "ndcg@10", ""), rows
    )


def _popularity(evaluation: Evaluation) -> str:
    """How often popular and rare items are shown, against how often they are used."""
    first = evaluation.first
    if first is None or not len(first.answers.lists):
        return ""
    counts = np.asarray(first.background.counts, np.float64)
    order = np.argsort(-counts, kind="stable")
    tenth = np.empty(len(counts), np.int64)
    tenth[order] = np.arange(len(counts)) * 10 // max(len(counts), 1)
    shown = first.answers.lists[:, :10]
    shown = shown[shown >= 0]
    places = [f"{10 * place}–{10 * place + 10} %" for place in range(10)]
    used = np.bincount(tenth, counts, minlength=10) / max(counts.sum(), 1)
    given = np.bincount(tenth[shown], minlength=10) / max(len(shown), 1)
    series = {"of all events": [float(v) for v in used], "of all recommendations": [float(v) for v in given]}
    drawing = columns("Shares by popularity", places, series)
    note = "tenths of the catalogue, the most popular first"
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
    newest = history.item[::-1][:PLACES]
    past = "".join(
        f"<li>{thumbnails.html(int(row))}<span>{escape(catalog.title(int(row)))}</span></li>" for row in newest
    )
    if not len(rows):
        return ""
    scores = model.score(history)[0][rows]
    parts, _ = taken_apart(model, history, rows, scores, features)
    best = []
    for at, row in enumerate(rows.tolist()):
        reasons, _base = reasons_of(parts, at, float(scores[at]), history, catalog)
        words = "; ".join(f"{r.source}: {r.title}" if r.item else r.source for r in reasons[:2] if r.amount > 0)
        hit = '<span class="hit">held out: found</span>' if row in wanted else "<span></span>"
        best.append(
            f"<li>{thumbnails.html(row)}<div>{escape(catalog.title(row))}"
            f'<div class="why">{escape(words)}</div></div>{hit}</li>'
        )
    return (
        f'<article class="person"><h3>A person with {len(history.item):,} events</h3>'
        f'<div><p class="label">newest first</p><ul class="strip past">{past}</ul></div>'
        f'<div><p class="label">recommended</p><ul class="strip next">{"".join(best)}</ul></div></article>'
    )


def _data(material: Material) -> str:
    problems = [[escape(p.item), escape(p.modality), escape(p.reason)] for p in material.problems[:50]]
    return (
        modalities(material.dataset.catalog)
        + rejected(material.dataset.report)
        + table("Contents that could not be encoded", ("item", "modality", "reason"), problems, words=True)
    )


def _protocol(protocol: Mapping[str, Any]) -> str:
    rows = [[escape(str(name)), escape(str(value))] for name, value in protocol.items()]
    return table("How it was measured", ("what", "value"), rows, words=True)
