"""The gate: whether a candidate snapshot may answer in place of the present one. It asks both as people would be served.

What must hold of any snapshot is looked at first; then both foretell the newest events, which neither has learnt, for
the same people, each with the history that people would have had.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sensorium.answer import answer
from sensorium.arrays import unit
from sensorium.evaluate.compare import paired
from sensorium.feedback.store import Entry
from sensorium.rank.query import Query
from sensorium.settings import within

LogOf = Callable[[str, int], Sequence[Entry]]  # a person's entries after a position


@dataclass(frozen=True)
class Bounds:
    """What a candidate is held to."""

    people: int = 300  # who are asked, at most
    k: int = 10
    allowance: float = 0.02  # of the present NDCG, which a candidate may lose even where it is no chance
    coverage: float = 0.5  # of the distinct items that the present version shows these people
    spread: float = 0.5  # of the mean distance between the items of a list
    full: float = 0.95  # of the places that the present version fills
    slower: float = 3.0  # times the median time of the present version, and `slack_seconds`
    slack_seconds: float = 0.02
    larger: float = 4.0  # times the bytes of the present version, and `slack_bytes`
    slack_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        within(self, people=(1, 100_000), k=(1, 1000), allowance=(0, 1), coverage=(0, 1), spread=(0, 1), full=(0, 1))


@dataclass(frozen=True)
class Verdict:
    """Whether it passed; if not, why, a line each; and what was measured."""

    passed: bool
    reasons: tuple[str, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)


def judged(
    present: Any, candidate: Any, asked: Sequence[Entry], log: LogOf, *, end: int, bounds: Bounds,
    sizes: Mapping[str, int] | None = None, seed: int = 0,
) -> Verdict:  # fmt: skip
    """The verdict on a candidate; both are snapshots ready for answering. Never raises: what cannot answer is refused.

    `asked` are the newest events, after both positions; `end` is that of the log, `sizes` the bytes of `present` and
    `candidate` on disk. **Cost** two answers for each of `bounds.people`, three for a tenth of them.
    """
    reasons = [why for check in (_form, _rows, _numbers) for why in _tried(check, present, candidate)]
    reasons += _placed(present, candidate, asked, end) + _sized(sizes or {}, bounds)
    if reasons:
        return Verdict(False, tuple(reasons))
    figures: dict[str, Any] = {"events": len(asked), "bytes": dict(sizes or {})}
    try:
        people = _people(present, asked, bounds.people, seed)
        reasons += _histories(present, candidate, people, log)
        reasons += _answers(present, candidate, people, asked, log, bounds, figures, seed)
    except Exception as error:  # whatever a candidate does instead of answering, the present version goes on
        reasons.append(f"it cannot answer: {type(error).__name__}: {' '.join(str(error).split())}")
    return Verdict(not reasons, tuple(reasons), figures)


def _tried(check: Callable[[Any, Any], Iterator[str]], present: Any, candidate: Any) -> list[str]:
    try:
        return list(check(present, candidate))
    except Exception as error:
        return [f"it is not whole: {type(error).__name__}: {' '.join(str(error).split())}"]


# --- what must hold of any snapshot -------------------------------------------------------------------------------


def _form(present: Any, candidate: Any) -> Iterator[str]:
    """It was made by the same recipe, and everything in it lines up."""
    if candidate.recipe != present.recipe:
        yield "it was made by another recipe"
    items, people = len(candidate.catalog), len(candidate.user_ids)
    lengths = {
        "the fused space": len(candidate.features.items), "the events' items": candidate.events.items,
        **{f"the view {name}": len(view) for name, view in candidate.views.items()},
    }  # fmt: skip
    for what, length in lengths.items():
        if length != items:
            yield f"{what}: {length} rows for {items} items"
    if candidate.events.users != people:
        yield f"its events are of {candidate.events.users} people, it knows {people}"
    if candidate.features.people is not None and len(candidate.features.people) != people:
        yield f"vectors of {len(candidate.features.people)} people, it knows {people}"
    for name, count in (("item", items), ("user", people)):
        column = getattr(candidate.events, name)
        if len(column) and (int(column.min()) < 0 or int(column.max()) >= count):
            yield f"an event names {name} {int(column.max())} of {count}"
    if any(not 0 <= row < items for row in candidate.snapshot.hidden):
        yield "a hidden row is no item"


def _rows(present: Any, candidate: Any) -> Iterator[str]:
    """Nobody and nothing that was known, learnt or hidden is missing."""
    bare = set(present.bare)
    gone = [
        name for row, name in enumerate(present.catalog.ids) if row not in bare and name not in candidate.catalog.ids
    ]
    if gone:
        yield f"{len(gone)} items are missing, such as {gone[0]!r}"
    lost = sum(name not in candidate.user_ids for name in present.user_ids)
    if lost:
        yield f"{lost} people are missing"
    ids, hidden = candidate.catalog.ids, set(candidate.snapshot.hidden)
    shown = [
        name for name in (present.catalog.ids[row] for row in present.snapshot.hidden)
        if name in ids and ids.row(name) not in hidden
    ]  # fmt: skip
    if shown:
        yield f"{len(shown)} hidden items would be shown again, such as {shown[0]!r}"


def _numbers(present: Any, candidate: Any) -> Iterator[str]:
    """Everything is a number, and what has content is somewhere."""
    spaces = {"the fused space": candidate.features.items, **{f"the view {n}": v for n, v in candidate.views.items()}}
    for what, vectors in spaces.items():
        if not np.isfinite(vectors.values).all():
            yield f"{what} holds numbers that are not finite"
    for what, before in {"the fused space": present.features.items, **present.views}.items():
        after = candidate.features.items if what == "the fused space" else candidate.views.get(what)
        had, has = int(before.present.sum()), int(after.present.sum()) if after is not None else 0
        if what != "reviews" and has < had:
            yield f"{what}: {has} items have it, {had} had"
    weight = candidate.events.weight
    if not (np.isfinite(weight).all() and np.isfinite(candidate.events.time).all()):
        yield "events have weights or times that are not finite"


def _placed(present: Any, candidate: Any, asked: Sequence[Entry], end: int) -> list[str]:
    here, there = candidate.snapshot.position, present.snapshot.position
    if here < there:
        return [f"it has read the log up to {here}, the present version up to {there}"]
    if here > end or any(entry.position <= here for entry in asked):
        return [f"it says that it has read the log up to {here}: beyond what it could learn from"]
    if candidate.snapshot.documents < present.snapshot.documents:
        return ["it knows fewer of the items' documents than the present version"]
    return []


def _sized(sizes: Mapping[str, int], bounds: Bounds) -> list[str]:
    most = sizes.get("present", 0) * bounds.larger + bounds.slack_bytes
    if sizes.get("candidate", 0) > most:
        return [
            f"it is {sizes['candidate']:,} bytes, {sizes['candidate'] / max(sizes['present'], 1):.1f} times the present"
        ]
    return []


# --- how it answers -----------------------------------------------------------------------------------------------


def _people(present: Any, asked: Sequence[Entry], most: int, seed: int) -> list[str]:
    """Those of the newest events, then others by chance."""
    rng = np.random.default_rng(seed)
    newest = list(dict.fromkeys(entry.user for entry in asked))
    if len(newest) > most:
        newest = [newest[place] for place in np.sort(rng.choice(len(newest), most, replace=False))]
    known = len(present.user_ids)
    others = [present.user_ids[int(row)] for row in rng.permutation(known)[:most]]
    return list(dict.fromkeys([*newest, *others]))[:most]


def _histories(present: Any, candidate: Any, people: Sequence[str], log: LogOf) -> list[str]:
    """Each person has done what the tables and the log tell, no less, and nothing that was never known."""
    base, upto = present.snapshot.base, candidate.snapshot.position
    wrong = 0
    for person, tables, had, has in zip(
        people, _deeds(present, people, tables=True), _deeds(present, people), _deeds(candidate, people), strict=True
    ):
        told = tables + Counter(e.item for e in log(person, base) if e.position <= upto)
        wrong += bool(told - has) or bool(has - (told | had))
    return [f"{wrong} of {len(people)} people have another history than the log tells"] if wrong else []


def _deeds(snapshot: Any, people: Sequence[str], *, tables: bool = False) -> list[Counter[str]]:
    """What each person did by the snapshot; by its `tables` alone, without what it has from the log."""
    events, ids = snapshot.events, snapshot.catalog.ids
    rows = snapshot.user_ids.rows(people)
    mine = np.isin(events.user, rows[rows >= 0])
    if tables and events.logged is not None:
        mine &= events.logged == 0
    found: dict[int, Counter[str]] = {}
    for user, item in zip(events.user[mine].tolist(), events.item[mine].tolist(), strict=True):
        found.setdefault(user, Counter())[ids[item]] += 1
    return [found.get(int(row), Counter()) for row in rows]


def _answers(
    present: Any, candidate: Any, people: Sequence[str], asked: Sequence[Entry], log: LogOf, bounds: Bounds,
    figures: dict[str, Any], seed: int,
) -> list[str]:  # fmt: skip
    until = asked[0].position - 1 if asked else candidate.snapshot.position
    targets: dict[str, set[str]] = {}
    for entry in asked:
        if present.weights.get(entry.kind, 1.0) > 0:
            targets.setdefault(entry.user, set()).add(entry.item)
    lists: dict[str, list[tuple[str, ...]]] = {}
    seconds: dict[str, float] = {}
    reasons: list[str] = []
    for name, version in (("present", present), ("candidate", candidate)):
        lists[name], took = [], []
        for person in people:
            happened = [e for e in log(person, version.snapshot.position) if e.position <= until]
            began = time.perf_counter()
            ranking = _answered(version, person, happened, bounds.k)
            took.append(time.perf_counter() - began)
            lists[name].append(tuple(one.item for one in ranking.items))
            if name == "candidate" and not np.isfinite([one.score for one in ranking.items]).all():
                return ["it gives scores that are not finite"]
        seconds[name] = float(np.median(took)) if took else 0.0
    for person, before in list(zip(people, lists["candidate"], strict=True))[:: max(len(people) // 30, 1)]:
        happened = [e for e in log(person, candidate.snapshot.position) if e.position <= until]
        if tuple(one.item for one in _answered(candidate, person, happened, bounds.k).items) != before:
            reasons.append("asked the same again, it answers otherwise")
            break
    figures["seconds"] = {name: round(value, 6) for name, value in seconds.items()}
    if seconds["candidate"] > bounds.slower * seconds["present"] + bounds.slack_seconds:
        reasons.append(
            f"an answer takes {seconds['candidate']:.3f} s, of the present version {seconds['present']:.3f} s"
        )
    reasons += _lists(present, lists, bounds, figures)
    reasons += _better(people, lists, targets, bounds, figures, seed)
    return reasons


def _answered(version: Any, person: str, happened: Sequence[Entry], k: int) -> Any:
    usual = version.made_from.answer
    query = Query(user=person, k=k, repeat=usual.repeat)
    return answer(version, query, happened, lookup=version.lookup, weights=version.weights)


def _lists(
    present: Any, lists: Mapping[str, Sequence[Sequence[str]]], bounds: Bounds, figures: dict[str, Any]
) -> list[str]:  # fmt: skip
    """The lists are as full, show as much of the catalogue, and are as mixed as those of the present version, nearly."""
    filled = {name: sum(map(len, some)) for name, some in lists.items()}
    shown = {name: len({item for one in some for item in one}) for name, some in lists.items()}
    spread = {name: _spread(present, some) for name, some in lists.items()}
    figures |= {"items_shown": shown, "spread": {name: round(value, 4) for name, value in spread.items()}}
    reasons = []
    empty = sum(1 for before, after in zip(lists["present"], lists["candidate"], strict=True) if before and not after)
    if empty or filled["candidate"] < bounds.full * filled["present"]:
        reasons.append(f"{empty} lists are empty, {filled['candidate']} of {filled['present']} places are filled")
    if shown["candidate"] < bounds.coverage * shown["present"]:
        reasons.append(f"it shows {shown['candidate']} different items, the present version {shown['present']}")
    if spread["candidate"] < bounds.spread * spread["present"]:
        reasons.append(
            f"its lists are of one kind: mean distance {spread['candidate']:.3f}, of the present version "
            f"{spread['present']:.3f}"
        )
    return reasons


def _spread(present: Any, lists: Sequence[Sequence[str]]) -> float:
    """The mean cosine distance between two items of a list, in the present version's space."""
    space = present.features.items
    distances = []
    for one in lists:
        rows = present.catalog.ids.rows(one)
        vectors = unit(space.values[[row for row in rows if row >= 0 and space.present[row]]])
        if len(vectors) > 1:
            near = vectors @ vectors.T
            distances.append(1 - (near.sum() - np.trace(near)) / (len(vectors) * (len(vectors) - 1)))
    return float(np.mean(distances)) if distances else 0.0


