"""How fast one process answers over HTTP: latency at a fixed rate, requests a second at saturation, recall, memory, start.

    python benchmarks/serve_load.py [--items 100000] [--rate 200] [--seconds 20] [--folder DIR] [--warm 5]

Makes a run once (kept in the folder): clustered vectors of 128 numbers, people who like a few clusters, items with a
category, a brand and a price; content nearness blended with implicit factorisation; for every person events in the log
after the snapshot. Then starts `sensorium serve` and asks for recommendations of random people with two filters and
diversity (without learning, and a log of warnings): first a request every 1/rate seconds whatever the server does (latency counts from when a request was due),
then 16 connections that ask again as soon as they are answered. Adds to benchmarks/results/serve_load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

RESULT = Path(__file__).parent / "results" / "serve_load.json"
SIZE, CLUSTERS, CATEGORIES, BRANDS, LATENT = 128, 1000, 40, 500, 24
PEOPLE, EVENTS, LIVE = 100_000, 20, 3  # people; events of one on average, in the snapshot and after it
CONNECTIONS = 64
SHARES = (0.005, 0.02, 0.1, 0.3, 0.6)  # of the items that the two filters of a question keep


# --- the run ----------------------------------------------------------------------------------------------------------


def world(items: int, seed: int = 0) -> dict[str, Any]:
    """Vectors, attributes and events of a made-up shop. **Shapes** vectors (I, SIZE); owner, item (E,)."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(CLUSTERS, LATENT))
    cluster = rng.choice(CLUSTERS, items, p=(w := rng.gamma(2.0, size=CLUSTERS)) / w.sum())
    latent = centre[cluster] + 0.55 * rng.normal(size=(items, LATENT))
    turn = rng.normal(size=(LATENT, SIZE)) / np.sqrt(LATENT)
    vectors = (latent @ turn + 0.35 * rng.normal(size=(items, SIZE))).astype(np.float32)
    appeal = rng.pareto(1.2, items) + 0.05
    order = np.lexsort((-appeal, cluster))
    begin = np.searchsorted(cluster[order], np.arange(CLUSTERS + 1))
    reach = np.cumsum(appeal[order])
    # A person likes a few clusters that lie near one taste; within one, what is popular is chosen more.
    taste = rng.normal(size=(PEOPLE, LATENT))
    liked = np.empty((PEOPLE, 4), np.int64)
    for at in range(0, PEOPLE, 5000):
        near = taste[at : at + 5000] @ centre.T
        near += rng.gumbel(scale=2.0, size=near.shape)
        liked[at : at + 5000] = np.argpartition(-near, 4, axis=1)[:, :4]
    count = np.clip(rng.geometric(1 / EVENTS, PEOPLE), 3, 100) + LIVE
    owner = np.repeat(np.arange(PEOPLE), count)
    chosen = liked[owner, rng.choice(4, len(owner), p=(0.5, 0.25, 0.15, 0.1))]
    low = np.where(begin[chosen] > 0, reach[begin[chosen] - 1], 0.0)
    high = reach[begin[chosen + 1] - 1]
    item = order[np.minimum(np.searchsorted(reach, low + rng.random(len(owner)) * (high - low)), items - 1)]
    step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    live = step >= np.repeat(count, count) - LIVE
    when = np.where(live, 1.7e9 + step, 1.6e9 + rng.integers(0, 90_000_000, len(owner)))
    return {
        "vectors": vectors, "category": (cluster * CATEGORIES // CLUSTERS + rng.integers(0, 2, items)) % CATEGORIES,
        "brand": rng.zipf(1.3, items) % BRANDS, "price": np.round(rng.lognormal(3, 1, items), 2),
        "owner": owner, "item": item, "live": live, "when": when.astype(np.float64),
    }  # fmt: skip


def make(folder: Path, items: int) -> Path:
    """The run of so many items, from the folder or made now."""
    from sensorium import build as building
    from sensorium.data.catalog import Catalog
    from sensorium.data.content import Attributes
    from sensorium.data.events import Events
    from sensorium.data.ids import Ids
    from sensorium.data.readers import Dataset
    from sensorium.data.report import Report
    from sensorium.data.vectors import Vectors
    from sensorium.engine import Engine
    from sensorium.feedback.log import Log
    from sensorium.feedback.store import Entry
    from sensorium.models.blend import Blend
    from sensorium.models.content import Content
    from sensorium.models.ials import Ials
    from sensorium.recipe import read_recipe_text

    run = folder / f"run-{items}"
    if (run / "ready").exists():
        return run
    it = world(items)
    facts = [
        Attributes({"category": f"c{c}", "brand": f"b{b}", "price": float(p)})
        for c, b, p in zip(it["category"], it["brand"], it["price"], strict=True)
    ]
    catalog = Catalog(
        Ids(f"i{n}" for n in range(items)), {"attributes": facts}, [f"Article number {n}" for n in range(items)]
    )
    old = ~it["live"]
    events = Events.of(
        it["owner"][old], it["item"][old], users=PEOPLE, items=items, time=it["when"][old], kinds=("view",)
    )
    dataset = Dataset(catalog, None, events, Ids(f"u{n}" for n in range(PEOPLE)), Report())
    views = {"vector:look": Vectors(it["vectors"], np.ones(items, bool), "given/vector:look/128")}
    material = building.Material(dataset, views, {}, None, {}, {}, (), (), {}, {})
    blend = Blend(use=("content", "ials"), weights={"content": 1.0, "ials": 1.0}, content=Content(), ials=Ials())
    recipe = read_recipe_text('[items]\nfiles = ["items.csv"]\n[events]\nfiles = ["events.csv"]\n')
    Engine(building.build(material, recipe, chosen=blend)).save(run)
    with Log(run / "log.sqlite") as log:
        rows = np.flatnonzero(it["live"])
        rows = rows[np.argsort(it["when"][rows], kind="stable")]
        log.append([Entry(f"u{it['owner'][n]}", f"i{it['item'][n]}", "view", float(it["when"][n])) for n in rows])
    (run / "ready").touch()
    return run


def questions(run: Path, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Random people, each with two filters that keep one of SHARES, and diversity."""
    from sensorium import runs
    from sensorium.snapshot import read

    rng = np.random.default_rng(seed)
    facts = [one.values for one in read(runs.current(run)).catalog.content["attributes"]]
    price = np.sort([one["price"] for one in facts])
    _, often = np.unique([one["category"] for one in facts], return_counts=True)
    share = often / often.sum()
    names = np.unique([one["category"] for one in facts])
    asked = []
    for _ in range(count):
        wanted = SHARES[rng.integers(len(SHARES))]
        order, kept = rng.permutation(len(names)), 0.0
        least = np.sqrt(wanted) if wanted > 0.05 else min(wanted * 4, 0.05)
        some = []
        for place in order:
            some.append(str(names[place]))
            kept += share[place]
            if kept >= least:
                break
        bound = price[min(int(len(price) * min(wanted / kept, 1.0)), len(price) - 1)]
        bound = float(f"{bound:.2g}")  # as people write prices: the same bounds come again
        asked.append({
            "user": f"u{rng.integers(PEOPLE)}", "k": 10, "diversity": 0.3,
            "rules": [f"category={'|'.join(some[:20])}", f"price<={bound}"],
        })  # fmt: skip
    return asked


# --- the client: a process of its own, raw sockets, nothing but bytes ------------------------------------------------


class Asker(asyncio.Protocol):
    """One connection: sends a request, tells when its whole answer is there."""

    def __init__(self) -> None:
        self.got, self.need = b"", -1
        self.done: asyncio.Future[int] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.need < 0 and (end := self.got.find(b"\r\n\r\n")) >= 0:
            head = self.got[:end].lower()
            at = head.index(b"content-length:") + 15
            stop = head.find(b"\r\n", at)
            self.need = end + 4 + int(head[at : stop if stop >= 0 else None])
        if 0 <= self.need <= len(self.got):
            status = int(self.got[9:12])
            self.got, self.need = b"", -1
            assert self.done is not None
            self.done.set_result(status)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(0)

    async def ask(self, request: bytes) -> int:
        """The status of the answer; 0 where the connection was closed."""
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.done


async def drive(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """`rate` > 0: open loop; 0: every connection asks again at once. Latencies in milliseconds."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Asker] = asyncio.Queue()
    count = 128 if rate else CONNECTIONS
    for _ in range(count):
        free.put_nowait((await loop.create_connection(Asker, "127.0.0.1", port))[1])
    taken: list[float] = []
    bad: dict[int, int] = {}
    began = time.perf_counter()

    def note(status: int, since: float) -> None:
        taken.append((time.perf_counter() - since) * 1e3)
        if status != 200:
            bad[status] = bad.get(status, 0) + 1

    async def one(number: int, due: float) -> None:
        asker = await free.get()
        note(await asker.ask(requests[number % len(requests)]), due)
        free.put_nowait(asker)

    if rate:
        pending = []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            pending.append(loop.create_task(one(number, due)))
        await asyncio.gather(*pending)
    else:
        numbers = iter(range(10**9))

        async def again() -> None:
            asker = await free.get()
            while (since := time.perf_counter()) < began + seconds:
                note(await asker.ask(requests[next(numbers) % len(requests)]), since)

        await asyncio.gather(*(again() for _ in range(CONNECTIONS)))
    lasted = time.perf_counter() - began
    taken.sort()
    at = {name: round(taken[int(len(taken) * share)], 2) for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {"requests": len(taken), "per_second": round(len(taken) / lasted, 1), **at, "max": round(taken[-1], 2), "bad": bad}  # fmt: skip


def driven(port: int, file: Path, rate: float, seconds: float) -> dict[str, Any]:
    """`drive` in a process of its own."""
    words = [sys.executable, __file__, "--drive", str(file), "--port", str(port), "--rate", str(rate)]
    return json.loads(subprocess.check_output([*words, "--seconds", str(seconds)], text=True))


# --- the server and what it is measured by ----------------------------------------------------------------------------


def resident(pid: int) -> float:
    """Resident memory in MiB, mapped files included."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu(pid: int) -> float:
    """Seconds of CPU that a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(process: subprocess.Popen[bytes], port: int, file: Path, rate: float, seconds: float) -> dict[str, Any]:
    """`driven`, and how much CPU the server took for one answer: the figure to go by where others use the machine too."""
    before = cpu(process.pid)
    found = driven(port, file, rate, seconds)
    return {**found, "cpu_ms": round((cpu(process.pid) - before) * 1e3 / max(found["requests"], 1), 3)}


def asked_once(port: int, question: dict[str, Any]) -> dict[str, Any]:
    """One question by the standard library."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/recommend", json.dumps(question).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def started(run: Path, port: int, first: dict[str, Any]) -> tuple[subprocess.Popen[bytes], float]:
    """A server, and the seconds from its start to its first answer."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sensorium.cli",
            "serve",
            str(run),
            "--port",
            str(port),
            "--log-level",
            "warning",
            "--learn-every",
            "0",
        ]  # the live events must stay live
    )
    while True:
        try:
            asked_once(port, first)
            return process, time.perf_counter() - began
        except OSError:
            assert process.poll() is None, "the server stopped"
            assert time.perf_counter() - began < 600
            time.sleep(0.02)


def recall(run: Path, port: int, asked: list[dict[str, Any]]) -> dict[str, float]:
    """The share of the exact ten best (every item scored by the model itself) that the server tells, by kind of question."""
    from sensorium.engine import Engine
    from sensorium.rank.query import Query

    engine = Engine.open(run)
    found: dict[str, list[float]] = {}
    for question in asked:
        plain = {name: value for name, value in question.items() if name != "diversity"}
        kinds = {"filtered": plain, "unfiltered": {n: v for n, v in plain.items() if n != "rules"}, "diverse": question}
        for kind, one in kinds.items():
            told = {line["item"] for line in asked_once(port, one)["items"]}
            query = Query(**one)
            ranking = engine.answer(query, exact=True)
            wanted = ranking.ids()
            found.setdefault(kind, []).append(len(told & set(wanted)) / max(len(wanted), 1))
            if kind == "filtered":
                found.setdefault(
                    "0.5 % kept" if ranking.candidates < 0.008 * len(engine.snapshot.catalog) else "more kept", []
                ).append(found[kind][-1])
    engine.close()
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--items", type=int, default=100_000)
    words.add_argument("--rate", type=float, default=200)
    words.add_argument("--seconds", type=float, default=20)
    words.add_argument("--warm", type=float, default=5, help="seconds of questions before any is counted")
    words.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sensorium-serve-load")
    words.add_argument("--questions", type=int, default=3000)
    words.add_argument("--recall", type=int, default=100, help="people whose answers are compared with the exact ones")
    words.add_argument("--make", action="store_true", help="make the run, and no more")
    words.add_argument("--port", type=int, default=0)
    words.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.drive:
        requests = [line.encode("latin-1") for line in json.loads(given.drive.read_text())]
        print(json.dumps(uvloop.run(drive(given.port, requests, given.rate, given.seconds))))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    run = make(given.folder, given.items)
    if given.make:
        return
    asked = questions(run, given.questions)
    file = given.folder / "requests.json"
    file.write_text(json.dumps([request(question) for question in asked]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = given.port or taken.getsockname()[1]
    process, start = started(run, port, asked[0])
    try:
        driven(port, file, 0, given.warm)
        figures: dict[str, Any] = {
            "items": given.items, "people": PEOPLE, "start_seconds": round(start, 2), "rate": given.rate,
            "open": measured(process, port, file, given.rate, given.seconds),
            "saturated": measured(process, port, file, 0, given.seconds),
            "resident_mib": round(resident(process.pid)),
            "recall": recall(run, port, asked[: given.recall]) if given.recall else {},
        }  # fmt: skip
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    told(figures)


def request(question: dict[str, Any]) -> str:
    """A question as the bytes of a request."""
    body = json.dumps(question)
    return (
        "POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def told(figures: dict[str, Any]) -> None:
    """Writes the figures of this many items, and the bars of all."""
    RESULT.parent.mkdir(exist_ok=True)
    all_of_them = json.loads(RESULT.read_text())["measured"] if RESULT.exists() else {}
    all_of_them[str(figures["items"])] = figures
    bars = [bar for one in all_of_them.values() for bar in bars_of(one)]
    about = {"cores": os.cpu_count(), "threads": os.environ.get("SENSORIUM_THREADS", "all")}
    RESULT.write_text(json.dumps({"machine": about, "measured": all_of_them, "bars": bars}, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    for bar in bars:
        print("reached" if bar["reached"] else "MISSED ", bar["bar"], bar["value"])


def bars_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    """What the figures of one size should be."""
    name, large = f"{one['items']:,} items: ", one["items"] >= 1_000_000
    limits = [(f"p99 at {one['rate']:g} requests/s, ms", one["open"]["p99"], 25 if large else 15, False)]
    if not large:
        limits += [
            (f"p50 at {one['rate']:g} requests/s, ms", one["open"]["p50"], 3, False),
            ("requests/s at saturation", one["saturated"]["per_second"], 1000, True),
            ("seconds from start to first answer", one["start_seconds"], 5, False),
        ]
    else:
        limits.append(("resident memory, MiB", one["resident_mib"], 2048, False))
    limits += [(f"recall of the exact ten, {kind}", value, 0.97, True) for kind, value in one["recall"].items()]
    limits.append(("requests that failed", sum((*one["open"]["bad"].values(), *one["saturated"]["bad"].values())), 0, False))  # fmt: skip
    return [
        {"bar": name + what, "value": value, "needed": needed, "reached": value >= needed if more else value <= needed}
        for what, value, needed, more in limits
    ]


if __name__ == "__main__":
    main()
