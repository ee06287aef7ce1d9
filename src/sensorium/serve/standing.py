"""Standing rules of the service: kept in the store, versioned, and applied to every answer besides the recipe's."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Query, Response

from sensorium.engine import Engine
from sensorium.errors import UnknownId
from sensorium.feedback.store import Store
from sensorium.rank.query import parse_rules
from sensorium.serve import schemas as wire

KIND = "rules"  # of the documents in the store: one a version
ROLES: Mapping[tuple[str, str], str] = {("GET", "/v1/rules"): "read", ("PUT", "/v1/rules"): "admin"}
NOTHING: Mapping[str, Any] = {"rules": [], "exclude": [], "boosts": {}, "caps": {}, "version": 0, "time": None}


class Standing:
    """The newest version, followed through the store's changes: another process may have made it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._now: Mapping[str, Any] = NOTHING
        self._seen = 0
        self._making = threading.Lock()

    def now(self) -> Mapping[str, Any]:
        """What holds. **Cost** one look at an index of the store."""
        while changes := self.store.changed(KIND, self._seen):
            newest = max((one for one in changes if one.body), key=lambda one: one.id, default=None)
            if newest is not None and newest.body is not None:
                self._now = max(self._now, newest.body, key=lambda body: body["version"])
            self._seen = changes[-1].changed
        return self._now

    def of(self, version: int) -> Mapping[str, Any]:
        """What held in a version. **Raises** UnknownId."""
        body = NOTHING if version == 0 else self.store.get(KIND, f"{version:012d}")
        if body is None:
            raise UnknownId(f"no version {version} of the rules; the newest is {self.now()['version']}")
        return body

    def made(self, body: Mapping[str, Any], *, now: float) -> Mapping[str, Any]:
        """A new version, in force once this returns."""
        with self._making:
            version = int(self.now()["version"]) + 1
            self.store.put(KIND, {f"{version:012d}": {**body, "version": version, "time": now}})
            return self.now()

    def joined(self, wishes: Mapping[str, Any]) -> dict[str, Any]:
        """A request's wishes under the standing rules, as they were when last looked at: rules and exclusions add up, the tighter cap holds, and of
        a rule that both boost the request's amount counts.
        """
        own = self._now
        if not own["version"]:
            return dict(wishes)
        caps = dict(wishes.get("caps") or {})
        caps = {name: min(most, caps.get(name, most)) for name, most in own["caps"].items()} | {
            name: most for name, most in caps.items() if name not in own["caps"]
        }
        return {
            **wishes, "rules": [*own["rules"], *(wishes.get("rules") or ())],
            "exclude": [*own["exclude"], *(wishes.get("exclude") or ())],
            "boosts": {**own["boosts"], **(wishes.get("boosts") or {})}, "caps": caps,
        }  # fmt: skip


def checked(body: Mapping[str, Any], engine: Engine) -> None:
    """**Raises** RecipeError for rules that the run that answers could not keep: every answer would fail."""
    engine.answer(engine.asked(k=1, **{**body, "rules": parse_rules(body["rules"])}))


def standing(service: Any) -> APIRouter:
    """The routes of the standing rules."""
    from sensorium.serve.native import WRONG, ready

    routes = APIRouter(responses=WRONG)

    @routes.get("/v1/rules", response_model=wire.StandingKept)
    async def rules(version: int | None = Query(None, ge=0, lt=2**40)) -> Response:
        """The standing rules that hold now, or held in a version."""
        kept: Standing = service.standing
        return ready(await service.threaded(lambda: kept.now() if version is None else kept.of(version)))

    @routes.put("/v1/rules", response_model=wire.StandingKept)
    async def put_rules(asked: wire.Standing) -> Response:
        """Other standing rules, in place of the present ones, for every answer from the next on."""
        body = asked.model_dump()

        def made() -> Mapping[str, Any]:
            checked(body, service.engine)
            return service.standing.made(body, now=time.time())

        return ready(await service.threaded(made))

    return routes
