"""Does any damage to a file of a run crash it, or make it answer wrongly without a word?

    python benchmarks/mutated_files.py [--count 550] [--seed 0]

A run has everything on disk that it opens: snapshots, `current`, the history, the log with its write-ahead file, shards of
the cache, a copy of the log put in its place, and a backup that is restored first. One file is damaged in one way, then a
process opens the run, answers people, searches, adds an item, reads its history, and notes an event. *Refused*: one line says what is damaged. *Same*:
every answer is that of the sound run, for the damage was passed over or mended (a vector is encoded again, a history is
told anew). *Wrong*: an answer differs and nothing was said, or something is left of a backup that was refused. The process holds an audit hook against everything that is
unpickled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "mutated_files.json"
DAMAGES = ("bit", "bit", "byte", "zeros", "cut", "empty", "garbage", "swapped", "doubled", "missing")
KINDS = (
    "arrays.safetensors", "manifest.json", "catalog.jsonl", "people.jsonl", "current", "versions.json", "log.sqlite",
    "log.sqlite-wal", "log.sqlite.mark", "shard", "copy", "backup",
)  # fmt: skip


def damaged(raw: bytes, damage: str, rng: np.random.Generator) -> bytes | None:
    """The bytes after one damage; None where the file is gone."""
    if damage == "missing":
        return None
    if damage == "empty" or not raw:
        return b""
    out = bytearray(raw)
    at = int(rng.integers(len(out)))
    if damage == "bit":
        out[at] ^= 1 << int(rng.integers(8))
    elif damage == "byte":
        out[at] = (out[at] + int(rng.integers(1, 256))) % 256
    elif damage == "zeros":
        out[at : at + 512] = bytes(len(out[at : at + 512]))
    elif damage == "cut":
        del out[at:]
    elif damage == "garbage":
        out = bytearray(rng.bytes(min(len(out), 4096)))
    elif damage == "swapped":
        other = int(rng.integers(len(out)))
        one, two = bytes(out[at : at + 64]), bytes(out[other : other + 64])
        out[at : at + len(two)] = two
        out[other : other + len(one)] = one
    elif damage == "doubled":
        out[at:at] = out[at : at + 256]
    return bytes(out)


# --- the process that opens damaged runs --------------------------------------------------------------------------


def answers(run: Path, cache: Path) -> dict[str, Any]:
    """Everything that a run is asked here, in plain values."""
    from sensorium.data.catalog import Catalog
    from sensorium.data.content import Text
    from sensorium.data.ids import Ids
    from sensorium.engine import Engine

    engine = Engine.open(run, cache=cache)
    try:
        out: dict[str, Any] = {"version": engine.version, "found": [], "lists": []}
        for user in [*list(engine.snapshot.user_ids)[:12], "guest", "nobody"]:
            ranking = engine.recommend(user, 8, explain=user == "guest")
            out["lists"].append([user, *([one.item, one.title, one.score] for one in ranking.items)])
        assert engine.store is not None
        out["events"] = [vars(entry) for entry in engine.store.read(user="guest")]
        out["documents"] = [[one.id, one.body] for one in engine.store.page("items")]
        for words in ("a quiet sea at night", "slow train"):
            out["found"].append([[one.item, one.score] for one in engine.search(words, k=5)])
        content = {"text": [Text((("title", "A harbour in the evening sun"),))]}
        engine.take_in(Catalog(Ids(["new"]), content), hidden={}, documents=0)
        out["new"] = engine.snapshot.views["text"].values[-1].tolist()
        out["history"] = [one.name for one in engine.versions().versions if one.name in engine.kept()]
        out["position"] = engine.observe([{"user": "guest", "item": "new", "time": 1.0}])
        return out
    finally:
        engine.close()


def work() -> None:
    """Opens the runs whose folders it is told, line by line, and tells what they answer."""
    unpickled: list[str] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            unpickled.append(str(args))
        elif event.startswith("marshal.load") and "importlib" not in sys._getframe(1).f_code.co_filename:
            unpickled.append(event)

    sys.addaudithook(hook)
    from sensorium.backup import restore
    from sensorium.errors import SensoriumError

    for line in sys.stdin:
        run, cache, backup = map(Path, json.loads(line))
        try:
            if not run.exists():
                restore(backup, run)
            told: dict[str, Any] = {"answers": answers(run, cache)}
        except SensoriumError as error:
            told = {
                "refused": str(error),
                "left": sorted({one.name for one in run.parent.iterdir()} - {"cache", "backup"}),
            }
        except Exception as error:
            told = {"crashed": f"{type(error).__name__}: {error}"}
        print(json.dumps({**told, "unpickled": unpickled}), flush=True)
        unpickled.clear()


class Worker:
    """The process; started again where it died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, folder: Path) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder / name) for name in ("run", "cache", "backup")]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            return {"crashed": f"the process died with {self.process.wait()}", "unpickled": []}
        return json.loads(line)


# --- the run, and what is done to it ------------------------------------------------------------------------------


