"""What every encoder, fusion, model, index and store must do. For whoever adds one: call the check on it.

```python
from sensorium.checks.conformance import check_model
check_model(MyRecommender(size=8))
```

Each check builds its own small world, takes seconds, and raises AssertionError with one line that says what is broken.
The project runs them over every entry of every table in `recipe.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, unit
from sensorium.data.content import Content
from sensorium.data.events import Events, Histories
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Encoder, Names
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry
from sensorium.fuse.fusion import Fusion, Views
from sensorium.index.index import Index
from sensorium.models.model import Embeds, Explains, Features, Model, Recommender
from sensorium.snapshot import plain, rebuilt

CLOSE = 1e-4  # of scores, relative to their spread


def must(condition: bool | np.bool_, message: str) -> None:
    """**Raises** AssertionError with the message, also under `python -O`."""
    if not condition:
        raise AssertionError(message)


# --- models -------------------------------------------------------------------------------------------------------


def check_model(recommender: Recommender, *, content: bool = True) -> None:
    """Fits the recommender to a small mixed world and to the same world by ids alone, and checks the model.

    Shapes and finite scores; the same bytes twice; saved and read back unchanged; a slice of candidates is a slice of
    all; people are their histories and nothing else; strangers are served; a grown catalogue leaves the old order alone;
    parts sum to the score. `content=False` skips what needs features (for models that refuse to do without ids).
    """
    name = type(recommender).__name__
    must(dataclasses.is_dataclass(recommender) and _frozen(recommender), f"{name}: settings must be a frozen dataclass")
    must(not hasattr(recommender, "score"), f"{name}: settings must not score; only a fitted model does")
    events, features = mixed_world()
    for world in (features, features.without_content()) if content else (features.without_content(),):
        _check_fitted(name, recommender, events, world)
    before = repr(recommender)
    recommender.fit(events, features, rng=np.random.default_rng(0))
    must(repr(recommender) == before, f"{name}: fit changed the settings")


def mixed_world(people: int = 40, items: int = 30, *, seed: int = 0) -> tuple[Events, Features]:
    """Events of several kinds with times, ratings and skips; two views with gaps; items 27, 28 and 29 touched by nobody."""
    rng = np.random.default_rng(seed)
    kinds = ("view", "buy", "rating", "skip")
    group = rng.integers(0, 3, people)
    users = np.repeat(np.arange(people - 1), 8)  # the last person did nothing
    own = rng.integers(0, 9, len(users)) * 3 + group[users]
    chosen = np.where(rng.random(len(users)) < 0.8, own, rng.integers(0, items - 3, len(users)))
    kind = rng.choice(4, len(users), p=[0.6, 0.2, 0.12, 0.08])
    value = np.where(kind == 2, rng.integers(1, 6, len(users)), np.nan)
    weight = np.choose(kind, [1.0, 5.0, np.nan_to_num(1 + (value - 3) / 2, nan=1.0), -1.0])
    time = 1.7e9 + 600.0 * rng.permutation(len(users))
    events = Events.of(
        users.tolist(), chosen.tolist(), users=people, items=items, time=time.tolist(), weight=weight.tolist(),
        kind=kind.tolist(), kinds=kinds, value=value.tolist(),
    )  # fmt: skip
    return events, _features_of(items, people, rng)


def _features_of(items: int, people: int, rng: np.random.Generator) -> Features:
    views = {}
    for modality, size, share in (("text", 6, 0.9), ("image", 5, 0.7)):
        values = 0.4 * rng.normal(size=(items, size))
        values[np.arange(items), np.arange(items) % 3] += 1
        present = rng.random(items) < share
        present[1] = False  # item 1 has nothing at all
        present[-1] = True
        views[modality] = Vectors(unit(values) * present[:, None], present, modality)
    fused = unit(np.concatenate([view.values for view in views.values()], axis=1))
    present = views["text"].present | views["image"].present
    profile = Vectors(unit(rng.normal(size=(people, 4))), np.ones(people, bool), "people")
    blocks = {"text": slice(0, 6), "image": slice(6, 11)}
    return Features(Vectors(fused, present, "fused"), views, profile, blocks)


def _check_fitted(name: str, recommender: Recommender, events: Events, features: Features) -> None:
    kind = "with content" if features.views else "by ids alone"
    where = f"{name} ({kind})"
    model = recommender.fit(events, features, rng=np.random.default_rng(0))
    everyone = events.histories(np.arange(events.users), features.people)
    scores = model.score(everyone)
    must(scores.shape == (events.users, events.items), f"{where}: scores {scores.shape}, not (people, items)")
    must(scores.dtype == np.float32, f"{where}: scores are {scores.dtype}, not float32")
    must(np.isfinite(scores).all(), f"{where}: scores are not all finite")

    some = np.array([events.items - 1, 0, 7])
    must(_near(model.score(everyone, some), scores[:, some]), f"{where}: candidates score otherwise than among all")
    one = model.score(everyone.take([3]))
    must(_near(one, scores[3:4]), f"{where}: a history scores otherwise alone than in a batch")
    renamed = dataclasses.replace(everyone, user=np.full(len(everyone), -1))
    must(_near(model.score(renamed), scores), f"{where}: the score depends on who asks, not only on their history")
    strangers = events.histories([-1, -1], features.people)
    must(np.isfinite(model.score(strangers)).all(), f"{where}: no finite score for somebody without a history")
    must(
        model.score(events.histories([], features.people)).shape == (0, events.items), f"{where}: an empty batch fails"
    )

    again = recommender.fit(events, features, rng=np.random.default_rng(0))
    must(_bytes(model) == _bytes(again), f"{where}: the same data and seed gave other bytes")
    _check_saved(where, model, everyone, scores)
    if isinstance(model, Explains):
        _check_parts(where, model, everyone, scores)
    if isinstance(model, Embeds):
        product = model.user_vectors(everyone) @ model.item_vectors().T
        must(_near(product, scores), f"{where}: it says its score is a dot product, and it is not")
    _check_extended(where, model, features, everyone, scores)


def _check_saved(where: str, model: Model, histories: Histories, scores: Floats) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    tree = json.loads(json.dumps(plain(model, arrays, "model")))
    for array in arrays.values():
        array.setflags(write=False)
    back = rebuilt(tree, arrays)
    must(np.array_equal(back.score(histories), scores), f"{where}: saved and read back, it scores otherwise")


def _check_parts(where: str, model: Any, histories: Histories, scores: Floats) -> None:
    candidates = np.array([2, 5, scores.shape[1] - 1])
    for row in (0, len(histories) - 1):  # one with a history, one without
        history = histories.take([row])
        parts = model.parts(history, candidates)
        shape = (len(candidates), len(history.item), len(parts.sources))
        must(
            parts.values.shape == shape,
            f"{where}: parts {parts.values.shape}, not (candidates, events, sources) {shape}",
        )
        total = parts.values.sum((1, 2)) + parts.base
        spread = float(np.ptp(scores[row])) + float(np.abs(scores[row]).max()) + 1e-6
        must(np.abs(total - scores[row, candidates]).max() < 1e-3 * spread, f"{where}: parts do not sum to the score")


def _check_extended(where: str, model: Model, features: Features, histories: Histories, scores: Floats) -> None:
    """Three new rows: a copy of item 2's content, one with nothing, and a copy of item 29's (touched by nobody)."""
    grown = features.take(np.concatenate([np.arange(len(features.items)), [2, 1, len(features.items) - 1]]))
    after = model.extended(grown).score(histories)
    must(
        after.shape == (len(scores), scores.shape[1] + 3),
        f"{where}: extended to {after.shape[1]} items, not three more",
    )
    must(np.isfinite(after).all(), f"{where}: a new item has no finite score")
    for row in range(len(scores)):
        if np.ptp(scores[row]) > 1e-6:
            kept = np.corrcoef(scores[row], after[row, : scores.shape[1]])[0, 1]
            must(kept > 0.9, f"{where}: a grown catalogue changes the scores of old items (correlation {kept:.3f})")


# --- fusions ------------------------------------------------------------------------------------------------------


def check_fusion(fusion: Fusion) -> None:
    """Unit rows where an item has any view, absence where it has none; the same bytes twice; saved and read back; any
    subset of modalities; new items; no events at all; disjoint blocks that sum to the cosine's columns."""
    name = type(fusion).__name__
    must(dataclasses.is_dataclass(fusion) and _frozen(fusion), f"{name}: settings must be a frozen dataclass")
    events, features = mixed_world(people=60, items=45)
    views = features.views
    model = fusion.fit(views, events, rng=np.random.default_rng(0))
    fused = model.fuse(views)
    _check_space(name, fused, views)
    must(_bytes(model) == _bytes(fusion.fit(views, events, rng=np.random.default_rng(0))), f"{name}: other bytes again")
    arrays: dict[str, NDArray[Any]] = {}
    back = rebuilt(json.loads(json.dumps(plain(model, arrays, "fusion"))), arrays)
    must(np.array_equal(back.fuse(views).values, fused.values), f"{name}: saved and read back, it fuses otherwise")

    alone = {"image": views["image"]}
    only = model.fuse(alone)
    must(only.size == fused.size, f"{name}: pictures alone give vectors of size {only.size}, not {fused.size}")
    must(np.array_equal(only.present, views["image"].present), f"{name}: who has a picture is present, and nobody else")
    lonely = {m: (v if m == "image" else v.masked(np.zeros(len(v), bool))) for m, v in views.items()}
    must(_near(model.fuse(lonely).values, only.values), f"{name}: a masked modality is not the same as a missing one")

    rows = np.array([4, 2, 9])
    few = model.fuse({modality: view.take(rows) for modality, view in views.items()})
    must(_near(few.values, fused.values[rows]), f"{name}: an item's vector depends on who else is fused with it")
    nothing = Events.of([], [], users=0, items=events.items)
    _check_space(f"{name} without events", fusion.fit(views, nothing, rng=np.random.default_rng(0)).fuse(views), views)
    taken = np.zeros(fused.size, int)
    for columns in model.blocks.values():
        taken[columns] += 1
    must((taken <= 1).all(), f"{name}: blocks of two modalities share columns")
    if hasattr(model, "project"):
        for modality, view in views.items():
            there = model.project(modality, view)
            must(np.array_equal(there.present, view.present), f"{name}: projecting {modality} changed who is present")
            lengths = np.linalg.norm(there.values[there.present], axis=1)
            must(np.allclose(lengths, 1, atol=1e-3), f"{name}: projected {modality} rows are not of unit length")


