"""How one version of a run follows another: learnt beside it, judged, adopted; or one before it answers again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sensorium import runs
from sensorium import snapshot as snapshots
from sensorium.encode.run import Problem
from sensorium.errors import SnapshotError, UnknownId
from sensorium.evaluate.gate import Bounds, Verdict, judged
from sensorium.feedback.store import Entry
from sensorium.held import Held
from sensorium.live import Live, celled
from sensorium.refresh import carried, refreshed, unlogged, updated
from sensorium.runs import Version
from sensorium.snapshot import Snapshot


def anew(held: Held) -> tuple[Snapshot, list[Entry]]:
    """What a full refresh starts from: the tables, and the whole log as it stands now."""
    if held.log is None:  # in memory, what was learnt is not kept beside
        return held.snapshot, held.entries()
    return unlogged(held.snapshot), held.log.read(held.snapshot.base)


def learnt(
    held: Held, now: Snapshot, fresh: Sequence[Entry], cache: Path, *, full: bool = False
) -> tuple[Snapshot, list[Problem]]:
    """The version after `now`, which has learnt from `fresh` events: all of it anew, or the models going on."""
    if not full:
        return updated(now, fresh), []
    end = fresh[-1].position if fresh else now.position
    whole = [] if held.log is None else [e for e in held.log.read(now.base) if e.position <= end]
    after, problems = refreshed(unlogged(now), whole, cache)
    return replace(after, position=max(after.position, end)), problems


def weighed(
    held: Held,
    after: Snapshot,
    place: Path,
    asked: Sequence[Entry],
    *,
    full: bool = False,
    bounds: Bounds | None = None,
) -> tuple[Verdict, Version]:
    """The snapshot written as a candidate at `place`, and whether it may answer."""
    shutil.rmtree(place, ignore_errors=True)
    snapshots.write(celled(Live(after)), place)
    verdict = judge(held, place, asked, bounds=bounds)
    version = Version(
        "", time.time(), "refresh" if full else "update", "kept" if verdict.passed else "refused", after.position,
        held.live.name, verdict.reasons, verdict.figures,
    )  # fmt: skip
    return verdict, version


def judge(held: Held, place: Path, asked: Sequence[Entry] = (), *, bounds: Bounds | None = None) -> Verdict:
    """Whether the snapshot at `place` may answer in place of the present version; `asked` are the newest events."""
    present = held.live
    try:
        candidate = Live(snapshots.read(place))
    except SnapshotError as error:
        return Verdict(False, (str(error),), {})
    size = {name: snapshots.size(folder) for name, folder in (("candidate", place), ("present", held.place))}
    return judged(
        present, candidate, asked, lambda user, after: held.entries(after, user), sizes=size,
        end=held.log.end if held.log is not None else present.position + len(held.unsaved),
        bounds=bounds or Bounds(),
    )  # fmt: skip


def adopt(held: Held, place: Path, version: Version) -> str:
    """The candidate at `place` answers from now on; returns its name. **Raises** SnapshotError."""
    folder = held.home
    candidate = snapshots.read(place)
    live = held.live
    ready = Live(carried(candidate, live.snapshot, kin=True), version.of).warmed()
    held.crowd(ready)  # reads the log here, not in somebody's answer
    with held.writing, runs.locked(folder):
        if runs.current(folder).name != version.of or held.live.name != version.of:
            raise SnapshotError(f"{place}: made from version {version.of}, which no longer answers; learn again")
        if held.live is not live:  # an item was added while this one was made ready
            ready = held.made_ready(ready, carried(candidate, held.live.snapshot, kin=True))
        name = runs.promote(place, folder, version)
        held.live = ready.named(name)
    return name


def rollback(held: Held, to: str | None = None) -> str:
    """The version before answers again, or the one named; returns the name under which it does. **Raises** UnknownId."""
    folder = held.home
    with held.training(), held.turn():
        here, told = held.live.name, runs.history(folder)
        name = to or _before(here, runs.kept(folder), told)
        if name is None or name not in runs.kept(folder):
            there = ", ".join(kept for kept in runs.kept(folder) if kept != here) or "none"
            raise UnknownId(f"no version {to or 'before this one'} to go back to; there are: {there}")
        after = carried(held.upon(snapshots.read(folder / "snapshots" / name)), held.snapshot)
        runs.withdraw(folder, here, {"since": time.time(), "why": f"rollback from {here} to {name}"})
        held.swap(after, why="rollback", of=name)
        return held.live.name


def follow(held: Held) -> bool:
    """Takes up the version that another process made current; returns whether there was one."""
    folder = held.home
    if runs.current(folder).name == held.live.name:
        return False
    with held.turn():
        return True


def _before(name: str, kept: Sequence[str], told: runs.History) -> str | None:
    """The newest kept version before one that nobody went back from, and that this one does not restore."""
    here = told.of(name)
    left = [line.name for line in told.versions if line.state == "withdrawn"]
    back = here.of if here is not None and here.why == "rollback" else ""
    return next((k for k in reversed(kept) if k < name and k not in left and (not back or k < back)), None)
