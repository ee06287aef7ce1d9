"""Who gets which arm: a keyed hash, so that it is the same at every visit, on every machine, with nothing stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping


def mark(unit: str, salt: str) -> int:
    """64 bits that stand for a person within one experiment; without the salt they tell nothing."""
    return int.from_bytes(hashlib.blake2b(unit.encode(), key=salt.encode()[:64], digest_size=8).digest())


def chance(unit: str, salt: str) -> float:
    """A number strictly between 0 and 1, uniform over units and independent from salt to salt."""
    return ((mark(unit, salt) >> 11) + 0.5) * 2.0**-53


def assigned(unit: str, shares: Mapping[str, float], salt: str, traffic: float = 1.0) -> str | None:
    """The arm of a unit, None where it takes no part. Shares need not sum to 1.

    Every arm draws −ln(u) ÷ share, and the least wins: an arm wins exactly in proportion to its share, and where shares
    change, nobody moves but to an arm that has grown against theirs. Larger `traffic` only adds people.

    **Source** weighted rendezvous hashing: Thaler & Ravishankar 1998; Schindelhauer & Schomaker 2005.

    >>> assigned("ann", {"a": 0.0, "b": 1.0}, "salt"), assigned("ann", {"a": 1.0}, "salt", traffic=0.0)
    ('b', None)
    """
    if traffic < 1 and chance(unit, salt + "/traffic") >= traffic:
        return None
    best, least = None, math.inf
    for name, share in shares.items():
        if share > 0:
            drawn = -math.log(chance(f"{name}\0{unit}", salt)) / share
            if drawn < least:
                best, least = name, drawn
    return best
