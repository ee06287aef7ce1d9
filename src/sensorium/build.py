"""From data to a snapshot, on one page: read, encode, fuse, train. `evaluate` and `refresh` walk the same path."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, LOOK, TEXT, TOKENS, WORDS, Text
from sensorium.data.events import Events, Fold
from sensorium.data.ids import Ids
from sensorium.data.readers import Dataset, read
from sensorium.data.split import SplitSettings, split
from sensorium.data.vectors import Vectors
from sensorium.encode.cache import Cache
from sensorium.encode.encoder import Encoder, Progress, silent
from sensorium.encode.open import open_encoders, open_look, open_words
from sensorium.encode.run import Problem, encode, read_by
from sensorium.encode.variants import variants
from sensorium.errors import DataError
from sensorium.fuse.align import Align
from sensorium.fuse.concat import Concat
from sensorium.fuse.fusion import Aligner, Fusion, FusionModel, Views
from sensorium.models.model import Features, Model, Recommender, Tunes
from sensorium.recipe import Recipe, dump
from sensorium.snapshot import Snapshot

REVIEWS = "reviews"  # the modality of what people wrote about an item, made of training events only


@dataclass(frozen=True, eq=False)
class Reviews:
    """The vectors of all distinct reviews; an item's view is the mean of those in the events at hand."""

    rows: Mapping[str, int]
    vectors: Vectors

    def numbered(self, events: Events) -> Events:
        """The events with the row of each one's review, which is all that a model needs to read it."""
        if events.text is None:
            return events
        return replace(events, review=np.array([self.rows.get(text, -1) for text in events.text], np.int32))

    def view(self, events: Events) -> Vectors:
        """**Shapes** (I, D): only the reviews among `events`, so that nothing of a held-out event shows."""
        out = Vectors.absent(events.items, self.vectors.size, self.vectors.source)
        if events.text is None:
            return out
        written = [place for place, words in enumerate(events.text) if words in self.rows]
        if not written:
            return out
        rows = np.array([self.rows[events.text[place]] for place in written])
        item = events.item[written]
        kept = self.vectors.present[rows]
        np.add.at(out.values, item[kept], self.vectors.values[rows[kept]])
        count = np.bincount(item[kept], minlength=events.items)
        return Vectors((out.values / np.maximum(count, 1)[:, None]).astype(np.float32), count > 0, out.source)


