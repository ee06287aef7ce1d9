"""Whether a store can write. Doubted after a failed call, then tried with a small document until it can."""

from __future__ import annotations

import asyncio
import logging
import time

from sensorium.errors import SensoriumError
from sensorium.feedback.store import Store
from sensorium.serve.logs import tell

KIND = "health"  # of the document that is written
AGAIN_SECONDS = 1.0
ROOM_BYTES = 64 << 10


class Pulse:
    """Writes are in doubt from the first that failed until one went well; reads are not asked."""

    def __init__(self, store: Store, *, again_seconds: float = AGAIN_SECONDS) -> None:
        self.writable = True
        self._store, self._again = store, again_seconds
        self._doubted = asyncio.Event()

    def doubt(self) -> None:
        """Something failed in the store; called in the event loop."""
        if self.writable:
            tell("the store does not write", logging.WARNING, store=self._store.place)
        self.writable = False
        self._doubted.set()

    async def kept(self) -> None:
        """Try, whenever there is doubt; runs until it is cancelled."""
        while True:
            await self._doubted.wait()
            try:
                await asyncio.to_thread(self._try)
            except SensoriumError:
                await asyncio.sleep(self._again)
                continue
            self._doubted.clear()
            self.writable = True
            tell("the store writes again", logging.WARNING)

    def _try(self) -> None:
        """Room for some events is wanted, not for a word that fits into a page that is there; it is given back to them."""
        for filling in ("x" * ROOM_BYTES, ""):
            self._store.put(KIND, {"write": {"at": time.time(), "filling": filling}})
