"""From a query to a ranking, on one page: history → allowed → candidates → scores → order → reasons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from sensorium.arrays import Bits, Floats, Rows, top
from sensorium.data.catalog import Catalog
from sensorium.data.events import KINDS, Events, Histories
from sensorium.data.ids import Ids
from sensorium.errors import RecipeError, ShapeError
from sensorium.index.cells import Asker, Cells, Found
from sensorium.index.exact import Exact
from sensorium.index.index import EXACT_UP_TO, Index
from sensorium.models.model import Features, Model
from sensorium.models.steered import steered
from sensorium.rank.arrange import EXPLORED, PINNED, POOL, arranged
from sensorium.rank.candidates import FOUND, Candidates, candidates, drawn_from, well_known, wide
from sensorium.rank.crowd import Crowd
from sensorium.rank.explain import Scales, reasons_of, taken_apart
from sensorium.rank.filters import Mask, Masks, allowed, fulfilled
from sensorium.rank.history import Happened, acts_of, history_of, rejected, usual_rating
from sensorium.rank.lookup import Lookup, look_up
from sensorium.rank.query import Query, Ranking, Recommendation, Rule, Why, parse_rule
from sensorium.rank.wishes import boosted, pinned, values_of
from sensorium.recipe import Answer as Usual
from sensorium.stages import mark

# An answer on its way: it asks the cells of a model, if there are any, and goes on with what they find.
Steps = Generator[tuple[Cells, Model, Asker], Found, Ranking]


class Answering(Protocol):
    """What answering needs of a snapshot. `hidden`: rows that are never shown (withdrawn, forgotten)."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def user_ids(self) -> Ids: ...
    @property
    def events(self) -> Events: ...
    @property
    def features(self) -> Features: ...
    @property
    def model(self) -> Model: ...
    @property
    def index(self) -> Index | Cells | None: ...
    @property
    def hidden(self) -> Collection[int]: ...


def asked(usual: Usual, wishes: Mapping[str, Any]) -> Query:
    """The query of some wishes, what is None or not named being as `usual`. **Raises** RecipeError."""
    named = {name: value for name, value in wishes.items() if value is not None}
    named["rules"] = tuple(map(_rule, _joined("rules", usual.rules, named.get("rules", ()))))
    named["exclude"] = _joined("exclude", usual.exclude, named.get("exclude", ()))
    return Query(**{"k": usual.k, "repeat": usual.repeat, "diversity": usual.diversity, **named})


def answer(
    snapshot: Answering, query: Query, live: Iterable[Happened] = (), *, lookup: Lookup | None = None,
    masks: Masks | None = None, weights: Mapping[str, float] = KINDS, exact: bool = False,
    crowd: Callable[[], Crowd] | None = None,
) -> Ranking:  # fmt: skip
    """The ranking for one query. `live`: the log's entries of this person after the snapshot's position.

    A known person, a new one with a few live events, a session (`like`), an item nobody saw and a stranger go the same
    way: a history, perhaps empty, is scored. `lookup` and `masks` save building the tables again for every query;
    `weights` are those of the recipe's kinds. `exact` scores every allowed item, whatever that takes. `crowd` tells what
    people choose by now, asked only where that counts; without it, it is as of the snapshot.

    **Raises** UnknownId for an item under `like` or `unlike` that is not in the catalogue, RecipeError for a rule that
    names what no item has. **Cost** one `score` of one history for all items up to 50,000, for some thousands beyond.
    """
    several = Several([(copy_context(), answering(
        snapshot, query, live, lookup=lookup, masks=masks, weights=weights, exact=exact, crowd=crowd
    ))])  # fmt: skip
    return several.one()