@dataclass(frozen=True, eq=False)
class Material:
    """A data set with everything encoded: what learning starts from, and what every split shares."""

    dataset: Dataset
    views: Mapping[str, Vectors]
    people_views: Mapping[str, Vectors]
    reviews: Reviews | None
    encoders: Mapping[str, Encoder]
    people_encoders: Mapping[str, Encoder]
    problems: Sequence[Problem]
    variants: Sequence[Views]  # the same items disturbed, as often as the recipe's [augment] says
    computed: Mapping[str, int]  # encoder calls by modality: 0 where the cache had all
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Learned:
    """What one training gave: the fused space, the model, the settings that validation chose, and what it tried."""

    fusion: FusionModel
    features: Features
    model: Model
    recommender: Recommender
    trials: tuple[object, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def gather(recipe: Recipe, cache: Path, *, progress: Progress = silent) -> Material:
    """Read and prepare the tables, then encode every modality of items, people and reviews (from the cache where known)."""
    began = time.perf_counter()
    progress("read", 0, 0)
    dataset = read(recipe, strict=recipe.strict, progress=progress)
    progress("read", 1, 1)
    seconds = {"read": time.perf_counter() - began}
    began = time.perf_counter()
    material = encoded(dataset, recipe, cache, progress=progress)
    return replace(material, seconds={**seconds, "encode": time.perf_counter() - began})


def encoded(
    dataset: Dataset,
    recipe: Recipe,
    cache: Path,
    *,
    encoders: Mapping[str, Encoder] | None = None,
    people_encoders: Mapping[str, Encoder] | None = None,
    progress: Progress = silent,
) -> Material:
    """Every content of a data set as vectors. Encoders that were fitted before (attributes, words) may be handed in."""
    store = Cache(cache)
    items = {**open_encoders(dataset.catalog, recipe.encode), **(encoders or {})}
    items |= open_look(dataset.catalog, recipe.encode, items)
    if WORDS not in items:
        items |= open_words(dataset.catalog, recipe.encode)
    of_items = encode(dataset.catalog, items, store, progress=progress)
    problems = list(of_items.problems)
    computed = dict(of_items.computed)
    people: dict[str, Encoder] = {}
    people_views: Mapping[str, Vectors] = {}
    if dataset.people is not None and dataset.people.content:
        people = {**open_encoders(dataset.people, recipe.encode), **(people_encoders or {})}
        of_people = encode(dataset.people, people, store, progress=progress)
        people_views = of_people.views
        problems += of_people.problems
        computed |= {f"people {name}": count for name, count in of_people.computed.items()}
    disturbed = []
    for number, variant in enumerate(variants(dataset.catalog, recipe.augment, seed=recipe.seed), 1):
        again = encode(
            variant, {m: e for m, e in items.items() if read_by(e) in variant.content}, store, progress=progress
        )
        disturbed.append(again.views)
        computed |= {f"variant {number} {name}": count for name, count in again.computed.items()}
    reviews, read_reviews = _reviews(dataset.events, recipe, store, progress)
    if reviews is not None:
        given = {part: reviews.numbered(events) for part, events in (dataset.given or {}).items()}
        dataset = replace(dataset, events=reviews.numbered(dataset.events), given=given or dataset.given)
    return Material(
        dataset,
        of_items.views,
        people_views,
        reviews,
        items,
        people,
        problems,
        disturbed,
        {**computed, **read_reviews},
        {},
    )


def _reviews(events: Events, recipe: Recipe, cache: Cache, progress: Progress) -> tuple[Reviews | None, dict[str, int]]:
    if events.text is None:
        return None, {}
    words = sorted({text for text in events.text if text})
    if not words:
        return None, {}
    pages = Catalog(Ids(map(str, range(len(words)))), {TEXT: [Text(((REVIEWS, text),)) for text in words]})
    done = encode(pages, open_encoders(pages, recipe.encode), cache, progress=progress)
    return Reviews({text: row for row, text in enumerate(words)}, done.views[TEXT]), {
        REVIEWS: done.computed.get(TEXT, 0)
    }


Fuse = Callable[..., tuple[FusionModel, Features]]
"""`fused`, or what stands for it."""


def fused(
    fusion: Fusion, views: Views, people: Vectors | None, events: Events, *, seed: int, reviews: Reviews | None = None
) -> tuple[FusionModel, Features]:
    """A fusion fitted to the views and to `events` alone, and the features it gives."""
    views = {**views, REVIEWS: reviews.view(events)} if reviews is not None else dict(views)
    views = {modality: view for modality, view in views.items() if view.present.any()}
    if not views:
        views = {"none": Vectors.absent(events.items, 1, "none")}
    sights = {modality: view for modality, view in views.items() if modality != TOKENS}  # names are no directions
    if not sights:
        sights = {"none": Vectors.absent(events.items, 1, "none")}
    model = fusion.fit(sights, events, rng=np.random.default_rng(seed))
    return model, Features(model.fuse(sights), views, people, model.blocks, reviews.vectors if reviews else None)


def remembering(capacity: int = 2) -> Fuse:
    """`fused` that keeps its last results: models compared on one split share their spaces."""
    kept: dict[tuple[Any, ...], tuple[FusionModel, Features]] = {}

    def fuse(
        fusion: Fusion,
        views: Views,
        people: Vectors | None,
        events: Events,
        *,
        seed: int,
        reviews: Reviews | None = None,
    ) -> tuple[FusionModel, Features]:
        # All are compared as objects: the evaluation holds them for as long as this lives.
        seen = tuple(sorted((name, id(view)) for name, view in views.items()))
        key = (id(fusion), seen, id(people), id(events), id(reviews), seed)
        if key not in kept:
            while len(kept) >= capacity:
                kept.pop(next(iter(kept)))
            kept[key] = fused(fusion, views, people, events, seed=seed, reviews=reviews)
        return kept[key]

    return fuse


def learn(
    train: Events,
    views: Views,
    people: Vectors | None,
    *,
    fusion: Fusion,
    recommender: Recommender,
    validation: Fold | None,
    seed: int,
    reviews: Reviews | None = None,
    fuse: Fuse | None = None,
    progress: Progress = silent,
) -> Learned:
    """Choose settings on the validation fold, then learn from all of `train`. What the fold holds out is never fused there.

    A fusion that learns from people is fitted twice, for a fold must not know what comes after it. Whoever learns many
    models from the same parts hands in a `fuse` that remembers.
    """
    fuse = fuse or fused
    began = time.perf_counter()
    if validation is not None and len(validation.held_out) and isinstance(recommender, Tunes):
        progress("tune", 0, 0)
        _, features = fuse(fusion, views, people, validation.train, seed=seed, reviews=reviews)
        recommender = recommender.tuned(validation, features, rng=np.random.default_rng(seed))
    tuned = time.perf_counter()
    progress("train", 0, 0)
    fusion_model, features = fuse(fusion, views, people, train, seed=seed, reviews=reviews)
    model = recommender.fit(train, features, rng=np.random.default_rng(seed))
    progress("train", 1, 1)
    seconds = {"tune": tuned - began, "fit": time.perf_counter() - tuned}
    return Learned(fusion_model, features, model, recommender, getattr(recommender, "trials", ()), seconds)


def people_space(views: Views, seed: int) -> tuple[FusionModel | None, Vectors | None]:
    """What people say of themselves, as one vector a person."""
    views = {modality: view for modality, view in views.items() if view.present.any()}
    if not views:
        return None, None
    count = len(next(iter(views.values())))
    nothing = Events.of([], [], users=count, items=0)
    model = Concat().fit(views, nothing, rng=np.random.default_rng(seed))
    return model, model.fuse(views)


def aligned(views: Views, events: Events, seed: int, variants: Sequence[Views] = ()) -> Aligner | None:
    """The space in which words find pictures, sounds and clips; None where there are no words, or nothing else."""
    views = {m: view for m, view in views.items() if m not in (WORDS, LOOK, TOKENS)}  # texts and pictures again
    others = [m for m, view in views.items() if m != TEXT and view.present.any()]
    if TEXT not in views or not views[TEXT].present.any() or not others:
        return None
    return Align(crowd_sizes=()).fit(views, events, rng=np.random.default_rng(seed), variants=variants)


def build(
    material: Material, recipe: Recipe, *, chosen: Recommender | None = None, progress: Progress = silent
) -> Snapshot:
    """A snapshot from encoded material: validation is the newest event of each person, and is learnt from in the end.

    `chosen` are settings that validation chose before: they are fitted as they are.
    """
    dataset, seed = material.dataset, recipe.seed
    people_fusion, people = people_space(material.people_views, seed)
    validation = None
    if chosen is None and len(dataset.events):
        validation = newest(dataset.events, seed, recipe.kind_weights())
    learned = learn(
        dataset.events, material.views, people, fusion=recipe.fusion, recommender=chosen or recipe.recommender,
        validation=validation, seed=seed, reviews=material.reviews, progress=progress,
    )  # fmt: skip
    progress("align", 0, 0)
    aligner = aligned(learned.features.views, dataset.events, seed, material.variants)
    progress("align", 1, 1)
    return Snapshot(
        catalog=dataset.catalog, people=dataset.people, user_ids=dataset.user_ids, events=dataset.events,
        views=learned.features.views, people_views=material.people_views,
        encoders=_fitted(material.encoders), people_encoders=_fitted(material.people_encoders),
        fusion=learned.fusion, people_fusion=people_fusion, aligner=aligner, features=learned.features,
        recommender=getattr(learned.recommender, "chosen", None) or learned.recommender, model=learned.model,
        recipe=dump(recipe), bare=_bare(dataset), trials=tuple(untimed(trial) for trial in learned.trials),
        left_out=dict(getattr(learned.recommender, "left_out", {})), taken=dataset.taken,
    )  # fmt: skip


def _bare(dataset: Dataset) -> tuple[int, ...]:
    """The items that no table lists: readers put them last."""
    count = len(dataset.catalog)
    return tuple(range(count - dataset.report.counts.get("items_from_events", 0), count))


def untimed(trial: object) -> dict[str, Any]:
    """A trial without its seconds: they differ from run to run, and a snapshot's bytes must not."""
    return {name: getattr(trial, name) for name in ("name", "ndcg", "recall")}


def newest(events: Events, seed: int, kinds: Mapping[str, float]) -> Fold | None:
    """The newest event of each person held out; None where that leaves nothing to learn from or to ask."""
    try:
        return split(events, SplitSettings(by="leave-last-out"), seed=seed, kinds=kinds).test
    except DataError:
        return None


def _fitted(encoders: Mapping[str, Encoder]) -> dict[str, Encoder]:
    """The encoders that learnt something from the catalogue: they must be saved, the others are found by name."""
    return {modality: encoder for modality, encoder in encoders.items() if modality in (ATTRIBUTES, WORDS, TOKENS)}
