"""What stands before every answer costs: keys, limits, headers, stages, metrics, log, spans; in microseconds a request.

    python benchmarks/guards.py

The application behind the guards answers at once, so what is left is theirs. Best of several rounds, one thread.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from sensorium import stages
from sensorium.feedback.log import Log
from sensorium.serve.guards import Guards
from sensorium.serve.keys import Keys
from sensorium.serve.logs import listen
from sensorium.serve.metrics import Metrics, Route
from sensorium.serve.tenants import Tenants

STAGES = ("parse", "queue", "history", "candidates", "score", "rerank", "encode")
ROUNDS, REQUESTS = 20, 500


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, goes through all stages, and answers."""
    await receive()
    for stage in STAGES[:-1]:
        stages.mark(stage)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def of_stages() -> float:
    metrics, route = Metrics(), Route("a", "POST", "/v1/recommend")

    def one() -> None:
        marks, token = stages.listened()
        begin = time.perf_counter()
        for stage in STAGES:
            stages.mark(stage)
        stages.unheard(token)
        metrics.answered(route, 200, begin, time.perf_counter(), marks)

    return best(lambda: [one() for _ in range(REQUESTS)])


def best(work: Any) -> float:
    took = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        took.append((time.perf_counter() - begin) / REQUESTS * 1e6)
    return min(took)


def of_requests(app: Any, key: str) -> float:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_: Any) -> None:
        pass

    headers = [(b"host", b"127.0.0.1:8087"), (b"x-api-key", key.encode()), (b"content-length", b"2")]

    async def some() -> None:
        for _ in range(REQUESTS):
            scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "headers": headers, "state": {}}
            await app(scope, receive, send)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return best(lambda: runner.run(some()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Log(Path(folder) / "log.sqlite") as log:
        keys = Keys(log, "a-first-key-of-enough-letters")
        made = keys.made("shop", "read")
        services: Any = {"a": SimpleNamespace(keys=keys)}

        def guarded(**more: Any) -> Guards:
            roles = {("POST", "/v1/recommend"): "read"}
            return Guards(Tenants(services, {"a": nothing}), roles, body_bytes=1000, **more)

        print(f"stages and metrics          {of_stages():6.1f} µs")
        print(f"without guards              {of_requests(nothing, made):6.1f} µs")
        listen("warning", io.StringIO())
        print(f"guards, no line of the log  {of_requests(guarded(), made):6.1f} µs")
        print(
            f"guards, limits              {of_requests(guarded(per_second=1e9, tenant_per_second=1e9), made):6.1f} µs"
        )
        with open("/dev/null", "w") as sink:
            listen("info", sink)
            print(f"guards, a line a request    {of_requests(guarded(), made):6.1f} µs")


if __name__ == "__main__":
    main()