class Several:
    """Answers that are given together: what those upon the same model ask of its cells is asked at once. Each goes its steps
    in a context of its own, and fails alone.

    `searched` may run in another thread, which holds the interpreter for moments only; then `go_on`, until nobody is `asking`.
    """

    def __init__(self, some: Sequence[tuple[Context, Steps]]) -> None:
        self._some = some
        self._told: dict[int, Ranking | Exception] = {}
        self._asking: dict[int, tuple[Cells, Model, Asker]] = {}
        for place in range(len(some)):
            self._step(place, None)

    @property
    def asking(self) -> bool:
        """Whether some wait for what cells find."""
        return bool(self._asking)

    @property
    def told(self) -> list[Ranking | Exception]:
        """The answers, an error in the place of each that failed."""
        return [self._told[place] for place in range(len(self._some))]

    def searched(self) -> dict[int, Found]:
        """What the cells of one model find."""
        cells, model, _ = next(iter(self._asking.values()))
        askers = {place: asker for place, (_, asked, asker) in self._asking.items() if asked is model}
        return dict(zip(askers, cells.search(list(askers.values())), strict=True))

    def go_on(self, found: Mapping[int, Found]) -> None:
        """The steps after that."""
        for place, one in found.items():
            del self._asking[place]
            self._step(place, one)

    def finished(self) -> list[Ranking | Exception]:
        """All that is left, here and now, and what is told."""
        while self.asking:
            self.go_on(self.searched())
        return self.told

    def one(self) -> Ranking:
        """The first answer. **Raises** what it failed with."""
        first = self.finished()[0]
        if isinstance(first, Exception):
            raise first
        return first

    def _step(self, place: int, found: Found | None) -> None:
        context, steps = self._some[place]
        try:
            self._asking[place] = context.run(steps.send, found)  # type: ignore[arg-type]
        except StopIteration as end:
            self._told[place] = end.value
        except Exception as error:
            self._told[place] = error


def answering(
    snapshot: Answering, query: Query, live: Iterable[Happened] = (), *, lookup: Lookup | None = None,
    masks: Masks | None = None, weights: Mapping[str, float] = KINDS, exact: bool = False,
    crowd: Callable[[], Crowd] | None = None,
) -> Steps:  # fmt: skip
    """`answer`, in steps."""
    catalog, features = snapshot.catalog, snapshot.features
    tables = lookup or look_up(catalog, snapshot.events)
    crowd = crowd or (lambda: tables.crowd)
    notes: list[str] = []
    history = _history(snapshot, query, live, tables, weights, notes)
    mark("history")
    without = _without(snapshot, query, history, weights, notes)
    masks = masks or masks_of(snapshot, tables)
    pins = pinned(snapshot, query, tables.columns, notes)
    keep = masks.allowed(query.rules, without, list(pins))
    mark("filter")
    model, line = steered(snapshot.model, query.modalities)
    notes += [line] if line else []
    kind = type(snapshot.model).__name__
    scales: Scales = ()
    pool, scores = Candidates(np.zeros(0, np.int64), np.zeros(0, np.int8)), np.zeros(0, np.float32)
    plain = not (pins or query.caps or query.exploration or query.boosts)
    if query.sources:
        pool = _drawn(snapshot, query, history, masks.by_row(keep), tables, crowd, notes)
    drawn = len(pool.rows) >= query.k
    if drawn:
        mark("candidates")
    elif isinstance(snapshot.index, Cells) and not exact:
        found = yield _asker(snapshot, snapshot.index, history, keep, query.k)
        pool, scores = _pooled(found, ordered=not plain)
        scales = found.scales
    else:
        pool = _candidates(snapshot, history, masks.by_row(keep), tables, query.k, exact)
        mark("candidates")
    if not len(pool.rows):
        why = (
            "no item fulfils the rules and is not yet seen" if query.rules else "every item is seen, hidden or excluded"
        )
        return Ranking((), kind, 0, (*notes, why))
    if not len(scores) or model is not snapshot.model:
        scores, scales = _scores(model, history, pool.rows, len(catalog)), ()
    mark("score")
    if len(scores) > 1 and scores.min() == scores.max():  # the model has nothing to say of this history
        notes.append("nothing in the history tells items apart: popular items are shown")
        now, cells = crowd(), isinstance(snapshot.index, Cells) and not exact
        if not drawn and (cells or pool.found.any()):  # found in no order, or as of the snapshot
            pool = well_known(now, tables, masks.by_row(keep), query.k)
        scores = (now.trend if tuple(query.sources) == ("trending",) else now.popularity)[pool.rows]
        history = history.only(np.zeros(len(history.item), bool))
    pool, scores = _with_pins(pool, scores, list(pins), model, history)
    count = len(pool.rows)
    extra = boosted(query.boosts, tables.columns, pool.rows, scores)
    told = scores + extra.sum if query.boosts else scores
    if plain:  # who cannot be in the list is let go
        some = top(told, max(POOL, 10 * query.k))
        some = some[np.argsort(pool.rows[some])]
        pool, told, scores = Candidates(pool.rows[some], pool.found[some]), told[some], scores[some]
    list_ = arranged(
        told, features.items.values[pool.rows] if query.diversity else None, query.k, diversity=query.diversity,
        pins={int(np.searchsorted(pool.rows, row)): place - 1 for row, place in pins.items()},
        values=values_of(catalog, pool.rows, query.caps, tables.columns), caps=query.caps,
        exploration=query.exploration, rng=np.random.default_rng(query.seed) if query.exploration else None,
    )  # fmt: skip
    first = list_.place
    ways = [
        "pinned" if how == PINNED else "explored" if how == EXPLORED else FOUND[source]
        for how, source in zip(list_.how.tolist(), pool.found[first].tolist(), strict=True)
    ]
    items = _told(
        snapshot, model, history, pool.rows[first], scores[first], ways, list_.propensity.tolist(),
        scales if query.explain else None, notes,
    )  # fmt: skip
    if query.boosts:
        items = tuple(
            extra.added(one, place, explain=query.explain) for one, place in zip(items, first.tolist(), strict=True)
        )
    mark("rerank")
    return Ranking(items, kind, count, tuple(notes))


