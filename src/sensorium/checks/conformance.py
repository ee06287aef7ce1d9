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
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, unit
from sensorium.data.content import Content
from sensorium.data.events import Events, Histories
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Encoder, Names
from sensorium.errors import SensoriumError
from sensorium.feedback.commit import Committer
from sensorium.feedback.store import Entry, Note, Store, Taken
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


def check_store(opened: Callable[[], Store], folder: Path | None = None) -> None:
    """The whole protocol, by one connection, by two, by many threads at once, and across reopening.

    `opened` opens the same store at each call; it must be empty at first. `folder`: where its files are, if they are
    at hand; no byte of an erased person may then be left in them.
    """
    _check_log(opened)
    _check_keys(opened)
    _check_documents(opened)
    _check_journals(opened)
    _check_together(opened)
    _check_erased(opened, folder)


def _check_log(opened: Callable[[], Store]) -> None:
    """Events come back as they were, in order, alone and after reopening; all of a batch or nothing."""
    first = [
        Entry("ann", "a", "view", 1.0),
        Entry("bob", "b\\n", "buy", -2.5, 0.1, "fine\t\\N “words”\n好 \U0001f600", key="k1"),
        Entry("ann", "b\\n", "rating", 1.7e9 + 1e-6, -4.0),
    ]
    with closing(opened()) as store:
        must(len(store) == 0 and store.end == 0 and store.read() == [], "store: a new one must be empty")
        positions = store.append(first)
        must(positions == sorted(set(positions)) and positions[0] > 0, "store: positions must ascend from 1")
        must(store.append([]) == [], "store: nothing appended has no positions")
        must(store.end == positions[-1], "store: the end must be the position of the newest entry")
    with closing(opened()) as store:
        entries = store.read()
        must([dataclasses.replace(e, position=0) for e in entries] == first, "store: reopened, the entries differ")
        must([e.position for e in entries] == positions, "store: reopened, the positions differ")
        must(store.end == positions[-1] and len(store) == 3, "store: reopened, the end or the count differs")
        must(store.read(positions[0]) == entries[1:], "store: reading after a position")
        must(store.read(most=2) == entries[:2] and store.read(positions[-1]) == [], "store: reading at most so many")
        must(store.read(user="ann") == [entries[0], entries[2]], "store: reading one person")
        must(store.read(item="b\\n") == entries[1:], "store: reading one item")
        must(store.read(positions[0], user="ann", item="b\\n", most=5) == entries[2:], "store: a person with an item")
        broken = Entry("ann", "a", "view", 1.0)
        object.__setattr__(broken, "item", None)
        must(_refused(lambda: store.append([first[0], broken])), "store: an entry without an item was taken")
        must(len(store) == 3 and store.end == positions[-1], "store: half of a refused batch was stored")
        must(store.remove("ann", "b\\n", "view") == 0, "store: removing another kind than there is")
        must(store.remove("ann", "b\\n", "rating") == 1, "store: removing what a person did with an item, by kind")
        must(store.read() == entries[:2], "store: removing one entry changed others")
        must(store.remove("ann", "a") == 1 and store.remove("ann", "a") == 0, "store: removing every kind")
        must(store.end == positions[-1], "store: the end went back when the newest entry was removed")
        must(store.append(first[:1])[0] > positions[-1], "store: a position was given twice")
        twice = store.append([Entry("cy", "c", "view", 1.0), Entry("cy", "c", "view", 2.0)])
        must(store.remove("cy", "c", before=twice[1]) == 1, "store: removing what stands before a position")
        must([e.position for e in store.read(user="cy")] == twice[1:], "store: the wrong entry was removed")


def _check_keys(opened: Callable[[], Store]) -> None:
    """An entry of a key that is known keeps the position it has, wherever it comes from; another event of that key is refused."""

    def of(*keys: str | None) -> list[Entry]:
        return [Entry("kim", "i", "view", 1.0 + place, key=key) for place, key in enumerate(keys)]

    with closing(opened()) as store, closing(opened()) as other:
        count = len(store)
        one, free, two, again = store.append(of("one", None, "two", "one"))
        must(again == one and one < free < two, "store: a key that stands twice in a batch is stored once")
        must(other.append(of("two", "three", "one"))[::2] == [two, one], "store: a key was stored again")
        must(len(store) == count + 4, "store: a key must be stored once")
        with suppress(Taken):
            store.append([*of("four"), Entry("lou", "i", "view", 1.0, key="one")])
            must(False, "store: a key of another event was taken")
        must(len(store) == count + 4, "store: of a batch with a key of another event something was stored")
        many = of(*(f"many{n}" for n in range(1500)))
        must(store.append(many) == store.append(many), "store: a repeated batch got other positions")
        must(len(store) == count + 1504, "store: a repeated batch was stored again")


