"""API keys: who may do what, where and until when. A key is shown once; the store holds its digest alone.

A key has a role (each may do what those before it may), and may be confined to some groups of routes and to a time. It
opens the one run in whose store it stands; only the first keys, which come from outside, open every run of a service.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensorium.errors import RecipeError, UnknownId
from sensorium.feedback.store import Store

ROLES = ("read", "write", "admin")  # each may do what those before it may
KIND = "keys"  # of the documents in the store
SHORTEST = 16  # characters of a first key
MOST_KEYS = 10_000

# What a key can be confined to, by the word of a path after its API's name; what is not listed is a group of its own.
GROUPS = ("recommend", "events", "items", "users", "experiments", "models", "keys", "metrics", "docs", "admin")
_WORDS = {
    "v1": {
        "search": "recommend", "explain": "recommend", "rules": "recommend", "bandits": "experiments",
        "policies": "experiments",
    },
    "api": {
        "item": "items", "items": "items", "user": "users", "users": "users", "feedback": "events",
        "recommend": "recommend", "session": "recommend", "latest": "recommend", "popular": "recommend",
    },
}  # fmt: skip


def group_of(path: str) -> str:
    """The group of routes that a path belongs to.

    >>> [group_of(path) for path in ("/v1/items/7", "/v1/search", "/metrics", "/api/user/7/feedback", "/openapi.json")]
    ['items', 'recommend', 'metrics', 'events', 'docs']
    """
    parts = path.split("/")
    if len(parts) < 3 or parts[1] not in _WORDS:
        return "metrics" if path == "/metrics" else "docs" if parts[1] in ("docs", "openapi.json", "redoc") else "admin"
    if parts[1] == "api" and len(parts) > 4:  # of one item or person
        if parts[4] == "feedback":
            return "events"
        if parts[4] == "neighbors":
            return "recommend"
    if parts[-1] == "similar" and len(parts) == 5:
        return "recommend"
    word = _WORDS[parts[1]].get(parts[2], parts[2])
    return word if word in GROUPS else "admin"


class Conflict(RecipeError):
    """A key that cannot be made as things stand: its name is taken, its time is over."""


@dataclass(frozen=True)
class Caller:
    """Who a request comes from. `groups` empty: all; `until` in seconds since 1970, None for ever."""

    name: str
    role: str
    groups: tuple[str, ...] = ()
    until: float | None = None
    everywhere: bool = False  # in every run of the service
    tenant: str = ""  # the run whose key it is

    def may(self, role: str) -> bool:
        """Whether this role includes another."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def opens(self, group: str) -> bool:
        """Whether it is let into a group of routes."""
        return not self.groups or group in self.groups

    def gives(self, role: str, groups: Sequence[str], until: float | None) -> bool:
        """Whether it may make such a key: none that could do more than itself."""
        longer = self.until is not None and (until is None or until > self.until)
        wider = self.groups and not (groups and set(groups) <= set(self.groups))
        return not longer and not wider and self.may(role)


NOBODY = Caller("", "read")
LOCAL = Caller("loopback", "admin", everywhere=True)  # whoever reaches a service that has no key: bound to loopback


