"""How long does it take until a hidden item is in no answer, on a large run under load, whatever else goes on?

    python benchmarks/hiding.py [--items 100000] [--hides 100] [--rate 100] [--folder DIR]

The run is that of serve_load.py. A process of its own asks at a fixed rate; here the first item of somebody's list is hidden,
the list is asked for again, the item is shown again, and asked for once more: as soon as each is acknowledged, the next
answer must be right. After every fifth a new item is put, and it is waited until the version that answers has it. So in three
phases: with nothing else going on, whilst versions are swapped without a pause, and whilst somebody is forgotten, for which
all is learnt anew (that takes longer than the phase, after which it is cut off).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from benchmarks import serve_load
    from benchmarks.swaps import percentiles, served
except ImportError:  # run as a script
    import serve_load
    from swaps import percentiles, served

RESULT = Path(__file__).parent / "results" / "hiding.json"


def sent(port: int, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=1200) as answer:
        return json.load(answer)


def hidden_and_shown(port: int, people: list[str], times: int, known: Callable[[], Any]) -> dict[str, Any]:
    """Hides and shows items so many times, and adds some; `known` tells the ids that can be recommended."""
    took: list[float] = []
    added: list[float] = []
    wrong: list[str] = []
    while len(took) < 2 * times:
        user = people[len(took) % len(people)]

        def first(user: str = user) -> list[str]:
            return [one["item"] for one in serve_load.asked_once(port, {"user": user, "k": 10})["items"]]

        item = first()[0]
        for hidden in (True, False):
            began = time.perf_counter()
            sent(port, "POST", "/v1/items", {"items": [{"item_id": item, "hidden": hidden}]})
            took.append(time.perf_counter() - began)
            if (item in first()) is hidden:
                wrong.append(f"{user}: {item} is {'still shown' if hidden else 'not back'}")
        if len(took) % 10 == 0:
            new = {
                "item_id": f"new {time.time_ns()}",
                "title": "A new article",
                "category": "c1",
                "brand": "b2",
                "price": 7.0,
            }
            sent(port, "POST", "/v1/items", {"items": [new]})
            began = time.perf_counter()
            while new["item_id"] not in known():
                time.sleep(0.01)
            added.append(time.perf_counter() - began)
    return {
        "hidden_and_shown": len(took) // 2, "acknowledged": percentiles(took) | {"answers": len(took)}, "wrong": wrong,
        "new_items_in_the_version": percentiles(added),
    }  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--items", type=int, default=100_000)
    words.add_argument("--hides", type=int, default=100, help="of each phase")
    words.add_argument("--rate", type=float, default=100)
    words.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sensorium-serve-load")
    given = words.parse_args()
    from sensorium import runs
    from sensorium.serve.service import Service

    given.folder.mkdir(parents=True, exist_ok=True)
    run = serve_load.make(given.folder, given.items)
    asked = serve_load.questions(run, 1000)
    people = [one["user"] for one in asked]
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name) / "run"
        shutil.copytree(run, folder)
        file = Path(name) / "requests.json"
        file.write_text(json.dumps([serve_load.request(question) for question in asked]))
        service = Service(folder, cache=Path(name) / "cache")
        phases: dict[str, Any] = {}

        def swapping(stop: threading.Event) -> int:
            place, swaps = folder / "snapshots" / ".candidate.hiding", 0
            while not stop.is_set():
                shutil.copytree(runs.current(folder), place, copy_function=os.link)
                service.engine.adopt(place, runs.Version("", time.time(), "swap", of=service.engine.version))
                swaps += 1
            return swaps

        def forgetting(stop: threading.Event) -> str:
            with contextlib.suppress(OSError):  # it is cut off
                sent(port, "DELETE", f"/v1/users/{urllib.parse.quote(people[-1])}")
            return service.engine.version

        def nothing(stop: threading.Event) -> None:
            stop.wait()

        with served(service) as port:
            serve_load.driven(port, file, 0, 5)  # until all is compiled
            for phase, work in (("calm", nothing), ("swapping", swapping), ("learning anew", forgetting)):
                stop, ended = threading.Event(), []
                drive = [sys.executable, str(Path(serve_load.__file__)), "--drive", str(file), "--port", str(port)]
                load = subprocess.Popen(
                    [*drive, "--rate", str(given.rate), "--seconds", "20"], stdout=subprocess.PIPE, text=True
                )
                beside = threading.Thread(target=lambda w=work, s=stop, e=ended: e.append(w(s)))
                beside.start()
                began = time.perf_counter()
                phases[phase] = hidden_and_shown(port, people, given.hides, lambda: service.engine.snapshot.catalog.ids)
                stop.set()
                subprocess.run(["pkill", "-P", str(os.getpid()), "-f", "sensorium.serve.learning"], check=False)
                beside.join()
                phases[phase] |= {"beside": ended[0], "seconds": round(time.perf_counter() - began, 1)}
                phases[phase]["asked meanwhile"] = json.loads(load.communicate()[0])
                print(phase, json.dumps(phases[phase]), flush=True)
    told = {
        "question": "a hidden item is in no further answer: milliseconds until that is acknowledged",
        "items": given.items, "rate": given.rate, "phases": phases,
    }  # fmt: skip
    RESULT.write_text(json.dumps(told, indent=1) + "\n")
    if any(one["wrong"] or one["asked meanwhile"]["bad"] for one in phases.values()):
        sys.exit("hiding: it does not hold")


if __name__ == "__main__":
    main()