def _better(
    people: Sequence[str], lists: Mapping[str, Sequence[Sequence[str]]], targets: Mapping[str, set[str]],
    bounds: Bounds, figures: dict[str, Any], seed: int,
) -> list[str]:  # fmt: skip
    """By NDCG over the same people, it is no worse than chance allows."""
    gains = {
        name: np.array(
            [_ndcg(one, targets[person]) for person, one in zip(people, some, strict=True) if person in targets]
        )
        for name, some in lists.items()
    }
    if not len(gains["present"]):
        return []
    gap = paired(gains["candidate"], gains["present"], seed=seed)
    before, after = (float(gains[name].mean()) for name in ("present", "candidate"))
    figures["ndcg"] = {
        "present": round(before, 6), "candidate": round(after, 6), "difference": round(gap.difference, 6),
        "low": round(gap.low, 6), "high": round(gap.high, 6), "people": gap.people,
    }  # fmt: skip
    if gap.high < 0 and -gap.difference > bounds.allowance * before:
        return [f"it foretells the newest events worse: NDCG {after:.4f}, the present version {before:.4f}"]
    return []


def _ndcg(items: Sequence[str], targets: set[str]) -> float:
    gain = sum(1 / np.log2(place + 2) for place, item in enumerate(items) if item in targets)
    return float(gain / sum(1 / np.log2(place + 2) for place in range(min(len(targets), len(items)) or 1)))
