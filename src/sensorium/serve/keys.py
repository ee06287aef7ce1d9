"""API keys: who may do what. A key is shown once; the store holds its digest alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sensorium.errors import RecipeError
from sensorium.feedback.store import Store

ROLES = ("read", "write", "admin")  # each may do what those before it may
KIND = "keys"  # of the documents in the store


@dataclass(frozen=True)
class Caller:
    """Who a request comes from."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether this role includes another."""
        return ROLES.index(self.role) >= ROLES.index(role)


NOBODY = Caller("", "read")
LOCAL = Caller("loopback", "admin")  # whoever reaches a service that has no key at all, which is bound to loopback


@dataclass
class Keys:
    """The keys of a service: those of its store, and a first one from outside (`SENSORIUM_API_KEY`, the key file)."""

    store: Store
    first: str = ""
    _known: dict[str, Caller] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.first and len(self.first) < 16:
            raise RecipeError("the first API key has fewer than 16 characters; make one with: openssl rand -hex 24")
        self._read()

    @property
    def any(self) -> bool:
        """Whether there is a key at all."""
        return bool(self.first) or bool(self._known)

    def caller(self, key: str) -> Caller | None:
        """Whose key this is; None where it is nobody's. Takes as long for a wrong key as for a right one."""
        if self.first and hmac.compare_digest(self.first.encode(), key.encode("utf-8", "surrogateescape")):
            return Caller("first", "admin")
        return self._known.get(_digest(key))

    def made(self, name: str, role: str) -> str:
        """A new key, as it must be sent. **Raises** RecipeError for a role that there is not, or a name that is taken."""
        if role not in ROLES:
            raise RecipeError(f"role {role!r}: there are {', '.join(ROLES)}")
        if not name or any(document.id == name for document in self.store.page(KIND, most=10_000)):
            raise RecipeError(f"a key named {name!r} is there already; choose another name")
        key = secrets.token_urlsafe(32)
        self.store.put(KIND, {name: {"digest": _digest(key), "role": role, "made": time.time()}})
        self._read()
        return key

    def dropped(self, name: str) -> bool:
        """Whether there was such a key; it opens nothing from now on."""
        gone = self.store.delete(KIND, name)
        self._read()
        return gone

    def listed(self) -> list[dict[str, Any]]:
        """Names, roles and when they were made; never a key or its digest."""
        return [
            {"name": d.id, "role": d.body["role"], "made": d.body["made"]}
            for d in self.store.page(KIND, most=10_000)
            if d.body
        ]

    def _read(self) -> None:
        bodies: list[tuple[str, Mapping[str, Any]]] = [
            (d.id, d.body) for d in self.store.page(KIND, most=10_000) if d.body
        ]
        self._known = {body["digest"]: Caller(name, body["role"]) for name, body in bodies}


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
