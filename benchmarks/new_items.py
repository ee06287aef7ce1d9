"""A new item with a picture and a text: how long after its acknowledgement is it in its nearest people's lists?

`python benchmarks/new_items.py --items 100 --out benchmarks/results/new_items.json` makes the demo world, trains a run on it
without some of the items that have a picture, a text and no other media, and serves that over loopback. Each left-out item's
picture is uploaded, the item is put, and the lists of its nearest people are asked for until it stands in each of them at its
place. The encoders are the real ones. Bar: at most 2 s, 100 of 100, of items that come one by one; and the same of items that
come every fifth of a second to another copy of the run, whoever waits for them, whilst others ask for recommendations without
a pause. What becomes of those that come as fast as they are acknowledged is told without a bar: it is the machine's limit.

**Who the nearest people are,** and at which place of whose list the item stands, is `Foretold` from what the run has learnt
(centres, axes, weights, settings) and from the world's own files, by formulas written out here in double precision. The
service's way is not taken: no upload, document, cache, fusion, model, index or source of candidates has a part in it, and
it is done before the service starts. A place must be right to the rank, but for scores that agree to 1e-5. An item stands
elsewhere, or nowhere, where it came with other vectors than its encoders give, on a stale scale, or was missed by a source of
candidates; `elsewhere_without` counts the items whose places would be others without their picture, or without their text.

**What is not asked** is that a training with these items in its catalogue has the same people nearest. It learns other words,
other axes and other settings, and so may have others with every right. In how many items' lists it agrees, by a list of 20 or
twice its place, is told as `as_trained_with_them`, and has no bar.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.checks.worlds import write_demo
from sensorium.client import Client, Refused
from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, LOOK, TEXT, WORDS
from sensorium.data.readers import read
from sensorium.encode.open import open_encoders, open_look
from sensorium.encode.run import read_by
from sensorium.engine import Engine
from sensorium.rank.query import MOST
from sensorium.recipe import read_recipe
from sensorium.snapshot import Snapshot

try:
    from benchmarks.fuzz_api import KEY, Server
except ImportError:  # run as a script
    from fuzz_api import KEY, Server

BAR_SECONDS = 2.0
NEAREST = 3  # people of an item
LIST = 20  # of a list in which it is looked for, or its place where that is more
TOLERANCE = 1e-5  # of scores that count as equal, in parts of the highest: the service reckons in single precision
ASKING = 2  # who ask without a pause
PAUSE_SECONDS = 0.2  # between items that come in succession
MEDIA = ("image", "sound", "clip")


class Near(NamedTuple):
    """A person, and from which to which place of their list the item may stand (more than one where scores are equal)."""

    user: str
    first: int
    last: int


def parted(world: Path, count: int) -> tuple[list[dict[str, str]], Path, Path]:
    """Items to be left out (a picture, a text and no other media), and recipes with and without them; nobody has touched them."""
    with (world / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    fit = [row for row in rows if row["image"] and row["title"] and row["description"]]
    fit = [row for row in fit if not row["sound"] and not row["clip"]][::-1][:count]
    out = {row["item_id"] for row in fit}
    with (world / "events.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names, item = list(reader.fieldnames or ()), next(n for n in reader.fieldnames or () if n.startswith("item"))
        events = [row for row in reader if row[item] not in out]
    _write(world / "events-known.csv", names, events)
    _write(world / "items-known.csv", list(rows[0]), [row for row in rows if row["item_id"] not in out])
    text = (world / "demo.toml").read_text("utf-8").replace('"events.csv"', '"events-known.csv"')
    text += '\n[recommender]\nname = "content"\n'
    (world / "all.toml").write_text(text, "utf-8")
    (world / "known.toml").write_text(text.replace('"items.csv"', '"items-known.csv"'), "utf-8")
    return fit, world / "all.toml", world / "known.toml"


# --- what is foretold -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Foretold:
    """Scores of all people for all items, −∞ where a list leaves the item out. **Shapes** scores (U, I)."""

    users: Sequence[str]
    items: Sequence[str]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, run: Snapshot, whole: Catalog, *, without: Collection[str] = ()) -> Foretold:
        """By what a run has learnt, its own items first, then those of the `whole` catalogue that it lacks."""
        fresh = [row for row, name in enumerate(whole.ids) if name not in run.catalog.ids]
        rows = np.concatenate([_rows(run, _learnt(run)), _rows(run, _encoded(run, whole, fresh, without))])
        there = np.abs(rows).max(axis=1) > 0
        cosines = rows[: len(run.catalog)] @ rows.T
        closeness = np.exp(run.model.sharpness * (cosines - 1)) * there[: len(run.catalog), None] * there
        scores = np.stack([_scores(run, closeness, user) for user in range(len(run.user_ids))])
        return cls(list(run.user_ids), [*run.catalog.ids, *(whole.ids[row] for row in fresh)], scores)

    def nearest(self, item: str, there: Collection[str]) -> list[Near]:
        """The people in whose lists it stands highest among the items that are there."""
        row = self.items.index(item)
        found = [self.place(item, user, there) for user, score in zip(self.users, self.scores[:, row]) if score > 0]
        return sorted(found, key=lambda near: near.first)[:NEAREST]

    def place(self, item: str, user: str, there: Collection[str]) -> Near:
        """Where it stands in the person's list among the items that are there."""
        scores, row = self.scores[self.users.index(user)], self.items.index(item)
        among = scores[[place for place, name in enumerate(self.items) if name in there and place != row]]
        margin = TOLERANCE * scores.max()
        return Near(user, 1 + int((among > scores[row] + margin).sum()), 1 + int((among >= scores[row] - margin).sum()))


