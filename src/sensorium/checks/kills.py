"""Does a store keep what it acknowledged when its writers are killed? For whoever adds one.

    python -m sensorium.checks.kills WHERE ROUND WRITERS [POINT AT]        a process that is meant to be killed

Many threads append through one group commit, and each says on its output what was acknowledged. The process is killed
(SIGKILL) at a named point or at a random moment; then the store is opened again, and what was said is looked for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sensorium.errors import SnapshotError
from sensorium.feedback.commit import Committer
from sensorium.feedback.open import opened
from sensorium.feedback.store import Entry, Store

POINTS = ("before commit", "after commit", "while acknowledging")  # and `anywhere`: from outside, at a random moment
COMMAND = (sys.executable, "-m", "sensorium.checks.kills")
Strike = Callable[["subprocess.Popen[str]"], None]
LIMIT_SECONDS = 60.0  # for a process that was told to die and does not


@dataclass
class Kept:
    """What was found after the kills. All but the first four and the seconds must be 0."""

    kills: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0  # entries stored of which nobody was told: allowed, as a promise was not made
    lost: int = 0
    moved: int = 0  # stored, at another position than was said
    doubled: int = 0
    halved: int = 0  # batches of which a part is stored
    repeated: int = 0  # stored again when they were sent again with their keys
    unkilled: int = 0  # processes that ended by themselves
    open_seconds: float = 0.0  # the slowest opening after a kill

    @property
    def wrong(self) -> dict[str, int]:
        """What must be 0 and is not."""
        names = ("lost", "moved", "doubled", "halved", "repeated", "unkilled")
        return {name: number for name, number in asdict(self).items() if name in names and number}


def killed(
    where: Path | str,
    *,
    kills: int,
    writers: int = 32,
    seed: int = 0,
    points: Sequence[str] = POINTS,
    command: Sequence[str] = COMMAND,
    strike: Strike = subprocess.Popen.kill,
) -> Kept:
    """Kills that many processes of `writers` threads each, one after the other, on one store.

    At each of the `points` in turn, and as often at random moments by `strike`, which may do worse than to kill.
    `command` starts a process that does what `write_until_killed` does.
    """
    chance = random.Random(seed)
    kept = Kept()
    with closing(opened(where)) as store:
        start = store.end
    for number, point in zip(range(kills), itertools.cycle((*points, *["anywhere"] * max(len(points), 1)))):
        words = [*command, str(where), str(number), str(writers)]
        if point in points:
            words += [point, str(chance.randrange(1, 60))]
        said = _killed_once(words, None if point in points else strike, chance, kept)
        began = time.perf_counter()
        with closing(opened(where)) as store:
            kept.open_seconds = max(kept.open_seconds, round(time.perf_counter() - began, 3))
            kept.kills[point] = kept.kills.get(point, 0) + 1
            start = _looked(store, start, said, kept)
    return kept


def _killed_once(words: list[str], strike: Strike | None, chance: random.Random, kept: Kept) -> dict[str, int]:
    """What one process said before it was killed, by `strike` or by itself: positions by item."""
    said: dict[str, int] = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        timers = [threading.Timer(LIMIT_SECONDS, process.kill)]
        timers[0].start()
        for line in process.stdout:
            if strike is not None and len(timers) == 1:
                timers.append(threading.Timer(chance.random() * 0.3, strike, [process]))
                timers[1].start()
            if line.endswith("\n"):
                kept.batches += 1
                pairs = (word.split("=") for word in line.split())
                said.update((item, int(position)) for item, position in pairs)
        kept.unkilled += process.wait() != -signal.SIGKILL or timers[0].finished.is_set()
        for timer in timers:
            timer.cancel()
            timer.join()
    return said


def _looked(store: Store, start: int, said: dict[str, int], kept: Kept) -> int:
    """Compares what is stored after a position with what was said; returns the new end."""
    entries = store.read(start)
    there = {entry.item: entry.position for entry in entries}
    kept.acknowledged += len(said)
    kept.unacknowledged += len(there.keys() - said.keys())
    kept.lost += len(said.keys() - there.keys())
    kept.moved += sum(there.get(item, position) != position for item, position in said.items())
    kept.doubled += len(entries) - len(there)
    sizes = Counter(item.rsplit(".", 2)[0] for item in there)
    whole = {item.rsplit(".", 2)[0]: int(item.rsplit(".", 1)[1]) for item in there}
    kept.halved += sum(sizes[batch] != size for batch, size in whole.items())
    keyed = [entry for entry in entries if entry.key is not None]
    before = len(store)
    again = store.append(keyed)
    kept.moved += again != [entry.position for entry in keyed]
    kept.repeated += len(store) - before
    return store.end


# --- the process that is killed -----------------------------------------------------------------------------------


def _die(store: Any, point: str, at: int) -> threading.Event:
    """Makes the process kill itself when it is at a point for the at-th time; the event says: at the next acknowledgement."""
    visits, acknowledging = itertools.count(1), threading.Event()

    def reached(here: str) -> None:
        if here == point and next(visits) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    writing = store._writing

    @contextlib.contextmanager
    def dying(*words: Any) -> Iterator[Any]:
        with writing(*words) as turn:
            yield turn
            reached("before commit")
        reached("after commit")
        if point == "while acknowledging" and next(visits) == at:
            acknowledging.set()

    store._writing = dying
    return acknowledging


def write_until_killed(store: Store, number: str, writers: str, point: str = "", at: str = "0") -> None:
    """Appends from many threads and says on the output what was acknowledged; a writer that is refused says no more."""
    acknowledging = _die(store, point, int(at)) if point else threading.Event()
    committer = Committer(store)

    def run(writer: int) -> None:
        for n in itertools.count():
            size = (writer + n) % 3 + 1
            names = [f"{number}.{writer}.{n}.{m}.{size}" for m in range(size)]
            entries = [Entry(f"w{writer}", name, "view", 1.0, key=name if writer % 2 else None) for name in names]
            try:
                positions = committer.append(entries)
            except SnapshotError:
                return time.sleep(2 * LIMIT_SECONDS)
            line = " ".join(f"{name}={position}" for name, position in zip(names, positions, strict=True))
            os.write(1, (line + "\n").encode())  # one write: a kill does not cut a line
            if acknowledging.is_set():
                os.kill(os.getpid(), signal.SIGKILL)

    threads = [threading.Thread(target=run, args=[writer]) for writer in range(int(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    write_until_killed(opened(sys.argv[1]), *sys.argv[2:])