def why(
    snapshot: Answering, query: Query, item: str, live: Iterable[Happened] = (), *, lookup: Lookup | None = None,
    weights: Mapping[str, float] = KINDS, crowd: Callable[[], Crowd] | None = None,
) -> Why:  # fmt: skip
    """Why an item stands where it does for this query, wherever that is: also for one that is not shown, and why not.

    **Raises** as `answer`, and UnknownId for an item that is not in the run. **Cost** as `answer`, all items scored.
    """
    catalog = snapshot.catalog
    row = catalog.ids.row(item)
    tables = lookup or look_up(catalog, snapshot.events)
    crowd = crowd or (lambda: tables.crowd)
    notes: list[str] = []
    history = _history(snapshot, query, live, tables, weights, notes)
    without = _without(snapshot, query, history, weights, notes)
    keep = allowed(len(catalog), tables.columns, query.rules, without=[*without.tolist(), *snapshot.hidden])
    barred = [f"rule {rule}" for rule in query.rules if not fulfilled(rule, tables.columns, len(catalog))[row]]
    barred += ["hidden"] if row in snapshot.hidden else []
    barred += ["excluded, or named in the query"] if item in {*query.exclude, *query.like, *query.unlike} else []
    barred += ["seen or rejected already"] if not keep[row] and not barred else []
    model, line = steered(snapshot.model, query.modalities)
    notes += [line] if line else []
    rows = np.union1d(np.flatnonzero(keep), [row])
    scores = _scores(model, history, rows, len(catalog))
    if len(scores) > 1 and scores.min() == scores.max():  # as in `answer`
        scores = crowd().popularity[rows]
        history = history.only(np.zeros(len(history.item), bool))
    place = int(np.searchsorted(rows, row))
    extra = boosted(query.boosts, tables.columns, rows, scores)
    told = scores + extra.sum
    bare = _told(snapshot, model, history, rows[[place]], scores[[place]], [""], [1.0], (), notes)[0]
    full = extra.added(bare, place, explain=True)
    before = int((told[keep[rows]] > told[place]).sum()) + 1
    return Why(
        item, full.title, full.score, full.reasons, full.base, None if barred else before, int(keep.sum()),
        tuple(barred), type(snapshot.model).__name__, tuple(notes),
    )  # fmt: skip