def _check_space(name: str, fused: Vectors, views: Views) -> None:
    has = np.any([view.present for view in views.values()], axis=0)
    must(np.isfinite(fused.values).all(), f"{name}: fused vectors are not all finite")
    must(np.array_equal(fused.present, has), f"{name}: an item is present exactly where it has a view")
    must(not fused.values[~has].any(), f"{name}: an absent item must be a row of zeros")
    lengths = np.linalg.norm(fused.values[has], axis=1)
    must(np.allclose(lengths, 1, atol=1e-3), f"{name}: rows are not of unit length ({lengths.min():.3f}…)")


# --- encoders -----------------------------------------------------------------------------------------------------


def check_encoder(encoder: Encoder, contents: Sequence[Content], *, tolerance: float = 2e-3) -> None:
    """B contents → (B, size) float32, finite; the same content gives the same vector whatever stands beside it.

    `contents`: at least three that differ. `tolerance` bounds how far batching may move a unit vector (bfloat16 moves
    it most).
    """
    name = type(encoder).__name__
    must(len(contents) >= 3, f"{name}: give at least three contents")
    must(isinstance(encoder.fingerprint, str) and len(encoder.fingerprint) >= 8, f"{name}: no fingerprint")
    must(encoder.fingerprint == encoder.fingerprint, f"{name}: the fingerprint changes")
    values = encoder.encode(contents)
    shape = (len(contents), encoder.size)
    must(values.shape == shape, f"{name}: vectors {values.shape}, not (contents, size) {shape}")
    must(values.dtype == np.float32 and bool(np.isfinite(values).all()), f"{name}: vectors must be finite float32")
    must(encoder.encode([]).shape == (0, encoder.size), f"{name}: no contents should give (0, size)")
    must(np.array_equal(encoder.encode(contents), values), f"{name}: the same batch gave other vectors")
    turned = encoder.encode(list(contents)[::-1])[::-1]
    alone = np.concatenate([encoder.encode([content]) for content in contents])
    for what, other in (("in another order", turned), ("one by one", alone)):
        moved = float(np.abs(unit(other) - unit(values)).max())
        must(moved < tolerance, f"{name}: {what} a vector moves by {moved:.4f}")
    different = {row.tobytes() for row in values}
    must(len(different) > 1, f"{name}: all contents got the same vector")
    if isinstance(encoder, Names):
        seen = encoder.probabilities(contents)
        must(seen.shape == (len(contents), len(encoder.classes)), f"{name}: probabilities {seen.shape}")
        must(bool((seen >= 0).all()) and bool((seen.sum(1) < 1.01).all()), f"{name}: rows of probabilities exceed 1")


