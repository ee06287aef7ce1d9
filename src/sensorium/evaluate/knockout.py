"""The knock-out table: what each source is worth, by taking it away, and by leaving it alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.encode.encoder import Progress, silent
from sensorium.evaluate.ask import ask
from sensorium.evaluate.compare import intervals, paired
from sensorium.evaluate.evaluation import Result, rounded
from sensorium.evaluate.metrics import Background, Numbers
from sensorium.models.model import Recommender

if TYPE_CHECKING:
    from sensorium.evaluate.offline import World

SHOWN = ("ndcg@10", "recall@10", "recall@20", "ndcg@20")


def knocked_out(
    world: World, recommender: Recommender, full: Result, background: Background, full_scores: Mapping[str, Numbers],
    *, rounds: int = 1000, progress: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """For every source: the score without it and with it alone; and with none, by ids alone.

    Sources are the modalities of items and, where there are such, what people say of themselves (`people`) and `reviews`.
    The recommender is tuned and fitted anew each time, fusion included, so that the rest can make up for what is gone.
    `loss` is paired over people: all sources minus without this one, so above zero the source helps.
    **Cost** 2 × sources + 1 trainings.
    """
    present = world.sources
    if not present:
        return {}

    def scored(sources: Collection[str]) -> dict[str, Any]:
        part = world.only(sources)
        outcome = part.learnt(recommender, silent)
        scores = ask(outcome.model, part.split.test, background, part.people).scores.by_person
        bounds = intervals({name: scores[name] for name in SHOWN}, rounds=rounds, seed=world.seed)
        row: dict[str, Any] = {name: rounded(float(np.mean(scores[name]))) for name in SHOWN}
        row["intervals"] = {name: [rounded(i.low), rounded(i.high)] for name, i in bounds.items()}
        row["loss"] = {}
        for name in SHOWN:
            gap = paired(full_scores[name], scores[name], rounds=rounds, seed=world.seed)
            row["loss"][name] = {"difference": rounded(gap.difference), "low": rounded(gap.low),
                                 "high": rounded(gap.high), "p": rounded(gap.p)}  # fmt: skip
        return row

    total, done = 2 * len(present) + 1, 0
    without: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    for source in present:
        progress("knock-out", done, total)
        without[source] = scored([name for name in present if name != source]) if len(present) > 1 else None
        done += 1
        progress("knock-out", done, total)
        alone[source] = scored([source]) if len(present) > 1 else None
        done += 1
    none = scored([])
    progress("knock-out", total, total)
    if len(present) == 1:  # taking away the only one leaves none; leaving it alone changes nothing
        without[present[0]] = none
    everything = {name: rounded(full.metrics[name]) for name in SHOWN}
    everything_bounds = {n: [rounded(full.intervals[n].low), rounded(full.intervals[n].high)] for n in SHOWN}
    every: dict[str, Any] = {**everything, "intervals": everything_bounds}
    if len(present) == 1:
        alone[present[0]] = every
    return {
        "model": full.model,
        "modalities": list(present),
        "all": every,
        "without": without,
        "alone": alone,
        "none": none,
    }