def _with_pins(
    pool: Candidates, scores: Floats, rows: Sequence[int], model: Model, history: Histories
) -> tuple[Candidates, Floats]:
    """The candidates with the pinned rows among them, which a large catalogue's sources may not have named."""
    if not rows:
        return pool, scores
    lacking = np.setdiff1d(np.array(rows, np.int64), pool.rows)
    if not len(lacking):
        return pool, scores
    every = np.concatenate([pool.rows, lacking])
    order = np.argsort(every, kind="stable")
    own = model.score(history, lacking)[0].astype(scores.dtype)
    found = np.concatenate([pool.found, np.zeros(len(lacking), np.int8)])
    return Candidates(every[order], found[order]), np.concatenate([scores, own])[order]


def _history(
    snapshot: Answering, query: Query, live: Iterable[Happened], tables: Lookup, weights: Mapping[str, float],
    notes: list[str],
) -> Histories:  # fmt: skip
    """The history of the person, of the session, or of nobody."""
    items, events = snapshot.catalog.ids, snapshot.events
    user = int(snapshot.user_ids.rows([query.user])[0]) if query.user is not None else -1
    usual = usual_rating(events, tables, user)
    acts, unknown = acts_of(live, items, usual=usual, scale=tables.scale, weights=weights)
    if unknown:
        notes.append(f"{len(unknown)} live events are for items not in this run, such as {unknown[0]!r}")
    like, unlike = ([items.row(name) for name in names] for names in (query.like, query.unlike))
    history = history_of(
        events, tables, user, acts=acts, people=snapshot.features.people, like=like, unlike=unlike, now=query.now,
        weights=weights,
    )  # fmt: skip
    if user < 0 and query.user is not None and not acts:
        notes.append(f"no events of user {query.user!r} in this run: answered as a stranger")
    return history


def _without(
    snapshot: Answering, query: Query, history: Histories, weights: Mapping[str, float], notes: list[str]
) -> Rows:
    """Rows that may not be recommended whatever their score."""
    ids = snapshot.catalog.ids
    seen = rejected(history, weights) if query.repeat else history.item.astype(np.int64)
    if not (query.exclude or query.like or query.unlike):
        return seen
    excluded = ids.rows(query.exclude)
    if (excluded < 0).any():
        notes.append(f"{int((excluded < 0).sum())} excluded ids are not in this run")
    named = ids.rows([*query.like, *query.unlike])
    return np.concatenate([excluded[excluded >= 0], named, seen])


def masks_of(snapshot: Answering, lookup: Lookup) -> Masks:
    """Which items rules keep, in the order in which the snapshot's index looks at them."""
    order = snapshot.index.rows if isinstance(snapshot.index, Cells) else None
    return Masks(len(snapshot.catalog), lookup.columns, snapshot.hidden, order)


def _asker(snapshot: Answering, cells: Cells, history: Histories, keep: Bits, k: int) -> tuple[Cells, Model, Asker]:
    """What the history asks of the cells of the model (`keep` in their order)."""
    pulls = snapshot.model.pulls(history)  # type: ignore[attr-defined]
    mark("history")
    return cells, snapshot.model, Asker(pulls, history.item.astype(np.int64), keep, wide(k) * cells.most)