# --- indexes ------------------------------------------------------------------------------------------------------


def check_index(made: Callable[[Floats, NDArray[np.bool_]], Index], *, items: int = 600, recall: float = 1.0) -> None:
    """Against the naive search: the best k by inner product, absent and disallowed rows never, −1 where nothing is left.

    `recall`: the share of the true best ten that must be found (1 for exact indexes).
    """
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(items, 16)))
    present = rng.random(items) < 0.9
    vectors[~present] = 0
    index = made(vectors, present)
    queries = unit(rng.normal(size=(9, 16)))
    allowed = rng.random(items) < 0.5
    for mask in (None, allowed, np.arange(items) < 4):
        rows, scores = index.search(queries, 10, mask)
        must(rows.shape == scores.shape == (9, 10), f"index: rows {rows.shape}, scores {scores.shape}, not (9, 10)")
        kept = present if mask is None else present & mask
        naive = np.where(kept, queries @ vectors.T, -np.inf)
        found = rows >= 0
        must(bool(kept[rows[found]].all()), "index: it returned a row that is absent or not allowed")
        must(bool(np.isneginf(scores[~found]).all()), "index: a place without a row must score −inf")
        true = np.sort(naive, axis=1)[:, ::-1][:, :10]
        must(found.sum() >= recall * np.isfinite(true).sum() - 1e-9, "index: it found too few rows")
        must(bool(np.allclose(scores[found], np.take_along_axis(naive, np.maximum(rows, 0), 1)[found], atol=1e-4)),
             "index: a score is not the inner product")  # fmt: skip
        must(bool((np.diff(np.where(found, scores, -9), axis=1) <= 1e-6).all()), "index: the best do not come first")
        hits = [
            len(set(mine[mine >= 0]) & set(np.argsort(-line)[: min(10, kept.sum())]))
            for mine, line in zip(rows, naive, strict=True)
        ]
        must(
            sum(hits) >= recall * 9 * min(10, kept.sum()) - 1e-9,
            f"index: recall {sum(hits) / 90:.2f}, {recall} is asked",
        )
    must(index.search(queries[:0], 10)[0].shape[0] == 0, "index: no queries should give no rows")