def _check_documents(opened: Callable[[], Store]) -> None:
    """By id, by order of id, by order of change; a change has a number of its own for ever, a deletion is told."""
    bodies: dict[str, dict[str, Any]] = {
        "b": {"n": [1, 2.5, None, True], "text": "“好”\\ \0", "deep": {"a": {}}, "large": 2**60}, "a": {}, "Z": {"x": "y"},
        "é": {}, "aa": {},
    }  # fmt: skip
    with closing(opened()) as store, closing(opened()) as other:
        must(store.get("thing", "a") is None and store.page("thing") == [], "store: documents in a new store")
        must(store.last_change == 0, "store: a change in a new store")
        last = store.put("thing", bodies)
        must(other.last_change == last, "store: the newest change is not told to another connection")
        must(other.get("thing", "b") == bodies["b"], "store: a document read by another connection differs")
        must(store.get("other", "b") is None, "store: documents of two kinds are mixed")
        order = [one.id for one in other.page("thing", most=3)]
        order += [one.id for one in other.page("thing", order[-1])]
        must(order == sorted(bodies), f"store: pages must go by the code points of the ids, not {order}")
        changes = store.changed("thing")
        must([one.id for one in changes] == list(bodies), "store: changes must come in the order of the mapping")
        numbers = [one.changed for one in changes]
        must(numbers == sorted(set(numbers)) and numbers[-1] == last, "store: numbers of changes must ascend")
        must(store.changed("thing", numbers[1], 2) == changes[2:4], "store: changes after a number, at most so many")
        must(other.put("thing", {"a": {"new": 1}}) > last, "store: a new body needs a new number")
        must([one.body for one in store.changed("thing", last)] == [{"new": 1}], "store: a new body was not told")
        must(
            store.delete("thing", "a") and not store.delete("thing", "a"), "store: deleting tells whether it was there"
        )
        must(not store.delete("thing", "never"), "store: deleting what never was")
        must(other.get("thing", "a") is None, "store: a deleted document is still read")
        must("a" not in [one.id for one in other.page("thing")], "store: a deleted document is still listed")
        gone = other.changed("thing", last)
        must([(one.id, one.body) for one in gone] == [("a", None)], "store: a deletion must be told by its change")
        must(store.last_change >= gone[0].changed > last, "store: a deletion is no change")
        must(store.put("thing", {"a": {}}) > gone[0].changed, "store: a number of a change was given twice")
        must(other.get("thing", "a") == {}, "store: a document put again after its deletion")
        must(_refused(lambda: store.put("thing", {"c": {}, "d": {"x": float("nan")}})), "store: NaN is no plain JSON")
        must(_refused(lambda: store.put("thing", {"c": {}, "d": {"x": "\ud800"}})), "store: half a surrogate was taken")
        must(store.get("thing", "c") is None, "store: half of a refused batch of documents was stored")


def _check_journals(opened: Callable[[], Store]) -> None:
    with closing(opened()) as store:
        notes = [Note(1.0, {"n": 1, "text": "\t\\N\n\0"}, "ann"), Note(2.5, {"n": [2]}, None), Note(3.0, {}, "bob")]
        positions = store.note("shown", notes)
        must(positions == sorted(set(positions)) and positions[0] > 0, "store: positions of a journal must ascend")
        must(store.note("shown", []) == [], "store: no notes have no positions")
        must(store.note("decided", notes[:1])[0] > positions[-1], "store: a position of a journal was given twice")
        must(_refused(lambda: store.note("shown", [notes[0], Note(1.0, {"x": {1}})])), "store: a set is no plain JSON")
    with closing(opened()) as store:
        stored = store.notes("shown")
        must([dataclasses.replace(one, position=0) for one in stored] == notes, "store: reopened, a journal differs")
        must([one.position for one in stored] == positions, "store: reopened, a journal has other positions")
        must(store.notes("shown", positions[0], 1) == stored[1:2], "store: a journal after a position, at most so many")
        must(store.notes("never") == [], "store: a journal that never was must be empty")


