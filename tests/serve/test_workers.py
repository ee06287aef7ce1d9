"""Two processes, one run: what is told to the one is known to the other in its next answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from sensorium.engine import Engine
from sensorium.errors import RecipeError
from sensorium.serve.workers import supervised

KEY = "an-admin-key-of-enough-letters"


@pytest.fixture
def run(tmp_path: Path, world: Path) -> Path:
    import shutil

    shutil.copytree(world / "run", tmp_path / "run")
    return tmp_path / "run"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def served(
    run: Path, cache: Path, *words: str, log: Path = Path(os.devnull)
) -> Iterator[tuple[httpx.Client, subprocess.Popen]]:
    """A service as the command line starts it, once it is ready."""
    port = free_port()
    environment = {**os.environ, "SENSORIUM_API_KEY": KEY, "SENSORIUM_CACHE": str(cache)}
    command = [sys.executable, "-m", "sensorium", "serve", str(run), "--port", str(port), *words]
    with (
        log.open("w") as err,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=err) as process,
    ):
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}, timeout=30) as client:
                until = time.monotonic() + 60
                while True:
                    try:
                        if client.get("/health/ready").status_code == 200:
                            break
                    except httpx.TransportError:
                        assert time.monotonic() < until
                        assert process.poll() is None
                        time.sleep(0.1)
                yield client, process
        finally:
            process.terminate()
            assert process.wait(60) in (0, -signal.SIGTERM, -signal.SIGKILL)


def best(client: httpx.Client, **ask: object) -> list[str]:
    return [one["item"] for one in client.post("/v1/recommend", json=ask).raise_for_status().json()["items"]]


def test_what_one_process_is_told_the_other_knows_in_its_next_answer(run: Path, world: Path) -> None:
    with ExitStack() as stack:
        one, other = (stack.enter_context(served(run, world / "cache"))[0] for _ in range(2))
        for n in range(10):
            before = best(other, user=f"fresh{n}", k=5)
            event = {"user": f"fresh{n}", "item": before[0], "kind": "buy", "key": f"k{n}"}
            said = one.post("/v1/events", json={"events": [event]}).json()
            assert said == other.post("/v1/events", json={"events": [event]}).json()  # the same key, the same position
            assert before[0] not in best(other, user=f"fresh{n}", k=5)
        shown = best(other, user="nobody", k=5)
        one.post("/v1/items", json={"items": [{"item_id": shown[0], "hidden": True}]}).raise_for_status()
        assert shown[0] not in best(other, user="nobody", k=5)
        one.post("/v1/items", json={"items": [{"item_id": "new", "title": "a slow train"}]}).raise_for_status()
        until = time.monotonic() + 30
        while not all("new" in best(client, user="nobody", k=100) for client in (one, other)):
            assert time.monotonic() < until
        engine = Engine.open(run, cache=world / "cache")
        engine.refresh()
        version = engine.version
        engine.close()
        for client in (one, other):
            assert client.post("/v1/recommend", json={"user": "nobody"}).json()["version"] == version


def children(process: subprocess.Popen) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_share_a_port_and_one_that_dies_is_told_and_started_again(
    run: Path, world: Path, tmp_path: Path
) -> None:
    with served(run, world / "cache", "--workers", "2", log=tmp_path / "log") as (client, process):
        url, headers = str(client.base_url), {"X-API-Key": KEY}
        first = children(process)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        stored, until = 0, time.monotonic() + 60
        while stored < 20 or len(set(children(process)) - set(first)) < 1:
            assert time.monotonic() < until
            event = {"user": "ann", "item": "i", "key": f"k{stored}"}
            try:  # each on a connection of its own, so that it may come to either
                answer = httpx.post(f"{url}/v1/events", json={"events": [event]}, headers=headers, timeout=30)
            except httpx.TransportError:  # it had come to the one that died; it may be sent again
                continue
            stored += answer.status_code == 200
            assert answer.json()["positions"] == [stored]
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        ended = [line for line in lines if line["event"] == "a worker ended"]
        assert [(line["pid"], line["signal"], line["level"]) for line in ended] == [(first[0], "SIGKILL", "warning")]
        last = children(process)
        process.kill()  # whoever started them is gone: they go, too
        process.wait()
        until = time.monotonic() + 30
        while any(map(runs, last)):
            assert time.monotonic() < until
            time.sleep(0.1)


def test_workers_that_cannot_start_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="ended with 2"):
        supervised(["serve", str(tmp_path / "no run")], 2)
