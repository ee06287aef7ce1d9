"""Several runs behind one service. Each has its own store, keys, caches, threads and application; nothing is shared but
the process, the port, and the first keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.errors import RecipeError, SensoriumError
from sensorium.serve.keys import Caller, digest
from sensorium.serve.logs import tell
from sensorium.serve.metrics import Gauge, Metrics
from sensorium.serve.service import Service

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
AGAIN_SECONDS = 5.0
LOOK_SECONDS = 0.1  # between two looks for keys that are not known


def named(folders: Sequence[Path], within: Path | None = None) -> dict[str, Path]:
    """Runs by the name of their folder: those that are given, and those in a folder of runs.

    **Raises** RecipeError where there is none, or two share a name, or a name cannot stand in a header.
    """
    found = [*folders]
    if within is not None:
        if not within.is_dir():
            raise RecipeError(f"--tenants {within}: no such folder")
        found += sorted(place.parent for place in within.glob("*/current"))
    runs: dict[str, Path] = {}
    for folder in found:
        name = folder.resolve().name
        if not NAME.fullmatch(name):
            raise RecipeError(f"{folder}: name the run's folder with letters, digits, . _ - alone; it names the tenant")
        if name in runs:
            raise RecipeError(f"{folder}: a tenant {name!r} is given already; rename one of the folders")
        runs[name] = folder
    if not runs:
        raise RecipeError("nothing to serve: give a run (sensorium serve runs/movies), or a folder of runs (--tenants)")
    return runs


class Tenants:
    """The services of a process by name, and their applications."""

    def __init__(self, services: Mapping[str, Service], applications: Mapping[str, Any]) -> None:
        self.services, self.applications, self.metrics = dict(services), dict(applications), Metrics()
        self.only = next(iter(services)) if len(services) == 1 else ""
        for name, service in services.items():
            service.keys.open_run(name)
        self.pending = 0  # requests that are being answered, in all of them
        self._beginning: list[asyncio.Task[None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._next_look = 0.0

    @property
    def keyed(self) -> bool:
        """Whether there is any key; where there is, every run asks for one."""
        return any(service.keys.any for service in self.services.values())

    def caller(self, key: str) -> Caller | None:
        """Whose key this is, and of which run; None where it is nobody's."""
        mark = digest(key)
        found = (service.keys.of(mark) for service in self.services.values())
        return next((caller for caller in found if caller is not None), None)

    async def look_again(self) -> None:
        """Ask the stores for keys that another process made a moment ago; at most once in LOOK_SECONDS, whoever asks."""
        if self._looking is None or (self._looking.done() and time.monotonic() >= self._next_look):
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._looking = asyncio.create_task(self._looked())
        await asyncio.shield(self._looking)

    async def _looked(self) -> None:
        for service in self.services.values():
            with contextlib.suppress(SensoriumError):
                await asyncio.to_thread(service.keys.follow)

    def seen_by(self, caller: Caller, asked: str = "") -> dict[str, Service]:
        """The runs that somebody may look at, or the one of them that was asked for."""
        name = caller.tenant or asked
        return {name: self.services[name]} if name in self.services else self.services if caller.everywhere else {}

    # --- being well -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether all of them are caught up and can write."""
        return all(service.started and service.pulse.writable for service in self.services.values())

    def health(self, caller: Caller, asked: str = "") -> dict[str, Any]:
        """How they are; in detail where somebody is known."""
        told: dict[str, Any] = {"ready": self.ready}
        seen = self.seen_by(caller, asked)
        if not seen:
            return told
        told["tenants"] = {
            name: {
                "version": service.engine.version, "started": service.started, "writes": service.pulse.writable,
                "learning": service.learning, "waiting": service.waiting, "degraded": [*service.degraded],
            }
            for name, service in seen.items()
        }  # fmt: skip
        return told | ({"version": next(iter(seen.values())).engine.version} if len(seen) == 1 else {})

    def page(self, caller: Caller, asked: str = "") -> str:
        """The metrics of the runs that somebody may look at."""
        seen = self.seen_by(caller, asked)
        process = [Gauge("sensorium_requests_pending", "Requests that are being answered.", self.pending), *_memory()]
        gauges = {name: [*_gauges(service)] for name, service in seen.items()}
        return self.metrics.text(
            {n: s.committed for n, s in seen.items()}, gauges, process if caller.everywhere else ()
        )

    # --- beginning and ending -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Catch up with what each store has, in the background: until then nothing is ready, but answers are given."""
        self._beginning = [asyncio.create_task(self._begun(name)) for name in self.services]

    async def _begun(self, name: str) -> None:
        while True:
            try:
                await self.services[name].begin()
                tell("ready", tenant=name, version=self.services[name].engine.version)
                return
            except (SensoriumError, OSError) as error:  # a full disk, a store that is away
                tell("not begun yet", logging.ERROR, tenant=name, error=error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def end(self, seconds: float | None = None) -> bool:
        """What was taken is written, what was begun is finished; returns whether it was, within the seconds."""
        for task in self._beginning:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        ended = await asyncio.gather(*(service.end(seconds) for service in self.services.values()))
        return all(ended)

    async def lifespan(self, receive: Any, send: Any) -> None:
        """The same, for a server that begins and ends its application."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.begin()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.end()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _memory() -> Iterator[Gauge]:
    with contextlib.suppress(OSError):  # where there is no /proc
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield Gauge("sensorium_memory_bytes", "Resident memory of the process.", pages * os.sysconf("SC_PAGE_SIZE"))


def _gauges(service: Service) -> Iterator[Gauge]:
    live = service.engine.live
    yield Gauge("sensorium_queue_depth", "Answers that wait for a thread, or are in one.", service.waiting)
    yield Gauge("sensorium_commits_waiting", "Calls that wait for the disk.", service.commits.waiting)
    yield Gauge("sensorium_learning", "Whether what answers is being changed.", int(service.learning))
    yield Gauge("sensorium_store_writes", "Whether the store takes what is sent.", int(service.pulse.writable))
    yield Gauge("sensorium_items", "Items of the version that answers.", len(live.snapshot.catalog))
    yield Gauge("sensorium_items_degraded", "Items that an encoder was missing for.", len(service.lacking))
    yield Gauge("sensorium_version", "The version that answers.", 1, (("version", service.engine.version),))
    path = getattr(service.store, "path", None)
    if path is not None:
        files = [Path(f"{path}{end}") for end in ("", "-wal")]
        size = sum(file.stat().st_size for file in files if file.exists())
        yield Gauge("sensorium_store_bytes", "Of the store's files.", size)