# --- stores -------------------------------------------------------------------------------------------------------


def check_store(opened: Callable[[Path], Log], folder: Path) -> None:
    """Positions ascend and are never reused; what was appended is there after reopening; a key is stored once; a person
    can be read alone, and erased so that no byte of theirs is left."""
    path = folder / "log"
    first = [Entry("ann", "a", "view", 1.0), Entry("bob", "b", "buy", 2.0, 3.5, "fine words", key="k1")]
    store = opened(path)
    must(len(store) == 0 and store.end == 0 and store.read() == [], "store: a new one must be empty")
    positions = store.append(first)
    must(positions == sorted(set(positions)) and positions[0] > 0, "store: positions must ascend from 1")
    must(store.append([first[1]]) == [positions[1]] and len(store) == 2, "store: a key must be stored once")
    store.close()
    store = opened(path)
    entries = store.read()
    must([dataclasses.replace(e, position=0) for e in entries] == first, "store: reopened, the entries differ")
    must([e.position for e in entries] == positions, "store: reopened, the positions differ")
    must([e.user for e in store.read(positions[0])] == ["bob"], "store: reading after a position")
    must([e.item for e in store.read(user="ann")] == ["a"], "store: reading one person")
    end = store.end
    must(store.erase("bob") == 1 and [e.user for e in store.read()] == ["ann"], "store: erasing one person")
    store.close()
    left = b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())
    must(
        b"fine words" not in left and b"bob" not in left, "store: the bytes of an erased person are still in the files"
    )
    store = opened(path)
    must(store.append([Entry("cy", "c", "view", 3.0)])[0] > end, "store: a position was given twice")
    store.close()


# --- shared by the checks -----------------------------------------------------------------------------------------


def _frozen(settings: Any) -> bool:
    return bool(type(settings).__dataclass_params__.frozen)


def _near(one: Floats, other: Floats) -> bool:
    if one.shape != other.shape:
        return False
    spread = float(np.ptp(other)) + 1e-3 if other.size else 1.0
    return bool(np.all(np.abs(one - other) <= CLOSE * spread))


def _bytes(model: Any) -> tuple[str, Mapping[str, bytes]]:
    arrays: dict[str, NDArray[Any]] = {}
    tree = json.dumps(plain(model, arrays, "it"))
    return tree, {name: array.tobytes() + str(array.dtype).encode() for name, array in arrays.items()}