def _check_together(opened: Callable[[], Store]) -> None:
    """Two connections, many threads, through group commits and past them: everybody has positions of their own, and a
    reader that follows the end of the log never misses one."""
    with closing(opened()) as one, closing(opened()) as other, closing(opened()) as third:
        start, documents = one.end, one.put("many", {"start": {}})
        got: list[tuple[str, int]] = []
        numbers: list[int] = []
        seen: list[int] = []
        writing = threading.Event()

        def append(name: str, to: Callable[[Sequence[Entry]], list[int]]) -> None:
            for n in range(12):
                names = [f"{name}-{n}-{m}" for m in range(3)]
                entries = [Entry(name, each, "view", 1.0, key=each if m else None) for m, each in enumerate(names)]
                got.extend(zip(names, to(entries), strict=True))

        def put(name: str) -> None:
            numbers.extend(other.put("many", {f"{name}-{n}": {"n": n}}) for n in range(10))

        def follow() -> None:
            while True:
                last = writing.is_set()
                seen.extend(entry.position for entry in third.read(seen[-1] if seen else start, most=50))
                if last and (seen[-1] if seen else start) >= third.end:
                    return

        with closing(Committer(one)) as first, closing(Committer(other)) as second:
            ways = [first.append] * 4 + [second.append] * 4 + [one.append, other.append]
            work = [threading.Thread(target=append, args=[f"w{n}", way]) for n, way in enumerate(ways)]
            work += [threading.Thread(target=put, args=[f"p{n}"]) for n in range(2)]
            reader = threading.Thread(target=follow)
            for thread in (*work, reader):
                thread.start()
            for thread in work:
                thread.join()
            writing.set()
            reader.join()
        stored = {entry.item: entry.position for entry in other.read(start)}
        must(len(got) == len(ways) * 36 == len(stored), f"store: of {len(ways) * 36} entries {len(stored)} are stored")
        must(dict(got) == stored, "store: a writer was told a position that another's entry has")
        must(seen == sorted(stored.values()), "store: who followed the end of the log missed entries, or saw one twice")
        must(len(set(numbers)) == 20 and min(numbers) > documents, "store: two changes have one number")
        must(len(one.changed("many", documents)) == 20, "store: a document put by another thread was lost")


def _check_erased(opened: Callable[[], Store], folder: Path | None) -> None:
    """A person is gone from the log, the documents and the journals; numbers do not come back."""
    secret = "Zanzibar-words"
    with closing(opened()) as store:
        others = len(store)
        store.note("shown", [Note(1.0, {"x": secret}, secret), Note(1.0, {}, "ann")])
        shown = [one.user for one in store.notes("shown")]
        (kept, gone) = store.append([Entry("bob", "b", "view", 1.0), Entry(secret, secret, "view", 1.0, text=secret)])
        store.put("users", {"bob": {}})
        number = store.put("users", {secret: {"x": secret}})
        must(store.erase(secret) == 1 and store.erase(secret) == 0, "store: erasing tells how many entries there were")
        must(len(store) == others + 1 and store.read(user=secret) == [], "store: an erased person's entries are read")
        must(store.read(kept - 1)[0].user == "bob", "store: erasing one person changed another's position")
        must([one.id for one in store.page("users")] == ["bob"], "store: an erased person's document is there")
        left = [one.user for one in store.notes("shown")]
        must(
            left == [user for user in shown if user != secret],
            "store: an erased person's notes are there, or more are gone",
        )
        must(store.end == gone, "store: the end went back when the newest entry was erased")
    if folder is not None:
        data = b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())
        must(secret.encode() not in data, "store: the bytes of an erased person are still in the files")
    with closing(opened()) as store:
        must(store.append([Entry("cy", "c", "view", 3.0)])[0] > gone, "store: a position was given twice")
        must(store.put("users", {"cy": {}}) > number, "store: a number of a change was given twice after an erasure")


def _refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except SensoriumError as error:
        return "\n" not in str(error)
    return False


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