def made(folder: Path) -> None:
    """A run with two versions, events that are learnt and events that are not, documents, a copy of its log, and a backup."""
    from sensorium.backup import backup
    from sensorium.checks.worlds import write_demo
    from sensorium.engine import Engine

    write_demo(folder / "world", items=60, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "itemknn"\n'
    (folder / "world" / "near.toml").write_text(recipe)
    engine = Engine.train(folder / "world" / "near.toml", out=folder / "run", cache=folder / "cache")
    ids, people, last = engine.snapshot.catalog.ids, engine.snapshot.user_ids, float(engine.snapshot.events.time[-1])

    def deeds(count: int, shift: int) -> list[dict[str, Any]]:
        who = [*people, *["guest"] * 10]
        kinds = ("view", "buy", "rating")
        return [
            {"user": who[n % len(who)], "item": ids[(7 * n + shift) % 60], "kind": kinds[n % 3], "time": last - n,
             "value": float(n % 5 + 1) if n % 3 == 2 else None, "text": "well made" if n % 11 == 0 else None, "key": f"{shift}-{n}"}
            for n in range(count)
        ]  # fmt: skip

    engine.observe(deeds(150, 0))
    engine.refresh()
    engine.observe(deeds(150, 1))
    assert engine.store is not None
    engine.store.put("items", {f"d{n}": {"item_id": f"d{n}", "title": f"Document {n}"} for n in range(20)})
    engine.store.backup(folder / "copy")
    backup(folder / "run", engine.store, folder / "backup")
    engine.close()
    # The write-ahead file of a process that was killed: a copy taken while the log was open.
    engine = Engine.open(folder / "run", cache=folder / "cache")
    for turn in range(2, 14):
        engine.observe(deeds(5, turn))
    shutil.copytree(folder / "run", folder / "open")
    engine.close()


def target(kind: str, folder: Path, rng: np.random.Generator) -> Path:
    if kind == "shard":
        shards = sorted((folder / "cache").glob("*.shard"))
        return shards[int(rng.integers(len(shards)))]
    if kind == "backup":
        return folder / "backup"
    run = folder / "run"
    if kind in ("current", "versions.json", "log.sqlite", "log.sqlite-wal", "log.sqlite.mark"):
        return run / kind
    return run / "log.sqlite" if kind == "copy" else run / "snapshots" / "000002" / kind


def prepared(source: Path, folder: Path, kind: str) -> None:
    """A run of its own for one damage; of a copy it is one whose log is that, of a backup what it is restored from."""
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "backup":
        folder.mkdir()
        shutil.copy2(source / "backup", folder / "backup")
    else:
        shutil.copytree(source / ("open" if kind == "log.sqlite-wal" else "run"), folder / "run")
    shutil.copytree(source / "cache", folder / "cache", copy_function=os.link if kind != "shard" else shutil.copy2)
    if kind == "copy":
        shutil.copy2(source / "copy", folder / "run" / "log.sqlite")
        (folder / "run" / "log.sqlite.mark").unlink()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--count", type=int, default=550)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--work", action="store_true")
    asked = words.parse_args()
    if asked.work:
        work()
        return
    rng = np.random.default_rng(asked.seed)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    bad: list[dict[str, str]] = []
    unpickled = 0
    began = time.time()
    with tempfile.TemporaryDirectory() as name:
        source, folder = Path(name) / "source", Path(name) / "here"
        made(source)
        worker, right = Worker(), {}
        for kind in KINDS:
            prepared(source, folder, kind)
            told = worker.ask(folder)
            right[kind] = told["answers"]
            unpickled += len(told["unpickled"])
        for number in range(asked.count):
            kind, damage = KINDS[number % len(KINDS)], DAMAGES[int(rng.integers(len(DAMAGES)))]
            if kind == "copy" and damage == "missing":  # a log that was moved away, mark and all, is to begin anew
                damage = "cut"
            prepared(source, folder, kind)
            path = target(kind, folder, rng)
            whole = path.read_bytes()
            while (raw := damaged(whole, damage, rng)) == whole:  # zeros upon zeros are no damage
                pass
            path.unlink()
            if raw is not None:
                path.write_bytes(raw)
            told = worker.ask(folder)
            unpickled += len(told["unpickled"])
            outcome = next(key for key in ("refused", "crashed", "answers") if key in told)
            if outcome == "answers":
                differs = [part for part in right[kind] if told["answers"][part] != right[kind][part]]
                outcome = "wrong" if differs else "same"
                told["wrong"] = ", ".join(differs)
            if outcome == "refused" and kind == "backup" and told["left"]:
                outcome, told["wrong"] = "wrong", f"left after {told['refused'][:80]}: {told['left']}"
            if outcome == "refused" and "\n" in told["refused"]:
                outcome, told["crashed"] = "crashed", told["refused"]
            outcomes[kind][outcome] += 1
            if outcome in ("wrong", "crashed"):
                bad.append({"kind": kind, "damage": damage, "outcome": outcome, "what": told[outcome][:200]})
        if worker.process is not None:
            worker.process.kill()
    total = sum(outcomes.values(), Counter())
    result = {
        "question": "damages of files of a run: crashes, wrong answers without a word, anything unpickled",
        "count": asked.count, "seed": asked.seed, **{name: total[name] for name in ("refused", "same", "wrong", "crashed")},
        "unpickled": unpickled, "by_kind": outcomes, "bad": bad, "seconds": round(time.time() - began, 1),
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