def _pooled(found: Found, *, ordered: bool) -> tuple[Candidates, Floats]:
    """What the cells found, with scores (C,); the rows ascending where that is needed, for to order thousands takes as long as
    to score them."""
    source = np.full(len(found.rows), FOUND.index("all" if found.all else "near"), np.int8)
    order = np.argsort(found.rows) if ordered else slice(None)
    return Candidates(found.rows[order], source), found.scores[order]


def _drawn(
    snapshot: Answering, query: Query, history: Histories, keep: Mask, tables: Lookup,
    crowd: Callable[[], Crowd], notes: list[str],
) -> Candidates:  # fmt: skip
    """The candidates of the sources that the query names; `keep` by row."""
    items, index = snapshot.features.items, snapshot.index
    if isinstance(index, Cells):
        index = Exact(items.values, items.present)
    counts = not {"popular", "trending"}.isdisjoint(query.sources)
    pool = drawn_from(
        query.sources, history, snapshot.model, snapshot.features, snapshot.events, tables,
        index, keep, query.k, crowd=crowd() if counts else tables.crowd,
    )  # fmt: skip
    if len(pool.rows) < query.k:
        notes.append(f"{', '.join(query.sources)}: only {len(pool.rows)} found, others are shown too")
    return pool


def _candidates(
    snapshot: Answering, history: Histories, keep: Mask, tables: Lookup, k: int, exact: bool
) -> Candidates:  # fmt: skip
    """All allowed items, or candidates among very many; `keep` by row."""
    index = None if isinstance(snapshot.index, Cells) else snapshot.index
    return candidates(
        history, snapshot.model, snapshot.features, snapshot.events, tables, index, keep, k,
        all_up_to=len(keep) if exact else EXACT_UP_TO,
    )  # fmt: skip


def _scores(model: Model, history: Histories, rows: Rows, items: int) -> Floats:
    """The scores (C,) of the candidates; nearly all of them are quicker scored as all."""
    scores = model.score(history, rows if len(rows) < items / 2 else None)[0]
    if len(rows) < items / 2:
        return scores
    if len(scores) != items:
        raise ShapeError(
            f"the model knows {len(scores)} items, the catalogue has {items}; extend the model or train again"
        )
    return scores[rows]


def _told(
    snapshot: Answering, model: Model, history: Histories, rows: Rows, scores: Floats, found: Sequence[str],
    shares: Sequence[float], scales: Scales | None, notes: list[str],
) -> tuple[Recommendation, ...]:  # fmt: skip
    """The chosen rows in outside ids, with their reasons, where the scales by which they were scored are given."""
    catalog = snapshot.catalog
    names = [(catalog.ids[row], catalog.title(row)) for row in rows.tolist()]
    told = zip(names, scores.tolist(), found, shares, strict=True)
    if scales is None:
        return tuple(Recommendation(*name, score, how, propensity=share) for name, score, how, share in told)
    if not len(history.item):
        return tuple(Recommendation(*name, score, how, (), score, share) for name, score, how, share in told)
    parts, way = taken_apart(model, history, rows, scores, snapshot.features, scales)
    if way == "occlusion":
        notes.append("reasons were found by leaving events out; their sources by likeness of content")
    entries = []
    for place, (name, score, how, share) in enumerate(told):
        reasons, base = reasons_of(parts, place, score, history, catalog)
        entries.append(Recommendation(*name, score, how, reasons, base, share))
    return tuple(entries)


def _joined(name: str, usual: Sequence[Any], asked: Any) -> tuple[Any, ...]:
    """What the recipe says and what is asked. **Raises** RecipeError for a single word in the place of a list."""
    if isinstance(asked, str):
        raise RecipeError(f"query: {name} is the single word {asked!r}; give a list of them")
    return (*usual, *asked)


def _rule(rule: Rule | str) -> Rule:
    return _parsed(rule) if isinstance(rule, str) else rule


@lru_cache(maxsize=4096)
def _parsed(line: str) -> Rule:
    return parse_rule(line)
