"""Requests made from the OpenAPI description, good and bad, until there were enough: which answers are not as described?

`python benchmarks/fuzz_api.py --cases 5000 --out benchmarks/results/fuzz_api.json` trains a small run, serves it in this
process and lets schemathesis draw requests for every operation, with all of its checks. Erasing a person learns everything
anew, so erasures are of people nobody knows. Rounds go on until every operation had its even share; one without arguments
is asked the same again, upon whatever the others changed. Bar: at least 5,000 cases, all checks, no answer of 5xx.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sensorium.serve.app import Serving, application
from sensorium.serve.service import Service

KEY = "an-admin-key-of-enough-letters"
# Whoever fuzzes one server with one key must not take that key away, nor fill the disk with backups.
LEFT_OUT = ("/docs", "/redoc", "/openapi.json")
ROUND = 32  # examples of an operation before the next one's turn

# All checks as they are, and one told more: what is well-formed may still not be meant for this run (a rule of an attribute
# that no item has, two items pinned to one place), which is a described 400.
CHECKS = {
    "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "404", "409", "429"]},
}


def trained(folder: Path) -> Path:
    """A run of the demo world that goes by content, with words as its only text encoder: small and quick."""
    from sensorium.checks.worlds import write_demo
    from sensorium.engine import Engine

    write_demo(folder / "world", items=60, people=40)
    recipe = folder / "world" / "near.toml"
    recipe.write_text((folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "content"\n')
    Engine.train(recipe, out=folder / "run", cache=folder / "cache").close()
    return folder / "run"


class Server:
    """The application on a free port, in a thread."""

    def __init__(self, run: Path, cache: Path) -> None:
        import socket

        import uvicorn

        self.service = Service(run, cache=cache, first_key=KEY, media=run / "of-the-shop")
        self.socket = socket.create_server(("127.0.0.1", 0))
        port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        media = run / "of-the-shop"
        media.mkdir(exist_ok=True)
        app = application(self.service, Serving(port=port, media=media))
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))

    def __enter__(self) -> Server:
        self.thread.start()
        self.service.engine.search("a slow train", k=1)  # the encoder is loaded before requests are timed
        while not self.server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        self.socket.close()


def fuzzed(url: str, cases: int, seed: int, *, only: str = "") -> dict[str, Any]:
    """Figures of at least so many cases, spread evenly over the operations. **Cost** about 5 ms a case, plus drawing.

    **Raises** RuntimeError where an operation cannot be asked.
    """
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    @schemathesis.serializer("application/x-ndjson")
    def lines(context: Any, value: Any) -> dict[str, Any]:
        return {"data": value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")}

    config = schemathesis.Config.from_dict({"checks": CHECKS})
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers={"X-API-Key": KEY}, config=config)
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [one for one in operations if only in one.path and one.path not in LEFT_OUT]
    statuses: Counter[int] = Counter()
    failures: list[dict[str, Any]] = []
    by_operation: Counter[str] = Counter()
    before: Counter[str] = Counter()
    distinct: set[tuple[Any, ...]] = set()
    modes = list(schemathesis.GenerationMode)
    begin = time.monotonic()

    def tried(case: Any) -> None:
        label = case.operation.label
        by_operation[label] += 1
        try:
            response = case.call(base_url=url, headers={"X-API-Key": KEY}, timeout=60)
        except Exception as error:  # no answer at all
            failures.append({"operation": label, "status": 0, "why": f"{type(error).__name__}: {error}"[:1500]})
            return
        statuses[response.status_code] += 1
        asked = response.request
        distinct.add((asked.method, asked.url, asked.body if isinstance(asked.body, str | bytes) else None))
        if response.status_code == 400 and response.text == "Invalid HTTP request received.":
            before[label] += 1  # the server's parser: it is no HTTP, and never reaches the application
            return
        try:
            case.validate_response(response, headers={"X-API-Key": KEY})
        except (Exception, BaseExceptionGroup) as error:  # every failure is kept; one must not hide the others
            told = {
                "operation": label,
                "status": response.status_code,
                "why": "; ".join(str(one) for one in getattr(error, "exceptions", [error]))[:1500],
            }
            failures.append({**told, "body": response.text[:300]})

    def round_of(operation: Any, share: int, seed: int) -> None:
        for mode in modes:
            drawn = given(case=operation.as_strategy(generation_mode=mode))(tried)
            bounded = settings(
                max_examples=-(-share // len(modes)), deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(drawn)  # fmt: skip
            try:
                seeded(seed)(bounded)()
            except Exception as error:
                kind = type(error).__name__
                if kind not in ("Unsatisfiable", "SkipTest", "Unsatisfied"):
                    failures.append({"operation": operation.label, "status": 0, "why": f"{kind}: {error}"[:1500]})

    # Small rounds, so that what one operation changes is there when another one is asked.
    share, turn = -(-cases // max(len(operations), 1)), 0
    while lacking := [one for one in operations if by_operation[one.label] - before[one.label] < share]:
        asked = by_operation.total()
        for operation in lacking:
            rest = share - by_operation[operation.label] + before[operation.label]
            round_of(operation, min(rest, ROUND), seed + turn)
        turn += 1
        if by_operation.total() == asked:
            raise RuntimeError(f"no case can be drawn for {', '.join(one.label for one in lacking)}")
    return {
        "cases": statuses.total() - before.total(), "distinct": len(distinct), "operations": len(operations), "seed": seed,
        "seconds": round(time.monotonic() - begin, 1), "statuses": dict(sorted(statuses.items())),
        "of_5xx": sum(count for status, count in statuses.items() if status >= 500),
        "refused_by_the_http_parser": before.total(), "least_of_an_operation": min((by_operation[one.label] for one in operations), default=0),
        "by_operation": dict(sorted(by_operation.items())),
        "failures": len(failures), "first_failures": failures[:40],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="operations whose path holds this")
    parser.add_argument("--run", type=Path, help="a trained run, copied before it is served")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fuzz_api.json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        if asked.run:
            shutil.copytree(asked.run, run)
        else:
            trained(folder)
        with Server(run, asked.cache or folder / "cache") as server:
            figures = fuzzed(server.url, asked.cases, asked.seed, only=asked.only)
    asked.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({key: value for key, value in figures.items() if key != "first_failures"}))
    for failure in figures["first_failures"][:10]:
        print(failure)


if __name__ == "__main__":
    main()
