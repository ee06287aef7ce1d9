"""The knock-out table: what each modality is worth, by taking it away, and by leaving it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.encode.encoder import Progress, silent
from sensorium.evaluate.ask import ask
from sensorium.evaluate.compare import intervals, paired
from sensorium.evaluate.evaluation import Result, rounded
from sensorium.evaluate.metrics import Background, Numbers
from sensorium.fuse.fusion import Views
from sensorium.models.model import Recommender

if TYPE_CHECKING:
    from sensorium.evaluate.offline import World

SHOWN = ("ndcg@10", "recall@10", "recall@20", "ndcg@20")


def knocked_out(
    world: World, recommender: Recommender, full: Result, background: Background, full_scores: Mapping[str, Numbers],
    *, rounds: int = 1000, progress: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """For every modality present: the score without it and with it alone; and with none, by ids alone.

    The recommender is tuned and fitted anew each time, fusion included, so that the rest can make up for what is gone.
    `loss` is paired over people: all modalities minus without this one, so above zero the modality helps.
    **Cost** 2 × modalities + 1 trainings.
    """
    present = [modality for modality in sorted(world.views) if world.views[modality].present.any()]
    if not present:
        return {}

    def scored(views: Views) -> dict[str, Any]:
        outcome = world.learnt(recommender, silent, views)
        scores = ask(outcome.model, world.split.test, background, world.people).scores.by_person
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
    for modality in present:
        rest = {name: view for name, view in world.views.items() if name != modality}
        progress("knock-out", done, total)
        without[modality] = scored(rest) if len(present) > 1 else None
        done += 1
        progress("knock-out", done, total)
        alone[modality] = scored({modality: world.views[modality]}) if len(present) > 1 else None
        done += 1
    none = scored({})
    progress("knock-out", total, total)
    if len(present) == 1:  # taking away the only one leaves none; leaving it alone changes nothing
        without[present[0]] = none
    everything = {name: rounded(full.metrics[name]) for name in SHOWN}
    everything_bounds = {n: [rounded(full.intervals[n].low), rounded(full.intervals[n].high)] for n in SHOWN}
    every: dict[str, Any] = {**everything, "intervals": everything_bounds}
    if len(present) == 1:
        alone[present[0]] = every
    return {"model": full.model, "modalities": present, "all": every, "without": without, "alone": alone, "none": none}