def _learnt(run: Snapshot) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    return {name: (view.values.astype(np.float64), view.present) for name, view in run.views.items()}


def _encoded(
    run: Snapshot, whole: Catalog, rows: Sequence[int], without: Collection[str]
) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """The vectors of some items, each encoder being handed its contents and nothing else."""
    encoders = {**open_encoders(whole), **run.encoders}
    encoders |= open_look(whole, {}, encoders)
    out = {}
    for name, view in run.views.items():
        values, present = np.zeros((len(rows), view.size)), np.zeros(len(rows), bool)
        if name in encoders and name not in without:
            column = [whole.content[read_by(encoders[name])][row] for row in rows]
            present[:] = [content is not None for content in column]
            if present.any():
                values[present] = encoders[name].encode([content for content in column if content is not None])
        out[name] = values, present
    return out


def _rows(run: Snapshot, views: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> NDArray[np.float64]:
    """Whitened, weighted, side by side: rows of length one, of zeros where an item has nothing."""
    blocks, mass = [], 0.0
    for name in sorted(run.fusion.parts):
        part, weight = run.fusion.parts[name], run.fusion.weights[name]
        moved = views[name][0] - part.centre
        says = views[name][1] & (np.linalg.norm(moved, axis=1) > 1e-6 * np.linalg.norm(part.centre))
        block = _unit((moved @ part.axes.astype(np.float64)) * says[:, None])
        mass = mass + weight * says
        blocks.append(np.sqrt(weight) * np.sqrt(run.model.weights.get(name, 1.0)) * block)
    return _unit(np.concatenate(blocks, axis=1) / np.sqrt(np.maximum(mass, 1e-12))[:, None])


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _scores(run: Snapshot, closeness: NDArray[np.float64], user: int) -> NDArray[np.float64]:
    """Of one person for all items: the sum over what they did, each item once, by the strongest that they did with it."""
    events = run.events
    mine = np.flatnonzero(events.user == user)
    mine = mine[np.argsort(events.time[mine], kind="stable")]
    pull: dict[int, float] = {}
    for back, event in zip(range(len(mine) - 1, -1, -1), mine):
        weight, skipped = float(events.weight[event]), events.kinds[events.kind[event]] == "skip"
        value = (weight if skipped else 1 + run.model.strength * (weight - 1)) * run.model.decay**back
        item = int(events.item[event])
        pull[item] = value if abs(value) >= abs(pull.get(item, 0.0)) else pull[item]
    scores = np.zeros(closeness.shape[1])
    for item, value in pull.items():
        scores += value * closeness[item]
    scores[list(pull)] = -np.inf
    return scores


# --- what is measured -------------------------------------------------------------------------------------------------


def put(client: Client, row: Mapping[str, str], world: Path) -> None:
    """Uploads the item's picture, then tells of the item; returns once that is acknowledged."""
    kind = "image/png" if row["image"].endswith("png") else "image/jpeg"
    client.upload(row["item_id"], "image", (world / row["image"]).read_bytes(), kind)
    client.put_items([{column: value for column, value in row.items() if value and column not in MEDIA}])


def place(client: Client, item: str, near: Near) -> int:
    """At which place of the person's list it stands; 0 where it is not in it."""
    listed = client.recommend(user=near.user, k=min(max(LIST, near.last), MOST)).items
    return next((at for at, one in enumerate(listed, 1) if one.item == item), 0)


def one_by_one(
    client: Client, rows: Sequence[Mapping[str, str]], world: Path, near: Mapping[str, Sequence[Near]]
) -> list[dict[str, Any]]:
    """By item, the seconds from its acknowledgement until it stands at its place in all of its lists."""
    told = []
    for row in rows:
        name = row["item_id"]
        put(client, row, world)
        begin, waiting = time.monotonic(), list(near[name])
        while waiting and time.monotonic() - begin < 10 * BAR_SECONDS:
            waiting = [one for one in waiting if not one.first <= place(client, name, one) <= one.last]
        told.append({"item": name, "seconds": round(time.monotonic() - begin, 3), "missing": len(waiting)})
    return told


def in_succession(
    url: str, rows: Sequence[Mapping[str, str]], world: Path, near: Mapping[str, Sequence[Near]], pause: float
) -> list[dict[str, Any]]:
    """The same for items that are put one after the other, with a pause between them, whoever waits for them.

    An item counts as there once it is in all of its lists, at its place or above, for others are yet to come; that each
    stands at its very place is asked when all are there.
    """
    acknowledged: dict[str, float] = {}
    there: dict[str, float] = {}

    def look() -> None:
        while len(there) < len(rows) and time.monotonic() < end():
            for name in [name for name in list(acknowledged) if name not in there]:
                if all(0 < place(watcher, name, one) <= one.last for one in near[name]):
                    there[name] = time.monotonic()

    def end() -> float:
        last = max(acknowledged.values(), default=np.inf)
        return last + 10 * BAR_SECONDS if len(acknowledged) == len(rows) else np.inf

    with Client(url, KEY) as client, Client(url, KEY) as watcher:
        watching = threading.Thread(target=look)
        watching.start()
        for row in rows:
            put(client, row, world)
            acknowledged[row["item_id"]] = time.monotonic()
            time.sleep(pause)
        watching.join()
        told = []
        for name, since in acknowledged.items():
            missing = sum(not one.first <= place(client, name, one) <= one.last for one in near[name])
            seconds = there.get(name, since + 10 * BAR_SECONDS) - since
            told.append({"item": name, "seconds": round(seconds, 3), "missing": missing})
    return told


@contextmanager
def asked_meanwhile(url: str, users: Sequence[str]) -> Iterator[list[float]]:
    """The seconds of every answer that others have meanwhile, who ask without a pause; infinite where it is refused."""
    seconds: list[float] = []
    over = threading.Event()

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with Client(url, KEY) as client:
            while not over.is_set():
                begin = time.monotonic()
                try:
                    client.recommend(user=users[rng.integers(len(users))], k=LIST)
                    seconds.append(time.monotonic() - begin)
                except Refused:
                    seconds.append(np.inf)

    asking = [threading.Thread(target=ask, args=[seed]) for seed in range(ASKING)]
    for one in asking:
        one.start()
    try:
        yield seconds
    finally:
        over.set()
        for one in asking:
            one.join()


def in_lists_of(trained: Engine, client: Client, names: Collection[str]) -> int:
    """How many of the items are in the lists of those who are nearest by another training, or to twice the place there."""
    found: dict[str, list[Near]] = {name: [] for name in names}
    for user in trained.snapshot.user_ids:
        for at, one in enumerate(trained.recommend(user, MOST).ids(), 1):
            if one in found:
                found[one].append(Near(user, 1, 2 * at))
    found = {name: sorted(people, key=lambda one: one.last)[:NEAREST] for name, people in found.items()}
    return sum(all(0 < place(client, name, one) <= max(LIST, one.last) for one in found[name]) for name in names)


def succession(
    run: Path, rows: Sequence[Mapping[str, str]], world: Path, first: Mapping[str, Sequence[Near]],
    near: Mapping[str, Sequence[Near]], pause: float, users: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """What becomes of items in succession, and of the answers meanwhile, by a service of their own.

    The first item loads the encoders: it comes alone, `first` tells where it then stands; `near`, where all do at last.
    """
    with Server(run, run.with_name(f"{run.name}-cache")) as server, Client(server.url, KEY) as client:
        one_by_one(client, rows[:1], world, first)
        with asked_meanwhile(server.url, users) as answers:
            begin = time.monotonic()
            told = in_succession(server.url, rows[1:], world, near, pause)
            lasted = time.monotonic() - begin
    return {
        **figures(told), "pause_seconds": pause, "asking_meanwhile": ASKING,
        "answers_a_second": round(len(answers) / lasted), "refused": int(np.isinf(answers).sum()),
        "answers_p50_seconds": round(float(np.median(answers)), 4),
        "answers_p99_seconds": round(float(np.quantile(answers, 0.99)), 4),
    }  # fmt: skip


def figures(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = np.array([one["seconds"] for one in told])
    return {
        "items": len(told),
        "in_time": int(sum(one["seconds"] <= BAR_SECONDS and not one["missing"] for one in told)),
        "p50_seconds": float(np.median(seconds)), "most_seconds": float(seconds.max()),
        "missing": sum(one["missing"] for one in told), "slowest": sorted(told, key=lambda one: -one["seconds"])[:3],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--catalogue", type=int, default=300)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/new_items.json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world, cache = folder / "world", asked.cache or folder / "cache"
        write_demo(world, items=asked.catalogue, people=asked.people)
        rows, whole, known = parted(world, asked.items + 1)
        Engine.train(known, out=folder / "run", cache=cache).close()
        for copy in ("paced", "pressed"):
            shutil.copytree(folder / "run", folder / copy)
        run = snapshots.read(runs.current(folder / "run"))
        everything = read(read_recipe(whole)).catalog
        foretold = Foretold.of(run, everything)
        others = {
            "picture": Foretold.of(run, everything, without=(IMAGE, LOOK)),
            "text": Foretold.of(run, everything, without=(TEXT, WORDS)),
        }
        there, near, elsewhere = set(run.catalog.ids), {}, dict.fromkeys(others, 0)
        for row in rows:  # each among those that were there before it
            there.add(row["item_id"])
            near[row["item_id"]] = foretold.nearest(row["item_id"], there)
            for part, other in others.items():
                moved = [other.place(row["item_id"], one.user, there) for one in near[row["item_id"]]]
                apart = [a.first > b.last or a.last < b.first for a, b in zip(moved, near[row["item_id"]])]
                elsewhere[part] += any(apart) and row is not rows[0]
        at_last = {row["item_id"]: foretold.nearest(row["item_id"], there) for row in rows}
        warm, *fresh = rows  # loads the picture encoder, as the first item after a start does
        with Server(folder / "run", folder / "cache-1") as server, Client(server.url, KEY) as client:
            first = one_by_one(client, [warm], world, near)[0]
            alone = one_by_one(client, fresh, world, near)
            trained = Engine.train(whole, cache=cache)
            same = in_lists_of(trained, client, [row["item_id"] for row in fresh])
        ways = (("paced", PAUSE_SECONDS), ("pressed", 0.0))
        came = {
            copy: succession(folder / copy, rows, world, near, at_last, pause, foretold.users) for copy, pause in ways
        }
    places = [one.first for row in fresh for one in near[row["item_id"]]]
    told = {
        "catalogue": asked.catalogue, "people": asked.people, "nearest_people_of_an_item": NEAREST,
        "bar_seconds": BAR_SECONDS, **figures(alone), "first_after_start_seconds": first["seconds"],
        "median_place": float(np.median(places)), "last_place": max(places),
        "places_that_are_ties": sum(one.first < one.last for row in fresh for one in near[row["item_id"]]),
        "elsewhere_without": elsewhere, "as_trained_with_them": same,
        "in_succession": came["paced"], "as_fast_as_they_are_taken": came["pressed"],
    }  # fmt: skip
    asked.out.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told))


def _write(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
