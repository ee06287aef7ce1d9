"""A new item with a picture and a text: how long after its acknowledgement is it in its nearest people's lists?

`python benchmarks/new_items.py --items 100 --out benchmarks/results/new_items.json` makes the demo world, trains a run on it
without some of its items, serves that over loopback, uploads each left-out item's picture, puts the item, and asks for
the lists of its nearest people until it stands in them. Who they are is told by a run of its own, trained with all
items in its catalogue: the people in whose order the item stands highest. The encoders are the real ones. Bar: at most
2 s, 100 of 100.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.checks.worlds import write_demo
from sensorium.client import Client
from sensorium.engine import Engine
from sensorium.rank.query import MOST

try:
    from benchmarks.fuzz_api import KEY, Server
except ImportError:  # run as a script
    from fuzz_api import KEY, Server

BAR_SECONDS = 2.0
NEAREST = 3  # people of an item
LIST = 20  # of a list in which it is looked for, or twice its place in the other run where that is more


def parted(world: Path, count: int) -> tuple[list[dict[str, str]], Path, Path]:
    """Items to be left out (they have a picture and a text), and recipes with and without them; nobody has touched them."""
    with (world / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    fit = [row for row in rows if row["image"] and row["title"] and row["description"]][::-1][:count]
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


def nearest_people(engine: Engine, items: set[str]) -> dict[str, list[tuple[str, int]]]:
    """By item, the people in whose order it stands highest, and at which place."""
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in items}
    for user in engine.snapshot.user_ids:
        for place, one in enumerate(engine.recommend(user, MOST).ids(), 1):
            if one in items:
                found[one].append((user, place))
    return {name: sorted(people, key=lambda one: one[1])[:NEAREST] for name, people in found.items()}


def timed(client: Client, row: dict[str, str], world: Path, people: list[tuple[str, int]]) -> dict[str, Any]:
    """Seconds from the acknowledgement until the item stands in the list of each of these people."""
    name = row["item_id"]
    picture = (world / row["image"]).read_bytes()
    client.upload(name, "image", picture, "image/png" if row["image"].endswith("png") else "image/jpeg")
    media = ("image", "sound", "clip")
    client.put_items([{column: value for column, value in row.items() if value and column not in media}])
    begin, waiting = time.monotonic(), dict(people)
    while waiting and time.monotonic() - begin < 10 * BAR_SECONDS:
        for user, place in list(waiting.items()):
            if name in [one.item for one in client.recommend(user=user, k=min(max(LIST, 2 * place), MOST)).items]:
                del waiting[user]
    return {"item": name, "seconds": round(time.monotonic() - begin, 3), "missing": len(waiting)}


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
        cache = asked.cache or folder / "cache"
        write_demo(folder / "world", items=asked.catalogue, people=asked.people)
        fresh, whole, known = parted(folder / "world", asked.items + 1)
        oracle = Engine.train(whole, cache=cache)
        people = nearest_people(oracle, {row["item_id"] for row in fresh})
        Engine.train(known, out=folder / "run", cache=cache).close()
        with Server(folder / "run", folder / "cache-of-the-service") as server, Client(server.url, KEY) as client:
            warm, *fresh = fresh  # loads the picture encoder, as the first item after a start does
            first = timed(client, warm, folder / "world", people[warm["item_id"]])
            told = [timed(client, row, folder / "world", people[row["item_id"]]) for row in fresh]
    seconds = np.array([one["seconds"] for one in told])
    places = [place for row in fresh for _, place in people[row["item_id"]]]
    figures = {
        "items": len(told), "catalogue": asked.catalogue, "people": asked.people, "nearest_people_of_an_item": NEAREST,
        "in_time": int(sum(one["seconds"] <= BAR_SECONDS and not one["missing"] for one in told)),
        "bar_seconds": BAR_SECONDS, "p50_seconds": float(np.median(seconds)), "most_seconds": float(seconds.max()),
        "first_after_start_seconds": first["seconds"], "missing": sum(one["missing"] for one in told),
        "median_place_in_the_other_run": float(np.median(places)),
        "slowest": sorted(told, key=lambda one: -one["seconds"])[:5],
    }  # fmt: skip
    asked.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


def _write(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