@dataclass
class Keys:
    """The keys of one run: those of its store, and first ones from outside (`SENSORIUM_API_KEY`, the key file).

    `first`: a key a line (blanks tell them apart, too), so that a new one can be added before the old one goes.
    """

    store: Store
    first: str = ""
    clock: Callable[[], float] = time.time
    tenant: str = ""  # the run that the keys open
    _known: dict[str, tuple[Caller, float | None]] = field(default_factory=dict)  # by digest; until when it is good
    _changed: int = 0
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if any(len(one) < SHORTEST for one in self.first.split()):
            raise RecipeError(
                f"the first API key has fewer than {SHORTEST} characters; make one with: openssl rand -hex 24"
            )
        self._first = [digest(one) for one in self.first.split()]
        self.follow()

    @property
    def any(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._first) or bool(self._known)

    def caller(self, key: str) -> Caller | None:
        """Whose key this is; None where it is nobody's, or good no longer."""
        return self.of(digest(key))

    def of(self, mark: str) -> Caller | None:
        """The same by its digest. Each comparison takes as long for a wrong key as for a right one; what a lookup could
        tell of digests tells nothing of keys."""
        mine = [hmac.compare_digest(one, mark) for one in self._first]
        if any(mine):
            return Caller("first", "admin", everywhere=True)
        found = self._known.get(mark)
        if found is None or (found[1] is not None and self.clock() >= found[1]):
            return None
        return found[0]

    def made(self, name: str, role: str, groups: Sequence[str] = (), until: float | None = None) -> str:
        """A new key, as it must be sent.

        **Raises** RecipeError for a role or a group that there is not, Conflict for a name that is taken or a time that
        is over.
        """
        if role not in ROLES:
            raise RecipeError(f"role {role!r}: there are {', '.join(ROLES)}")
        for group in groups:
            if group not in GROUPS:
                raise RecipeError(f"group {group!r}: there are {', '.join(GROUPS)}")
        if until is not None and until <= self.clock():
            raise Conflict("the key's time would be over at once; `until` is in seconds since 1970")
        if not name or name == "first" or self.store.get(KIND, name) is not None:
            raise Conflict(f"a key named {name!r} is there already; choose another name")
        key = secrets.token_urlsafe(32)
        body = {"digest": digest(key), "role": role, "groups": [*groups], "until": until, "made": self.clock()}
        self.store.put(KIND, {name: body})
        self.follow()
        return key

    def rotated(self, name: str, grace_seconds: float = 0.0) -> str:
        """A new key of the same name and rights; the old one is good for as long as said. **Raises** UnknownId."""
        body = self.store.get(KIND, name)
        if body is None:
            raise UnknownId(f"no key named {name!r}")
        key, now = secrets.token_urlsafe(32), self.clock()
        old = {"before": body["digest"], "before_until": now + grace_seconds}
        self.store.put(KIND, {name: {**body, **old, "digest": digest(key), "made": now}})
        self.follow()
        return key

    def dropped(self, name: str) -> bool:
        """Whether there was such a key; it opens nothing from now on."""
        gone = self.store.delete(KIND, name)
        self.follow()
        return gone

    def listed(self) -> list[dict[str, Any]]:
        """Names, rights and times; never a key or its digest."""
        return [
            {"name": d.id, "role": d.body["role"], "groups": d.body.get("groups") or [], "until": d.body.get("until"),
             "made": d.body["made"]}
            for d in self.store.page(KIND, most=MOST_KEYS)
            if d.body
        ]  # fmt: skip

    def open_run(self, tenant: str) -> None:
        """Say which run the keys open."""
        self.tenant, self._changed = tenant, 0
        self.follow()

    def follow(self) -> None:
        """Read the keys anew, where this process or another changed one. **Cost** one question to the store."""
        with self._lock:  # who has followed knows what was there before
            changes = self.store.changed(KIND, self._changed)
            if not changes:
                return
            known: dict[str, tuple[Caller, float | None]] = {}
            for one in self.store.page(KIND, most=MOST_KEYS):
                known |= _opened(one.id, one.body or {}, self.tenant)
            self._known = known  # in one move: requests are let in meanwhile
            self._changed = changes[-1].changed


def _opened(name: str, body: Mapping[str, Any], tenant: str) -> dict[str, tuple[Caller, float | None]]:
    """What a key's document lets in: its digest, and the one before while that is good."""
    until = body.get("until")
    caller = Caller(name, body["role"], tuple(body.get("groups") or ()), until, tenant=tenant)
    opened: dict[str, tuple[Caller, float | None]] = {body["digest"]: (caller, until)}
    if body.get("before"):
        ends = body["before_until"] if until is None else min(until, body["before_until"])
        opened[body["before"]] = (caller, ends)
    return opened


def digest(key: str) -> str:
    """What is kept of a key: it is long and drawn at random, so that a fast digest gives nothing away."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
