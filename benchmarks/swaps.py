"""Do answers stop, fail or mix two versions while snapshots are swapped under load?

Two versions are made of one run, which differ in every title and in every score. A server answers over HTTP; a process of
its own asks on four connections without a pause; meanwhile candidates are adopted, 200 times, one after the other, and
at the end some are really learnt, each in its process, while people go on acting. What every answer should be, item by
item and score by score, is computed beforehand for either version: an answer must be that of the version it names.

    python benchmarks/swaps.py [--swaps 200] [--items 300] [--learn 2]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "swaps.json"
CONNECTIONS = 4
JSON = {"content-type": "application/json"}


def digest(items: list[dict]) -> str:
    told = [[one["item"], one["title"], repr(one["score"])] for one in items]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=12).hexdigest()


def load(port: int, people: list[str]) -> None:
    """Asks until its standard input ends; then tells what it was answered."""
    seen: Counter[tuple[str, str, str]] = Counter()
    failed: Counter[str] = Counter()
    seconds: list[tuple[float, float]] = []
    stop = threading.Event()

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        place = first
        while not stop.is_set():
            user = people[place % len(people)]
            place += CONNECTIONS
            began = time.time()
            try:
                connection.request("POST", "/v1/recommend", json.dumps({"user": user, "k": 10}), JSON)
                answer = connection.getresponse()
                body = answer.read()
            except OSError as error:
                failed[type(error).__name__] += 1
                connection.close()
                continue
            seconds.append((began, time.time() - began))
            if answer.status != 200:
                failed[str(answer.status)] += 1
                continue
            told = json.loads(body)
            seen[user, told["version"], digest(told["items"])] += 1

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    lines = [[*key, count] for key, count in seen.items()]
    print(json.dumps({"seen": lines, "failed": failed, "seconds": seconds}))


@contextlib.contextmanager
def served(service) -> Iterator[int]:  # type: ignore[no-untyped-def]
    import uvicorn

    from sensorium.serve.app import Serving, application

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app = application(service, Serving(port=port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


def percentiles(seconds: list[float]) -> dict[str, float]:
    values = 1000 * np.array(seconds or [0.0])
    return {
        "answers": len(seconds), "p50_ms": round(float(np.median(values)), 2),
        "p99_ms": round(float(np.quantile(values, 0.99)), 2), "max_ms": round(float(values.max()), 2),
    }  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--swaps", type=int, default=200)
    words.add_argument("--items", type=int, default=300)
    words.add_argument("--people", type=int, default=200)
    words.add_argument("--learn", type=int, default=2)
    words.add_argument("--load", nargs=2)
    asked = words.parse_args()
    if asked.load:
        load(int(asked.load[0]), json.loads(asked.load[1]))
        return
    from sensorium import runs
    from sensorium import snapshot as snapshots
    from sensorium.checks.worlds import write_demo
    from sensorium.engine import Engine
    from sensorium.serve.service import Service

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo(folder / "world", items=asked.items, people=asked.people)
        recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "itemknn"\n'
        (folder / "world" / "near.toml").write_text(recipe)
        engine = Engine.train(folder / "world" / "near.toml", out=folder / "run", cache=folder / "cache")
        first = engine.snapshot
        engine.close()
        weights = first.model.weights.copy()  # type: ignore[attr-defined]
        weights.data = weights.data[::-1].copy()
        titles = [f"{title}, again" for title in first.catalog.titles]
        second = replace(
            first, model=replace(first.model, weights=weights), catalog=replace(first.catalog, titles=titles)  # type: ignore[type-var]
        )  # fmt: skip
        people = list(first.user_ids)
        right: list[dict[str, str]] = []
        for number, snapshot in enumerate((first, second)):
            snapshots.write(snapshot, folder / f"version{number}")
            alone = Engine(snapshot, cache=folder / "cache")
            rankings = {user: alone.recommend(user, 10).items for user in people}
            right.append({user: digest([vars(one) for one in items]) for user, items in rankings.items()})
        assert not set(right[0].values()) & set(right[1].values())

        service = Service(folder / "run", cache=folder / "cache")
        kinds = {service.engine.version: 0}
        with served(service) as port:
            script = [sys.executable, __file__, "--load", str(port), json.dumps(people)]
            asking = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            time.sleep(3)
            marks = [time.time()]
            took = []
            for swap in range(asked.swaps):
                place = folder / "run" / "snapshots" / ".candidate.swaps"
                shutil.copytree(folder / f"version{(swap + 1) % 2}", place, copy_function=os.link)
                version = runs.Version("", time.time(), "swap", of=service.engine.version)
                began = time.perf_counter()
                kinds[service.engine.adopt(place, version)] = (swap + 1) % 2
                took.append(time.perf_counter() - began)
            marks.append(time.time())
            learnt = []
            ids, last = first.catalog.ids, float(first.events.time[-1])
            for turn in range(asked.learn):
                # Of people who are not asked for, so that what the others must be answered stays known until a version is learnt.
                deeds = [
                    {
                        "user": f"other {n % 50}",
                        "item": ids[(n * (turn + 3)) % len(ids)],
                        "kind": "view",
                        "time": last + n,
                    }
                    for n in range(600)
                ]
                service.commits.append(service.engine.entries(deeds))
                learnt.append(asyncio.run(service.learner.learn(full=turn == asked.learn - 1)))
            marks.append(time.time())
            out, _ = asking.communicate("")
        told = json.loads(out)
    mixed, after = 0, 0
    for user, version, found, count in told["seen"]:
        if version in kinds:
            mixed += count * (right[kinds[version]][user] != found)
        else:
            after += count
    phases = {
        "calm": (0.0, marks[0]), "swapping": (marks[0], marks[1]), "learning beside": (marks[1], marks[2]),
    }  # fmt: skip
    result = {
        "question": "200 snapshot swaps under load: failed requests, answers that mix two versions",
        "items": asked.items, "people": asked.people, "connections": CONNECTIONS, "swaps": asked.swaps,
        "answers": len(told["seconds"]), "failed": told["failed"], "failed_requests": sum(told["failed"].values()),
        "versions_that_answered": len({version for _, version, _, _ in told["seen"]}),
        "answers_compared": sum(line[3] for line in told["seen"]) - after, "answers_mixing_versions": mixed,
        "swap_ms": percentiles(took) | {"answers": None}, "learnt": [one["state"] for one in learnt],
        "learn_seconds": [one["seconds"] for one in learnt],
        "by_phase": {
            phase: percentiles([s for began, s in told["seconds"] if low <= began < high])
            for phase, (low, high) in phases.items()
        },
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if mixed or result["failed_requests"] or set(result["learnt"]) != {"adopted"}:
        sys.exit("swaps: it does not hold")


if __name__ == "__main__":
    main()
