"""Offline evaluation on one page: learn on the past, ask for what was held out, say how sure the answer is."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from sensorium.build import REVIEWS, remembering
from sensorium.build import learn as learn_by_build
from sensorium.data.catalog import Catalog
from sensorium.data.split import Split
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Progress, silent
from sensorium.evaluate.ask import Answers, ask, dropped
from sensorium.evaluate.compare import compared, intervals
from sensorium.evaluate.evaluation import Evaluation, First, Part, Result
from sensorium.evaluate.memory import Memory
from sensorium.evaluate.metrics import KS, Background, Scores, accuracy, popularity_counts
from sensorium.evaluate.sliced import part_of, slices_of
from sensorium.evaluate.traits import traits_of
from sensorium.fuse.fusion import Fusion, FusionModel, Views
from sensorium.models.model import Features, Model, Recommender

PAIRED = ("ndcg@10", "ndcg@20", "recall@10", "recall@20", "hit@10", "mrr@10", "map@10")


class Outcome(Protocol):
    """What a training gives (build.Learned)."""

    @property
    def fusion(self) -> FusionModel: ...
    @property
    def features(self) -> Features: ...
    @property
    def model(self) -> Model: ...
    @property
    def recommender(self) -> Recommender: ...
    @property
    def trials(self) -> tuple[object, ...]: ...


PEOPLE = "people"  # the source beside the modalities of items and what was written of them
Learn = Callable[..., Outcome]
"""build.learn, or whatever stands for it: (train, views, people, *, fusion, recommender, validation, seed, progress)."""


@dataclass(frozen=True, eq=False)
class World:
    """Everything that stays the same while models change."""

    split: Split
    views: Views
    people: Vectors | None
    fusion: Fusion
    learn: Learn
    seed: int
    more: Mapping[str, Any]

    def learnt(self, recommender: Recommender, progress: Progress, *, tune: bool = True) -> Outcome:
        """One recommender tuned on validation and fitted to train."""
        return self.learn(
            self.split.train, self.views, self.people, fusion=self.fusion, recommender=recommender,
            validation=self.split.validation if tune else None, seed=self.seed, progress=progress, **self.more,
        )  # fmt: skip

    @property
    def sources(self) -> tuple[str, ...]:
        """All that is known besides who did what: the modalities of items, what people say of themselves, and reviews."""
        found = [modality for modality in sorted(self.views) if self.views[modality].present.any()]
        if self.people is not None and self.people.present.any():
            found.append(PEOPLE)
        return (*found, *((REVIEWS,) if self.more.get(REVIEWS) is not None else ()))

    def only(self, sources: Collection[str]) -> World:
        """The same world in which nothing but these sources is known."""
        more = {name: value for name, value in self.more.items() if name != REVIEWS or REVIEWS in sources}
        views = {name: view for name, view in self.views.items() if name in sources}
        return replace(self, views=views, people=self.people if PEOPLE in sources else None, more=more)


def evaluate(
    models: Mapping[str, Recommender],
    parts: Split,
    views: Views,
    people: Vectors | None = None,
    *,
    fusion: Fusion,
    learn: Learn | None = None,
    catalog: Catalog | None = None,
    seed: int = 0,
    knockout: bool = True,
    candidates: bool = True,
    rounds: int = 1000,
    protocol: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    **more: Any,
) -> Evaluation:
    """Tune, fit and ask each of `models` (by the name to print) under one split; the first is compared with the others.

    A model that chooses among others (auto) is named by its choice, and with `candidates` the others that it tried follow
    as rows, fitted with the settings validation chose for them. `catalog` brings calibration and the report's
    pictures; `more` goes to `learn` as it is (reviews). `protocol` adds lines to the protocol block.
    **Cost** one training a model; with `knockout` two more of the first for every modality, and one for none.
    """
    learn = learn or functools.partial(learn_by_build, fuse=remembering())
    world = World(parts, views, people, fusion, learn, seed, more)
    traits = None if catalog is None else traits_of(catalog)
    background = Background(
        counts=popularity_counts(parts.train.user, parts.train.item, parts.train.items),
        people=len(np.unique(parts.train.user)), candidates=parts.test.candidates,
        traits=None if traits is None else traits[1],
    )  # fmt: skip
    results: list[Result] = []
    answers: dict[str, Answers] = {}
    mixed: dict[str, Answers] = {}
    first: First | None = None
    chosen: Recommender | None = None
    for one in _each(models, world, candidates, progress):
        given = one.outcome.features.items
        if first is None:  # all models are judged in the same space, or their diversity could not be compared
            background = replace(background, vectors=given if given.present.any() else None)
        with Memory() as memory:
            began = time.perf_counter()
            answer = ask(one.outcome.model, parts.test, background, people, progress=progress)
            seconds = time.perf_counter() - began
        name = one.name if one.name not in answers else f"{one.name} ({len(answers) + 1})"
        answers[name] = answer
        if parts.test.candidates is not None:
            mixed[name] = ask(one.outcome.model, parts.mixed(), background, people, progress=progress)
        result = Result(
            model=name, metrics=answer.scores.means(),
            intervals=intervals(answer.scores.by_person, rounds=rounds, seed=seed), fit_seconds=one.fit_seconds,
            evaluate_seconds=seconds, peak_memory_mib=max(one.peak_mib, memory.peak_mib),
            settings=repr(one.recommender), trials=one.trials, left_out=one.left_out,
        )  # fmt: skip
        if first is None:
            chosen = one.recommender
            first = First(one.outcome.model, one.outcome.features, parts, answer, background, people)
        else:
            result = replace(result, paired=_against(first.answers.scores, answer.scores, rounds, seed))
        results.append(result)
    table: Mapping[str, Any] = {}
    if knockout and chosen is not None and first is not None:
        from sensorium.evaluate.knockout import knocked_out

        exact = first.answers.scores.by_person
        table = knocked_out(world, chosen, results[0], background, exact, rounds=rounds, progress=progress)
    facts = {**described(parts, seed), "calibration_by": traits[0] if traits else None, **(protocol or {})}
    sliced = _slices(parts, views, answers, mixed, rounds=rounds, seed=seed)
    return Evaluation(facts, results, sliced, table, first, catalog)


@dataclass(frozen=True, eq=False)
class Fitted:
    """One model ready to be asked, under the name to print, and what it cost."""

    name: str
    outcome: Outcome
    recommender: Recommender
    fit_seconds: float
    peak_mib: float
    trials: tuple[object, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def _each(
    models: Mapping[str, Recommender], world: World, candidates: bool, progress: Progress
) -> Iterator[Fitted]:  # fmt: skip
    """The models in their order; one that chose among others is followed by those it did not choose."""
    for asked_name, recommender in models.items():
        one = _fitted(asked_name, recommender, world, progress)
        chosen = getattr(one.outcome.recommender, "chosen", None)
        if chosen is None:
            yield one
            continue
        tried = [entry for entry in one.outcome.trials if getattr(entry, "settings", None) is not None]
        name = next((t.name for t in tried if t.settings == chosen), asked_name)  # type: ignore[attr-defined]
        yield replace(one, name=name, recommender=chosen)
        for entry in tried if candidates else ():
            if entry.settings != chosen and entry.name not in models:  # type: ignore[attr-defined]
                yield _fitted(entry.name, entry.settings, world, progress, tune=False)  # type: ignore[attr-defined]


def _fitted(name: str, recommender: Recommender, world: World, progress: Progress, *, tune: bool = True) -> Fitted:
    with Memory() as memory:
        began = time.perf_counter()
        outcome = world.learnt(recommender, progress, tune=tune)
        seconds = time.perf_counter() - began
    left_out = getattr(outcome.recommender, "left_out", {})
    return Fitted(name, outcome, outcome.recommender, seconds, memory.peak_mib, outcome.trials, left_out)


def described(parts: Split, seed: int) -> dict[str, Any]:
    """The protocol: how it was split, what was asked, what was left out, and by which rules."""
    train, test = parts.train, parts.test
    candidates = test.train.items if test.candidates is None else len(test.candidates)
    return {
        "split": parts.by,
        "seed": seed,
        "users": train.users,
        "items": train.items,
        "events": len(train) + len(test.held_out),
        "train_events": len(parts.validation.train),
        "validation_events": len(parts.validation.held_out),
        "test_events": len(test.held_out),
        "timed": train.timed,
        "candidates": candidates,
        **dropped(test),
        "ranking": "full",
        "seen_items_removed": True,
        "ties": "a tied target stands at the mean of the tied places",
        "tuned_on": "validation",
        "final_fit_on": "train and validation",
        "mean_over": "people with at least one target",
        "intervals": "95 % percentile bootstrap over people",
        "k": list(KS),
    }


def _against(first: Scores, other: Scores, rounds: int, seed: int) -> dict[str, Any]:
    def kept(scores: Scores) -> Scores:
        return replace(scores, by_person={n: v for n, v in scores.by_person.items() if n in PAIRED})

    return dict(compared(kept(first), kept(other), rounds=rounds, seed=seed))


def _slices(
    parts: Split, views: Views, answers: Mapping[str, Answers], mixed: Mapping[str, Answers], *, rounds: int, seed: int
) -> dict[str, Part]:
    out: dict[str, Part] = {}
    for one in slices_of(parts.train, views):
        part = part_of(one, answers, rounds=rounds, seed=seed)
        # A slice that holds all targets, or none, says nothing that the results do not say.
        if part is not None and part.targets < len(next(iter(answers.values())).ranks.user):
            out[one.name] = part
    if mixed:
        scores = {name: accuracy(answer.ranks) for name, answer in mixed.items()}
        one_scores = next(iter(scores.values()))
        out["mixed"] = Part(
            len(one_scores.users), len(next(iter(mixed.values())).ranks.user),
            {name: s.means() for name, s in scores.items()},
            {name: intervals(s.by_person, rounds=rounds, seed=seed) for name, s in scores.items()},
            "the same cold targets ranked among all items",
        )  # fmt: skip
    return out
