"""A version made ready for answering: a snapshot with its index and its tables, which one swap replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sensorium import snapshot as snapshots
from sensorium.answer import answer, masks_of
from sensorium.arrays import Rows
from sensorium.data.events import KINDS
from sensorium.data.prepare import SYNONYMS, folded, kind_weight
from sensorium.errors import RecipeError
from sensorium.index.cells import Cells, cells_by, cells_of
from sensorium.index.index import EXACT_UP_TO, Index, index_of
from sensorium.models.model import Pulls
from sensorium.rank.crowd import Following, Stored
from sensorium.rank.filters import Masks
from sensorium.rank.lookup import Lookup, look_up
from sensorium.rank.query import Query
from sensorium.recipe import Recipe, read_recipe_text
from sensorium.snapshot import Snapshot

PRESETS = 32  # weights of a blend's members that are kept ready
SWIFT = 250_000  # items up to which an answer through cells takes about a millisecond


@dataclass(frozen=True, eq=False)
class Live:
    """A snapshot made ready for answering: with its index and its tables. This is what one swap replaces."""

    snapshot: Snapshot
    name: str = ""  # of its folder under snapshots/, "" where the run is in memory alone

    @cached_property
    def index(self) -> Index | Cells | None:
        """None up to 50,000 items, where scoring all is exact and quick enough."""
        items, model = self.snapshot.features.items, self.snapshot.model
        if len(items) <= EXACT_UP_TO or not items.present.any():
            return None
        tables = model.tables() if isinstance(model, Pulls) else None
        if tables is None:
            return index_of(items.values, items.present)
        known = self.snapshot.cells
        return cells_of(tables) if known is None else cells_by(tables, known)

    @cached_property
    def masks(self) -> Masks:
        """Which items the rules keep."""
        return masks_of(self, self.lookup)

    @cached_property
    def lookup(self) -> Lookup:
        """Who did what, and the attributes by column."""
        return look_up(self.snapshot.catalog, self.snapshot.events)

    @cached_property
    def following(self) -> Following:
        """What the crowd chooses, from the snapshot on."""
        now = self.snapshot
        return Following(self.lookup.crowd, now.catalog.ids, self.weights, now.position)

    @property
    def searched(self) -> bool:
        """Whether an answer is a search through cells: compiled code for the most part, which does not hold the interpreter."""
        return self.warm and isinstance(self.index, Cells)

    @property
    def swift(self) -> bool:
        """Whether that takes so little time that handing it to a thread would cost as much."""
        return self.searched and len(self.snapshot.catalog) <= SWIFT

    @property
    def warm(self) -> bool:
        """Whether the tables are there, so that an answer does not wait for them."""
        return "masks" in self.__dict__

    @cached_property
    def made_from(self) -> Recipe:
        """The recipe of the run."""
        return read_recipe_text(self.snapshot.recipe)

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """What one event of each kind weighs, as in training."""
        given = {folded(kind): weight for kind, weight in self.made_from.kind_weights().items()}
        return {kind: kind_weight(kind, given) for kind in (*KINDS, *SYNONYMS, *given)}

    @cached_property
    def hidden(self) -> frozenset[int]:
        """Rows that are never shown."""
        return frozenset(self.snapshot.hidden)

    def warmed(self) -> Live:
        """Itself, with its tables made: so the first answer after a swap is as quick as the others."""
        for table in ("index", "lookup", "made_from", "weights", "hidden", "following", "masks"):
            getattr(self, table)
        _ = self.lookup.crowd.popular  # an order, which strangers' lists start from
        if isinstance(self.index, Cells) and len(self.snapshot.catalog):
            answer(self, Query(diversity=0.5), lookup=self.lookup, masks=self.masks, weights=self.weights)  # compiles
        snapshots.let_go(self.snapshot)
        return self

    def named(self, name: str) -> Live:
        """Itself under another name, with the tables that it has."""
        out = replace(self, name=name)
        out.__dict__.update({key: value for key, value in self.__dict__.items() if key != "name"})
        return out

    def hiding(self, told: Mapping[str, bool]) -> Live:
        """Itself, some items being hidden (or shown), as far as it knows them."""
        ids, hidden = self.snapshot.catalog.ids, set(self.hidden)
        for name in told:
            if name in ids:
                (hidden.add if told[name] else hidden.discard)(ids.row(name))
        return self if hidden == self.hidden else self.over(replace(self.snapshot, hidden=tuple(sorted(hidden))))

    def over(self, snapshot: Snapshot, happened: Callable[[str], Sequence[Stored]] = lambda item: ()) -> Live:
        """Another snapshot under the same name, with the tables that are made of what both have; `happened` gives the log's
        entries of an item after the snapshot. **Cost** a bit an item, and what changed."""
        out, before, tables = Live(snapshot, self.name), self.snapshot, dict(self.__dict__)
        kept: dict[str, Any] = {}
        if snapshot.recipe == before.recipe:
            kept |= {name: tables[name] for name in ("made_from", "weights") if name in tables}
        rows = _changed(snapshot, before)
        if rows is not None:
            if "lookup" in tables:
                lookup = tables["lookup"]
                kept["lookup"] = lookup.over(snapshot.catalog, snapshot.events, rows) if len(rows) else lookup
            if "following" in tables and (snapshot.log, snapshot.position) == (before.log, before.position):
                more, following = len(snapshot.catalog) > len(before.catalog), tables["following"]
                kept["following"] = following.grown(snapshot.catalog.ids, happened) if more else following
        if "index" in tables:
            if snapshot.model is before.model:
                kept["index"] = tables["index"]
            elif rows is not None and snapshot.fusion is before.fusion:  # the same model over more: no other was fitted
                vectors = snapshot.model.tables() if isinstance(snapshot.model, Pulls) else None
                if vectors is not None and isinstance(tables["index"], Cells):
                    kept["index"] = tables["index"].grown(vectors)
        out.__dict__.update(kept)
        same = [name in kept and kept[name] is tables[name] for name in ("index", "lookup", "following")]
        if "masks" in tables and all(same):
            out.__dict__["masks"] = tables["masks"].showing(out.hidden)
        return out

    def weighing(self, members: Mapping[str, float]) -> Live:
        """The same version, the members of its blend counting otherwise; tables are shared. **Raises** RecipeError where it
        is no blend. **Cost** nothing after the first time, for as many presets as are asked for in turn."""
        if not members:
            return self
        presets: dict[Any, Live] = self.__dict__.setdefault("_presets", {})
        named = tuple(sorted(members.items()))
        if named not in presets:
            model: Any = self.snapshot.model
            if not hasattr(model, "weighing"):
                raise RecipeError(f"members: the run answers by {type(model).__name__}, which is no blend")
            other = Live(replace(self.snapshot, model=model.weighing(members)), self.name)
            index = self.index
            if isinstance(index, Cells):  # a table a member
                kept = zip(model.members, index.tables, strict=True)
                index = replace(index, tables=tuple(table for name, table in kept if members.get(name, 0) > 0))
            other.__dict__.update(
                index=index, lookup=self.lookup, hidden=self.hidden, masks=self.masks, following=self.following
            )
            if len(presets) >= PRESETS:
                presets.pop(next(iter(presets)), None)
            presets[named] = other
        return presets[named]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.snapshot, name)


def _changed(after: Snapshot, before: Snapshot) -> Rows | None:
    """The rows that are new or of which something else is told, where nothing else may differ; else None."""
    new, old = after.events, before.events
    if new is not old and not (new.item is old.item and new.user is old.user and new.users == old.users):
        return None
    if after.catalog is before.catalog:
        return np.zeros(0, np.int64)
    rows = after.catalog.changed(before.catalog)
    return None if rows is None else np.array(sorted(rows), np.int64)


def celled(live: Live) -> Snapshot:
    """The snapshot with the cells by which it is searched: whoever opens it need not find them again."""
    index = live.index
    return replace(live.snapshot, cells=index.cell if isinstance(index, Cells) else None)
