"""How many events a second a service acknowledges over HTTP, each after a sync to disk: 64 connections; then in bulk.

    python benchmarks/event_load.py [--seconds 10] [--connections 64] [--workers 1] [--folder .] [--run RUN] [--store DSN]

Writes benchmarks/results/event_load.json. The service is started as a process of its own over a small run, or a copy of
RUN. Each connection sends one event, waits for its acknowledgement, and sends the next; then four connections send 5,000
lines each time. Afterwards the log is read: every acknowledged event must be there, once. `sync_milliseconds` is what the
disk alone takes for a small write, `server_microseconds` the processor time of the service for an event.
Bars: 5,000 events a second with p99 at most 60 ms, 30,000 in bulk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from commit_speed import sync_milliseconds

from sensorium.checks.worlds import write_demo
from sensorium.engine import Engine
from sensorium.feedback.open import opened

RESULT = Path(__file__).parent / "results" / "event_load.json"
LINES = 5_000  # of a bulk


class Talk(asyncio.Protocol):
    """One connection that sends a request when the last one is answered, until told to stop."""

    def __init__(self, path: str, made: Any, until: float) -> None:
        self.path, self.made, self.until = path, made, until
        self.taken: list[float] = []
        self.wrong = 0
        self.read = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        body = self.made()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.began = time.perf_counter()
        self.transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, mark, body = self.read.partition(b"\r\n\r\n")
        if not mark or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        if head.startswith(b"HTTP/1.1 200"):
            self.taken.append(time.perf_counter() - self.began)
        else:
            self.wrong += 1
        self.read = b""
        if time.perf_counter() < self.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def loaded(port: int, path: str, makers: list[Any], seconds: float, size: int) -> dict[str, Any]:
    """All connections at once; the figures of what was acknowledged."""
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    talks = [
        (await loop.create_connection(lambda made=made: Talk(path, made, began + seconds), "127.0.0.1", port))[1]
        for made in makers
    ]
    await asyncio.gather(*(talk.done for talk in talks))
    lasted = time.perf_counter() - began
    if not any(talk.taken for talk in talks):
        raise SystemExit(f"wrong: nothing was acknowledged, {sum(talk.wrong for talk in talks)} calls were refused")
    taken = sorted(each for talk in talks for each in talk.taken)
    return {
        "connections": len(makers), "acknowledged": len(taken) * size, "refused": sum(talk.wrong for talk in talks),
        "events_per_second": round(len(taken) * size / lasted),
        "p50_milliseconds": round(taken[len(taken) // 2] * 1e3, 1),
        "p99_milliseconds": round(taken[int(len(taken) * 0.99)] * 1e3, 1),
    }  # fmt: skip


def event(number: int, n: int) -> bytes:
    return b'{"user":"u%d","item":"i%d","kind":"view","key":"%d-%d"}' % (number * 1000 + n % 1000, n % 997, number, n)


def single(number: int) -> Any:
    count = iter(range(10**9))
    return lambda: b'{"events":[' + event(number, next(count)) + b"]}"


def bulk(number: int) -> Any:
    count = iter(range(10**9))
    return lambda: b"\n".join(event(number, next(count)) for _ in range(LINES))


def spent(pid: int) -> float:
    """The processor seconds of a process and of those that it started."""
    total = 0.0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in (int(place.parent.name), int(fields[1])):
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def small_run(folder: Path) -> Path:
    """A run of the demo world that takes seconds to train."""
    write_demo(folder / "world", items=60, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "popularity"\n'
    (folder / "world" / "fast.toml").write_text(recipe)
    Engine.train(folder / "world" / "fast.toml", out=folder / "run", cache=folder / "cache").close()
    return folder / "run"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=10)
    words.add_argument("--connections", type=int, default=64)
    words.add_argument("--workers", type=int, default=1)
    words.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    words.add_argument("--run", type=Path, default=None, help="is copied; without one a small run is trained")
    words.add_argument("--store", default="", help="a DSN; without one, the embedded store")
    words.add_argument("--profile", type=Path, default=None, help="py-spy's flame graph of the service, for this file")
    given = words.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        run = Path(shutil.copytree(given.run, folder / "run")) if given.run else small_run(folder)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sensorium", "serve", str(run), "--port", str(port)]
        command += ["--workers", str(given.workers)] if given.workers > 1 else []
        environment = {name: value for name, value in os.environ.items() if name != "SENSORIUM_API_KEY"}
        if given.store:
            environment["SENSORIUM_STORE"] = given.store
        figures: dict[str, Any] = {
            "store": "postgresql" if given.store else "sqlite", "workers": given.workers,
            "load_before": round(os.getloadavg()[0], 1), "sync_milliseconds": sync_milliseconds(folder),
        }  # fmt: skip
        where = given.store or run / "log.sqlite"
        with closing(opened(where)) as store:
            before = len(store)
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                wait(port, process)
                if given.profile:
                    subprocess.Popen(
                        ["py-spy", "record", "-d", "8", "-o", given.profile, "-p", str(process.pid), "-f", "raw"]
                    )
                for name, path, makers, size in (
                    ("single", "/v1/events", [single(n) for n in range(given.connections)], 1),
                    ("bulk", "/v1/events/bulk", [bulk(10_000 + n) for n in range(4)], LINES),
                ):  # fmt: skip
                    begun = spent(process.pid)
                    figures[name] = told = asyncio.run(loaded(port, path, makers, given.seconds, size))
                    cost = (spent(process.pid) - begun) / max(told["acknowledged"], 1)
                    told["server_microseconds"] = round(cost * 1e6, 1)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        with closing(opened(where)) as store:
            figures["stored"] = len(store) - before
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(json.dumps(figures, indent=1))
    if figures["stored"] != sum(figures[name]["acknowledged"] for name in ("single", "bulk")):
        raise SystemExit("wrong: stored is not what was acknowledged")


def wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the service is ready."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    main()
